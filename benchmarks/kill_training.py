"""Kill, stop and fill up while a category is learned, then go on to the end: the same, to the last bit.

    python benchmarks/kill_training.py [--protocol] [--random 20] [--chosen 47] [--signals 4] [--full 6] [--pairs 2] [--critic 0.25]
        [--only WORD] [--steps 22] [--seed 0]

Each trial is a training of its own with the preset `tiny` and a checkpoint after every step. A child process is killed with SIGKILL, either
by its parent at a random moment or by itself at the n-th time it comes to a chosen place; another child goes on in the same folder. Asked
of every trial: the last checkpoint (weights, Adam's state, table of hypotheses, scaffold) and the log have the bytes of an uninterrupted
run's (hours apart), no more than the step at work was lost, and nothing temporary is left. The controls save in place, as one might without
thinking: they must not survive, or the trials would prove nothing.

The same is asked of `farm3d train` when SIGTERM or Ctrl-C ask it to stop (exit code, a checkpoint, and within 10 s besides), of a training
whose disk is full (one error of ours, earlier checkpoints whole), and of trainings in fresh processes with other hash seeds. In a share of
all trials a critic judges: Stable Diffusion's own classes at a tiny size. ``--protocol`` takes the numbers that the project has promised.
POSIX only.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from farm3d.core import sealed
from farm3d.core.random import numpy_generator
from farm3d.training import checkpoint

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from benchmarks.fuse import Fuse, Point, full_points, kill_points  # noqa: E402
from benchmarks.stop_training import Signals, full_trial, pair_trial  # noqa: E402
from benchmarks.toy_trainings import Ended, Ground, Outcome, evenly, in_child, table  # noqa: E402

_MODEST = {"random": 20, "chosen": 47, "signals": 4, "full": 6, "pairs": 2}
_PROTOCOL = {"random": 100, "chosen": 1000, "signals": 50, "full": 30, "pairs": 20}
_HELP = {
    "random": "kills at random moments",
    "chosen": "kills at chosen places, evenly taken from all (about two hundred)",
    "signals": "SIGTERM and Ctrl-C to the command, at random moments",
    "full": "places where the disk is full, a call fails or a folder is read-only, evenly taken from all (thirty)",
    "pairs": "trainings in a process of their own, with another hash seed",
}
_CONTROL = "control, which must fail: saving in place"
_ROWS = {
    "folder": "folder made, or just synced",
    "part": "folder made, or just synced",
    "tensors": "before, within, after writing or syncing tensors",
    "state": "the same of the facts",
    "manifest": "the same of the manifest",
    "rename": "before or after renaming the folder",
    "prune": "before, half way or after removing the oldest",
    "update": "before, half way or after changing the weights",
    "log": "before, within or after a line of the log",
    "log renewed": "going on, while the log is written anew",
}


def save_in_place(path: Path, contents: Mapping[str, bytes], *, form: str, version: int, kind: str, what: str = "") -> None:
    """The control: one folder, its files overwritten where they are."""
    folder = path.parent / "step-99999999"
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in {**contents, sealed.MANIFEST: sealed.manifest_bytes(contents, form=form, version=version, kind=kind)}.items():
        with (folder / name).open("wb") as file:
            file.write(data)


class Kills:
    """Trainings that are killed and gone on with."""

    def __init__(self, ground: Ground, rng: np.random.Generator) -> None:
        self._ground, self._rng, self._folder = ground, rng, ground.scratch / "trial"

    def at_points(self, points: tuple[Point, ...], *, in_place: bool = False) -> Outcome:
        """Kill one process after the other at these points, then go on to the end."""
        critic = not in_place and self._ground.with_critic()
        what = ", then ".join(map(str, points))
        ends = [self._run(critic, point, in_place=in_place) for point in points]
        if any(end.status != signal.SIGKILL for end in ends):
            return self._ground.judge(self._folder, what, critic, ends, f"never came there {[end.error for end in ends]}")
        return self._ground.judge(self._folder, what, critic, [*ends, self._run(critic, in_place=in_place)])

    def at_random(self) -> Outcome:
        """Kill at a random moment of the uninterrupted run's time, and go on."""
        critic = self._ground.with_critic()
        while True:
            moment = float(self._rng.uniform(0, self._ground.whole_s[critic]))
            end = self._run(critic, after_s=moment)
            if end.status == signal.SIGKILL:
                return self._ground.judge(self._folder, f"after {moment:.2f} s", critic, [end, self._run(critic)])
            shutil.rmtree(self._folder)  # quicker than the run that was timed: it had ended

    def _run(self, critic: bool, point: Point | None = None, *, after_s: float | None = None, in_place: bool = False) -> Ended:
        def work(tell: int) -> None:
            Fuse(point, self._folder).lay()
            if in_place:
                checkpoint.write_sealed = save_in_place
            self._ground.toys[critic].train(self._folder, tell)

        def kill(child: int) -> None:
            if after_s is not None:
                time.sleep(after_s)
                os.kill(child, signal.SIGKILL)

        return in_child(work, kill)


