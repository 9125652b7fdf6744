"""An animal at a moment of a clip, interpolated exactly as a glTF player interpolates the exported file."""

from __future__ import annotations

import bisect

import torch

from farm3d.core.shapes import Float, Tensor
from farm3d.geometry.rotations import euler_to_matrix, matrix_to_euler, matrix_to_quaternion, quaternion_to_matrix, slerp
from farm3d.geometry.skinning import linear_blend_skinning
from farm3d.motion.clips import Clip
from farm3d.structures import Animal

__all__ = ["pose_at", "posed_vertices"]


def pose_at(clip: Clip, time_s: float) -> tuple[Float[Tensor, "K 3"], Float[Tensor, "3"]]:
    """Return joint angles (radians) and root shift (canonical units) at a time in seconds.

    Rotations follow the shorter arc between the two keys around, the root moves in a straight line: what a glTF player does with the
    exported LINEAR channels. Times beyond the clip wrap round, as players loop.
    """
    times = clip.times_s.tolist()
    if not 0 <= time_s <= times[-1]:
        time_s = time_s % times[-1] if times[-1] > 0 else 0.0
    after = min(max(bisect.bisect_right(times, time_s), 1), len(times) - 1)
    fraction = (time_s - times[after - 1]) / (times[after] - times[after - 1])
    start, end = (matrix_to_quaternion(euler_to_matrix(clip.angles[i].double())) for i in (after - 1, after))
    angles = matrix_to_euler(quaternion_to_matrix(slerp(start, end, torch.full(start.shape[:1], fraction).to(start))))
    offset = torch.lerp(clip.root_offset[after - 1], clip.root_offset[after], fraction)
    return angles.float(), offset


def posed_vertices(animal: Animal, clip: Clip, time_s: float) -> Float[Tensor, "V 3"]:
    """Return the animal's vertices at a time of a clip by linear blend skinning, canonical units, object frame."""
    angles, offset = (value.to(animal.rest.vertices) for value in pose_at(clip, time_s))
    return linear_blend_skinning(animal.rest.vertices, animal.skin_weights, animal.skeleton.transforms(angles)) + offset
