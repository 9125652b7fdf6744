"""Training the embedded prior, top to bottom: what is fitted in closed form, three phases, and a state from which it goes on exactly.

Every random draw is a function of seed, phase and step, so the state is: weights, average, optimizer, and where we are.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from farm3d.core.errors import InputError, ModelError, NotFiniteError
from farm3d.core.random import torch_generator
from farm3d.core.shapes import Tensor
from farm3d.diffusion.embedded.config import PRESETS
from farm3d.diffusion.embedded.parts import EmbeddedParts, build_parts, copy_parts, tensors_of
from farm3d.diffusion.embedded.tokenizer import WordTokenizer
from farm3d.training.checkpoint import Checkpoint, newest_checkpoint, remove_leftovers, save_checkpoint
from farm3d.training.log import TrainingLog
from farm3d.training.prior.batches import Batches
from farm3d.training.prior.flat_weights import FlatWeights
from farm3d.training.prior.losses import decoder_loss, denoiser_loss, words_loss
from farm3d.training.prior.picture_cache import PictureCache
from farm3d.training.prior.schedule import CONTINUED, PHASES, Phase, average_keep, learning_rate
from farm3d.training.prior.settings import Settings, check_unchanged
from farm3d.training.prior.sheets import draw_sheet, grid_prompts
from farm3d.training.prior.validation import prior_of, validation_losses
from farm3d.training.prior.words import vocabulary_captions

__all__ = ["Progress", "Trainer"]

_CLIP = 1.0
_HALVES = 2  # of a batch
_RATES = {"denoiser": {"text": 0.25}}  # its mean pictures are learned already, and from larger batches
_AVERAGE_EVERY = 4
_FIT_PICTURES, _SPREAD_PICTURES = 1024, 2048
_LOSSES = {"words": words_loss, "decoder": decoder_loss, "denoiser": denoiser_loss}


@dataclass(frozen=True)
class Progress:
    """Where training is.

    Attributes:
        phase: its name and number of all, e.g. "denoiser (3 of 3)".
        done: share of the phase.
        step: in the phase.
        loss: of the last step.
        pictures_per_s: over the last steps of this run.
        left_s: seconds to the end of the phase at this pace, or None where it is not known yet.
    """

    phase: str
    done: float
    step: int
    loss: float
    pictures_per_s: float
    left_s: float | None


@dataclass
class _Position:
    phase: int = 0
    step: int = 0  # in the phase
    total: int = 0
    seconds: float = 0.0  # in the phase
    hours: float = 0.0  # in all
    shown: int = 0  # pictures, to the denoiser
    window: dict[str, float] = field(default_factory=dict)  # sums since the last line of the log


class Trainer:
    """One training in a state folder; begins at the beginning, or where the newest good checkpoint stands.

    Args:
        settings: what to train.
        pictures: what on.
        folder: for checkpoints, log and sample grids.
        start: parts to go on from, of ``settings.size``, which are left as they are; their words, transform, decoder and statistics are
            kept, and the last phase alone is trained. ``settings.start`` names them.
        should_stop: asked after every step; a true answer ends :meth:`run` with a checkpoint.
        report: told the progress after every step.
        warn: told what is odd but no error.

    Raises:
        InputError: the folder holds another training, or ``start`` is of another size.
        ModelError: every checkpoint in it is damaged.
    """

    def __init__(
        self,
        settings: Settings,
        pictures: PictureCache,
        folder: Path,
        *,
        start: EmbeddedParts | None = None,
        should_stop: Callable[[], object] = lambda: None,
        report: Callable[[Progress], None] = lambda progress: None,
        warn: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.settings, self.pictures, self.folder = settings, pictures, folder
        self._should_stop, self._report, self._warn = should_stop, report, warn
        self._checkpoints = folder / "checkpoints"
        self._facts = settings.facts(pictures=pictures.digest)
        if (start is None) != (settings.start is None):
            raise ValueError("a model to go on from, and its digest in the settings: expected both or neither")
        self._phases = PHASES if start is None else CONTINUED
        self.parts: EmbeddedParts = self._new_parts() if start is None else _parts_like(start, settings)
        self.figures: dict[str, float] = {}
        self._at = _Position()
        self._resumed: dict[str, Tensor] = {}
        remove_leftovers(self._checkpoints)
        if (checkpoint := newest_checkpoint(self._checkpoints, warn=warn)) is not None:
            self._take(checkpoint)
        self._saved_at = self._looked_at = time.monotonic()

    @property
    def hours(self) -> float:
        """Hours of training so far, over all runs."""
        return self._at.hours

    @property
    def steps(self) -> int:
        """Steps taken, over all phases and runs."""
        return self._at.total

    @property
    def shown(self) -> int:
        """Pictures shown to the denoiser, over all runs."""
        return self._at.shown

    def run(self) -> bool:
        """Train to the end of the budget, or until asked to stop.

        Returns:
            Whether it is finished; then ``parts`` are the trained ones, and ``figures`` the last validation.

        Raises:
            NotFiniteError: naming step, term and pictures; the checkpoints on disk are good.
            OutputError: the state folder cannot be written.
        """
        log = TrainingLog(self.folder, step=self._at.total)
        threads = torch.get_num_threads()
        each = max(threads // self.settings.workers, 1)
        self._pool = ThreadPoolExecutor(self.settings.workers, initializer=lambda: torch.set_num_threads(each))
        try:
            if self._at.total == 0 and self._phases is PHASES:
                self._fit_transform()
            while self._at.phase < len(self._phases):
                phase = self._phases[self._at.phase]
                if not self._run_phase(phase, log):
                    return False
                self._at = _Position(self._at.phase + 1, total=self._at.total, hours=self._at.hours, shown=self._at.shown)
                if self._at.phase == len(self._phases):
                    log.write(self._at.total, {"phase": "validation", **self._validated()})
                self._save(None)
            self.figures = self._validated()
            return True
        finally:
            self._pool.shutdown()
            torch.set_num_threads(threads)
            log.close()

    def _run_phase(self, phase: Phase, log: TrainingLog) -> bool:
        if phase.name == "denoiser" and self._at.step == 0 and self._phases is PHASES:
            self._fit_spread()
        weights = FlatWeights(self._trained(phase), dtypes={"network": self.settings.dtype}, rates=_RATES.get(phase.name))
        if self._resumed:
            weights.load_state({name: value for name, value in self._resumed.items() if "/" not in name})
            self._resumed = {}
        batches = Batches(self.pictures, seed=self.settings.seed, phase=phase.name, batch=phase.batch)
        begun, first = time.monotonic(), self._at.step
        clock = begun
        while (progress := self.settings.budget.progress(phase, step=self._at.step, seconds=self._at.seconds)) < 1:
            loss = self._step(phase, batches, weights, progress)
            now = time.monotonic()
            self._at.seconds += now - clock
            self._at.hours += (now - clock) / 3600
            clock = now
            pace = (self._at.step - first) / max(now - begun, 1e-9)
            if self._at.step % self.settings.log_every == 0:
                self._write_line(phase, log, pace)
            self._report(self._progress(phase, loss, pace))
            if self._should_stop():
                self._save(weights)
                return False
            if now - self._saved_at > 60 * self.settings.checkpoint_minutes:
                self._save(weights)
            if phase.name == "denoiser" and now - self._looked_at > 60 * self.settings.grid_minutes:
                self._look(weights, log)
        if self._at.window:
            self._write_line(phase, log, (self._at.step - first) / max(time.monotonic() - begun, 1e-9))
        weights.settle()
        return True

    def _step(self, phase: Phase, batches: Batches, weights: FlatWeights, progress: float) -> float:
        """Take one step of a phase. Nothing is changed by a loss or a gradient that is not finite."""
        weights.clear_gradient()
        halves = list(self._pool.map(lambda half: self._half(phase, batches, half), range(_HALVES)))
        terms = {name: sum(half[name] for half, _ in halves) / _HALVES for name in halves[0][0]}
        numbers = [number for _, some in halves for number in some]
        for name, value in terms.items():
            self._refuse_nonfinite(value, f"the loss '{name}'", phase, numbers)
        norm = weights.gather_gradient()
        if not bool(torch.isfinite(norm)):
            self._refuse_nonfinite(float(norm), f"the gradient of {weights.name_of_nonfinite()}", phase, numbers)
        rate = learning_rate(phase, step=self._at.step, progress=progress)
        weights.step(rate=rate, norm=norm, clip=_CLIP)
        self._at.step += 1
        self._at.total += 1
        self._at.shown += phase.batch if phase.name == "denoiser" else 0
        if self._at.step % _AVERAGE_EVERY == 0:
            weights.follow(average_keep(self._at.step, every=_AVERAGE_EVERY))
        for name, value in {**terms, "gradient": float(norm), "rate": rate, "steps": 1}.items():
            self._at.window[name] = self._at.window.get(name, 0.0) + value
        return sum(terms.values())

    def _half(self, phase: Phase, batches: Batches, half: int) -> tuple[dict[str, float], list[int]]:
        """Add the gradient of one half of a batch; return its losses and its pictures.

        Two halves may be at work at once: torch lets one add to a gradient at a time, and a sum of two does not depend on which came
        first, so the result does not depend on how many workers there are.
        """
        batch = batches.at(self._at.step, part=half, parts=_HALVES)
        generator = torch_generator(self.settings.seed, phase.name, "step", self._at.step, half)
        terms = _LOSSES[phase.name](self.parts, batch, generator)
        (torch.stack(list(terms.values())).sum() / _HALVES).backward()
        return {name: float(value.detach()) for name, value in terms.items()}, batch.numbers

    def _refuse_nonfinite(self, value: float, what: str, phase: Phase, numbers: list[int]) -> None:
        if not math.isfinite(value):
            raise NotFiniteError(
                f"{phase.name}, step {self._at.step}: {what} is not finite; pictures {', '.join(map(str, numbers))}",
                hint="nothing was updated, and the checkpoints are good; if it comes again from there, please report it",
            )

    def _new_parts(self) -> EmbeddedParts:
        config = PRESETS[self.settings.size]
        captions = [sentence for caption in self.pictures.captions for sentence in caption.words] + vocabulary_captions()
        tokenizer = WordTokenizer.of_captions(captions, buckets=config.text.buckets, max_words=config.text.max_words)
        return build_parts(config, tokenizer, seed=self.settings.seed)

    def _fit_transform(self) -> None:
        batches = Batches(self.pictures, seed=self.settings.seed, phase="transform", batch=_FIT_PICTURES)
        batch = batches.at(0)
        self.parts.decoder.transform.fit(batch.rgb, batch.alpha)

    @torch.no_grad()
    def _fit_spread(self) -> None:
        """Take the variance of latents about their mean pictures, for prompts as they come in training."""
        batches = Batches(self.pictures, seed=self.settings.seed, phase="spread", batch=64)
        left = []
        for step in range(_SPREAD_PICTURES // 64):
            batch = batches.at(step)
            _, mean = self.parts.text(self.parts.tokenizer(batch.prompts))
            left.append(self.parts.decoder.transform.encode(batch.rgb, batch.alpha) - mean)
        self.parts.denoiser.wiener.fit(torch.cat(left))

    def _trained(self, phase: Phase) -> dict[str, nn.Module]:
        return {
            "words": {"text": self.parts.text},
            "decoder": {"decoder": self.parts.decoder},
            "denoiser": {"text": self.parts.text, "network": self.parts.denoiser.network},
        }[phase.name]

    def _write_line(self, phase: Phase, log: TrainingLog, pace: float) -> None:
        """Write the means since the last line."""
        count = self._at.window.pop("steps")
        line: dict[str, Any] = {"phase": phase.name, "pictures": self._at.step * phase.batch}
        line |= {name: total / count for name, total in self._at.window.items()}
        log.write(self._at.total, {**line, "hours": round(self._at.hours, 5), "pictures_per_s": round(pace * phase.batch, 2)})
        self._at.window = {}

    def _validated(self) -> dict[str, float]:
        return validation_losses(self.parts, self.pictures, seed=self.settings.seed)

    def _look(self, weights: FlatWeights, log: TrainingLog) -> None:
        """Validate and draw with the averaged weights."""
        with weights.averaged():
            figures = self._validated()
            prior = prior_of(self.parts, dtype=self.settings.dtype)
        log.write(self._at.total, {"phase": "validation", **figures})
        path = self.folder / "samples" / f"step-{self._at.total:08d}.png"
        draw_sheet(prior, path, rows=[grid_prompts(name) for name in self.pictures.species], should_stop=self._should_stop)
        self._looked_at = time.monotonic()

    def _progress(self, phase: Phase, loss: float, pace: float) -> Progress:
        budget = self.settings.budget
        steps = budget.steps(phase)
        done = budget.progress(phase, step=self._at.step, seconds=self._at.seconds)
        if steps is None:
            left = (budget.hours or 0.0) * 3600 * phase.share - self._at.seconds
        else:
            left = (steps - self._at.step) / pace if pace > 0 else None
        name = f"{phase.name} ({self._at.phase + 1} of {len(self._phases)})"
        return Progress(name, done, self._at.step, loss, pace * phase.batch, left)

    def _save(self, weights: FlatWeights | None) -> None:
        """Write a checkpoint: of the parts in training the flat vectors, of the others the tensors themselves."""
        tensors = tensors_of(self.parts)
        if weights is not None:
            trained = {
                id(parameter) for module in self._trained(self._phases[self._at.phase]).values() for parameter in module.parameters()
            }
            for part, module in self.parts.modules().items():
                for name, parameter in module.named_parameters():
                    if id(parameter) in trained:
                        del tensors[f"{part}/{name}"]
            tensors.update(weights.state())
        at = self._at
        facts = {"settings": self._facts, "position": dataclasses.asdict(at)}
        save_checkpoint(self._checkpoints, Checkpoint(at.total, facts, tensors))
        self._saved_at = time.monotonic()

    def _take(self, checkpoint: Checkpoint) -> None:
        check_unchanged(checkpoint.facts["settings"], self._facts, warn=self._warn)
        self._at = _Position(**checkpoint.facts["position"])
        self._resumed = dict(checkpoint.tensors) if "master" in checkpoint.tensors else {}
        here = tensors_of(self.parts)
        for name, value in checkpoint.tensors.items():
            if "/" in name:
                if name not in here or here[name].shape != value.shape:
                    raise ModelError(
                        f"checkpoint of step {checkpoint.step}: tensor '{name}' does not fit", hint="start a new --state folder"
                    )
                here[name].copy_(value)


def _parts_like(start: EmbeddedParts, settings: Settings) -> EmbeddedParts:
    """Return a copy of the parts to go on from.

    Raises:
        InputError: they are of another size than the settings say.
    """
    wanted = PRESETS[settings.size]
    if (start.denoiser.config, start.decoder.transform.config) != (wanted.network, wanted.latents):
        raise InputError(f"the model to go on from is not of size '{settings.size}'", hint="give the --size that it was trained with")
    return copy_parts(start)
