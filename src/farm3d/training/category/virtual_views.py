"""Virtual views (section 4): the animals of a batch from elsewhere and in another light, judged by a text-to-image model.

Viewpoint and light are substituted, so no gradient reaches the heads that predict them; it reaches shape, pose and coat. The model is told
which way it looks, in words: without them its gradient says nothing about the shape.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch.nn import functional

from farm3d.core.color import srgb_from_linear
from farm3d.core.errors import InputError
from farm3d.core.shapes import Bool, Float, Int, Tensor
from farm3d.diffusion.distill import DistillOptions, distill
from farm3d.diffusion.prior import PicturePrior
from farm3d.model.category.model import CategoryModel
from farm3d.model.category.networks import Reading
from farm3d.model.category.rest_shape import RestShape
from farm3d.render.renderer import render
from farm3d.structures import Camera, Light
from farm3d.structures._value import Value
from farm3d.training.category.pictures import VIEWS, PictureBatch
from farm3d.training.category.ranks import Share
from farm3d.training.category.schedule import Moment
from farm3d.training.category.step import StepResult

__all__ = ["Critic", "CriticOptions", "ViewPictures", "VirtualViews", "draw_views", "framed_cameras", "random_lights"]

_FIELD_OF_VIEW_DEG = 25.0
_FILL = (0.74, 0.86)  # the longer side of the animal's box, as a share of the picture: as the prior's training pictures are framed


@dataclass(frozen=True)
class CriticOptions:
    """How virtual views are drawn and judged.

    Attributes:
        distill: noise levels, guidance and weighting.
        t_max_end: largest noise level at the end of the training, where ``distill.t_max`` comes down to linearly; None keeps that.
        size_px: side of the pictures; None takes the model's.
        elevation_deg: of the virtual cameras, least and most.
        grey: share of views drawn without the coat's colours, so that shape alone is judged.
    """

    distill: DistillOptions
    t_max_end: float | None = None
    size_px: int | None = None
    elevation_deg: tuple[float, float] = (-5.0, 30.0)
    grey: float = 0.25

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InputError: the noise would end below its least.
        """
        if self.t_max_end is not None and not self.distill.t_min <= self.t_max_end <= 1:
            raise InputError(f"noise levels that end at {self.t_max_end:g}: expected from {self.distill.t_min:g} to 1")

    def distill_at(self, progress: float) -> DistillOptions:
        """Return how to ask when this share of the virtual views is over, from 0 to 1."""
        if self.t_max_end is None:
            return self.distill
        return replace(self.distill, t_max=self.distill.t_max + progress * (self.t_max_end - self.distill.t_max))


