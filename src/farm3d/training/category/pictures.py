"""The pictures a category is learned from, in memory, and batches of them that depend on the step alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from farm3d.core.random import numpy_generator
from farm3d.core.shapes import Float, Int, Tensor

__all__ = ["FEW_STANDING", "PictureBatch", "PictureSet", "mirrored_view"]

VIEWS = 8
FEW_STANDING = 64
"""Pictures of standing animals below which a training does not begin with them alone."""


@dataclass(frozen=True, eq=False)
class PictureSet:
    """N crops of one category.

    Attributes:
        rgb: sRGB bytes, ``[N, 3, S, S]``; mask: coverage bytes, ``[N, S, S]``.
        features: principal components of the backbone's features, first ones of largest spread, ``[N, C, G, G]`` float16.
        scale: what they are divided by, ``[C]``.
        views: which of the eight views the words asked for, ``[N]``, -1 where not known.
        names: of the pictures.
        digest: of all that.
        standing: whether the words say that the animal stands, ``[N]``; None where no words are known.
    """

    rgb: np.ndarray
    mask: np.ndarray
    features: np.ndarray
    scale: np.ndarray
    views: np.ndarray
    names: tuple[str, ...]
    digest: str
    standing: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.names)

    def take(self, numbers: np.ndarray, flipped: np.ndarray) -> PictureBatch:
        """Return pictures by number, some of them mirrored left to right.

        The map of a mirrored picture is taken to be the mirrored map, which the backbone obeys nearly.
        """
        rgb = torch.from_numpy(self.rgb[numbers]).float() / 255
        mask = torch.from_numpy(self.mask[numbers]).float() / 255
        features = torch.from_numpy((self.features[numbers] / self.scale[:, None, None]).astype(np.float32))
        turn = torch.from_numpy(flipped)
        rgb, features = (torch.where(turn[:, None, None, None], values.flip(-1), values) for values in (rgb, features))
        mask = torch.where(turn[:, None, None], mask.flip(-1), mask)
        views = np.where(flipped, mirrored_view(self.views[numbers]), self.views[numbers])
        return PictureBatch(rgb, mask, features, torch.from_numpy(views.astype(np.int64)), numbers, flipped)

    def batch(self, step: int, *, seed: int, size: int, standing: bool = False) -> PictureBatch:
        """Return the batch of a step, from 0: every picture comes once an epoch, in an order of its own, half of them mirrored.

        Args:
            step: of the training.
            seed: of the orders.
            size: pictures in it.
            standing: only pictures of standing animals, if there are as many as :data:`FEW_STANDING`.
        """
        rows = np.arange(len(self))
        if standing and self.standing is not None and self.standing.sum() >= FEW_STANDING:
            rows = np.flatnonzero(self.standing)
        places = range(step * size, (step + 1) * size)
        numbers = rows[[_epoch_order(len(rows), seed, place // len(rows))[place % len(rows)] for place in places]]
        return self.take(numbers, numpy_generator(seed, "flips", step).random(size) < 0.5)


@lru_cache(maxsize=4)
def _epoch_order(count: int, seed: int, epoch: int) -> np.ndarray:
    return numpy_generator(seed, "epoch", epoch).permutation(count)


@dataclass(frozen=True, eq=False)
class PictureBatch:
    """B pictures.

    Attributes:
        rgb: sRGB in [0, 1], ``[B, 3, S, S]``; mask: ``[B, S, S]``; features: about unit spread, ``[B, C, G, G]``.
        views: which of the eight views was asked for, ``[B]``, -1 where not known.
        numbers: in the set; flipped: which are mirrored.
    """

    rgb: Float[Tensor, "B 3 S S"]
    mask: Float[Tensor, "B S S"]
    features: Float[Tensor, "B C G G"]
    views: Int[Tensor, "B"]
    numbers: np.ndarray
    flipped: np.ndarray

    def __len__(self) -> int:
        return len(self.numbers)

    def to(self, device: torch.device | str) -> PictureBatch:
        """Return it with its tensors on a device."""
        rgb, mask, features, views = (values.to(device) for values in (self.rgb, self.mask, self.features, self.views))
        return PictureBatch(rgb, mask, features, views, self.numbers, self.flipped)

    def part(self, begin: int, end: int) -> PictureBatch:
        """Return the pictures ``begin`` to ``end`` (not included)."""
        rows = slice(begin, end)
        return PictureBatch(self.rgb[rows], self.mask[rows], self.features[rows], self.views[rows], self.numbers[rows], self.flipped[rows])


def mirrored_view(views: np.ndarray) -> np.ndarray:
    """Return which views mirrored pictures show: left is right; -1 stays."""
    return np.where(views < 0, views, (VIEWS - views) % VIEWS)
