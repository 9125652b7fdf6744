"""What statistics alone say about a noised latent: the best linear guess of picture and velocity, and how far off it is.

Latents minus their mean picture are taken as Gaussian, independent in the basis of the discrete cosine transform. For
``z_t = (1 - t) x + t e`` with ``x ~ N(m, s^2)`` and ``e ~ N(0, 1)``, and ``D = (1 - t)^2 s^2 + t^2``:

    E[x | z_t]     = m + (1 - t) s^2 / D (z_t - (1 - t) m)
    E[e - x | z_t] = (t - (1 - t) s^2) / D (z_t - (1 - t) m) - m          the velocity
    Std[e - x | z_t] = s / sqrt(D)

The network then has only the rest to learn, of unit variance at every frequency and noise level. (A prototype's loss began where that of a
plain network stood after a minute of training.)
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import nn

from farm3d.core.shapes import Float, Tensor, checked

__all__ = ["Wiener", "WienerGuess", "cosine_basis"]

_LEAST_VARIANCE = 1e-5


class WienerGuess(NamedTuple):
    """Velocity and picture ``[B, C, h, w]``, and in the cosine basis the standard deviation of the velocity about its guess."""

    velocity: Tensor
    picture: Tensor
    spread: Tensor


def cosine_basis(size: int) -> Float[Tensor, "N N"]:
    """Return the orthonormal DCT-II matrix: row k is the k-th cosine."""
    k = torch.arange(size, dtype=torch.float64)[:, None]
    x = torch.arange(size, dtype=torch.float64)[None] + 0.5
    basis = torch.cos(math.pi / size * k * x) * math.sqrt(2 / size)
    basis[0] /= math.sqrt(2)
    return basis.float()


class Wiener(nn.Module):
    """The linear guess. Holds the variance of the latents about their mean picture, per channel and frequency, ``[C, h, w]``."""

    variance: Tensor
    basis: Tensor

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        if shape[1] != shape[2]:
            raise ValueError(f"latents of {shape[1]} x {shape[2]}: expected as many rows as columns")
        self.register_buffer("variance", torch.ones(shape))
        self.register_buffer("basis", cosine_basis(shape[1]), persistent=False)

    @torch.no_grad()
    def fit(self, residuals: Float[Tensor, "N C h w"]) -> None:
        """Take the variance from latents minus their mean pictures."""
        self.variance.copy_(self.to_frequencies(residuals).square().mean(0).clamp(min=_LEAST_VARIANCE))

    def to_frequencies(self, x: Tensor) -> Tensor:
        """Return ``[..., h, w]`` in the cosine basis (orthonormal)."""
        return self.basis @ x @ self.basis.T

    def from_frequencies(self, x: Tensor) -> Tensor:
        """Undo :meth:`to_frequencies`."""
        return self.basis.T @ x @ self.basis

    @checked
    def guess(self, z_t: Float[Tensor, "B C h w"], t: Float[Tensor, "B"], mean: Float[Tensor, "B C h w"]) -> WienerGuess:
        """Return the best linear guess from a noised latent.

        Args:
            z_t: noised latents.
            t: noise levels in [0, 1].
            mean: mean pictures.
        """
        t = t[:, None, None, None]
        signal = 1 - t
        power = signal.square() * self.variance + t.square()
        off = self.to_frequencies(z_t - signal * mean)
        picture = mean + self.from_frequencies(signal * self.variance / power * off)
        velocity = self.from_frequencies((t - signal * self.variance) / power * off) - mean
        return WienerGuess(velocity, picture, (self.variance / power).sqrt())

    def channel_spread(self) -> Float[Tensor, "C 1 1"]:
        """Return the standard deviation of each channel about the mean picture, over all frequencies."""
        return self.variance.mean((1, 2), keepdim=True).sqrt()
