"""Nearest points of a fixed set, for many points that lie near each other or near where they were last: both are cheap guesses.

A k-d tree's order cuts the set into leaves of neighbouring points, and boxes around leaves, pairs of leaves and so on are searched
from the guess's distance downwards. The answers are exact.
"""

from __future__ import annotations

import numba
import numpy as np

from farm3d.core.shapes import Float, Int

__all__ = ["Neighbours", "in_order"]

_LEAF = 8  # points of a leaf at most


def in_order(points: Float[np.ndarray, "N 3"]) -> Int[np.ndarray, " N"]:
    """Return the points' numbers so that those one after another lie near each other."""
    from scipy.spatial import KDTree

    return KDTree(points, leafsize=_LEAF, balanced_tree=False, compact_nodes=False).indices


class Neighbours:
    """The set ``[M, 3]`` that is asked; at least one point, all finite."""

    def __init__(self, points: Float[np.ndarray, "M 3"]) -> None:
        self._numbers = in_order(points)
        self._place = np.empty_like(self._numbers)
        self._place[self._numbers] = np.arange(len(points))
        self._points = np.ascontiguousarray(points[self._numbers])
        leaves = 1 << max(0, int(np.ceil(np.log2(len(points) / _LEAF))))
        self._ends = np.arange(leaves + 1) * len(points) // leaves
        # Box n is around boxes 2n and 2n + 1, box 1 around all; the leaves' come last.
        self._low, self._high = np.empty((2 * leaves, 3)), np.empty((2 * leaves, 3))
        self._low[leaves:] = np.minimum.reduceat(self._points, self._ends[:-1])
        self._high[leaves:] = np.maximum.reduceat(self._points, self._ends[:-1])
        while leaves > 1:
            half = slice(leaves // 2, leaves)
            self._low[half] = self._low[leaves : 2 * leaves].reshape(-1, 2, 3).min(1)
            self._high[half] = self._high[leaves : 2 * leaves].reshape(-1, 2, 3).max(1)
            leaves //= 2

    def two(
        self, points: Float[np.ndarray, "N 3"], guesses: Int[np.ndarray, "N 2"]
    ) -> tuple[Int[np.ndarray, "N 2"], Float[np.ndarray, "N 2"]]:
        """Return the numbers of each point's two nearest, nearest first, and the distances to them; the set has two points or more.

        ``guesses`` are the numbers of two different points that may be near, or -1: begin with the answer to the one before.
        """
        index, squares = np.where(guesses < 0, -1, self._place[guesses]), np.empty((len(points), 2))
        _search(points, self._points, self._ends, self._low, self._high, index, squares, True)
        return self._numbers[index], np.sqrt(squares)

    def distances(self, points: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, " N"]:
        """Return the distance from each point to its nearest; points in the order of :func:`in_order` are answered fastest."""
        index, squares = np.empty((len(points), 2), np.int64), np.empty((len(points), 2))
        _search(points, self._points, self._ends, self._low, self._high, index, squares, False)
        return np.sqrt(squares[:, 0])


@numba.njit(cache=True)
def _square(points, m, x, y, z):  # pragma: no cover - compiled
    dx, dy, dz = x - points[m, 0], y - points[m, 1], z - points[m, 2]
    return dx * dx + dy * dy + dz * dz


@numba.njit(cache=True)
def _gap(low, high, x, y, z):  # pragma: no cover - compiled
    dx, dy, dz = max(low[0] - x, x - high[0], 0.0), max(low[1] - y, y - high[1], 0.0), max(low[2] - z, z - high[2], 0.0)
    return dx * dx + dy * dy + dz * dz


@numba.njit(cache=True)
def _search(asked, points, ends, low, high, index, squares, two):  # pragma: no cover - compiled
    # Of two wanted, `index` holds the guesses. Without them, and of one, a point begins with the answer to the one before.
    leaves = len(ends) - 1
    nodes, gaps = np.empty(64, np.int64), np.empty(64)  # boxes still to be looked into: one of each level at most
    best, other = 0, len(points) - 1
    for n in range(len(asked)):
        x, y, z = asked[n, 0], asked[n, 1], asked[n, 2]
        next_least = np.inf
        if two:
            if index[n, 0] >= 0:
                best, other = index[n, 0], index[n, 1]
            next_least = _square(points, other, x, y, z)
        least = _square(points, best, x, y, z)
        if next_least < least:
            least, next_least, best, other = next_least, least, other, best
        first_guess, second_guess = best, other if two else best  # they come again in their leaves
        bound = next_least if two else least
        nodes[0], gaps[0], depth = 1, 0.0, 1
        while depth:
            depth -= 1
            node = nodes[depth]
            if gaps[depth] >= bound:
                continue
            while 0 < node < leaves:
                near, far = 2 * node, 2 * node + 1
                near_gap, far_gap = _gap(low[near], high[near], x, y, z), _gap(low[far], high[far], x, y, z)
                if far_gap < near_gap:
                    near, far, near_gap, far_gap = far, near, far_gap, near_gap
                if far_gap < bound:
                    nodes[depth], gaps[depth] = far, far_gap
                    depth += 1
                node = near if near_gap < bound else 0
            if node == 0:
                continue
            for m in range(ends[node - leaves], ends[node - leaves + 1]):
                if m in (first_guess, second_guess):
                    continue
                square = _square(points, m, x, y, z)
                if square < least:
                    least, next_least, best, other = square, least, m, best
                elif two and square < next_least:
                    next_least, other = square, m
                bound = next_least if two else least
        index[n, 0], index[n, 1], squares[n, 0], squares[n, 1] = best, other, least, next_least
