"""The category's rest shape as it is now: surface, bones and skin, of which topology and bones are renewed now and then."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch

from farm3d.core.errors import ModelError
from farm3d.core.shapes import Float, Int, Tensor
from farm3d.geometry.quadruped import TAIL_NAMES, find_quadruped_bones
from farm3d.geometry.skinning import skin_weights
from farm3d.geometry.tetrahedra import Crossings, Grid, find_crossings
from farm3d.model.category.config import CategoryConfig
from farm3d.model.fields import ShapeField
from farm3d.structures import Skeleton

__all__ = ["RestShape", "Scaffold", "grid_of", "make_scaffold", "rest_shape"]


@dataclass(frozen=True, eq=False)
class Scaffold:
    """What does not change from step to step, and is no function of gradients.

    Attributes:
        crossings: the surface's topology.
        skeleton: bones found from the surface.
        cell: size that the grid's cells were asked for, from which :func:`grid_of` makes the same grid.
    """

    crossings: Crossings
    skeleton: Skeleton
    cell: float

    def to(self, device: torch.device | str) -> Self:
        """Return it on a device."""
        crossings = self.crossings
        assert crossings.mirror is not None
        moved = {"ends": crossings.ends.to(device), "faces": crossings.faces.to(device), "mirror": crossings.mirror.to(device)}
        return type(self)(dataclasses.replace(crossings, **moved), self.skeleton.to(device), self.cell)


@dataclass(frozen=True, eq=False)
class RestShape:
    """The prior shape, canonical units, object frame.

    Attributes:
        vertices: ``[V, 3]``, differentiable in the shape field.
        half: how many of them are no mirror image of another; they come first.
        faces: ``[F, 3]``; the same tensor as long as the topology is the same.
        mirror: vertex at the mirrored place, ``[V]``.
        skeleton: bones at rest.
        skin: weights ``[V, K]``, no gradient.
    """

    vertices: Float[Tensor, "V 3"]
    half: int
    faces: Int[Tensor, "F 3"]
    mirror: Int[Tensor, " V"]
    skeleton: Skeleton
    skin: Float[Tensor, "V K"]


def grid_of(config: CategoryConfig, *, cell: float) -> Grid:
    """Return the grid of the half x >= 0 of the model's box, with cells of about this size."""
    x, y, z = config.box
    cells = [max(4 * round(extent / cell / 4), 4) for extent in (x, 2 * y, 2 * z)]
    return Grid((0.0, -y, -z), (x, y, z), (cells[0], cells[1], cells[2]), mirrored=True)


@torch.no_grad()
def make_scaffold(field: ShapeField, config: CategoryConfig, *, cell: float, centred: bool) -> Scaffold:
    """Look where the field's surface is, on the field's device, and find its bones (section 2.5).

    Args:
        cell: size of the grid's cells.
        centred: put the joints in the middle of neck and legs, which must be there already; else on straight lines, as the paper does.

    Raises:
        ModelError: nothing is left of the shape.
    """
    device = next(field.parameters()).device
    crossings = find_crossings(field, grid_of(config, cell=cell), device=device)
    if len(crossings.faces) < 8:
        raise ModelError("nothing is left of the shape", hint="lower the learning rate of the shape field or its losses' weights")
    vertices = crossings.vertices(field)
    return Scaffold(crossings, _skeleton(vertices, crossings.faces, config, centred=centred), cell)


def rest_shape(field: ShapeField, scaffold: Scaffold) -> RestShape:
    """Return the shape on a scaffold; gradients reach the field through the vertices."""
    crossings, skeleton = scaffold.crossings, scaffold.skeleton
    assert crossings.mirror is not None
    vertices = crossings.vertices(field)
    skin = skin_weights(vertices.detach(), skeleton.starts, skeleton.ends)
    return RestShape(vertices, len(crossings.ends), crossings.faces, crossings.mirror, skeleton, skin)


def _skeleton(vertices: Tensor, faces: Tensor, config: CategoryConfig, *, centred: bool) -> Skeleton:
    bones = find_quadruped_bones(vertices, faces, tail=config.parts.tail, centred=centred)
    names, parents, starts, ends = bones.names, bones.parents, bones.starts, bones.ends
    if config.parts.tail and TAIL_NAMES[0] not in names:  # nothing of a tail yet: three bones hang where it will grow
        rump = ends[names.index("pelvis_02")]
        length = 0.25 * float(vertices[:, 1].max() - vertices[:, 1].min())
        step = torch.from_numpy(np.array([0.0, -0.94, -0.34])).to(rump) * length
        joints = torch.stack([rump + k * step for k in range(4)])
        first = len(names)
        names, parents = (*names, *TAIL_NAMES), (*parents, names.index("pelvis_02"), first, first + 1)
        starts, ends = torch.cat([starts, joints[:3]]), torch.cat([ends, joints[1:]])
    return Skeleton(names, parents, starts, ends, bones.centre)
