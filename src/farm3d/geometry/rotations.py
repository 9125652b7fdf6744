"""Rotations: Euler angles, matrices, quaternions (wxyz)."""

from __future__ import annotations

import torch

from farm3d.core.shapes import Float, Tensor, checked

__all__ = ["euler_to_matrix", "look_matrix", "matrix_to_euler", "matrix_to_quaternion", "quaternion_to_matrix", "slerp"]


@checked
def euler_to_matrix(angles: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Return R = Rx(a) Ry(b) Rz(c) for angles (a, b, c) in radians (section 0.3)."""
    (sa, sb, sc), (ca, cb, cc) = angles.sin().unbind(-1), angles.cos().unbind(-1)
    rows = [
        torch.stack([cb * cc, -cb * sc, sb], -1),
        torch.stack([ca * sc + sa * sb * cc, ca * cc - sa * sb * sc, -sa * cb], -1),
        torch.stack([sa * sc - ca * sb * cc, sa * cc + ca * sb * sc, ca * cb], -1),
    ]
    return torch.stack(rows, -2)


@checked
def matrix_to_euler(matrix: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3"]:
    """Return (a, b, c) in radians with R = Rx(a) Ry(b) Rz(c); b lies in [-90, 90] degrees, and there a and c are not unique."""
    b = torch.asin(matrix[..., 0, 2].clamp(-1, 1))
    a = torch.atan2(-matrix[..., 1, 2], matrix[..., 2, 2])
    c = torch.atan2(-matrix[..., 0, 1], matrix[..., 0, 0])
    return torch.stack([a, b, c], -1)


@checked
def look_matrix(forward: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Return the object-to-camera rotation whose columns are (up x f, f x (up x f), f), f the object's +z axis in the camera frame.

    Section 0.3 ("Predicted rotation"): f = (0, 0, 1) faces the viewer, f = (1, 0, 0) has the head at the right of the picture.
    Undefined for f parallel to (0, 1, 0).
    """
    f = torch.nn.functional.normalize(forward, dim=-1)
    up = torch.zeros_like(f)
    up[..., 1] = 1.0
    right = torch.nn.functional.normalize(torch.linalg.cross(up, f), dim=-1)
    return torch.stack([right, torch.linalg.cross(f, right), f], -1)


@checked
def matrix_to_quaternion(matrix: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 4"]:
    """Return unit quaternions wxyz with w >= 0 for rotation matrices; stable for every angle (largest component first)."""
    m = matrix
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    # Row i is the quaternion times (4 times its component i): each is right up to scale, the one with the largest norm is well conditioned.
    rows = torch.stack(
        [
            torch.stack([1 + xx + yy + zz, m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]], -1),
            torch.stack([m[..., 2, 1] - m[..., 1, 2], 1 + xx - yy - zz, m[..., 0, 1] + m[..., 1, 0], m[..., 0, 2] + m[..., 2, 0]], -1),
            torch.stack([m[..., 0, 2] - m[..., 2, 0], m[..., 0, 1] + m[..., 1, 0], 1 - xx + yy - zz, m[..., 1, 2] + m[..., 2, 1]], -1),
            torch.stack([m[..., 1, 0] - m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0], m[..., 1, 2] + m[..., 2, 1], 1 - xx - yy + zz], -1),
        ],
        -2,
    )
    diagonal = rows.diagonal(dim1=-2, dim2=-1)
    best = diagonal.argmax(-1)
    picked = torch.gather(rows, -2, best[..., None, None].expand(*best.shape, 1, 4))[..., 0, :]
    quaternion = torch.nn.functional.normalize(picked, dim=-1)
    return torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)


@checked
def quaternion_to_matrix(quaternion: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3 3"]:
    """Return rotation matrices for quaternions wxyz (normalised here)."""
    w, x, y, z = torch.nn.functional.normalize(quaternion, dim=-1).unbind(-1)
    rows = [
        torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], -1),
        torch.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], -1),
        torch.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], -1),
    ]
    return torch.stack(rows, -2)


@checked
def slerp(start: Float[Tensor, "*batch 4"], end: Float[Tensor, "*batch 4"], fraction: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch 4"]:
    """Interpolate unit quaternions along the shorter arc, as glTF's LINEAR rotation sampler does."""
    cosine = (start * end).sum(-1)
    end = torch.where(cosine[..., None] < 0, -end, end)
    angle = torch.acos(cosine.abs().clamp(max=1.0))
    sine = angle.sin()
    near = sine < 1e-6
    safe = torch.where(near, torch.ones_like(sine), sine)
    a = torch.where(near, 1 - fraction, ((1 - fraction) * angle).sin() / safe)
    b = torch.where(near, fraction, (fraction * angle).sin() / safe)
    return torch.nn.functional.normalize(a[..., None] * start + b[..., None] * end, dim=-1)
