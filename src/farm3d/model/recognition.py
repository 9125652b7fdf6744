"""Which category a picture shows: each one's best guess is drawn, and the backbone's own classes have a say."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch

from farm3d.core.shapes import Float, Tensor
from farm3d.model.category.first_guess import first_guess
from farm3d.model.category.learned import LearnedCategory
from farm3d.model.encoder import Encoder
from farm3d.model.fitting import GUIDED_SAGITTAL, FitOptions, fit
from farm3d.structures import Crop

__all__ = ["CLASSES", "Guess", "recognise"]

CLASSES: Mapping[str, tuple[int, ...]] = {
    "horse": (339,),
    "donkey": (339,),
    "zebra": (340,),
    "cow": (345, 346, 347),
    "sheep": (348, 349),
    "deer": (351, 352, 353),
    "alpaca": (355,),
    "dog": tuple(range(151, 269)),
    "wolf": (269, 270, 271, 272),
    "fox": (277, 278, 279, 280),
}
"""ImageNet classes by species: sorrel; zebra; ox, water buffalo, bison; ram, bighorn; hartebeest, impala, gazelle; llama; dogs; ..."""

_SOFTNESS = 0.05  # of fit scores, where they are made probabilities
_FLOOR = 0.02  # probability of a class below which it says nothing: the backbone was never shown a cow from behind


class Guess(NamedTuple):
    """A category, how probable it is among those that were asked for, and its best outline in one pass (nan if it was not drawn)."""

    category: str
    probability: float
    iou: float


@torch.no_grad()
def recognise(
    learned: Mapping[str, LearnedCategory | None], encoder: Encoder, crop: Crop, maps: Float[Tensor, "1 C G G"]
) -> tuple[Guess, ...]:
    """Return how probable each category is, best first.

    Args:
        learned: categories by name; None for one that has no networks, of which only the backbone's classes tell.
        encoder: the backbone.
        crop: the picture.
        maps: its features, as :func:`first_guess` takes them.
    """
    plain = crop.image * crop.mask + 0.5 * (1 - crop.mask)
    views = torch.stack([crop.image, plain])
    probability = encoder.classify(torch.cat([views, views.flip(-1)])).mean(0)
    logs, ious = [], []
    for name, category in learned.items():
        classes = CLASSES.get(name)
        seen = probability[list(classes)].sum().item() if classes else 0.0
        log = math.log(max(seen, _FLOOR))
        iou = math.nan
        if category is not None:
            guess = first_guess(category, crop, maps, sagittal=GUIDED_SAGITTAL)
            features = category.prior.project(maps)[0]
            found = fit(guess.prior, crop, features=features, options=FitOptions(refine=False), starts=guess.starts)
            log -= found.terms.fit[0].item() / _SOFTNESS
            iou = found.terms.iou[0].item()
        logs.append(log)
        ious.append(iou)
    shares = torch.tensor(logs).softmax(0).tolist()
    return tuple(sorted(map(Guess, learned, shares, ious), key=lambda guess: -guess.probability))
