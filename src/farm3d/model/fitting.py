"""Analysis by synthesis: several views tried, each refined a little, the best one refined for good.

Every hypothesis is drawn and compared before any is trusted: the outline of an animal seen from the front left looks much like the
one from the back right, and only after its limbs have moved does the wrong one show (MagicPony trains with four
hypotheses; choosing among refined ones at test time is ours).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch

from farm3d.core.errors import Cancelled
from farm3d.core.random import torch_generator
from farm3d.core.shapes import Float, Int, Tensor
from farm3d.model.appearance import vertex_colours
from farm3d.model.caption_reader import certainty, posterior_azimuth, side_doubts, view_doubts
from farm3d.model.objective import Target, Terms, Weights, measure, target_of
from farm3d.model.parameters import FIELD_OF_VIEW_DEG, Parameters, Posed, elevation_of, pose
from farm3d.model.prior import CategoryPrior
from farm3d.render.renderer import render_attributes
from farm3d.structures import Crop

__all__ = ["GUIDED_SAGITTAL", "SCORE_SOFTNESS", "Fit", "FitOptions", "Hypothesis", "Progress", "fit"]


class Progress(NamedTuple):
    """What a step callback is told: stage name, finished steps and all steps, and the best hypothesis' outline agreement so far."""

    stage: str
    step: int
    total: int
    iou: float


@dataclass(frozen=True)
class Stage:
    """One round of refinement: its resolution, steps, step size, freedom and how many hypotheses survive it.

    ``read`` is the weight, in that choice, of what the caption reader doubts: ``view_doubts`` of
    :mod:`farm3d.model.caption_reader`, or ``side_doubts`` where nothing is refined.
    """

    name: str
    size_px: int
    steps: int
    rate: float
    survivors: int
    sagittal: float
    weights: Weights
    read: float = 0.0


@dataclass(frozen=True)
class FitOptions:
    """How hard to look.

    Attributes:
        hypotheses: start azimuths, evenly spaced over the circle (at least 4).
        refine_steps: steps of the last stage; 0 delivers the chosen hypothesis as it is.
        seed: shifts the start azimuths by up to 4 degrees.
        refine: False compares the starts as they are and delivers the best: one pass.
    """

    hypotheses: int = 8
    refine_steps: int = 120
    seed: int = 0
    refine: bool = True


@dataclass(frozen=True)
class Hypothesis:
    """One start azimuth and where it ended: degrees, outline agreement, feature distance, and the score (lower is better).

    ``confidence``: how probable it is beside the others, from the scores; they sum to 1.
    """

    start_deg: float
    azimuth_deg: float
    iou: float
    feature: float
    score: float
    confidence: float


class Fit(NamedTuple):
    """The delivered hypothesis (B = 1) and the table of all of them: that one first, then best first, after the first round."""

    parameters: Parameters
    posed: Posed
    terms: Terms
    hypotheses: tuple[Hypothesis, ...]


_VIEWS = Weights(feature=0.35, pose=0.002, proportion=0.006, modes=0.01)
_POSES = Weights(feature=0.35)
_SHAPE = Weights(feature=0.25, colour=0.5)
_GUIDED_SHAPE = replace(_SHAPE, modes=0.002)  # half as stiff: outlines gain .009, and at a quarter the shape begins to lose


def stages(options: FitOptions) -> tuple[Stage, ...]:
    """Return the table of rounds."""
    return (
        Stage("views", 64, 45, 0.035, 3, 0.3, _VIEWS),
        Stage("poses", 64, 50, 0.03, 1, 0.5, _POSES),
        Stage("shape", 128, options.refine_steps, 0.02, 1, 0.5, _SHAPE),
    )


