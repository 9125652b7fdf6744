"""The frozen image backbone: EfficientNet-Lite0 trained on ImageNet, as a part feature and as a gentle animal detector.

The network is written from the architecture facts (inverted bottlenecks, no squeeze-and-excitation, ReLU6, fixed stem and head) with
batch normalisation folded into the convolutions, since its weights never change here. It takes the place of the DINO features of
section 1.3, which cannot be shipped; another backbone fits in by offering the same ``features`` (:class:`ImageEncoder`), such as a vision
transformer of the user's (:mod:`farm3d.model.vit`). :func:`load_encoder` opens either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from torch import nn
from torch.nn import functional

from farm3d.core.errors import InputError
from farm3d.core.files import sha256_of
from farm3d.core.sealed import MANIFEST
from farm3d.core.shapes import Float, Tensor, checked
from farm3d.model.folder import expect_tensors, load_model_folder, weights_folder

if TYPE_CHECKING:
    from farm3d.model.vit import VitOptions

__all__ = [
    "NO_ANIMAL_BELOW",
    "QUADRUPED_CLASSES",
    "READING_GRIDS",
    "SHIPPED_ENCODER",
    "Backbone",
    "Encoder",
    "EncoderConfig",
    "ImageEncoder",
    "load_encoder",
    "open_backbone",
    "project",
    "to_reading_grid",
]

# (channels out, blocks, kernel, stride of the first, expansion) of the seven stages; stem 32 and head 1280 are the same in every Lite net.
_STAGES = ((16, 1, 3, 1, 1), (24, 2, 3, 2, 6), (40, 2, 5, 2, 6), (80, 3, 3, 2, 6), (112, 3, 5, 1, 6), (192, 4, 5, 2, 6), (320, 1, 3, 1, 6))
_STEM, _HEAD, _CLASSES = 32, 1280, 1000

READING_GRIDS = (32, 16)
"""Rows and columns of the maps that categories read."""

SHIPPED_ENCODER = "efficientnet_lite0"
"""Name of the shipped backbone."""

QUADRUPED_CLASSES: tuple[int, ...] = (*range(151, 300), *range(330, 365), *range(383, 389))
"""ImageNet classes that are four-legged mammals: dogs to bears and mongooses (151-299), hares and rodents (330-338), hoofed animals
(339-355), weasels to sloths (356-364), lemurs, elephants and pandas (383-388). Apes and monkeys are left out."""


NO_ANIMAL_BELOW = 0.10
"""Under this :meth:`Encoder.animal_probability` a picture shows, most likely, no four-legged animal (docs/generate.md, What is refused)."""


class ImageEncoder(Protocol):
    """What the rest of farm3d needs of a backbone."""

    channels: int

    def features(self, image: Tensor) -> Tensor:
        """Map ``[B, 3, H, W]`` sRGB in [0, 1] to ``[B, channels, grid, grid]``."""
        ...


@dataclass(frozen=True)
class EncoderConfig:
    """Which maps of the backbone are used.

    Attributes:
        blocks: inverted bottlenecks (0 to 15) whose outputs are joined, in order. 10 is the last at a sixteenth of the picture's size
            (112 channels), 13 lies deeper, at a thirty-second (192): together they know front from back far better than 4 and 10.
        grid: rows and columns of the feature map; each block's output is averaged or interpolated to it.
    """

    blocks: tuple[int, ...] = (10, 13)
    grid: int = 16


class _SameConv(nn.Module):
    """Convolution with bias and TensorFlow's SAME padding: where an odd number of zeros is needed, the right and bottom get one more."""

    def __init__(self, inputs: int, outputs: int, *, kernel: int = 1, stride: int = 1, depthwise: bool = False, relu: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(outputs, 1 if depthwise else inputs, kernel, kernel), requires_grad=False)
        self.bias = nn.Parameter(torch.zeros(outputs), requires_grad=False)
        self.stride, self.groups, self.relu = stride, inputs if depthwise else 1, relu

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.weight.shape[-1], self.stride
        total = [max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in x.shape[-2:]]
        if any(extra % 2 for extra in total):
            (top, bottom), (left, right) = ((extra // 2, extra - extra // 2) for extra in total)
            x, padding = functional.pad(x, (left, right, top, bottom)), (0, 0)
        else:
            padding = (total[0] // 2, total[1] // 2)
        x = functional.conv2d(x, self.weight, self.bias, stride=stride, padding=padding, groups=self.groups)
        return functional.relu6(x) if self.relu else x


class _Block(nn.Module):
    """Inverted bottleneck: widen, filter each channel, narrow; a skip where the shape stays."""

    def __init__(self, inputs: int, outputs: int, *, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.expand = _SameConv(inputs, wide) if expansion > 1 else nn.Identity()
        self.depthwise = _SameConv(wide, wide, kernel=kernel, stride=stride, depthwise=True)
        self.project = _SameConv(wide, outputs, relu=False)
        self.skip = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.skip else y


class Encoder(nn.Module):
    """EfficientNet-Lite0. Frozen: no parameter asks for a gradient, but gradients flow through to the picture."""

    def __init__(self, config: EncoderConfig | None = None) -> None:
        super().__init__()
        self.config = config or EncoderConfig()
        blocks, inputs = [], _STEM
        for outputs, repeats, kernel, stride, expansion in _STAGES:
            for i in range(repeats):
                blocks.append(_Block(inputs, outputs, kernel=kernel, stride=stride if i == 0 else 1, expansion=expansion))
                inputs = outputs
        self.stem = _SameConv(3, _STEM, kernel=3, stride=2)
        self.blocks = nn.ModuleList(blocks)
        self.head = _SameConv(inputs, _HEAD)
        self.classifier = nn.Linear(_HEAD, _CLASSES).requires_grad_(False)
        self.channels = sum(blocks[i].project.weight.shape[0] for i in self.config.blocks)

    @classmethod
    def from_pretrained(cls, folder: Path | str | None = None, *, device: torch.device | str = "cpu") -> Encoder:
        """Load a model folder, by default the one shipped with the package.

        Raises:
            ModelError: the folder is missing, damaged or of another kind.
        """
        folder = weights_folder(SHIPPED_ENCODER) if folder is None else Path(folder)
        config, tensors = load_model_folder(folder, EncoderConfig)
        with torch.device("meta"):
            encoder = cls(config)
        _load(encoder, tensors, where=str(folder))
        return encoder.to(device).eval()

    @checked
    def features(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C G G"]:
        """Return the joined maps of the configured blocks, as the network gives them (before any projection).

        Args:
            image: sRGB-encoded colours in [0, 1]; 256 x 256 is what the feature fields are fitted at.
        """
        grid, maps = self.config.grid, {}
        for i, x in self._walk(image, last=max(self.config.blocks)):
            if i in self.config.blocks:
                if x.shape[-2] >= grid and x.shape[-1] >= grid:
                    maps[i] = functional.adaptive_avg_pool2d(x, grid)
                else:
                    maps[i] = functional.interpolate(x, (grid, grid), mode="bilinear", align_corners=False)
        return torch.cat([maps[i] for i in self.config.blocks], 1)

    @checked
    def classify(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B N"]:
        """Return the probabilities of the 1000 ImageNet classes, in their usual order; trained at 224 x 224."""
        *_, (_, last) = self._walk(image, last=len(self.blocks) - 1)
        return self.classifier(self.head(last).mean((-2, -1))).softmax(-1)

    @checked
    def animal_probability(self, image: Float[Tensor, "B 3 H W"], mask: Float[Tensor, "B H W"] | None = None) -> Float[Tensor, "B"]:
        """Return the probability of :data:`QUADRUPED_CLASSES`; compare it with :data:`NO_ANIMAL_BELOW`.

        With a mask the picture is judged twice, as it is and cut out (medium exposure, light grey behind), and the better counts:
        a loud or dark background must not hide an animal. Apes, birds and fish do not count, since plain noise is taken for them.
        """
        quadrupeds = list(QUADRUPED_CLASSES)
        probability = self.classify(image)[:, quadrupeds].sum(-1)
        if mask is None:
            return probability
        cover = mask[:, None]
        mean = (image * cover).sum((1, 2, 3)) / (3 * mask.sum((1, 2))).clamp(min=1)
        exposure = (0.35 / mean.clamp(min=0.02))[:, None, None, None]
        cut_out = (image * cover * exposure).clamp(max=1) + (1 - cover) * 0.75
        return torch.maximum(probability, self.classify(cut_out)[:, quadrupeds].sum(-1))

    def _walk(self, image: Tensor, *, last: int):
        """Yield (number, output) of each block up to ``last``."""
        x = self.stem(image * (255 / 128) - 127 / 128)
        for i, block in enumerate(self.blocks[: last + 1]):
            x = block(x)
            yield i, x


def load_encoder(
    source: Path | str | None = None,
    *,
    options: VitOptions | None = None,
    device: torch.device | str = "cpu",
    revision: str | None = None,
    local_files_only: bool = False,
) -> ImageEncoder:
    """Open a feature backbone: the shipped EfficientNet-Lite0, one of our model folders, or a vision transformer.

    Args:
        source: None for the shipped one; a folder; or a hub id such as ``facebook/dino-vits8``.
        options: how a vision transformer looks at the picture.
        device: where it runs.
        revision, local_files_only: of a hub id, as in :func:`farm3d.core.hub.resolve_model`.

    Raises:
        InputError: no such folder or hub id, or options that the backbone does not have.
        ModelError: damaged, pickled, incomplete or of a kind that we do not know.
        MissingPartError: transformers is not installed, or the model is not here and cannot be fetched.
    """
    if source is None or (Path(source) / "manifest.json").is_file():
        if options is not None:
            raise InputError("size, stride and facet are options of vision transformers, and this backbone is an EfficientNet-Lite0")
        return Encoder.from_pretrained(source, device=device)
    from farm3d.model.vit import VitEncoder

    return VitEncoder.from_pretrained(source, options=options, device=device, revision=revision, local_files_only=local_files_only)


@dataclass(frozen=True)
class Backbone:
    """A feature backbone, and what it is: where it was asked for, its name and the sha256 of its files."""

    encoder: ImageEncoder
    source: str | None
    name: str
    digest: str


def open_backbone(source: str | None, *, device: torch.device | str = "cpu") -> Backbone:
    """Open a backbone: None for the shipped one, a folder, or a hub id.

    Raises:
        Farm3DError: as :func:`load_encoder`.
    """
    encoder = load_encoder(source, device=device)
    folder = weights_folder(SHIPPED_ENCODER) if source is None else Path(source)
    if (folder / MANIFEST).is_file():
        return Backbone(encoder, source, folder.resolve().name, sha256_of(folder / MANIFEST))
    return Backbone(encoder, source, str(getattr(encoder, "name", folder.name)), str(getattr(encoder, "digest", "")))


def to_reading_grid(maps: Float[Tensor, "B C G G"]) -> Float[Tensor, "B C R R"]:
    """Return maps on the grid that categories read: 32 x 32 where the backbone gives as many places (vision transformers), else 16 x 16."""
    fine, coarse = READING_GRIDS
    grid = fine if maps.shape[-1] >= fine else coarse
    if maps.shape[-1] < grid:
        return functional.interpolate(maps, (grid, grid), mode="bilinear", align_corners=False)
    return functional.adaptive_avg_pool2d(maps, grid) if maps.shape[-1] > grid else maps


@checked
def project(features: Float[Tensor, "B C H W"], *, mean: Float[Tensor, "C"], matrix: Float[Tensor, "C D"]) -> Float[Tensor, "B D H W"]:
    """Return ``(features - mean) @ matrix`` per pixel: backbone channels to a category's feature space."""
    return torch.einsum("bchw,cd->bdhw", features - mean[:, None, None], matrix)


def _load(encoder: Encoder, tensors: Mapping[str, Tensor], *, where: str) -> None:
    expect_tensors(tensors, {name: tuple(value.shape) for name, value in encoder.state_dict().items()}, where=where)
    encoder.load_state_dict({name: value.float() for name, value in tensors.items()}, assign=True)
    encoder.requires_grad_(False)
