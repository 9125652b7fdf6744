"""How far a predicted viewpoint is from the true one, and whether it is flipped."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from farm3d.core.shapes import Float, Tensor, checked
from farm3d.structures import Camera

__all__ = ["ViewpointError", "azimuth_elevation_deg", "viewpoint_error"]

CLEAR = math.sin(math.radians(15.0))


@dataclass(frozen=True)
class ViewpointError:
    """Differences between two camera rotations, and flips.

    The head direction h is the object's +z axis in the camera frame: h.x > 0 has the head toward the right of the picture, h.z > 0 has
    it toward the viewer (section 0.3).

    Attributes:
        rotation_deg: angle of the rotation between the two (geodesic distance on SO(3)), 0 to 180.
        azimuth_deg: of the camera round the animal, 0 to 180.
        elevation_deg: 0 to 180.
        front_back_flip: h.z has the wrong sign; None where the true one is unclear, |h.z| <= sin 15 deg (seen from the side).
        left_right_flip: h.x has the wrong sign; None where the true one is unclear, |h.x| <= sin 15 deg (seen from ahead or behind).
    """

    rotation_deg: float
    azimuth_deg: float
    elevation_deg: float
    front_back_flip: bool | None
    left_right_flip: bool | None


@checked
def azimuth_elevation_deg(rotation: Float[Tensor, "3 3"]) -> tuple[float, float]:
    """Return where a camera stands round the animal, for R_camera_object: azimuth in (-180, 180], elevation in [-90, 90]."""
    x, y, z = rotation[2].double().tolist()  # the camera's +z axis in the object frame: from the animal to the camera
    return math.degrees(math.atan2(x, z)), math.degrees(math.asin(max(-1.0, min(1.0, y))))


def viewpoint_error(predicted: Camera, true: Camera) -> ViewpointError:
    """Compare the rotations of two unbatched cameras; places and intrinsics do not matter."""
    ours, theirs = predicted.T_camera_world[:3, :3].double(), true.T_camera_world[:3, :3].double()
    between = ours @ theirs.T
    # atan2 of sine and cosine: acos alone cannot tell 0 from a hundredth of a degree.
    skew = torch.stack([between[2, 1] - between[1, 2], between[0, 2] - between[2, 0], between[1, 0] - between[0, 1]])
    rotation = math.degrees(math.atan2(float(skew.norm()) / 2, (float(between.trace()) - 1) / 2))
    (azimuth, elevation), (true_azimuth, true_elevation) = azimuth_elevation_deg(ours), azimuth_elevation_deg(theirs)
    return ViewpointError(
        rotation,
        abs((azimuth - true_azimuth + 180) % 360 - 180),
        abs(elevation - true_elevation),
        _flipped(float(ours[2, 2]), float(theirs[2, 2])),
        _flipped(float(ours[0, 2]), float(theirs[0, 2])),
    )


def _flipped(predicted: float, true: float) -> bool | None:
    return predicted * true < 0 if abs(true) > CLEAR else None
