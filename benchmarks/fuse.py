"""Chosen places of a training at which something happens to its process: it is killed, or the disk is full, or says no.

The calls that lead to such places are wrapped, in a child that is there for nothing else.
"""

from __future__ import annotations

import errno
import os
import pathlib
import resource
import shutil
import signal
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

__all__ = ["Fuse", "Point", "full_points", "kill_points"]

_FILES = {"tensors.safetensors": "tensors", "state.json": "state", "manifest.json": "manifest", "log.jsonl": "log"}
_WRITING = ("before", "third", "half", "written")
_NOBODY = 65534


@dataclass(frozen=True)
class Point:
    """The ``nth`` time that a process comes to a ``place``, by name, and what then happens.

    Attributes:
        place, nth: where.
        deed: ``kill``; ``limit``: no file may grow beyond ``share`` of what is now written to this one; ``read-only``: nothing in the
            training's folder can be written any more; or the name of an error, which the call at this place then raises.
        share: see ``limit``; at least one byte is missing.
    """

    place: str
    nth: int
    deed: str = "kill"
    share: float = 0.0

    def __str__(self) -> str:
        share = f" at {self.share:.0%}" if self.deed == "limit" else ""
        return f"{self.place} ({self.nth})" + ("" if self.deed == "kill" else f": {self.deed}{share}")


_LOGGED, _SAVED = Point("log after", 1), Point("rename after", 21)
"""After these the log's only line, of step 20, is dropped by who goes on, because its checkpoint is missing, or kept."""


