"""Text encoder, network and denoiser: what they do before any training, and what must never matter."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from farm3d.core.random import torch_generator
from farm3d.diffusion.embedded.config import PRESETS
from farm3d.diffusion.embedded.parts import EmbeddedParts, build_parts
from farm3d.diffusion.embedded.tokenizer import WordTokenizer
from farm3d.training.prior.words import vocabulary_captions

TINY = PRESETS["tiny"]


def tokenizer_for(size: str = "tiny") -> WordTokenizer:
    text = PRESETS[size].text
    captions = ["a red horse, standing, seen from its left side", *vocabulary_captions()]
    return WordTokenizer.of_captions(captions, buckets=text.buckets, max_words=text.max_words)


@pytest.fixture(scope="module")
def parts() -> EmbeddedParts:
    return build_parts(TINY, tokenizer_for(), seed=0)


def noised(count: int = 2, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    z = torch.randn(count, *TINY.latents.shape, generator=torch_generator(seed, "z"))
    return z, torch.linspace(0.2, 0.9, count)


@torch.no_grad()
def test_untrained_it_is_the_linear_guess(parts: EmbeddedParts) -> None:
    z, t = noised()
    vector, mean = parts.text(parts.tokenizer(["a horse", ""]))
    torch.testing.assert_close(parts.denoiser(z, t, vector, mean), parts.denoiser.wiener.guess(z, t, mean).velocity)


@torch.no_grad()
def test_neighbours_in_a_batch_do_not_matter(parts: EmbeddedParts) -> None:
    short, long = "a horse", "a red horse, standing, seen from its left side"
    alone, _ = parts.text(parts.tokenizer([short]))
    beside, _ = parts.text(parts.tokenizer([short, long]))  # padded to the longer one's width
    torch.testing.assert_close(alone[0], beside[0], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_order_of_words_matters(parts: EmbeddedParts) -> None:
    vectors, _ = parts.text(parts.tokenizer(["its left red side", "its red left side"]))
    assert (vectors[0] - vectors[1]).abs().max() > 1e-4


def test_equal_seed_equal_weights_and_the_global_stream_stays() -> None:
    torch.manual_seed(5)
    first = build_parts(TINY, tokenizer_for(), seed=3)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))
    second, other = (build_parts(TINY, tokenizer_for(), seed=seed) for seed in (3, 4))
    for name, value in first.denoiser.state_dict().items():
        assert torch.equal(value, second.denoiser.state_dict()[name])
    assert not torch.equal(first.text.vector.weight, other.text.vector.weight)


def test_every_weight_learns_in_the_end(parts: EmbeddedParts) -> None:
    """After a step that opens the gates, no parameter is without a gradient: none is dead or forgotten."""
    trained = build_parts(TINY, tokenizer_for(), seed=1)
    parameters = dict(trained.denoiser.named_parameters()) | dict(trained.text.named_parameters())
    generator = torch_generator(0, "weights")
    with torch.no_grad():
        for parameter in parameters.values():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    z, t = noised(4)
    prompts = [f"{word} horse" for word in ("red", "left", "zebra", "front")]
    vector, mean = trained.text(trained.tokenizer(prompts))
    (trained.denoiser(z, t, vector, mean).square().mean() + mean.square().mean()).backward()
    assert [name for name, parameter in parameters.items() if parameter.grad is None or not parameter.grad.any()] == []


def test_the_shipped_size_fits_in_60_megabytes() -> None:
    config = PRESETS["default"]
    text = dataclasses.replace(config.text, words=400)
    parts = build_parts(dataclasses.replace(config, text=text), tokenizer_for("default"), seed=0)
    counts = {name: sum(p.numel() for p in module.parameters()) for name, module in parts.modules().items()}
    assert 19e6 < counts["unet"] < 21e6
    assert counts["vae"] < 1.2e6
    statistics = sum(buffer.numel() * 4 for module in parts.modules().values() for buffer in module.buffers())
    assert 2 * sum(counts.values()) + statistics < 58e6


@pytest.mark.parametrize("size", PRESETS)
def test_presets_fit_together(size: str) -> None:
    config = PRESETS[size]
    assert config.network.channels == config.latents.channels
    assert config.network.grid == config.latents.grid and config.network.grid % 2 == 0
    assert config.network.vector == config.text.vector
