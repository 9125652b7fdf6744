"""A reconstructed animal: everything that the product files are made of."""

from __future__ import annotations

from dataclasses import dataclass

from farm3d.core.shapes import Float, Tensor
from farm3d.structures._value import Value
from farm3d.structures.camera import Camera
from farm3d.structures.light import Light
from farm3d.structures.mesh import Mesh
from farm3d.structures.skeleton import Skeleton

__all__ = ["Animal"]


@dataclass(frozen=True, eq=False, repr=False)
class Animal(Value):
    """An articulated, textured animal and the view of it in its photograph. Canonical units, object frame.

    Attributes:
        category: species name of the model, e.g. ``horse``.
        rest: the animal's own shape in the rest (= bind) pose, with UV atlas.
        skeleton: its bones in that pose.
        skin_weights: ``[V, K]``, rows sum to 1, at most four non-zero each (what a glTF file can hold).
        angles: the photographed pose, ``[K, 3]`` radians, in the bones' rest frames.
        albedo: base colour texture without shading, linear RGB in [0, 1], ``[Ht, Wt, 3]``, addressed by ``rest.uv``.
        light: the photograph's light, camera frame.
        camera: from the object frame (canonical units) to the upright photograph's pixels.
        height_m: height of the rest shape from lowest to highest vertex in metres; sets the scale of the exported file.
    """

    category: str
    rest: Mesh
    skeleton: Skeleton
    skin_weights: Float[Tensor, "V K"]
    angles: Float[Tensor, "K 3"]
    albedo: Float[Tensor, "Ht Wt 3"]
    light: Light
    camera: Camera
    height_m: float
