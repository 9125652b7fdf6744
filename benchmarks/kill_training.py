"""kill -9 while a category is learned: at random moments and at chosen ones, then the same again to the end, to the last bit.

    python benchmarks/kill_training.py [--random 20] [--chosen all] [--only WORD] [--steps 22] [--seed 0]

Each trial is a training of its own with the preset `tiny` and a checkpoint after every step. A child process is killed with SIGKILL, either
by its parent at a random moment or by itself at the n-th time it comes to a chosen place; another child goes on in the same folder. Asked
of every trial: the last checkpoint (weights, Adam's state, table of hypotheses, scaffold) and the log have the bytes of an uninterrupted
run's (hours apart), no more than the step at work was lost, and nothing temporary is left. The controls save in place, as one might without
thinking: they must not survive, or the trials would prove nothing.

Children are forked from a parent that has imported everything and computed nothing: a trial costs its steps. POSIX only.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import pathlib
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from farm3d.core import sealed
from farm3d.core.random import numpy_generator
from farm3d.training import checkpoint
from farm3d.training.category.pictures import PictureSet
from farm3d.training.category.presets import tiny
from farm3d.training.category.trainer import CategoryTrainer, Progress

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from tests.testing.toy_category import toy_pictures  # noqa: E402

_CONTROL = "control, which must fail: saving in place"
_ROWS = {
    "folder": "folder made, or just synced",
    "tensors": "before, half way, after writing or syncing tensors",
    "state": "the same of the facts",
    "manifest": "the same of the manifest",
    "rename": "before or after renaming the folder",
    "prune": "before, half way or after removing the oldest",
    "update": "before, half way or after changing the weights",
    "log": "before, within or after a line of the log",
    "log renewed before": "going on, while the log is written anew",
    "log renewed after": "going on, while the log is written anew",
    "log renewed": "going on, while the log is written anew",
}
_FILES = {"tensors.safetensors": "tensors", "state.json": "state", "manifest.json": "manifest", "log.jsonl": "log"}


@dataclass(frozen=True)
class Point:
    """The ``nth`` time that a process comes to a ``place``, by name."""

    place: str
    nth: int


def chosen_points() -> list[tuple[Point, ...]]:
    """Return what is killed in each trial: one process, or two, one after the other."""
    saving = ["folder made", "tensors before", "tensors half", "tensors written", "tensors synced", "state before", "state half"]
    saving += ["manifest before", "manifest half", "manifest written", "manifest synced", "rename before", "rename after", "folder synced"]
    trials = [(Point(place, nth),) for nth in (2, 5) for place in saving]
    trials += [(Point(f"prune {when}", nth),) for nth in (1, 4) for when in ("before", "half", "after")]
    trials += [(Point(f"update {when}", nth),) for nth in (3, 12) for when in ("before", "half", "after")]
    trials += [(Point(f"log {when}", 1),) for when in ("before", "third", "half", "after")]
    renewed = [Point(f"log renewed {when}", 1) for when in ("half", "before rename", "after rename")]
    return trials + [(Point("log after", 1), point) for point in renewed]


# --- in the child ---------------------------------------------------------------------------------------------------------------


class Fuse:
    """Kills its own process at a point; wraps the calls that lead there."""

    def __init__(self, point: Point | None) -> None:
        self._point, self._count, self._open, self._renamed = point, 0, "", False

    def at(self, place: str) -> None:
        if self._point is not None and place == self._point.place:
            self._count += 1
            if self._count == self._point.nth:
                os.kill(os.getpid(), signal.SIGKILL)

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
            self.at(f"{self._open} synced" if self._open else "folder synced" if self._renamed else "")
            self._open = ""

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


def save_in_place(path: Path, contents: Mapping[str, bytes], *, form: str, version: int, kind: str, what: str = "") -> None:
    """The control: one folder, its files overwritten where they are."""
    folder = path.parent / "step-99999999"
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in {**contents, sealed.MANIFEST: sealed.manifest_bytes(contents, form=form, version=version, kind=kind)}.items():
        with (folder / name).open("wb") as file:
            file.write(data)


def train(pictures: PictureSet, steps: int, folder: Path, tell: int, point: Point | None, *, in_place: bool) -> None:
    """Train in a child; steps go through the pipe ``tell``, the first being where it began."""
    torch.set_num_threads(1)
    Fuse(point).lay()
    if in_place:
        checkpoint.write_sealed = save_in_place
    run = tiny("toy", channels=pictures.features.shape[1], steps=steps)

    def report(at: Progress) -> None:
        os.write(tell, f"{at.step}\n".encode())

    trainer = CategoryTrainer(run, pictures, folder, checkpoint_minutes=0.0, report=report)
    os.write(tell, f"{trainer.step}\n".encode())
    trainer.run()


# --- in the parent --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ended:
    """How a child ended: exit status as :func:`os.waitpid` gives it; steps it began at and had done, -1 where it came to none."""

    status: int
    first: int
    last: int


def in_child(work: Callable[[int], None], kill_after_s: float | None = None) -> Ended:
    """Run ``work`` in a forked child, which is given a pipe to tell steps through."""
    ear, mouth = os.pipe()
    child = os.fork()
    if child == 0:
        code = 3
        try:
            os.close(ear)
            work(mouth)
            code = 0
        except Exception as error:
            print(f"  child: {error}", file=sys.stderr, flush=True)
        finally:
            os._exit(code)
    os.close(mouth)
    if kill_after_s is not None:
        time.sleep(kill_after_s)
        os.kill(child, signal.SIGKILL)  # one that has ended waits for us: its number is still its own
    with os.fdopen(ear) as lines:
        steps = [int(line) for line in lines]
    return Ended(os.waitpid(child, 0)[1], steps[0] if steps else -1, steps[-1] if steps else -1)


def result_of(folder: Path, steps: int) -> tuple[bytes, list[dict[str, Any]]]:
    """Return the last checkpoint's tensors and the log without its hours."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    kept = [{name: value for name, value in line.items() if name != "hours"} for line in lines]
    return (folder / "checkpoints" / f"step-{steps:08d}" / "tensors.safetensors").read_bytes(), kept


