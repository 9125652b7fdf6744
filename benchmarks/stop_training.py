"""Other ends of a training than kill -9, for ``kill_training.py``: a signal that asks, a full disk, a process with another hash seed."""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from benchmarks.fuse import Fuse, Point
from benchmarks.toy_trainings import CRITIC_FROM, Ended, Ground, Outcome, Result, faults, in_child, leftovers, result_of
from PIL import Image
from tests.testing.toy_category import toy_pictures
from tests.testing.train_words import words_for

from farm3d.apps.cli import main as farm3d
from farm3d.training.category import finish
from farm3d.training.checkpoint import newest_checkpoint

__all__ = ["Signals", "full_trial", "pair_trial"]

_KIND = "CategoryTraining"
_STOP_WITHIN_S = 10.0
_BEGUN, _STOPPING = " done\n", "stopping after this step"  # what the command prints
_LAZY = ("apps.train", "model.category.learned", "training.category.card", "training.category.load", "training.category.sheets")


class Signals:
    """SIGTERM and Ctrl-C at random moments of ``farm3d train`` itself, on a data set that ``farm3d prepare-data`` made.

    Checkpoints are written at the signal and in the end only, but where a second Ctrl-C follows, which has to find saving at work. All of
    the command runs but what comes after the training (template, model folder): here that takes five times as long, and a test of the
    command compares its bytes.
    """

    def __init__(self, ground: Ground, rng: np.random.Generator) -> None:
        self._ground, self._rng, self._data, self._folder = ground, rng, ground.scratch / "data", ground.scratch / "trial"
        for name in _LAZY:  # else each child would, the first time it comes there
            importlib.import_module(f"farm3d.{name}")
        if in_child(lambda _: self._prepare()).status:
            raise RuntimeError(f"no data set: {_told(ground.scratch)}")
        self._wholes: dict[bool, Result] = {}
        self._training_s: dict[bool, float] = {}
        for critic in ground.toys:
            asked = _Asking(self._folder)
            end = self._run(critic, asked)
            if end.status:
                raise RuntimeError(f"the uninterrupted command failed: {_told(self._folder)}")
            self._wholes[critic], self._training_s[critic] = result_of(self._folder / "state", ground.steps), end.at - asked.at
            shutil.rmtree(self._folder)

    def trial(self, number: int) -> tuple[str, Outcome]:
        """Return row and outcome of a trial: every second one is SIGTERM, and two of five others have a second Ctrl-C."""
        number_of, twice = (signal.SIGINT, number % 10 in (3, 7)) if number % 2 else (signal.SIGTERM, False)
        critic = self._ground.with_critic()
        row = "a second Ctrl-C, when the first was answered" if twice else "Ctrl-C" if number % 2 else "SIGTERM"
        while True:
            asking = _Asking(self._folder, (number_of,) * (1 + twice), float(self._rng.uniform(0, self._training_s[critic])))
            end = self._run(critic, asking, ["--checkpoint-minutes", "0"] if twice else [])
            answered = _STOPPING in _told(self._folder)
            over = (self._folder / "state" / "checkpoints" / f"step-{self._ground.steps:08d}").exists() and not answered
            if not over and not (twice and end.code == 128 + number_of):
                words = self._judge(critic, -number_of if twice else 128 + number_of, end, end.at - asking.at)
                what = f"{row} after {asking.after_s:.2f} s"
                shutil.rmtree(self._folder)
                return row, Outcome(what, critic, words, end.at - asking.at)
            shutil.rmtree(self._folder)  # it was quicker than the signal

    def _judge(self, critic: bool, expected: int, end: Ended, seconds: float) -> str:
        state, told = self._folder / "state", _told(self._folder)
        if end.code != expected:
            return f"ended with {end.code}, expected {expected}: {told.splitlines()[-1:]} {end.error}"
        wrong = [f"{seconds:.1f} s to the end"] if seconds > _STOP_WITHIN_S else []
        stopped = re.search(r"stopped after (\d+) steps", told)
        if expected > 0:  # a second Ctrl-C is as a kill: it owes no checkpoint, and may leave what the next start removes
            warned: list[str] = []
            found = newest_checkpoint(state / "checkpoints", warn=warned.append, kind=_KIND)
            if stopped is None or found is None or found.step != int(stopped[1]) or warned:
                wrong += [f"no checkpoint of the step it stopped at ({warned}, {told.splitlines()[-1:]})"]
            if left := leftovers(state):
                wrong += [f"left: {left}"]
        again = self._run(critic)
        if again.status:
            return f"would not go on: {_told(self._folder).splitlines()[-1:]} {again.error}"
        if stopped is not None and f"steps, {stopped[1]}{_BEGUN}" not in _told(self._folder):
            wrong += ["went on elsewhere"]
        return ", ".join([*wrong, *faults(state, self._ground.steps, self._wholes[critic])])

    def _run(self, critic: bool, asking: _Asking | None = None, more: list[str] | None = None) -> Ended:
        """Run the command in a child, up to the end of the training; what it prints goes to a file."""
        words = [*words_for(self._data, self._folder, self._ground.steps), *(more or [])]
        if critic:
            words += ["--prior", str(self._ground.toys[True].prior), "--set", f"virtual_from={CRITIC_FROM}"]
        self._folder.mkdir(exist_ok=True)
        _out(self._folder).write_bytes(b"")

        def work(_: int) -> int:
            _print_to(_out(self._folder))
            finish.finished_prior = _leave
            try:
                return farm3d(words)
            except _Trained:
                return 0

        return in_child(work, asking or (lambda child: None))

    def _prepare(self) -> int:
        photographs = self._ground.scratch / "photographs"
        photographs.mkdir()
        _print_to(_out(self._ground.scratch))
        pictures = toy_pictures()
        for name, rgb, mask in zip(pictures.names, pictures.rgb, pictures.mask, strict=True):
            planes = np.concatenate([rgb, mask[None]]).transpose(1, 2, 0)
            Image.fromarray(np.ascontiguousarray(planes)).resize((128, 128)).save(photographs / f"{name}.png")
        sizes = ["--dims", "16", "--size-px", "64", "--workers", "1"]
        return farm3d(["prepare-data", str(photographs), "--out", str(self._data), "--category", "toy", *sizes])


