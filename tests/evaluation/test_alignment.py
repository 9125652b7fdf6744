"""Points that lie evenly, motions that are found again, distances that are known."""

import numpy as np
import pytest
import trimesh
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation
from tests.testing.surfaces import ball, box, square_surface, toy, turned
from trimesh.points import remove_close

from farm3d.core.random import numpy_generator
from farm3d.evaluation.alignment import EvenSampler, _apart, align, nearest_distances, rigid_fit


def motion(degrees: tuple[float, float, float], shift: tuple[float, float, float]) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix(), shift
    return matrix


def moved(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return points @ matrix[:3, :3].T + matrix[:3, 3]


# --- points -------------------------------------------------------------------------------------------------------------------


def test_points_lie_on_the_surface_in_proportion_to_area() -> None:
    points = EvenSampler(box((1, 2, 3))).draw(20000, numpy_generator(0))
    share = np.abs(points / [1, 2, 3])
    assert points.shape == (20000, 3) and np.allclose(share.max(1), 0.5)
    on_ends = (np.isclose(share[:, 2], 0.5)).mean()  # the two faces of 1 x 2
    assert on_ends == pytest.approx(4 / 22, abs=0.01)
    assert np.abs(points.mean(0)).max() < 0.02


def test_points_are_more_even_than_chance() -> None:
    """Within one batch none are closer than the radius; over batches few are."""
    surface, count = toy(), 4000
    radius = np.sqrt(surface.areas.sum() / (3 * count))
    even = EvenSampler(surface).draw(count, numpy_generator(1))
    gaps = KDTree(even).query(even, k=2)[0][:, 1]
    assert (gaps < radius).mean() < 0.15  # pure chance: 1 - exp(-pi / 3) = 0.65


@pytest.mark.parametrize("count, radius", [(20000, 0.08), (3000, 0.5), (500, 1e-6)])
def test_close_points_are_thinned_as_trimesh_does(count: int, radius: float) -> None:
    points = numpy_generator(2, count).normal(size=(count, 3))
    assert np.array_equal(_apart(points, radius), remove_close(points, radius)[1])


def test_equal_generators_draw_equal_points() -> None:
    sampler = EvenSampler(ball(cells=4))
    first, again, other = (sampler.draw(100, numpy_generator(seed)) for seed in (3, 3, 4))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


# --- motions ------------------------------------------------------------------------------------------------------------------


def test_a_rigid_motion_is_found_from_matched_points() -> None:
    points = numpy_generator(5).normal(size=(50, 3))
    matrix = motion((40, -75, 120), (1, -2, 3))
    turn, shift = rigid_fit(points, moved(points, matrix))
    assert np.allclose(turn, matrix[:3, :3]) and np.allclose(shift, matrix[:3, 3])
    mirrored = points * [-1, 1, 1]
    assert np.linalg.det(rigid_fit(points, mirrored)[0]) == pytest.approx(1)


def test_without_rotation_only_the_middles_meet() -> None:
    points = numpy_generator(6).normal(size=(50, 3))
    turn, shift = rigid_fit(points, moved(points, motion((0, 90, 0), (1, 2, 3))), rotation=False)
    assert np.array_equal(turn, np.eye(3))
    assert np.allclose(points.mean(0) + shift, moved(points, motion((0, 90, 0), (1, 2, 3))).mean(0))


def test_alignment_finds_a_known_motion() -> None:
    points = EvenSampler(toy()).draw(1500, numpy_generator(7))
    matrix = motion((4, -8, 3), (0.05, -0.03, 0.08))
    found = align(points, moved(points, matrix))
    assert np.allclose(found, matrix, atol=1e-9)


@pytest.mark.parametrize("rotation", [True, False])
def test_alignment_is_that_of_trimesh(rotation: bool) -> None:
    """Other points on both sides, so that it ends by its own rule; the memory of neighbours must change nothing."""
    target = EvenSampler(toy()).draw(800, numpy_generator(8))
    source = EvenSampler(turned(toy(tail=False), degrees=25, scale=1.1)).draw(900, numpy_generator(9)) + [0.1, 0.3, -0.2]
    if rotation:
        expected, _, _ = trimesh.registration.icp(source, target, threshold=0, max_iterations=200, reflection=False, scale=False)
        assert np.allclose(align(source, target), expected, atol=1e-9)
        short, _, _ = trimesh.registration.icp(source, target, threshold=0, max_iterations=3, reflection=False, scale=False)
        assert np.allclose(align(source, target, iterations=3), short, atol=1e-12)
    else:
        found = align(source, target, rotation=False)
        assert np.array_equal(found[:3, :3], np.eye(3))
        nearest = target[KDTree(target).query(moved(source, found))[1]]
        assert np.allclose((nearest - moved(source, found)).mean(0), 0, atol=1e-9)  # nothing is left to shift


def test_a_high_threshold_ends_early() -> None:
    points = EvenSampler(toy()).draw(500, numpy_generator(10))
    matrix = motion((0, 12, 0), (0, 0, 0))
    rough, fine = (
        nearest_distances(moved(points, align(points, moved(points, matrix), threshold=t)), moved(points, matrix)) for t in (1.0, 0.0)
    )
    assert fine.mean() < 1e-9 < 1e-3 < rough.mean()


# --- distances ----------------------------------------------------------------------------------------------------------------


def test_the_distance_of_two_planes_is_their_shift() -> None:
    points, others = (EvenSampler(square_surface(height=height)).draw(20000, numpy_generator(11, str(height))) for height in (0.0, 0.1))
    for distances in (nearest_distances(points, others), nearest_distances(others, points)):
        assert distances.min() >= 0.1 and distances.mean() == pytest.approx(0.1, rel=1e-3)


def test_nearest_distances_are_those_of_brute_force() -> None:
    points, others = (numpy_generator(12, name).normal(size=(60, 3)) for name in "ab")
    brute = np.linalg.norm(points[:, None] - others[None], axis=2).min(1)
    assert np.allclose(nearest_distances(points, others), brute)
