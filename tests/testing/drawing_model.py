"""A tiny embedded prior that draws toy animals without ever having been trained: its mean picture is a toy, its spread that of toys."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from farm3d.diffusion.embedded.config import PRESETS
from farm3d.diffusion.embedded.parts import build_parts
from farm3d.diffusion.embedded.pipeline import EmbeddedPrior
from farm3d.diffusion.embedded.tokenizer import WordTokenizer
from tests.testing.toy_animals import COATS, SIDES, SIZE_PX, draw_toy, toy_caption

__all__ = ["write_drawing_model"]


def write_drawing_model(folder: Path, *, spread: float = 0.7, seed: int = 0) -> Path:
    """Write the model folder: pictures of 32 px with coverage, more than half of which no filter lets pass.

    Args:
        folder: to write.
        spread: of what it draws about its mean, as a share of how much toys differ; more is worse pictures.
        seed: of its weights, so that there can be two.
    """
    config = PRESETS["tiny"]
    assert config.latents.size_px == SIZE_PX
    captions = [caption for coat in COATS for side in SIDES for caption in toy_caption(coat, side)]
    tokenizer = WordTokenizer.of_captions(captions, buckets=config.text.buckets, max_words=config.text.max_words)
    parts = build_parts(config, tokenizer, seed=seed)
    toys = np.stack([draw_toy(coat, "left", shift=shift) for coat in COATS for shift in (-2, -1, 0, 1, 2)])
    pixels = torch.from_numpy(toys).float() / 255
    transform = parts.decoder.transform
    transform.fit(pixels[:, :3], pixels[:, 3])
    with torch.no_grad():
        latents = transform.encode(pixels[:, :3], pixels[:, 3])
        mean = latents.mean(0)
        parts.text.mean_out.bias.copy_(mean.flatten())
        parts.denoiser.wiener.fit(spread * (latents - mean))
    EmbeddedPrior(parts).save_pretrained(folder, card="# Toys, never trained\n")
    return folder
