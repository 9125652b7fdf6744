"""A surface as filled cubes, its volume, and a closed surface made again from the cubes (Animodel steps 2 and 4, section 6.2)."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

from farm3d.core.errors import InputError, MissingPartError
from farm3d.core.shapes import Bool, Float, Int
from farm3d.evaluation.meshes import Surface

__all__ = ["Voxels", "remesh", "voxelize"]

_MAX_CELLS = 1 << 28
_EMPTY, _SURFACE, _OUTSIDE = 0, 1, 2


@dataclass(frozen=True, eq=False)
class Voxels:
    """Cubes of one size on the lattice of whole multiples of their side.

    Attributes:
        filled: true on the surface and where the outside does not reach, ``[I, J, K]`` along x, y and z; no empty border.
        pitch: side of a cube, in the surface's units.
        first: lattice index of ``filled[0, 0, 0]``; the centre of that cube is ``first * pitch``, ``[3]``.
    """

    filled: Bool[np.ndarray, "I J K"]
    pitch: float
    first: Int[np.ndarray, "3"]

    @property
    def volume(self) -> float:
        """Volume of the filled cubes, in cubed units."""
        return int(self.filled.sum()) * self.pitch**3


def voxelize(surface: Surface, *, min_cubes: int = 100) -> Voxels:
    """Fill cubes whose side is the smallest side of the bounding box divided by ``min_cubes`` (step 2).

    A cube is on the surface if it holds a corner of the triangles after each edge was halved until none is longer than half a cube;
    this finds the very cubes that trimesh 5 finds (``voxelized(pitch).fill()``). What cannot be reached from outside through the
    sides of empty cubes is filled too.

    Raises:
        InputError: a flat surface, or one so thin that the cubes would be too many.
    """
    pitch = float(surface.sides.min() / min_cubes)
    with np.errstate(all="ignore"):
        cells = surface.sides / pitch + 2
    if not np.prod(cells) < _MAX_CELLS:
        raise InputError(
            f"{surface.name}: too flat to be filled with cubes: its sides are {' x '.join(f'{side:.3g}' for side in surface.sides)}",
            hint="give a closed surface",
        )
    first, last = (np.rint(ends / pitch).astype(np.int64) for ends in (surface.vertices.min(0), surface.vertices.max(0)))
    state = np.full(last - first + 3, _OUTSIDE, np.uint8)
    inner = state[1:-1, 1:-1, 1:-1]
    inner[:] = _EMPTY
    _mark(surface.vertices[surface.faces], pitch, first, inner)
    _flood(state)
    return Voxels(inner != _OUTSIDE, pitch, first)


def remesh(surface: Surface, voxels: Voxels) -> tuple[Surface, Float[np.ndarray, "4 4"]]:
    """Make a surface again from its own cubes by marching cubes, so that only what is seen from outside is left (step 4).

    As published, the new surface is scaled by the mean over the axes of the ratios of the bounding boxes' sides, and moved until the
    centroids agree. That is not quite its old place: where parts overlap, the faces inside had their share in the old centroid.

    Returns:
        The new surface, and the map from the old surface's frame to it: a scale near 1 and a small shift.

    Raises:
        MissingPartError: scikit-image is absent.
    """
    try:
        from skimage.measure import marching_cubes
    except ImportError as error:
        raise MissingPartError("comparing shapes needs the library scikit-image", hint="pip install 'farm3d[build]'") from error
    # Of the outside, not of the inside: so are cubes that touch by an edge told apart in the published code.
    vertices, faces = marching_cubes(np.pad(~voxels.filled, 1, constant_values=True), 0.5)[:2]
    raw = Surface(surface.name, vertices.astype(np.float64), faces.astype(np.int64))
    side = (surface.sides / raw.sides).mean()
    shift = surface.centroid - side * raw.centroid
    matrix = np.diag([side / voxels.pitch] * 3 + [1.0])
    matrix[:3, 3] = shift + side * (1 - voxels.first)  # 1: the border that was added
    return Surface(surface.name, side * raw.vertices + shift, raw.faces), matrix


@numba.njit(cache=True)
def _square(a, b):  # pragma: no cover - compiled
    x, y, z = a[0] - b[0], a[1] - b[1], a[2] - b[2]
    return x * x + y * y + z * z


@numba.njit(cache=True)
def _mark_point(place, pitch, first, state):  # pragma: no cover - compiled
    i = int(np.rint(place[0] / pitch)) - first[0]
    j = int(np.rint(place[1] / pitch)) - first[1]
    k = int(np.rint(place[2] / pitch)) - first[2]
    state[i, j, k] = _SURFACE
    return (i * state.shape[1] + j) * state.shape[2] + k


@numba.njit(cache=True)
def _mark(corners, pitch, first, state):  # pragma: no cover - compiled
    # Every edge that is too long is halved; where a face has two of them, what is left is cut along its shorter diagonal. Which edges
    # are cut is seen in the face alone, and neighbours agree about the edge they share, so faces can be worked through one by one.
    # A face whose corners are in one cube is done: so is all that it would be cut into.
    # Each level halves the longest edge but for a small rest, so the stack holds three faces for each of at most 20 levels or so.
    stack, points = np.empty((256, 3, 3)), np.empty((6, 3))  # of a face: its corners, and the middles of the edges from each to the next
    cubes, cube = np.empty((256, 3), np.int64), np.empty(6, np.int64)
    long = np.empty(3, np.bool_)
    for f in range(len(corners)):
        for i in range(3):
            stack[0, i] = corners[f, i]
            cubes[0, i] = _mark_point(corners[f, i], pitch, first, state)
        depth = 1
        while depth:
            depth -= 1
            if cubes[depth, 0] == cubes[depth, 1] == cubes[depth, 2]:
                continue
            count = 0
            for i in range(3):
                cube[i] = cubes[depth, i]
                for k in range(3):
                    points[i, k] = stack[depth, i, k]
            for i in range(3):
                j = (i + 1) % 3
                long[i] = np.sqrt(_square(points[i], points[j])) > pitch / 2
                if long[i]:
                    count += 1
                    for k in range(3):
                        points[3 + i, k] = (points[i, k] + points[j, k]) / 2
                    cube[3 + i] = cube[i]
                    if cube[i] != cube[j]:
                        cube[3 + i] = _mark_point(points[3 + i], pitch, first, state)
            if count == 0:
                continue
            a = 0  # the first corner whose edge is cut, and with two of them the one whose next is cut as well
            while not long[a] or (count == 2 and long[(a + 2) % 3]):
                a += 1
            b, c = (a + 1) % 3, (a + 2) % 3
            p, q, r = 3 + a, 3 + b, 3 + c  # on ab, bc, ca
            if count == 1:
                parts = ((a, p, c), (p, b, c), (0, 0, 0), (0, 0, 0))
            elif count == 2:
                shorter = _square(points[a], points[q]) <= _square(points[p], points[c])
                parts = ((p, b, q), (a, p, q if shorter else c), (a if shorter else p, q, c), (0, 0, 0))
            else:
                parts = ((a, p, r), (p, b, q), (r, q, c), (p, q, r))
            for n in range(count + 1):  # what follows is there so that all three cases are of one type
                for i in range(3):
                    cubes[depth + n, i] = cube[parts[n][i]]
                    for k in range(3):
                        stack[depth + n, i, k] = points[parts[n][i], k]
            depth += count + 1


@numba.njit(cache=True)
def _flood(state):  # pragma: no cover - compiled
    # From the border, which is outside, in sweeps there and back until nothing changes: an animal takes a handful of them, and only a
    # labyrinth takes many. On the way there what lies behind is looked at, on the way back what lies ahead.
    size = state.shape
    changed = True
    while changed:
        changed = False
        for step in (-1, 1):
            for n in range(1, size[0] - 1):
                i = n if step < 0 else size[0] - 1 - n
                for m in range(1, size[1] - 1):
                    j = m if step < 0 else size[1] - 1 - m
                    for o in range(1, size[2] - 1):
                        k = o if step < 0 else size[2] - 1 - o
                        if state[i, j, k] == _EMPTY and (
                            state[i, j, k + step] == _OUTSIDE or state[i, j + step, k] == _OUTSIDE or state[i + step, j, k] == _OUTSIDE
                        ):
                            state[i, j, k] = _OUTSIDE
                            changed = True
