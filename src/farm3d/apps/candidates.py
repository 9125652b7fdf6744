"""Pictures drawn from words, one after another, and which of them is taken.

A picture must pass the filters of `farm3d generate`: one whole animal, of a sensible size, clear of the border, that the frozen backbone
takes for a four-legged one, and in which the caption reader sees the animal and the view that were asked for. Those that show the words
most surely are reconstructed, and the one whose best view has the lowest score is taken: the Reconstructor's own measure, in which the
outline, and what the backbone sees at every point of the animal, are compared with the category. A leg that the prior forgot or a head
without a muzzle costs there; the outline's agreement alone would forgive it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from farm3d.apps.words import Ask
from farm3d.core.errors import NoAnimalError
from farm3d.core.random import numpy_generator
from farm3d.core.shapes import Tensor
from farm3d.data.photo import Photo, photo_from_image
from farm3d.data.preprocess import find_mask, make_crop
from farm3d.model.encoder import NO_ANIMAL_BELOW, Encoder
from farm3d.training.dataset.cutting import cut_out
from farm3d.training.dataset.filters import NO_ANIMAL, NOT_FINITE, NOT_QUADRUPED, TOO_LARGE, reason_against
from farm3d.training.dataset.phrases import VIEW_NAMES
from farm3d.training.dataset.reading import reason_against_reading, words_read

if TYPE_CHECKING:
    from farm3d.data.segment import Segmenter
    from farm3d.diffusion.prior import PicturePrior
    from farm3d.model.caption_reader import CaptionReader

__all__ = ["LESS_SURE", "Candidate", "DrawnPictures", "noise_seed", "surest"]

LESS_SURE = "less surely what was asked than others"

_LOOK_PX = 256  # of the crop that the backbone is asked about


@dataclass(frozen=True, eq=False)
class Candidate:
    """One picture that was drawn.

    Attributes:
        number: of the try, from 1.
        ask: what was asked for.
        seed: of the noise.
        pixels: the picture with the animal's coverage as alpha, ``[S, S, 4]`` uint8; None where it was refused.
        reason: why it was refused.
        animal_probability: the backbone's opinion.
        read: the caption reader's, of each word that it was asked about.
        score, iou: of its reconstruction; lower and higher are better.
    """

    number: int
    ask: Ask
    seed: int
    pixels: np.ndarray | None = None
    reason: str | None = None
    animal_probability: float | None = None
    read: dict[str, float] | None = None
    score: float | None = None
    iou: float | None = None

    def facts(self) -> dict[str, Any]:
        """Return what the sidecar says of it."""
        values = {
            "seed": self.seed,
            "view_added": self.ask.view,
            "refused": self.reason,
            "animal_probability": self.animal_probability,
            "read": self.read,
            "score": self.score,
            "iou": self.iou,
        }
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class DrawnPictures:
    """Draws pictures and judges them.

    Attributes:
        prior: the text-to-image model.
        encoder: the backbone that is asked whether it sees an animal.
        segmenter: finds the animal where the model draws no silhouette.
        guidance, steps: of drawing.
        any_animal: also pass what the backbone does not take for a four-legged animal.
        reader: is asked whether pictures show their words; species, action: those words, besides the view of each ask.
        name: of the pictures.
    """

    prior: PicturePrior
    encoder: Encoder
    segmenter: Segmenter | None
    guidance: float
    steps: int
    any_animal: bool = False
    reader: CaptionReader | None = None
    species: str | None = None
    action: str | None = None
    name: str = "animal"

    def __call__(
        self, asks: list[Ask], *, seed: int, callback: Callable[[int, int, int], bool | None] | None = None
    ) -> Iterator[Candidate]:
        """Yield a candidate for each ask, drawn one at a time: the first ones are the same however many follow.

        Args:
            asks: what to ask for.
            seed: of all of them.
            callback: told the number of the picture from 1, the denoising steps done and those in all; returning False stops.

        Raises:
            Farm3DError: as :meth:`PicturePrior.draw`, or the segmenter is missing.
        """
        for number, ask in enumerate(asks, start=1):
            noise = noise_seed(seed, number)

            def told(step: int, total: int, number: int = number) -> bool | None:
                return None if callback is None else callback(number, step, total)

            drawn = self.prior.draw(
                [ask.prompt], seeds=[noise], negative=ask.negative, guidance=self.guidance, steps=self.steps, callback=told
            )
            planes = drawn.rgb if drawn.alpha is None else torch.cat([drawn.rgb, drawn.alpha[:, None]], 1)
            yield self._judged(number, ask, noise, planes[0])

    def _judged(self, number: int, ask: Ask, seed: int, planes: Tensor) -> Candidate:
        if not bool(torch.isfinite(planes).all()):
            return Candidate(number, ask, seed, reason=NOT_FINITE)
        pixels = np.ascontiguousarray((planes * 255).round().byte().permute(1, 2, 0).cpu().numpy())
        found = self._with_coverage(pixels)
        if isinstance(found, str):
            return Candidate(number, ask, seed, reason=found)
        photo = photo_from_image(found, name=self.name)
        silhouette = find_mask(photo)
        crop = make_crop(photo, silhouette, size_px=_LOOK_PX)
        _, facts = cut_out(photo, silhouette, size_px=_LOOK_PX, encoder=self.encoder, crop=crop)
        probability = facts["animal_probability"]
        if probability < NO_ANIMAL_BELOW and not self.any_animal:
            return Candidate(number, ask, seed, reason=NOT_QUADRUPED, animal_probability=probability)
        if self.reader is None:
            return Candidate(number, ask, seed, found, animal_probability=probability)
        view = None if ask.view is None else VIEW_NAMES.index(ask.view)
        read = words_read(self.reader, crop.image, crop.mask, species=self.species, view=view, action=self.action)
        reason = reason_against_reading(read)
        return Candidate(number, ask, seed, None if reason else found, reason, probability, read)

    def _with_coverage(self, pixels: np.ndarray) -> np.ndarray | str:
        """Return ``[S, S, 4]`` with the coverage of one animal, so that the picture alone can be reconstructed again; or why not."""
        if pixels.shape[-1] == 4:
            coverage = pixels[..., 3].astype(np.float32) / 255
            photo: Photo | None = None
        else:
            assert self.segmenter is not None  # the caller has seen to it
            photo = photo_from_image(pixels, name=self.name)
            coverage = self.segmenter(photo.rgb)
        if (coverage < 0.5).mean() < 0.05:  # so little is hidden that alpha would not be taken for a mask
            return TOO_LARGE
        if reason := reason_against(coverage):
            return reason
        if photo is None:
            return pixels
        try:
            coverage = find_mask(photo, segmenter=_Known(coverage)).coverage
        except NoAnimalError:
            return NO_ANIMAL
        return np.concatenate([pixels, (coverage[..., None] * 255).round().astype(np.uint8)], -1)


def surest(candidates: list[Candidate], count: int) -> list[Candidate]:
    """Return the candidates with the reason :data:`LESS_SURE` for all but ``count`` of those that passed.

    Those whose words are all more probable stay; without a reader's opinion, the first ones.
    """
    passed = [one for one in candidates if one.reason is None]
    order = sorted(passed, key=lambda one: (-math.prod((one.read or {}).values()), one.number))
    rest = {one.number for one in order[count:]}
    return [dataclasses.replace(one, pixels=None, reason=LESS_SURE) if one.number in rest else one for one in candidates]


@dataclass(frozen=True)
class _Known:
    """A segmenter that has answered already."""

    coverage: np.ndarray

    def __call__(self, rgb: np.ndarray) -> np.ndarray:
        return self.coverage


def noise_seed(seed: int, number: int) -> int:
    """Return the noise's seed of a try (from 1)."""
    return int(numpy_generator(seed, "create", number).integers(1 << 48))
