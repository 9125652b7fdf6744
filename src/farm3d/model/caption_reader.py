"""The caption reader: which animal a picture shows, from which of eight sides, and what it does, in the barn's words.

A text-to-image model does not always draw what it was asked. As large collections of pictures are cleaned with a model that compares
pictures with their captions, so :mod:`farm3d.training.dataset.drawing` asks this small network, on the frozen backbone's features, before
a picture may teach anything; and :mod:`farm3d.model.reconstructor` asks it from which side a picture was taken, where outlines cannot tell.
It knows pictures and captions of the barn, and no camera, depth or shape.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import nn
from torch.nn import functional

from farm3d.core.errors import ModelError
from farm3d.core.files import sha256_of
from farm3d.core.sealed import MANIFEST
from farm3d.core.shapes import Float, Tensor, checked
from farm3d.model.encoder import Encoder, ImageEncoder
from farm3d.model.folder import expect_tensors, load_model_folder, weights_folder

__all__ = [
    "GREY",
    "READER_NAME",
    "VIEW_COUNT",
    "AttributeNetwork",
    "CaptionReader",
    "CaptionReaderConfig",
    "Reading",
    "certainty",
    "pooled_map",
    "pooled_mask",
    "posterior_azimuth",
    "reader_folder",
    "side_doubts",
    "view_doubts",
]

READER_NAME = "caption_reader"
"""Of the shipped one."""

VIEW_COUNT = 8
GREY = 0.5
"""sRGB, behind animals that are cut out, so that backgrounds decide nothing."""

_PICTURE_PX = 256  # at which the backbone looks
_MAP, _MASK = 8, 32
_NETWORK_DEG, _BORDER_DEG = 20.0, 10.0  # spreads: of a category's azimuths with their tail of far ones; of the reader's borders
_LEAST = 0.01  # probability of a view: the reader is sometimes wrong and sure
_TRUSTED = 0.2  # certainty: of photographs, which the reader has never seen, it is about .05, of renders .5
_OWN = 0.06  # share of the nearest view itself where a side is doubted


@dataclass(frozen=True)
class CaptionReaderConfig:
    """What a reader can say, and which backbone it was trained on.

    Attributes:
        species, actions: the words that its answers stand for.
        channels: of the backbone's map.
        encoder: model folder of the backbone; encoder_digest: sha256 of its manifest.
    """

    species: tuple[str, ...]
    actions: tuple[str, ...]
    channels: int
    encoder: str
    encoder_digest: str


@dataclass(frozen=True, eq=False)
class Reading:
    """What is seen in B pictures, as probabilities.

    Attributes:
        species: ``[B, S]``; view: ``[B, 8]``, 0 the front and 2 the animal's left side; action: ``[B, A]``.
    """

    species: Float[Tensor, "B S"]
    view: Float[Tensor, "B 8"]
    action: Float[Tensor, "B A"]


class AttributeNetwork(nn.Module):
    """Two layers of convolution over the backbone's map, the mask and the place, then one hidden layer and three answers.

    Args:
        channels: of the backbone's map.
        species, actions: the words that its answers stand for.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, channels: int, species: Sequence[str], actions: Sequence[str]) -> None:
        super().__init__()
        self.species, self.actions = tuple(species), tuple(actions)
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("spread", torch.ones(channels))
        self.narrow = nn.Conv2d(channels, 96, 1)
        self.outline = nn.Sequential(nn.Conv2d(1, 16, 4, stride=4), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1))
        self.joint = nn.Conv2d(96 + 32 + 2, 128, 3, stride=2, padding=1)
        self.hidden = nn.Linear(128 * 16, 256)
        self.answers = nn.ModuleList(nn.Linear(256, count) for count in (len(self.species), VIEW_COUNT, len(self.actions)))
        self.dropout = nn.Dropout(0.3)

    def forward(self, maps: Float[Tensor, "B C 8 8"], masks: Float[Tensor, "B 32 32"]) -> tuple[Tensor, Tensor, Tensor]:
        """Return the logits of species, view and action."""
        x = self.narrow((maps - self.mean[:, None, None]) / self.spread[:, None, None])
        steps = torch.linspace(-1, 1, _MAP).to(x)
        place = torch.stack([steps[:, None].expand(_MAP, _MAP), steps[None].expand(_MAP, _MAP)]).expand(len(x), -1, -1, -1)
        x = functional.relu(torch.cat([x, self.outline(masks[:, None]), place], 1))
        x = functional.relu(self.joint(x)).flatten(1)
        x = self.dropout(functional.relu(self.hidden(self.dropout(x))))
        return self.answers[0](x), self.answers[1](x), self.answers[2](x)


