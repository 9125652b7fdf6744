"""Words to an animal: pictures drawn and judged, the surest ones reconstructed, the best one kept."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from farm3d.apps.candidates import Candidate, DrawnPictures, surest
from farm3d.apps.picture_prior import USUAL, USUAL_TRIES, shipped_prior
from farm3d.apps.words import action_in, asks, category_in, checked_words, slug
from farm3d.core.errors import InputError, NoAnimalError
from farm3d.model.reconstructor import Reconstruction, Reconstructor

if TYPE_CHECKING:
    from farm3d.data.segment import Segmenter
    from farm3d.diffusion.prior import PicturePrior

__all__ = ["FromWords", "Tries", "animal_from_words"]

_MOST_TRIES = 1000


@dataclass(frozen=True)
class Tries:
    """How pictures are drawn and fitted.

    Attributes:
        count: pictures drawn; None is what is usual for the model.
        fits: pictures reconstructed, of those that pass: the ones that show the words most surely.
        seed: of noise and start views.
        guidance, steps: of drawing; None is what is usual for the model.
        any_animal: also take what the backbone does not see as a four-legged animal.
        reader: who is asked whether a picture shows the words: "auto" is the shipped caption reader for embedded models and nobody for
            others, "none" nobody; or a folder.
        refine_steps, height_m, texture_px: as the Reconstructor takes them.
    """

    count: int | None = None
    fits: int = 3
    seed: int = 0
    guidance: float | None = None
    steps: int | None = None
    any_animal: bool = False
    reader: str = "auto"
    refine_steps: int | None = None
    height_m: float | None = None
    texture_px: int = 1024

    def pictures(self, prior: PicturePrior) -> int:
        """Return how many pictures are drawn with a model."""
        return self.count or USUAL_TRIES[prior.draws_alpha]

    def check(self) -> None:
        """Raise InputError where a number is out of range."""
        from farm3d.model.reconstructor import check_request

        check_request(refine_steps=self.refine_steps, height_m=self.height_m, texture_px=self.texture_px, seed=self.seed)
        if self.count is not None and not 1 <= self.count <= _MOST_TRIES:
            raise InputError(f"--tries {self.count}: expected 1 to {_MOST_TRIES}")
        if not 1 <= self.fits <= _MOST_TRIES:
            raise InputError(f"--fits {self.fits}: expected 1 to {_MOST_TRIES}")
        if self.seed < 0:
            raise InputError(f"--seed {self.seed}: expected 0 or more")
        if self.steps is not None and not 1 <= self.steps <= 10_000:
            raise InputError(f"--steps {self.steps}: expected 1 to 10000")
        if self.guidance is not None and not (math.isfinite(self.guidance) and self.guidance >= 0):
            raise InputError(f"--guidance {self.guidance}: expected a number of 0 or more")


@dataclass(frozen=True, eq=False)
class FromWords:
    """What words gave.

    Attributes:
        result: of the picture that was taken.
        taken: that picture.
        candidates: all that were drawn, in order.
        facts: words, model and candidates, JSON-ready.
    """

    result: Reconstruction
    taken: Candidate
    candidates: tuple[Candidate, ...]
    facts: dict[str, Any]

    @property
    def pixels(self) -> np.ndarray:
        """The picture that was taken, with the animal's coverage as alpha, ``[S, S, 4]`` uint8."""
        assert self.taken.pixels is not None
        return self.taken.pixels