def trials(ground: Ground, counts: Mapping[str, int], only: str, seed: int) -> Iterator[tuple[str, Outcome]]:
    """Yield row and outcome of one trial after the other."""
    kills = Kills(ground, numpy_generator(seed, "kills"))
    for _ in range(counts["random"]):
        yield "at random moments", kills.at_random()
    for points in evenly([trial for trial in kill_points(ground.steps) if only in trial[-1].place], counts["chosen"]):
        place = points[-1].place
        yield _ROWS[next(name for name in sorted(_ROWS, key=len, reverse=True) if place.startswith(f"{name} "))], kills.at_points(points)
    if counts["signals"]:
        signals = Signals(ground, numpy_generator(seed, "signals"))
        for number in range(counts["signals"]):
            yield signals.trial(number)
    for points in evenly(full_points(ground.steps), counts["full"]):
        yield full_trial(ground, points)
    for number in range(counts["pairs"]):
        yield pair_trial(ground, number)
    for place in ("tensors half", "state half", "manifest half"):
        yield _CONTROL, kills.at_points((Point(place, 2),), in_place=True)


def main() -> int:
    """Run the trials and print the table; return 1 if one failed, or if a control did not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--protocol", action="store_true", help=f"as many as promised: {_PROTOCOL}")
    for name, text in _HELP.items():
        parser.add_argument(f"--{name}", type=int, default=None, help=f"{text}; {_MODEST[name]}")
    parser.add_argument("--critic", type=float, default=0.25, help="share of the trials in which a critic judges (needs diffusers)")
    parser.add_argument("--only", default="", help="chosen places whose names hold this word")
    parser.add_argument("--steps", type=int, default=22, help="of each training, at least 22: the log is written after 20")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    options = parser.parse_args()
    if options.critic > 0 and importlib.util.find_spec("diffusers") is None:
        parser.error("a critic needs diffusers: pip install 'farm3d[diffusion]', or --critic 0")
    given = {name: getattr(options, name) for name in _MODEST}
    counts = {name: usual if given[name] is None else given[name] for name, usual in (_PROTOCOL if options.protocol else _MODEST).items()}
    rows: dict[str, list[Outcome]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        ground = Ground(Path(scratch), options.steps, options.critic)
        print(f"uninterrupted: {options.steps} steps in {ground.whole_s[False]:.1f} s", file=sys.stderr, flush=True)
        for row, outcome in trials(ground, counts, options.only, options.seed):
            rows.setdefault(row, []).append(outcome)
            critic = ", with a critic" if outcome.critic else ""
            print(f"{outcome.what}{critic}: {'the same' if outcome.same else outcome.words}", file=sys.stderr, flush=True)
    minutes = sum(sum(resource.getrusage(whose)[:2]) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 60
    print(f"{minutes:.1f} core-minutes", file=sys.stderr, flush=True)
    print(table(rows))
    survived = any(outcome.same for outcome in rows.pop(_CONTROL))
    outcomes = list(itertools.chain(*rows.values()))
    print(f"\n{sum(outcome.same for outcome in outcomes)} of {len(outcomes)} the same; the controls {'survived' if survived else 'failed'}")
    return 0 if all(outcome.same for outcome in outcomes) and not survived else 1


if __name__ == "__main__":
    raise SystemExit(main())
