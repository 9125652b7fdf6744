"""The losses of the three phases, each a function of the parts, a batch and a random stream."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

from farm3d.core.shapes import Float, Tensor
from farm3d.diffusion.embedded.denoiser import Denoiser
from farm3d.diffusion.embedded.parts import EmbeddedParts
from farm3d.diffusion.embedded.tokenizer import PAD, UNKNOWN, Tokens
from farm3d.training.prior.batches import Batch

__all__ = ["decoder_loss", "denoiser_loss", "noise_levels_for", "velocity_errors", "words_loss"]

_WORD_UNKNOWN = 0.08  # share of words that are read by their letters alone, so that letters come to mean something
_MOST_LATENT_NOISE = 0.35  # of the decoder's training, in latents of unit variance
_ANIMAL_WEIGHT = 2.0  # of a pixel or patch with animal in it; one without counts 1


def words_loss(parts: EmbeddedParts, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
    """Squared error of the mean picture: its minimum is the mean of the latents given the words."""
    latents = parts.decoder.transform.encode(batch.rgb, batch.alpha)
    _, mean = parts.text(_tokens(parts, batch.prompts, generator))
    return {"mean": functional.mse_loss(mean, latents)}


def decoder_loss(parts: EmbeddedParts, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
    """Absolute error of pictures decoded from latents with some noise, so that the decoder mends what samplers get wrong."""
    with torch.no_grad():
        latents = parts.decoder.transform.encode(batch.rgb, batch.alpha)
    strength = torch.rand(len(latents), 1, 1, 1, generator=generator) * _MOST_LATENT_NOISE
    rgb, alpha = parts.decoder(latents + strength * torch.randn(latents.shape, generator=generator))
    weight = 1 + (_ANIMAL_WEIGHT - 1) * batch.alpha
    colour = ((rgb - batch.rgb).abs().mean(1) * weight).mean() / weight.mean()
    return {"colour": colour, "coverage": 0.5 * functional.l1_loss(alpha, batch.alpha)}


def denoiser_loss(parts: EmbeddedParts, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
    """Squared error of the velocity of flow matching; and, so that it keeps up, of the mean picture."""
    with torch.no_grad():
        latents = parts.decoder.transform.encode(batch.rgb, batch.alpha)
    vector, mean = parts.text(_tokens(parts, batch.prompts, generator))
    t = noise_levels_for(len(latents), generator)
    noise = torch.randn(latents.shape, generator=generator)
    weight = _patch_weight(batch.alpha, latents.shape[-1])
    errors = velocity_errors(parts.denoiser, latents, noise, t, vector, mean.detach(), weight)
    return {"velocity": errors.mean(), "mean": functional.mse_loss(mean, latents)}


def velocity_errors(
    denoiser: Denoiser,
    latents: Float[Tensor, "B C h w"],
    noise: Float[Tensor, "B C h w"],
    t: Float[Tensor, "B"],
    vector: Float[Tensor, "B D"],
    mean: Float[Tensor, "B C h w"],
    weight: Float[Tensor, "B 1 h w"],
) -> Float[Tensor, "B"]:
    """Return the weighted mean squared error of the velocity of each picture at noise level t."""
    level = t[:, None, None, None]
    velocity = denoiser((1 - level) * latents + level * noise, t, vector, mean)
    squared = (velocity - (noise - latents)).square().mean(1, keepdim=True)
    return (squared * weight).flatten(1).mean(1) / weight.flatten(1).mean(1)


def noise_levels_for(count: int, generator: torch.Generator) -> Float[Tensor, "B"]:
    """Draw noise levels: 70 % from a logit-normal about high ones, where the view is decided, 30 % about the middle."""
    high = torch.rand(count, generator=generator) < 0.7
    return torch.sigmoid(torch.randn(count, generator=generator) + 1.2 * high)


def _tokens(parts: EmbeddedParts, prompts: Sequence[str], generator: torch.Generator) -> Tokens:
    tokens = parts.tokenizer(prompts)
    lost = (torch.rand(tokens.words.shape, generator=generator) < _WORD_UNKNOWN) & (tokens.words != PAD)
    return tokens.replace(words=tokens.words.masked_fill(lost, UNKNOWN))


def _patch_weight(alpha: Tensor, grid: int) -> Tensor:
    """Return ``[B, 1, h, w]``: more for patches with animal in them."""
    there = functional.adaptive_max_pool2d(alpha[:, None], grid)
    return 1 + (_ANIMAL_WEIGHT - 1) * there
