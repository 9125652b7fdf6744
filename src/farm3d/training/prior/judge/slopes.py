"""Sign and size of the score-distillation gradient along a fault: which way, and how hard, the model would change a wrong animal.

At each value p of a fault, summed over random views: ``<x0 - z, dz/dp> / <dz/dp, dz/dp>``, the change of p that explains most of the steps
from the latents z to the model's clean pictures x0. ``<., dz/dp>`` goes through the renderer; ``<dz/dp, dz/dp>`` is a central difference,
which also checks the renderer's gradient. A view in which the fault is hidden so counts for little, as it does in training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from farm3d.core.random import torch_generator
from farm3d.core.shapes import Float, Tensor
from farm3d.diffusion.prior import PicturePrior
from farm3d.training.prior.judge.faults import Case
from farm3d.training.prior.judge.stage import Shot, shoot, shot_of

__all__ = ["GUIDANCES", "RANGES", "Slopes", "crossing", "drawn_at", "slopes_of"]

RANGES = ((0.5, 0.7), (0.7, 0.85), (0.85, 0.97), (0.5, 0.85))
GUIDANCES = (1.0, 3.0, 5.0)
_VIEWS = 4  # at once
_STEP = 0.04  # of the central difference
_NOISES = 2  # for each view and range


@dataclass(frozen=True, eq=False)
class Slopes:
    """Of one fault.

    Attributes:
        values: of p, ``[P]``.
        pulls: ``<x0 - z, dz/dp>``, ``[P, ranges, guidances, draws]``; less than 0 is toward the right animal.
        squares: ``<dz/dp, dz/dp>``, ``[P, draws]``.
        agreement: of the renderer's gradient with central differences: their scalar product over the differences' square, for each batch
            of views; 1 is equal.
    """

    values: tuple[float, ...]
    pulls: np.ndarray
    squares: np.ndarray
    agreement: np.ndarray

    def told(self) -> dict[str, Any]:
        """Return means and standard errors, and where each mean crosses zero on the way from the fault to the right animal."""
        draws = self.pulls.shape[-1]
        whole = self.squares.sum(-1)[:, None, None]
        mean = self.pulls.sum(-1) / whole
        left = self.pulls - mean[..., None] * self.squares[:, None, None]  # of a ratio of sums
        error = np.sqrt((left**2).sum(-1) * draws / max(draws - 1, 1)) / whole
        rows = []
        for i, levels in enumerate(RANGES):
            for j, guidance in enumerate(GUIDANCES):
                found = crossing(self.values, mean[:, i, j])
                rows.append(
                    {
                        "levels": list(levels),
                        "guidance": guidance,
                        "move": mean[:, i, j].tolist(),
                        "error": error[:, i, j].tolist(),
                        "stops_at": found,
                        "way_back": None if found is None else 1 - found,
                    }
                )
        return {"values": list(self.values), "draws": draws, "rows": rows, "gradient_agreement": float(np.median(self.agreement))}


def crossing(values: Sequence[float], moves: Sequence[float] | np.ndarray) -> float | None:
    """Return where one that follows the moves from p = 1 comes to rest: linear between the values; None where it never leaves toward 0.

    Below the least value it is that value: nothing is known beyond.
    """
    order = np.argsort(values)[::-1]
    p, m = np.asarray(values)[order], np.asarray(moves)[order]
    start = int(np.abs(p - 1).argmin())
    if m[start] >= 0:
        return None
    for k in range(start, len(p) - 1):
        if m[k + 1] >= 0:
            return float(p[k] + (p[k + 1] - p[k]) * m[k] / (m[k] - m[k + 1]))
    return float(p[-1])


def drawn_at(
    case: Case, p: Float[Tensor, "B"], shots: Sequence[Shot], *, size_px: int, supersample: int, framed_at: Float[Tensor, "B"] | None = None
) -> tuple[Tensor, Tensor, list[str]]:
    """Return pictures, coverage and captions of a case at B values, each in its shot; differentiable with respect to p.

    The cameras frame the animal at ``framed_at``, by default at p itself, and stand still under the gradient.
    """
    stances = [case.stances[shot.pose % len(case.stances)] for shot in shots]
    right = torch.stack([stance.right for stance in stances])
    wrong = right if case.is_coat else torch.stack([stance.wrong for stance in stances])
    albedo = case.right_albedo[None]
    if case.is_coat:
        albedo = (albedo + p[:, None, None] * (case.wrong_albedo - case.right_albedo)).clamp(0, 1)
    rgb, alpha = shoot(
        right + p[:, None, None] * (wrong - right),
        albedo,
        case.individual.faces,
        shots,
        size_px=size_px,
        supersample=supersample,
        framed_by=None if framed_at is None else right + framed_at[:, None, None] * (wrong - right),
    )
    return rgb, alpha, [case.caption(stance, shot.view) for stance, shot in zip(stances, shots, strict=True)]


def slopes_of(
    prior: PicturePrior,
    cases: Sequence[Case],
    *,
    values: Sequence[float] = (1.25, 1.0, 0.6, 0.3, 0.0, -0.3),
    draws: int = 24,
    seed: int = 0,
    size_px: int = 128,
    supersample: int = 2,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> Slopes:
    """Measure one fault on several animals in turn; views, lights and noise are the same at every value.

    Args:
        prior: the model.
        cases: of one fault.
        values: of p to measure at.
        draws: views at each value, rounded up to a multiple of four.
        seed: of the views and the noise.
        size_px, supersample: of the pictures.
        tell: told how many batches are done, and of how many.
    """
    batches = -(-draws // _VIEWS)
    squares = np.zeros((len(values), batches * _VIEWS))
    found = np.zeros((len(values), len(RANGES), len(GUIDANCES), batches * _VIEWS))
    agreement = []
    size: dict[str, Any] = {"size_px": size_px, "supersample": supersample}
    for batch in range(batches):
        case = cases[batch % len(cases)]
        # one shot in each quarter of the circle: fewer views give the same certainty
        shots = [_in_quarter(shot_of(seed, "slope", case.fault, batch, view), view) for view in range(_VIEWS)]
        for row, value in enumerate(values):
            p = torch.full((_VIEWS,), float(value), requires_grad=True)
            rgb, alpha, words = drawn_at(case, p, shots, **size)
            z = prior.encode(rgb, alpha if prior.draws_alpha else None)
            with torch.no_grad():
                sides = []
                for sign in (1, -1):
                    picture, cover, _ = drawn_at(case, p + sign * _STEP, shots, **size, framed_at=p)
                    sides.append(prior.encode(picture, cover if prior.draws_alpha else None))
                difference = (sides[0] - sides[1]) / (2 * _STEP)
            square = difference.square().flatten(1).sum(1).clamp_min(1e-9)
            (through,) = torch.autograd.grad(z, p, difference, retain_graph=True)
            here = slice(batch * _VIEWS, (batch + 1) * _VIEWS)
            squares[row, here] = square.cpu().numpy()
            agreement.append(float((through.sum() / square.sum()).detach()))
            for i, levels in enumerate(RANGES):
                plain, toward = _steps(prior, z.detach(), words, levels, seed=seed, where=(case.fault, batch, i))
                pulls = [torch.autograd.grad(z, p, part, retain_graph=True)[0] for part in (plain, toward)]
                for j, guidance in enumerate(GUIDANCES):
                    found[row, i, j, here] = (pulls[0] + guidance * pulls[1]).detach().cpu().numpy()
            tell(batch * len(values) + row + 1, batches * len(values))
    return Slopes(tuple(values), found, squares, np.array(agreement))


@torch.no_grad()
def _steps(
    prior: PicturePrior, z: Tensor, words: Sequence[str], levels: tuple[float, float], *, seed: int, where: tuple[str | int, ...]
) -> tuple[Tensor, Tensor]:
    """Return ``x0 - z`` with no guidance at all (scale 0), and what each unit of guidance adds."""
    generator = torch_generator(seed, "slope noise", *where)
    prompts, nothing = prior.embed(words), prior.embed([""])
    plain, toward = torch.zeros_like(z), torch.zeros_like(z)
    for _ in range(_NOISES):
        t = (levels[0] + (levels[1] - levels[0]) * torch.rand(len(z), generator=generator)).to(z)
        noise = torch.randn(z.shape, generator=generator).to(z)
        signal, amount = (part[:, None, None, None] for part in prior.levels(t))
        z_t = signal * z + amount * noise
        asked, silent = (prior.predict_noise(z_t, t, said) for said in (prompts, nothing))
        scale = -amount / signal / _NOISES  # x0 - z = -(noise level / signal level) (eps_hat - eps)
        plain += scale * (silent - noise)
        toward += scale * (asked - silent)
    return plain, toward


def _in_quarter(shot: Shot, quarter: int) -> Shot:
    return Shot((shot.azimuth_deg / 4 + 90 * quarter) % 360, shot.elevation_deg, shot.chance, shot.pose)
