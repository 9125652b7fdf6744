"""What a training looks like: the rest shape from eight sides, pictures with their reconstructions and those from the side, viewpoints."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from farm3d.core.color import srgb_from_linear
from farm3d.core.files import whole_file
from farm3d.core.random import torch_generator
from farm3d.core.shapes import Float, Tensor
from farm3d.model.category.model import CategoryModel
from farm3d.model.category.rest_shape import RestShape, Scaffold, rest_shape
from farm3d.render.renderer import render
from farm3d.structures import Camera, Light
from farm3d.training.category.pictures import PictureBatch, PictureSet
from farm3d.training.category.schedule import Moment, Weights
from farm3d.training.category.step import compare, off_the_words
from farm3d.training.category.virtual_views import Critic, VirtualViews, draw_views, framed_cameras

__all__ = ["best_hypotheses", "draw_training_sheet"]

_TILE_PX, _SHOWN = 128, 8
_SIDE = math.radians(55)


@torch.no_grad()
def draw_training_sheet(
    model: CategoryModel,
    scaffold: Scaffold,
    pictures: PictureSet,
    at: Moment,
    weights: Weights,
    path: Path,
    *,
    critic: Critic | None = None,
) -> None:
    """Write a PNG with six rows, or seven with a critic.

    The rest shape from eight sides; eight pictures; their reconstructions as clay, with parts coloured (orange before the shoulders, blue
    behind the hips); in their own colours and light; from 55 degrees to the side; as the critic sees them, from anywhere and in any light;
    and a histogram of the azimuths chosen for up to 200 pictures.
    """
    rest = rest_shape(model.shape, scaffold)
    rows = [_around(rest)]
    count = min(_SHOWN, len(pictures))
    numbers = np.round(np.linspace(0, len(pictures) - 1, count)).astype(int)
    batch = pictures.take(numbers, np.zeros(count, bool)).to(model.device)
    rows.append([_image(picture) for picture in torch.nn.functional.interpolate(batch.rgb, (_TILE_PX, _TILE_PX), mode="area")])
    rows += _reconstructions(model, rest, batch, at, weights, critic)
    azimuths = []
    for begin in range(0, min(len(pictures), 200), 20):
        some = np.arange(begin, min(begin + 20, len(pictures)))
        part = pictures.take(some, np.zeros(len(some), bool)).to(model.device)
        reading, best = best_hypotheses(model, rest, part, at, weights)
        azimuths.append(reading.viewpoints.azimuth.gather(1, best[:, None])[:, 0])
    rows.append([_histogram(torch.cat(azimuths))])
    sheet = Image.new("RGB", (_SHOWN * _TILE_PX, len(rows) * _TILE_PX), "white")
    for row, tiles in enumerate(rows):
        for column, tile in enumerate(tiles):
            sheet.paste(tile, (column * _TILE_PX, row * _TILE_PX))
    with whole_file(path) as part_path:
        sheet.save(part_path, "PNG")


@torch.no_grad()
def best_hypotheses(model: CategoryModel, rest: RestShape, batch: PictureBatch, at: Moment, weights: Weights):
    """Read pictures, draw all hypotheses of each and return the reading and the numbers of the ones that explain them best, ``[B]``.

    As the training chooses, the words that were asked for count too.
    """
    reading = model.reader(batch.features, batch.rgb, batch.mask)
    each, device = model.config.hypotheses, model.device
    pictures = torch.arange(len(batch), device=device).repeat_interleave(each)
    hypotheses = torch.arange(each, device=device).repeat(len(batch))
    camera = reading.viewpoints.cameras(pictures, hypotheses, size_px=at.size_px)
    animals = model.individuals(rest, reading, camera, pictures, deform=at.deform, articulate=at.articulate)
    weights = at.faded(weights)
    compared = compare(model, rest, reading, animals, camera, pictures, batch, size_px=at.size_px, colour=False, weights=weights)
    choices = compared.choice(weights) + weights.view_words * off_the_words(batch, reading, pictures, hypotheses)
    return reading, choices.unflatten(0, (len(batch), each)).argmin(1)


def _reconstructions(
    model: CategoryModel, rest: RestShape, batch: PictureBatch, at: Moment, weights: Weights, critic: Critic | None
) -> list[list[Image.Image]]:
    reading, best = best_hypotheses(model, rest, batch, at, weights)
    pictures = torch.arange(len(batch), device=model.device)
    camera = reading.viewpoints.cameras(pictures, best, size_px=_TILE_PX)
    animals = model.individuals(rest, reading, camera, pictures, deform=at.deform, articulate=at.articulate)
    clay = _clay(rest).expand(len(batch), -1, -1)
    azimuth = reading.viewpoints.azimuth[pictures, best] + _SIDE
    side = framed_cameras(animals.vertices, azimuth, torch.full_like(azimuth, 0.2), fill=torch.full_like(azimuth, 0.85), size_px=_TILE_PX)
    own = model.colours(rest, reading.look) if at.colour else clay
    lamp = _light(model.device)
    light = model.lights(reading.look) if at.colour else lamp
    rows = [
        _drawn(animals.vertices, rest, camera, lamp, clay),
        _drawn(animals.vertices, rest, camera, light, own),
        _drawn(animals.vertices, rest, side, lamp, clay),
    ]
    if critic is not None:
        views = VirtualViews.drawn(len(batch), critic.options, torch_generator(0, "sheet")).to(model.device)
        rows.append([_image(picture) for picture in draw_views(model, rest, reading, pictures, best, views, at, size_px=_TILE_PX).rgb])
    return rows


def _around(rest: RestShape) -> list[Image.Image]:
    device = rest.vertices.device
    azimuth = torch.arange(_SHOWN, device=device) * (2 * math.pi / _SHOWN)
    vertices = rest.vertices.expand(_SHOWN, -1, -1)
    camera = framed_cameras(vertices, azimuth, torch.full_like(azimuth, 0.2), fill=torch.full_like(azimuth, 0.85), size_px=_TILE_PX)
    return _drawn(vertices, rest, camera, _light(device), rest.vertices.new_full((1, len(rest.vertices), 3), 0.7))


def _clay(rest: RestShape) -> Float[Tensor, "1 V 3"]:
    z = rest.vertices[:, 2]
    low, high = float(z.min()), float(z.max())
    front, back = (z > low + 0.68 * (high - low))[:, None], (z < low + 0.22 * (high - low))[:, None]
    colours = torch.where(
        front, z.new_tensor([0.8, 0.35, 0.15]), torch.where(back, z.new_tensor([0.2, 0.3, 0.75]), z.new_tensor([0.45] * 3))
    )
    return colours[None]


def _light(device: torch.device) -> Light:
    direction = torch.nn.functional.normalize(torch.tensor([0.2, 0.8, 0.6]), dim=0)
    return Light(direction, torch.tensor(0.3), torch.tensor(0.7)).to(device)


def _drawn(vertices: Tensor, rest: RestShape, camera: Camera, light: Light, albedo: Tensor) -> list[Image.Image]:
    drawn = render(vertices, rest.faces, camera, light, albedo=albedo, background=1.0)
    return [_image(srgb_from_linear(picture).permute(2, 0, 1)) for picture in drawn.rgb]


def _histogram(azimuths: Tensor) -> Image.Image:
    """Draw how many animals are seen from each of 16 directions, beginning with the front."""
    counts = torch.bincount((azimuths.remainder(2 * math.pi) / (2 * math.pi / 16)).round().long() % 16, minlength=16)
    picture = Image.new("RGB", (4 * _TILE_PX, _TILE_PX), "white")
    pen = ImageDraw.Draw(picture)
    wide, top = 4 * _TILE_PX // 16, int(counts.max())
    for number, count in enumerate(counts.tolist()):
        tall = round((_TILE_PX - 28) * count / max(top, 1))
        pen.rectangle((number * wide + 3, _TILE_PX - 14 - tall, (number + 1) * wide - 3, _TILE_PX - 14), fill=(90, 90, 90))
    pen.text((2, _TILE_PX - 12), "azimuths: front (left) by the left side to the front again", fill="black")
    return picture


def _image(rgb: Float[Tensor, "3 S S"]) -> Image.Image:
    return Image.fromarray((rgb.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy())
