"""Meshes for the renderer: a smooth closed blob of any number of triangles, squares, a walking animal; and true silhouette areas."""

from __future__ import annotations

import torch

from farm3d.motion.animate import posed_vertices
from farm3d.motion.clips import make_clip
from farm3d.render.rasterize import rasterize
from farm3d.structures import Camera
from tests.testing.animals import quadruped

__all__ = ["blob", "silhouette_area", "square", "true_area_gradient", "walking"]


def blob(cells: int, *, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    """Return vertices ``[V, 3]`` and ``12 * cells ** 2`` faces of a bumpy ball, counter-clockwise seen from outside."""
    steps = torch.arange(cells + 1, dtype=torch.float64)
    u, v = torch.meshgrid(steps * 2 - cells, steps * 2 - cells, indexing="ij")
    corner = torch.arange((cells + 1) ** 2).view(cells + 1, cells + 1)
    a, b, c, d = (corner[i : cells + i, j : cells + j].reshape(-1) for i, j in ((0, 0), (1, 0), (1, 1), (0, 1)))
    quads = torch.cat([torch.stack([a, b, c], -1), torch.stack([a, c, d], -1)])
    points, faces = [], []
    for axis in range(3):
        for sign in (1, -1):
            side = torch.stack([torch.full_like(u, sign * cells), u * sign, v], -1).roll(axis, -1).reshape(-1, 3)
            faces.append(quads + sum(map(len, points)))
            points.append(side)
    lattice, inverse = torch.unique(torch.cat(points), dim=0, return_inverse=True)
    ball = torch.nn.functional.normalize(torch.tan(lattice / cells * torch.pi / 4), dim=-1)
    x, y, z = ball.unbind(-1)
    radius = 1.2 + 0.3 * torch.sin(3 * x) * torch.cos(2 * y + 1) + 0.18 * torch.sin(4 * z + 0.5)
    return (ball * radius[:, None]).to(dtype), inverse[torch.cat(faces)]


def square(x: float, y: float, half: float, distance: float, *, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Return clip coordinates ``[4, 4]`` of a square that faces the viewer: centre and half side in NDC, faces (0 1 2) and (0 2 3)."""
    ndc = torch.tensor([[x - half, y - half], [x - half, y + half], [x + half, y + half], [x + half, y - half]], dtype=dtype)
    ones = torch.ones(4, 1, dtype=dtype)
    return torch.cat([ndc, 0 * ones, ones], -1) * distance


def walking(*, sides: int = 24, time_s: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return vertices and faces of a quadruped in the middle of a stride: seen from the side its legs cross."""
    animal = quadruped(sides=sides)
    return posed_vertices(animal, make_clip("walk", animal.skeleton), time_s) * 1.35, animal.rest.faces


def silhouette_area(vertices: torch.Tensor, faces: torch.Tensor, camera: Camera, *, fine_px: int = 1536) -> torch.Tensor:
    """Return the covered area ``[B]`` in the camera's own pixels, counted on a much finer grid."""
    fine = camera.resized(fine_px, fine_px)
    seen = rasterize(fine.clip(vertices), faces, height_px=fine_px, width_px=fine_px).face_id >= 0
    return seen.double().mean((1, 2)) * camera.width_px * camera.height_px


def true_area_gradient(vertices: torch.Tensor, faces: torch.Tensor, camera: Camera, *, step: float = 0.015) -> torch.Tensor:
    """Return d(silhouette area) / d(scale of the mesh) for every view, ``[B]``, by central differences on the finer grid."""
    views = len(camera.intrinsics)
    larger, smaller = ((vertices * scale).expand(views, -1, -1) for scale in (1 + step, 1 - step))
    return (silhouette_area(larger, faces, camera) - silhouette_area(smaller, faces, camera)) / (2 * step)
