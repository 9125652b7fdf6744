"""Keypoint transfer against the published steps, one pair after another; what cannot be transferred is counted, never lost."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch
from tests.testing.truths import truth_sample

from farm3d.core.errors import InputError
from farm3d.core.random import numpy_generator
from farm3d.evaluation.annotations import truth_annotation
from farm3d.evaluation.keypoints import Annotation, Shadow, shadow, transfer
from farm3d.structures import Camera


def world(count: int = 12, *, vertices: int = 60, points: int = 7) -> tuple[list[Annotation], dict[str, Shadow]]:
    """Random annotations and answers whose vertices lie anywhere."""
    rng = numpy_generator(1, "world")
    names = tuple(f"p{i}" for i in range(points))
    annotations, shadows = [], {}
    for number in range(count):
        key = f"k{number:02d}"
        size = float(rng.uniform(30, 90)), float(rng.uniform(30, 90))
        annotations.append(Annotation(key, names, rng.uniform(0, 100, (points, 2)), rng.random(points) < 0.8, size, f"g{number // 2}"))
        shadows[key] = Shadow(rng.uniform(0, 100, (vertices, 2)).astype(np.float32), rng.random(vertices) < 0.6, "one")
    return annotations, shadows


def published(annotations: list[Annotation], shadows: dict[str, Shadow], *, pairs: int) -> float:
    """Section 6.1 step by step, one pair at a time."""
    draw, by_key = random.Random(0), {annotation.key: annotation for annotation in annotations}
    errors, visibilities = [], []
    for _ in range(pairs):
        source, target = draw.sample(list(by_key), 2)
        points = shadows[source].points_px.astype(np.float64).copy()
        points[~shadows[source].visible] = np.inf
        distances = np.linalg.norm(points[None] - by_key[source].points_px[:, None], axis=2)
        landed = shadows[target].points_px[distances.argmin(1)]
        size = max(by_key[target].box_px) * (1 + 2 * 0.05)
        errors.append(np.linalg.norm(landed - by_key[target].points_px, axis=1) / size)
        visibilities.append(by_key[source].visible & by_key[target].visible)
    error, visible = np.stack(errors), np.stack(visibilities)
    return float((((error < 0.1) & visible).sum(0) / visible.sum(0)).mean())


@pytest.mark.parametrize("count", [5, 12, 40])
def test_it_is_the_published_protocol(count: int) -> None:
    annotations, shadows = world(count)
    found = transfer(annotations, shadows, pairs=600)
    assert found.pck == pytest.approx(published(annotations, shadows, pairs=600), abs=1e-12)
    assert found.pairs == 600 and found.untransferable == found.unanswered == 0
    assert 0 <= found.low <= found.pck <= found.high < 1


def test_the_order_of_names_decides_the_pairs() -> None:
    annotations, shadows = world()
    assert transfer(annotations, shadows, pairs=300).pck != transfer(annotations[::-1], shadows, pairs=300).pck
    assert transfer(annotations, shadows, pairs=300) == transfer(annotations, shadows, pairs=300)


def test_truth_against_truth() -> None:
    truths = [truth_sample(number) for number in range(4)]
    shadows = {truth.key: shadow(truth.animal, width_px=96, height_px=96) for truth in truths}
    found = transfer(list(map(truth_annotation, truths)), shadows, pairs=300)
    assert found.pck == 1 and set(found.by_source.values()) == {1.0}


def test_vertices_in_another_order_transfer_nothing() -> None:
    """The measure sees correspondence: shuffle one answer's vertices and its transfers go wrong, though it looks the same."""
    truths = [truth_sample(number) for number in range(4)]
    shadows = {}
    for number, truth in enumerate(truths):
        plain = shadow(truth.animal, width_px=96, height_px=96)
        order = numpy_generator(number, "shuffle").permutation(len(plain.visible))
        shadows[truth.key] = Shadow(plain.points_px[order], plain.visible[order], "one")
    found = transfer(list(map(truth_annotation, truths)), shadows, pairs=300)
    assert found.pck < 0.4


def test_different_topologies_are_left_out_and_counted() -> None:
    annotations, shadows = world()
    for key in list(shadows)[::2]:
        shadows[key] = Shadow(shadows[key].points_px, shadows[key].visible, "another")
    found = transfer(annotations, shadows, pairs=600)
    assert 200 < found.untransferable < 400
    counted = sum(found.counts.values())
    assert counted < sum(transfer(annotations, world()[1], pairs=600).counts.values())


def test_a_missing_answer_counts_as_wrong() -> None:
    annotations, shadows = world()
    everything = transfer(annotations, shadows, pairs=600)
    del shadows["k03"]
    found = transfer(annotations, shadows, pairs=600)
    assert found.unanswered > 0 and found.pck < everything.pck
    assert found.counts == everything.counts and found.by_source["k03"] == 0
    nothing = transfer(annotations, {}, pairs=600)
    assert nothing.pck == nothing.high == 0 and nothing.unanswered == 600


def test_other_names_are_other_types() -> None:
    annotations, shadows = world(4, points=3)
    other = annotations[0]
    annotations[0] = Annotation(other.key, ("p2", "p0", "new"), other.points_px, np.ones(3, dtype=bool), other.box_px, other.group)
    found = transfer(annotations, shadows, pairs=200)
    assert found.counts["new"] == 0 and "new" not in found.by_type and set(found.by_type) <= {"p0", "p1", "p2"}


def test_nothing_visible_anywhere() -> None:
    annotations, shadows = world(3)
    blind = [Annotation(a.key, a.names, a.points_px, np.zeros_like(a.visible), a.box_px, a.group) for a in annotations]
    assert math.isnan(transfer(blind, shadows, pairs=10).pck)


def test_one_picture_makes_no_pair() -> None:
    annotations, shadows = world(2)
    with pytest.raises(InputError, match="two or more pictures"):
        transfer(annotations[:1], shadows)
    with pytest.raises(InputError, match="different names"):
        transfer([annotations[0], annotations[0]], shadows)


def test_the_far_side_is_not_visible() -> None:
    truth = truth_sample(0, azimuth_deg=90.0)
    found = shadow(truth.animal, width_px=96, height_px=96)
    assert np.abs(found.points_px - truth.animal.camera.pixels(truth.animal.vertices).numpy()).max() < 1e-3
    x = truth.animal.vertices[:, 0].numpy()
    trunk = np.abs(truth.animal.vertices[:, 1].numpy() - 1.25) < 0.2
    assert found.visible[trunk & (x > 0.15)].mean() > 0.6 and found.visible[trunk & (x < -0.15)].mean() < 0.1


def test_visibility_does_not_depend_on_the_pictures_size() -> None:
    """It is judged in a square round the animal, so a small animal in a large picture shows as many vertices."""
    truth = truth_sample(0)
    near = shadow(truth.animal, width_px=96, height_px=96)
    camera = truth.animal.camera
    wide = Camera(camera.T_camera_world, camera.intrinsics + torch.tensor([0, 0, 400.0, 200.0]), 900, 500)
    far = shadow(truth.animal.replace(camera=wide), width_px=900, height_px=500)
    assert (near.visible != far.visible).mean() < 0.005
    assert np.abs(far.points_px - near.points_px - [400, 200]).max() < 1e-2


def test_an_animal_behind_the_camera_shows_nothing() -> None:
    truth = truth_sample(0)
    matrix = truth.animal.camera.T_camera_world.clone()
    matrix[2, 3] += 100
    behind = truth.animal.replace(camera=truth.animal.camera.replace(T_camera_world=matrix))
    assert not shadow(behind, width_px=96, height_px=96).visible.any()
