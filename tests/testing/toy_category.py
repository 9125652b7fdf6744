"""A category to learn in a minute: one quadruped seen from everywhere, with the real backbone's features of its pictures."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch

from farm3d.core.color import srgb_from_linear
from farm3d.core.random import torch_generator
from farm3d.model.encoder import Encoder
from farm3d.model.feature_pca import PcaFit
from farm3d.render.renderer import render
from farm3d.structures import Camera, Light
from farm3d.training.category.pictures import PictureSet
from farm3d.training.category.trainer import digest_of
from tests.testing.animals import quadruped_mesh

__all__ = ["toy_azimuths", "toy_pictures"]

_SIZE_PX = 64


def toy_azimuths(count: int = 24) -> np.ndarray:
    """Radians of the pictures' cameras, evenly spread."""
    return (np.arange(count) + 0.3) / count * 2 * math.pi


@lru_cache(maxsize=1)
@torch.no_grad()
def toy_pictures(count: int = 24) -> PictureSet:
    """Crops of the quadruped in canonical size on grey, every second one with the view said."""
    mesh = quadruped_mesh()
    vertices = (mesh.vertices - (mesh.vertices.amin(0) + mesh.vertices.amax(0)) / 2) * 1.9
    azimuths = torch.from_numpy(toy_azimuths(count)).float()
    camera = Camera.orbit(azimuths, math.radians(8), distance=11.0, size_px=_SIZE_PX)
    light = Light(torch.nn.functional.normalize(torch.tensor([0.3, 0.8, 0.5]), dim=0), torch.tensor(0.4), torch.tensor(0.6))
    generator = torch_generator(0, "toy coat")
    coat = (0.4 + 0.3 * torch.rand(1, len(vertices), 3, generator=generator)) * torch.tensor([0.9, 0.6, 0.4])
    drawn = render(vertices[None], mesh.faces, camera, light, albedo=coat, background=0.5, supersample=2)
    rgb = srgb_from_linear(drawn.rgb).permute(0, 3, 1, 2)
    encoder = Encoder.from_pretrained()
    maps = torch.cat([encoder.features(torch.nn.functional.interpolate(part, (128, 128), mode="bilinear")) for part in rgb.split(8)])
    fit = PcaFit(encoder.channels, encoder="efficientnet_lite0", normalize=False)
    fit.add(maps, drawn.mask)
    pca = fit.result(16)
    features = pca.project(maps).half().numpy()
    arrays = ((rgb * 255).round().byte().numpy(), (drawn.mask * 255).round().byte().numpy(), features)
    views = np.round(toy_azimuths(count) / (math.pi / 4)).astype(np.int64) % 8
    views[1::2] = -1
    names = tuple(f"toy-{number:06d}" for number in range(count))
    return PictureSet(*arrays, pca.variance.sqrt().numpy(), views, names, digest_of(*arrays))
