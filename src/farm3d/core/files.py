"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from farm3d.core.errors import OutputError

__all__ = ["cache_folder", "sha256_of", "whole_file", "write_whole"]


def cache_folder() -> Path:
    """Return where downloads live: ``$FARM3D_HOME``, else ``farm3d`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    home = os.environ.get("FARM3D_HOME")
    if home:
        return Path(home).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "farm3d"


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it onto ``path`` when the block ends without an error, else remove it.

    The temporary name starts with a dot and keeps the suffix of ``path``, so that libraries that go by suffix work. What an earlier
    process left when it was killed is removed.

    Raises:
        OutputError: the folder cannot be written or the disk is full.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path)
        handle, name = tempfile.mkstemp(prefix=f"{_start(path)}{os.getpid()}-", suffix=f".part{path.suffix}", dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise OutputError(f"{path}: cannot write here: {error.strerror or error}", hint="choose another --out folder") from error
    part = Path(name)
    try:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        part.chmod(0o666 & ~umask)
        os.replace(part, path)
    except OSError as error:
        raise OutputError(
            f"{path}: cannot write: {error.strerror or error}", hint="free some space or choose another --out folder"
        ) from error
    finally:
        part.unlink(missing_ok=True)


def _start(path: Path) -> str:
    """How the temporary names for ``path`` start; cut in bytes, since file systems count those and a letter may take four."""
    return f".{os.fsencode(path.stem)[:60].decode('utf-8', 'ignore')}."


def _remove_leftovers(path: Path) -> None:
    """Unlink temporary files for ``path`` whose process, named in them, no longer runs."""
    start, end = _start(path), f".part{path.suffix}"
    try:
        entries = list(path.parent.iterdir())
    except PermissionError:  # a folder may be open for writing and closed for reading
        return
    for entry in entries:
        if not (entry.name.startswith(start) and entry.name.endswith(end)):
            continue
        owner = entry.name[len(start) :].split("-")[0]
        if owner.isdigit() and not _runs(int(owner)):
            entry.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def write_whole(path: Path, data: bytes | str) -> None:
    """Write ``data`` to ``path`` so that a reader sees the old file, or the whole new one, or none.

    Raises:
        OutputError: the folder cannot be written or the disk is full.
    """
    with whole_file(path) as part:
        part.write_bytes(data.encode() if isinstance(data, str) else data)


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file as lower-case hex."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
