"""Surfaces for the referee's tests: a box, a ball, a flat square, the tube quadruped; and copies that are turned and scaled."""

from __future__ import annotations

import math

import numpy as np
import torch

from farm3d.evaluation.meshes import Surface, make_surface
from tests.testing.animals import quadruped_mesh
from tests.testing.blobs import blob

__all__ = ["ball", "box", "square_surface", "toy", "turned"]

BOX_FACES = [
    [0, 1, 3],
    [0, 3, 2],
    [4, 6, 7],
    [4, 7, 5],
    [0, 4, 5],
    [0, 5, 1],
    [2, 3, 7],
    [2, 7, 6],
    [0, 2, 6],
    [0, 6, 4],
    [1, 5, 7],
    [1, 7, 3],
]


def box(sides: tuple[float, float, float] = (1.0, 1.0, 1.0), *, centre: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Surface:
    """Twelve triangles, facing outward."""
    corners = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
    return make_surface("box", corners * sides + centre, np.array(BOX_FACES))


def ball(radius: float = 1.0, *, cells: int = 24) -> Surface:
    """A round ball of ``12 cells^2`` triangles."""
    vertices, faces = blob(cells, dtype=torch.float64)
    return make_surface("ball", radius * torch.nn.functional.normalize(vertices, dim=-1).numpy(), faces.numpy())


def square_surface(*, height: float = 0.0) -> Surface:
    """Two triangles: the unit square at a height above y = 0."""
    corners = np.array([[0.0, height, 0.0], [0.0, height, 1.0], [1.0, height, 1.0], [1.0, height, 0.0]])
    return make_surface("square", corners, np.array([[0, 1, 2], [0, 2, 3]]))


def toy(*, tail: bool = True) -> Surface:
    """The tube quadruped, overlapping closed pieces and all, about 2.4 long."""
    mesh = quadruped_mesh(tail=tail)
    return make_surface("toy", mesh.vertices.double().numpy(), mesh.faces.numpy())


def turned(surface: Surface, *, degrees: float, scale: float = 1.0) -> Surface:
    """Turn about the vertical and scale, about the origin."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    matrix = np.eye(4)
    matrix[:3, :3] = scale * np.array([[cosine, 0.0, sine], [0.0, 1.0, 0.0], [-sine, 0.0, cosine]])
    return surface.transformed(matrix)
