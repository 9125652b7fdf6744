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

__all__ = ["decoder_loss", "denoiser_loss", "noise_levels_for", "patch_weight", "velocity_errors", "words_loss"]

_WORD_UNKNOWN = 0.08  # share of words that are read by their letters alone, so that letters come to mean something
_MOST_LATENT_NOISE = 0.35  # of the decoder's training, in latents of unit variance
_ANIMAL_WEIGHT = 2.0  # of a pixel with animal in it, for the decoder; one without counts 1
_ANIMAL_SHARE = 0.75  # of the denoiser's loss, of every picture alike: a narrow view is not worth less than a broad one
_CERTAIN = 0.25  # mean coverage from which a patch counts in full: legs move, and are in few pictures where they are in one


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
    weight = patch_weight(parts, mean.detach())
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


def patch_weight(parts: EmbeddedParts, mean: Float[Tensor, "B C h w"]) -> Float[Tensor, "B 1 h w"]:
    """Return the weight of each patch: more where the words lead one to expect the animal; of mean 1 in each picture.

    The weight is a function of the words alone. One that looked at the picture's own silhouette would move the minimum: where a leg may be
    or not, the error with the leg would count more, and the model would learn to expect legs more often than they come.
    """
    _, cover = parts.decoder.transform.decode(mean)
    there = (functional.adaptive_avg_pool2d(cover[:, None], mean.shape[-1]) / _CERTAIN).clamp(0, 1)
    share = there / there.mean((2, 3), keepdim=True).clamp(min=1e-3)
    return 1 - _ANIMAL_SHARE + _ANIMAL_SHARE * share
