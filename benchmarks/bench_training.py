"""Where the time of a training step goes: CPU time by part, for a preset early, late, and at 128 px with every step judged.

    python benchmarks/bench_training.py [--preset embedded] [--steps 16] [--threads 1] [--out benchmarks/results/training.json]

Twenty-four pictures of a drawn quadruped with seeded features stand for a data set: what they show hardly matters for the time. The critic
is the shipped text-to-image prior. Each case begins with fresh weights at a step of its phase, so the shape is the ellipsoid that training
begins with. Parts are timed by wrapping functions; time within a part that has a row of its own counts there alone. CPU time is that of the
process (:func:`time.process_time`) and means little more than its name on more than one thread; wall time is only worth something on a
machine that does nothing else, and the load at the start is written beside it.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import functools
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from farm3d.core.files import write_whole
from farm3d.core.random import numpy_generator
from farm3d.diffusion.distill import FOR_EMBEDDED
from farm3d.diffusion.prior import load_prior
from farm3d.model.category.model import CategoryModel
from farm3d.model.category.networks import PictureReader
from farm3d.model.fields import FeatureField
from farm3d.render import _fast
from farm3d.training.category import step, trainer, virtual_views
from farm3d.training.category.pictures import PictureSet
from farm3d.training.category.presets import PRESETS
from farm3d.training.category.trainer import CategoryTrainer, Run
from farm3d.training.category.virtual_views import Critic, CriticOptions
from farm3d.training.dataset.phrases import critic_prompts

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from tests.testing.toy_category import toy_pictures  # noqa: E402

PRIOR = REPOSITORY / "src" / "farm3d" / "weights" / "embedded_prior"
_LOSSES = (
    *("mask_loss", "missing_loss", "feature_loss", "colour_loss", "score_loss", "inside_distances"),
    *("thin_loss", "thin_parts", "gap_loss", "gaps"),
    *("view_loss", "volume_loss", "ripple_loss", "articulation_loss", "deformation_loss"),
)
_KERNELS = (_fast._Rasterize, _fast._Interpolate, _fast._Antialias, _fast._RenderAttributes)
_PARTS: tuple[tuple[str, tuple[tuple[Any, str], ...]], ...] = (
    ("data", ((PictureSet, "batch"),)),
    ("scaffold, one step in eight", ((trainer, "make_scaffold"),)),
    ("rest shape and skin", ((step, "rest_shape"),)),
    ("reading pictures", ((PictureReader, "forward"),)),
    ("deformation, pose, skinning", ((CategoryModel, "individuals"),)),
    ("features, albedo and light of the field", ((FeatureField, "forward"), (CategoryModel, "colours"), (CategoryModel, "lights"))),
    ("drawing", ((step, "render_attributes"),)),
    ("losses", tuple((step, name) for name in _LOSSES)),
    ("eikonal", ((step, "eikonal_loss"),)),
    ("rest of the reconstruction", ((trainer, "reconstruction_step"),)),
    ("virtual views: drawing", ((virtual_views, "render"),)),
    ("virtual views: the critic, forward", ((virtual_views, "distill"),)),
    ("virtual views: the rest", ((Critic, "judge"),)),
    ("backward: drawing", tuple((kernel, "backward") for kernel in _KERNELS)),
    ("backward: networks, critic and the rest", ((torch.Tensor, "backward"),)),
    ("clipping and Adam", ((nn.utils, "clip_grad_norm_"), (torch.optim.Adam, "step"))),
)
REST = "everything else"


class Clock:
    """CPU seconds by part; a part within another counts in its own row."""

    def __init__(self) -> None:
        self.cpu_s: dict[str, float] = defaultdict(float)
        self._inner: list[float] = []

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with its time added to a part."""

        @functools.wraps(function)
        def wrapper(*rest: Any, **more: Any) -> Any:
            self._inner.append(0.0)
            begun = time.process_time()
            try:
                return function(*rest, **more)
            finally:
                taken = time.process_time() - begun
                self.cpu_s[part] += taken - self._inner.pop()
                if self._inner:
                    self._inner[-1] += taken

        return wrapper

    def wrap(self) -> None:
        """Put the wrappers in place."""
        for part, places in _PARTS:
            for owner, name in places:
                wrapper = self.timed(part, getattr(owner, name))
                setattr(owner, name, staticmethod(wrapper) if owner in _KERNELS else wrapper)


