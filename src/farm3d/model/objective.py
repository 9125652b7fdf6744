"""What a good fit is: the terms between a posed animal and a crop (analysis by synthesis)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch.nn import functional

from farm3d.core.shapes import Float, Tensor
from farm3d.model.deformation import GIRTH_GROUPS, LENGTH_GROUPS
from farm3d.model.parameters import Parameters, Posed, elevation_of
from farm3d.model.prior import CategoryPrior
from farm3d.render.renderer import render_attributes
from farm3d.structures import Crop

__all__ = ["Target", "Terms", "Weights", "measure", "target_of"]


@dataclass(frozen=True)
class Weights:
    """Factors of the terms. Data terms are about 1 for a hopeless fit; the prior terms are squared deviations in units of sigma."""

    mask: float = 1.0
    distance: float = 6.0
    coverage: float = 6.0
    feature: float = 0.25
    colour: float = 0.0
    pose: float = 0.004
    proportion: float = 0.004
    modes: float = 0.004
    elevation: float = 0.004
    stance: float = 0.004
    side: float = 0.05
    view: float = 0.0
    proportion_sigma: float = 0.13
    mode_sigma: float = 0.05
    view_sigma: float = 0.17
    mode_power: float = 0.5


class Target(NamedTuple):
    """A crop prepared at one resolution R: ``mask``, ``valid``, ``outside`` and ``inside`` distances (fractions of the crop) ``[R, R]``,
    ``points`` of the silhouette ``[N, 2]`` in [-1, 1] (y down), ``features [D, 16, 16]`` or None, ``image [R, R, 3]`` linear.
    """

    mask: Tensor
    valid: Tensor
    outside: Tensor
    inside: Tensor
    points: Tensor
    features: Tensor | None
    image: Tensor
    size_px: int


class Terms(NamedTuple):
    """Values per hypothesis, ``[B]`` each; ``total`` is the weighted sum with the prior terms, ``fit`` the part that judges hypotheses."""

    total: Tensor
    fit: Tensor
    mask: Tensor
    distance: Tensor
    coverage: Tensor
    feature: Tensor
    iou: Tensor


def target_of(crop: Crop, *, size_px: int, features: Float[Tensor, "D G G"] | None = None, count: int = 256) -> Target:
    """Shrink a crop to ``size_px`` and prepare its distance transforms (section 1.2) and silhouette points."""

    def shrink(values: Tensor) -> Tensor:
        return functional.interpolate(values[None], size=(size_px, size_px), mode="area")[0]

    mask = shrink(crop.mask[None])[0]
    inside_mask = (mask > 0.5).cpu().numpy()
    outside = torch.from_numpy(distance_transform_edt(~inside_mask)).to(mask) / size_px
    inside = torch.from_numpy(distance_transform_edt(inside_mask)).to(mask) / size_px
    rows, columns = torch.nonzero(mask > 0.5, as_tuple=True)
    # Evenly spread over the silhouette in scan order: deterministic, and thin legs get their share.
    chosen = torch.linspace(0, max(len(rows) - 1, 0), min(count, len(rows))).round().long()
    points = torch.stack([(columns[chosen] + 0.5) / size_px * 2 - 1, (rows[chosen] + 0.5) / size_px * 2 - 1], -1)
    image = shrink(crop.image)
    linear = torch.where(image <= 0.04045, image / 12.92, ((image + 0.055) / 1.055) ** 2.4)
    valid = torch.from_numpy(_known(inside_mask, shrink(crop.valid[None])[0].cpu().numpy() > 0.5)).to(mask)
    return Target(mask, valid, outside, inside, points.to(mask), features, linear.permute(1, 2, 0), size_px)


def _known(inside: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Where the silhouette counts: in the photograph, and outside of it too unless the animal is cut by the border nearby."""
    touching = inside & (np.asarray(distance_transform_edt(valid)) <= 2)
    if valid.all() or not touching.any():
        return np.ones_like(valid)
    return valid | (np.asarray(distance_transform_edt(~touching)) > 0.3 * len(valid))


def measure(
    prior: CategoryPrior,
    parameters: Parameters,
    posed: Posed,
    target: Target,
    *,
    weights: Weights,
    colours: Float[Tensor, "B V 3"] | None = None,
    believed: Float[Tensor, "B 2"] | None = None,
) -> Terms:
    """Compare B posed animals with a target: mask, distance transforms, coverage, features over the overlap, colour, and the priors.

    ``believed``: azimuths and elevations, radians, that the views are held to where ``weights.view`` says so.
    """
    channels = []
    if target.features is not None:
        channels.append(prior.vertex_features[None])
    if colours is not None:
        channels = [values.expand(len(colours), -1, -1) for values in channels] + [colours]
    attributes = torch.cat(channels, -1) if channels else posed.vertices.new_zeros(1, posed.vertices.shape[1], 1)
    drawn, mask = render_attributes(posed.vertices, prior.template.faces, posed.camera, attributes)
    area = (target.mask * target.valid).mean().clamp_min(1e-6)
    miss = ((mask - target.mask).square() * target.valid).mean((1, 2)) / area
    distance = ((mask * target.outside + (1 - mask) * target.inside) * target.valid).mean((1, 2)) / area
    coverage = _coverage(posed, target)
    intersection = (torch.minimum(mask, target.mask) * target.valid).sum((1, 2))
    union = (torch.maximum(mask, target.mask) * target.valid).sum((1, 2)).clamp_min(1e-6)

    feature = torch.zeros_like(miss)
    colour = torch.zeros_like(miss)
    if target.features is not None:
        feature = _feature_distance(drawn[..., : target.features.shape[0]], mask, target)
    if colours is not None:
        overlap = (mask * target.mask).detach()
        difference = (drawn[..., -3:] - target.image).abs().mean(-1)
        colour = (difference * overlap).sum((1, 2)) / overlap.sum((1, 2)).clamp_min(1.0)
    # Of two views that explain a picture about equally well the one more from the side counts: a picture says least about depth.
    sideways = posed.camera.T_camera_world[:, 2, 2].square()
    fit = weights.side * sideways + weights.mask * miss + weights.distance * distance
    fit = fit + weights.coverage * coverage + weights.feature * feature
    total = fit + weights.colour * colour + _prior_terms(prior, parameters, posed, weights)
    if believed is not None:
        turned = torch.stack([parameters.azimuth, elevation_of(parameters)], -1) - believed
        total = total + weights.view * (turned / weights.view_sigma).square().sum(-1)
    return Terms(total, fit, miss, distance, coverage, feature, (intersection / union).detach())


