"""Mending a fault by one number: p starts at 1, the fault, and follows the score-distillation gradient through the renderer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from farm3d.core.random import torch_generator
from farm3d.diffusion.distill import DistillOptions, distill
from farm3d.diffusion.prior import PicturePrior
from farm3d.training.prior.judge.faults import Case
from farm3d.training.prior.judge.slopes import drawn_at
from farm3d.training.prior.judge.stage import shot_of

__all__ = ["Mended", "Setting", "mend"]

_LAST = 0.2  # share of the steps whose mean is the result


@dataclass(frozen=True)
class Setting:
    """How the model is asked.

    Attributes:
        levels: noise levels, from and to.
        guidance: of classifier-free guidance.
        weighting: one of :data:`farm3d.diffusion.distill.WEIGHTINGS`.
    """

    levels: tuple[float, float]
    guidance: float
    weighting: str = "1-alphabar"

    @property
    def options(self) -> DistillOptions:
        """The same for :func:`farm3d.diffusion.distill.distill`."""
        return DistillOptions(self.levels[0], self.levels[1], self.guidance, self.weighting)  # pyright: ignore[reportArgumentType]

    @property
    def name(self) -> str:
        """For tables: no two settings share one."""
        return f"t {self.levels[0]:g}–{self.levels[1]:g}, guidance {self.guidance:g}, weighting {self.weighting}"

    def told(self) -> dict[str, Any]:
        """Return the same for a report."""
        return {"levels": list(self.levels), "guidance": self.guidance, "weighting": self.weighting}

    @classmethod
    def of_told(cls, row: Mapping[str, Any]) -> Setting:
        """Return the setting that a row of a report tells."""
        return cls((row["levels"][0], row["levels"][1]), row["guidance"], row["weighting"])


@dataclass(frozen=True, eq=False)
class Mended:
    """One run.

    Attributes:
        path: p after each step, ``[steps]``.
    """

    path: np.ndarray

    @property
    def value(self) -> float:
        """The mean of p over the last fifth of the steps."""
        return float(self.path[-max(int(len(self.path) * _LAST), 1) :].mean())

    @property
    def way_back(self) -> float:
        """Share of the way from the fault to the right animal: 1 is all of it, less than 0 is away from it."""
        return 1 - self.value


def mend(
    prior: PicturePrior,
    case: Case,
    settings: Sequence[Setting],
    *,
    steps: int,
    rate: float = 0.06,
    seed: int = 0,
    size_px: int = 128,
    supersample: int = 2,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> list[Mended]:
    """Mend a case with several settings at once; all see the same view, light and noise at each step.

    Args:
        prior: the model.
        case: what is wrong.
        settings: that are compared.
        steps: of one random view each.
        rate: largest step of p, which falls to a third in the end.
        seed: of views and noise.
        size_px, supersample: of the pictures.
        tell: told how many steps are done, and of how many.
    """
    p = torch.ones(len(settings), requires_grad=True)
    optimizer = torch.optim.Adam([p], lr=rate, betas=(0.9, 0.99))
    path = []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * (1 - step / steps * 2 / 3)
        shots = [shot_of(seed, "mend", case.fault, step)] * len(settings)
        rgb, alpha, words = drawn_at(case, p, shots, size_px=size_px, supersample=supersample)
        prompts = prior.embed(words[:1])
        losses = []
        for number, setting in enumerate(settings):
            one = slice(number, number + 1)
            generator = torch_generator(seed, "mend noise", case.fault, step)
            cover = alpha[one] if prior.draws_alpha else None
            losses.append(distill(prior, rgb[one], prompts, generator=generator, options=setting.options, alpha=cover).loss.sum())
        optimizer.zero_grad()
        torch.stack(losses).sum().backward()
        optimizer.step()
        path.append(p.detach().numpy().copy())
        tell(step + 1, steps)
    return [Mended(np.stack(path)[:, number]) for number in range(len(settings))]