def pictures_of(channels: int = 64, size_px: int = 128) -> PictureSet:
    """Return the toy pictures at the size of a data set, with as many feature channels."""
    toy = toy_pictures()
    rgb, mask = (
        functional.interpolate(torch.from_numpy(a).float(), (size_px, size_px)).byte().numpy() for a in (toy.rgb, toy.mask[:, None])
    )
    shape = (len(toy), channels, *toy.features.shape[2:])
    features = numpy_generator(0, "features").standard_normal(shape).astype(np.float16)
    return PictureSet(rgb, mask[:, 0], features, np.ones(channels, np.float32), toy.views, toy.names, "bench")


def cases(preset: str) -> dict[str, tuple[Run, float]]:
    """Return by name what is trained, and at which share of the run."""
    run = PRESETS[preset]("horse", channels=64)
    large = dataclasses.replace(run.schedule, size_late=128, batch_late=4, virtual_every=1)
    early, late = run.schedule.at(run.schedule.steps // 5), run.schedule.at(run.schedule.steps * 9 // 10)
    return {
        f"early: {early.size_px} px, batch {early.batch}, all hypotheses": (run, 0.2),
        f"late: {late.size_px} px, batch {late.batch}, one step in {run.schedule.virtual_every} judged": (run, 0.9),
        "128 px, batch 4, every step judged": (dataclasses.replace(run, schedule=large), 0.9),
    }


def measure(run: Run, share: float, critic: Critic, pictures: PictureSet, clock: Clock, *, steps: int) -> dict[str, Any]:
    """Return what a step took on average, in milliseconds, after two steps that do not count."""
    with tempfile.TemporaryDirectory() as folder:
        training = CategoryTrainer(run, pictures, Path(folder), critic=critic)
        training.step = int(run.schedule.steps * share) // 8 * 8 - 2
        for _ in range(2):
            training.one_step()
        clock.cpu_s.clear()
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(steps):
            training.one_step()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        parts = {name: 1000 * clock.cpu_s[name] / steps for name, _ in _PARTS}
        parts[REST] = 1000 * cpu / steps - sum(parts.values())
        assert training.scaffold is not None
        faces = len(training.scaffold.crossings.faces)
    return {"cpu_ms": 1000 * cpu / steps, "wall_ms": 1000 * wall / steps, "faces": faces, "parts_cpu_ms": parts}


def table(results: dict[str, dict[str, Any]]) -> str:
    """Return the figures as a Markdown table."""
    columns = list(results.values())
    lines = ["| CPU ms a step | " + " | ".join(results) + " |", "|---|" + "--:|" * len(results)]
    for name in columns[0]["parts_cpu_ms"]:
        lines.append(f"| {name} | " + " | ".join(f"{each['parts_cpu_ms'][name]:.0f}" for each in columns) + " |")
    lines.append("| **all, CPU** | " + " | ".join(f"**{each['cpu_ms']:.0f}**" for each in columns) + " |")
    lines.append("| all, on the clock | " + " | ".join(f"{each['wall_ms']:.0f}" for each in columns) + " |")
    lines.append("| triangles | " + " | ".join(str(each["faces"]) for each in columns) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure all cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=("embedded", "wide"), default="embedded")
    parser.add_argument("--steps", type=int, default=16, help="counted in each case; a multiple of 8, the scaffold's period")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--out", type=Path, default=None, help="JSON file to write")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    load = os.getloadavg()[0]
    prior = load_prior(str(PRIOR))
    critic = Critic(prior, critic_prompts("horse", barn=True), CriticOptions(FOR_EMBEDDED))  # as `farm3d train --prior` asks this prior
    pictures, clock, results = pictures_of(), Clock(), {}
    clock.wrap()
    for name, (run, share) in cases(options.preset).items():
        results[name] = measure(run, share, critic, pictures, clock, steps=options.steps)
        print(f"{name}: {results[name]['cpu_ms']:.0f} ms CPU, {results[name]['wall_ms']:.0f} ms", file=sys.stderr, flush=True)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True).stdout.strip()
    facts = {
        "date": datetime.date.today().isoformat(),
        "commit": commit,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {options.threads} torch thread(s), load {load:.1f} at the start",
        "torch": torch.__version__,
        "preset": options.preset,
        "steps": options.steps,
    }
    print(f"{table(results)}\n\n{facts}")
    if options.out is not None:
        write_whole(options.out, json.dumps({**facts, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
