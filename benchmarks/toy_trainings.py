"""Small trainings in forked children, and what is asked of them where they end; what the benchmarks that kill and stop trainings share.

Children are forked from a parent that has imported everything and computed nothing: a trial costs its steps. POSIX only. As a program it
draws the pictures and trains once, in a process of its own, and prints the sha256 of what was learned:

    python benchmarks/toy_trainings.py FOLDER [--steps 22] [--critic PRIOR]
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import importlib
import itertools
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from farm3d.core.errors import Farm3DError
from farm3d.core.memory import keep_freed_memory
from farm3d.diffusion.distill import DistillOptions
from farm3d.diffusion.prior import load_prior
from farm3d.training.category.pictures import PictureSet
from farm3d.training.category.presets import tiny
from farm3d.training.category.trainer import CategoryTrainer, Progress
from farm3d.training.category.virtual_views import Critic, CriticOptions
from farm3d.training.dataset.phrases import critic_prompts

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from tests.testing.tiny_models import tiny_stable_diffusion  # noqa: E402
from tests.testing.toy_category import toy_pictures  # noqa: E402

__all__ = ["CRITIC_FROM", "Ended", "Ground", "Outcome", "Result", "Toy", "evenly", "faults", "in_child", "leftovers", "result_of", "table"]

CRITIC_FROM = 0.1  # of a run of so few steps, so that most of them have a critic's chance in them
_GOLDEN = (5**0.5 - 1) / 2
_OF_CRITICS = {"diffusers": ("AutoencoderKL", "DDIMScheduler", "UNet2DConditionModel"), "transformers": ("CLIPTextModel", "CLIPTokenizer")}
Result = tuple[bytes, list[dict[str, Any]]]
"""The last checkpoint's tensors, and the log without its hours."""


@dataclass(frozen=True, eq=False)
class Toy:
    """What is trained: pictures, steps, and the folder of the text-to-image model that judges, if one does."""

    pictures: PictureSet
    steps: int
    prior: Path | None = None

    def trainer(self, folder: Path, **more: Any) -> CategoryTrainer:
        """Return its training in a state folder."""
        torch.set_num_threads(1)
        run, critic = tiny("toy", channels=self.pictures.features.shape[1], steps=self.steps), None
        if self.prior is not None:
            run = dataclasses.replace(run, schedule=dataclasses.replace(run.schedule, virtual_from=CRITIC_FROM))
            critic = Critic(load_prior(self.prior), critic_prompts("toy", barn=False), CriticOptions(DistillOptions(), t_max_end=0.5))
        return CategoryTrainer(run, self.pictures, folder, critic=critic, **more)

    def train(self, folder: Path, tell: int, **more: Any) -> None:
        """Train, a checkpoint after each step; steps go through the pipe ``tell``, the first being where it began."""

        def report(at: Progress) -> None:
            os.write(tell, f"{at.step}\n".encode())

        trainer = self.trainer(folder, checkpoint_minutes=0.0, report=report, **more)
        os.write(tell, f"{trainer.step}\n".encode())
        trainer.run()


@dataclass(frozen=True)
class Ended:
    """How a child ended.

    Attributes:
        status: as :func:`os.waitpid` gives it.
        first, last: the steps it began at and had done, -1 where it came to none.
        error: what it raised, by kind and in words.
        at: the moment, by :func:`time.monotonic`.
    """

    status: int
    first: int
    last: int
    error: str
    at: float

    @property
    def code(self) -> int:
        """The exit code, or minus the signal that killed it."""
        return os.waitstatus_to_exitcode(self.status)


def in_child(work: Callable[[int], int | None], meanwhile: Callable[[int], None] = lambda child: None) -> Ended:
    """Run ``work`` in a forked child, which is given a pipe to tell steps through, and ``meanwhile``, which is given its number, here.

    The exit code is what ``work`` returns, 0 for None, an error's own if it is one of ours, else 1.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    ear, mouth = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(ear)
            code = work(mouth) or 0
        except Exception as error:  # told through the pipe: to a full disk nothing can be printed
            code = error.exit_code if isinstance(error, Farm3DError) else 1
            os.write(mouth, f"{type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(code)
    os.close(mouth)
    meanwhile(child)  # one that has ended waits for us: its number is still its own
    with os.fdopen(ear) as lines:
        told = lines.read().splitlines()
    status, at = os.waitpid(child, 0)[1], time.monotonic()
    steps = [int(line) for line in told if line.isdecimal()]
    error = "\n".join(line for line in told if not line.isdecimal())
    return Ended(status, steps[0] if steps else -1, steps[-1] if steps else -1, error, at)


def result_of(folder: Path, steps: int) -> Result:
    """Return the last checkpoint's tensors and the log without its hours."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    kept = [{name: value for name, value in line.items() if name != "hours"} for line in lines]
    return (folder / "checkpoints" / f"step-{steps:08d}" / "tensors.safetensors").read_bytes(), kept


def leftovers(folder: Path) -> list[str]:
    """Return what is temporary in a state folder."""
    return sorted(path.name for path in folder.rglob("*") if path.name.startswith(".") or ".part" in path.name)


def faults(folder: Path, steps: int, whole: Result) -> list[str]:
    """Return what is wrong with a training that is over, beside the uninterrupted one."""
    tensors, log = result_of(folder, steps)
    left = leftovers(folder)
    wrong = {"other tensors": tensors != whole[0], "another log": log != whole[1], f"left: {left}": bool(left)}
    return [name for name, is_so in wrong.items() if is_so]


