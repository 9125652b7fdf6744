"""From where the animal is seen: several hypotheses, each with how well it expects to explain the picture (section 2.8)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from farm3d.core.shapes import Float, Tensor
from farm3d.model.category.config import CategoryConfig
from farm3d.model.parameters import crop_camera
from farm3d.structures import Camera
from farm3d.structures._value import Value

__all__ = ["Viewpoints", "count_outputs", "viewpoints_from"]

_NUMBERS = 3  # of a hypothesis: score, azimuth, elevation
_SHARED = 3  # shift along x and y, distance


@dataclass(frozen=True, eq=False, repr=False)
class Viewpoints(Value):
    """H hypotheses for each of B pictures.

    Attributes:
        score: the loss that a hypothesis expects, ``[B, H]``: lower is better.
        azimuth: radians, 0 sees the face, a quarter turn the animal's left side, ``[B, H]``.
        elevation: radians above the horizon, ``[B, H]``.
        shift: object origin in the camera frame, hundredths of the distance, ``[B, 2]``.
        log_distance: distance = 10 exp(this), ``[B]``.
    """

    score: Float[Tensor, "B H"]
    azimuth: Float[Tensor, "B H"]
    elevation: Float[Tensor, "B H"]
    shift: Float[Tensor, "B 2"]
    log_distance: Float[Tensor, "B"]

    def cameras(self, pictures: Tensor, hypotheses: Tensor, *, size_px: int) -> Camera:
        """Return the cameras of N pairs of a picture and a hypothesis, ``[N]`` each."""
        azimuth, elevation = self.azimuth[pictures, hypotheses], self.elevation[pictures, hypotheses]
        return crop_camera(
            azimuth, elevation, torch.zeros_like(azimuth), self.shift[pictures], self.log_distance[pictures], size_px=size_px
        )


def count_outputs(config: CategoryConfig) -> int:
    """Return how many numbers the head has to give."""
    return _NUMBERS * config.hypotheses + _SHARED


def viewpoints_from(raw: Float[Tensor, "B R"], config: CategoryConfig) -> Viewpoints:
    """Read the head's numbers: each hypothesis keeps to its quarter of the circle and a little beyond.

    The paper predicts yaw alone and fixes elevation at zero; ``parts.elevation`` lifts that. Roll stays zero.
    """
    count = config.hypotheses
    own = raw[:, : _NUMBERS * count].unflatten(1, (count, _NUMBERS))
    shared = raw[:, _NUMBERS * count :]
    if count == 1:
        azimuth = math.pi * torch.tanh(own[..., 1])
    else:
        middle = math.pi / 4 + math.pi / 2 * torch.arange(count, device=raw.device)
        azimuth = middle + math.radians(config.azimuth_reach_deg) * torch.tanh(own[..., 1])
    middle_deg, reach_deg = config.elevation_deg
    elevation = torch.zeros_like(azimuth)
    if config.parts.elevation:
        elevation = math.radians(middle_deg) + math.radians(reach_deg) * torch.tanh(own[..., 2])
    return Viewpoints(
        own[..., 0],
        azimuth,
        elevation,
        config.shift_reach * torch.tanh(shared[:, :2]),
        config.log_distance_reach * torch.tanh(shared[:, 2]),
    )
