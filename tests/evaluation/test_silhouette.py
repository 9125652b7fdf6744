"""Outlines: intersection over union by counting, the boundary measure against the published construction with scikit-image's discs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tests.testing.truths import truth_sample

from farm3d.core.errors import InputError
from farm3d.core.random import numpy_generator
from farm3d.evaluation.silhouette import boundary_f, boundary_of, iou, silhouette


def disc(x: float, y: float, radius: float, size: int = 120) -> torch.Tensor:
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    return ((columns - x) ** 2 + (rows - y) ** 2 <= radius**2).float()


def test_iou_by_counting() -> None:
    a, b = torch.zeros(10, 10), torch.zeros(10, 10)
    a[2:6, 2:6], b[4:8, 2:6] = 1, 1
    assert iou(a, b) == pytest.approx(8 / 24)
    assert iou(a, a) == 1 and iou(torch.zeros(3, 3), torch.zeros(3, 3)) == 1 and iou(a, torch.zeros(10, 10)) == 0


def published_f(mask: np.ndarray, truth: np.ndarray) -> float:
    """The published steps, word for word: dilate both boundary maps with a disc, intersect, count."""
    morphology = pytest.importorskip("skimage.morphology", reason="scikit-image is not installed: pip install 'farm3d[test]'")
    reach = math.ceil(0.008 * math.hypot(*mask.shape))
    ours, theirs = boundary_of(mask), boundary_of(truth)
    wide_ours, wide_theirs = (morphology.dilation(edge, morphology.disk(reach)) for edge in (ours, theirs))
    precision, recall = (ours & wide_theirs).sum() / ours.sum(), (theirs & wide_ours).sum() / theirs.sum()
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


def test_boundary_f_is_the_published_one() -> None:
    rng = numpy_generator(0, "discs")
    for _ in range(8):
        (x, y, u, v), (r, s) = rng.uniform(30, 80, 4), rng.uniform(8, 40, 2)
        a, b = disc(x, y, r), disc(u, v, s)
        assert boundary_f(a, b) == pytest.approx(published_f(a.numpy() > 0.5, b.numpy() > 0.5), abs=1e-12)
    close = boundary_f(disc(60, 60, 30), disc(61, 60, 30))
    assert close == 1  # within the tolerance of two pixels
    assert boundary_f(disc(60, 60, 30), disc(60, 60, 20)) == 0


def test_boundary_of_empty_outlines() -> None:
    empty = torch.zeros(20, 20)
    assert boundary_f(empty, empty) == 1 and boundary_f(empty, disc(10, 10, 5, 20)) == 0 and boundary_f(disc(10, 10, 5, 20), empty) == 0


def test_the_boundary_map_by_hand() -> None:
    mask = np.zeros((5, 5), dtype=bool)
    mask[2, 2] = True
    assert np.argwhere(boundary_of(mask)).tolist() == [[1, 1], [1, 2], [2, 1], [2, 2]]
    assert not boundary_of(np.ones((4, 4), dtype=bool)).any()  # the picture's edge is no boundary


def test_the_truth_draws_its_own_mask() -> None:
    truth = truth_sample(0)
    drawn = silhouette(truth.animal, width_px=96, height_px=96)
    assert (drawn - truth.mask).abs().max() <= 0.5 / 255 + 1e-6
    half = silhouette(truth.animal, width_px=48, height_px=48)
    pooled = truth.mask.reshape(48, 2, 48, 2).mean((1, 3))
    assert (half - pooled).abs().mean() < 0.01


def test_a_camera_of_another_picture_is_refused() -> None:
    with pytest.raises(InputError, match="picture of 96 x 96, the truth has 128 x 96"):
        silhouette(truth_sample(0).animal, width_px=128, height_px=96)


def test_the_animal_may_be_as_small_as_a_mouse() -> None:
    """Drawn in the unit of its own distance: the near plane cuts nothing."""
    truth = truth_sample(0)
    matrix = truth.animal.camera.T_camera_world.clone()
    matrix[:3, 3] *= 0.01
    mouse = truth.animal.replace(vertices=0.01 * truth.animal.vertices, camera=truth.animal.camera.replace(T_camera_world=matrix))
    assert iou(silhouette(mouse, width_px=96, height_px=96), truth.mask) > 0.999
