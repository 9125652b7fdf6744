"""Pictures drawn to be scored: prompted with held-out animals' own captions, as many from each of the eight views."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from farm3d.core.errors import InputError
from farm3d.core.files import whole_file
from farm3d.core.random import numpy_generator
from farm3d.diffusion.prior import PicturePrior
from farm3d.training.prior.score.classifier import VIEW_COUNT
from farm3d.training.prior.score.known import Fact, Known

__all__ = ["Samples", "asked_for", "draw_samples"]

_AT_ONCE = 16


@dataclass(frozen=True, eq=False)
class Samples:
    """Drawn pictures.

    Attributes:
        pixels: sRGB and coverage, uint8, ``[N, 4, S, S]``; coverage is 255 everywhere for models that draw none.
        asked: the facts of the held-out picture whose caption was the prompt of each.
        seeds: of each.
        digest: sha256 of model, captions, seeds and options.
    """

    pixels: np.ndarray
    asked: tuple[Fact, ...]
    seeds: tuple[int, ...]
    digest: str

    def __len__(self) -> int:
        return len(self.asked)


def asked_for(held_out: Known, species: str, *, count: int, seed: int) -> list[Fact]:
    """Return the facts whose captions become prompts: coats and actions come as often as in the barn, views in turn.

    Raises:
        InputError: there is no held-out picture of some view.
    """
    own = [held_out.facts[number] for number in held_out.of(species)]
    rng = numpy_generator(seed, "asked", species)
    by_view = []
    for view in range(VIEW_COUNT):
        there = [fact for fact in own if fact.view == view]
        if not there:
            raise InputError(f"no held-out {species} from view {view} among {len(own)} pictures", hint="give more held-out pictures")
        by_view.append([there[int(i)] for i in rng.permutation(len(there))])
    return [by_view[i % VIEW_COUNT][i // VIEW_COUNT % len(by_view[i % VIEW_COUNT])] for i in range(count)]


def draw_samples(
    prior: PicturePrior,
    asked: Sequence[Fact],
    *,
    guidance: float,
    steps: int,
    seed: int,
    folder: Path,
    on_progress: Callable[[int, int], None] | None = None,
) -> Samples:
    """Draw a picture for each caption, or read those that were drawn before with the same model, captions, seeds and options.

    Args:
        prior: that draws.
        asked: as many facts as pictures, of one species.
        guidance, steps: of drawing.
        seed: decides the seed of each picture.
        folder: where they are kept.
        on_progress: told how many are drawn, and of how many.
    """
    seeds = tuple(int(value) for value in numpy_generator(seed, "samples", asked[0].species).integers(2**31, size=len(asked)))
    told = json.dumps([prior.digest or prior.name, str(prior.dtype), [fact.caption for fact in asked], seeds, guidance, steps])
    digest = hashlib.sha256(told.encode()).hexdigest()
    path = folder / f"{digest[:16]}.npy"
    if path.is_file():
        pixels = np.load(path, allow_pickle=False)
        if pixels.shape[0] != len(asked) or pixels.dtype != np.uint8:
            raise InputError(f"{path}: not {len(asked)} samples", hint="delete the file")
        return Samples(pixels, tuple(asked), seeds, digest)
    parts = []
    for begin in range(0, len(asked), _AT_ONCE):
        some = asked[begin : begin + _AT_ONCE]
        drawn = prior.draw(
            [fact.caption for fact in some], seeds=seeds[begin : begin + len(some)], guidance=guidance, steps=steps, negative=""
        )
        rgb = (drawn.rgb.cpu().numpy() * 255).round().astype(np.uint8)
        alpha = (
            np.full_like(rgb[:, :1], 255) if drawn.alpha is None else (drawn.alpha[:, None].cpu().numpy() * 255).round().astype(np.uint8)
        )
        parts.append(np.concatenate([rgb, alpha], 1))
        if on_progress is not None:
            on_progress(begin + len(some), len(asked))
    pixels = np.concatenate(parts)
    with whole_file(path) as part, part.open("wb") as file:
        np.save(file, pixels, allow_pickle=False)
    return Samples(pixels, tuple(asked), seeds, digest)
