"""A second look: animals of a batch, drawn from elsewhere, are read like pictures, and must be read as what was drawn.

Of a drawn picture everything is known: its azimuth and elevation, the animal's shape and its pose. Reading it back teaches the networks
alone, by their own animals; what was drawn is taken as it is, and no gradient reaches the category's shape.
"""

from __future__ import annotations

import math

import torch

from farm3d.core.shapes import Float, Tensor
from farm3d.model.category.config import CategoryConfig
from farm3d.model.category.learned import FeatureBasis
from farm3d.model.category.model import CategoryModel
from farm3d.model.category.viewpoint import Viewpoints
from farm3d.model.encoder import ImageEncoder, to_reading_grid
from farm3d.structures import Camera
from farm3d.training.category.pictures import PictureBatch
from farm3d.training.category.ranks import Share
from farm3d.training.category.schedule import Moment
from farm3d.training.category.step import StepResult, best_rows
from farm3d.training.category.virtual_views import VirtualViews, animals_of, draw_animals, framed_cameras, random_lights
from farm3d.training.dataset.features import plain_features

__all__ = ["SecondLook", "cut_cameras", "known_view_loss"]

_SIZE_PX = 128  # of the crops that are read
_FRAME_PX, _FILL = 64, 0.8  # of the first drawing, by which the crop is cut
_ELEVATION_DEG = (-5.0, 30.0)
_POSE, _SHAPE = 2.0, 10.0  # of squared angles and squared displacements, beside azimuth and elevation


class SecondLook:
    """Draws animals from random sides and reads the pictures.

    Args:
        encoder: the frozen backbone of the training pictures' features, on the device of the category's; basis: what became of them.
    """

    def __init__(self, encoder: ImageEncoder, basis: FeatureBasis) -> None:
        self.encoder, self.basis = encoder, basis

    def look(
        self,
        model: CategoryModel,
        batch: PictureBatch,
        result: StepResult,
        at: Moment,
        *,
        generator: torch.Generator,
        count: int,
        share: Share | None = None,
    ) -> dict[str, Tensor]:
        """Return ``again``, the loss of reading ``count`` animals of this batch once more, and its parts for the log.

        Where the batch is the ``share`` of a larger one, ``count`` animals of that are chosen and drawn; this returns what those of this
        share add to the means over them.
        """
        share = share or Share(0, len(batch), len(batch))
        order = torch.randperm(share.count, generator=generator)[:count]
        views = _views(len(order), model.config, generator)
        places = torch.nonzero((order >= share.begin) & (order < share.end))[:, 0]
        if not len(places):
            return dict.fromkeys(("again", "again_view", "again_pose", "again_shape"), result.loss.new_zeros(()))
        own = (order[places] - share.begin).to(model.device)
        views, rows = views.pick(places).to(model.device), best_rows(result, len(batch))[own]
        with torch.no_grad():
            of = result.pictures[rows], result.hypotheses[rows]
            look, animals = animals_of(model, result.rest, result.reading, *of, at, size_px=_SIZE_PX)
            camera = framed_cameras(animals.vertices, views.azimuth, views.elevation, fill=views.fill, size_px=_FRAME_PX)
            outline = draw_animals(model, result.rest, look, animals, camera, views, colour=False).alpha
            camera = cut_cameras(camera, outline, size_px=_SIZE_PX)
            drawn = draw_animals(model, result.rest, look, animals, camera, views, colour=at.colour)
            seen = torch.cat([plain_features(self.encoder, *picture) for picture in zip(*drawn, strict=True)])
            maps = self.basis.project(to_reading_grid(seen))
        read = model.reader(maps, drawn.rgb, drawn.alpha)
        each = torch.arange(len(places), device=model.device)
        again = model.individuals(result.rest, read, camera, each, deform=at.deform, articulate=at.articulate)
        parts = {
            "again_view": known_view_loss(read.viewpoints, views.azimuth, views.elevation).mean(),
            "again_pose": (again.angles - animals.angles).square().mean(),
            "again_shape": (again.shifts - animals.shifts).square().mean(),
        }
        parts["again"] = parts["again_view"] + _POSE * parts["again_pose"] + _SHAPE * parts["again_shape"]
        return {name: value * (len(places) / len(order)) for name, value in parts.items()}


def known_view_loss(viewpoints: Viewpoints, azimuth: Float[Tensor, "B"], elevation: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
    """How far the hypothesis whose sector holds the true view is off: (1 - cosine of its azimuth error) / 2, and elevation squared.

    Args:
        viewpoints: read, of H sectors of the circle.
        azimuth, elevation: true ones, radians.
    """
    count = viewpoints.azimuth.shape[1]
    sector = (azimuth % (2 * math.pi) / (2 * math.pi / count)).long().clamp_max(count - 1)[:, None]
    read_azimuth, read_elevation = (values.gather(1, sector)[:, 0] for values in (viewpoints.azimuth, viewpoints.elevation))
    return (1 - torch.cos(read_azimuth - azimuth)) / 2 + (read_elevation - elevation).square()


def cut_cameras(camera: Camera, mask: Float[Tensor, "N S S"], *, size_px: int) -> Camera:
    """Return cameras of the squares that :func:`farm3d.data.preprocess.make_crop` would cut round silhouettes.

    Args:
        camera: of the pictures that the silhouettes are in, square.
        mask: coverage.
        size_px: side of the new pictures.
    """
    grid = torch.arange(mask.shape[-1], device=mask.device) + 0.5
    area = mask.sum((1, 2)).clamp_min(1)
    along, down = mask.sum(1), mask.sum(2)
    centre = torch.stack([(along * grid).sum(1), (down * grid).sum(1)], 1) / area[:, None]
    filled = torch.stack([along > 0.5, down > 0.5], 1)
    reach = ((grid - centre[:, :, None]).abs() * filled).amax((1, 2)) + 0.5
    half = torch.maximum(area.sqrt(), 1.04 * reach)
    scale = size_px / (2 * half)
    corner = centre - half[:, None]
    focal = camera.intrinsics[:, :2] * scale[:, None]
    principal = (camera.intrinsics[:, 2:] - corner) * scale[:, None]
    return camera.replace(intrinsics=torch.cat([focal, principal], 1), width_px=size_px, height_px=size_px)


def _views(count: int, config: CategoryConfig, generator: torch.Generator) -> VirtualViews:
    azimuth = 2 * math.pi * torch.rand(count, generator=generator)
    low, high = (math.radians(value) for value in (_ELEVATION_DEG if config.parts.elevation else (0.0, 0.0)))
    elevation = low + (high - low) * torch.rand(count, generator=generator)
    coloured, grey, ground = torch.zeros(count, dtype=torch.bool), torch.full((count, 1, 1), 0.4), torch.zeros(count, 1, 1, 3)
    return VirtualViews(azimuth, elevation, torch.full((count,), _FILL), coloured, grey, ground, random_lights(count, generator))