def guided_stages(options: FitOptions) -> tuple[Stage, ...]:
    """Return the rounds where a network has said where to start: fewer views, fewer steps; one comparison if nothing is refined."""
    if not options.refine:
        return (Stage("views", 64, 0, 0.0, 1, GUIDED_SAGITTAL, _VIEWS, READ_SIDE),)
    return (
        Stage("views", 64, 30, 0.03, 2, GUIDED_SAGITTAL, _VIEWS, READ_FIRST),
        Stage("poses", 64, 40, 0.03, 1, GUIDED_SAGITTAL, _POSES, READ_REFINED),
        Stage("shape", 128, options.refine_steps, 0.02, 1, GUIDED_SAGITTAL, _GUIDED_SHAPE, READ_REFINED),
    )


GUIDED_SAGITTAL = 0.5
"""Share of the limits of side bend and twist in the rounds of :func:`guided_stages`."""

SCORE_SOFTNESS = 0.05
"""Temperature of scores where outlines and features alone are made probabilities; of photographs it is not known (docs/benchmark.md)."""

READ_FIRST, READ_REFINED = 0.25, 0.12
"""Weights of what captions' reader doubts where refining goes on: after the first round, and once the fit has had its say."""

READ_SIDE = 2.0
"""Weight of what the reader has against a view and its neighbours where nothing is refined (docs/experiments.md)."""

READ_SOFTNESS = 0.17
"""Temperature of scores in which the reader had a say, fitted in the closed world (``benchmarks/calibration.py``)."""


# Start poses that the second round tries from each surviving view: flexion (x) in radians by bone prefix. A leg that has settled on
# its neighbour's outline, or a head that has grown to reach the grass, does not find back by gradient.
_VARIANTS: tuple[tuple[tuple[str, float], ...], ...] = (
    (),
    (("neck_", 0.7), ("head", 0.2)),
    (("leg_front_L_01", 0.45), ("leg_front_R_01", -0.45), ("leg_rear_L_01", -0.4), ("leg_rear_R_01", 0.4)),
    (("leg_front_L_01", -0.45), ("leg_front_R_01", 0.45), ("leg_rear_L_01", 0.4), ("leg_rear_R_01", -0.4)),
)

VIEW_WEIGHT = 0.016
"""Weight of the distance to the view that network and reader believe in, in squared units of ``Weights.view_sigma``."""

# Step size of each parameter relative to the stage's: canonical units and radians differ in scale.
_RATES = {
    "azimuth": 1.0,
    "elevation": 1.0,
    "roll": 1.0,
    "shift": 8.0,
    "log_distance": 0.7,
    "angles": 1.5,
    "log_lengths": 0.7,
    "log_girths": 0.7,
    "modes_yz": 0.3,
    "modes_x": 0.3,
}


def fit(
    prior: CategoryPrior,
    crop: Crop,
    *,
    features: Float[Tensor, "D G G"] | None,
    options: FitOptions | None = None,
    starts: Parameters | None = None,
    view: Float[Tensor, "8"] | None = None,
    callback: Callable[[Progress], bool | None] | None = None,
) -> Fit:
    """Fit the category to one crop.

    Args:
        prior: the category.
        crop: the picture; its mask decides the outline.
        features: the crop's backbone features projected by ``prior.project``, or None to use the outline alone.
        options: number of hypotheses and steps.
        starts: cameras and poses to start from, at :data:`GUIDED_SAGITTAL`; None starts all round the template.
        view: how probable each of the eight views is, read off the picture by who knows captions; None asks the fit alone.
        callback: called after each step; returning False stops.

    Raises:
        Cancelled: the callback returned False.
    """
    options = options or FitOptions()
    table = stages(options) if starts is None else guided_stages(options)
    total = sum(stage.steps for stage in table)
    parameters = _all_round(prior, crop, options) if starts is None else starts
    origin = parameters.azimuth.clone()
    believed, sure = None, 0.0
    if starts is not None and view is not None and options.refine:
        sure = certainty(view)
        parameters = replace(parameters, azimuth=posterior_azimuth(view, parameters.azimuth))
        believed = torch.stack([parameters.azimuth, elevation_of(parameters)], -1).detach()
    rows = torch.arange(len(origin))  # which start each of the present hypotheses came from
    done = 0
    records: list[Hypothesis] = []
    ranked = rows
    for stage in (_held(stage, sure) for stage in table):
        target = target_of(crop, size_px=stage.size_px, features=features)
        held = believed if believed is None else believed[rows]
        parameters, terms, posed = _refine(prior, parameters, target, stage, callback, (done, total), held)
        done += stage.steps
        scores = plain = terms.fit.detach()
        if view is not None:
            doubts = view_doubts if options.refine else side_doubts
            scores = scores + stage.read * doubts(view, parameters.azimuth.detach())
        order = scores.argsort()
        if not records:
            softness = SCORE_SOFTNESS if view is None else READ_SOFTNESS
            records, ranked = _table(origin, parameters, terms, scores, order, softness), order.cpu()
        kept = _survivors(order, plain, stage.survivors)
        parameters, rows = parameters.pick(kept), rows[kept.cpu()]
        if stage.name == "views" and len(table) > 1:
            parameters, rows = _with_variants(prior, parameters), rows.repeat_interleave(len(_VARIANTS))
    if len(order) > 1:  # nothing was refined: all hypotheses were drawn, and one is delivered
        with torch.no_grad():
            posed = pose(prior, parameters, size_px=target.size_px, sagittal=stage.sagittal)
            terms = measure(prior, parameters, posed, target, weights=stage.weights)
    records.insert(0, records.pop(int((ranked == rows[0]).nonzero()[0, 0])))
    return Fit(parameters, posed, terms, tuple(records))


