"""A folder of files with a manifest that makes damage visible: written whole or not at all, every byte checked before it is used.

``manifest.json`` holds a format name and version, the kind of thing inside, and size and sha256 of every other file. It must itself be
written exactly as we write it, so that no bit of the folder can change unseen. Reading runs no code.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from farm3d.core.errors import ForeignModelError, ModelError, OutputError

__all__ = ["MANIFEST", "SealedFolder", "manifest_bytes", "parse_json", "require_replaceable", "write_sealed"]

MANIFEST = "manifest.json"
_TEXT_LIMIT_BYTES = 4 << 20
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)?")  # a file, or a file in one folder below


def manifest_bytes(contents: Mapping[str, bytes], *, form: str, version: int, kind: str) -> bytes:
    """Return the manifest of ``contents`` (name to bytes), for a format name, its version and a kind of thing."""
    files = {name: {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)} for name, data in sorted(contents.items())}
    return _encoded(files, form=form, version=version, kind=kind)


def write_sealed(
    path: Path,
    contents: Mapping[str, bytes],
    *,
    form: str,
    version: int,
    kind: str,
    what: str = "model folder",
    replace_damaged: bool = False,
) -> None:
    """Write ``contents`` and their manifest to the folder ``path``, whole or not at all; an older one of its kind there is replaced.

    Args:
        path: the folder to create; its parent is created when missing.
        contents: name to bytes; a name may hold one folder, e.g. ``unet/config.json``.
        form, version, kind: what the manifest says the folder is.
        what: how messages call such a folder.
        replace_damaged: also replace what is no longer such a folder: for names that are ours alone.

    Raises:
        OutputError: ``path`` is something else (:func:`require_replaceable`), or cannot be written.
        ValueError: a name that could leave the folder.
    """
    if bad := [name for name in contents if not _NAME.fullmatch(name) or name == MANIFEST]:
        raise ValueError(f"not the name of a file in a {what}: {bad[0]!r}")
    whole = {**contents, MANIFEST: manifest_bytes(contents, form=form, version=version, kind=kind)}
    if not replace_damaged:
        require_replaceable(Path(path), form=form, kind=kind, what=what)
    with _whole_folder(Path(path)) as part:
        for folder in sorted({name.rpartition("/")[0] for name in whole} - {""}):
            (part / folder).mkdir()
        for name, data in whole.items():
            with (part / name).open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        for folder in sorted({name.rpartition("/")[0] for name in whole} - {""}):
            _sync(part / folder)


class SealedFolder:
    """The files of a folder that :func:`write_sealed` wrote.

    Args:
        path: the folder.
        form, version, kind: what its manifest must say.
        names: the files it must hold, no more and no fewer; None for any.
        what: how messages call such a folder.

    Raises:
        ModelError: there is no such folder, or its manifest is missing, damaged, or of something else.
    """

    def __init__(
        self, path: Path, *, form: str, version: int, kind: str, names: Collection[str] | None = None, what: str = "model folder"
    ) -> None:
        self.path = Path(path)
        self._hint = f"fetch or copy the {what} again"
        self._peeked: dict[str, bytes] = {}
        if not self.path.is_dir():
            reason = "is not a folder" if self.path.exists() else "does not exist"
            raise ModelError(f"{self.path}: {reason}; expected a {what} with {MANIFEST}", hint=self._hint)
        data = _read(self.path / MANIFEST, limit=_TEXT_LIMIT_BYTES, hint=self._hint)
        self.digest = hashlib.sha256(data).hexdigest()
        """sha256 of the manifest, and so of everything."""
        self._files = _checked_files(self.path / MANIFEST, data, form, version, kind, names, self._hint)

    @property
    def names(self) -> tuple[str, ...]:
        """The files, sorted, without the manifest."""
        return tuple(self._files)

    def peek(self, name: str) -> bytes:
        """Return a text file before its checksum is looked at: after an edit by hand "unknown key" helps more than "changed".

        Raises:
            ModelError: it is missing, cannot be read, or is no regular file.
        """
        if name not in self._peeked:
            self._peeked[name] = _read(self.path / name, limit=_TEXT_LIMIT_BYTES, hint=self._hint)
        return self._peeked[name]

    def read(self, name: str) -> bytes:
        """Return a file whose size and sha256 are those of the manifest.

        Raises:
            ModelError: it is missing, cannot be read, is no regular file, or has changed.
        """
        facts = self._files.get(name)
        if facts is None:
            raise ModelError(f"{self.path / name}: missing", hint=self._hint)
        size = facts["size_bytes"]
        data = self._peeked[name] if name in self._peeked else _read(self.path / name, limit=size + 1, hint=self._hint)
        if len(data) != size:
            more = "more than " if len(data) > size else ""
            raise ModelError(f"{self.path / name}: {more}{min(len(data), size)} bytes, expected {size}", hint=self._hint)
        if hashlib.sha256(data).hexdigest() != facts["sha256"]:
            raise ModelError(f"{self.path / name}: changed since it was written (sha256 differs from {MANIFEST})", hint=self._hint)
        return data


def require_replaceable(path: Path, *, form: str, kind: str, what: str = "model folder") -> None:
    """Refuse to write a sealed folder where anything stands but an older one of the same form and kind, with no file of someone else's.

    Raises:
        OutputError: saying what stands there.
    """
    if not os.path.lexists(path):
        return
    hint = "choose another folder"
    try:
        manifest = parse_json(path / MANIFEST, _read(path / MANIFEST, limit=_TEXT_LIMIT_BYTES, hint=hint))
        files = set(manifest["files"]) if manifest["format"] == form else None
        there = manifest["kind"]
    except (ModelError, KeyError, TypeError):
        files = there = None
    if files is not None and not all(isinstance(name, str) for name in files):
        files = None
    if files is None:
        raise OutputError(f"{path}: exists and is not a {what}", hint=hint)
    if there != kind:
        raise OutputError(f"{path}: holds a model of kind {there!r}, which {kind!r} is not to replace", hint=hint)
    ours = {MANIFEST, *files, *(name.rpartition("/")[0] for name in files)}
    for entry in sorted(path.rglob("*")):
        name = entry.relative_to(path).as_posix()
        if name not in ours and entry.name != ".DS_Store":
            raise OutputError(f"{path}: holds {name}, which is no part of the {what} there", hint=f"move it away, or {hint}")


def parse_json(path: Path, data: bytes, *, hint: str = "fetch or copy the model folder again") -> Any:
    """Return JSON in which no object names a key twice.

    Raises:
        ModelError: it is not such JSON.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) != len(pairs):
            raise ValueError("the same key twice")
        return dict(pairs)

    try:
        return json.loads(data.decode(), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not readable as JSON: {error}", hint=hint) from error


def _encoded(files: Mapping[str, Any], *, form: str, version: int, kind: str) -> bytes:
    return (json.dumps({"format": form, "format_version": version, "kind": kind, "files": dict(files)}, indent=2) + "\n").encode()


def _checked_files(
    path: Path, data: bytes, form: str, version: int, kind: str, names: Collection[str] | None, hint: str
) -> dict[str, dict[str, Any]]:
    """Return ``files`` of the manifest, after comparing it byte for byte with what we would have written for its own values."""
    manifest = parse_json(path, data, hint=hint)
    if not isinstance(manifest, dict) or manifest.get("format") != form:
        raise ModelError(f"{path}: not the manifest of a {form.replace('-', ' ')}", hint=hint)
    there = manifest.get("format_version")
    if there != version or isinstance(there, bool):
        raise ForeignModelError(f"{path}: format version {there!r}, expected {version}", hint="use the farm3d release it was made for")
    if manifest.get("kind") != kind:
        message = f"{path}: holds a model of kind {manifest.get('kind')!r}, expected {kind!r}"
        raise ForeignModelError(message, hint="give another model folder")
    files = manifest.get("files")
    if not isinstance(files, dict):
        files = {}
    good = all(_NAME.fullmatch(name) for name in files) and all(_is_entry(facts) for facts in files.values())
    good = good and (names is None or sorted(files) == sorted(names)) and list(files) == sorted(files)
    if not good or data != _encoded(files, form=form, version=version, kind=kind):
        raise ModelError(f"{path}: damaged: not as farm3d writes it", hint=hint)
    return files


def _is_entry(facts: Any) -> bool:
    if not isinstance(facts, dict) or list(facts) != ["sha256", "size_bytes"]:
        return False
    digest, size = facts["sha256"], facts["size_bytes"]
    return isinstance(digest, str) and type(size) is int and size >= 0 and re.fullmatch("[0-9a-f]{64}", digest) is not None


def _read(path: Path, *, limit: int, hint: str) -> bytes:
    """Return a regular file's bytes, at most ``limit`` of them. A pipe or device is refused before it is opened: it could block."""
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):
            raise ModelError(f"{path}: not a regular file", hint=hint)
        with path.open("rb") as file:
            return file.read(min(limit, facts.st_size + 1))  # read(n) reserves n bytes at once
    except FileNotFoundError as error:
        raise ModelError(f"{path}: missing", hint=hint) from error
    except OSError as error:
        raise ForeignModelError(f"{path}: cannot be read: {error.strerror or error}", hint="check its permissions") from error


@contextlib.contextmanager
def _whole_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; put it in the place of ``path`` when the block ends well, else remove it."""
    part = old = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{path.name[:60]}.", suffix=".part", dir=path.parent))
        yield part
        umask = os.umask(0)
        os.umask(umask)
        part.chmod(0o777 & ~umask)
        _sync(part)
        if path.exists():  # a folder cannot be renamed onto a full one: step aside first, so that a reader finds old, nothing, or new
            old = Path(tempfile.mkdtemp(prefix=f".{path.name[:60]}.", suffix=".old", dir=path.parent))
            os.rename(path, old / path.name)
        try:
            os.rename(part, path)
        except OSError:
            if old is not None:
                os.rename(old / path.name, path)
            raise
        _sync(path.parent)
    except OSError as error:
        raise OutputError(f"{path}: cannot write: {error.strerror or error}", hint="free some space or choose another folder") from error
    finally:
        for left in (part, old):
            if left is not None:
                shutil.rmtree(left, ignore_errors=True)


def _sync(folder: Path) -> None:
    """Make a folder's entries durable, where the system allows a folder to be opened."""
    with contextlib.suppress(PermissionError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
