"""Packing flat charts into a texture, and checking an atlas: range, overlap, use, stretch."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import torch

from farm3d.core.errors import InputError
from farm3d.core.shapes import Float, Int, Tensor, checked
from farm3d.geometry.flatten import stretches
from farm3d.geometry.surface import vertex_components

__all__ = ["AtlasReport", "inspect_atlas", "pack_charts", "texel_coverage"]


@dataclass(frozen=True)
class AtlasReport:
    """What :func:`inspect_atlas` found.

    Attributes:
        in_range: every corner is finite and in [0, 1].
        overlap_texels: texel centres covered by more than one face.
        coverage: share of the texels whose centre is covered.
        charts: connected pieces of the atlas.
        stretch_median, stretch_99: per face, the larger of its two length scales relative to the atlas's mean, or the inverse of the
            smaller.
    """

    in_range: bool
    overlap_texels: int
    coverage: float
    charts: int
    stretch_median: float
    stretch_99: float


def pack_charts(charts: list[Tensor], faces: list[Tensor], *, size_px: int = 1024, padding_px: int = 4) -> list[Tensor]:
    """Turn and place charts of equal scale in the upper half [0, 1] x [0, 1/2] of the atlas, as large as they fit.

    Args:
        charts: corners ``[U_i, 2]`` of each chart in common units, largest area first.
        faces: triangles of each chart, ``[P_i, 3]``.

    Returns:
        corners of each chart in atlas coordinates.
    """
    straight = [_upright(uv.numpy()) for uv in charts]
    triangles = [part.numpy() for part in faces]
    area = sum(float(_coverage_area(uv, part)) for uv, part in zip(straight, triangles, strict=True))
    scale = np.sqrt(0.5 / area)  # atlas widths per unit if the half were filled completely
    coarse = 4  # places are tried on a grid of 4 texels; the margin below is rounded up to it
    rows, columns = size_px // 2 // coarse, size_px // coarse
    best: list[np.ndarray] | None = None
    placed: list[np.ndarray] | None = None
    low, high = 0.3 * scale, scale
    for _ in range(9):
        middle = (low + high) / 2
        scaled = [uv * middle * columns for uv in straight]
        for lean in (0.5, 2.0, 0.1):  # fill from the left, from the top, strictly from the left
            placed = _try_pack(scaled, triangles, rows=rows, columns=columns, margin=padding_px / coarse, lean=lean)
            if placed is not None:
                break
        if placed is None:
            high = middle
        else:
            low, best = middle, placed
    if best is None:
        raise InputError("unwrap: the charts do not fit the atlas", hint="use fewer or rounder charts")
    return [torch.from_numpy(uv / columns) for uv in best]


def _upright(uv: np.ndarray) -> np.ndarray:
    """Turn a chart so that its bounding rectangle is smallest, long side along u."""
    best, smallest = uv, np.inf
    for angle in np.radians(np.arange(0, 90, 3)):
        turned = uv @ np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]).T
        extent = np.ptp(turned, axis=0)
        if extent.prod() < smallest - 1e-12:
            best, smallest = (turned if extent[0] >= extent[1] else turned @ np.array([[0.0, 1.0], [-1.0, 0.0]])), extent.prod()
    return best - best.min(0)


def _coverage_area(uv: np.ndarray, faces: np.ndarray) -> float:
    a, b, c = (uv[faces[:, k]] for k in range(3))
    return float(np.abs((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]).sum() / 2)


def _try_pack(
    charts: list[np.ndarray], faces: list[np.ndarray], *, rows: int, columns: int, margin: float, lean: float
) -> list[np.ndarray] | None:
    from scipy.ndimage import binary_dilation
    from scipy.signal import fftconvolve

    taken = np.zeros((rows, columns), bool)
    placed: list[np.ndarray] = []
    for uv, part in zip(charts, faces, strict=True):
        choice: tuple[float, np.ndarray, np.ndarray, int, int] | None = None
        for turn in range(4):
            cosine, sine = ((1, 0), (0, 1), (-1, 0), (0, -1))[turn]
            turned = uv @ np.array([[cosine, -sine], [sine, cosine]]).T
            turned = turned - turned.min(0) + margin
            width, height = (np.ceil(turned.max(0) + margin).astype(int)).tolist()
            if width > columns or height > rows:
                continue
            mask = _touched(turned, part, height, width)
            mask = binary_dilation(mask, iterations=max(1, round(margin)))
            clash = fftconvolve(taken.astype(np.float32), mask[::-1, ::-1].astype(np.float32), mode="valid")
            free = np.argwhere(clash < 0.5)
            if len(free) == 0:
                continue
            cost = free[:, 1] + width + lean * (free[:, 0] + height)
            row, column = free[int(cost.argmin())]
            if choice is None or float(cost.min()) < choice[0]:
                choice = (float(cost.min()), turned, mask, int(row), int(column))
        if choice is None:
            return None
        _, turned, mask, row, column = choice
        taken[row : row + mask.shape[0], column : column + mask.shape[1]] |= mask
        placed.append(turned + [column, row])
    return placed


@checked
def inspect_atlas(
    vertices: Float[Tensor, "V 3"],
    faces: Int[Tensor, "F 3"],
    uv: Float[Tensor, "U 2"],
    faces_uv: Int[Tensor, "F 3"],
    *,
    size_px: int = 1024,
) -> AtlasReport:
    """Check an atlas: range, overlap at ``size_px``, use, number of charts, stretch."""
    in_range = bool(torch.isfinite(uv).all()) and float(uv.min()) >= 0 and float(uv.max()) <= 1
    if not in_range:
        return AtlasReport(False, 0, 0.0, 0, float("inf"), float("inf"))
    counts = texel_coverage((uv.double() * size_px).cpu().numpy(), faces_uv.cpu().numpy(), size_px, size_px)
    large, small, _ = stretches(vertices.double(), faces, uv.double(), faces_uv)
    mean = float((large * small).mean().sqrt())
    worst = torch.maximum(large / mean, mean / small.clamp(min=1e-12))
    charts = torch.unique(vertex_components(faces_uv, len(uv))[faces_uv[:, 0]]).numel()
    quantiles = torch.quantile(worst, worst.new_tensor([0.5, 0.99])).tolist()
    return AtlasReport(True, int((counts > 1).sum()), float((counts > 0).mean()), charts, *quantiles)


@numba.njit(cache=True)
def texel_coverage(corners, faces, rows, columns):  # pragma: no cover - compiled
    """How many faces cover each texel centre; a centre on a shared edge counts once (half-open rule)."""
    counts = np.zeros((rows, columns), np.int32)
    for f in range(len(faces)):
        a, b, c = corners[faces[f, 0]], corners[faces[f, 1]], corners[faces[f, 2]]
        top, bottom = max(0, int(min(a[1], b[1], c[1]) - 1)), min(rows - 1, int(max(a[1], b[1], c[1]) + 1))
        left, right = max(0, int(min(a[0], b[0], c[0]) - 1)), min(columns - 1, int(max(a[0], b[0], c[0]) + 1))
        for row in range(top, bottom + 1):
            for column in range(left, right + 1):
                x, y, hits = column + 0.5, row + 0.5, 0
                for start, end in ((a, b), (b, c), (c, a)):
                    if (start[1] > y) != (end[1] > y):
                        lower, upper = (start, end) if start[1] < end[1] else (end, start)
                        if x < lower[0] + (y - lower[1]) * (upper[0] - lower[0]) / (upper[1] - lower[1]):
                            hits += 1
                if hits % 2 == 1:
                    counts[row, column] += 1
    return counts


def _touched(corners: np.ndarray, faces: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Cells that a chart touches at all: its cover, its corners and points along its edges."""
    mask = texel_coverage(corners, faces, rows, columns) > 0
    for a, b in ((0, 1), (1, 2), (2, 0)):
        for share in np.linspace(0, 1, 9):
            points = corners[faces[:, a]] * (1 - share) + corners[faces[:, b]] * share
            cells = np.clip(points.astype(int), 0, [columns - 1, rows - 1])
            mask[cells[:, 1], cells[:, 0]] = True
    return mask
