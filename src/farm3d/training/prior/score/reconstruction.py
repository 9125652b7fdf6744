"""What a model's encoder and decoder lose of pictures that it never saw, before any drawing."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn import functional

from farm3d.diffusion.prior import PicturePrior

__all__ = ["reconstructed", "reconstruction_error"]

_AT_ONCE = 16


@torch.no_grad()
def reconstructed(prior: PicturePrior, pixels: np.ndarray) -> np.ndarray:
    """Return pictures encoded and decoded, uint8 ``[N, 4, S, S]`` as given; coverage as it was for models that draw none."""
    parts = []
    for begin in range(0, len(pixels), _AT_ONCE):
        raw = torch.from_numpy(np.array(pixels[begin : begin + _AT_ONCE])).float() / 255
        drawn = prior.decode(prior.encode(raw[:, :3], raw[:, 3] if prior.draws_alpha else None))
        rgb = drawn.rgb.cpu()
        if rgb.shape[-1] != raw.shape[-1]:
            rgb = functional.interpolate(rgb, raw.shape[-2:], mode="bilinear", align_corners=False, antialias=True)
        alpha = raw[:, 3] if drawn.alpha is None else drawn.alpha.cpu()
        parts.append((torch.cat([rgb, alpha[:, None]], 1).clamp(0, 1) * 255).round().byte().numpy())
    return np.concatenate(parts)


def reconstruction_error(pixels: np.ndarray, again: np.ndarray, *, masked: bool) -> dict[str, Any]:
    """Return PSNR in dB of whole pictures and of the animal alone (means of the squared error over all pictures), and the mask's IoU.

    Args:
        pixels, again: sRGB and coverage before and after, uint8, ``[N, 4, S, S]``.
        masked: whether the model draws coverage; else the IoU is None.
    """
    before, after = (np.asarray(part).astype(np.float64) / 255 for part in (pixels, again))
    squared, cover = ((before - after)[:, :3] ** 2).mean(1), before[:, 3]
    there, drawn = cover > 0.5, after[:, 3] > 0.5
    iou = (there & drawn).sum((1, 2)) / np.maximum((there | drawn).sum((1, 2)), 1)
    return {
        "n": len(before),
        "psnr_db": _decibel(float(squared.mean())),
        "psnr_animal_db": _decibel(float((squared * cover).sum() / max(cover.sum(), 1e-9))),
        "mask_iou": float(iou.mean()) if masked else None,
        "mask_iou_worst": float(iou.min()) if masked else None,
    }


def _decibel(error: float) -> float:
    return float(-10 * np.log10(max(error, 1e-10)))
