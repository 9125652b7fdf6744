"""Fewer and rounder triangles for a surface that must stay put: quadric decimation, edge flips, tangential relaxation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from farm3d.core.errors import MissingPartError
from farm3d.core.shapes import Bool, Float, Int, Tensor, checked
from farm3d.geometry.surface import edges, vertex_normals

__all__ = ["decimate", "flip_edges", "relax", "triangle_quality"]


@checked
def triangle_quality(vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"]) -> Float[Tensor, " F"]:
    """Return 4 sqrt(3) area / (sum of squared sides): 1 for equilateral triangles, 0 for degenerate ones."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    area = torch.linalg.cross(b - a, c - a).norm(dim=1) / 2
    squares = (b - a).square().sum(1) + (c - b).square().sum(1) + (a - c).square().sum(1)
    return 4 * 3**0.5 * area / squares.clamp(min=1e-30)


@checked
def decimate(
    vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"], *, target_faces: int
) -> tuple[Float[Tensor, "V2 3"], Int[Tensor, "F2 3"]]:
    """Reduce the number of faces by quadric error collapses. Points of a flat boundary stay in its plane.

    Raises:
        MissingPartError: the optional library is absent.
    """
    try:
        import fast_simplification
    except ImportError as error:
        raise MissingPartError("decimation needs the library fast-simplification", hint="pip install fast-simplification") from error
    points, triangles = fast_simplification.simplify(
        vertices.detach().cpu().double().numpy(), faces.cpu().numpy(), target_count=target_faces, agg=4
    )[:2]
    return torch.from_numpy(np.asarray(points)).to(vertices), torch.from_numpy(np.asarray(triangles)).to(faces)


def flip_edges(vertices: Tensor, faces: Tensor, *, passes: int = 3, max_turn: float = 0.5) -> Tensor:
    """Flip inner edges that face two large angles (sum above pi), where the surface is nearly flat.

    Args:
        vertices: ``[V, 3]``.
        faces: ``[F, 3]``, manifold.
        max_turn: largest angle in radians between the normals before and after a flip.

    Returns:
        faces ``[F, 3]``: as many, same orientation, still manifold.
    """
    points = vertices.detach().double().cpu().numpy()
    triangles = faces.cpu().numpy().copy()
    smallest = float(np.cos(max_turn))
    for _ in range(passes):
        sides = {}
        for number, (a, b, c) in enumerate(triangles.tolist()):
            sides[a, b], sides[b, c], sides[c, a] = (number, c), (number, a), (number, b)
        touched: set[int] = set()
        flips = 0
        for (a, b), (one, c) in list(sides.items()):
            other = sides.get((b, a))
            if other is None or a > b:
                continue
            two, d = other
            # (c, d) must not be an edge already, also not one made by another flip of this pass.
            if one in touched or two in touched or (c, d) in sides or (d, c) in sides or c == d:
                continue
            if _angle(points[c], points[a], points[b]) + _angle(points[d], points[a], points[b]) <= np.pi + 0.05:
                continue
            before = [_normal(points, (a, b, c)), _normal(points, (b, a, d))]
            after = [_normal(points, (a, d, c)), _normal(points, (d, b, c))]
            if min(float(x @ y) for x in before for y in after) < smallest:
                continue
            triangles[one], triangles[two] = (a, d, c), (d, b, c)
            touched.update((one, two))
            sides[c, d] = sides[d, c] = (-1, -1)
            flips += 1
        if flips == 0:
            break
    return torch.from_numpy(triangles).to(faces)


def _angle(at: np.ndarray, one: np.ndarray, two: np.ndarray) -> float:
    u, v = one - at, two - at
    return float(np.arctan2(np.linalg.norm(np.cross(u, v)), u @ v))


def _normal(points: np.ndarray, corners: tuple[int, int, int]) -> np.ndarray:
    a, b, c = points[list(corners)]
    normal = np.cross(b - a, c - a)
    return normal / max(float(np.linalg.norm(normal)), 1e-30)


def relax(
    vertices: Tensor,
    faces: Tensor,
    *,
    project: Callable[[Tensor], Tensor],
    steps: int = 10,
    strength: float = 0.5,
    fixed: Bool[Tensor, " V"] | None = None,
) -> Tensor:
    """Move vertices within the surface toward the mean of their neighbours, then back onto it with ``project``.

    Boundary vertices move along the boundary only; vertices on tips and ridges (neighbours' normals far from their own) hardly move, so
    that ears and hooves keep their shape.

    Args:
        vertices: ``[V, 3]``.
        faces: ``[F, 3]``.
        project: maps ``[V, 3]`` points to the surface.
        fixed: vertices that stay, ``[V]``.
    """
    pairs, _, counts = edges(faces)
    border = torch.zeros(len(vertices), dtype=torch.bool)
    border[pairs[counts == 1].reshape(-1)] = True
    links = torch.cat([pairs, pairs.flip(1)])
    links = links[~border[links[:, 0]] | (counts == 1).repeat(2)]
    degree = torch.bincount(links[:, 0], minlength=len(vertices)).clamp(min=1)[:, None]
    for _ in range(steps):
        normals = vertex_normals(vertices, faces)
        flatness = torch.ones(len(vertices), dtype=vertices.dtype)
        flatness = flatness.scatter_reduce(0, links[:, 0], (normals[links[:, 0]] * normals[links[:, 1]]).sum(1), "amin")
        free = ((flatness - 0.3) / 0.5).clamp(0, 1)[:, None]
        move = torch.zeros_like(vertices).index_add(0, links[:, 0], vertices[links[:, 1]]) / degree - vertices
        move = strength * free * (move - (move * normals).sum(1, keepdim=True) * normals)
        if fixed is not None:
            move = move.masked_fill(fixed[:, None], 0.0)
        vertices = project(vertices + move)
    return vertices
