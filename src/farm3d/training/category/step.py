"""One step of training, in the order of the paper's method section."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn import functional

from farm3d.core.color import linear_from_srgb
from farm3d.core.shapes import Float, Int, Tensor
from farm3d.geometry.quadruped import TRUNK_NAMES
from farm3d.geometry.skinning import linear_blend_skinning
from farm3d.geometry.surface import vertex_normals
from farm3d.model.category.model import CategoryModel, Individuals
from farm3d.model.category.networks import Reading
from farm3d.model.category.rest_shape import RestShape, Scaffold, rest_shape
from farm3d.render.renderer import render_attributes
from farm3d.render.shade import shade
from farm3d.structures import Camera, Light
from farm3d.training.category.losses import (
    articulation_loss,
    colour_loss,
    coverage_loss,
    deformation_loss,
    eikonal_loss,
    feature_loss,
    gap_loss,
    gaps,
    inside_distances,
    mask_loss,
    missing_loss,
    outside_distances,
    outside_loss,
    ripple_loss,
    score_loss,
    silhouette_points,
    thin_loss,
    thin_parts,
    view_loss,
    volume_loss,
)
from farm3d.training.category.pictures import VIEWS, PictureBatch
from farm3d.training.category.schedule import Moment, Weights

__all__ = ["Compared", "StepResult", "compare", "mirrored_hypothesis", "off_the_words", "reconstruction_step", "shaded_colours"]

_EIKONAL_POINTS = 2000
_RIPPLE_POINTS = 600
_COVERING_VERTICES = 900
_EIKONAL_JITTER = 0.35  # section 2.2: of the mesh's own vertices


@dataclass(frozen=True, eq=False)
class Compared:
    """N individuals beside the pictures they are of, one number each: losses, and how well outlines agree (``iou``)."""

    mask: Float[Tensor, "N"]
    missing: Float[Tensor, "N"]
    thin: Float[Tensor, "N"]
    gap: Float[Tensor, "N"]
    outside: Float[Tensor, "N"]
    coverage: Float[Tensor, "N"]
    feature: Float[Tensor, "N"]
    colour: Float[Tensor, "N"]
    iou: Float[Tensor, "N"]

    def outline(self, weights: Weights) -> Float[Tensor, "N"]:
        """Return what the silhouettes cost."""
        return weights.mask * self.mask + weights.missing * self.missing + weights.thin * self.thin + weights.gap * self.gap

    def choice(self, weights: Weights) -> Float[Tensor, "N"]:
        """Return by what hypotheses are chosen, without gradient (section 2.8)."""
        return (self.outline(weights) + weights.choice_feature * self.feature).detach()


@dataclass(frozen=True, eq=False)
class StepResult:
    """What a step gave.

    Attributes:
        loss: to go down.
        terms: its parts by name, for the log.
        choices: what hypotheses cost, ``[N]``, with ``pictures`` (in the batch) and ``hypotheses`` ``[N]``.
        rest, reading: of this step, for what comes after it.
    """

    loss: Tensor
    terms: dict[str, Tensor]
    choices: Tensor
    pictures: Tensor
    hypotheses: Tensor
    rest: RestShape
    reading: Reading


def reconstruction_step(
    model: CategoryModel,
    scaffold: Scaffold,
    batch: PictureBatch,
    at: Moment,
    weights: Weights,
    *,
    chosen: Int[Tensor, "B"] | None,
    counts: Float[Tensor, "B"] | None = None,
    generator: torch.Generator,
) -> StepResult:
    """Return the loss of reconstructing a batch of pictures (sections 2 and 3).

    Args:
        scaffold: topology and bones of the rest shape.
        at: what is switched on.
        chosen: the hypothesis to draw of each picture; None draws all of them and lets each count as it fits.
        counts: with ``chosen``: how much each picture counts, 1 on average over the whole batch. One that is drawn with another than its
            best hypothesis, to see what that costs, counts nothing: section 2.8 weighs by probability, and pulled by views that are
            known to be wrong a shape and its poses learn them.
        generator: of the regulariser's points, on the CPU wherever the model is: equal seeds mean the same everywhere.
    """
    weights = at.faded(weights)
    rest = rest_shape(model.shape, scaffold)
    held = at.shape == 0
    if held:  # nothing of the shape is to change, and half a gradient would only cost
        rest = replace(rest, vertices=rest.vertices.detach())
    reading = model.reader(batch.features, batch.rgb, batch.mask)
    pictures, hypotheses = _pairs(len(batch), model.config.hypotheses, chosen, device=model.device)
    camera = reading.viewpoints.cameras(pictures, hypotheses, size_px=at.size_px)
    animals = model.individuals(rest, reading, camera, pictures, deform=at.deform, articulate=at.articulate)
    compared = compare(model, rest, reading, animals, camera, pictures, batch, size_px=at.size_px, colour=at.colour, weights=weights)
    elsewhere = off_the_words(batch, reading, pictures, hypotheses)
    choices = compared.choice(weights) + weights.view_words * (1 + 3 * at.words) * elsewhere
    if chosen is None:
        share = _shares(choices, pictures, len(batch), at.softness)
    else:
        share = (choices.new_ones(len(batch)) if counts is None else counts.to(choices)) / len(batch)
    score = reading.viewpoints.score[pictures, hypotheses]
    terms = {
        "mask": (compared.mask * share).sum(),
        "missing": (compared.missing * share).sum(),
        "feature": (compared.feature * share).sum(),
        "score": score_loss(score, choices).mean(),
    }
    if not held:
        terms["eikonal"] = eikonal_loss(model.shape, _eikonal_points(rest, model.config.box, generator))
    if weights.thin > 0:
        terms["thin"] = (compared.thin * share).sum()
    if weights.gap > 0:
        terms["gap"] = (compared.gap * share).sum()
    if at.articulate and weights.outside > 0:
        terms["outside"] = (compared.outside * share).sum()
    if at.articulate and weights.coverage > 0:
        terms["coverage"] = (compared.coverage * share).sum()
    if weights.volume != 0 and not held:
        terms["volume"] = volume_loss(rest.vertices, rest.faces)
    if weights.ripple != 0 and not held:
        terms["ripple"] = ripple_loss(model.shape, *_trunk_points(rest, generator))
    if at.words > 0 and weights.view != 0:
        terms["view"] = at.words * view_loss(reading.viewpoints.azimuth, batch.views, slack_deg=at.words_slack_deg).mean()
    if at.articulate:
        terms["articulation"] = (articulation_loss(animals.angles) * share).sum()
    if at.deform:
        terms["deformation"] = (deformation_loss(animals.shifts) * share).sum()
    if at.colour:
        terms["colour"] = (compared.colour * share).sum()
    loss = torch.stack([getattr(weights, name) * value for name, value in terms.items()]).sum()
    terms["iou"] = (compared.iou * share).sum().detach()
    return StepResult(loss, terms, choices, pictures, hypotheses, rest, reading)


def compare(
    model: CategoryModel,
    rest: RestShape,
    reading: Reading,
    animals: Individuals,
    camera: Camera,
    pictures: Int[Tensor, "N"],
    batch: PictureBatch,
    *,
    size_px: int,
    colour: bool,
    weights: Weights,
) -> Compared:
    """Draw N individuals and compare them with their pictures: outline, features, and colours if asked.

    What was not asked for, or weighs nothing, is 0: colours, thin parts, gaps, what lies outside and what is not covered.
    """
    count = len(pictures)
    target = functional.interpolate(batch.mask[:, None], (size_px, size_px), mode="area")[:, 0]
    inside = inside_distances(target)
    layers = [model.features(rest.vertices).expand(count, -1, -1)]
    if colour:
        light = _picked(model.lights(reading.look), pictures)
        layers.append(shaded_colours(model.colours(rest, reading.look)[pictures], animals.vertices, rest.faces, camera, light))
    drawn, mask = render_attributes(animals.vertices, rest.faces, camera, torch.cat(layers, -1))
    drawn = drawn.permute(0, 3, 1, 2)
    goal = target[pictures]
    channels = model.config.feature_channels
    feature = feature_loss(drawn[:, :channels], mask, batch.features[:, :channels][pictures], goal)
    hue = torch.zeros_like(feature)
    if colour:
        image = functional.interpolate(linear_from_srgb(batch.rgb), (size_px, size_px), mode="area")[pictures]
        hue = colour_loss(drawn[:, channels:], mask, image, goal)
    both, either = torch.minimum(mask, goal).sum((1, 2)), torch.maximum(mask, goal).sum((1, 2))
    iou = (both / either.clamp_min(1e-6)).detach()
    nothing = torch.zeros_like(feature)
    legs = thin_loss(mask, thin_parts(target)[pictures]) if weights.thin > 0 else nothing
    between = gap_loss(mask, gaps(target)[pictures]) if weights.gap > 0 else nothing
    strayed = uncovered = nothing
    if weights.outside > 0 or weights.coverage > 0:
        pixels = camera.pixels(_posed_points(rest, animals))
        strayed = outside_loss(pixels, outside_distances(target)[pictures])
        uncovered = coverage_loss(pixels, silhouette_points(target)[pictures], size_px=size_px)
    missing = missing_loss(mask, inside[pictures])
    return Compared(mask_loss(mask, goal), missing, legs, between, strayed, uncovered, feature, hue, iou)


def shaded_colours(
    albedo: Float[Tensor, "N V 3"], vertices: Float[Tensor, "N V 3"], faces: Int[Tensor, "F 3"], camera: Camera, light: Light
) -> Float[Tensor, "N V 3"]:
    """Return the lit colours at the vertices, linear RGB; interpolating them is cheaper than shading each pixel, and as good at 64 px."""
    return shade(albedo, vertex_normals(camera.to_camera(vertices), faces), light)


def _posed_points(rest: RestShape, animals: Individuals) -> Float[Tensor, "N P 3"]:
    """Return some vertices of the posed animals, through which gradients reach the poses and neither the rest shape nor its deformation.

    By distance a surface would be drawn out into threads, which cover far places at the price of a few pixels.
    """
    some = slice(None, None, max(1, len(rest.vertices) // _COVERING_VERTICES))
    still = (rest.vertices[some] + animals.shifts[:, some]).detach()
    return linear_blend_skinning(still, rest.skin[some], rest.skeleton.transforms(animals.angles))


def _pairs(count: int, hypotheses: int, chosen: Tensor | None, *, device: torch.device) -> tuple[Tensor, Tensor]:
    pictures = torch.arange(count, device=device)
    if chosen is not None:
        return pictures, chosen.to(device)
    return pictures.repeat_interleave(hypotheses), torch.arange(hypotheses, device=device).repeat(count)


def _shares(choices: Tensor, pictures: Tensor, count: int, softness: float) -> Tensor:
    """Return how much each hypothesis counts: softmax of minus its cost over the picture's hypotheses, and 1 / count in all a picture."""
    per = choices.unflatten(0, (count, -1))
    flat = torch.full_like(per, 1 / per.shape[1]) if math.isinf(softness) else torch.softmax(-per / softness, 1)
    return flat.flatten() / count


