"""Evenly spread surface points, rigid alignment by closest points, and nearest distances (Animodel steps 5 and 6, section 6.2)."""

from __future__ import annotations

import numba
import numpy as np

from farm3d.core.shapes import Float, Int, checked
from farm3d.evaluation.meshes import Surface
from farm3d.evaluation.nearest import Neighbours, in_order

__all__ = ["EvenSampler", "align", "nearest_distances", "rigid_fit"]

_CELLS = 1 << 20  # more than there are along any side


class EvenSampler:
    """Draws points of one surface that are roughly evenly spread: three times as many as wanted, less those too close to another.

    "Too close" is ``sqrt(area / (3 count))``; of two such points the one with more close neighbours goes (of equals, the earlier one).
    """

    def __init__(self, surface: Surface) -> None:
        self._vertices, self._faces = surface.vertices, surface.faces
        self._cumulative = np.cumsum(surface.areas)

    def draw(self, count: int, generator: np.random.Generator) -> Float[np.ndarray, "N 3"]:
        """Return exactly ``count`` points ``[count, 3]``: batches are drawn until they are enough, and the last is cut (step 5)."""
        batches: list[np.ndarray] = []
        while sum(map(len, batches)) < count:
            batches.append(self._batch(count, generator))
        return np.concatenate(batches)[:count]

    def _batch(self, count: int, generator: np.random.Generator) -> np.ndarray:
        area, parts = self._cumulative[-1], generator.random(3 * count)
        order = np.argsort(parts)  # sums that are looked up in order are found in a third of the time
        face = np.empty(3 * count, np.int64)
        face[order] = np.searchsorted(self._cumulative, parts[order] * area, side="right")
        u, v = generator.random((2, 3 * count))
        points = _inside(self._vertices, self._faces, np.minimum(face, len(self._faces) - 1), u, v)
        return points[_apart(points, np.sqrt(area / (3 * count)))][:count]


@checked
def rigid_fit(
    source: Float[np.ndarray, "N 3"], target: Float[np.ndarray, "N 3"], *, rotation: bool = True
) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "3"]]:
    """Return the rotation R and translation t that minimise the sum of ``|R source + t - target|^2`` (orthogonal Procrustes).

    Without ``rotation`` R is the identity. Never a reflection.
    """
    middle_source, middle_target = source.mean(0), target.mean(0)
    turn = np.eye(3)
    if rotation:
        u, _, vh = np.linalg.svd((target - middle_target).T @ (source - middle_source))
        turn = u @ np.diag([1.0, 1.0, np.linalg.det(u @ vh)]) @ vh
    return turn, middle_target - turn @ middle_source


@checked
def align(
    source: Float[np.ndarray, "N 3"],
    target: Float[np.ndarray, "M 3"],
    *,
    iterations: int = 200,
    threshold: float = 0.0,
    rotation: bool = True,
) -> Float[np.ndarray, "4 4"]:
    """Return the rigid map from source to target points found by iterated closest points, starting where they are (step 5).

    Each round fits every source point to its nearest target point. It ends after ``iterations`` rounds or when the mean squared
    distance after the fit falls by less than ``threshold``; also when no point has a new nearest point, for then nothing would move.
    """
    nearest = _Nearest(target)
    matrix, points, before = np.eye(4), source[in_order(source)], np.inf  # in order: neighbours are found several times faster
    for _ in range(iterations):
        if not nearest.update(points):
            break
        matched = target[nearest.index]
        step = np.eye(4)
        step[:3, :3], step[:3, 3] = rigid_fit(points, matched, rotation=rotation)
        matrix = step @ matrix
        points = points @ step[:3, :3].T + step[:3, 3]
        cost = float(np.square(points - matched).sum() / len(points))
        if before - cost < threshold:
            break
        before = cost
    return matrix


@checked
def nearest_distances(points: Float[np.ndarray, "N 3"], others: Float[np.ndarray, "M 3"]) -> Float[np.ndarray, " N"]:
    """Return the distance from each point to the nearest of the others, ``[N]``."""
    order = in_order(points)
    distances = np.empty(len(points))
    distances[order] = Neighbours(others).distances(points[order])
    return distances


