"""What is trained when, how long, and how fast: three phases, or the last alone, and a budget in hours or in pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass

from farm3d.core.errors import InputError

__all__ = ["CONTINUED", "PHASES", "Budget", "Phase", "average_keep", "learning_rate"]

_WARM_UP_STEPS, _WARM_UP_SHARE = 60, 0.1
_AVERAGE_POWER = 16.97


@dataclass(frozen=True)
class Phase:
    """One phase of training.

    Attributes:
        name: ``words``: the text encoder learns the mean picture; ``decoder``: the decoder learns to mend latents; ``denoiser``: the
            denoiser and the text encoder learn the velocity.
        share: of a budget in hours.
        pictures: shown, for each picture of a budget in pictures.
        batch: pictures in a step.
        rate: highest learning rate.
    """

    name: str
    share: float
    pictures: float
    batch: int
    rate: float


PHASES = (
    Phase("words", 0.08, 1.0, 64, 1.5e-3),
    Phase("decoder", 0.07, 0.12, 16, 1e-3),
    Phase("denoiser", 0.85, 1.0, 16, 7e-4),
)
# Of a model that is trained already. Transform, decoder and statistics stay, so its latents mean the same. Not the full rate again: what
# was learned at the end of the first cosine would be lost. A larger batch, because a fifth of a step of 16 does not depend on its pictures.
CONTINUED = (Phase("denoiser", 1.0, 1.0, 32, 5e-4),)


@dataclass(frozen=True)
class Budget:
    """How long to train: hours of wall time, or pictures shown to the denoiser, which makes the result independent of the clock.

    Raises:
        InputError: neither or both are given, or one that is not above zero.
    """

    hours: float | None = None
    samples: int | None = None

    def __post_init__(self) -> None:
        if (self.hours is None) == (self.samples is None):
            raise InputError("give a budget: either hours or samples")
        if not (self.hours is None or 0 < self.hours < math.inf) or not (self.samples is None or self.samples > 0):
            raise InputError(f"a budget of {self.hours if self.samples is None else self.samples}: expected more than 0")

    def steps(self, phase: Phase) -> int | None:
        """Return the steps of a phase, or None where the clock decides."""
        return None if self.samples is None else max(math.ceil(self.samples * phase.pictures / phase.batch), 1)

    def progress(self, phase: Phase, *, step: int, seconds: float) -> float:
        """Return how much of a phase is done, from 0 to 1, after ``step`` steps and ``seconds``."""
        steps = self.steps(phase)
        done = step / steps if steps is not None else seconds / ((self.hours or 0.0) * 3600 * phase.share)
        return min(done, 1.0)

    def words(self) -> str:
        """Say it: "2.5 hours", "40000 pictures"."""
        return f"{self.hours:g} hours" if self.samples is None else f"{self.samples} pictures"


def learning_rate(phase: Phase, *, step: int, progress: float) -> float:
    """Return the rate of a step (from 0): up over 60 steps, or a tenth of a short phase, and down along a cosine to zero at its end."""
    rise = max((step + 1) / _WARM_UP_STEPS, progress / _WARM_UP_SHARE)
    return phase.rate * min(rise, 1.0) * 0.5 * (1 + math.cos(math.pi * progress))


def average_keep(step: int, *, every: int) -> float:
    """Return what share of the average to keep at a step (from 1) that is a multiple of ``every``.

    The average reaches back over a fixed part of the training so far, about a twentieth (Karras et al. 2024, "Analyzing and Improving the
    Training Dynamics of Diffusion Models", section 3.1): it needs no tuning to the length of a run.
    """
    return ((step - every) / step) ** (_AVERAGE_POWER + 1)
