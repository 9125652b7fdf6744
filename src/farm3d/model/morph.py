"""Between two animals of one category: shape, bones, coat, pose and height at any share of the way."""

from __future__ import annotations

import torch

from farm3d.core.errors import InputError
from farm3d.core.shapes import Float, Tensor
from farm3d.structures import Animal

__all__ = ["morph"]


def morph(a: Animal, b: Animal, share: float) -> Animal:
    """Return the animal ``share`` of the way from ``a`` (0) to ``b`` (1).

    Both are brought to a height of one unit with their feet on y = 0, so that the smaller one's proportions count as much as the
    larger one's; then everything goes in a straight line: vertices and joints at rest, joint angles (radians) of the photographed pose,
    the albedo (linear colours, at the finer one's size) and the height in metres. The result is about one unit tall; its light and camera
    are ``a``'s.

    Args:
        a, b: with equal faces, atlas and bones, as :func:`farm3d.export.glb_animal.kin_from_files` or one model's reconstructions give.
        share: 0 to 1.

    Raises:
        InputError: another share, or animals that differ in more than places and colours.
    """
    if not 0 <= share <= 1:
        raise InputError(f"a share of {share:g} of the way: expected 0 to 1")
    if (
        a.category != b.category
        or a.skeleton.names != b.skeleton.names
        or a.rest.vertices.shape != b.rest.vertices.shape
        or not torch.equal(a.rest.faces, b.rest.faces)
    ):
        raise InputError(f"a {a.category} and a {b.category} with other meshes or bones", hint="give two animals of one category's model")
    side = max(a.albedo.shape[0], b.albedo.shape[0])
    one, other = _one_unit_tall(a), _one_unit_tall(b)
    skeleton = a.skeleton.replace(
        starts=torch.lerp(one.skeleton.starts, other.skeleton.starts, share),
        ends=torch.lerp(one.skeleton.ends, other.skeleton.ends, share),
        centre=torch.lerp(one.skeleton.centre, other.skeleton.centre, share),
    )
    return a.replace(
        rest=a.rest.replace(vertices=torch.lerp(one.rest.vertices, other.rest.vertices, share)),
        skeleton=skeleton,
        angles=torch.lerp(a.angles, b.angles, share),
        albedo=torch.lerp(_resized(a.albedo, side), _resized(b.albedo, side), share),
        height_m=(1 - share) * a.height_m + share * b.height_m,
    )


def _one_unit_tall(animal: Animal) -> Animal:
    height = animal.rest.vertices[:, 1]
    low, scale = height.min(), 1 / (height.max() - height.min())
    lift = torch.stack([torch.zeros_like(low), low, torch.zeros_like(low)])
    skeleton = animal.skeleton
    return animal.replace(
        rest=animal.rest.replace(vertices=(animal.rest.vertices - lift) * scale),
        skeleton=skeleton.replace(
            starts=(skeleton.starts - lift) * scale, ends=(skeleton.ends - lift) * scale, centre=(skeleton.centre - lift) * scale
        ),
    )


def _resized(albedo: Float[Tensor, "Ht Wt 3"], side_px: int) -> Float[Tensor, "S S 3"]:
    if albedo.shape[:2] == (side_px, side_px):
        return albedo
    planes = torch.nn.functional.interpolate(albedo.permute(2, 0, 1)[None], (side_px, side_px), mode="bilinear", antialias=True)
    return planes[0].permute(1, 2, 0)
