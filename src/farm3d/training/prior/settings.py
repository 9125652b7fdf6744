"""What a training is told, and what must not change when it goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from farm3d.core.errors import InputError
from farm3d.diffusion.embedded.config import PRESETS
from farm3d.training.prior.schedule import Budget

__all__ = ["Settings", "check_unchanged", "quicker_dtype"]


@dataclass(frozen=True)
class Settings:
    """Of one training.

    Attributes:
        size: a preset of :mod:`farm3d.diffusion.embedded.config`.
        budget: how long.
        seed: of weights, order and chance.
        dtype: that the denoiser computes in.
        workers: that share each step, 1 or 2. Two are a third quicker than one with twice the threads; the result is the same.
        checkpoint_minutes, grid_minutes: between checkpoints, and between validations with sample grids.
        log_every: steps between lines of the log.
        start: digest of the model whose training goes on; None for a new one.

    Raises:
        InputError: no such size.
    """

    size: str
    budget: Budget
    seed: int = 0
    dtype: torch.dtype = torch.float32
    workers: int = 1
    checkpoint_minutes: float = 10.0
    grid_minutes: float = 15.0
    log_every: int = 20
    start: str | None = None

    def __post_init__(self) -> None:
        if self.size not in PRESETS:
            raise InputError(f"no size '{self.size}'", hint=f"sizes: {', '.join(PRESETS)}")
        if self.workers not in (1, 2):
            raise InputError(f"{self.workers} workers: expected 1 or 2")

    def facts(self, *, pictures: str) -> dict[str, Any]:
        """Return what decides the result, for a checkpoint; ``pictures`` is the digest of the data."""
        return {
            "size": self.size,
            "hours": self.budget.hours,
            "samples": self.budget.samples,
            "seed": self.seed,
            "dtype": str(self.dtype).removeprefix("torch."),
            "pictures": pictures,
            "from": self.start,
            "threads": max(torch.get_num_threads() // self.workers, 1),
            "torch": torch.__version__,
        }


def check_unchanged(there: Mapping[str, Any], here: Mapping[str, Any], *, warn: Callable[[str], None]) -> None:
    """Compare the settings of a checkpoint with those of now.

    Args:
        warn: told, a line each, of changes after which numbers differ in the last digits: threads and torch's version.

    Raises:
        InputError: naming a setting that would make it another training.
    """
    for name, value in here.items():
        if there.get(name) == value:
            continue
        if name in ("threads", "torch"):
            warn(f"{name} was {there.get(name)} and is {value}: the numbers will not be those of an uninterrupted run to the last digit")
        else:
            raise InputError(
                f"the training in the state folder has {name} {there.get(name)}, asked for is {value}",
                hint="go on with the same, or choose another --state folder",
            )


def quicker_dtype() -> torch.dtype:
    """Return bfloat16 where this processor multiplies matrices of the denoiser's size clearly quicker in it, else float32."""
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        a, b = torch.ones(1024, 384, dtype=dtype), torch.ones(384, 1536, dtype=dtype)
        times = []
        for _ in range(5):
            begin = time.perf_counter()
            torch.mm(a, b)
            times.append(time.perf_counter() - begin)
        seconds[dtype] = min(times)
    return torch.bfloat16 if seconds[torch.bfloat16] < 0.7 * seconds[torch.float32] else torch.float32