@dataclass(frozen=True)
class Outcome:
    """Of a trial: what was done, with a critic or without, what went wrong in words, and seconds until it had ended, where they count."""

    what: str
    critic: bool
    words: str
    seconds: float | None = None

    @property
    def same(self) -> bool:
        """Whether nothing went wrong, which is to say that the end is the same."""
        return not self.words


class Ground:
    """A scratch folder with pictures and uninterrupted trainings to compare with.

    Args:
        scratch: the folder.
        steps: of each training.
        critic_share: of the trials, in which a critic judges.
    """

    def __init__(self, scratch: Path, steps: int, critic_share: float) -> None:
        self.scratch, self.steps, self._share, self._asked = scratch, steps, critic_share, 0
        scratch.chmod(0o755)  # a child that is nobody must come in, to be refused where it writes
        keep_freed_memory()  # children inherit it, and are a sixth quicker
        _import_what_children_import(critic=critic_share > 0)
        in_child(lambda _: _save_pictures(scratch / "pictures.npz"))
        pictures = _load_pictures(scratch / "pictures.npz")
        self.toys = {False: Toy(pictures, steps)}
        if critic_share > 0:
            in_child(lambda _: _save_prior(scratch / "prior"))
            self.toys[True] = Toy(pictures, steps, scratch / "prior")
        self.wholes: dict[bool, Result] = {}
        self.whole_s: dict[bool, float] = {}
        for critic, toy in self.toys.items():
            folder, begun = scratch / f"whole-{critic}", time.monotonic()
            end = in_child(lambda tell, toy=toy, folder=folder: toy.train(folder, tell))
            if end.status:
                raise RuntimeError(f"the uninterrupted training failed: {end.error}")
            self.wholes[critic], self.whole_s[critic] = result_of(folder, steps), end.at - begun
        if critic_share > 0 and self.wholes[True][0] == self.wholes[False][0]:
            raise RuntimeError("the critic changed nothing: trials with it would prove nothing")

    def with_critic(self) -> bool:
        """Say whether the next trial is one with a critic: its share of them, spread in step with nothing else that alternates."""
        self._asked += 1
        return self._asked * _GOLDEN % 1 < self._share

    def judge(self, folder: Path, what: str, critic: bool, ends: list[Ended], words: str = "") -> Outcome:
        """Compare a training that one process after the other worked at with the uninterrupted one, and remove it."""
        # A step counts as done when it is told, which is before its checkpoint: the step at work may be lost, and no more.
        lost = max((before.last - after.first for before, after in itertools.pairwise(ends) if after.first >= 0), default=0)
        if not words and ends[-1].status:
            words = f"would not go on ({ends[-1].error or ends[-1].code})"
        if not words:
            words = ", ".join([*faults(folder, self.steps, self.wholes[critic]), *([f"{lost} steps lost"] if lost > 1 else [])])
        shutil.rmtree(folder, ignore_errors=True)
        return Outcome(what, critic, words)


def evenly(trials: list[Any], count: int) -> list[Any]:
    """Return at most ``count`` of some trials, evenly taken."""
    count = min(count, len(trials))
    return [trials[round(place)] for place in np.linspace(0, len(trials) - 1, count)]


def table(rows: Mapping[str, list[Outcome]]) -> str:
    """Return a Markdown table, a row a kind of trial."""
    lines = ["| stopped | times | with a critic | the same to the last bit | seconds to the end, at most |", "|---|--:|--:|--:|--:|"]
    for name, outcomes in rows.items():
        seconds = [outcome.seconds for outcome in outcomes if outcome.seconds is not None]
        numbers = (len(outcomes), sum(outcome.critic for outcome in outcomes), sum(outcome.same for outcome in outcomes))
        lines.append(f"| {name} | {' | '.join(map(str, numbers))} | {f'{max(seconds):.2f}' if seconds else ''} |")
    return "\n".join(lines)


def _import_what_children_import(*, critic: bool) -> None:
    """Import here, once, what a child would import when it comes to it, a second each time."""
    torch.optim.Adam([torch.zeros(1)])
    if critic:
        for library, names in _OF_CRITICS.items():  # which import a class's module when it is asked for
            for name in names:
                getattr(importlib.import_module(library), name)


def _save_prior(folder: Path) -> None:
    torch.set_num_threads(1)
    tiny_stable_diffusion(folder, prompt_tokens=160)  # so many that the words of its prompts have room
    for path in folder.rglob("*"):  # weights are written for their owner alone
        path.chmod(0o755 if path.is_dir() else 0o644)


def _save_pictures(path: Path) -> None:
    torch.set_num_threads(1)
    pictures = toy_pictures()
    values = {name: getattr(pictures, name) for name in ("rgb", "mask", "features", "scale", "views")}
    np.savez(path, **values, names=np.array(pictures.names), digest=np.array(pictures.digest))


def _load_pictures(path: Path) -> PictureSet:
    with np.load(path) as values:
        pictures, facts = (values["rgb"], values["mask"], values["features"]), (values["scale"], values["views"])
        return PictureSet(*pictures, *facts, tuple(values["names"].tolist()), str(values["digest"]))


def main() -> int:
    """Train once and print the sha256 of what was learned."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="for checkpoints and log")
    parser.add_argument("--steps", type=int, default=22)
    parser.add_argument("--critic", type=Path, default=None, help="folder of a text-to-image model that judges")
    options = parser.parse_args()
    torch.set_num_threads(1)
    Toy(toy_pictures(), options.steps, options.critic).trainer(options.folder).run()
    print(hashlib.sha256(result_of(options.folder, options.steps)[0]).hexdigest())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
