"""Statistics against closed forms and against how often they are right."""

from __future__ import annotations

import math

import numpy as np
import pytest

from farm3d.core.errors import InputError
from farm3d.core.random import numpy_generator
from farm3d.evaluation.statistics import paired_difference, summarise


def test_the_plain_numbers() -> None:
    found = summarise([1.0, 2.0, 3.0, 10.0])
    assert (found.n, found.mean, found.median) == (4, 4.0, 2.5) and found.std == pytest.approx(np.std([1, 2, 3, 10], ddof=1))
    assert 1 <= found.low <= found.mean <= found.high <= 10
    alone = summarise([7.0])
    assert (alone.std, alone.low, alone.high) == (0, 7, 7)


def test_the_interval_is_that_of_a_mean() -> None:
    values = numpy_generator(0, "values").normal(5, 2, 400)
    found = summarise(values.tolist())
    half = 1.96 * 2 / math.sqrt(400)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.1)
    assert summarise(values.tolist()) == found and summarise(values.tolist(), seed=1) != found


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    rng, hits = numpy_generator(0, "coverage"), 0
    for _ in range(100):
        found = summarise(rng.normal(0, 1, 60).tolist())
        hits += found.low <= 0 <= found.high
    assert 88 <= hits <= 99


def test_copies_of_one_individual_make_nothing_surer() -> None:
    values = numpy_generator(0, "groups").normal(0, 1, 25)
    copied, names = np.repeat(values, 8), np.repeat(np.arange(25), 8)
    single, grouped, naive = summarise(values.tolist()), summarise(copied.tolist(), groups=names.tolist()), summarise(copied.tolist())
    assert (grouped.low, grouped.high) == pytest.approx((single.low, single.high))
    assert naive.high - naive.low < 0.5 * (grouped.high - grouped.low)


def test_a_difference_beyond_noise_and_one_within() -> None:
    rng = numpy_generator(0, "pairs")
    hard = rng.normal(0, 5, 80)  # how hard each picture is moves both methods alike
    better, equal = hard + 0.5 + rng.normal(0, 0.5, 80), hard + rng.normal(0, 0.5, 80)
    clear = paired_difference(better.tolist(), hard.tolist())
    assert clear.beyond_noise and clear.low > 0 and clear.p < 0.001 and clear.mean == pytest.approx(0.5, abs=0.2)
    assert not paired_difference(equal.tolist(), hard.tolist()).beyond_noise
    same = paired_difference(hard.tolist(), hard.tolist())
    assert same.mean == 0 and same.p == 1 and not same.beyond_noise
    reverse = paired_difference(hard.tolist(), better.tolist())
    assert reverse.mean == -clear.mean and reverse.p == pytest.approx(clear.p, abs=0.01)


def test_p_is_right_as_often_as_it_says() -> None:
    """Where there is no difference, p < 0.05 in about one of twenty."""
    rng, alarms = numpy_generator(1, "alarms"), 0
    for _ in range(100):
        alarms += paired_difference(rng.normal(0, 1, 30).tolist(), rng.normal(0, 1, 30).tolist()).p < 0.05
    assert 0 <= alarms <= 12


def test_p_of_few_groups() -> None:
    """Five clear pairs flip all to one side in 2 of 32 ways."""
    assert paired_difference([1.0, 1.1, 0.9, 1.2, 1.0], [0.0] * 5).p == pytest.approx(2 / 32, abs=0.01)
    one_animal = paired_difference([1.0] * 40, [0.0] * 40, groups=["a"] * 40)
    assert one_animal.p == 1 and one_animal.groups == 1 and not one_animal.beyond_noise


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf]])
def test_what_has_no_statistics(values: list[float]) -> None:
    with pytest.raises(InputError):
        summarise(values)
    with pytest.raises(InputError):
        paired_difference(values, values)


def test_lengths_must_fit() -> None:
    with pytest.raises(InputError, match="no pairs"):
        paired_difference([1.0], [1.0, 2.0])
    with pytest.raises(InputError, match="3 groups for 2"):
        summarise([1.0, 2.0], groups=["a", "b", "c"])
