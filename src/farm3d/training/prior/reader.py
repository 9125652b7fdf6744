"""Training the caption reader on the barn's pictures and captions, and saying how well it reads those of other animals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from farm3d.core.errors import InputError
from farm3d.core.files import sha256_of
from farm3d.core.sealed import MANIFEST
from farm3d.model.caption_reader import CaptionReaderConfig
from farm3d.model.encoder import Encoder
from farm3d.model.folder import save_model_folder, weights_folder
from farm3d.training.prior.score.classifier import train_classifier
from farm3d.training.prior.score.features import Features, features_of
from farm3d.training.prior.score.known import Known, read_known
from farm3d.training.prior.score.obeyed import obeyed

__all__ = ["ReaderSettings", "train_reader"]

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


def train_reader(
    settings: ReaderSettings,
    *,
    training: Sequence[Path],
    held_out: Sequence[Path],
    state: Path,
    out: Path,
    command: str,
    tell: Tell = lambda what: lambda done, total: None,
) -> dict[str, Any]:
    """Train a reader, write its model folder, and return how well it reads pictures of other animals, as :func:`obeyed` tells it.

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

    def features(known: Known, name: str, what: str) -> Features:
        path = state / "features" / f"{name}-{known.digest[:16]}-{settings.seed}.npz"
        return features_of(known.pixels, encoder, masked=True, path=path, blur_seed=settings.seed, on_progress=tell(f"features of {what}"))

    taught = features(seen, "reader", "training pictures")
    asked = features(others, "reader-held-out", "held-out pictures")
    network = train_classifier(taught, seen.facts, epochs=settings.epochs, seed=settings.seed, on_progress=tell("reader"))
    score = obeyed(network, network.answer(asked), others.facts)
    config = CaptionReaderConfig(
        network.species, network.actions, taught.maps.shape[1], _BACKBONE, sha256_of(weights_folder(_BACKBONE) / MANIFEST)
    )
    tensors = {name: value.half() if value.is_floating_point() else value for name, value in network.state_dict().items()}
    save_model_folder(out, config, tensors=tensors, card=_card(settings, seen, score, command=command))
    return score


def _known(sources: Sequence[Path], state: Path, *, held_out: bool, most: int, seed: int, tell: Tell) -> Known:
    what = "reading held-out pictures" if held_out else "reading training pictures"
    return read_known(sources, state / "pictures", held_out=held_out, size_px=_SIZE_PX, most=most, seed=seed, on_progress=tell(what))


def _card(settings: ReaderSettings, seen: Known, score: dict[str, Any], *, command: str) -> str:
    right = {name: f"{100 * score[name]['share']:.1f} %" for name in ("species", "view", "adjacent", "opposite", "action")}
    counts = ", ".join(f"{len(seen.of(name))} {name}" for name in seen.species)
    return f"""---
license: apache-2.0
pipeline_tag: image-classification
---

# Caption reader of farm3d

Says of a cut-out animal which species it is, from which of eight sides it is seen, and what it does, in the barn's words. `farm3d generate`
and `create` ask it whether a drawn picture shows what its words say, and `reconstruct` from which side a picture was taken, where a learned
category has several answers. A small head on the frozen EfficientNet-Lite0's maps and the silhouette, trained
on renders of the farm3d barn and their captions: no photograph, no camera, no depth, and none of the animals that figures are measured on.

    {command}

| | |
|---|---|
| pictures | {len(seen)}: {counts} |
| seed, epochs | {settings.seed}, {settings.epochs} |
| torch | {torch.__version__} |
| pictures of held-out animals | {score["n"]} |
| species read rightly | {right["species"]} |
| view read rightly; the next one; the one behind | {right["view"]}; {right["adjacent"]}; {right["opposite"]} |
| action read rightly | {right["action"]} |

## Limits

It was shown renders of the barn's species. On photographs it knows left from right, and front from rear less well; of the species it is
often wrong there (docs/experiments.md). What Stable Diffusion draws it was not tried on. Weights: Apache-2.0; the rigs
behind the renders are CC0; the backbone has a card of its own.
"""
