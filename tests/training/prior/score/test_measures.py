"""The figures of a score against what is known: intervals from the literature, distances of known sets, copies that are found."""

import math

import numpy as np
import pytest

from farm3d.training.prior.score.measures import coverage_and_density, kernel_distance, nearest, share


def test_wilson_intervals() -> None:
    value = share(8, 10)  # Brown, Cai and DasGupta (2001): .490 to .943
    assert value.share == 0.8 and value.low == pytest.approx(0.490, abs=1e-3) and value.high == pytest.approx(0.943, abs=1e-3)
    assert share(0, 20).low == 0 and share(0, 20).high == pytest.approx(0.161, abs=1e-3)
    assert share(20, 20).high == 1
    assert math.isnan(share(0, 0).share) and (share(0, 0).low, share(0, 0).high) == (0, 1)
    with pytest.raises(ValueError, match="3 of 2"):
        share(3, 2)


def test_kernel_distance_is_zero_for_one_distribution_and_grows_with_the_shift() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(400, 16)), rng.normal(size=(300, 16))
    same = kernel_distance(first, second, np.random.default_rng(1))
    near, far = (kernel_distance(first, second + shift, np.random.default_rng(1)).mean for shift in (0.5, 1.0))
    assert abs(same.mean) < 2 * same.std / np.sqrt(50) + 0.02
    assert same.mean + 0.05 < near < far
    again = kernel_distance(first, second, np.random.default_rng(1))
    assert again == same
    with pytest.raises(ValueError, match="at least two"):
        kernel_distance(first[:1], second, rng)


def test_kernel_distance_equals_the_definition() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(5, 3)), rng.normal(size=(5, 3)) + 1

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return float((a @ b / 3 + 1) ** 3)

    own = [sum(kernel(part[i], part[j]) for i in range(5) for j in range(5) if i != j) / 20 for part in (x, y)]
    cross = sum(kernel(a, b) for a in x for b in y) / 25
    assert kernel_distance(x, y, rng, subsets=3).mean == pytest.approx(own[0] + own[1] - 2 * cross)


def test_coverage_and_density() -> None:
    rng = np.random.default_rng(3)
    real = rng.normal(size=(300, 8))
    coverage, density = coverage_and_density(real, rng.normal(size=(300, 8)))
    assert coverage > 0.9 and 0.8 < density < 1.2
    collapsed, dense = coverage_and_density(real, np.zeros((300, 8)) + 0.01 * rng.normal(size=(300, 8)))
    assert collapsed < 0.5 and dense > 1.2
    assert coverage_and_density(real, real + 50) == (0, 0)
    with pytest.raises(ValueError, match="at least two"):
        coverage_and_density(real[:1], real)


def test_nearest_finds_what_is_there() -> None:
    rng = np.random.default_rng(4)
    pool = rng.normal(size=(700, 12))
    order = rng.permutation(700)[:300]
    distances, numbers = nearest(pool[order] + 1e-5, pool)
    assert (numbers == order).all() and distances.max() < 1e-3
