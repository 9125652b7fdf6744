"""The figures of a score: shares with their intervals, distances between sets of features, and nearest neighbours."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

__all__ = ["Share", "Spread", "coverage_and_density", "kernel_distance", "nearest", "share"]

_Z = 1.959964
_AT_ONCE = 256


@dataclass(frozen=True)
class Share:
    """``count`` of ``of``, and the 95 % Wilson interval of the share."""

    count: int
    of: int
    share: float
    low: float
    high: float


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation over subsets."""

    mean: float
    std: float


def share(count: int, of: int) -> Share:
    """Return a share with its 95 % Wilson interval; of nothing, everything is possible.

    Raises:
        ValueError: more counted than there are.
    """
    if not 0 <= count <= of:
        raise ValueError(f"{count} of {of}")
    if of == 0:
        return Share(0, 0, math.nan, 0.0, 1.0)
    p, z2 = count / of, _Z**2
    middle = (p + z2 / (2 * of)) / (1 + z2 / of)
    reach = _Z * math.sqrt(p * (1 - p) / of + z2 / (4 * of**2)) / (1 + z2 / of)
    return Share(count, of, p, max(0.0, middle - reach), min(1.0, middle + reach))


def kernel_distance(first: np.ndarray, second: np.ndarray, rng: np.random.Generator, *, subsets: int = 50, size: int = 100) -> Spread:
    """Return the kernel inception distance: unbiased squared MMD with the kernel ``(x.y / d + 1)^3``, over random subsets.

    Args:
        first, second: features, ``[N, d]`` and ``[M, d]``, at least two of each.
        rng: draws the subsets, of the smaller of ``size``, N and M.

    Raises:
        ValueError: fewer than two of either.
    """
    size = min(size, len(first), len(second))
    if size < 2:
        raise ValueError(f"{len(first)} and {len(second)} pictures: at least two of each are needed")
    values = []
    for _ in range(subsets):
        x, y = (part[rng.choice(len(part), size, replace=False)] for part in (first, second))
        own = [(kernel.sum() - np.trace(kernel)) / (size * (size - 1)) for kernel in (_kernel(x, x), _kernel(y, y))]
        values.append(own[0] + own[1] - 2 * _kernel(x, y).mean())
    return Spread(float(np.mean(values)), float(np.std(values)))


def coverage_and_density(real: np.ndarray, drawn: np.ndarray, *, neighbours: int = 5) -> tuple[float, float]:
    """Return coverage and density of Naeem et al. (2020): the share of real pictures whose ball, as far as their k-th real neighbour,
    holds a drawn one; and how many balls a drawn picture lies in, over k (1 is what real pictures have).
    """
    neighbours = min(neighbours, len(real) - 1)
    if neighbours < 1:
        raise ValueError(f"{len(real)} real pictures: at least two are needed")
    radii = np.sort(_distances(real, real), 1)[:, neighbours]
    inside = _distances(real, drawn) < radii[:, None]
    return float(inside.any(1).mean()), float(inside.sum(0).mean() / neighbours)


def nearest(queries: np.ndarray, pool: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distance to the nearest row of ``pool`` and its number, for each row of ``queries``."""
    distances, numbers = [], []
    for begin in range(0, len(queries), _AT_ONCE):
        between = _distances(queries[begin : begin + _AT_ONCE], pool)
        numbers.append(between.argmin(1))
        distances.append(between.min(1))
    return np.concatenate(distances), np.concatenate(numbers)


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    squared = (x**2).sum(1)[:, None] + (y**2).sum(1)[None] - 2 * x @ y.T
    return np.sqrt(np.maximum(squared, 0))