def kill_points(steps: int) -> list[tuple[Point, ...]]:
    """Return what is killed in each trial, place by place: one process, or two, one after the other.

    Each place of saving at seven times, from a training's first checkpoint to its last, which are one a step; and likewise the others.
    """
    files = [f"{name} {when}" for name in ("tensors", "state", "manifest") for when in (*_WRITING, "synced", "after")]
    saving = ["folder made", *files, "part synced", "rename before", "rename after", "folder synced"]
    trials = [(Point(place, nth),) for place in saving for nth in _spread(steps, 7)]
    trials += [(Point(f"prune {when}", nth),) for when in ("before", "half", "after") for nth in _spread(steps - 2, 5)]
    trials += [(Point(f"update {when}", nth),) for when in ("before", "half", "after") for nth in _spread(steps, 5)]
    trials += [(Point(f"log {when}", nth),) for when in (*_WRITING, "after") for nth in range(1, steps // 20 + 1)]
    renewed = [Point(f"log renewed {when}", 1) for when in (*_WRITING, "after", "synced", "before rename", "after rename")]
    return trials + [(before, point) for before in (_LOGGED, _SAVED) for point in renewed]


def full_points(steps: int) -> list[tuple[Point, ...]]:
    """Return where the disk is full or says no in each trial, after a kill in some; thirty of them."""
    shares = (0.0, 0.25, 0.5, 0.75, 1.0)
    nths = (2 + 5 * number % (steps - 2) for number in range(1000))  # a checkpoint is there, and something to go on with
    trials = [(Point(f"{name} begun", next(nths), "limit", share),) for name in ("tensors", "state", "manifest") for share in shares]
    trials += [(Point("log begun", 1, "limit", share),) for share in (0.0, 0.5, 1.0)]
    trials += [(before, Point("log renewed begun", 1, "limit", 0.5)) for before in (_LOGGED, _SAVED)]
    refused = {"folder before": "EROFS", "rename before": "EDQUOT", "manifest synced": "EDQUOT"}
    refused |= dict.fromkeys(("tensors synced", "part synced", "folder synced"), "ENOSPC")
    trials += [(Point(place, next(nths), error),) for place, error in refused.items()]
    trials += [(_LOGGED, Point("log renewed before rename", 1, "ENOSPC"))]
    trials += [(Point("update after", nth, "read-only"),) for nth in (2, steps - 3)]
    return [*trials, (Point("rename after", 4), Point("start", 1, "read-only"))]


def _spread(times: int, count: int) -> Iterable[int]:
    return sorted({round(place) for place in np.linspace(1, times, count)})


class Fuse:
    """Lets something happen to its own process at a point, or nothing at all; ``folder`` is the training's."""

    def __init__(self, point: Point | None, folder: Path) -> None:
        self._point, self._folder, self._count, self._open, self._renamed = point, folder, 0, "", False

    def at(self, place: str, *, there: int = 0, more: int = 0) -> None:
        """Say that the process has come to a place; to a file of ``there`` bytes ``more`` are about to be written."""
        if self._point is not None and place == self._point.place:
            self._count += 1
            if self._count == self._point.nth:
                self._do(self._point, there, more)

    def _do(self, point: Point, there: int, more: int) -> None:
        if point.deed == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif point.deed == "limit":  # Python ignores SIGXFSZ from its start: the write that goes too far raises
            room = there + max(min(int(point.share * more), more - 1), 0)
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        elif point.deed == "read-only":
            for folder in (self._folder, self._folder / "checkpoints"):
                folder.chmod(0o555)
            if os.geteuid() == 0:  # whom no mode of a folder stops: be somebody whom it does
                os.seteuid(_NOBODY)
        else:
            number = getattr(errno, point.deed)
            raise OSError(number, os.strerror(number))

    def lay(self) -> None:
        """Put the wrappers in place."""
        path_open, fsync, rename, replace = pathlib.Path.open, os.fsync, os.rename, os.replace
        made, rmtree, step = tempfile.mkdtemp, shutil.rmtree, torch.optim.Adam.step

        def opened(path: Path, mode: str = "r", *rest: Any, **more: Any) -> Any:
            name = "log renewed" if path.name.startswith(".log.") else _FILES.get(path.name, "")
            if not name or mode not in ("wb", "a"):
                return path_open(path, mode, *rest, **more)
            self.at(f"{name} before")
            self._open = name
            return _Parts(path_open(path, mode, *rest, **more), name, self)

        def synced(handle: int) -> None:
            fsync(handle)
            name, self._open = self._open, ""
            self.at(f"{name} synced" if name else "folder synced" if self._renamed else "part synced")

        def renamed(source: Path, target: Path) -> None:
            self.at("rename before")
            rename(source, target)
            self.at("rename after")
            self._renamed = True

        def replaced(source: Path, target: Path) -> None:
            ours = Path(target).name == "log.jsonl"
            self.at("log renewed before rename" if ours else "")
            replace(source, target)
            self.at("log renewed after rename" if ours else "")

        def folder_made(*rest: Any, **more: Any) -> str:
            self.at("folder before")
            folder = made(*rest, **more)
            self._renamed = False
            self.at("folder made")
            return folder

        def removed(path: Path, *rest: Any, **more: Any) -> None:
            pruned = Path(path).name.startswith("step-")
            self.at("prune before" if pruned else "")
            if pruned and self._point is not None and self._point.place == "prune half":
                sorted(Path(path).iterdir())[0].unlink()
                self.at("prune half")
            rmtree(path, *rest, **more)
            self.at("prune after" if pruned else "")

        def updated(optimizer: torch.optim.Adam) -> None:
            self.at("update before")
            if self._point is not None and self._point.place == "update half" and self._count + 1 == self._point.nth:
                optimizer.param_groups = optimizer.param_groups[:1]
                step(optimizer)
            self.at("update half")
            step(optimizer)
            self.at("update after")

        places: tuple[tuple[Any, str, Any], ...] = (
            (pathlib.Path, "open", opened),
            (os, "fsync", synced),
            (os, "rename", renamed),
            (os, "replace", replaced),
            (tempfile, "mkdtemp", folder_made),
            (shutil, "rmtree", removed),
            (torch.optim.Adam, "step", updated),
        )
        for owner, name, wrapper in places:
            setattr(owner, name, wrapper)


class _Parts:
    """A file that is written in parts, with a look at the fuse between them."""

    def __init__(self, file: Any, name: str, fuse: Fuse) -> None:
        self._file, self._name, self._fuse = file, name, fuse

    def write(self, data: Any) -> None:
        self._fuse.at(f"{self._name} begun", there=os.fstat(self._file.fileno()).st_size, more=len(data))
        cuts = [0, len(data) // 3, len(data) // 2, len(data)]
        for begin, end, place in zip(cuts, cuts[1:], ("third", "half", "written"), strict=False):
            self._file.write(data[begin:end])
            self._file.flush()
            self._fuse.at(f"{self._name} {place}")

    def __enter__(self) -> _Parts:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._fuse.at(f"{self._name} after")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