def view_doubts(view: Float[Tensor, "8"], azimuth: Float[Tensor, "N"]) -> Float[Tensor, "N"]:
    """Return minus the logarithm of how probable it is that the picture was taken from these azimuths, at most that of :data:`_LEAST`.

    Args:
        view: probabilities of the eight views.
        azimuth: radians, 0 before the face, a quarter turn at the animal's left side; between two views the logarithm is interpolated.
    """
    doubts = -view.clamp_min(_LEAST).log()
    place = (azimuth / (2 * math.pi) * VIEW_COUNT) % VIEW_COUNT
    low = place.floor()
    return torch.lerp(doubts[low.long() % VIEW_COUNT], doubts[(low.long() + 1) % VIEW_COUNT], place - low)


def side_doubts(view: Float[Tensor, "8"], azimuth: Float[Tensor, "N"]) -> Float[Tensor, "N"]:
    """Return what the reader has against a picture's having been taken from about these azimuths, as far as it is to be trusted.

    :func:`view_doubts` of the mean of each view and its two neighbours, and a little of the view's own: which of two neighbouring views it
    is an outline tells better, but an animal that comes has nearly the outline of one that goes (docs/experiments.md). Times the square of
    the reader's :func:`certainty` in units of :data:`_TRUSTED`, from where on its word counts in full. Arguments as of :func:`view_doubts`.
    """
    about = (view + view.roll(1) + view.roll(-1)) / 3
    doubts = view_doubts(about, azimuth) + _OWN * view_doubts(view, azimuth)
    return doubts * min(1.0, certainty(view) / _TRUSTED) ** 2


def certainty(view: Float[Tensor, "8"]) -> float:
    """Return how sure the reader is of the view: 1 less its entropy over the largest possible, so 1 for one view and 0 if all are alike."""
    return 1 - float(torch.special.entr(view).sum()) / math.log(VIEW_COUNT)


def posterior_azimuth(view: Float[Tensor, "8"], azimuth: Float[Tensor, "N"]) -> Float[Tensor, "N"]:
    """Return where the camera is expected, given a network's azimuths and what the reader says: the mean within 60 degrees of each.

    Of every azimuth, a normal distribution of :data:`_NETWORK_DEG` about the network's times the reader's share of the eighth of the
    circle that it lies in, with borders as soft as the reader's answers near them.

    Args:
        view: probabilities of the eight views.
        azimuth: radians, 0 before the face, a quarter turn at the animal's left side.
    """
    away = torch.linspace(-60, 60, 61).to(azimuth)
    middles = torch.arange(VIEW_COUNT).to(azimuth) * (360 / VIEW_COUNT)
    from_middle = torch.remainder(torch.rad2deg(azimuth)[:, None, None] + away[:, None] - middles + 180, 360) - 180
    half, soft = 180 / VIEW_COUNT, _BORDER_DEG * math.sqrt(2)
    within = (torch.erf((from_middle + half) / soft) - torch.erf((from_middle - half) / soft)) / 2
    known = view.clamp_min(2 * _LEAST)
    logarithm = ((within @ (known / known.sum())) + 1e-6).log() - 0.5 * (away / _NETWORK_DEG).square()
    return azimuth + torch.deg2rad((torch.softmax(logarithm, -1) * away).sum(-1))


def reader_folder(choice: Path | str, *, usual: bool) -> Path | None:
    """Return the folder of the reader that was asked for.

    Args:
        choice: "auto" is the shipped one where ``usual``, "none" no reader; else it is the folder.
        usual: whether a reader is asked where nothing is said.
    """
    if str(choice) == "none" or (str(choice) == "auto" and not usual):
        return None
    return weights_folder(READER_NAME) if str(choice) == "auto" else Path(choice)


