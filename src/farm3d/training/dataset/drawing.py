"""Drawing a training set from words: each sample is tried until one passes the filters, and depends on its number alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from farm3d.core.errors import InputError, NoAnimalError
from farm3d.core.random import numpy_generator
from farm3d.core.shapes import Tensor
from farm3d.core.shards import Draw, ShardPlan
from farm3d.data.photo import photo_from_image
from farm3d.data.preprocess import Silhouette, find_mask, make_crop
from farm3d.data.segment import OnnxSegmenter, Segmenter
from farm3d.diffusion.prior import PicturePrior, load_prior
from farm3d.model.caption_reader import CaptionReader
from farm3d.model.encoder import NO_ANIMAL_BELOW, Encoder
from farm3d.training.dataset.cutting import cut_out, json_bytes
from farm3d.training.dataset.filters import (
    NO_ANIMAL,
    NOT_FINITE,
    NOT_QUADRUPED,
    READ_RULES,
    RULES,
    TOO_LARGE,
    reason_against,
)
from farm3d.training.dataset.phrases import VIEW_NAMES, Prompt, PromptOrder
from farm3d.training.dataset.reading import reason_against_reading, words_read

__all__ = ["FORMAT", "GENERATED_BY", "DrawSettings", "open_drawing", "sample_seed"]

FORMAT = 1
GENERATED_BY = "farm3d generate"


@dataclass(frozen=True)
class DrawSettings:
    """All that decides the bytes, and where the parts lie.

    Attributes:
        name: of the data set; starts every key.
        category: what is drawn.
        seed: of prompts and noise.
        prior: folder or hub id of the text-to-image model; prior_name, prior_digest: what it is.
        phrases: name of the phrase book; prompts: what it says; book_digest: its sha256.
        guidance, steps: of drawing.
        size_px: side of the crops.
        batch: neighbouring samples that are drawn together: a picture's last bits depend on it.
        attempts: at most so many for a sample.
        any_animal: keep what the backbone does not take for a four-legged animal.
        reader: folder of the caption reader that is asked whether a picture shows what its words say; None asks none;
            reader_digest: sha256 of its manifest.
        mask_model: ONNX segmenter for models that draw no silhouettes; mask_digest: its sha256, None if none is needed.
        device: where the model runs.
        dtype: that it computes in, a name of torch's.
    """

    name: str
    category: str
    seed: int
    prior: str
    prior_name: str
    prior_digest: str
    phrases: str
    prompts: tuple[Prompt, ...]
    book_digest: str
    guidance: float
    steps: int
    size_px: int
    batch: int = 8
    attempts: int = 6
    any_animal: bool = False
    reader: Path | None = None
    reader_digest: str | None = None
    mask_model: Path | None = None
    mask_digest: str | None = None
    device: str = "cpu"
    dtype: str = "float32"

    def plan(self, count: int, per_shard: int) -> ShardPlan:
        """Return the plan of ``count`` samples."""
        recipe: dict[str, Any] = {
            "made_by": GENERATED_BY,
            "format": FORMAT,
            "category": self.category,
            "seed": self.seed,
            "model": {"name": self.prior_name, "sha256": self.prior_digest},
            "phrases": {"book": self.phrases, "sha256": self.book_digest},
            "guidance": self.guidance,
            "steps": self.steps,
            "size_px": self.size_px,
            "batch": self.batch,
            "attempts": self.attempts,
            "animal_from": None if self.any_animal else NO_ANIMAL_BELOW,
            "filters": RULES,
            "mask_model": self.mask_digest,
            "device": torch.device(self.device).type,
            "dtype": self.dtype,
        }
        if self.reader_digest is not None:
            recipe["reader"] = {"sha256": self.reader_digest, **READ_RULES}
        return ShardPlan(self.name, recipe, count, per_shard)


def sample_seed(seed: int, number: int, attempt: int) -> int:
    """Return the noise's seed of an attempt (from 0) at a sample."""
    return int(numpy_generator(seed, "picture", number, attempt).integers(1 << 48))


def open_drawing(settings: DrawSettings, prior: PicturePrior | None = None) -> Draw:
    """Load what drawing needs, in the process that draws; on the CPU with one thread, since samples are shared out between processes.

    Raises:
        Farm3DError: as :func:`load_prior`; or the model is another one than when the data set was planned.
    """
    if torch.device(settings.device).type == "cpu":
        torch.set_num_threads(1)
    prior = prior if prior is not None else load_prior(settings.prior, device=settings.device, dtype=getattr(torch, settings.dtype))
    if prior.digest != settings.prior_digest:
        raise InputError(f"{settings.prior}: was changed meanwhile", hint="start again")
    segmenter = None if settings.mask_digest is None else OnnxSegmenter(settings.mask_model, threads=1)
    encoder = Encoder.from_pretrained()
    reader = None if settings.reader is None else CaptionReader.from_pretrained(settings.reader, encoder=encoder)
    if reader is not None and reader.digest != settings.reader_digest:
        raise InputError(f"{settings.reader}: was changed meanwhile", hint="start again")
    return _Drawing(settings, prior, segmenter, encoder, reader)


