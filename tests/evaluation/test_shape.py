"""The Animodel protocol on a small quadruped at reduced settings: acceptance check f of the specification, and what it must notice."""

import dataclasses

import numpy as np
import pytest
from tests.testing.surfaces import Surface, box, square_surface, toy, turned

from farm3d.core.errors import InputError
from farm3d.core.random import numpy_generator
from farm3d.evaluation.shape import AnimodelSettings, ShapeScore, animodel_score, rms_chamfer_cm, rms_chamfer_cm_model_view

REDUCED = AnimodelSettings(align_points=1500, icp_iterations=60, chamfer_points=8000, min_cubes=30)


def score(target: Surface, reconstruction: Surface, *, seed: int = 0, settings: AnimodelSettings = REDUCED) -> ShapeScore:
    return animodel_score(target, reconstruction, generator=numpy_generator(seed), settings=settings)


@pytest.fixture(scope="module")
def floor() -> ShapeScore:
    """The toy against itself: what is left is sampling and remeshing."""
    return score(toy(), toy())


def test_the_published_numbers_are_the_defaults() -> None:
    assert dataclasses.astuple(AnimodelSettings()) == (8000, 200, 0.0, 60000, 100, True, True)


def test_a_mesh_against_itself_is_at_the_floor(floor: ShapeScore) -> None:
    spacing = np.sqrt(toy().areas.sum() / REDUCED.chamfer_points)
    assert 0.3 * spacing < floor.bidirectional_m < spacing
    assert floor.scale == pytest.approx(1) and not floor.turned
    cube = toy().sides.min() / REDUCED.min_cubes
    assert np.abs(toy().transformed(floor.T_target_reconstruction).vertices - toy().vertices).max() < 2 * cube


@pytest.mark.parametrize("degrees, scale, flipped", [(180, 3.0, True), (90, 1.0, None), (0, 0.01, False)])
def test_size_and_heading_do_not_matter(floor: ShapeScore, degrees: float, scale: float, flipped: bool | None) -> None:
    reconstruction = turned(toy(), degrees=degrees, scale=scale)
    found = score(toy(), reconstruction)
    assert found.bidirectional_m == pytest.approx(floor.bidirectional_m, rel=0.02)
    assert found.scale == pytest.approx(1 / scale, rel=1e-6)
    assert flipped is None or found.turned == flipped
    cube = toy().sides.min() / REDUCED.min_cubes
    assert np.abs(reconstruction.transformed(found.T_target_reconstruction).vertices - toy().vertices).max() < 2 * cube


def test_the_wrong_half_turn_shows_without_the_second_try(floor: ShapeScore) -> None:
    wrong = score(toy(), turned(toy(), degrees=180), settings=dataclasses.replace(REDUCED, retry_180=False))
    assert wrong.bidirectional_m > 2.5 * floor.bidirectional_m


def test_a_missing_part_shows_in_the_direction_it_is_missed_from(floor: ShapeScore) -> None:
    found = score(toy(), toy(tail=False))
    assert found.target_to_reconstruction_m > 1.2 * floor.target_to_reconstruction_m
    assert found.target_to_reconstruction_m > 1.15 * found.reconstruction_to_target_m


def test_a_box_is_worse_than_another_quadruped(floor: ShapeScore) -> None:
    assert score(toy(), box((0.6, 1.8, 2.4))).bidirectional_m > 4 * floor.bidirectional_m


def test_equal_generators_give_equal_scores(floor: ShapeScore) -> None:
    assert score(toy(), toy()).figures() == floor.figures()
    other = score(toy(), toy(), seed=1)
    assert other.figures() != floor.figures() and other.bidirectional_m == pytest.approx(floor.bidirectional_m, rel=0.02)


def test_figures_are_averages_and_shares_of_the_longest_side(floor: ShapeScore) -> None:
    figures = floor.figures()
    assert figures["bidirectional_m"] == (figures["target_to_reconstruction_m"] + figures["reconstruction_to_target_m"]) / 2
    for name in ("bidirectional", "target_to_reconstruction", "reconstruction_to_target"):
        assert figures[f"{name}_scaled"] == pytest.approx(figures[f"{name}_m"] / toy().sides.max())


def test_scaling_both_scales_metres_but_not_shares(floor: ShapeScore) -> None:
    found = score(turned(toy(), degrees=0, scale=2), toy())
    assert found.bidirectional_m == pytest.approx(2 * floor.bidirectional_m, rel=0.02)
    assert found.figures()["bidirectional_scaled"] == pytest.approx(floor.figures()["bidirectional_scaled"], rel=0.02)


def test_root_mean_square_is_in_centimetres_and_not_below_the_mean() -> None:
    target, reconstruction = toy(), box((0.6, 1.8, 2.4))
    mean = score(target, reconstruction)
    rms = rms_chamfer_cm(target, reconstruction, generator=numpy_generator(0), settings=REDUCED)
    assert 100 * mean.bidirectional_m < rms < 300 * mean.bidirectional_m


def test_only_the_model_view_figure_minds_the_heading(floor: ShapeScore) -> None:
    away = turned(toy(), degrees=90)
    rigid, shifted, straight = (
        function(toy(), surface, generator=numpy_generator(0), settings=REDUCED)
        for function, surface in (
            (rms_chamfer_cm, away),
            (rms_chamfer_cm_model_view, away),
            (rms_chamfer_cm_model_view, toy().transformed(np.array([[2.0, 0, 0, 0.5], [0, 2, 0, 0.1], [0, 0, 2, -0.4], [0, 0, 0, 1]]))),
        )
    )
    assert shifted > 4 * rigid
    assert straight == pytest.approx(rigid, rel=0.05)


@pytest.mark.parametrize("function", [animodel_score, rms_chamfer_cm, rms_chamfer_cm_model_view])
def test_a_flat_surface_is_an_error(function) -> None:
    for pair in ((square_surface(), toy()), (toy(), square_surface())):
        with pytest.raises(InputError, match="square: too flat"):
            function(*pair, generator=numpy_generator(0), settings=REDUCED)


@pytest.mark.parametrize("name", ["align_points", "icp_iterations", "chamfer_points", "min_cubes"])
def test_settings_that_cannot_work_are_errors(name: str) -> None:
    with pytest.raises(InputError, match=f"{name}: expected"):
        dataclasses.replace(REDUCED, **{name: -1})


@pytest.mark.slow
def test_the_floor_at_the_published_settings() -> None:
    scores = [
        animodel_score(toy(), turned(toy(), degrees=degrees, scale=scale), generator=numpy_generator(0))
        for degrees, scale in ((0, 1.0), (180, 3.0), (90, 1.0))
    ]
    assert [found.bidirectional_m for found in scores] == pytest.approx([scores[0].bidirectional_m] * 3, rel=0.01)
