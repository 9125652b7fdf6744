"""PCA in one pass: what a decomposition of all samples at once would give, over foreground only."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from farm3d.core.errors import InputError, ModelError
from farm3d.core.random import torch_generator
from farm3d.model.feature_pca import FeaturePca, PcaFit, pca_picture


def features_and_masks(count: int = 6, channels: int = 12, grid: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """Features of falling variance with a mean of their own; the left half of each picture is animal, and the rest is loud."""
    generator = torch_generator(0, "features")
    spread = torch.linspace(3, 0.1, channels)[:, None, None]
    features = torch.randn(count, channels, grid, grid, generator=generator) * spread + torch.arange(channels)[:, None, None]
    mask = torch.zeros(count, 64, 64)
    mask[:, :, :32] = 1
    features[..., grid // 2 :] = 1000 * torch.randn(count, channels, grid, grid - grid // 2, generator=generator)
    return features, mask


def foreground(features: torch.Tensor) -> torch.Tensor:
    return features[..., : features.shape[-1] // 2].permute(0, 2, 3, 1).flatten(0, 2).double()


def fitted(*, normalize: bool = False, dims: int = 5) -> FeaturePca:
    features, mask = features_and_masks()
    fit = PcaFit(12, encoder="tiny", normalize=normalize)
    for row in range(len(features)):
        fit.add(features[row : row + 1], mask[row : row + 1])
    return fit.result(dims)


@pytest.mark.parametrize("normalize", [False, True])
def test_streamed_is_the_decomposition_of_all_foreground_at_once(normalize: bool) -> None:
    samples = foreground(features_and_masks()[0])
    samples = torch.nn.functional.normalize(samples, dim=1) if normalize else samples
    _, values, vectors = torch.linalg.svd(samples - samples.mean(0), full_matrices=False)
    pca = fitted(normalize=normalize)
    assert pca.config.samples == len(samples)
    torch.testing.assert_close(pca.mean, samples.mean(0).float())
    torch.testing.assert_close(pca.variance, (values[:5] ** 2 / len(samples)).float(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close((pca.matrix.double().T @ vectors[:5].T).abs(), torch.eye(5).double(), atol=1e-4, rtol=0)
    assert (pca.matrix.gather(0, pca.matrix.abs().argmax(0, keepdim=True)) > 0).all()
    assert float(pca.explained.sum()) <= 1 and (pca.explained.diff() <= 0).all()


def test_components_are_centred_uncorrelated_and_of_their_variance() -> None:
    features, _ = features_and_masks()
    components = foreground(fitted().project(features))
    torch.testing.assert_close(components.mean(0), torch.zeros(5).double(), atol=1e-4, rtol=0)
    covariance = components.T @ components / len(components)
    torch.testing.assert_close(covariance, torch.diag(fitted().variance).double(), atol=1e-3, rtol=1e-4)


def test_workers_can_share_the_pictures() -> None:
    features, mask = features_and_masks()
    first, second = PcaFit(12, encoder="tiny", normalize=False), PcaFit(12, encoder="tiny", normalize=False)
    first.add(features[:2], mask[:2])
    second.add(features[2:], mask[2:])
    first.merge(second)
    torch.testing.assert_close(first.result(5).matrix, fitted().matrix, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="cannot be added"):
        first.merge(PcaFit(12, encoder="other", normalize=False))


def test_saved_and_loaded_is_the_same_and_damage_is_seen(tmp_path: Path) -> None:
    pca = fitted(normalize=True)
    pca.save(tmp_path / "pca")
    loaded = FeaturePca.load(tmp_path / "pca")
    assert loaded.config == pca.config
    for name in ("mean", "matrix", "variance", "explained"):
        torch.testing.assert_close(getattr(loaded, name), getattr(pca, name), atol=0, rtol=0)
    path = tmp_path / "pca" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelError, match="changed since it was written"):
        FeaturePca.load(tmp_path / "pca")


def test_the_picture_shows_like_parts_in_like_colours() -> None:
    """Three parts, each with its own feature: three colours, far apart, and the background as asked."""
    part = torch.zeros(2, 16, 16, dtype=torch.long)
    part[:, :, 5:10], part[:, :, 10:] = 1, 2
    codes = torch.eye(3)[[0, 1, 2]] * 5
    features = codes[part].permute(0, 3, 1, 2) + 0.01 * torch.randn(2, 3, 16, 16, generator=torch_generator(0, "parts"))
    mask = torch.zeros(2, 128, 128)
    mask[:, 16:112] = 1
    fit = PcaFit(3, encoder="tiny", normalize=False)
    fit.add(features, mask)
    picture = pca_picture(fit.result(3).project(features), mask, size_px=128, background=0.25)
    assert picture.shape == (2, 3, 128, 128) and float(picture.min()) >= 0 and float(picture.max()) <= 1
    assert (picture[:, :, :15] == 0.25).all()
    colours = [picture[:, :2, 64, column] for column in (16, 60, 110)]  # the third component is only noise here
    for one, other in ((0, 1), (1, 2), (0, 2)):
        assert float((colours[one] - colours[other]).abs().amax(1).min()) > 0.4
    torch.testing.assert_close(picture[0, :2, 64], picture[1, :2, 64], atol=0.05, rtol=0)


def test_an_empty_mask_gives_an_empty_picture() -> None:
    picture = pca_picture(torch.randn(1, 3, 4, 4, generator=torch_generator(0, "empty")), torch.zeros(1, 16, 16), size_px=8)
    torch.testing.assert_close(picture, torch.ones(1, 3, 8, 8))


def test_too_little_is_said() -> None:
    features, mask = features_and_masks()
    fit = PcaFit(12, encoder="tiny")
    with pytest.raises(InputError, match="0 cells that show the animal are too few for 5"):
        fit.result(5)
    fit.add(features, mask)
    with pytest.raises(InputError, match="13 components of 12 channels"):
        fit.result(13)
    with pytest.raises(ValueError, match="features of 11 channels, expected 12"):
        fit.add(features[:, :11], mask)
    with pytest.raises(InputError, match="three are needed"):
        pca_picture(features[:, :2], mask)