@dataclass(frozen=True)
class Outcome:
    """Of a trial: what was killed, whether the end is the same, steps lost at most, and what went wrong in words."""

    what: str
    same: bool
    lost: int
    words: str


class Trials:
    """All trials of a size and seed, in a scratch folder."""

    def __init__(self, scratch: Path, steps: int, seed: int) -> None:
        self._scratch, self._steps, self._rng = scratch, steps, numpy_generator(seed, "kills")
        in_child(lambda _: _save_pictures(scratch / "pictures.npz"))
        self._pictures = _load_pictures(scratch / "pictures.npz")
        begun = time.monotonic()
        assert self._run(scratch / "whole").status == 0
        self.whole_s = time.monotonic() - begun
        self._whole = result_of(scratch / "whole", steps)

    def _run(self, folder: Path, point: Point | None = None, *, after_s: float | None = None, in_place: bool = False) -> Ended:
        return in_child(lambda tell: train(self._pictures, self._steps, folder, tell, point, in_place=in_place), after_s)

    def at_points(self, points: tuple[Point, ...], *, in_place: bool = False) -> Outcome:
        """Kill one process after the other at these points, then go on to the end."""
        folder = self._scratch / "trial"
        what = ", then ".join(f"{point.place} ({point.nth})" for point in points)
        ends = [self._run(folder, point, in_place=in_place) for point in points]
        if any(end.status != signal.SIGKILL for end in ends):
            return self._judge(folder, what, ends, "never came there")
        return self._judge(folder, what, [*ends, self._run(folder, in_place=in_place)])

    def at_random(self) -> Outcome:
        """Kill at a random moment of the uninterrupted run's time, and go on."""
        while True:
            folder, moment = self._scratch / "trial", float(self._rng.uniform(0, self.whole_s))
            end = self._run(folder, after_s=moment)
            if end.status == signal.SIGKILL:
                return self._judge(folder, f"after {moment:.2f} s", [end, self._run(folder)])
            shutil.rmtree(folder)  # quicker than the run that was timed: it had ended

    def _judge(self, folder: Path, what: str, ends: list[Ended], words: str = "") -> Outcome:
        # A step counts as done when it is told, which is before its checkpoint: the step at work may be lost, and no more.
        lost = max((before.last - after.first for before, after in itertools.pairwise(ends) if after.first >= 0), default=0)
        if not words and ends[-1].status:
            words = "would not go on"
        if not words:
            tensors, log = result_of(folder, self._steps)
            left = [path.name for path in folder.rglob("*") if path.name.startswith(".") or ".part" in path.name]
            wrong = {"other tensors": tensors != self._whole[0], "another log": log != self._whole[1], f"left: {left}": bool(left)}
            wrong |= {f"{lost} steps lost": lost > 1}
            words = ", ".join(name for name, is_so in wrong.items() if is_so)
        shutil.rmtree(folder, ignore_errors=True)
        return Outcome(what, not words, lost, words)


