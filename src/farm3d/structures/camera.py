"""A pinhole camera: rigid motion and intrinsics in pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import torch

from farm3d.core.shapes import Float, Tensor
from farm3d.structures._value import Value

__all__ = ["Camera"]


@dataclass(frozen=True, eq=False, repr=False)
class Camera(Value):
    """OpenGL camera frame (x right, y up, looks along -z); pixels with y down, pixel centres at +0.5.

    A point p of the world (object) frame lands at ``q = T_camera_world p``, pixel ``(fx * q.x / -q.z + cx, -fy * q.y / -q.z + cy)``.

    Attributes:
        T_camera_world: ``[*batch, 4, 4]``, maps world to camera coordinates, column vectors.
        intrinsics: ``[*batch, 4]`` = fx, fy, cx, cy in pixels.
        width_px, height_px: size of the picture.
    """

    T_camera_world: Float[Tensor, "*batch 4 4"]
    intrinsics: Float[Tensor, "*batch 4"]
    width_px: int
    height_px: int

    @classmethod
    def orbit(
        cls,
        azimuth: Float[Tensor, "*batch"] | float,
        elevation: Float[Tensor, "*batch"] | float = 0.0,
        *,
        distance: Float[Tensor, "*batch"] | float = 10.0,
        target: Float[Tensor, "*batch 3"] | None = None,
        fov_deg: float = 25.0,
        size_px: int = 256,
    ) -> Self:
        """Return square-picture cameras that look at ``target`` (default origin) from azimuth and elevation in radians.

        Azimuth 0 looks at the animal's face, measured from +z toward +x, i.e. toward the animal's left (section 0.3: phi).
        """
        place = next((value.device for value in (azimuth, elevation, distance, target) if isinstance(value, Tensor)), None)
        given = (torch.as_tensor(value, dtype=torch.float32, device=place) for value in (azimuth, elevation, distance))
        a, e, d = torch.broadcast_tensors(*given)
        sa, ca, se, ce = a.sin(), a.cos(), e.sin(), e.cos()
        zero = torch.zeros_like(sa)
        forward = torch.stack([ce * sa, se, ce * ca], -1)  # camera +z axis in the world: from the target to the camera
        right = torch.stack([ca, zero, -sa], -1)
        up = torch.stack([-se * sa, ce, -se * ca], -1)
        rotation = torch.stack([right, up, forward], -2)
        centre = forward * d[..., None]
        if target is not None:
            centre = centre + target
        translation = -(rotation @ centre[..., None])
        bottom = rotation.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*rotation.shape[:-2], 1, 4)
        matrix = torch.cat([torch.cat([rotation, translation], -1), bottom], -2)
        focal = size_px / 2 / math.tan(math.radians(fov_deg) / 2)
        intrinsics = rotation.new_tensor([focal, focal, size_px / 2, size_px / 2]).expand(*a.shape, 4)
        return cls(matrix, intrinsics, size_px, size_px)

    def to_camera(self, points: Float[Tensor, "*batch N 3"]) -> Float[Tensor, "*batch N 3"]:
        """Map world points to the camera frame; batch axes broadcast."""
        rotation, translation = self.T_camera_world[..., :3, :3], self.T_camera_world[..., :3, 3]
        return points @ rotation.transpose(-1, -2) + translation[..., None, :]

    def clip(self, points: Float[Tensor, "*batch N 3"], *, near: float = 0.1, far: float = 1000.0) -> Float[Tensor, "*batch N 4"]:
        """Map world points to clip coordinates.

        After division by w, (-1, -1) is the top-left corner of the picture and z grows away from the camera, -1 near, 1 far.
        """
        matrix = self.projection(near=near, far=far) @ self.T_camera_world
        return points @ matrix[..., :3].transpose(-1, -2) + matrix[..., None, :, 3]

    def projection(self, *, near: float = 0.1, far: float = 1000.0) -> Float[Tensor, "*batch 4 4"]:
        """Return the matrix from camera to clip coordinates (section 0.3, with the principal point anywhere and y flipped)."""
        fx, fy, cx, cy = self.intrinsics.unbind(-1)
        zero, one = torch.zeros_like(fx), torch.ones_like(fx)
        rows = (
            (2 * fx / self.width_px, zero, 1 - 2 * cx / self.width_px, zero),
            (zero, -2 * fy / self.height_px, 1 - 2 * cy / self.height_px, zero),
            (zero, zero, -one * (far + near) / (far - near), -one * 2 * far * near / (far - near)),
            (zero, zero, -one, zero),
        )
        return torch.stack([torch.stack(row, -1) for row in rows], -2)

    def pixels(self, points: Float[Tensor, "*batch N 3"]) -> Float[Tensor, "*batch N 2"]:
        """Project world points to pixels, y down."""
        x, y, z = self.to_camera(points).unbind(-1)
        fx, fy, cx, cy = (self.intrinsics[..., i, None] for i in range(4))
        return torch.stack([cx + fx * x / -z, cy - fy * y / -z], -1)

    @property
    def centre(self) -> Float[Tensor, "*batch 3"]:
        """Camera centre in the world frame."""
        rotation, translation = self.T_camera_world[..., :3, :3], self.T_camera_world[..., :3, 3]
        return -(rotation.transpose(-1, -2) @ translation[..., None])[..., 0]

    def resized(self, width_px: int, height_px: int) -> Self:
        """Return the same view drawn with another number of pixels."""
        scale_x, scale_y = width_px / self.width_px, height_px / self.height_px
        factors = self.intrinsics.new_tensor([scale_x, scale_y, scale_x, scale_y])
        return self.replace(intrinsics=self.intrinsics * factors, width_px=width_px, height_px=height_px)
