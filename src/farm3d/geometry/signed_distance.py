"""Exact distance from points to a triangle surface, with the sign by ray crossings (numba, CPU).

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
    corners = np.ascontiguousarray(vertices.detach().double().cpu().numpy()[faces.cpu().numpy()])
    boxes, kids, order = _tree(corners.min(1), corners.max(1), corners.mean(1))
    best = _nearest(points.detach().double().cpu().numpy(), corners, boxes, kids, order)
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


_LEAF = 4


@numba.njit(cache=True)
def _tree(low, high, centres):  # pragma: no cover - compiled
    # Boxes split at the median of their longest side. kids: first child (second is next to it), or -start-1 and count of a leaf.
    order = np.arange(len(low))
    boxes = np.empty((2 * len(low) + 1, 2, 3))
    kids = np.empty((2 * len(low) + 1, 2), np.int64)
    spans = np.empty((2 * len(low) + 1, 2), np.int64)
    spans[0, 0], spans[0, 1] = 0, len(low)
    used, node = 1, 0
    while node < used:
        start, end = spans[node]
        members = order[start:end]
        middle_low, middle_high = np.full(3, np.inf), np.full(3, -np.inf)
        for k in range(3):
            boxes[node, 0, k], boxes[node, 1, k] = np.inf, -np.inf
            for m in members:
                boxes[node, 0, k], boxes[node, 1, k] = min(boxes[node, 0, k], low[m, k]), max(boxes[node, 1, k], high[m, k])
                middle_low[k], middle_high[k] = min(middle_low[k], centres[m, k]), max(middle_high[k], centres[m, k])
        if end - start <= _LEAF:
            kids[node, 0], kids[node, 1] = -start - 1, end - start
        else:
            order[start:end] = members[np.argsort(centres[members, np.argmax(middle_high - middle_low)])]
            middle = (start + end) // 2
            kids[node, 0], kids[node, 1] = used, 0
            spans[used, 0], spans[used, 1] = start, middle
            spans[used + 1, 0], spans[used + 1, 1] = middle, end
            used += 2
        node += 1
    return boxes[:used].copy(), kids[:used].copy(), order


@numba.njit(cache=True)
def _box_gap(p, box):  # pragma: no cover - compiled
    total = 0.0
    for k in range(3):
        gap = max(box[0, k] - p[k], 0.0, p[k] - box[1, k])
        total += gap * gap
    return total


@numba.njit(cache=True)
def _nearest(points, corners, boxes, kids, order):  # pragma: no cover - compiled
    result = np.empty(len(points))
    stack = np.empty(128, np.int64)
    guess = 0
    for n in range(len(points)):
        p = points[n]
        best = _point_triangle(p, corners[guess, 0], corners[guess, 1], corners[guess, 2])  # neighbours in the list are often near
        stack[0], depth = 0, 1
        while depth:
            depth -= 1
            node = stack[depth]
            if _box_gap(p, boxes[node]) >= best:
                continue
            if kids[node, 0] < 0:
                start = -kids[node, 0] - 1
                for m in order[start : start + kids[node, 1]]:
                    square = _point_triangle(p, corners[m, 0], corners[m, 1], corners[m, 2])
                    if square < best:
                        best, guess = square, m
            else:
                near, far = kids[node, 0], kids[node, 0] + 1
                if _box_gap(p, boxes[near]) > _box_gap(p, boxes[far]):
                    near, far = far, near
                stack[depth], stack[depth + 1] = far, near
                depth += 2
        result[n] = np.sqrt(best)
    return result


@numba.njit(cache=True, inline="always")
def _dot(a, b):  # pragma: no cover - compiled
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@numba.njit(cache=True)
def _point_triangle(p, a, b, c):  # pragma: no cover - compiled
    # Squared distance: inside the face's prism the plane's distance, otherwise the nearest of the three sides. Tuples, not arrays,
    # so that nothing is allocated in this innermost loop.
    ab = (b[0] - a[0], b[1] - a[1], b[2] - a[2])
    ac = (c[0] - a[0], c[1] - a[1], c[2] - a[2])
    ap = (p[0] - a[0], p[1] - a[1], p[2] - a[2])
    d00, d01, d11, d20, d21 = _dot(ab, ab), _dot(ab, ac), _dot(ac, ac), _dot(ap, ab), _dot(ap, ac)
    det = d00 * d11 - d01 * d01
    if det > 0.0:
        v, w = (d11 * d20 - d01 * d21) / det, (d00 * d21 - d01 * d20) / det
        if v >= 0.0 and w >= 0.0 and v + w <= 1.0:
            x, y, z = ap[0] - v * ab[0] - w * ac[0], ap[1] - v * ab[1] - w * ac[1], ap[2] - v * ab[2] - w * ac[2]
            return x * x + y * y + z * z
    bc, bp = (c[0] - b[0], c[1] - b[1], c[2] - b[2]), (p[0] - b[0], p[1] - b[1], p[2] - b[2])
    return min(_to_side(ap, ab), min(_to_side(ap, ac), _to_side(bp, bc)))


@numba.njit(cache=True)
def _to_side(ap, ab):  # pragma: no cover - compiled
    length = _dot(ab, ab)
    t = 0.0 if length == 0.0 else min(1.0, max(0.0, _dot(ap, ab) / length))
    x, y, z = ap[0] - t * ab[0], ap[1] - t * ab[1], ap[2] - t * ab[2]
    return x * x + y * y + z * z
