"""Sizes of the embedded prior: one frozen dataclass a part, and three presets."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PRESETS", "EmbeddedConfig", "LatentConfig", "NetworkConfig", "TextConfig"]


@dataclass(frozen=True)
class TextConfig:
    """Of :class:`farm3d.diffusion.embedded.text.TextEncoder`.

    Attributes:
        words: known words, in the order of their numbers; the tokenizer's file holds them too.
        buckets: that the letters of words are hashed to.
        max_words: in a prompt.
        width, layers: of the transformer; heads are 64 wide, or one of ``width`` where that is less.
        vector: width of what the network is conditioned on.
        mean_hidden: width of the hidden layer that predicts the mean picture.
    """

    words: int
    buckets: int = 1024
    max_words: int = 48
    width: int = 192
    layers: int = 3
    vector: int = 256
    mean_hidden: int = 384


@dataclass(frozen=True)
class LatentConfig:
    """Of :class:`farm3d.diffusion.embedded.latents.PatchTransform` and its decoder.

    Attributes:
        size_px: side of the pictures.
        patch_px: side of the square patches; the latent has ``size_px / patch_px`` rows and columns.
        rgb_channels, alpha_channels: principal components kept of a patch's colours and of its coverage.
        decoder_width, decoder_blocks: channels of the decoder, and pairs of convolutions in it.
    """

    size_px: int = 128
    patch_px: int = 8
    rgb_channels: int = 24
    alpha_channels: int = 8
    decoder_width: int = 64
    decoder_blocks: int = 6

    @property
    def channels(self) -> int:
        """Channels of the latent."""
        return self.rgb_channels + self.alpha_channels

    @property
    def grid(self) -> int:
        """Rows, and columns, of the latent."""
        return self.size_px // self.patch_px

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of the latent."""
        return self.channels, self.grid, self.grid


@dataclass(frozen=True)
class NetworkConfig:
    """Of :class:`farm3d.diffusion.embedded.network.HybridNetwork`.

    Attributes:
        channels, grid: of the latent.
        stem: channels of the convolutions at the latent's resolution.
        width, blocks: of the transformer on 2 x 2 patches; heads are 64 wide, or one of ``width`` where that is less.
        vector: width of the text vector.
        condition: width of what text and noise level become together.
    """

    channels: int
    grid: int
    stem: int = 64
    width: int = 384
    blocks: int = 8
    vector: int = 256
    condition: int = 256


@dataclass(frozen=True)
class EmbeddedConfig:
    """A whole model but its words.

    Attributes:
        text: with no words yet: they are those of the captions it will be trained on.
        latents, network: of the other parts.
    """

    text: TextConfig
    latents: LatentConfig
    network: NetworkConfig


def _sized(text: TextConfig, latents: LatentConfig, **network: int) -> EmbeddedConfig:
    return EmbeddedConfig(text, latents, NetworkConfig(latents.channels, latents.grid, vector=text.vector, **network))


PRESETS = {
    "tiny": _sized(
        TextConfig(0, buckets=64, width=32, layers=1, vector=32, mean_hidden=32),
        LatentConfig(32, 4, 8, 4, decoder_width=16, decoder_blocks=2),
        stem=16,
        width=64,
        blocks=2,
        condition=32,
    ),
    "small": _sized(TextConfig(0, mean_hidden=192), LatentConfig(rgb_channels=16, alpha_channels=6, decoder_width=48), width=256),
    "default": _sized(TextConfig(0), LatentConfig()),
}
