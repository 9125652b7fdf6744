"""The learned part of decoding: what fine detail usually goes with a patch, and no edges between patches."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from farm3d.core.shapes import Float, Tensor
from farm3d.diffusion.embedded.config import LatentConfig
from farm3d.diffusion.embedded.latents import PatchTransform

__all__ = ["PictureDecoder"]

_CELL_PX = 4


class PictureDecoder(nn.Module):
    """The linear decoding, then a residual from a small convolutional network that looks at its result in cells of 4 x 4 pixels.

    It is trained on latents with noise, so that it mends what a sampler leaves: tiles of a slightly wrong tone. Without normalisation,
    which would take the tone away. At the start the residual is zero.
    """

    def __init__(self, config: LatentConfig) -> None:
        super().__init__()
        self.transform = PatchTransform(config)
        width, values = config.decoder_width, 4 * _CELL_PX**2
        self.stem = nn.Conv2d(values, width, 3, padding=1)
        self.blocks = nn.ModuleList(_ResidualBlock(width) for _ in range(config.decoder_blocks))
        self.head = nn.Conv2d(width, values, 3, padding=1)
        for parameter in self.head.parameters():
            nn.init.zeros_(parameter)

    def forward(self, latents: Float[Tensor, "B C h w"]) -> tuple[Float[Tensor, "B 3 S S"], Float[Tensor, "B S S"]]:
        """Return colours and coverage, neither cut to [0, 1]."""
        rgb, alpha = self.transform.decode(latents)
        picture = torch.cat([rgb, alpha[:, None]], 1)
        x = self.stem(functional.pixel_unshuffle(picture - 0.5, _CELL_PX))
        for block in self.blocks:
            x = block(x)
        picture = picture + functional.pixel_shuffle(self.head(x), _CELL_PX)
        return picture[:, :3], picture[:, 3]


class _ResidualBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(torch.relu(self.conv1(x)))
