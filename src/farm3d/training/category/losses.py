"""The losses of section 3 as pure functions: each takes pictures of N individuals and returns one number for each."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch.nn import functional

from farm3d.core.shapes import Float, Int, Tensor
from farm3d.geometry.surface import enclosed_volume
from farm3d.geometry.tetrahedra import START_RADIUS, START_STRETCH
from farm3d.model.fields import ShapeField

__all__ = [
    "articulation_loss",
    "colour_loss",
    "coverage_loss",
    "deformation_loss",
    "eikonal_loss",
    "feature_loss",
    "gap_loss",
    "gaps",
    "inside_distances",
    "mask_loss",
    "missing_loss",
    "outside_distances",
    "outside_loss",
    "ripple_loss",
    "score_loss",
    "silhouette_points",
    "thin_loss",
    "thin_parts",
    "view_loss",
    "volume_loss",
]

_START_VOLUME = 4 / 3 * math.pi * START_RADIUS**3 * math.prod(START_STRETCH)  # of the ellipsoid that fields begin as
_QUARTER_RIB = 0.12  # canonical units; ribs of learned animals are .49 apart
_THIN_SHARE = 0.035  # half of the width, in sides of the picture, up to which a part is thin: 5 of 64 px, 7 of 96


def mask_loss(mask: Float[Tensor, "N S S"], target: Float[Tensor, "N S S"]) -> Float[Tensor, "N"]:
    """Mean squared difference of coverage, over all pixels."""
    return (mask - target).square().mean((1, 2))


def missing_loss(mask: Float[Tensor, "N S S"], inside: Float[Tensor, "N S S"]) -> Float[Tensor, "N"]:
    """Mean of what is not covered of the silhouette, by its distance to the background (section 3: mask inv-DT).

    Args:
        inside: distance to the background within the silhouette, as a share of the picture's side (256 px / 256 in the paper).
    """
    return ((1 - mask) * inside).mean((1, 2))


def inside_distances(target: Float[Tensor, "N S S"]) -> Float[Tensor, "N S S"]:
    """Return the distance to the background within each silhouette, as a share of the picture's side; 0 outside."""
    inside = [distance_transform_edt((one > 0.5).cpu().numpy()) for one in target]
    return torch.stack([torch.as_tensor(one) for one in inside]).to(target) / target.shape[-1]


def outside_loss(pixels: Float[Tensor, "N V 2"], outside: Float[Tensor, "N S S"]) -> Float[Tensor, "N"]:
    """Mean over the vertices of their distance to the silhouette, as a share of the picture's side; 0 within it. Ours.

    A limb that is drawn where nothing of the animal is costs as much a little to its left as to its right, by coverage; so nothing turns
    it back. By distance it is drawn home.

    Args:
        pixels: the vertices in the picture, pixels.
        outside: of :func:`outside_distances`.
    """
    at = pixels * (2 / outside.shape[-1]) - 1
    return functional.grid_sample(outside[:, None], at[:, None], padding_mode="border", align_corners=False)[:, 0, 0].mean(-1)


def outside_distances(target: Float[Tensor, "N S S"]) -> Float[Tensor, "N S S"]:
    """Return the distance to each silhouette outside of it, as a share of the picture's side; 0 within it, and everywhere without one."""
    away = [distance_transform_edt((one <= 0.5).cpu().numpy()) if bool((one > 0.5).any()) else np.zeros(one.shape) for one in target]
    return torch.stack([torch.as_tensor(one) for one in away]).to(target) / target.shape[-1]


def coverage_loss(pixels: Float[Tensor, "N V 2"], points: Float[Tensor, "N P 2"], *, size_px: int) -> Float[Tensor, "N"]:
    """Mean distance from points of the silhouette to the nearest vertex, beyond one pixel, as a share of the picture's side. Ours.

    What lies away from everything that was drawn has no say in coverage; here it pulls at what is nearest, across a gap of any width.
    Only to be asked of poses: a surface that may move is drawn out into threads by it.

    Args:
        pixels: the vertices in the picture, pixels.
        points: of :func:`silhouette_points`, pixels.
    """
    with torch.no_grad():
        nearest = torch.cdist(points, pixels).argmin(-1)
    matched = torch.gather(pixels, 1, nearest[..., None].expand(-1, -1, 2))
    distance = (matched - points).square().sum(-1).add(1e-4).sqrt()
    return (distance - 1).clamp_min(0).mean(-1) / size_px  # vertices are a grid of points: within a pixel of one is covered


