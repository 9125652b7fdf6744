"""The template mesh of a category, extracted once from its shape field: mirror-symmetric, even triangles, UV atlas."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from scipy.ndimage import gaussian_filter
from torch.nn import functional

from farm3d.core.errors import ModelError
from farm3d.core.shapes import Float, Int, Tensor
from farm3d.geometry.remesh import decimate, flip_edges, relax
from farm3d.geometry.surface import enclosed_volume, inspect_surface, keep_components, taubin_smooth
from farm3d.geometry.tetrahedra import Grid, extract_surface
from farm3d.geometry.unwrap import unwrap_half
from farm3d.model.fields import HALF_BOX, ShapeField

__all__ = ["Template", "blurred_field", "extract_template", "field_box", "mirror_half"]

_FACTORS = (1.0, 0.97, 1.03, 0.93, 1.07, 0.9, 1.15, 0.85, 1.25, 1.4, 1.6, 2.0)
_OFF_PLANE = 1e-3  # canonical units: nearest to the mirror plane that a vertex off it may lie


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
    field: Callable[[Tensor], Tensor],
    *,
    target_faces: int = 8000,
    spacing: float = 0.02,
    smooth_steps: int = 15,
    onto_field: bool = True,
    size_px: int = 1024,
    padding_px: int = 4,
) -> Template:
    """Extract, simplify and unwrap the rest shape of a field.

    The left half is extracted on a fine grid, smoothed lightly, reduced by quadric errors and then made even by edge flips and
    relaxation on the field's own surface; the right half is its mirror image.

    Args:
        target_faces: of the whole mesh.
        spacing: of the fine grid, canonical units.
        smooth_steps: of the fine mesh, before it is reduced.
        onto_field: bring vertices back onto the field's surface after each step (not where a network gives no slope to follow).
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
    side = vertices[:, 0]  # before smoothing, which may carry a rough surface across the plane
    of_left = (side[faces] > -1e-6).all(1) & (side[faces] > 1e-6).any(1)
    used, half = torch.unique(faces[of_left], return_inverse=True)
    points, on_plane = taubin_smooth(vertices, faces, steps=smooth_steps)[used], side[used].abs() < 1e-6
    points[:, 0] = torch.where(on_plane, 0.0, points[:, 0].clamp(min=_OFF_PLANE))
    points, half = _decimated(points, half, target_faces // 2)
    plane = points[:, 0].abs() < 1e-6

    def project(where: Tensor) -> Tensor:
        onto = _to_surface(field, where) if onto_field else where.clone()
        onto[plane, 0] = 0.0
        if not onto_field:  # a rough surface's vertices may come to lie a little across the plane
            onto[~plane, 0] = onto[~plane, 0].clamp(min=_OFF_PLANE)
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


@torch.no_grad()
def blurred_field(field: ShapeField, *, spacing: float = 0.05, sigma: float = 0.06) -> Callable[[Tensor], Tensor]:
    """Return a field as a Gaussian blur sees it: without ripples and handles thinner than about twice ``sigma``.

    What is learned from outlines at cells of 0.13 says nothing at that scale; but a blur also shortens what is thin, and networks pose the
    legs that they were trained with. Evaluated once on a grid, then interpolated.

    Args:
        field: of the left and right half alike.
        spacing: of the grid; sigma: of the blur; canonical units.
    """
    low, high = (torch.tensor(corner) for corner in field_box(field, margin=0.3))
    low[0] = -high[0]
    counts = ((high - low) / spacing).ceil().long() + 1
    axes = [low[k] + spacing * torch.arange(int(counts[k])) for k in range(3)]
    points = torch.cartesian_prod(*axes)
    values = torch.cat([field(part) for part in points.split(16384)]).clamp(-0.4, 0.4).reshape(tuple(counts.tolist()))
    values = torch.from_numpy(gaussian_filter(values.numpy(), sigma / spacing, mode="nearest"))
    last = torch.stack([axis[-1] for axis in axes])

    def at(where: Tensor) -> Tensor:
        # Mirrored exactly: the value at |x| counts on both sides. grid_sample wants the last axis first.
        folded = torch.cat([where[..., :1].abs(), where[..., 1:]], -1)
        place = ((folded - low) / (last - low) * 2 - 1).flip(-1).reshape(1, 1, 1, -1, 3)
        sampled = functional.grid_sample(values[None, None], place, align_corners=True, padding_mode="border")
        return sampled.reshape(where.shape[:-1])

    return at


def field_box(
    field: Callable[[Tensor], Tensor], *, half: float = HALF_BOX, step: float = 0.1, margin: float = 0.15
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


def _decimated(points: Tensor, faces: Tensor, target: int) -> tuple[Tensor, Tensor]:
    """Reduce a half, to a little more or less if need be: across a thin handle one number of faces pinches an edge where another does not.

    Raises:
        ModelError: none of them gives a manifold.
    """
    for factor in _FACTORS:
        reduced, triangles = decimate(points, faces, target_faces=round(target * factor))
        report = inspect_surface(triangles)
        if report.manifold and report.oriented and report.components == 1:
            return reduced, triangles
    raise ModelError("the shape has handles too thin for its template", hint="train it with more steps, or another seed")


def _to_surface(field: Callable[[Tensor], Tensor], points: Tensor) -> Tensor:
    """Two damped Newton steps along the field's gradient."""
    for _ in range(2):
        points = points.detach().requires_grad_()
        with torch.enable_grad():
            distance = field(points)
            slope = torch.autograd.grad(distance.sum(), points)[0]
        step = (distance / slope.square().sum(1).clamp(min=0.25)).clamp(-0.03, 0.03)
        points = (points - step[:, None] * slope).detach()
    return points
