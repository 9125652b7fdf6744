"""A small judge of species, view and action on the frozen backbone's features, trained on the barn's truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from farm3d.core.files import write_whole
from farm3d.core.random import numpy_generator, torch_generator
from farm3d.core.shapes import Tensor
from farm3d.core.tensor_bytes import bytes_from_tensors, tensors_from_bytes
from farm3d.model.caption_reader import VIEW_COUNT, AttributeNetwork
from farm3d.training.prior.score.features import Features
from farm3d.training.prior.score.known import Fact

__all__ = ["VIEW_COUNT", "Answers", "Classifier", "mirrored_view", "train_classifier"]

_BATCH, _RATE, _DECAY, _SMOOTHING = 64, 2e-3, 0.02, 0.05
_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class Answers:
    """What the classifier says of N pictures: numbers of species, view and action, ``[N]`` each."""

    species: np.ndarray
    view: np.ndarray
    action: np.ndarray


def mirrored_view(view: int) -> int:
    """Return the view of the picture turned over left to right."""
    return -view % VIEW_COUNT


class Classifier(AttributeNetwork):
    """The network of the caption reader, asked for its likeliest words."""

    @torch.no_grad()
    def answer(self, features: Features) -> Answers:
        """Return what it says of pictures."""
        self.eval()
        parts: list[list[np.ndarray]] = [[], [], []]
        for begin in range(0, len(features), _AT_ONCE):
            maps, masks = _tensors(features, np.arange(begin, min(begin + _AT_ONCE, len(features))))
            for part, logits in zip(parts, self(maps, masks), strict=True):
                part.append(logits.argmax(1).numpy())
        species, view, action = (np.concatenate(part) for part in parts)
        return Answers(species, view, action)


def train_classifier(
    features: Features,
    facts: Sequence[Fact],
    *,
    path: Path | None = None,
    epochs: int = 16,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> Classifier:
    """Train on pictures with their facts and on their mirror images, or read what was trained before.

    Args:
        features, facts: of N pictures.
        path: ``NAME.safetensors`` to read from or write to; None keeps nothing.
        epochs: times that every picture is shown.
        seed: of weights, order and mirroring.
        on_progress: told how many epochs are done, and of how many.
    """
    species, actions = sorted({fact.species for fact in facts}), sorted({fact.action for fact in facts})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(numpy_generator(seed, "classifier").integers(2**31)))
        model = Classifier(features.maps.shape[1], species, actions)
        if path is not None and path.is_file():
            model.load_state_dict(tensors_from_bytes(path.read_bytes(), where=str(path)))
            return model
        _fit(model, features, facts, epochs=epochs, seed=seed, tell=on_progress)
    if path is not None:
        write_whole(path, bytes_from_tensors(model.state_dict(), where="classifier"))
    return model


def _fit(
    model: Classifier, features: Features, facts: Sequence[Fact], *, epochs: int, seed: int, tell: Callable[[int, int], None] | None
) -> None:
    some = features.maps[:: -(-len(features) // 2000)].astype(np.float32)
    model.mean.copy_(torch.from_numpy(some.mean((0, 2, 3))))
    model.spread.copy_(torch.from_numpy(some.std((0, 2, 3))).clamp_min(1e-4))
    truth = torch.tensor([[model.species.index(fact.species), fact.view, model.actions.index(fact.action)] for fact in facts])
    optimizer = torch.optim.AdamW(model.parameters(), lr=_RATE, weight_decay=_DECAY)
    steps = -(-len(features) // _BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=epochs * steps, pct_start=0.1)
    flips = torch_generator(seed, "classifier", "flips")
    for epoch in range(epochs):
        model.train()
        order = numpy_generator(seed, "classifier", "epoch", epoch).permutation(len(features))
        for begin in range(0, len(order), _BATCH):
            numbers = np.sort(order[begin : begin + _BATCH])
            maps, masks = _tensors(features, numbers)
            wanted = truth[torch.from_numpy(numbers)]
            flip = torch.rand(len(numbers), generator=flips) < 0.5
            maps = torch.where(flip[:, None, None, None], maps.flip(-1), maps)
            masks = torch.where(flip[:, None, None], masks.flip(-1), masks)
            view = torch.where(flip, -wanted[:, 1] % VIEW_COUNT, wanted[:, 1])
            targets = (wanted[:, 0], view, wanted[:, 2])
            answers = model(maps, masks)
            losses = [
                functional.cross_entropy(answer, target, label_smoothing=_SMOOTHING)
                for answer, target in zip(answers, targets, strict=True)
            ]
            optimizer.zero_grad()
            torch.stack(losses).sum().backward()
            optimizer.step()
            schedule.step()
        if tell is not None:
            tell(epoch + 1, epochs)
    model.eval()


def _tensors(features: Features, numbers: np.ndarray) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(features.maps[numbers]).float(), torch.from_numpy(features.masks[numbers]).float()