class _Drawing:
    """Keeps the last block of samples: they are drawn together, and those that were refused drawn together again."""

    def __init__(
        self, settings: DrawSettings, prior: PicturePrior, segmenter: Segmenter | None, encoder: Encoder, reader: CaptionReader | None
    ) -> None:
        self._settings, self._prior, self._segmenter, self._encoder, self._reader = settings, prior, segmenter, encoder, reader
        self._order = PromptOrder(settings.prompts, settings.seed)
        self._block: tuple[int, dict[int, _Outcome]] = (-1, {})

    def __call__(self, number: int) -> tuple[str, dict[str, bytes]]:
        settings, prompt = self._settings, self._order(number)
        key = f"{settings.name}-{number:06d}"
        row: dict[str, Any] = {
            "key": key,
            "category": settings.category,
            "prompt": prompt.text,
            "negative": prompt.negative,
            "view": prompt.view,
            "view_name": None if prompt.view is None else VIEW_NAMES[prompt.view],
            "action": prompt.action,
            "coat": prompt.coat,
            "guidance": settings.guidance,
            "steps": settings.steps,
            "model": {"name": settings.prior_name, "sha256": settings.prior_digest},
            "phrases": settings.phrases,
        }
        found = self._found(number)
        row["rejected"] = [{"seed": sample_seed(settings.seed, number, i), "reason": reason} for i, reason in enumerate(found.reasons)]
        if found.members is None:
            return key, {"json": json_bytes({**row, "failed": f"none of {settings.attempts} attempts passed"})}
        seed = sample_seed(settings.seed, number, len(found.reasons))
        return key, {**found.members, "json": json_bytes({**row, **found.facts, "seed": seed})}

    def _found(self, number: int) -> _Outcome:
        """Return what came of a sample, after drawing its whole block: as often as it takes, the refused ones of it together."""
        size = self._settings.batch
        block = number // size
        if self._block[0] != block:
            outcomes = {one: _Outcome() for one in range(block * size, (block + 1) * size)}
            for attempt in range(self._settings.attempts):
                if not (left := [one for one, outcome in outcomes.items() if outcome.members is None]):
                    break
                for one, picture in zip(left, self._drawn(left, attempt), strict=True):
                    answer = self._judged(picture, self._order(one))
                    if isinstance(answer, str):
                        outcomes[one].reasons.append(answer)
                    else:
                        outcomes[one].members, outcomes[one].facts = answer
            self._block = (block, outcomes)
        return self._block[1][number]

    def _drawn(self, numbers: list[int], attempt: int) -> list[np.ndarray | None]:
        """Draw an attempt of each sample: ``[S, S, 3 or 4]`` uint8, the fourth being the coverage; None where it is not finite."""
        prompts = [self._order(number) for number in numbers]
        drawn = self._prior.draw(
            [prompt.text for prompt in prompts],
            seeds=[sample_seed(self._settings.seed, number, attempt) for number in numbers],
            negative=[prompt.negative for prompt in prompts],
            guidance=self._settings.guidance,
            steps=self._settings.steps,
        )
        planes = drawn.rgb if drawn.alpha is None else torch.cat([drawn.rgb, drawn.alpha[:, None]], 1)
        return [_pixels(one) for one in planes]

    def _judged(self, picture: np.ndarray | None, prompt: Prompt) -> tuple[dict[str, bytes], dict[str, Any]] | str:
        """Return members and facts of a picture, or why it is of no use."""
        if picture is None:
            return NOT_FINITE
        found = self._silhouette(picture)
        if isinstance(found, str):
            return found
        photo, read = photo_from_image(picture), {}
        crop = make_crop(photo, found, size_px=self._settings.size_px)
        if self._reader is not None:  # first, because it refuses most and costs a third of the other look
            wanted = {"species": self._settings.category, "view": prompt.view, "action": prompt.action}
            read = words_read(self._reader, crop.image, crop.mask, **wanted)
            if reason := reason_against_reading(read):
                return reason
        members, facts = cut_out(photo, found, size_px=self._settings.size_px, encoder=self._encoder, crop=crop)
        if not self._settings.any_animal and facts["animal_probability"] < NO_ANIMAL_BELOW:
            return NOT_QUADRUPED
        return members, ({**facts, "read": read} if read else facts)

    def _silhouette(self, picture: np.ndarray) -> Silhouette | str:
        """Go through the door of ``farm3d reconstruct``, after a look at what the silhouette was before it keeps one animal."""
        if picture.shape[-1] == 4:
            coverage = picture[..., 3].astype(np.float32) / 255
            if (coverage < 0.5).mean() < 0.05:  # so little is hidden that the door would not take it for a mask
                return TOO_LARGE
            segmenter = None
        else:
            assert self._segmenter is not None  # the plan has seen to it
            coverage = self._segmenter(picture)
            segmenter = _Known(coverage)
        if reason := reason_against(coverage):
            return reason
        try:
            return find_mask(photo_from_image(picture), segmenter=segmenter)
        except NoAnimalError:
            return NO_ANIMAL


@dataclass
class _Outcome:
    """What came of a sample: why attempts were refused, and members and facts of the one that passed."""

    reasons: list[str] = field(default_factory=list)
    members: dict[str, bytes] | None = None
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Known:
    """A segmenter that has answered already."""

    coverage: np.ndarray

    def __call__(self, rgb: np.ndarray) -> np.ndarray:
        return self.coverage


def _pixels(planes: Tensor) -> np.ndarray | None:
    if not bool(torch.isfinite(planes).all()):
        return None
    return np.ascontiguousarray((planes * 255).round().byte().permute(1, 2, 0).cpu().numpy())
