"""What reads a picture: its features and its outline to codes, a map of places, viewpoints; and fields that depend on a code."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from farm3d.core.shapes import Float, Tensor
from farm3d.model.category.config import CategoryConfig
from farm3d.model.category.viewpoint import Viewpoints, count_outputs, viewpoints_from
from farm3d.model.fields import harmonic_embedding

__all__ = ["CodedField", "PictureReader", "Reading"]

_OUTLINE_PX = 64
_GROUPS = 8


class Reading(NamedTuple):
    """What was read from B pictures: ``code`` (shape and pose) and ``look`` (appearance) ``[B, C]``, ``places`` ``[B, L, P, P]``."""

    code: Tensor
    look: Tensor
    places: Tensor
    viewpoints: Viewpoints


class PictureReader(nn.Module):
    """Convolutions over the frozen backbone's map, joined by the picture's colours and its outline at a finer scale.

    They take the place of the paper's two Encoder32 heads on a vision transformer's tokens (section 2.3).
    """

    def __init__(self, config: CategoryConfig) -> None:
        super().__init__()
        self.config = config
        fine = (_OUTLINE_PX // config.grid) ** 2
        self.enter = nn.Conv2d(config.channels + 3 + fine, 96, 1)
        self.near = nn.ModuleList([_ConvBlock(96, 96, stride=1) for _ in range(2)])
        self.places = nn.Conv2d(96, config.local * config.local_scale**2, 1)
        self.far = nn.Sequential(_ConvBlock(96, 128, stride=2), _ConvBlock(128, 160, stride=2))
        self.whole = nn.Linear(160 * (config.grid // 4) ** 2, 256)
        self.code, self.look = nn.Linear(256, config.code), nn.Linear(256, config.code)
        self.view_in, self.view_out = nn.Linear(256, 128), nn.Linear(128, count_outputs(config))
        nn.init.normal_(self.view_out.weight, std=0.01)
        nn.init.zeros_(self.view_out.bias)

    def forward(self, features: Float[Tensor, "B C G G"], image: Float[Tensor, "B 3 S S"], mask: Float[Tensor, "B S S"]) -> Reading:
        """Read B pictures.

        Args:
            features: principal components of the backbone's features, about unit spread.
            image: sRGB in [0, 1]; mask: coverage. What is not the animal is not looked at.
        """
        outline = functional.interpolate(mask[:, None], (_OUTLINE_PX, _OUTLINE_PX), mode="area")
        colours = functional.adaptive_avg_pool2d(image * mask[:, None], self.config.grid)
        x = torch.cat([features, colours, functional.pixel_unshuffle(outline, _OUTLINE_PX // self.config.grid)], 1)
        x = self.enter(x)
        for block in self.near:
            x = x + block(x)
        whole = functional.silu(self.whole(self.far(x).flatten(1)))
        raw = self.view_out(functional.silu(self.view_in(whole)))
        places = functional.pixel_shuffle(self.places(x), self.config.local_scale)
        return Reading(self.code(whole), self.look(whole), places, viewpoints_from(raw, self.config))


class CodedField(nn.Module):
    """A coordinate network that also depends on a code, mirrored in x: ``[V, 3]`` points and ``[B, D]`` codes to ``[B, V, outputs]``.

    The code enters beside the embedding in the first layer (section 2.1). The last layer begins at zero.
    """

    def __init__(self, outputs: int, *, code: int, octaves: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.octaves = octaves
        self.first = nn.Linear(3 * (1 + 2 * octaves), hidden)
        self.coded = nn.Linear(code, hidden, bias=False)
        widths = [hidden] * layers + [outputs]
        self.rest = nn.ModuleList([nn.Linear(a, b, bias=False) for a, b in itertools.pairwise(widths)])
        nn.init.zeros_(self.rest[-1].weight)  # pyright: ignore[reportArgumentType]

    def forward(self, points: Float[Tensor, "V 3"], code: Float[Tensor, "B D"]) -> Float[Tensor, "B V C"]:
        """Evaluate at points of the object frame, canonical units."""
        mirrored = torch.cat([points[:, :1].abs(), points[:, 1:]], 1)
        signal = self.first(harmonic_embedding(mirrored, octaves=self.octaves)) + self.coded(code)[:, None]
        for layer in self.rest:
            signal = layer(torch.relu(signal))
        return signal


class _ConvBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, *, stride: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(_GROUPS, inputs)
        self.conv = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(functional.silu(self.norm(x)))
