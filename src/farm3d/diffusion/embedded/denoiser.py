"""The velocity of flow matching: the linear guess, plus what the network knows better."""

from __future__ import annotations

import torch
from torch import nn

from farm3d.core.shapes import Float, Tensor
from farm3d.diffusion.embedded.config import NetworkConfig
from farm3d.diffusion.embedded.network import HybridNetwork
from farm3d.diffusion.embedded.wiener import Wiener

__all__ = ["Denoiser"]

_LEAST_LEVEL = 1e-3


class Denoiser(nn.Module):
    """``v = Wiener velocity + spread * network``, the spread being that of the velocity about its guess, frequency by frequency.

    The linear guess is always computed in float32; the network runs in the dtype of its weights.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.wiener = Wiener((config.channels, config.grid, config.grid))
        self.network = HybridNetwork(config)

    def forward(
        self, z_t: Float[Tensor, "B C h w"], t: Float[Tensor, "B"], vector: Float[Tensor, "B D"], mean: Float[Tensor, "B C h w"]
    ) -> Float[Tensor, "B C h w"]:
        """Return the velocity ``e - x`` that the model sees in ``z_t = (1 - t) x + t e``, float32.

        Args:
            z_t: noised latents.
            t: noise levels in [0, 1].
            vector, mean: of the words, from the text encoder.
        """
        z_t, t = z_t.float(), t.float()
        guess = self.wiener.guess(z_t, t, mean)
        spread = self.wiener.channel_spread()
        level = t[:, None, None, None]
        power = ((1 - level) * spread).square() + level.square()
        inputs = torch.cat([(z_t - (1 - level) * mean) / power.sqrt(), (guess.picture - mean) / spread, mean / spread], 1)
        known = t.clamp(_LEAST_LEVEL, 1 - _LEAST_LEVEL)
        rest = self.network(inputs, (known / (1 - known)).log(), vector).float()
        return guess.velocity + self.wiener.from_frequencies(guess.spread * self.wiener.to_frequencies(rest))