def animal_from_words(
    words: str,
    *,
    reconstructor: Reconstructor | None = None,
    prior: PicturePrior | None = None,
    tries: Tries | None = None,
    segmenter: Segmenter | None = None,
    name: str | None = None,
    callback: Callable[[int, str, Any], bool | None] | None = None,
) -> FromWords:
    """Draw an animal and reconstruct it.

    ::

        made = farm3d.animal_from_words("a white horse, galloping")
        made.result.animal  # as of a photograph

    Args:
        words: what to draw.
        reconstructor: of the category; None takes the shipped one that the words name.
        prior: text-to-image model; None opens the shipped one.
        tries: how often and how.
        segmenter: finds the animal where the model draws no silhouette; None uses the one that is installed.
        name: of the picture, in messages and on the contact sheet; None takes the words.
        callback: told the number of the picture from 1, ``"drawing"`` or ``"fitting"``, and the step: (done, total), or the fit's Progress;
            returning False stops.

    Raises:
        InputError: words or numbers that cannot be used.
        NoAnimalError: no picture passed the filters; the message counts the reasons.
        Farm3DError: a model is missing or damaged, or the callback stopped the work.
    """
    from farm3d.apps.models import shipped_categories
    from farm3d.data.photo import photo_from_image
    from farm3d.data.segment import OnnxSegmenter
    from farm3d.diffusion.prior import load_prior
    from farm3d.model.caption_reader import CaptionReader, reader_folder

    tries = tries or Tries()
    tries.check()
    words = checked_words(words)
    if reconstructor is None:
        reconstructor = Reconstructor.from_pretrained(category_in(words, shipped_categories()))
    prior = prior or load_prior(shipped_prior())
    guidance, steps = USUAL[prior.draws_alpha]
    guidance, steps = guidance if tries.guidance is None else tries.guidance, steps if tries.steps is None else tries.steps
    name = name or f"{slug(words)}_picture.png"
    if not prior.draws_alpha:
        segmenter = segmenter or OnnxSegmenter()
    folder = reader_folder(tries.reader, usual=prior.draws_alpha)
    reader = None if folder is None else CaptionReader.from_pretrained(folder, encoder=reconstructor.encoder)
    species = reconstructor.prior.config.category
    action = None if reader is None else action_in(words, reader.config.actions)
    draw = DrawnPictures(prior, reconstructor.encoder, segmenter, guidance, steps, tries.any_animal, reader, species, action, name)
    told: Callable[..., bool | None] = callback or (lambda number, stage, step: None)
    drawn = draw(
        asks(words, embedded=prior.draws_alpha, count=tries.pictures(prior)),
        seed=tries.seed,
        callback=lambda number, step, total: told(number, "drawing", (step, total)),
    )
    candidates: list[Candidate] = []
    best: tuple[Candidate, Reconstruction] | None = None
    for candidate in surest(list(drawn), tries.fits):
        if candidate.pixels is not None:
            result = reconstructor(
                photo_from_image(candidate.pixels, name=name),
                refine_steps=tries.refine_steps,
                height_m=tries.height_m,
                texture_px=tries.texture_px,
                seed=tries.seed,
                callback=lambda progress, number=candidate.number: told(number, "fitting", progress),
            )
            score = result.hypotheses[0].score
            candidate = dataclasses.replace(candidate, score=score, iou=round(result.iou, 4))
            if best is None or (score, candidate.number) < (best[0].score, best[0].number):
                best = candidate, result
        candidates.append(candidate)
    if best is None:
        raise NoAnimalError(
            f"none of {len(candidates)} drawn pictures shows one whole animal as asked: {_counted(candidates)}",
            hint="try more --tries, another --seed or other words; --reader none asks less of them",
        )
    taken, result = best
    facts = {
        "words": words,
        "prompt": taken.ask.prompt,
        **({"negative": taken.ask.negative} if taken.ask.negative else {}),
        "model": {"name": prior.name, "sha256": prior.digest},
        "guidance": guidance,
        "steps": steps,
        "taken": taken.number,
        "tries": [candidate.facts() for candidate in candidates],
    }
    return FromWords(result, taken, tuple(candidates), facts)


def _counted(candidates: list[Candidate]) -> str:
    reasons = [candidate.reason or "" for candidate in candidates]
    return ", ".join(f"{reasons.count(reason)} {reason}" for reason in dict.fromkeys(reasons))