@torch.no_grad()
def pooled_map(encoder: ImageEncoder, plain: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B C 8 8"]:
    """Return what the network looks at first: the backbone's map of pictures, with the animal cut out on :data:`GREY`."""
    large = functional.interpolate(plain, (_PICTURE_PX, _PICTURE_PX), mode="bilinear", align_corners=False, antialias=True)
    return functional.adaptive_avg_pool2d(encoder.features(large.clamp(0, 1)), _MAP)


def pooled_mask(mask: Float[Tensor, "B S S"]) -> Float[Tensor, "B 32 32"]:
    """Return what it looks at besides: the animal's coverage, small."""
    return functional.adaptive_avg_pool2d(mask[:, None], _MASK)[:, 0]


class CaptionReader:
    """Reads pictures of animals that are cut out.

    Attributes:
        config: what it can say; digest: sha256 of its folder's manifest.
    """

    def __init__(self, config: CaptionReaderConfig, network: AttributeNetwork, encoder: Encoder, *, digest: str = "") -> None:
        self.config, self.digest = config, digest
        self._network, self._encoder = network.eval(), encoder

    @classmethod
    def from_pretrained(cls, folder: Path | str | None = None, *, encoder: Encoder | None = None) -> Self:
        """Load a model folder, by default the one shipped with the package.

        Args:
            folder: of `farm3d prior reader`.
            encoder: the shipped backbone, where it is loaded already.

        Raises:
            ModelError: the folder is missing, damaged, of another kind, or was trained on another backbone than the shipped one.
        """
        folder = weights_folder(READER_NAME) if folder is None else Path(folder)
        config, tensors = load_model_folder(folder, CaptionReaderConfig)
        there = sha256_of(weights_folder(config.encoder) / MANIFEST)
        if there != config.encoder_digest:
            raise ModelError(f"{folder}: was trained on another {config.encoder}", hint="train it again: `farm3d prior reader`")
        with torch.device("meta"):
            network = AttributeNetwork(config.channels, config.species, config.actions)
        expect_tensors(tensors, {name: tuple(value.shape) for name, value in network.state_dict().items()}, where=str(folder))
        network.load_state_dict({name: value.float() for name, value in tensors.items()}, assign=True)
        network.requires_grad_(False)
        return cls(config, network, encoder or Encoder.from_pretrained(weights_folder(config.encoder)), digest=sha256_of(folder / MANIFEST))

    @checked
    @torch.no_grad()
    def read(self, image: Float[Tensor, "B 3 S S"], mask: Float[Tensor, "B S S"]) -> Reading:
        """Return what pictures show.

        Args:
            image: sRGB in [0, 1], the animal's box filling most of the square, as the crops of ``reconstruct`` do.
            mask: coverage of the animal.
        """
        plain = torch.lerp(torch.full_like(image, GREY), image, mask[:, None])
        return self._read(pooled_map(self._encoder, plain), pooled_mask(mask))

    @checked
    @torch.no_grad()
    def read_maps(self, maps: Float[Tensor, "B C G G"], mask: Float[Tensor, "B S S"]) -> Reading:
        """Return what pictures show, from the backbone's maps of them.

        Args:
            maps: of the animal cut out on grey at 256 px, as :meth:`farm3d.model.reconstructor.Reconstructor.maps` gives them.
            mask: coverage of the animal.
        """
        return self._read(functional.adaptive_avg_pool2d(maps, _MAP), pooled_mask(mask))

    def to(self, device: torch.device | str) -> Self:
        """Move it to a device and return self."""
        self._network, self._encoder = self._network.to(device), self._encoder.to(device)
        return self

    def _read(self, maps: Float[Tensor, "B C 8 8"], masks: Float[Tensor, "B 32 32"]) -> Reading:
        species, view, action = self._network(maps, masks)
        return Reading(species.softmax(1), view.softmax(1), action.softmax(1))
