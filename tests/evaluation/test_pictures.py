"""Picture measures: PSNR and SSIM against scikit-image, normalisation against its invariances, colour and light against known errors."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tests.testing.truths import truth_sample

from farm3d.core.errors import InputError
from farm3d.core.random import numpy_generator
from farm3d.evaluation.drawing import frame_of, normalised
from farm3d.evaluation.pictures import albedo_error, novel_pictures, novel_views, psnr_db, relit, ssim, union_box
from farm3d.geometry.surface import sample_surface


def noisy(seed: int, height: int = 40, width: int = 52) -> tuple[torch.Tensor, torch.Tensor]:
    rng = numpy_generator(seed, "pictures")
    a = rng.uniform(0, 1, (height, width, 3))
    return torch.from_numpy(a), torch.from_numpy(np.clip(a + rng.normal(0, 0.1 * (seed + 1), a.shape), 0, 1))


@pytest.mark.parametrize("seed", range(4))
def test_psnr_and_ssim_are_those_of_scikit_image(seed: int) -> None:
    metrics = pytest.importorskip("skimage.metrics", reason="scikit-image is not installed: pip install 'farm3d[test]'")
    a, b = noisy(seed)
    assert psnr_db(a, b) == pytest.approx(metrics.peak_signal_noise_ratio(b.numpy(), a.numpy(), data_range=1), abs=1e-9)
    expected = metrics.structural_similarity(
        a.numpy(), b.numpy(), gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1, channel_axis=-1
    )
    assert ssim(a, b) == pytest.approx(expected, abs=1e-6)


def test_equal_pictures() -> None:
    a, _ = noisy(0)
    assert psnr_db(a, a) == 100 and ssim(a, a) == pytest.approx(1)
    with pytest.raises(InputError, match="11 or more"):
        ssim(a[:5], a[:5])


def test_the_box_round_both() -> None:
    a, b = torch.zeros(60, 80), torch.zeros(60, 80)
    a[10:30, 20:50], b[25:40, 5:30] = 1, 1
    assert union_box(a, b) == (slice(10, 40), slice(5, 50))
    point = torch.zeros(60, 80)
    point[0, 79] = 1
    rows, columns = union_box(point, torch.zeros(60, 80))
    assert (rows.stop - rows.start, columns.stop - columns.start) == (11, 11) and rows.start == 0 and columns.stop == 80
    assert union_box(torch.zeros(20, 20), torch.zeros(20, 20)) == (slice(0, 20), slice(0, 20))


def test_the_frame_is_that_of_the_surface() -> None:
    """Against a hundred thousand points drawn on it."""
    animal = truth_sample(0).animal
    points, _, _ = sample_surface(animal.vertices, animal.faces, count=100_000, generator=torch.Generator().manual_seed(0))
    centre, radius = frame_of(animal)
    assert (points.double().mean(0) - centre).abs().max() < 0.005
    assert float((points - centre).square().sum(-1).mean().sqrt()) == pytest.approx(radius, rel=0.005)


def test_normalising_takes_size_and_place_away_and_leaves_turns() -> None:
    animal = truth_sample(0).animal
    moved = animal.replace(vertices=2.5 * animal.vertices + torch.tensor([3.0, -1.0, 7.0]))
    assert torch.allclose(normalised(moved).vertices, normalised(animal).vertices, atol=1e-5)
    turned = animal.replace(vertices=animal.vertices * torch.tensor([-1.0, 1.0, -1.0]))
    assert (normalised(turned).vertices - normalised(animal).vertices).abs().max() > 0.5


def test_novel_views_of_the_truth_and_of_others() -> None:
    truth, other = truth_sample(0), truth_sample(4)
    same = novel_views(truth.animal, truth, views=4, size_px=64)
    assert same.psnr_db == [100] * 4 and min(same.ssim) == pytest.approx(1)
    turned = truth.animal.replace(vertices=truth.animal.vertices * torch.tensor([-1.0, 1.0, -1.0]))
    for wrong in (other.animal, turned):
        found = novel_views(wrong, truth, views=4, size_px=64)
        assert max(found.psnr_db) < 30 and max(found.ssim) < 0.95


def test_a_scale_undoes_a_wrong_brightness_and_nothing_else() -> None:
    truth = truth_sample(0)
    assert isinstance(truth.animal.albedo, torch.Tensor)
    dark = truth.animal.replace(albedo=0.5 * truth.animal.albedo)
    found = novel_views(dark, truth, views=2, size_px=64, scale=2.0)
    assert max(found.psnr_db) < 30 and min(found.psnr_scaled_db) > 80
    assert max(relit(dark, truth, scale=2.0).psnr_db) < 30 and min(relit(dark, truth, scale=2.0).psnr_scaled_db) > 80
    same = novel_views(dark, truth, views=2, size_px=64)
    assert same.psnr_scaled_db == same.psnr_db


def test_the_first_novel_view_is_the_photographs_side() -> None:
    """Its outline, moved and scaled, is the photograph's; the opposite one is that mirrored, up to perspective."""
    truth = truth_sample(0, azimuth_deg=70.0)
    _, _, pictures, masks = novel_pictures(truth.animal, truth, turns_deg=[0, 90, 180, 270], size_px=96)
    assert pictures.shape == (4, 96, 96, 3)

    def box(mask: torch.Tensor) -> torch.Tensor:
        rows, columns = (mask > 0.5).nonzero(as_tuple=True)
        cut = mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        return torch.nn.functional.interpolate(cut[None, None], (40, 60), mode="area")[0, 0]

    assert (box(masks[0]) - box(truth.mask)).abs().mean() < 0.05
    assert (box(masks[0]) - box(masks[1])).abs().mean() > 0.15


