"""One batch of training after another, each a function of seed, phase and step alone: nothing has to be remembered to go on exactly."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch.nn import functional

from farm3d.core.color import linear_from_srgb, srgb_from_linear
from farm3d.core.random import numpy_generator
from farm3d.core.shapes import Float, Tensor, checked
from farm3d.training.prior.picture_cache import PictureCache
from farm3d.training.prior.words import GROUNDS, SCENES, mirrored, said

__all__ = ["Batch", "Batches", "on_ground"]

_ON_GROUND = 0.45  # share of pictures whose animal is put on a ground of one colour, as renders are


@dataclass(frozen=True, eq=False)
class Batch:
    """B pictures with their prompts.

    Attributes:
        rgb: sRGB in [0, 1], ``[B, 3, S, S]``; alpha: coverage, ``[B, S, S]``.
        prompts: what is said of each.
        numbers: of the pictures in the cache.
    """

    rgb: Float[Tensor, "B 3 S S"]
    alpha: Float[Tensor, "B S S"]
    prompts: list[str]
    numbers: list[int]


class Batches:
    """The batches of one phase. Every picture comes once an epoch, in an order of its own.

    Args:
        pictures: the cache.
        seed, phase: decide order and chance.
        batch: pictures in each.
    """

    def __init__(self, pictures: PictureCache, *, seed: int, phase: str, batch: int) -> None:
        self.batch = batch
        self._pictures, self._seed, self._phase = pictures, seed, phase
        self._numbers = pictures.numbers(held_out=False)
        self._order = lru_cache(maxsize=2)(self._epoch_order)

    def at(self, step: int, *, part: int = 0, parts: int = 1) -> Batch:
        """Return the batch of a step, from 0; or one of several equal parts of it, which have chances of their own."""
        rng = numpy_generator(self._seed, self._phase, "batch", step, part)
        count = len(self._numbers)
        size = self.batch // parts
        first = step * self.batch + part * size
        places = range(first, first + size)
        numbers = [int(self._order(place // count)[place % count]) for place in places]
        pixels, prompts = [], []
        for number in numbers:
            raw = torch.from_numpy(self._pictures.pixels[number].copy()).float() / 255
            caption = self._pictures.captions[number]
            words, scene = caption.words, SCENES[caption.backdrop]
            if rng.random() < 0.5:
                raw, words = raw.flip(-1), tuple(map(mirrored, words))
            if rng.random() < _ON_GROUND:
                ground = list(GROUNDS)[int(rng.integers(len(GROUNDS)))]
                raw, scene = torch.cat([on_ground(raw[:3], raw[3], _ground_colour(ground, rng)), raw[3:]]), GROUNDS[ground]
            pixels.append(raw)
            prompts.append(said(words, caption.species, scene, rng))
        stacked = torch.stack(pixels)
        return Batch(stacked[:, :3], stacked[:, 3], prompts, numbers)

    def _epoch_order(self, epoch: int) -> np.ndarray:
        return numpy_generator(self._seed, self._phase, "epoch", epoch).permutation(self._numbers)


@checked
def on_ground(rgb: Float[Tensor, "3 S S"], alpha: Float[Tensor, "S S"], colour: Float[Tensor, "3"]) -> Float[Tensor, "3 S S"]:
    """Return the animal on a ground of one colour; where it covers a pixel in part, light is mixed as the renderer does.

    The animal's own colour at its edge is taken from the covered pixels beside it.

    Args:
        rgb: sRGB in [0, 1].
        alpha: coverage.
        colour: linear RGB of the ground.
    """
    light = linear_from_srgb(rgb)
    weight = alpha[None] ** 4
    near = functional.avg_pool2d(torch.cat([light * weight, weight])[None], 5, 1, 2)[0]
    beside = near[:3] / near[3:].clamp(min=1e-6)
    own = torch.where((alpha > 0.98) | (near[3] < 1e-4), light, beside)
    return srgb_from_linear(torch.lerp(colour[:, None, None].expand_as(own), own, alpha))


def _ground_colour(ground: str, rng: np.random.Generator) -> Tensor:
    """Return linear RGB."""
    if ground == "black":
        return torch.zeros(3)
    if ground == "white":
        return torch.ones(3)
    if ground == "grey":
        return torch.full((3,), float(rng.uniform(0.05, 0.8)))
    return linear_from_srgb(torch.from_numpy(rng.uniform(0, 1, 3)).float())