def _coverage(posed: Posed, target: Target) -> Float[Tensor, "B"]:
    """Mean distance (fraction of the crop) from silhouette points to the nearest projected vertex: pulls a limb over long gaps,
    where the mask itself has no gradient because nothing overlaps.
    """
    size = target.size_px
    stride = max(1, posed.vertices.shape[1] // 900)
    projected = posed.camera.pixels(posed.vertices[:, ::stride]) / (size / 2) - 1
    with torch.no_grad():
        nearest = torch.cdist(target.points.expand(len(projected), -1, -1), projected).argmin(-1)
    matched = torch.gather(projected, 1, nearest[..., None].expand(-1, -1, 2))
    distance = (matched - target.points).square().sum(-1).add(1e-6).sqrt() / 2
    # Vertices are a grid of points: within one pixel of one is covered.
    return (distance - 1.0 / size).clamp_min(0).mean(-1)


def _feature_distance(drawn: Float[Tensor, "B H W D"], mask: Float[Tensor, "B H W"], target: Target) -> Float[Tensor, "B"]:
    """How badly the drawn features explain the picture's, averaged over the cells where both silhouettes are; 0 is no better than chance.

    |g - f|^2 - |f|^2 = |g|^2 - 2 f.g for drawn g and seen f: with unit spread within a place, twice the negative log likelihood ratio
    of "this place" against "anywhere on the animal". Without the subtraction a view pays for covering cells that nothing explains.
    Divided by the overlap, because summed over it less overlap would score better (recipes, part C).
    """
    assert target.features is not None
    cells = target.features.shape[-1]
    pooled_mask = functional.adaptive_avg_pool2d(mask[:, None], cells)
    pooled = functional.adaptive_avg_pool2d(drawn.permute(0, 3, 1, 2), cells) / pooled_mask.clamp_min(1e-3)
    goal_mask = functional.adaptive_avg_pool2d(target.mask[None, None], cells)
    overlap = torch.minimum(pooled_mask, goal_mask).detach()[:, 0]
    ratio = (pooled.square() - 2 * pooled * target.features).mean(1)
    return (ratio * overlap).sum((1, 2)) / overlap.sum((1, 2)).clamp_min(1e-3)


def _prior_terms(prior: CategoryPrior, parameters: Parameters, posed: Posed, weights: Weights) -> Float[Tensor, "B"]:
    # Flexion, side bend, twist. Legs swing in their plane: bent sideways they explain outlines and cross in depth.
    leg = torch.tensor([name.startswith("leg_") for name in prior.skeleton.names], device=posed.angles.device)[:, None]
    sigma = torch.where(leg, posed.angles.new_tensor([0.5, 0.05, 0.04]), posed.angles.new_tensor([0.5, 0.12, 0.08]))
    term = weights.pose * (posed.angles / sigma).square().sum((1, 2))
    proportions = parameters.log_lengths.square().sum(1) / len(LENGTH_GROUPS) + parameters.log_girths.square().sum(1) / len(GIRTH_GROUPS)
    term = term + weights.proportion * proportions / weights.proportion_sigma**2 * 10
    stiff_yz = prior.modes.stiffness_yz.clamp_min(0.5) ** weights.mode_power
    stiff_x = prior.modes.stiffness_x.clamp_min(0.5) ** weights.mode_power
    modes = (parameters.modes_yz.square() * stiff_yz[:, None]).sum((1, 2)) + (parameters.modes_x.square() * stiff_x).sum(1)
    term = term + weights.modes * modes / weights.mode_sigma**2
    term = term + weights.stance * _stance(prior, posed)
    return term + weights.elevation * (parameters.elevation + 0.2).square() + weights.elevation * parameters.roll.square() * 4


def _stance(prior: CategoryPrior, posed: Posed) -> Float[Tensor, "B"]:
    """How badly the rest shape stands: fore and hind feet at other heights, feet closer together than three quarters of the template's.

    Otherwise perspective ends up in the lengths of the legs. In squared units of 0.05 (about 2.5 cm of a horse).
    """
    feet = [k for k, name in enumerate(prior.skeleton.names) if name.startswith("leg_") and name.endswith("_03")]
    front = [k for k in feet if "front" in prior.skeleton.names[k]]
    rear = [k for k in feet if k not in front]
    ends, template = posed.skeleton.ends, prior.skeleton.ends
    level = (ends[:, front, 1].mean(1) - ends[:, rear, 1].mean(1)) - (template[front, 1].mean() - template[rear, 1].mean())
    narrow = (0.75 * template[feet, 0].abs() - ends[:, feet, 0] * template[feet, 0].sign()).clamp_min(0)
    return (level / 0.05).square() + (narrow / 0.05).square().sum(1)