def silhouette_points(target: Float[Tensor, "N S S"], *, count: int = 160) -> Float[Tensor, "N P 2"]:
    """Return the centres of ``count`` pixels of each silhouette, spread evenly over it, in pixels; of its middle where it is empty."""
    chosen = []
    for one in target:
        rows, columns = torch.nonzero(one > 0.5, as_tuple=True)
        if not len(rows):
            rows = columns = rows.new_full((1,), len(one) // 2)
        take = torch.linspace(0, len(rows) - 1, count, device=one.device).round().long()
        chosen.append(torch.stack([columns[take], rows[take]], -1) + 0.5)
    return torch.stack(chosen).to(target)


def thin_loss(mask: Float[Tensor, "N S S"], thin: Float[Tensor, "N S S"]) -> Float[Tensor, "N"]:
    """Mean of what is not covered of a silhouette's thin parts. Ours.

    A leg that swings is seldom where the rest shape has it. By coverage alone a place is worth having from half of the pictures on, and
    :func:`missing_loss` counts thin parts least of all; so such legs are taken for nothing, or end half way down.

    Args:
        mask: what was drawn.
        thin: of :func:`thin_parts`.
    """
    return ((1 - mask) * thin).mean((1, 2))


def thin_parts(target: Float[Tensor, "N S S"]) -> Float[Tensor, "N S S"]:
    """Return what opening a silhouette by a small square takes off it: legs, tails, ears, and bits of its edge."""
    side = 2 * round(_THIN_SHARE * target.shape[-1]) + 1
    worn = -functional.max_pool2d(-target[:, None], side, 1, side // 2)
    return (target - functional.max_pool2d(worn, side, 1, side // 2)[:, 0]).clamp(0, 1)


def gap_loss(mask: Float[Tensor, "N S S"], between: Float[Tensor, "N S S"]) -> Float[Tensor, "N"]:
    """Mean of what is covered between a silhouette's parts. Ours; the counterpart of :func:`thin_loss`.

    What covers every place where a leg or a tail may be is right about most of its pixels; only the gaps between parts tell that it is
    not one broad part.

    Args:
        mask: what was drawn.
        between: of :func:`gaps`.
    """
    return (mask * between).mean((1, 2))


def gaps(target: Float[Tensor, "N S S"]) -> Float[Tensor, "N S S"]:
    """Return what closing a silhouette by a small square adds to it: what lies between legs, before the tail, and bits beside its edge."""
    return thin_parts(1 - target)  # opening what lies around it closes it


def feature_loss(
    drawn: Float[Tensor, "N C S S"], mask: Float[Tensor, "N S S"], seen: Float[Tensor, "N C G G"], target: Float[Tensor, "N S S"]
) -> Float[Tensor, "N"]:
    """Mean squared difference of features over the cells that both silhouettes cover.

    Divided by that overlap: summed over it and divided by the picture, as in the original, less overlap would score better.

    Args:
        drawn: the field's features, drawn over nothing: 0 where the animal is not.
        mask: what was drawn; target: the picture's own coverage.
        seen: the picture's features, about unit spread.
    """
    cells = seen.shape[-1]
    covered = functional.adaptive_avg_pool2d(mask[:, None], cells)
    cover = functional.adaptive_avg_pool2d(target[:, None], cells)
    mean = functional.adaptive_avg_pool2d(drawn, cells) / covered.clamp_min(1e-3)
    overlap = torch.minimum(covered, cover).clamp(0, 1).detach()[:, 0]
    difference = (mean - seen).square().mean(1)
    return (difference * overlap).sum((1, 2)) / overlap.sum((1, 2)).clamp_min(1.0)


def colour_loss(
    drawn: Float[Tensor, "N 3 S S"], mask: Float[Tensor, "N S S"], image: Float[Tensor, "N 3 S S"], target: Float[Tensor, "N S S"]
) -> Float[Tensor, "N"]:
    """Mean absolute difference of colours where both silhouettes are whole, one pixel within their edges."""
    both = torch.minimum(mask, target).detach()
    whole = (functional.avg_pool2d(both[:, None], 3, 1, 1)[:, 0] > 0.99).float()
    return ((drawn - image).abs().mean(1) * whole).sum((1, 2)) / whole.sum((1, 2)).clamp_min(1.0)


def score_loss(score: Float[Tensor, "N"], achieved: Float[Tensor, "N"]) -> Float[Tensor, "N"]:
    """Squared error of what a hypothesis expected its loss to be (section 2.8); no gradient to the loss itself."""
    return (score - achieved.detach()).square()


def view_loss(azimuth: Float[Tensor, "B H"], views: Int[Tensor, "B"], *, slack_deg: tuple[float, float] = (0.0, 0.0)) -> Float[Tensor, "B"]:
    """How far a picture's azimuths are from the view that its words name: 0 up to ``slack_deg`` from it, 1 at the opposite side.

    Asked of the hypotheses whose sector touches that view's eighth of the circle; the others are held near the middle of theirs, a quarter
    as much. Outlines alone drive all of them to the side, where a bound keeps them for good.

    Args:
        azimuth: radians, of H hypotheses in equal sectors of the circle, the first beginning at 0.
        views: which eighth, 0 the front and 2 the animal's left side; -1 where the words do not say.
        slack_deg: how far from the view the words leave the azimuth to the picture: from front, back and sides, and from those between.
    """
    count = azimuth.shape[1]
    asked = (views * (math.pi / 4))[:, None]
    middle = (torch.arange(count, device=azimuth.device) + 0.5) * (2 * math.pi / count)
    near = torch.cos(asked - middle) > math.cos(math.pi / count + 1e-3)
    straight, oblique = (math.cos(math.radians(each)) for each in slack_deg)
    within = torch.where(views % 2 == 1, oblique, straight)[:, None]
    outside = functional.relu(within - torch.cos(azimuth - asked)) / (1 + within)
    elsewhere = (1 - torch.cos(azimuth - middle)) / 8 if count > 1 else outside
    return (torch.where(near, outside, elsewhere) * (views >= 0)[:, None]).sum(1)


def articulation_loss(angles: Float[Tensor, "N K 3"]) -> Float[Tensor, "N"]:
    """Mean squared angle, radians."""
    return angles.square().mean((1, 2))


def deformation_loss(shifts: Float[Tensor, "N V 3"]) -> Float[Tensor, "N"]:
    """Mean squared displacement, canonical units."""
    return shifts.square().mean((1, 2))


def eikonal_loss(field: ShapeField, points: Float[Tensor, "P 3"]) -> Float[Tensor, ""]:
    """Mean squared deviation of the field's slope from 1, so that its values stay distances."""
    where = points.detach().requires_grad_()
    slope = torch.autograd.grad(field(where).sum(), where, create_graph=True)[0]
    return (slope.norm(dim=-1) - 1).square().mean()


def ripple_loss(field: Callable[[Tensor], Tensor], points: Float[Tensor, "P 3"], along: Float[Tensor, "P 3"]) -> Float[Tensor, ""]:
    """Mean squared bend of the surface along the body, as a change of slope over a quarter of a rib. Ours.

    Discs across trunk and neck fill the outlines of poses that the bones do not reach, and no outline shows them: they come .49 canonical
    units apart in every learned animal. A round, even trunk has none of this; legs and heads do, and are not asked.

    Args:
        field: signed distances of points, ``[P, 3] -> [P]``.
        points: on the surface; no gradient goes to them.
        along: unit vectors, the way the body runs at each.
    """
    ahead, behind = points + _QUARTER_RIB * along, points - _QUARTER_RIB * along
    bend = field(ahead) + field(behind) - 2 * field(points)
    return (bend / _QUARTER_RIB).square().mean()


def volume_loss(vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"]) -> Float[Tensor, ""]:
    """Minus the volume of the rest shape, in volumes of the ellipsoid that it began as: an even pressure from within. Ours.

    Outlines say how far a surface may reach, not how far it does: between bulges that touch the outline, flanks may be as hollow as they
    like. Of all shapes with the same outlines a little pressure takes the fullest, their visual hull, which has no ribs.
    """
    return -enclosed_volume(vertices, faces) / _START_VOLUME
