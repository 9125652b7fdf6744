"""Mending a fault with no handle on it: every vertex, or every vertex's colour, is free, and only neighbours hold on to each other.

What a model achieves so is bounded by what can be achieved: an ``oracle`` that wants, in each view, the picture of the right animal itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import factorized

from farm3d.core.random import torch_generator
from farm3d.core.shapes import Float, Int, Tensor
from farm3d.diffusion.distill import distill
from farm3d.diffusion.prior import PicturePrior
from farm3d.training.prior.judge.faults import Case, Stance
from farm3d.training.prior.judge.mending import Setting
from farm3d.training.prior.judge.stage import Shot, shoot, shot_of

__all__ = ["Freed", "Smoother", "free_mend"]

_STIFF, _SOFT = 100.0, 10.0  # weight of the neighbours, for shape and colour
_RATE = 0.06  # root mean square of a step, of the fault's own
_MEMORY = (0.9, 0.98)
_MATTERS = 0.25  # of the fault's largest size: where its vertices count as wrong


class Smoother:
    """Solves ``(I + weight L) x = b`` on a surface's vertices, L the graph's Laplacian: twice is the smoothing of Nicolet et al. (2021).

    Args:
        faces: triangles.
        count: of vertices.
        weight: how far a vertex holds its neighbours, in edges squared.
    """

    def __init__(self, faces: Int[Tensor, "F 3"], count: int, weight: float) -> None:
        corners = faces.long().cpu().numpy()
        pairs = np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [2, 0]]])
        ones = np.ones(len(pairs))
        links = sparse.coo_matrix((ones, (pairs[:, 0], pairs[:, 1])), shape=(count, count))
        links = ((links + links.T) > 0).astype(np.float64)
        laplacian = sparse.diags(np.asarray(links.sum(1)).ravel()) - links
        self._solve = factorized((sparse.identity(count) + weight * laplacian).tocsc())

    def __call__(self, values: Float[Tensor, "V C"]) -> Float[Tensor, "V C"]:
        """Return the values smoothed twice."""
        columns = [self._solve(self._solve(column)) for column in values.detach().double().cpu().numpy().T]
        return torch.from_numpy(np.stack(columns, 1)).to(values)


@dataclass(frozen=True, eq=False)
class Freed:
    """One run.

    Attributes:
        path: share of the way back after each step, ``[steps]``: the change so far along (right - wrong), 1 is all of it.
        remaining: root mean square distance to the right animal at the vertices that were wrong, over that at the start.
        disturbed: root mean square change of the vertices that were right, over the fault's at those that were wrong.
        values: vertices or albedo in the end, ``[V, 3]``.
    """

    path: np.ndarray
    remaining: float
    disturbed: float
    values: Tensor

    @property
    def way_back(self) -> float:
        """Share of the way back in the end."""
        return float(self.path[-1])

    def told(self) -> dict[str, Any]:
        """Return the figures."""
        return {"way_back": self.way_back, "remaining": self.remaining, "disturbed": self.disturbed, "path": self.path.tolist()}


def free_mend(
    prior: PicturePrior,
    case: Case,
    setting: Setting,
    *,
    steps: int,
    views: int = 2,
    oracle: bool = False,
    seed: int = 0,
    size_px: int = 128,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> Freed:
    """Mend a case in its first stance with free vertices (or colours); the gradient is smoothed, and its root mean square sets the step.

    Args:
        prior: the model.
        case: what is wrong.
        setting: how the model is asked.
        steps, views: of the descent, and random views in each.
        oracle: follow the way to the right animal's own pictures in the model's latents, not what the model says.
        seed: of views and noise.
        size_px: of the pictures.
        tell: told how many steps are done, and of how many.
    """
    stance = case.stances[0]
    right, wrong = (case.right_albedo, case.wrong_albedo) if case.is_coat else (stance.right, stance.wrong)
    way = right - wrong
    length = way.norm(dim=1)
    matters = length > _MATTERS * length.max()
    smooth = Smoother(case.individual.faces, len(wrong), _SOFT if case.is_coat else _STIFF)
    values, mean, square = wrong.clone(), torch.zeros_like(wrong), 0.0
    path = []
    for step in range(steps):
        shots = [_in_half(shot_of(seed, "free", case.fault, step, view), view, views) for view in range(views)]
        moving = values.clone().requires_grad_()
        loss = _loss(prior, case, stance, moving, shots, setting, oracle=oracle, seed=seed, step=step, size_px=size_px)
        (gradient,) = torch.autograd.grad(loss, moving)
        gradient = smooth(gradient)
        mean = torch.lerp(gradient, mean, _MEMORY[0])
        square = _MEMORY[1] * square + (1 - _MEMORY[1]) * float(gradient.square().mean())
        first, second = 1 - _MEMORY[0] ** (step + 1), 1 - _MEMORY[1] ** (step + 1)
        rate = _RATE * float(way.square().mean().sqrt()) * (1 - step / steps * 2 / 3)
        values = values - rate * (mean / first) / max((square / second) ** 0.5, 1e-12)
        if case.is_coat:
            values = values.clamp(0.004, 0.8)
        path.append(float(((values - wrong) * way).sum() / way.square().sum().clamp_min(1e-12)))
        tell(step + 1, steps)
    fault = way[matters].square().sum(1).mean().sqrt()
    remaining = (values - right)[matters].square().sum(1).mean().sqrt() / fault
    disturbed = (values - wrong)[~matters].square().sum(1).mean().sqrt() / fault if bool((~matters).any()) else torch.zeros(())
    return Freed(np.array(path), float(remaining), float(disturbed), values)


def _loss(
    prior: PicturePrior,
    case: Case,
    stance: Stance,
    values: Tensor,
    shots: list[Shot],
    setting: Setting,
    *,
    oracle: bool,
    seed: int,
    step: int,
    size_px: int,
) -> Tensor:
    faces, masked = case.individual.faces, prior.draws_alpha
    surface = (stance.right if case.is_coat else values).expand(len(shots), -1, -1)
    albedo = (values if case.is_coat else case.right_albedo)[None]
    rgb, alpha = shoot(surface, albedo, faces, shots, size_px=size_px)
    if oracle:
        with torch.no_grad():
            right = stance.right.expand(len(shots), -1, -1)
            picture, cover = shoot(right, case.right_albedo[None], faces, shots, size_px=size_px, framed_by=surface)
            wanted = prior.encode(picture, cover if masked else None)
        return (prior.encode(rgb, alpha if masked else None) - wanted).square().sum() / 2
    prompts = prior.embed([case.caption(stance, shot.view) for shot in shots])
    generator = torch_generator(seed, "free noise", case.fault, step)
    return distill(prior, rgb, prompts, generator=generator, options=setting.options, alpha=alpha if masked else None).loss.mean()


def _in_half(shot: Shot, part: int, parts: int) -> Shot:
    return Shot((shot.azimuth_deg / parts + 360 / parts * part) % 360, shot.elevation_deg, shot.chance, shot.pose)
