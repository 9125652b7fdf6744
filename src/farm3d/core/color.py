"""Between the numbers of a picture file (sRGB) and light (linear RGB): light is what adds up."""

from __future__ import annotations

import torch

from farm3d.core.shapes import Float, Tensor

__all__ = ["linear_from_srgb", "srgb_from_linear"]


def linear_from_srgb(encoded: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """Undo the sRGB transfer curve (IEC 61966-2-1); values in [0, 1]."""
    return torch.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def srgb_from_linear(linear: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """Apply the sRGB transfer curve (IEC 61966-2-1); values are clipped to [0, 1]."""
    linear = linear.clamp(0, 1)
    return torch.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear.clamp_min(1e-8) ** (1 / 2.4) - 0.055)
