"""Which category a picture shows: each one's best guess is drawn, and the backbone's own classes have a say."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch

from farm3d.core.errors import InputError
from farm3d.data.preprocess import Silhouette
from farm3d.model.encoder import Encoder
from farm3d.model.fitting import SCORE_SOFTNESS
from farm3d.model.reconstructor import CategoryGuess, Reconstruction, Reconstructor, read_picture

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from farm3d.data.photo import Photo
    from farm3d.data.segment import Segmenter
    from farm3d.structures import Crop

__all__ = ["CLASSES", "AnyCategory"]

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

_FLOOR = 0.02  # probability of a class below which it says nothing: the backbone was hardly shown a cow from behind


class AnyCategory:
    """Several categories; called like a :class:`Reconstructor`, it picks the one that a picture shows.

    Args:
        reconstructors: by name, all with the same backbone.
        judges: learned categories of the same kinds, by name, that draw their best guess in the place of those without networks. What is
            drawn counts where every kind has one: scores say which of several categories explains a picture, and nothing by themselves.
    """

    def __init__(self, reconstructors: Mapping[str, Reconstructor], *, judges: Mapping[str, Reconstructor] | None = None) -> None:
        if not reconstructors:
            raise InputError("no category to choose from", hint="`farm3d models list` says what is shipped")
        self.reconstructors = dict(reconstructors)
        judging = {name: one if one.learned is not None else (judges or {}).get(name) for name, one in self.reconstructors.items()}
        self._judges = {name: one for name, one in judging.items() if one is not None}

    @classmethod
    def from_pretrained(
        cls,
        names: Sequence[Path | str],
        *,
        judges: Sequence[Path | str] = (),
        device: torch.device | str = "cpu",
        reader: Path | str = "auto",
    ) -> Self:
        """Load categories by folder or by the names of shipped ones; ``reader`` as of :meth:`Reconstructor.from_pretrained`.

        Raises:
            ModelError: one is damaged, incomplete or of another kind.
            InputError: they have different backbones, or two are of the same kind of animal.
        """
        loaded = [Reconstructor.from_pretrained(name, device=device, reader=reader) for name in names]
        judging = [Reconstructor.from_pretrained(name, device=device, reader="none") for name in judges]
        backbones = {one.prior.config.encoder for one in (*loaded, *judging)}
        if len(backbones) > 1:
            raise InputError(f"categories with different backbones: {', '.join(sorted(backbones))}", hint="name one with --category")
        return cls(_by_kind(loaded), judges=_by_kind(judging))

    @property
    def encoder(self) -> Encoder:
        """The backbone that they share."""
        return next(iter(self.reconstructors.values())).encoder

    def __call__(
        self,
        image: Photo | Image.Image | np.ndarray | Path | str,
        *,
        mask: Path | str | np.ndarray | Silhouette | None = None,
        segmenter: Segmenter | None = None,
        **how: Any,
    ) -> Reconstruction:
        """Reconstruct the animal in one picture as the category that it most probably is; arguments as of :class:`Reconstructor`.

        The answer's ``categories`` say how probable each was.
        """
        photo, silhouette = read_picture(image, mask, segmenter)
        guesses = self.recognise(next(iter(self.reconstructors.values())).crop(photo, silhouette))
        found = self.reconstructors[guesses[0].category](photo, mask=silhouette, **how)
        warnings = found.warnings
        if len(guesses) > 1 and guesses[0].probability < 0.8:
            first, second = guesses[:2]
            words = f"the kind of animal is uncertain: {first.category} {first.probability:.0%}, {second.category} {second.probability:.0%}"
            warnings = (*warnings, f"{words}; --category {second.category} makes it that")
        return dataclasses.replace(found, categories=guesses, warnings=warnings)

    @torch.no_grad()
    def recognise(self, crop: Crop) -> tuple[CategoryGuess, ...]:
        """Return how probable each category is for a crop, best first."""
        plain = crop.image * crop.mask + 0.5 * (1 - crop.mask)
        views = torch.stack([crop.image, plain])
        seen = self.encoder.classify(torch.cat([views, views.flip(-1)])).mean(0)
        maps = next(iter(self.reconstructors.values())).maps(crop)
        logs = []
        for name in self.reconstructors:
            classes = CLASSES.get(name)
            logs.append(math.log(max(seen[list(classes)].sum().item() if classes else 0.0, _FLOOR)))
            if len(self._judges) == len(self.reconstructors):
                logs[-1] -= self._judges[name].first_score(crop, maps) / SCORE_SOFTNESS
        shares = torch.tensor(logs).softmax(0).tolist()
        return tuple(sorted(map(CategoryGuess, self.reconstructors, shares), key=lambda guess: -guess.probability))


def _by_kind(loaded: Sequence[Reconstructor]) -> dict[str, Reconstructor]:
    kinds = [one.prior.config.category for one in loaded]
    if twice := {kind for kind in kinds if kinds.count(kind) > 1}:
        raise InputError(f"two categories for {', '.join(sorted(twice))}", hint="leave one of them out")
    return dict(zip(kinds, loaded, strict=True))
