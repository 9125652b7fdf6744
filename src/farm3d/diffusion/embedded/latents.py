"""Pictures to latents and back by one fixed matrix: the principal components of small patches, of colours and of coverage apart.

Nothing is trained: the transform is fitted in closed form, its gradient is exact, and no direction of it can be fooled, which score
distillation needs. Each channel is divided by the root of its standard deviation ("half whitened"): the strong ones stay the stronger ones,
but less so. Coverage is drawn with the picture, as an alpha channel, and so gives the silhouette.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from farm3d.core.errors import InputError
from farm3d.core.shapes import Float, Tensor, checked
from farm3d.diffusion.embedded.config import LatentConfig

__all__ = ["PatchTransform"]

_LEAST_SPREAD = 1e-4


class PatchTransform(nn.Module):
    """The linear part of the model's "VAE".

    Buffers: ``rgb_rows [c, 3 p p]`` and ``alpha_rows [c, p p]`` with orthonormal rows, the mean patches ``rgb_mean``, ``alpha_mean``, and
    ``scale [C]``, by which each channel is multiplied.
    """

    rgb_rows: Tensor
    alpha_rows: Tensor
    rgb_mean: Tensor
    alpha_mean: Tensor
    scale: Tensor

    def __init__(self, config: LatentConfig) -> None:
        super().__init__()
        self.config = config
        area = config.patch_px**2
        self.register_buffer("rgb_rows", torch.eye(config.rgb_channels, 3 * area))
        self.register_buffer("alpha_rows", torch.eye(config.alpha_channels, area))
        self.register_buffer("rgb_mean", torch.zeros(3 * area))
        self.register_buffer("alpha_mean", torch.zeros(area))
        self.register_buffer("scale", torch.ones(config.channels))

    @torch.no_grad()
    def fit(self, rgb: Float[Tensor, "N 3 S S"], alpha: Float[Tensor, "N S S"]) -> None:
        """Take the principal components of the pictures' patches, in float64; the latents then have unit variance on average.

        Raises:
            InputError: fewer patches than components.
        """
        spreads = []
        for name, pictures in (("rgb", rgb), ("alpha", alpha[:, None])):
            rows = getattr(self, f"{name}_rows")
            patches = self._patches(pictures).flatten(0, 1).double()
            if len(patches) <= rows.shape[1]:
                raise InputError(
                    f"{len(rgb)} pictures of {self.config.size_px} px have {len(patches)} patches; more than {rows.shape[1]} are needed",
                    hint="give more pictures",
                )
            mean = patches.mean(0)
            variance, vectors = torch.linalg.eigh((patches - mean).T @ (patches - mean) / len(patches))
            kept = vectors.flip(1).T[: len(rows)]
            kept = kept * kept.gather(1, kept.abs().argmax(1, keepdim=True)).sign()  # one of two equal signs, the same on every machine
            rows.copy_(kept)
            getattr(self, f"{name}_mean").copy_(mean)
            spreads.append(variance.flip(0)[: len(rows)].clamp(min=0).sqrt().clamp(min=_LEAST_SPREAD))
        spread = torch.cat(spreads)
        self.scale.copy_(1 / (spread.sqrt() * spread.mean().sqrt()))  # variances become spread / mean spread: 1 on average

    @checked
    def encode(self, rgb: Float[Tensor, "B 3 S S"], alpha: Float[Tensor, "B S S"] | None = None) -> Float[Tensor, "B C h w"]:
        """Return the latents of pictures of side ``size_px``; without an alpha, its channels are those of the average coverage.

        Args:
            rgb: sRGB in [0, 1].
            alpha: coverage in [0, 1].

        Raises:
            ValueError: pictures of another size.
        """
        if rgb.shape[-1] != self.config.size_px:
            raise ValueError(f"pictures of {rgb.shape[-1]} px; expected {self.config.size_px}")
        colour = (self._patches(rgb) - self.rgb_mean) @ self.rgb_rows.T
        if alpha is None:
            cover = colour.new_zeros(*colour.shape[:2], self.config.alpha_channels)
        else:
            cover = (self._patches(alpha[:, None]) - self.alpha_mean) @ self.alpha_rows.T
        latent = torch.cat([colour, cover], -1) * self.scale
        return latent.transpose(1, 2).unflatten(2, (self.config.grid, self.config.grid))

    @checked
    def decode(self, latents: Float[Tensor, "B C h w"]) -> tuple[Float[Tensor, "B 3 S S"], Float[Tensor, "B S S"]]:
        """Return the pictures nearest to what the latents say: colours and coverage, neither cut to [0, 1]."""
        values = latents.flatten(2).transpose(1, 2) / self.scale
        colour, cover = values.split([self.config.rgb_channels, self.config.alpha_channels], -1)
        return self._picture(colour @ self.rgb_rows + self.rgb_mean), self._picture(cover @ self.alpha_rows + self.alpha_mean)[:, 0]

    def _patches(self, pictures: Tensor) -> Tensor:
        """Return ``[B, N, C p p]``."""
        return functional.pixel_unshuffle(pictures, self.config.patch_px).flatten(2).transpose(1, 2)

    def _picture(self, patches: Tensor) -> Tensor:
        grid = self.config.grid
        return functional.pixel_shuffle(patches.transpose(1, 2).unflatten(2, (grid, grid)), self.config.patch_px)
