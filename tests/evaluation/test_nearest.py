"""Nearest points are those that a plain search finds, whatever the guesses."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from tests.testing.surfaces import toy

from farm3d.core.random import numpy_generator
from farm3d.evaluation.alignment import EvenSampler
from farm3d.evaluation.nearest import Neighbours, in_order


def clouds(many: int, few: int) -> tuple[np.ndarray, np.ndarray]:
    generator = numpy_generator(0, many, few)
    sampler = EvenSampler(toy())
    return sampler.draw(many, generator), sampler.draw(few, generator) * 1.3 + 0.1


@pytest.mark.parametrize("many", [1, 2, 7, 8, 9, 64, 65, 1000, 4097])
def test_distances_are_those_of_a_plain_search(many: int) -> None:
    points, asked = clouds(many, 300)
    assert np.allclose(Neighbours(points).distances(asked), cdist(asked, points).min(1), rtol=1e-12, atol=0)


@pytest.mark.parametrize("many", [2, 9, 500])
@pytest.mark.parametrize("guess", ["none", "right", "any", "some"])
def test_the_two_nearest_are_found_whatever_was_guessed(many: int, guess: str) -> None:
    points, asked = clouds(many, 300)
    distances = cdist(asked, points)
    expected = distances.argsort(1)[:, :2]
    others = np.stack([numpy_generator(1, row).permutation(many)[:2] for row in range(len(asked))])
    guesses = {"none": np.full_like(expected, -1), "right": expected[:, ::-1], "any": others, "some": others.copy()}[guess]
    if guess == "some":
        guesses[::2] = -1
    index, found = Neighbours(points).two(asked, guesses)
    assert np.array_equal(index, expected)
    assert np.allclose(found, np.take_along_axis(distances, expected, 1), rtol=1e-12, atol=0)


def test_points_that_coincide_are_both_found() -> None:
    points = np.repeat(clouds(40, 1)[0], 2, axis=0)
    index, found = Neighbours(points).two(points, np.full((80, 2), -1))
    assert (found == 0).all() and (index // 2 == np.arange(80)[:, None] // 2).all() and (index[:, 0] != index[:, 1]).all()


def test_an_order_names_each_point_once_and_neighbours_together() -> None:
    points = clouds(3000, 1)[0]
    order = in_order(points)
    steps = np.linalg.norm(np.diff(points[order], axis=0), axis=1).mean()
    assert np.array_equal(np.sort(order), np.arange(3000)) and steps < np.linalg.norm(np.diff(points, axis=0), axis=1).mean() / 5
