"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from farm3d.core.errors import OutputError

__all__ = ["cache_folder", "remove_leftovers", "sha256_of", "user_path", "whole_file", "write_whole"]

_TEMPORARY = re.compile(r"(?P<start>\..*\.)(?P<process>[0-9]+)-\w+\.part(?P<suffix>.*)", re.DOTALL)


def cache_folder() -> Path:
    """Return where downloads live: ``$FARM3D_HOME``, else ``farm3d`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    home = os.environ.get("FARM3D_HOME")
    if home:
        return user_path(home)
    return user_path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "farm3d"


def user_path(path: Path | str) -> Path:
    """Return a path with its ``~`` filled in; the home of a user whom the system does not know (``docker run -u 12345``) is the root."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # neither HOME nor an entry in the list of users
        return Path(os.sep, *Path(path).parts[1:])


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
        remove_leftovers([path])
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


def remove_leftovers(paths: Iterable[Path]) -> None:
    """Unlink the temporary files of :func:`whole_file` for ``paths`` whose process, named in them, was killed and no longer runs."""
    starts: dict[Path, set[tuple[str, str]]] = {}
    for path in paths:
        starts.setdefault(path.parent, set()).add((_start(path), path.suffix))
    for folder, wanted in starts.items():
        try:
            entries = list(folder.iterdir())
        except (PermissionError, FileNotFoundError):  # a folder may be open for writing and closed for reading
            continue
        for entry in entries:
            parts = _TEMPORARY.fullmatch(entry.name)
            if parts and (parts["start"], parts["suffix"]) in wanted and not _runs(int(parts["process"])):
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