def test_the_answer_does_not_move_the_truths_pictures() -> None:
    truth = truth_sample(0)
    huge = truth.animal.replace(vertices=truth.animal.vertices * torch.tensor([1.0, 1.0, 3.0]))
    assert torch.equal(
        novel_pictures(huge, truth, turns_deg=[45], size_px=64)[2], novel_pictures(truth.animal, truth, turns_deg=[45], size_px=64)[2]
    )


def test_albedo_error_by_arithmetic() -> None:
    truth = truth_sample(0)
    assert isinstance(truth.animal.albedo, torch.Tensor)
    same = albedo_error(truth.animal, truth)
    assert same is not None and same.raw == same.scaled == 0 and same.scale == pytest.approx(1)
    darker = albedo_error(truth.animal.replace(albedo=0.5 * truth.animal.albedo), truth)
    assert darker is not None and darker.scale == pytest.approx(2, rel=1e-5) and darker.scaled == pytest.approx(0, abs=1e-6)
    offset = albedo_error(truth.animal.replace(albedo=truth.animal.albedo + 0.07), truth)
    assert offset is not None and offset.raw == pytest.approx(0.07, abs=1e-5) and 0 < offset.scaled < 0.07


def test_no_overlap_no_albedo_error() -> None:
    truth = truth_sample(0)
    away = truth.animal.camera.replace(intrinsics=truth.animal.camera.intrinsics + torch.tensor([0.0, 0.0, 500.0, 0.0]))
    assert albedo_error(truth.animal.replace(camera=away), truth) is None


def test_relighting_sees_shape_and_colour() -> None:
    truth = truth_sample(0)
    assert relit(truth.animal, truth).psnr_db == [100] * 4
    assert isinstance(truth.animal.albedo, torch.Tensor)
    paler = relit(truth.animal.replace(albedo=truth.animal.albedo + 0.1), truth).psnr_db
    flat = relit(truth.animal.replace(vertices=truth.animal.vertices * torch.tensor([0.2, 1.0, 1.0])), truth).psnr_db
    assert len(paler) == 4 and max(paler) < 40 and max(flat) < 35
    # Of a light from behind the viewer's far side only the ambient part is left: the colour's error shows least there.
    assert paler[3] > min(paler[:3])
    assert all(math.isfinite(value) for value in [*paler, *flat])