def off_the_words(batch: PictureBatch, reading: Reading, pictures: Tensor, hypotheses: Tensor) -> Tensor:
    """Return how far a hypothesis looks from elsewhere than the words asked for: 0 there, 1 from the opposite side, 0 without words."""
    asked = batch.views[pictures] * (2 * math.pi / VIEWS)
    off = (1 - torch.cos(reading.viewpoints.azimuth[pictures, hypotheses].detach() - asked)) / 2
    return off * (batch.views[pictures] >= 0)


def _eikonal_points(rest: RestShape, box: tuple[float, float, float], generator: torch.Generator) -> Tensor:
    low = rest.vertices.new_tensor([0.0, -box[1], -box[2]])
    high = rest.vertices.new_tensor(box)
    spread = low + (high - low) * torch.rand(_EIKONAL_POINTS // 2, 3, generator=generator).to(low)
    vertices = rest.vertices.detach()
    chosen = torch.randint(len(vertices), (_EIKONAL_POINTS // 2,), generator=generator).to(vertices.device)
    near = vertices[chosen] + _EIKONAL_JITTER * (2 * torch.rand(len(chosen), 3, generator=generator).to(vertices) - 1)
    return torch.cat([spread, near])


def _trunk_points(rest: RestShape, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return points of the left half of trunk and neck, and the way the nearest bone runs there."""
    bones = [rest.skeleton.names.index(name) for name in TRUNK_NAMES]
    skin = rest.skin[: rest.half, bones]
    there = torch.nonzero(skin.sum(1) > 0.5).flatten()
    if not len(there):  # a shape that has just fallen to pieces
        there = torch.arange(rest.half, device=rest.vertices.device)
    chosen = there[torch.randint(len(there), (_RIPPLE_POINTS,), generator=generator).to(there.device)]
    runs = functional.normalize(rest.skeleton.ends[bones] - rest.skeleton.starts[bones], dim=1)
    return rest.vertices.detach()[chosen], runs[skin[chosen].argmax(1)]


def _picked(light: Light, rows: Tensor) -> Light:
    return Light(light.direction[rows], light.ambient[rows], light.diffuse[rows])


def mirrored_hypothesis(hypotheses: np.ndarray, flipped: np.ndarray, count: int) -> np.ndarray:
    """Return which hypothesis of the picture as it is stands for one of the picture as it is shown: mirrored, quarters change sides."""
    return np.where(flipped, count - 1 - hypotheses, hypotheses)