def _held(stage: Stage, sure: float) -> Stage:
    """Return a round that holds on to the views it was told, and prefers none from the side, as far as the reader is sure of its eighth.

    An outline says little about the view, and what networks learned is better (docs/experiments.md). But they have never seen a
    photograph, nor has the reader, who is then at a loss: from photographs the fit finds the side itself.
    """
    return replace(stage, weights=replace(stage.weights, side=(1 - sure) * stage.weights.side, view=sure * VIEW_WEIGHT))


def _survivors(order: Int[Tensor, "N"], plain: Float[Tensor, "N"], count: int) -> Int[Tensor, "S"]:
    """Return the first ``count`` of an order; of several the last is the one that fits best by itself, if that is not among them.

    Who reads captions may be in another world than the picture, and the fit has not had its last word yet.
    """
    best = plain.argmin()
    if count > 1 and not (order[:count] == best).any():
        return torch.cat([order[: count - 1], best[None]])
    return order[:count]


def _all_round(prior: CategoryPrior, crop: Crop, options: FitOptions) -> Parameters:
    """Return the template from evenly spread azimuths, as large and where the silhouette is."""
    starts = torch.arange(options.hypotheses, device=crop.mask.device) * (2 * math.pi / options.hypotheses)
    # Straight front and back views are saddle points: start beside them.
    jitter = torch.rand(options.hypotheses, generator=torch_generator(options.seed, "start views")).to(starts)
    starts = starts + math.pi / options.hypotheses + math.radians(4) * (2 * jitter - 1)
    return _placed(prior, Parameters.start(prior, starts.to(crop.mask)), target_of(crop, size_px=64))


def _with_variants(prior: CategoryPrior, parameters: Parameters) -> Parameters:
    """Repeat each hypothesis in the start poses of ``_VARIANTS``."""
    rows = torch.arange(len(parameters.azimuth)).repeat_interleave(len(_VARIANTS))
    spread = parameters.pick(rows)
    for row in range(len(rows)):
        for prefix, flexion in _VARIANTS[row % len(_VARIANTS)]:
            for k, name in enumerate(prior.skeleton.names):
                if name.startswith(prefix):
                    spread.angles[row, k, 0] = flexion
    return spread


def _coat(prior: CategoryPrior, posed: Posed, target: Target) -> Float[Tensor, "B V 3"]:
    with torch.no_grad():
        coats = []
        for row in range(len(posed.vertices)):
            camera = posed.camera.replace(T_camera_world=posed.camera.T_camera_world[row], intrinsics=posed.camera.intrinsics[row])
            picture = (target.image, target.mask)
            coats.append(vertex_colours(posed.vertices[row], prior.template.faces, prior.mirror, camera, picture))
        return torch.stack(coats)


