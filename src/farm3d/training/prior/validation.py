"""How good the model is on animals it was not trained on: fixed pictures and fixed noise, so that runs compare."""

from __future__ import annotations

import torch

from farm3d.core.random import torch_generator
from farm3d.core.shapes import Tensor
from farm3d.diffusion.embedded.parts import EmbeddedParts, copy_parts
from farm3d.diffusion.embedded.pipeline import EmbeddedPrior
from farm3d.training.prior.losses import velocity_errors
from farm3d.training.prior.picture_cache import PictureCache

__all__ = ["LEVELS", "prior_of", "validation_losses"]

LEVELS = (0.2, 0.4, 0.6, 0.8, 0.9)
_MOST_PICTURES = 96
_AT_ONCE = 24


@torch.no_grad()
def validation_losses(parts: EmbeddedParts, pictures: PictureCache, *, seed: int) -> dict[str, float]:
    """Return errors on held-out animals: ``v0.2`` … ``v0.9`` of the velocity by noise level (every patch counts the same), and ``psnr`` and
    ``iou`` of decoding what was encoded.
    """
    numbers = pictures.numbers(held_out=True)
    chosen = numbers[:: -(-len(numbers) // _MOST_PICTURES)]
    errors: dict[float, list[Tensor]] = {level: [] for level in LEVELS}
    squared, both, either = [], 0.0, 0.0
    for begin in range(0, len(chosen), _AT_ONCE):
        some = chosen[begin : begin + _AT_ONCE]
        raw = torch.from_numpy(pictures.pixels[some].copy()).float() / 255
        rgb, alpha = raw[:, :3], raw[:, 3]
        latents = parts.decoder.transform.encode(rgb, alpha)
        vector, mean = parts.text(parts.tokenizer([pictures.captions[int(number)].words[0] for number in some]))
        noise = torch.randn(latents.shape, generator=torch_generator(seed, "validation", begin))
        even = torch.ones(len(latents), 1, *latents.shape[2:])
        for level in LEVELS:
            t = torch.full((len(latents),), level)
            errors[level].append(velocity_errors(parts.denoiser, latents, noise, t, vector, mean, even))
        drawn, cover = parts.decoder(latents)
        squared.append((drawn.clamp(0, 1) - rgb).square().mean((1, 2, 3)))
        both += float(((cover > 0.5) & (alpha > 0.5)).sum())
        either += float(((cover > 0.5) | (alpha > 0.5)).sum())
    figures = {f"v{level:g}": float(torch.cat(values).mean()) for level, values in errors.items()}
    return {**figures, "psnr": float(-10 * torch.cat(squared).mean().log10()), "iou": both / max(either, 1.0)}


def prior_of(parts: EmbeddedParts, *, dtype: torch.dtype = torch.float32) -> EmbeddedPrior:
    """Return a prior that draws with a copy of the parts as they are now."""
    return EmbeddedPrior(copy_parts(parts), dtype=dtype)
