"""Exact distance from points to a triangle surface, with the sign by ray crossings (numba and scipy, CPU).

Positive inside, as everywhere in farm3d (section 2.2). Overlapping closed pieces count as their union.
"""

from __future__ import annotations

import numba
import numpy as np
import torch

from farm3d.core.shapes import Bool, Float, Int, Tensor, checked

__all__ = ["distance_to_surface", "inside", "signed_distance"]


@checked
def signed_distance(points: Float[Tensor, "N 3"], vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"]) -> Float[Tensor, " N"]:
    """Return the distance from points to closed, outward-oriented surfaces; positive inside."""
    distance = distance_to_surface(points, vertices, faces)
    return torch.where(inside(points, vertices, faces), distance, -distance)


@checked
def distance_to_surface(points: Float[Tensor, "N 3"], vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"]) -> Float[Tensor, " N"]:
    """Return the unsigned distance from points to the nearest point of any face; exact up to float64 rounding."""
    from scipy.spatial import cKDTree

    where = points.detach().double().cpu().numpy()
    corners = vertices.detach().double().cpu().numpy()[faces.cpu().numpy()]
    centres = corners.mean(1)
    reach = float(np.linalg.norm(corners - centres[:, None], axis=2).max())  # no face extends further from its centre
    tree = cKDTree(centres)
    best = np.full(len(where), np.inf)
    open_points = np.arange(len(where))
    count = min(12, len(corners))
    while len(open_points):
        gaps, nearest = tree.query(where[open_points], k=count)
        gaps, nearest = gaps.reshape(-1, count), nearest.reshape(-1, count)
        best[open_points] = _nearest_of(where[open_points], corners, nearest)
        if count == len(corners):
            break
        # Done when even the furthest candidate's centre is too far for an unseen face to reach closer.
        open_points = open_points[gaps[:, -1] - reach < best[open_points]]
        count = min(count * 4, len(corners))
    return torch.from_numpy(best).to(points)


@checked
def inside(points: Float[Tensor, "N 3"], vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"]) -> Bool[Tensor, " N"]:
    """True for points inside any closed piece: signed crossings of three axis-parallel rays, majority of the three."""
    where = points.detach().double().cpu().numpy()
    positions = vertices.detach().double().cpu().numpy()
    triangles = faces.cpu().numpy()
    votes = np.zeros(len(where), np.int64)
    for axis in range(3):
        order = [axis, (axis + 1) % 3, (axis + 2) % 3]  # a cyclic change of axes keeps the orientation
        votes += _crossings(np.ascontiguousarray(where[:, order]), np.ascontiguousarray(positions[:, order]), triangles) > 0
    return torch.from_numpy(votes >= 2).to(points.device)


def _crossings(points: np.ndarray, vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    low = vertices[:, 1:].min(0)
    cells = int(np.clip(np.sqrt(len(faces)), 8, 512))
    size = (vertices[:, 1:].max(0) - low) / cells + 1e-12
    corner_cells = np.clip(((vertices[faces][:, :, 1:] - low) / size).astype(np.int64), 0, cells - 1)
    first, last = corner_cells.min(1), corner_cells.max(1)
    starts, members = _bin(first, last, cells)
    return _count(points, vertices, faces, low, size, cells, starts, members)


@numba.njit(cache=True)
def _bin(first, last, cells):  # pragma: no cover - compiled
    starts = np.zeros(cells * cells + 1, np.int64)
    for f in range(len(first)):
        for i in range(first[f, 0], last[f, 0] + 1):
            for j in range(first[f, 1], last[f, 1] + 1):
                starts[i * cells + j + 1] += 1
    starts = np.cumsum(starts)
    fill = starts.copy()
    members = np.empty(starts[-1], np.int64)
    for f in range(len(first)):
        for i in range(first[f, 0], last[f, 0] + 1):
            for j in range(first[f, 1], last[f, 1] + 1):
                members[fill[i * cells + j]] = f
                fill[i * cells + j] += 1
    return starts, members


@numba.njit(cache=True)
def _count(points, vertices, faces, low, size, cells, starts, members):  # pragma: no cover - compiled
    total = np.zeros(len(points), np.int64)
    for n in range(len(points)):
        x, y, z = points[n]
        i, j = int(np.floor((y - low[0]) / size[0])), int(np.floor((z - low[1]) / size[1]))
        if i < 0 or j < 0 or i >= cells or j >= cells:
            continue
        for m in range(starts[i * cells + j], starts[i * cells + j + 1]):
            a, b, c = vertices[faces[members[m], 0]], vertices[faces[members[m], 1]], vertices[faces[members[m], 2]]
            area = (b[1] - a[1]) * (c[2] - a[2]) - (c[1] - a[1]) * (b[2] - a[2])
            if area == 0.0:
                continue
            # Half-open rule: an edge belongs to one of its two faces, so a ray through an edge is counted once.
            hits = 0
            for start, end in ((a, b), (b, c), (c, a)):
                if (start[2] > z) != (end[2] > z):
                    lower, upper = (start, end) if start[2] < end[2] else (end, start)
                    if y < lower[1] + (z - lower[2]) * (upper[1] - lower[1]) / (upper[2] - lower[2]):
                        hits += 1
            if hits % 2 == 0:
                continue
            u = ((y - a[1]) * (c[2] - a[2]) - (c[1] - a[1]) * (z - a[2])) / area
            v = ((b[1] - a[1]) * (z - a[2]) - (y - a[1]) * (b[2] - a[2])) / area
            if a[0] + u * (b[0] - a[0]) + v * (c[0] - a[0]) > x:
                total[n] += 1 if area > 0 else -1
    return total


@numba.njit(cache=True)
def _nearest_of(points, corners, candidates):  # pragma: no cover - compiled
    result = np.empty(len(points))
    for n in range(len(points)):
        best = np.inf
        for m in candidates[n]:
            best = min(best, _point_triangle(points[n], corners[m, 0], corners[m, 1], corners[m, 2]))
        result[n] = np.sqrt(best)
    return result


@numba.njit(cache=True)
def _point_triangle(p, a, b, c):  # pragma: no cover - compiled
    # Squared distance: inside the face's prism the plane's distance, otherwise the nearest of the three sides.
    ab, ac, ap = b - a, c - a, p - a
    normal = np.array([ab[1] * ac[2] - ab[2] * ac[1], ab[2] * ac[0] - ab[0] * ac[2], ab[0] * ac[1] - ab[1] * ac[0]])
    square = np.dot(normal, normal)
    if square > 0.0:
        d00, d01, d11, d20, d21 = np.dot(ab, ab), np.dot(ab, ac), np.dot(ac, ac), np.dot(ap, ab), np.dot(ap, ac)
        det = d00 * d11 - d01 * d01
        if det > 0.0:
            v, w = (d11 * d20 - d01 * d21) / det, (d00 * d21 - d01 * d20) / det
            if v >= 0.0 and w >= 0.0 and v + w <= 1.0:
                return np.dot(ap, normal) ** 2 / square
    return min(_point_segment(p, a, b), min(_point_segment(p, b, c), _point_segment(p, c, a)))


@numba.njit(cache=True)
def _point_segment(p, a, b):  # pragma: no cover - compiled
    ab, ap = b - a, p - a
    length = np.dot(ab, ab)
    t = 0.0 if length == 0.0 else min(1.0, max(0.0, np.dot(ap, ab) / length))
    gap = ap - t * ab
    return np.dot(gap, gap)
