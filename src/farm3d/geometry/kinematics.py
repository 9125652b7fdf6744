"""Bones to rigid transforms (section 2.6)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from farm3d.core.shapes import Float, Tensor, checked
from farm3d.geometry.rotations import euler_to_matrix

__all__ = ["bone_transforms", "rest_frames", "rigid_inverse"]


@checked
def rest_frames(starts: Float[Tensor, "*batch K 3"], ends: Float[Tensor, "*batch K 3"]) -> Float[Tensor, "*batch K 4 4"]:
    """Return T_object_bone of each bone at rest: z along the bone, y = z x (1, 0, 0), x = y x z, origin at its start (section 2.6).

    A bone along x has no such y; it gets y = (0, 1, 0) instead of a division by zero.
    """
    z = torch.nn.functional.normalize(ends - starts, dim=-1)
    across = torch.zeros_like(z)
    across[..., 0] = 1.0
    y = torch.linalg.cross(z, across)
    fallback = torch.zeros_like(z)
    fallback[..., 1] = 1.0
    y = torch.where(y.norm(dim=-1, keepdim=True) < 1e-6, fallback, y)
    y = torch.nn.functional.normalize(y, dim=-1)
    x = torch.linalg.cross(y, z)
    top = torch.stack([x, y, z, starts], -1)
    bottom = top.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*top.shape[:-2], 1, 4)
    return torch.cat([top, bottom], -2)


@checked
def rigid_inverse(matrix: Float[Tensor, "*batch 4 4"]) -> Float[Tensor, "*batch 4 4"]:
    """Invert rigid motions exactly by transposing the rotation."""
    rotation = matrix[..., :3, :3].transpose(-1, -2)
    translation = -(rotation @ matrix[..., :3, 3:])
    return torch.cat([torch.cat([rotation, translation], -1), matrix[..., 3:, :]], -2)


@checked
def bone_transforms(
    frames: Float[Tensor, "*#batch K 4 4"], parents: Sequence[int], angles: Float[Tensor, "*#batch K 3"]
) -> Float[Tensor, "*#batch K 4 4"]:
    """Return for each bone the map from rest points to posed points, object frame: T_root ... T_parent T_bone (section 2.6).

    T_bone = G Rot(angles) G^-1 with G the bone's rest frame; all frames are rest frames, the leaf acts first.
    ``parents[k] < k`` or -1. Batch axes of frames and angles broadcast.
    """
    rotation = frames[..., :3, :3] @ euler_to_matrix(angles) @ frames[..., :3, :3].transpose(-1, -2)
    origin = frames[..., :3, 3]
    offset = origin - (rotation @ origin[..., None])[..., 0]
    rotations: list[Tensor] = []
    offsets: list[Tensor] = []
    for k, parent in enumerate(parents):
        r, t = rotation[..., k, :, :], offset[..., k, :]
        if parent >= 0:
            t = (rotations[parent] @ t[..., None])[..., 0] + offsets[parent]
            r = rotations[parent] @ r
        rotations.append(r)
        offsets.append(t)
    top = torch.cat([torch.stack(rotations, -3), torch.stack(offsets, -2)[..., None]], -1)
    bottom = top.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*top.shape[:-2], 1, 4)
    return torch.cat([top, bottom], -2)
