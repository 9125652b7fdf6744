"""Folders of meshes are paired by order, scored alike by any number of processes, and summarised."""

import dataclasses
import statistics
from pathlib import Path

import numpy as np
import pytest
from tests.testing.surfaces import Surface, ball, box, toy, turned

from farm3d.core.errors import InputError
from farm3d.evaluation.shape import AnimodelSettings
from farm3d.evaluation.shape_folders import pair_by_order, score_folders, summarise_shapes

QUICK = AnimodelSettings(align_points=200, icp_iterations=10, chamfer_points=500, min_cubes=10)


def write_obj(path: Path, surface: Surface) -> None:
    path.parent.mkdir(exist_ok=True)
    lines = [f"v {x!r} {y!r} {z!r}" for x, y, z in surface.vertices.tolist()]
    path.write_text("\n".join(lines + [f"f {a} {b} {c}" for a, b, c in (surface.faces + 1).tolist()]) + "\n")


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for place, surface in enumerate((toy(), box((1, 2, 3)), ball(cells=5))):
        write_obj(tmp_path / "true" / f"{place:06}.obj", surface)
        write_obj(tmp_path / "made" / f"{place:06}.obj", turned(surface, degrees=10, scale=2))
    return tmp_path / "true", tmp_path / "made"


def test_pairs_are_by_place_in_the_sorted_names(folders: tuple[Path, Path]) -> None:
    pairs = pair_by_order(*folders)
    assert [(true.name, made.name) for true, made in pairs] == [(f"{i:06}.obj", f"{i:06}.obj") for i in range(3)]
    assert {true.parent for true, _ in pairs} == {folders[0]}


def test_scores_come_in_order_and_are_summarised(folders: tuple[Path, Path]) -> None:
    results = list(score_folders(*folders, settings=QUICK))
    assert [result.target.name for result in results] == [f"{i:06}.obj" for i in range(3)]
    assert all(result.score.scale == pytest.approx(0.5, rel=0.1) for result in results)
    scores = [result.score for result in results]
    summary = summarise_shapes(scores)
    assert set(summary) == set(scores[0].figures())
    values = [found.bidirectional_m for found in scores]
    assert summary["bidirectional_m"].mean == pytest.approx(statistics.mean(values))
    assert summary["bidirectional_m"].std == pytest.approx(statistics.stdev(values))


def test_the_number_of_processes_changes_nothing(folders: tuple[Path, Path]) -> None:
    alone, together = (list(score_folders(*folders, settings=QUICK, seed=4, processes=count)) for count in (1, 2))
    for first, second in zip(alone, together, strict=True):
        assert first.score.figures() == second.score.figures()
        assert np.array_equal(first.score.T_target_reconstruction, second.score.T_target_reconstruction)
    other = list(score_folders(*folders, settings=QUICK, seed=5))
    assert other[0].score.figures() != alone[0].score.figures()


def test_unturned_beside_turned_is_what_each_alone_would_be(folders: tuple[Path, Path]) -> None:
    both = list(score_folders(*folders, settings=QUICK, seed=4, also_unturned=True))
    turned_alone = list(score_folders(*folders, settings=QUICK, seed=4))
    unturned_alone = list(score_folders(*folders, settings=dataclasses.replace(QUICK, rotation=False), seed=4))
    for pair, with_rotation, without in zip(both, turned_alone, unturned_alone, strict=True):
        assert pair.unturned is not None and with_rotation.unturned is None
        assert pair.score.figures() == with_rotation.score.figures()
        assert pair.unturned.figures() == without.score.figures()
    assert both[0].unturned is not None and both[0].unturned.figures() != both[0].score.figures()


def test_counts_that_differ_are_an_error_at_once(folders: tuple[Path, Path]) -> None:
    (folders[1] / "000002.obj").unlink()
    with pytest.raises(InputError, match="has 3 meshes and .* has 2, and they are paired by order"):
        score_folders(*folders, settings=QUICK)


def test_a_mesh_that_cannot_be_used_is_an_error_when_its_turn_comes(folders: tuple[Path, Path]) -> None:
    (folders[1] / "000001.obj").write_text("v 0 0\n")
    results = score_folders(*folders, settings=QUICK)
    assert next(results).target.name == "000000.obj"
    with pytest.raises(InputError, match=r"made.000001\.obj: line 1"):
        next(results)


def test_nothing_cannot_be_summarised() -> None:
    with pytest.raises(InputError, match="no scores"):
        summarise_shapes([])
