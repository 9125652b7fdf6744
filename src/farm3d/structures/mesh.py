"""A triangle mesh, with an optional UV atlas."""

from __future__ import annotations

from dataclasses import dataclass

from farm3d.core.shapes import Float, Int, Tensor
from farm3d.structures._value import Value

__all__ = ["Mesh"]


@dataclass(frozen=True, eq=False, repr=False)
class Mesh(Value):
    """Triangles in the object frame (x the animal's left, y up, z toward the head; docs/conventions.md).

    Attributes:
        vertices: positions, ``[*batch, V, 3]``, canonical units unless said otherwise.
        faces: vertex indices, ``[F, 3]`` int64, counter-clockwise seen from outside.
        uv: atlas corners, ``[U, 2]`` in [0, 1], origin at the top left of the picture (glTF's rule), or None.
        faces_uv: corner indices into ``uv``, ``[F, 3]`` int64, or None.
    """

    vertices: Float[Tensor, "*batch V 3"]
    faces: Int[Tensor, "F 3"]
    uv: Float[Tensor, "U 2"] | None = None
    faces_uv: Int[Tensor, "F 3"] | None = None
