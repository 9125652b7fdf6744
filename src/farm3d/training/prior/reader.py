"""Training the caption reader on the barn's pictures and captions, and saying how well it reads those of other animals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from farm3d.core.errors import InputError
from farm3d.core.files import sha256_of
from farm3d.core.sealed import MANIFEST
from farm3d.model.caption_reader import CaptionReaderConfig
from farm3d.model.encoder import Encoder
from farm3d.model.folder import save_model_folder, weights_folder
from farm3d.training.prior.score.classifier import train_classifier
from farm3d.training.prior.score.features import features_of
from farm3d.training.prior.score.known import Fact, Known, read_known

__all__ = ["ReaderScore", "ReaderSettings", "train_reader"]

_SIZE_PX = 128
_BACKBONE = "efficientnet_lite0"
Tell = Callable[[str], Callable[[int, int], None]]


@dataclass(frozen=True)
class ReaderSettings:
    """What is asked for.

    Attributes:
        taught: training pictures of each species.
        epochs: times that every picture is shown.
        seed: of the choice of pictures, weights and order.

    Raises:
        InputError: numbers that cannot be used.
    """

    taught: int = 1500
    epochs: int = 16
    seed: int = 1

    def __post_init__(self) -> None:
        if self.taught < 8 or self.epochs < 1 or self.seed < 0:
            raise InputError(f"{self.taught} pictures, {self.epochs} epochs, seed {self.seed}: expected at least 8, 1 and 0")


@dataclass(frozen=True)
class ReaderScore:
    """Shares of held-out pictures that are read rightly: species, view (and the views next to it, and the one behind), action."""

    pictures: int
    species: float
    view: float
    next_view: float
    behind: float
    action: float


def train_reader(
    settings: ReaderSettings,
    *,
    training: Sequence[Path],
    held_out: Sequence[Path],
    state: Path,
    out: Path,
    command: str,
    tell: Tell = lambda what: lambda done, total: None,
) -> ReaderScore:
    """Train a reader, write its model folder, and return how well it reads pictures of other animals.

    Args:
        settings: see :class:`ReaderSettings`.
        training, held_out: folders of data sets of ``farm3d barn make``.
        state: pictures and features are kept here; what is there is not made again.
        out: model folder to write.
        command: that asked for it, for the card.
        tell: given the name of a stage, returns what is told how far it is.

    Raises:
        InputError: data that cannot be used.
        OutputError: nothing can be written.
    """
    encoder = Encoder.from_pretrained(weights_folder(_BACKBONE))
    seen = _known(training, state, held_out=False, most=settings.taught, seed=settings.seed, tell=tell)
    others = _known(held_out, state, held_out=True, most=1 << 30, seed=0, tell=tell)
    taught = features_of(
        seen.pixels,
        encoder,
        masked=True,
        path=state / "features" / f"reader-{seen.digest[:16]}-{settings.taught}-{settings.seed}.npz",
        blur_seed=settings.seed,
        on_progress=tell("features of training pictures"),
    )
    asked = features_of(
        others.pixels,
        encoder,
        masked=True,
        path=state / "features" / f"reader-held-out-{others.digest[:16]}-{settings.seed}.npz",
        blur_seed=settings.seed,
        on_progress=tell("features of held-out pictures"),
    )
    network = train_classifier(taught, seen.facts, epochs=settings.epochs, seed=settings.seed, on_progress=tell("reader"))
    answers = network.answer(asked)
    score = _scored(others.facts, network.species, network.actions, answers.species, answers.view, answers.action)
    config = CaptionReaderConfig(
        network.species, network.actions, taught.maps.shape[1], _BACKBONE, sha256_of(weights_folder(_BACKBONE) / MANIFEST)
    )
    tensors = {name: value.half() if value.is_floating_point() else value for name, value in network.state_dict().items()}
    save_model_folder(out, config, tensors=tensors, card=_card(settings, seen, score, command=command))
    return score


def _known(sources: Sequence[Path], state: Path, *, held_out: bool, most: int, seed: int, tell: Tell) -> Known:
    what = "reading held-out pictures" if held_out else "reading training pictures"
    return read_known(sources, state / "pictures", held_out=held_out, size_px=_SIZE_PX, most=most, seed=seed, on_progress=tell(what))


def _scored(
    facts: Sequence[Fact], species: Sequence[str], actions: Sequence[str], said: np.ndarray, view: np.ndarray, action: np.ndarray
) -> ReaderScore:
    off = (view - np.array([fact.view for fact in facts])) % 8
    return ReaderScore(
        len(facts),
        float(np.mean([species[i] == fact.species for i, fact in zip(said, facts, strict=True)])),
        float((off == 0).mean()),
        float(((off == 1) | (off == 7)).mean()),
        float((off == 4).mean()),
        float(np.mean([actions[i] == fact.action for i, fact in zip(action, facts, strict=True)])),
    )


def _card(settings: ReaderSettings, seen: Known, score: ReaderScore, *, command: str) -> str:
    counts = ", ".join(f"{len(seen.of(name))} {name}" for name in seen.species)
    return f"""---
license: apache-2.0
pipeline_tag: image-classification
---

# Caption reader of farm3d

Says of a cut-out animal which species it is, from which of eight sides it is seen, and what it does, in the barn's words. `farm3d generate`
asks it whether a drawn picture shows what its words say. A small head on the frozen EfficientNet-Lite0's maps and the silhouette, trained
on renders of the farm3d barn and their captions: no photograph, no camera, no depth, and none of the animals that figures are measured on.

    {command}

| | |
|---|---|
| pictures | {len(seen)}: {counts} |
| seed, epochs | {settings.seed}, {settings.epochs} |
| torch | {torch.__version__} |
| pictures of held-out animals | {score.pictures} |
| species read rightly | {100 * score.species:.1f} % |
| view read rightly; the next one; the one behind | {100 * score.view:.1f} %; {100 * score.next_view:.1f} %; {100 * score.behind:.1f} % |
| action read rightly | {100 * score.action:.1f} % |

## Limits

Renders of the barn's species. Of photographs and of what Stable Diffusion draws it was asked nothing. Weights: Apache-2.0; the rigs
behind the renders are CC0; the backbone has a card of its own.
"""
