"""One distant light and an ambient term (the model of MagicPony and Farm3D, section 2.9)."""

from __future__ import annotations

from dataclasses import dataclass

from farm3d.core.shapes import Float, Tensor
from farm3d.structures._value import Value

__all__ = ["Light"]


@dataclass(frozen=True, eq=False, repr=False)
class Light(Value):
    """colour = albedo * (ambient + diffuse * max(0, n . direction)), with n and direction in the camera frame.

    Attributes:
        direction: unit vector from the surface to the light, camera frame, ``[*batch, 3]``.
        ambient: ``[*batch]``.
        diffuse: ``[*batch]``.
    """

    direction: Float[Tensor, "*batch 3"]
    ambient: Float[Tensor, "*batch"]
    diffuse: Float[Tensor, "*batch"]
