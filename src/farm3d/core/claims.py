"""One worker at a time: a claim on a name in a folder that never outlives its worker.

Where the system has file locks (``flock``: Linux and macOS, also NFS) the kernel gives a claim up when its worker ends, however it ends.
Elsewhere (Windows, network folders mounted without locks) a claim is a file that only one worker can create and that its worker touches
while it works; it is taken over when that worker no longer runs on this machine, or has not touched it for an hour.
"""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from farm3d.core.errors import OutputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

__all__ = ["Claim", "claimed"]

_SILENCE_S = 3600.0
_NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}


class Claim(Protocol):
    """What :func:`claimed` yields to the one worker that may go on."""

    def renew(self) -> None:
        """Say that the worker is still at it; needed at least once an hour.

        Raises:
            OutputError: another worker has taken the claim over.
        """
        ...

    def release(self) -> None:
        """Let others claim the name, and remove the file."""
        ...


@contextlib.contextmanager
def claimed(path: Path) -> Iterator[Claim | None]:
    """Yield a claim on ``path``, or None when another worker holds it; never waits. The file is gone when the block ends.

    Where the system has no locks, two workers that take over a dead one's claim in the same instant may both get it for a moment: the
    first of them learns it from :meth:`Claim.renew`. What they do must bear that (write whole files, equal for both).

    Raises:
        OutputError: the folder cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        claim = _take(path)
    except OSError as error:
        raise OutputError(f"{path.parent}: cannot write here: {error.strerror or error}", hint="choose another folder") from error
    try:
        yield claim
    finally:
        if claim is not None:
            claim.release()


def _take(path: Path) -> Claim | None:
    if fcntl is not None:
        try:
            return _LockClaim.take(path)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            path.unlink(missing_ok=True)
    return _FileClaim.take(path.with_name(f"{path.name}.held"))


class _LockClaim:
    def __init__(self, path: Path, handle: int) -> None:
        self._path, self._handle = path, handle

    @classmethod
    def take(cls, path: Path) -> _LockClaim | None:
        assert fcntl is not None
        while True:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_at(handle, path):
                    return cls(path, handle)
            except BlockingIOError:
                os.close(handle)
                return None
            except BaseException:
                os.close(handle)
                raise
            os.close(handle)  # the last holder removed this file after we had opened it: what we locked has no name any more

    def renew(self) -> None:
        pass  # the kernel knows whether we live

    def release(self) -> None:
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)  # while still locked: nobody else can hold a file of this name
        os.close(self._handle)


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


class _FileClaim:
    def __init__(self, path: Path, owner: str) -> None:
        self._path, self._owner = path, owner

    @classmethod
    def take(cls, path: Path) -> _FileClaim | None:
        owner = f"{platform.node()}\n{os.getpid()}\n{os.urandom(8).hex()}\n"
        for _ in range(2):
            try:
                handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            except FileExistsError:
                if not _is_abandoned(path):
                    return None
                path.unlink(missing_ok=True)
                continue
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(owner)
            return cls(path, owner)
        return None

    def renew(self) -> None:
        if not self._is_ours():
            raise OutputError(
                f"{self._path.name}: another worker took this over", hint="each sample has to take less than an hour; run again to go on"
            )
        os.utime(self._path)

    def release(self) -> None:
        with contextlib.suppress(OSError):
            if self._is_ours():
                self._path.unlink(missing_ok=True)

    def _is_ours(self) -> bool:
        try:
            return self._path.read_text(encoding="utf-8") == self._owner
        except OSError:
            return False


def _is_abandoned(path: Path) -> bool:
    try:
        silent_s = time.time() - path.stat().st_mtime
        machine, process, _ = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:  # let go this moment; to remove the file now could be to remove the next worker's
        return False
    except (OSError, ValueError):  # just created and not filled yet, or its worker died in between
        return silent_s > _SILENCE_S
    if machine == platform.node() and process.isdigit() and _has_ended(int(process)):
        return True
    return silent_s > _SILENCE_S


def _has_ended(process: int) -> bool:
    if os.name != "posix":  # elsewhere asking would mean sending an event
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
