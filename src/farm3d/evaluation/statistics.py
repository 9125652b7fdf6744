"""Means that say how sure they are: bootstrap intervals, and whether two methods differ beyond noise.

Pictures of one individual are not independent, so whole groups are drawn and flipped, never single pictures.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from farm3d.core.errors import InputError
from farm3d.core.random import numpy_generator

__all__ = ["Difference", "Summary", "paired_difference", "summarise"]

RESAMPLES = 10_000
LEVEL = 0.95
_CHUNK = 512


@dataclass(frozen=True)
class Summary:
    """Of n numbers: mean, sample standard deviation (0 for one), median, and the bootstrap interval of the mean."""

    n: int
    mean: float
    std: float
    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """Of n pairs: mean of first minus second, its bootstrap interval, and the p-value of a sign-flip permutation test, two-sided.

    Attributes:
        groups: how many independent groups the pairs fall into.
        beyond_noise: the interval leaves out 0 and p < 0.05.
    """

    n: int
    groups: int
    mean: float
    low: float
    high: float
    p: float

    @property
    def beyond_noise(self) -> bool:
        """True if both tests agree that the difference is not chance."""
        return self.p < 1 - LEVEL and not self.low <= 0 <= self.high


def summarise(values: Sequence[float], *, groups: Sequence[Hashable] | None = None, seed: int = 0) -> Summary:
    """Summarise numbers; the interval is the 95 % percentile bootstrap of the mean with 10,000 draws of whole groups.

    Args:
        values: at least one, finite.
        groups: the group of each value; None makes each its own.
        seed: equal seed, equal interval.

    Raises:
        InputError: no values, values that are not finite, or another number of groups.
    """
    array, sums, counts = _grouped(values, groups)
    low, high = _interval(sums, counts, seed)
    std = float(array.std(ddof=1)) if len(array) > 1 else 0.0
    return Summary(len(array), float(array.mean()), std, float(np.median(array)), low, high)


def paired_difference(
    first: Sequence[float], second: Sequence[float], *, groups: Sequence[Hashable] | None = None, seed: int = 0
) -> Difference:
    """Compare two methods on the same pictures; see :class:`Difference`.

    The p-value is the share of 10,000 random sign flips of whole groups whose mean is as far from 0 as the one found (the found one
    counts as one of them). With fewer than six groups it cannot fall below 0.05, however clear the difference looks.

    Raises:
        InputError: no pairs, other lengths, or values that are not finite.
    """
    if len(first) != len(second):
        raise InputError(f"{len(first)} and {len(second)} values make no pairs")
    with np.errstate(invalid="ignore"):  # infinities are refused below
        differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    array, sums, counts = _grouped(differences, groups)
    low, high = _interval(sums, counts, seed)
    generator = numpy_generator(seed, "sign flips")
    found, reached = abs(float(sums.sum())), 0
    slack = 1e-9 * float(np.abs(sums).sum())
    for start in range(0, RESAMPLES, _CHUNK):
        signs = generator.integers(0, 2, size=(min(_CHUNK, RESAMPLES - start), len(sums))) * 2 - 1
        reached += int((np.abs(signs @ sums) >= found - slack).sum())
    return Difference(len(array), len(sums), float(array.mean()), low, high, (reached + 1) / (RESAMPLES + 1))


def _grouped(values: Sequence[float] | np.ndarray, groups: Sequence[Hashable] | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the values, and the sum and the size of each group."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or len(array) == 0 or not np.isfinite(array).all():
        raise InputError("statistics need one or more finite numbers")
    if groups is None:
        return array, array, np.ones(len(array))
    if len(groups) != len(array):
        raise InputError(f"{len(groups)} groups for {len(array)} values")
    numbers = {name: number for number, name in enumerate(dict.fromkeys(groups))}
    index = np.array([numbers[name] for name in groups])
    return array, np.bincount(index, weights=array), np.bincount(index).astype(np.float64)


def _interval(sums: np.ndarray, counts: np.ndarray, seed: int) -> tuple[float, float]:
    generator = numpy_generator(seed, "bootstrap")
    means = np.empty(RESAMPLES)
    for start in range(0, RESAMPLES, _CHUNK):
        drawn = generator.integers(0, len(sums), size=(min(_CHUNK, RESAMPLES - start), len(sums)))
        means[start : start + len(drawn)] = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
