"""What is fitted to a picture: camera, pose and shape of B hypotheses at once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch

from farm3d.core.shapes import Float, Tensor
from farm3d.geometry.skinning import linear_blend_skinning
from farm3d.model.deformation import GIRTH_GROUPS, LENGTH_GROUPS, proportion_shape
from farm3d.model.joint_limits import joint_limits
from farm3d.model.prior import CategoryPrior
from farm3d.structures import Camera, Skeleton

__all__ = [
    "FIELD_OF_VIEW_DEG",
    "Parameters",
    "Posed",
    "bounded_angles",
    "camera_of",
    "crop_camera",
    "elevation_of",
    "pose",
    "unbounded_angles",
]

FIELD_OF_VIEW_DEG = 25.0  # section 0.3
BASE_DISTANCE = 10.0
ELEVATION_DEG = (-20.0, 50.0)
ROLL_DEG = 15.0
TURN_LIMIT = 0.25  # largest part of the limits that side bend and twist may use: see `sagittal`


@dataclass
class Parameters:
    """Numbers of B hypotheses; all zero (and an azimuth) is the template seen from the front quarter at distance 10.

    Attributes:
        azimuth: of the camera around the animal, radians, 0 sees its face, ``[B]``.
        elevation: unbounded; mapped into -20 .. 50 degrees, ``[B]``.
        roll: unbounded; mapped into +-15 degrees, ``[B]``.
        shift: object origin in the camera frame, units of a hundredth of the distance, ``[B, 2]``.
        log_distance: distance = 10 exp(this), ``[B]``.
        angles: unbounded; mapped into the joint limits, ``[B, K, 3]``.
        log_lengths, log_girths: proportions, ``[B, L]``, ``[B, G]``.
        modes_yz, modes_x: coefficients of the template's modes, canonical units, ``[B, M, 2]``, ``[B, M]``.
    """

    azimuth: Tensor
    elevation: Tensor
    roll: Tensor
    shift: Tensor
    log_distance: Tensor
    angles: Tensor
    log_lengths: Tensor
    log_girths: Tensor
    modes_yz: Tensor
    modes_x: Tensor

    @classmethod
    def start(cls, prior: CategoryPrior, azimuths: Float[Tensor, "B"], *, elevation_deg: float = 8.0) -> Parameters:
        """Return the template at some azimuths (radians), seen from a little above."""
        count = len(azimuths)
        low, high = (math.radians(value) for value in ELEVATION_DEG)
        middle, half = (low + high) / 2, (high - low) / 2
        start = math.atanh((math.radians(elevation_deg) - middle) / half)

        def zeros(*shape: int) -> Tensor:
            return azimuths.new_zeros(count, *shape)

        return cls(
            azimuths.clone(),
            zeros() + start,
            zeros(),
            zeros(2),
            zeros(),
            zeros(len(prior.skeleton.names), 3),
            zeros(len(LENGTH_GROUPS)),
            zeros(len(GIRTH_GROUPS)),
            zeros(prior.modes.along_yz.shape[1], 2),
            zeros(prior.modes.along_x.shape[1]),
        )

    @classmethod
    def seen(
        cls,
        prior: CategoryPrior,
        azimuth: Float[Tensor, "B"],
        elevation: Float[Tensor, "B"],
        shift: Float[Tensor, "B 2"],
        log_distance: Float[Tensor, "B"],
        angles: Float[Tensor, "B K 3"],
        *,
        sagittal: float = 1.0,
    ) -> Parameters:
        """Return the numbers that :func:`pose` turns into these cameras and poses.

        Args:
            prior: the category.
            azimuth, elevation: radians; shift, log_distance: as below.
            angles: radians; what lies beyond the limits at ``sagittal`` is brought just inside of them.
            sagittal: of the first use.
        """
        own = cls.start(prior, azimuth)
        low, high = (math.radians(value) for value in ELEVATION_DEG)
        own.elevation = torch.atanh(((elevation - (low + high) / 2) / ((high - low) / 2)).clamp(-0.98, 0.98))
        own.shift, own.log_distance = shift.clone(), log_distance.clone()
        own.angles = unbounded_angles(angles, *_limits(prior, angles, sagittal))
        return own

    def items(self) -> list[tuple[str, Tensor]]:
        """Return names and tensors in a fixed order."""
        return [(name, getattr(self, name)) for name in self.__dataclass_fields__]

    def pick(self, rows: Tensor) -> Parameters:
        """Return detached copies of some hypotheses."""
        return Parameters(**{name: value.detach()[rows].clone() for name, value in self.items()})


class Posed(NamedTuple):
    """B animals in the object frame with their cameras: ``rest`` and ``vertices`` ``[B, V, 3]``, ``angles`` ``[B, K, 3]`` radians."""

    rest: Tensor
    skeleton: Skeleton
    angles: Tensor
    vertices: Tensor
    camera: Camera


def bounded_angles(raw: Float[Tensor, "B K 3"], low: Float[Tensor, "K 3"], high: Float[Tensor, "K 3"]) -> Float[Tensor, "B K 3"]:
    """Map unbounded numbers into (low, high) with slope 1 at zero; low < 0 < high."""
    limit = torch.where(raw >= 0, high, low)
    return limit * torch.tanh(raw / limit)


def unbounded_angles(angles: Float[Tensor, "B K 3"], low: Float[Tensor, "K 3"], high: Float[Tensor, "K 3"]) -> Float[Tensor, "B K 3"]:
    """Return what :func:`bounded_angles` maps to these angles; those at or beyond a limit are brought a fiftieth inside of it."""
    limit = torch.where(angles >= 0, high, low)
    return limit * torch.atanh((angles / limit).clamp(-0.98, 0.98))


def _limits(prior: CategoryPrior, like: Tensor, sagittal: float) -> tuple[Tensor, Tensor]:
    low, high = (limit.to(like) for limit in joint_limits(prior.skeleton.names))
    freedom = low.new_tensor([1.0, max(sagittal, 1e-3), max(sagittal, 1e-3)])
    return low * freedom, high * freedom


def elevation_of(parameters: Parameters) -> Float[Tensor, "B"]:
    """Return the elevations in radians."""
    low, high = (math.radians(value) for value in ELEVATION_DEG)
    return (low + high) / 2 + (high - low) / 2 * torch.tanh(parameters.elevation)


def camera_of(parameters: Parameters, *, size_px: int) -> Camera:
    """Return the cameras of the crop, ``size_px`` square."""
    elevation = elevation_of(parameters)
    roll = math.radians(ROLL_DEG) * torch.tanh(parameters.roll)
    return crop_camera(parameters.azimuth, elevation, roll, parameters.shift, parameters.log_distance, size_px=size_px)


def crop_camera(
    azimuth: Float[Tensor, "B"],
    elevation: Float[Tensor, "B"],
    roll: Float[Tensor, "B"],
    shift: Float[Tensor, "B 2"],
    log_distance: Float[Tensor, "B"],
    *,
    size_px: int,
) -> Camera:
    """Return cameras that look past the origin; angles in radians, the other numbers as in :class:`Parameters`."""
    sa, ca = azimuth.sin(), azimuth.cos()
    se, ce = elevation.sin(), elevation.cos()
    sr, cr = roll.sin(), roll.cos()
    zero, one = torch.zeros_like(sa), torch.ones_like(sa)
    right = torch.stack([ca, zero, -sa], -1)
    up = torch.stack([-se * sa, ce, -se * ca], -1)
    back = torch.stack([ce * sa, se, ce * ca], -1)
    rotation = torch.stack([cr[:, None] * right - sr[:, None] * up, sr[:, None] * right + cr[:, None] * up, back], -2)
    distance = BASE_DISTANCE * log_distance.exp()
    offset = torch.stack([shift[:, 0] * distance / 100, shift[:, 1] * distance / 100, -distance], -1)
    bottom = torch.stack([zero, zero, zero, one], -1)[:, None]
    matrix = torch.cat([torch.cat([rotation, offset[..., None]], -1), bottom], -2)
    focal = size_px / 2 / math.tan(math.radians(FIELD_OF_VIEW_DEG) / 2)
    intrinsics = matrix.new_tensor([focal, focal, size_px / 2, size_px / 2]).expand(len(matrix), 4)
    return Camera(matrix, intrinsics, size_px, size_px)


def pose(prior: CategoryPrior, parameters: Parameters, *, size_px: int, sagittal: float = 1.0) -> Posed:
    """Return shape, pose and camera of each hypothesis.

    ``sagittal`` in [0, 1] shrinks the limits of side bend and twist (0: joints flex in the sagittal plane only), because one
    picture says little about them and a freer fit is a better outline but a worse animal.
    """
    angles = bounded_angles(parameters.angles, *_limits(prior, parameters.angles, sagittal))
    even = torch.einsum("vm,bmc->bvc", prior.modes.along_yz, parameters.modes_yz)
    odd = torch.einsum("vm,bm->bv", prior.modes.along_x, parameters.modes_x)
    shaped, skeleton = proportion_shape(
        prior.template.vertices,
        prior.skin_weights,
        prior.skeleton,
        log_lengths=parameters.log_lengths,
        log_girths=parameters.log_girths,
    )
    rest = shaped + torch.cat([odd[..., None], even], -1)
    vertices = linear_blend_skinning(rest, prior.skin_weights, skeleton.transforms(angles))
    return Posed(rest, skeleton, angles, vertices, camera_of(parameters, size_px=size_px))