def _table(origin: Tensor, parameters: Parameters, terms: Terms, scores: Tensor, order: Tensor, softness: float) -> list[Hypothesis]:
    def degrees(angle: Tensor) -> float:
        return (math.degrees(angle.item()) + 180) % 360 - 180

    confidence = torch.softmax(-scores / softness, 0)
    return [
        Hypothesis(
            round(degrees(origin[i]), 1),
            round(degrees(parameters.azimuth[i]), 1),
            round(terms.iou[i].item(), 4),
            round(terms.feature[i].item(), 4),
            round(scores[i].item(), 4),
            round(confidence[i].item(), 4),
        )
        for i in order.tolist()
    ]


def _placed(prior: CategoryPrior, parameters: Parameters, target: Target) -> Parameters:
    """Move each start so that its outline has the target's area and centre."""
    with torch.no_grad():
        for _ in range(2):
            posed = pose(prior, parameters, size_px=target.size_px)
            ones = posed.vertices.new_ones(1, posed.vertices.shape[1], 1)
            _, mask = render_attributes(posed.vertices, prior.template.faces, posed.camera, ones, antialiased=False)
            scale = (mask.sum((1, 2)) / target.mask.sum().clamp_min(1e-6)).clamp(0.05, 20).sqrt()
            grid = (torch.arange(target.size_px).to(mask) + 0.5) / (target.size_px / 2) - 1

            def centre(values: Tensor, grid: Tensor = grid) -> Tensor:
                weight = values.sum((-1, -2)).clamp_min(1e-6)
                return torch.stack([(values.sum(-2) * grid).sum(-1) / weight, (values.sum(-1) * grid).sum(-1) / weight], -1)

            offset = (centre(target.mask[None]) - centre(mask)) * 100 * math.tan(math.radians(FIELD_OF_VIEW_DEG) / 2)
            parameters.shift += offset * offset.new_tensor([1.0, -1.0])
            parameters.log_distance += scale.log()
    return parameters


def _refine(
    prior: CategoryPrior,
    parameters: Parameters,
    target: Target,
    stage: Stage,
    callback: Callable[[Progress], bool | None] | None,
    progress: tuple[int, int],
    believed: Float[Tensor, "B 2"] | None,
) -> tuple[Parameters, Terms, Posed]:
    """Adam on one stage's target; each hypothesis is its own problem, because the total is a sum over them."""
    groups = [{"params": [value.requires_grad_()], "lr": stage.rate * _RATES[name]} for name, value in parameters.items()]
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.98))
    rates = [group["lr"] for group in groups]
    colours: Tensor | None = None
    for step in range(stage.steps):
        fraction = step / stage.steps
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * min(1.0, (step + 1) / 5) * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * fraction)))
        posed = pose(prior, parameters, size_px=target.size_px, sagittal=stage.sagittal)
        # The coat is read off the picture now and then: the pattern then holds the surface in place while the outline moves.
        if stage.weights.colour > 0 and step >= stage.steps // 3 and step % 20 == 0:
            colours = _coat(prior, posed, target)
        terms = measure(prior, parameters, posed, target, weights=stage.weights, colours=colours, believed=believed)
        optimizer.zero_grad(set_to_none=True)
        terms.total.sum().backward()
        optimizer.step()
        if callback is not None:
            best = terms.iou[terms.fit.argmin()].item()
            answer = callback(Progress(stage.name, progress[0] + step + 1, progress[1], best))
            if isinstance(answer, (bool, np.bool_)) and not answer:
                raise Cancelled(f"stopped in stage '{stage.name}' at step {progress[0] + step + 1} of {progress[1]}")
    with torch.no_grad():
        posed = pose(prior, parameters, size_px=target.size_px, sagittal=stage.sagittal)
        terms = measure(prior, parameters, posed, target, weights=stage.weights)
    return parameters, terms, posed