def _save_pictures(path: Path) -> None:
    pictures = toy_pictures()
    values = {name: getattr(pictures, name) for name in ("rgb", "mask", "features", "scale", "views")}
    np.savez(path, **values, names=np.array(pictures.names), digest=np.array(pictures.digest))


def _load_pictures(path: Path) -> PictureSet:
    with np.load(path) as values:
        pictures, facts = (values["rgb"], values["mask"], values["features"]), (values["scale"], values["views"])
        return PictureSet(*pictures, *facts, tuple(values["names"].tolist()), str(values["digest"]))


def table(rows: Mapping[str, list[Outcome]]) -> str:
    """Return a Markdown table, a row a kind of kill."""
    lines = ["| killed | times | the same to the last bit |", "|---|---|---|"]
    for name, outcomes in rows.items():
        lines.append(f"| {name} | {len(outcomes)} | {sum(outcome.same for outcome in outcomes)} |")
    return "\n".join(lines)


def main() -> int:
    """Run the trials and print the table; return 1 if one failed, or if a control did not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--random", type=int, default=20, help="kills at random moments")
    parser.add_argument("--chosen", type=int, default=None, help="kills at chosen places, evenly taken from all; leave out for all")
    parser.add_argument("--only", default="", help="chosen places whose names hold this word")
    parser.add_argument("--steps", type=int, default=22, help="of each training, at least 21: the log is written after 20")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    options = parser.parse_args()
    points = [trial for trial in chosen_points() if options.only in trial[-1].place]
    count = len(points) if options.chosen is None else options.chosen
    points = [points[round(place)] for place in np.linspace(0, len(points) - 1, count)]
    rows: dict[str, list[Outcome]] = {}

    def note(name: str, outcome: Outcome) -> None:
        rows.setdefault(name, []).append(outcome)
        print(f"{outcome.what}: {'the same' if outcome.same else outcome.words}", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as scratch:
        trials = Trials(Path(scratch), options.steps, options.seed)
        print(f"uninterrupted: {options.steps} steps in {trials.whole_s:.1f} s", file=sys.stderr, flush=True)
        for _ in range(options.random):
            note("at random moments", trials.at_random())
        for chosen in points:
            note(_ROWS[chosen[-1].place.rpartition(" ")[0]], trials.at_points(chosen))
        for place in ("tensors half", "state half", "manifest half"):
            note(_CONTROL, trials.at_points((Point(place, 2),), in_place=True))
    print(table(rows))
    survived = any(outcome.same for outcome in rows.pop(_CONTROL))
    outcomes = [outcome for row in rows.values() for outcome in row]
    print(f"\n{sum(outcome.same for outcome in outcomes)} of {len(outcomes)} the same; the controls {'survived' if survived else 'failed'}")
    return 0 if all(outcome.same for outcome in outcomes) and not survived else 1


if __name__ == "__main__":
    raise SystemExit(main())