class Critic:
    """A text-to-image model and what it is asked.

    Args:
        prior: the frozen model, on the device of the category's.
        asked: of the eight views, from the front round by the animal's left side, what the model is told and what its picture must not
            look like (:func:`farm3d.training.dataset.phrases.critic_prompts`).
        options: see :class:`CriticOptions`.
    """

    def __init__(self, prior: PicturePrior, asked: Sequence[tuple[str, str]], options: CriticOptions) -> None:
        if len(asked) != VIEWS:
            raise ValueError(f"{len(asked)} prompts, expected {VIEWS}")
        self.prior, self.options = prior, options
        self.prompts, self.negatives = (prior.embed(list(texts)) for texts in zip(*asked, strict=True))
        self.digest = f"{prior.digest} {tuple(asked)} {options}"

    def judge(
        self,
        model: CategoryModel,
        batch: PictureBatch,
        result: StepResult,
        at: Moment,
        *,
        generator: torch.Generator,
        count: int,
        counted: Bool[Tensor, "B"] | None = None,
        share: Share | None = None,
        progress: float = 0.0,
    ) -> dict[str, Tensor]:
        """Return ``virtual``, the loss of ``count`` virtual views of animals of this batch, and figures for the log.

        Each animal's pose is that of its best hypothesis, drawn anew so that the gradient is only that of the virtual view: where one
        hypothesis a picture was drawn, ``counted`` says of the whole batch which were the best, and others are not judged. Where the
        batch is the ``share`` of a larger one, ``count`` views of that are chosen and drawn; this returns what those of this share add
        to the means over them. ``progress`` is the share of the virtual views' time that is over.

        Raises:
            NotFiniteError: naming what is not finite.
        """
        share = share or Share(0, len(batch), len(batch))
        order = torch.randperm(share.count, generator=generator)
        order = (order if counted is None else order[counted[order]])[:count]
        views = VirtualViews.drawn(len(order), self.options, generator)
        places = torch.nonzero((order >= share.begin) & (order < share.end))[:, 0]
        if not len(places):
            return dict.fromkeys(("virtual", "virtual_error", "virtual_norm"), result.loss.new_zeros(()))
        part = None if share.whole else (places, len(order))
        own = (order[places] - share.begin).to(model.device)
        views, rows = views.pick(places).to(model.device), _best_rows(result, len(batch))[own]
        size = self.options.size_px or self.prior.size_px
        drawn = draw_views(model, result.rest, result.reading, result.pictures[rows], result.hypotheses[rows], views, at, size_px=size)
        towards = (views.azimuth / (2 * math.pi / VIEWS)).round().long() % VIEWS
        prompts, negatives = (each.pick(towards.tolist()) for each in (self.prompts, self.negatives))
        asked = {"options": self.options.distill_at(progress), "negative": negatives, "part": part}
        judged = distill(self.prior, drawn.rgb, prompts, generator=generator, alpha=drawn.alpha, **asked)
        means = {"virtual": judged.loss.mean(), "virtual_error": judged.error.mean(), "virtual_norm": judged.gradient_norm.mean()}
        return means if part is None else {name: value * (len(places) / len(order)) for name, value in means.items()}


@dataclass(frozen=True, eq=False, repr=False)
class VirtualViews(Value):
    """What is random of N virtual views, drawn on the generator's device.

    Attributes:
        azimuth, elevation: of the cameras, radians; fill: share of the picture that the animal's box takes.
        grey: which are drawn without the coat's colours, in ``shade_of_grey``.
        ground: colours of the background, linear.
        light: of each.
    """

    azimuth: Float[Tensor, "N"]
    elevation: Float[Tensor, "N"]
    fill: Float[Tensor, "N"]
    grey: Bool[Tensor, "N"]
    shade_of_grey: Float[Tensor, "N 1 1"]
    ground: Float[Tensor, "N 1 1 3"]
    light: Light

    @classmethod
    def drawn(cls, count: int, options: CriticOptions, generator: torch.Generator) -> VirtualViews:
        """Draw N of them by chance."""
        azimuth = 2 * math.pi * torch.rand(count, generator=generator)
        low, high = (math.radians(value) for value in options.elevation_deg)
        elevation = low + (high - low) * torch.rand(count, generator=generator)
        fill = _FILL[0] + (_FILL[1] - _FILL[0]) * torch.rand(count, generator=generator)
        grey = torch.rand(count, generator=generator) < options.grey
        shade_of_grey = 0.2 + 0.5 * torch.rand(count, 1, 1, generator=generator)
        ground = torch.rand(count, 1, 1, 3, generator=generator)
        return cls(azimuth, elevation, fill, grey, shade_of_grey, ground, random_lights(count, generator))

    def pick(self, rows: Tensor) -> VirtualViews:
        """Return some of them."""
        light = Light(self.light.direction[rows], self.light.ambient[rows], self.light.diffuse[rows])
        cameras = self.azimuth[rows], self.elevation[rows], self.fill[rows]
        return VirtualViews(*cameras, self.grey[rows], self.shade_of_grey[rows], self.ground[rows], light)


class ViewPictures(NamedTuple):
    """What a critic sees of N animals: sRGB ``[N, 3, S, S]`` and coverage ``[N, S, S]``."""

    rgb: Float[Tensor, "N 3 S S"]
    alpha: Float[Tensor, "N S S"]