class _Nearest:
    """The nearest target of points that move a little each round. Exact, but the tree is asked only where the answer may be new.

    A point whose two nearest targets lay at d1 < d2 and that has moved by m since then has every other target at d2 - m or more.
    """

    def __init__(self, target: np.ndarray) -> None:
        self._target, self._neighbours = target, Neighbours(target)
        self._asked = np.empty((0, 3))

    @property
    def index(self) -> Int[np.ndarray, " N"]:
        """Number of each point's nearest target, after the last :meth:`update`."""
        return self._two[:, 0]

    def update(self, points: np.ndarray) -> bool:
        """Take points ``[N, 3]`` where they are now; false if each has the nearest target that it had."""
        first = not len(self._asked)
        if first:
            self._asked, self._second, self._two = points.copy(), np.empty(len(points)), np.full((len(points), 2), -1)
            stale = np.arange(len(points))
        else:
            moved = _lengths(points - self._asked)
            stale = np.flatnonzero(_lengths(points - self._target[self.index]) >= self._second - moved)
        two, distance = self._neighbours.two(points[stale], self._two[stale])
        changed = first or not np.array_equal(self.index[stale], two[:, 0])
        self._asked[stale], self._second[stale], self._two[stale] = points[stale], distance[:, 1], two
        return changed


@numba.njit(cache=True)
def _inside(vertices, faces, chosen, u, v):  # pragma: no cover - compiled
    points = np.empty((len(chosen), 3))
    for n in range(len(chosen)):
        s, t = u[n], v[n]
        if s + t > 1:  # the far half of the parallelogram, turned into the triangle
            s, t = 1 - s, 1 - t
        a, b, c = faces[chosen[n]]
        for k in range(3):
            points[n, k] = vertices[a, k] + s * (vertices[b, k] - vertices[a, k]) + t * (vertices[c, k] - vertices[a, k])
    return points


def _lengths(vectors: np.ndarray) -> np.ndarray:
    return np.sqrt(np.einsum("nc,nc->n", vectors, vectors))


def _apart(points: np.ndarray, radius: float) -> np.ndarray:
    """True for the points ``[N]`` that stay when of two closer than ``radius`` the one with more such neighbours goes (or the earlier)."""
    cells = ((points - points.min(0)) / radius).astype(np.int64)
    keys = (cells[:, 0] * _CELLS + cells[:, 1]) * _CELLS + cells[:, 2]
    order = np.argsort(keys)
    stays = np.empty(len(points), bool)
    stays[order] = _thin(points[order], keys[order], order, radius)
    return stays


@numba.njit(cache=True)
def _thin(points, keys, rank, radius):  # pragma: no cover - compiled
    # Points sorted by their cells of one radius. Of the 27 cells around a point, those that come later and its own find each pair once:
    # the rest of its row of three (k, k + 1), and rows of three of four other columns, each of which moves on as the point does.
    count = len(points)
    pairs, found = np.empty((2 * count, 2), np.int32), 0
    column = np.array([0, _CELLS, (_CELLS - 1) * _CELLS, _CELLS * _CELLS, (_CELLS + 1) * _CELLS])
    start = np.zeros(5, np.int64)
    for n in range(count):
        for c in range(5):
            first, last = keys[n] + column[c] - 1, keys[n] + column[c] + 1
            if c == 0:
                start[c] = n + 1
            else:
                while start[c] < count and keys[start[c]] < first:
                    start[c] += 1
            m = start[c]
            while m < count and keys[m] <= last:
                dx, dy, dz = points[n, 0] - points[m, 0], points[n, 1] - points[m, 1], points[n, 2] - points[m, 2]
                if dx * dx + dy * dy + dz * dz <= radius * radius:
                    if found == len(pairs):
                        pairs = np.concatenate((pairs, np.empty_like(pairs)))
                    pairs[found, 0], pairs[found, 1] = (n, m) if rank[n] < rank[m] else (m, n)
                    found += 1
                m += 1
    degree, stays = np.zeros(count, np.int64), np.ones(count, np.bool_)
    for n in range(found):
        degree[pairs[n, 0]] += 1
        degree[pairs[n, 1]] += 1
    for n in range(found):
        earlier, later = pairs[n]
        stays[earlier if degree[earlier] >= degree[later] else later] = False
    return stays
