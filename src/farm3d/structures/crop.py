"""One animal cut out of a photograph."""

from __future__ import annotations

from dataclasses import dataclass

from farm3d.core.shapes import Float, Tensor
from farm3d.structures._value import Value

__all__ = ["Crop"]


@dataclass(frozen=True, eq=False, repr=False)
class Crop(Value):
    """A square cut around an animal's silhouette (crop rule of section 1.2).

    Attributes:
        image: sRGB-encoded colours, ``[3, S, S]`` in [0, 1]; 0 outside the photograph.
        mask: silhouette coverage, ``[S, S]`` in [0, 1].
        valid: 1 where the crop lies inside the photograph (less a margin of 2 % of the crop), ``[S, S]``.
        box_px: x0, y0, side of the square in the upright photograph's pixels; x0 and y0 may be negative.
        photo_size_px: width, height of the upright photograph.
        name: file stem, for messages and output names.
        warnings: plain sentences for the user (cut by the border, several animals, …).
    """

    image: Float[Tensor, "3 S S"]
    mask: Float[Tensor, "S S"]
    valid: Float[Tensor, "S S"]
    box_px: tuple[float, float, float]
    photo_size_px: tuple[int, int]
    name: str = "animal"
    warnings: tuple[str, ...] = ()