def draw_views(
    model: CategoryModel,
    rest: RestShape,
    reading: Reading,
    pictures: Int[Tensor, "N"],
    hypotheses: Int[Tensor, "N"],
    views: VirtualViews,
    at: Moment,
    *,
    size_px: int,
) -> ViewPictures:
    """Draw the animals of some pictures, as one hypothesis each has them, in virtual views.

    Args:
        model, rest: of the category.
        reading: of a batch; pictures: whose animals, by their place in it; hypotheses: of each, which decides the pose.
        views: cameras, lights, grounds.
        at: what is switched on.
        size_px: side of the pictures.
    """
    seen_from = reading.viewpoints.cameras(pictures, hypotheses, size_px=size_px)
    # Fields are evaluated for the animals in view, not for the whole batch.
    shown = Reading(reading.code[pictures], reading.look[pictures], reading.places[pictures], reading.viewpoints)
    each = torch.arange(len(pictures), device=pictures.device)
    animals = model.individuals(rest, shown, seen_from, each, deform=at.deform, articulate=at.articulate)
    camera = framed_cameras(animals.vertices.detach(), views.azimuth, views.elevation, fill=views.fill, size_px=size_px)
    albedo = model.colours(rest, shown.look)
    plain = views.shade_of_grey.expand_as(albedo)
    albedo = torch.where(views.grey[:, None, None], plain, albedo) if at.colour else plain
    drawn = render(animals.vertices, rest.faces, camera, views.light, albedo=albedo, background=views.ground)
    return ViewPictures(srgb_from_linear(drawn.rgb).permute(0, 3, 1, 2), drawn.mask)


def framed_cameras(
    vertices: Float[Tensor, "N V 3"], azimuth: Float[Tensor, "N"], elevation: Float[Tensor, "N"], *, fill: Float[Tensor, "N"], size_px: int
) -> Camera:
    """Return cameras at these angles (radians) whose pictures hold each animal in the middle, its box's longer side this share wide."""
    target = (vertices.amin(1) + vertices.amax(1)) / 2
    distance = (vertices.amax(1) - vertices.amin(1)).norm(dim=1) / (2 * math.tan(math.radians(_FIELD_OF_VIEW_DEG) / 2))
    for _ in range(4):
        camera = Camera.orbit(azimuth, elevation, distance=distance, target=target, fov_deg=_FIELD_OF_VIEW_DEG, size_px=size_px)
        at = camera.pixels(vertices)
        low, high = at.amin(1), at.amax(1)
        off = (low + high) / 2 - size_px / 2
        metres_a_pixel = (distance / camera.intrinsics[:, 0])[:, None]
        right, up = camera.T_camera_world[:, 0, :3], camera.T_camera_world[:, 1, :3]
        target = target + (right * off[:, :1] - up * off[:, 1:]) * metres_a_pixel
        distance = distance * (high - low).amax(1) / (fill * size_px)
    return Camera.orbit(azimuth, elevation, distance=distance, target=target, fov_deg=_FIELD_OF_VIEW_DEG, size_px=size_px)


def random_lights(count: int, generator: torch.Generator) -> Light:
    """Return lights over the ranges of sections 2.9 and 4.2."""
    a, b, c, d = torch.rand(4, count, generator=generator)
    direction = functional.normalize(torch.stack([2 * a - 1, torch.full_like(a, 0.5), 2 * b - 1], -1), dim=-1)
    ambient = 0.2 + 0.5 * c
    return Light(direction, ambient, 0.5 + 0.5 * d * (1.2 - ambient))


def _best_rows(result: StepResult, count: int) -> Tensor:
    """Return the row of the cheapest hypothesis of each picture."""
    costs = result.choices.unflatten(0, (count, -1))
    per = costs.shape[1]
    return torch.arange(count, device=costs.device) * per + costs.argmin(1)