@dataclass
class _Asking:
    """Sends signals to a child: the first some time after its training began, each other one when the one before was answered.

    ``at`` is the moment of the last, or when the training began, by :func:`time.monotonic`.
    """

    folder: Path
    signals: tuple[int, ...] = ()
    after_s: float = 0.0
    at: float = field(default=0.0, init=False)

    def __call__(self, child: int) -> None:
        self._wait(child, _BEGUN)
        self.at = time.monotonic()
        for number, sent in enumerate(self.signals):
            if number:
                self._wait(child, _STOPPING)
            else:
                time.sleep(self.after_s)
            self.at = time.monotonic()
            os.kill(child, sent)  # one that has ended waits for us: its number is still its own

    def _wait(self, child: int, words: str) -> None:
        """Wait until the child has printed some words, or has ended."""
        while words not in _told(self.folder) and os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            time.sleep(0.002)


def full_trial(ground: Ground, points: tuple[Point, ...]) -> tuple[str, Outcome]:
    """Let the disk be full, or say no, at the last of these points, after a kill at the one before it; then go on with room.

    Asked of the process that met it: it ends with an OutputError in one line, the checkpoints before are there and whole, and nothing
    temporary is left.
    """
    folder, critic = ground.scratch / "trial", ground.with_critic()
    rows = {"limit": "the disk full within a file (RLIMIT_FSIZE)", "read-only": "a folder that has become read-only"}

    def work(tell: int, point: Point | None) -> None:
        fuse = Fuse(point, folder)
        fuse.lay()
        fuse.at("start")
        ground.toys[critic].train(folder, tell)

    ends = [in_child(lambda tell, point=point: work(tell, point)) for point in points]
    words = _met_well(folder, ends)
    for closed in (folder, folder / "checkpoints"):
        closed.chmod(0o755)
    outcome = ground.judge(folder, ", then ".join(map(str, points)), critic, [*ends, in_child(lambda tell: work(tell, None))])
    words = ", ".join(filter(None, [words, outcome.words]))
    return rows.get(points[-1].deed, "a call that fails: new folder, fsync, rename"), Outcome(outcome.what, critic, words)


def _met_well(folder: Path, ends: list[Ended]) -> str:
    """Return what is wrong with how the last process ended, and with what it left."""
    *before, met = ends
    if any(end.code != -signal.SIGKILL for end in before) or met.code != 2:
        return f"ended with {[end.code for end in ends]} ({met.error})"
    wrong = [] if re.fullmatch(r"OutputError: [^\n]*cannot write[^\n]*", met.error) else [f"said {met.error!r}"]
    warned: list[str] = []
    found = newest_checkpoint(folder / "checkpoints", warn=warned.append, kind=_KIND)
    done = max(end.last for end in ends)
    if found is None or warned or found.step < done - 1:
        wrong += [f"checkpoint {None if found is None else found.step} of {done} ({warned})"]
    if (kept := len(list((folder / "checkpoints").glob("step-*")))) < min(2, done - 1):
        wrong += [f"{kept} checkpoints"]
    return ", ".join([*wrong, *([f"left: {left}"] if (left := leftovers(folder)) else [])])


def pair_trial(ground: Ground, number: int) -> tuple[str, Outcome]:
    """Draw the pictures and train in a fresh process with another hash seed; compare with the uninterrupted run, a fork of this process."""
    critic, folder = ground.with_critic(), ground.scratch / "trial"
    seed, begun = "random" if number % 4 == 3 else str(number), time.monotonic()
    command = [sys.executable, str(Path(__file__).with_name("toy_trainings.py")), str(folder), "--steps", str(ground.steps)]
    command += ["--critic", str(ground.toys[True].prior)] if critic else []
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONHASHSEED": seed})
    same = done.stdout.strip() == hashlib.sha256(ground.wholes[critic][0]).hexdigest()
    shutil.rmtree(folder, ignore_errors=True)
    what = f"PYTHONHASHSEED={seed}, {time.monotonic() - begun:.1f} s"
    return "not at all, in a process of its own with another hash seed", Outcome(
        what, critic, "" if same else f"other weights: {(done.stdout + done.stderr).strip()[-300:]}"
    )


class _Trained(BaseException):
    """The training is over; what comes after it is left out."""


def _leave(*_: object, **__: object) -> None:
    raise _Trained


def _print_to(path: Path) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(handle, stream)


def _out(folder: Path) -> Path:
    return folder / "out.txt"


def _told(folder: Path) -> str:
    return _out(folder).read_text(errors="replace")
