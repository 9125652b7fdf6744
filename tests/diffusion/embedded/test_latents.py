"""The patch transform: exact where it can be, the best linear one elsewhere, with a gradient that is right."""

from __future__ import annotations

import pytest
import torch

from farm3d.core.errors import InputError
from farm3d.core.random import torch_generator
from farm3d.diffusion.embedded.config import LatentConfig
from farm3d.diffusion.embedded.decoder import PictureDecoder
from farm3d.diffusion.embedded.latents import PatchTransform


def smooth_pictures(count: int, size: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures whose patches have few strong components, as real ones."""
    noise = torch.rand(count, 4, size // 4, size // 4, generator=torch_generator(seed, "pictures"))
    raw = torch.nn.functional.interpolate(noise, size, mode="bicubic").clamp(0, 1)
    return raw[:, :3], raw[:, 3]


def fitted(config: LatentConfig, count: int = 32) -> PatchTransform:
    transform = PatchTransform(config)
    transform.fit(*smooth_pictures(count, config.size_px))
    return transform


def test_with_all_components_nothing_is_lost() -> None:
    transform = fitted(LatentConfig(16, 4, 48, 16))
    rgb, alpha = smooth_pictures(3, 16, seed=1)
    again, cover = transform.decode(transform.encode(rgb, alpha))
    torch.testing.assert_close(again, rgb, atol=2e-5, rtol=0)
    torch.testing.assert_close(cover, alpha, atol=2e-5, rtol=0)


def test_what_is_kept_comes_back_exactly() -> None:
    transform = fitted(LatentConfig(16, 4, 8, 4))
    latents = torch.randn(2, 12, 4, 4, generator=torch_generator(0, "latents"))
    torch.testing.assert_close(transform.encode(*transform.decode(latents)), latents, atol=1e-4, rtol=1e-4)


def test_rows_are_orthonormal_and_latents_of_unit_variance_half_whitened() -> None:
    config = LatentConfig(16, 4, 8, 4)
    transform = fitted(config, 256)
    torch.testing.assert_close(transform.rgb_rows @ transform.rgb_rows.T, torch.eye(8), atol=1e-5, rtol=0)
    latents = transform.encode(*smooth_pictures(256, 16)).transpose(0, 1).flatten(1)
    assert latents.mean(1).abs().max() < 1e-3
    variance = latents.var(1)
    assert float(variance.mean()) == pytest.approx(1, abs=1e-3)
    raw = (latents / transform.scale[:, None]).var(1)  # of the orthonormal components
    torch.testing.assert_close(variance / raw.sqrt(), (variance / raw.sqrt()).mean().expand(12), rtol=1e-3, atol=0)


def test_no_other_components_lose_less() -> None:
    transform = fitted(LatentConfig(16, 4, 6, 4), 64)
    rgb, alpha = smooth_pictures(64, 16)
    best = (transform.decode(transform.encode(rgb, alpha))[0] - rgb).square().mean()
    for seed in range(5):
        other = torch.linalg.qr(transform.rgb_rows.T + 0.1 * torch.randn(48, 6, generator=torch_generator(seed, "rows")))[0].T
        transform.rgb_rows.copy_(other)
        assert (transform.decode(transform.encode(rgb, alpha))[0] - rgb).square().mean() > best


def test_the_gradient_is_exact() -> None:
    transform = fitted(LatentConfig(8, 4, 6, 4)).double()
    rgb, alpha = (values[:1, ..., :8, :8].double().requires_grad_() for values in smooth_pictures(1, 16, seed=2))
    assert torch.autograd.gradcheck(transform.encode, (rgb, alpha))
    latents = torch.randn(1, 10, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(transform.decode, (latents,))


def test_without_coverage_its_channels_are_the_average() -> None:
    transform = fitted(LatentConfig(16, 4, 8, 4))
    rgb, _ = smooth_pictures(2, 16)
    latents = transform.encode(rgb)
    assert not latents[:, 8:].any()
    assert torch.equal(latents[:, :8], transform.encode(rgb, torch.rand(2, 16, 16))[:, :8])


def test_errors() -> None:
    transform = PatchTransform(LatentConfig(16, 4, 8, 4))
    with pytest.raises(InputError, match="more than 48 are needed"):
        transform.fit(*smooth_pictures(2, 16))
    with pytest.raises(ValueError, match="expected 16"):
        transform.encode(torch.rand(1, 3, 32, 32))


def test_an_untrained_decoder_is_the_linear_one() -> None:
    config = LatentConfig(16, 4, 8, 4, decoder_width=16)
    decoder = PictureDecoder(config)
    decoder.transform.fit(*smooth_pictures(32, 16))
    latents = torch.randn(2, 12, 4, 4, generator=torch_generator(0, "latents"))
    for ours, linear in zip(decoder(latents), decoder.transform.decode(latents), strict=True):
        assert torch.equal(ours, linear)
