"""The template mesh of a category, extracted once from its shape field: mirror-symmetric, even triangles, UV atlas."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from farm3d.core.errors import ModelError
from farm3d.core.shapes import Float, Int, Tensor
from farm3d.geometry.remesh import decimate, flip_edges, relax
from farm3d.geometry.surface import enclosed_volume, inspect_surface, keep_components, taubin_smooth
from farm3d.geometry.tetrahedra import Grid, extract_surface
from farm3d.geometry.unwrap import unwrap_half
from farm3d.model.fields import ShapeField

__all__ = ["Template", "extract_template", "field_box", "mirror_half"]


@dataclass(frozen=True, eq=False)
class Template:
    """A closed, mirror-symmetric mesh with an atlas; object frame, canonical units.

    The first half of the faces is the animal's left (x >= 0); face ``F/2 + i`` mirrors face ``i`` (corners in reverse order). The atlas
    is mirror-symmetric too: what lies at (u, v) on the left lies at (u, 1 - v) on the right.

    Attributes:
        vertices: ``[V, 3]``.
        faces: ``[F, 3]`` int64.
        uv: ``[U, 2]`` in [0, 1], origin at the top left.
        faces_uv: ``[F, 3]`` int64.
        mirror: ``vertices[mirror] == vertices * (-1, 1, 1)`` exactly, ``[V]``.
    """

    vertices: Float[Tensor, "V 3"]
    faces: Int[Tensor, "F 3"]
    uv: Float[Tensor, "U 2"]
    faces_uv: Int[Tensor, "F 3"]
    mirror: Int[Tensor, " V"]


def extract_template(
    field: ShapeField, *, target_faces: int = 8000, spacing: float = 0.02, size_px: int = 1024, padding_px: int = 4
) -> Template:
    """Extract, simplify and unwrap the rest shape of a field.

    The left half is extracted on a fine grid, smoothed lightly, reduced by quadric errors and then made even by edge flips and
    relaxation on the field's own surface; the right half is its mirror image.

    Args:
        target_faces: of the whole mesh.
        spacing: of the fine grid, canonical units.
        size_px, padding_px: texture size and free texels between charts the atlas is packed for.

    Raises:
        ModelError: the field has no surface in its box, or one that is not a single closed piece.
    """
    box = field_box(field)
    cells = [8 * math.ceil((high - low) / spacing / 8) for low, high in zip(*box, strict=True)]
    top = tuple(low + n * spacing for low, n in zip(box[0], cells, strict=True))
    with torch.no_grad():
        fine = extract_surface(field, Grid(box[0], top, tuple(cells), mirrored=True), coarsen=4)  # pyright: ignore[reportArgumentType]
    vertices, faces = keep_components(fine.vertices, fine.faces, min_faces=len(fine.faces) // 2)
    vertices = taubin_smooth(vertices, faces, steps=15)
    left = faces[(vertices[faces][..., 0] > -1e-6).all(1)]
    used, half = torch.unique(left, return_inverse=True)
    points = vertices[used]
    points[points[:, 0].abs() < 1e-6, 0] = 0.0
    points, half = decimate(points, half, target_faces=target_faces // 2)
    plane = points[:, 0].abs() < 1e-6

    def project(where: Tensor) -> Tensor:
        onto = _to_surface(field, where)
        onto[plane, 0] = 0.0
        return onto

    for _ in range(6):
        half = flip_edges(points, half)
        points = relax(points, half, project=project, steps=3)
    points = project(points)
    if not bool((points[~plane, 0] > 0).all()):
        raise ModelError("the shape field folds over its mirror plane", hint="fit it again with more steps")
    uv, half_uv = unwrap_half(points, half, size_px=size_px, padding_px=padding_px)
    whole, whole_faces, mirror = mirror_half(points, half)
    report = inspect_surface(whole_faces)
    if (
        not (report.closed and report.oriented and report.manifold)
        or report.components != 1
        or float(enclosed_volume(whole, whole_faces)) <= 0
    ):
        raise ModelError(f"the template is not one closed surface: {report}", hint="fit the shape field again with more steps")
    other_uv = torch.stack([uv[:, 0], 1 - uv[:, 1]], 1)
    return Template(whole, whole_faces, torch.cat([uv, other_uv]), torch.cat([half_uv, (half_uv + len(uv)).flip(1)]), mirror)


def field_box(
    field: ShapeField, *, half: float = 3.2, step: float = 0.1, margin: float = 0.15
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Return low and high corners of a box around the left half (x >= 0) of where a field is positive.

    Raises:
        ModelError: it is positive nowhere.
    """
    count = round(half / step)
    axis = torch.arange(-count, count + 1) * step
    points = torch.cartesian_prod(axis[count:], axis, axis)
    with torch.no_grad():
        near = torch.cat([field(part) for part in points.split(16384)]) > -step / 2
    if not bool(near.any()):
        raise ModelError("the shape field has no surface in its box", hint="fit it again")
    low, high = points[near].amin(0) - margin, points[near].amax(0) + margin
    return (0.0, float(low[1]), float(low[2])), (float(high[0]), float(high[1]), float(high[2]))


def mirror_half(vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"]) -> tuple[Tensor, Tensor, Tensor]:
    """Join a half (x >= 0, border at x = 0 exactly) with its mirror image.

    Returns:
        vertices, faces (the mirrored ones second, in the same order) and each vertex's mirror partner.
    """
    off = (vertices[:, 0] != 0).nonzero()[:, 0]
    partner = torch.arange(len(vertices))
    partner[off] = len(vertices) + torch.arange(len(off))
    image = vertices[off] * vertices.new_tensor([-1.0, 1.0, 1.0])
    return torch.cat([vertices, image]), torch.cat([faces, partner[faces].flip(1)]), torch.cat([partner, off])


def _to_surface(field: ShapeField, points: Tensor) -> Tensor:
    """Two damped Newton steps along the field's gradient."""
    for _ in range(2):
        points = points.detach().requires_grad_()
        with torch.enable_grad():
            distance = field(points)
            slope = torch.autograd.grad(distance.sum(), points)[0]
        step = (distance / slope.square().sum(1).clamp(min=0.25)).clamp(-0.03, 0.03)
        points = (points - step[:, None] * slope).detach()
    return points
