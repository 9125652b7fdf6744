"""Random views of an animal as the prior's training pictures were made: camera, light and surroundings, the animal framed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from farm3d.barn.captions import VIEWS, view_index
from farm3d.barn.scenes import ELEVATION_DEG, background, random_camera, random_light
from farm3d.core.color import linear_from_srgb, srgb_from_linear
from farm3d.core.random import numpy_generator
from farm3d.core.shapes import Float, Int, Tensor
from farm3d.render.renderer import render
from farm3d.structures import Camera, Light
from farm3d.training.prior.framing import FILL

__all__ = ["Shot", "framed_camera", "shoot", "shot_of"]

_SHIFT = 0.03  # of the picture, as in framing
_ON_GROUND = 0.5  # share of views before a ground of one colour


@dataclass(frozen=True)
class Shot:
    """One random view, whatever stands in it: equal shots, equal chances.

    Attributes:
        azimuth_deg, elevation_deg: from where.
        chance: decides framing, light and surroundings.
        pose: number of the stance, to be taken modulo how many there are.
    """

    azimuth_deg: float
    elevation_deg: float
    chance: int
    pose: int

    @property
    def view(self) -> str:
        """What a caption calls the view."""
        return VIEWS[view_index(self.azimuth_deg)][0]


def shot_of(seed: int, *words: str | int) -> Shot:
    """Return the shot of a seed and a purpose; azimuths are even over the circle, elevations as in the barn."""
    rng = numpy_generator(seed, "shot", *words)
    low, high = ELEVATION_DEG
    return Shot(float(rng.uniform(0, 360)), float(rng.triangular(low, 8.0, high)), int(rng.integers(2**31)), int(rng.integers(1 << 16)))


def framed_camera(vertices: Float[Tensor, "V 3"], shot: Shot, *, size_px: int) -> Camera:
    """Return the camera of a shot: the barn's, cut to a square about the animal as :func:`farm3d.training.prior.framing.framed` cuts.

    The cut moves the principal point and lengthens the focal length. No gradient goes through the camera: in training the camera is given.
    """
    rng = numpy_generator(shot.chance, "camera")
    still = vertices.detach()
    camera = random_camera(still, azimuth_deg=shot.azimuth_deg, elevation_deg=shot.elevation_deg, size_px=size_px, rng=rng)
    at = camera.pixels(still)
    low, high = at.amin(0), at.amax(0)
    side = float((high - low).amax()) / float(rng.uniform(*FILL))
    shift = torch.from_numpy(rng.uniform(-_SHIFT, _SHIFT, 2)).float() * side
    corner = (low + high) / 2 + shift - side / 2
    scale = size_px / side
    intrinsics = torch.cat([camera.intrinsics[:2] * scale, (camera.intrinsics[2:] - corner) * scale])
    return camera.replace(intrinsics=intrinsics)


def shoot(
    vertices: Float[Tensor, "B V 3"],
    albedo: Float[Tensor, "A V 3"],
    faces: Int[Tensor, "F 3"],
    shots: Sequence[Shot],
    *,
    size_px: int,
    supersample: int = 1,
    framed_by: Float[Tensor, "B V 3"] | None = None,
) -> tuple[Float[Tensor, "B 3 S S"], Float[Tensor, "B S S"]]:
    """Draw each of B surfaces in its shot; sRGB and coverage, differentiable with respect to vertices and albedo.

    Args:
        vertices: metres, feet near y = 0.
        albedo: linear, one for all or B.
        faces: triangles.
        shots: B of them.
        size_px: side of the pictures.
        supersample: pictures are drawn this many times larger and averaged.
        framed_by: surfaces that the cameras frame, where they are others than those drawn.
    """
    framing = vertices if framed_by is None else framed_by
    cameras = [framed_camera(surface, shot, size_px=size_px) for surface, shot in zip(framing, shots, strict=True)]
    lights, grounds = [], []
    for camera, shot in zip(cameras, shots, strict=True):
        rng = numpy_generator(shot.chance, "light")
        lights.append(random_light(rng))
        grounds.append(_ground(camera, lights[-1], rng))
    drawn = render(
        vertices,
        faces,
        _stacked(cameras),
        Light(*(torch.stack([getattr(light, name) for light in lights]) for name in ("direction", "ambient", "diffuse"))),
        albedo=albedo,
        supersample=supersample,
        background=torch.stack(grounds),
    )
    return srgb_from_linear(drawn.rgb).permute(0, 3, 1, 2), drawn.mask


def _ground(camera: Camera, light: Light, rng: np.random.Generator) -> Tensor:
    """Return linear surroundings ``[S, S, 3]``: half of them the grounds of training (black, white, grey, a colour), half the barn's."""
    if rng.random() >= _ON_GROUND:
        return background(camera, light, rng)[0]
    kind = int(rng.integers(4))
    grey, colour = float(rng.uniform(0.05, 0.8)), rng.uniform(0, 1, 3)
    values = (torch.zeros(3), torch.ones(3), torch.full((3,), grey), linear_from_srgb(torch.from_numpy(colour).float()))
    return values[kind].expand(camera.height_px, camera.width_px, 3)


def _stacked(cameras: Sequence[Camera]) -> Any:
    return cameras[0].replace(
        T_camera_world=torch.stack([camera.T_camera_world for camera in cameras]),
        intrinsics=torch.stack([camera.intrinsics for camera in cameras]),
    )
