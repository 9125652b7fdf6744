"""The training of a category: steps, checkpoints that go on exactly, and what is told on the way."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import nn

from farm3d.core.errors import InputError, ModelError, NotFiniteError
from farm3d.core.random import numpy_generator, torch_generator
from farm3d.core.shapes import Tensor
from farm3d.geometry.tetrahedra import Crossings
from farm3d.model.category.config import CategoryConfig
from farm3d.model.category.model import CategoryModel
from farm3d.model.category.rest_shape import Scaffold, grid_of, make_scaffold
from farm3d.structures import Skeleton
from farm3d.training.category.pictures import PictureBatch, PictureSet
from farm3d.training.category.ranks import ALONE, Ranks, Share
from farm3d.training.category.schedule import Moment, Schedule, Weights
from farm3d.training.category.step import StepResult, mirrored_hypothesis, reconstruction_step
from farm3d.training.category.virtual_views import Critic
from farm3d.training.checkpoint import Checkpoint, newest_checkpoint, remove_leftovers, save_checkpoint
from farm3d.training.log import TrainingLog

__all__ = ["CategoryTrainer", "Progress", "Run", "digest_of"]

_KIND = "CategoryTraining"
_BETAS = (0.9, 0.99)
_UNSAID = (("config", CategoryConfig("")), ("schedule", Schedule(1)), ("weights", Weights()))
_DEFAULTS = {name: dataclasses.asdict(value) for name, value in _UNSAID}
_TABLE_KEEP = 0.5  # of a hypothesis' earlier cost, when it is drawn again


@dataclass(frozen=True)
class Run:
    """All that decides the result, beside the pictures and the critic.

    Attributes:
        config: of the model.
        schedule, weights: what is on when, and what counts how much.
        seed: of weights, order and chance.
    """

    config: CategoryConfig
    schedule: Schedule
    weights: Weights
    seed: int = 0

    def facts(self, *, pictures: str, critic: str) -> dict[str, Any]:
        """Return it for a checkpoint, with the digests of pictures and critic."""
        values = dataclasses.asdict(self)
        return {**values, "pictures": pictures, "critic": critic, "threads": torch.get_num_threads(), "torch": torch.__version__}


@dataclass(frozen=True)
class Progress:
    """Told after each step: steps done and in all, the step's figures by name, steps a second of this run, seconds left."""

    step: int
    steps: int
    figures: Mapping[str, float]
    steps_per_s: float
    left_s: float


@dataclass
class _Group:
    name: str
    modules: list[nn.Module]
    rate: float
    parameters: list[nn.Parameter] = field(default_factory=list)


class CategoryTrainer:
    """One training in a state folder; begins at the beginning, or where the newest good checkpoint stands.

    Args:
        run: what to train.
        pictures: what on.
        folder: for checkpoints and the log.
        critic: judges virtual views; None trains on the pictures alone.
        should_stop: asked after every step; a true answer ends :meth:`run` with a checkpoint.
        report: told after every step.
        warn: told what is odd but no error.
        start: tensors to begin with, by their names in the model: those of the shape field, in place of the ellipsoid's, or of all of it;
            what is not there begins as ever.
        look: called with the trainer every ``look_every`` steps, and at the end.
        ranks: the processes that train together. The first alone writes, reports, warns and looks; ``should_stop`` must answer all alike.
        device: where it computes. Weights, order and chance come from the CPU, and checkpoints fit any device.

    Raises:
        InputError: the folder holds another training, what to begin with is of other sizes, or there are more processes than pictures in
            a batch.
        ModelError: every checkpoint in it is damaged.
    """

    def __init__(
        self,
        run: Run,
        pictures: PictureSet,
        folder: Path,
        *,
        start: Mapping[str, Tensor] | None = None,
        critic: Critic | None = None,
        should_stop: Callable[[], object] = lambda: None,
        report: Callable[[Progress], None] = lambda progress: None,
        warn: Callable[[str], None] = lambda line: None,
        look: Callable[[CategoryTrainer], None] = lambda trainer: None,
        look_every: int = 1000,
        checkpoint_minutes: float = 10.0,
        ranks: Ranks = ALONE,
        device: torch.device | str = "cpu",
    ) -> None:
        self.settings, self.pictures, self.folder, self.critic, self._ranks = run, pictures, folder, critic, ranks
        if ranks.count > (least := min(run.schedule.batch_early, run.schedule.batch_late)):
            raise InputError(f"{ranks.count} processes for batches of {least} pictures", hint=f"start at most {least}")
        self._should_stop = should_stop
        self._report, self._warn, self._look = (report, warn, look) if ranks.first else (_nothing, _nothing, _nothing)
        self._look_every, self._checkpoint_s = look_every, 60 * checkpoint_minutes
        torch.manual_seed(run.seed)  # the networks' initial weights; nothing else draws from the global stream
        self.device = torch.device(device)
        self.model = CategoryModel(run.config)
        if start is not None:
            self._begin_with(start)
        self.model.to(self.device)
        self.step = 0
        self.hours = 0.0
        self._window: dict[str, list[float]] = {}  # figures of the steps since the log's last line
        # Cost of each hypothesis of each picture (as it is, not mirrored); infinite where it was never drawn.
        self.table = np.full((len(pictures), run.config.hypotheses), np.inf, np.float32)
        self.scaffold: Scaffold | None = None
        model = self.model
        rates = run.schedule
        self._groups = [
            _Group("shape", [model.shape], rates.rate_shape),
            _Group("features", [model.features], rates.rate_features),
            _Group("networks", [model.reader, model.deformation, model.articulation, model.albedo, model.light], rates.rate_networks),
        ]
        for group in self._groups:
            group.parameters = [parameter for module in group.modules for parameter in module.parameters()]
        self._optimizer = torch.optim.Adam([{"params": group.parameters} for group in self._groups], lr=0.0, betas=_BETAS)
        self._facts = run.facts(pictures=pictures.digest, critic="" if critic is None else critic.digest)
        if start is not None:
            self._facts["start"] = digest_of(*(tensor.numpy() for tensor in start.values()))
        if ranks.count > 1:
            self._facts["processes"] = ranks.count
        if self.device.type != "cpu":
            self._facts["device"] = self.device.type
        self._checkpoints = folder / "checkpoints"
        if ranks.first:
            remove_leftovers(self._checkpoints)
        if (checkpoint := newest_checkpoint(self._checkpoints, warn=self._warn, kind=_KIND)) is not None:
            self._take(checkpoint)
        ranks.require_same(json.dumps([self.step, self._facts], sort_keys=True), self.model.state_dict())

    def run(self) -> bool:
        """Train to the end, or until asked to stop; return whether it is finished.

        Raises:
            NotFiniteError: naming step, term and pictures; the checkpoints on disk are good.
            OutputError: the folder cannot be written.
        """
        schedule = self.settings.schedule
        log = TrainingLog(self.folder, step=self.step) if self._ranks.first else None
        begun, first, saved = time.monotonic(), self.step, time.monotonic()
        try:
            while self.step < schedule.steps:
                before = time.monotonic()
                figures = self.one_step()
                now = time.monotonic()
                self.hours += (now - before) / 3600
                for name, value in figures.items():
                    self._window.setdefault(name, []).append(value)
                if self.step % 20 == 0:
                    if log is not None:
                        log.write(self.step, {**{k: float(np.mean(v)) for k, v in self._window.items()}, "hours": round(self.hours, 5)})
                    self._window = {}
                pace = (self.step - first) / max(now - begun, 1e-9)
                self._report(Progress(self.step, schedule.steps, figures, pace, (schedule.steps - self.step) / pace))
                if self._should_stop():
                    self._save()
                    self._ranks.meet()
                    return False
                if self.step % self._look_every == 0 and self.step < schedule.steps:
                    self._look(self)
                if now - saved > self._checkpoint_s:
                    self._save()
                    saved = now
            self._save()
            self._ranks.meet()
            self._look(self)
            return True
        finally:
            if log is not None:
                log.close()

    def one_step(self) -> dict[str, float]:
        """Take one step and return its figures."""
        at = self.settings.schedule.at(self.step)
        seed = self.settings.seed
        batch = self.pictures.batch(self.step, seed=seed, size=at.batch, standing=at.standing)
        if self.scaffold is None or (self.step % self.settings.schedule.renew_every == 0 and not self._stands_still(at)):
            try:
                self.scaffold = make_scaffold(self.model.shape, self.settings.config, cell=at.cell, centred=at.centred)
            except NotFiniteError as error:
                self._refuse(f"the shape: {error}", batch.numbers)
        chosen, counted = (None, None) if at.every_hypothesis else self._chosen(batch.numbers, batch.flipped)
        generator = torch_generator(seed, "step", self.step)
        share = self._ranks.share(len(batch))
        own = batch.part(share.begin, share.end).to(self.device)
        mine = None if chosen is None else chosen[share.begin : share.end]
        counts = None if counted is None else (counted / counted.float().mean().clamp_min(1e-6))[share.begin : share.end]
        result = reconstruction_step(
            self.model, self.scaffold, own, at, self.settings.weights, chosen=mine, counts=counts, generator=generator
        )
        loss, terms = result.loss, dict(result.terms)
        if not share.whole:
            loss, terms = share.weight * loss, {name: share.weight * value for name, value in terms.items()}
        if at.virtual and self.critic is not None and self.settings.weights.virtual > 0:
            schedule = self.settings.schedule
            along = (at.done - schedule.virtual_from) / max((schedule.virtual_until or 1.0) - schedule.virtual_from, 1e-9)
            how = {"generator": generator, "count": schedule.virtual_views, "counted": counted, "share": share, "progress": along}
            try:
                judged = self.critic.judge(self.model, own, result, at, **how)
            except NotFiniteError as error:
                self._refuse(f"the critic: {error}", batch.numbers)
            loss = loss + at.faded(self.settings.weights).virtual * judged.pop("virtual")
            terms |= judged
        figures = self._ranks.totals({**terms, "loss": loss})
        self._update(loss, figures, at, batch.numbers)
        self._remember(result, batch, share)
        self.step += 1
        return figures

    def _begin_with(self, start: Mapping[str, Tensor]) -> None:
        own = self.model.state_dict()
        if other := next((name for name, value in start.items() if name not in own or own[name].shape != value.shape), None):
            raise InputError(
                f"what the training is to begin with does not fit its sizes: {other}",
                hint="leave the sizes of networks, and which parts there are, as they are where it begins; `looks` may be raised",
            )
        self.model.load_state_dict({**own, **start})

    def _stands_still(self, at: Moment) -> bool:
        """Whether surface and bones are as they were found last: the shape is held, and nothing else is asked of them since."""
        schedule = self.settings.schedule
        before = schedule.at(max(self.step - schedule.renew_every, 0))
        return at.shape == before.shape == 0 and (at.cell, at.centred) == (before.cell, before.centred)

    def _chosen(self, numbers: np.ndarray, flipped: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return which hypothesis of each picture to draw, the best by the table or now and then another, and which are the best.

        Where some were never drawn, the first of them counts as the best.
        """
        rng = numpy_generator(self.settings.seed, "explore", self.step)
        costs = self.table[numbers]
        best = np.where(np.isinf(costs).any(1), np.isinf(costs).argmax(1), costs.argmin(1))
        count = costs.shape[1]
        other = rng.integers(count, size=len(numbers))
        picked = np.where(rng.random(len(numbers)) < self.settings.schedule.explore, other, best)
        return torch.from_numpy(mirrored_hypothesis(picked, flipped, count)), torch.from_numpy(picked == best)

    def _remember(self, result: StepResult, batch: PictureBatch, share: Share) -> None:
        now, hypotheses = (self._ranks.joined(share, values).cpu().numpy() for values in (result.choices, result.hypotheses))
        pictures = np.arange(len(batch)).repeat(len(now) // len(batch))
        own = mirrored_hypothesis(hypotheses, batch.flipped[pictures], self.table.shape[1])
        rows = batch.numbers[pictures]
        before = self.table[rows, own]
        self.table[rows, own] = np.where(np.isinf(before), now, _TABLE_KEEP * before + (1 - _TABLE_KEEP) * now)

    def _update(self, loss: Tensor, figures: Mapping[str, float], at: Moment, numbers: np.ndarray) -> None:
        """Change the weights; nothing is changed by what is not finite."""
        for name, value in figures.items():
            self._refuse_nonfinite(value, f"the loss '{name}'", numbers)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._ranks.sum_gradients(parameter for group in self._groups for parameter in group.parameters)
        for group, options in zip(self._groups, self._optimizer.param_groups, strict=True):
            norm = nn.utils.clip_grad_norm_(group.parameters, self.settings.schedule.clip)
            self._refuse_nonfinite(float(norm), f"the gradient of {group.name}", numbers)
            options["lr"] = group.rate * at.rate * (at.shape if group.name == "shape" else 1.0)
        self._optimizer.step()

    def _refuse_nonfinite(self, value: float, what: str, numbers: np.ndarray) -> None:
        if not math.isfinite(value):
            self._refuse(f"{what} is not finite", numbers)

    def _refuse(self, what: str, numbers: np.ndarray) -> NoReturn:
        names = ", ".join(self.pictures.names[int(number)] for number in numbers)
        raise NotFiniteError(
            f"step {self.step}: {what}; pictures {names}",
            hint="nothing was updated, and the checkpoints are good; if it comes again from there, please report it",
        )

    def _save(self) -> None:
        if not self._ranks.first:
            return
        tensors = {f"model/{name}": value for name, value in self.model.state_dict().items()}
        for group in self._groups:
            for number, parameter in enumerate(group.parameters):
                for name, value in self._optimizer.state.get(parameter, {}).items():
                    tensors[f"adam/{group.name}/{number}/{name}"] = value.reshape(-1) if value.ndim == 0 else value
        tensors["table"] = torch.from_numpy(np.where(np.isinf(self.table), -1.0, self.table).astype(np.float32))
        facts: dict[str, Any] = {"settings": _plain(self._facts), "hours": self.hours, "window": self._window}
        if self.scaffold is not None:
            crossings, skeleton = self.scaffold.crossings, self.scaffold.skeleton
            tensors |= {"scaffold/ends": crossings.ends, "scaffold/faces": crossings.faces, "scaffold/mirror": crossings.mirror}
            tensors |= {"scaffold/starts": skeleton.starts, "scaffold/tips": skeleton.ends, "scaffold/centre": skeleton.centre}
            facts["scaffold"] = {"names": skeleton.names, "parents": skeleton.parents, "cell": self.scaffold.cell}
        save_checkpoint(self._checkpoints, Checkpoint(self.step, facts, tensors), kind=_KIND)

    def _take(self, checkpoint: Checkpoint) -> None:
        self._require_same(checkpoint.facts["settings"])
        tensors = checkpoint.tensors
        try:
            self.model.load_state_dict({name[6:]: value for name, value in tensors.items() if name.startswith("model/")})
        except RuntimeError as error:
            raise ModelError(f"checkpoint of step {checkpoint.step}: its tensors do not fit", hint="start a new --state folder") from error
        for group in self._groups:
            for number, parameter in enumerate(group.parameters):
                prefix = f"adam/{group.name}/{number}/"
                state = {name.removeprefix(prefix): value.clone() for name, value in tensors.items() if name.startswith(prefix)}
                if state:
                    count = state.pop("step").reshape(())  # which Adam keeps on the CPU
                    self._optimizer.state[parameter] = {"step": count, **{name: value.to(self.device) for name, value in state.items()}}
        table = tensors["table"].numpy()
        self.table = np.where(table < 0, np.inf, table).astype(np.float32)
        self.step, self.hours = checkpoint.step, float(checkpoint.facts["hours"])
        self._window = {name: list(values) for name, values in checkpoint.facts.get("window", {}).items()}
        if "scaffold" in checkpoint.facts:
            facts = checkpoint.facts["scaffold"]
            cell = float(facts["cell"])
            grid = grid_of(self.settings.config, cell=cell)
            crossings = Crossings(grid, (0.0, 0.0, 0.0), tensors["scaffold/ends"], tensors["scaffold/faces"], tensors["scaffold/mirror"])
            bones = (tensors["scaffold/starts"], tensors["scaffold/tips"], tensors["scaffold/centre"])
            skeleton = Skeleton(tuple(facts["names"]), tuple(facts["parents"]), *bones)
            self.scaffold = Scaffold(crossings, skeleton, cell).to(self.device)

    def _require_same(self, there: Mapping[str, Any]) -> None:
        there, here = ({"processes": 1, "device": "cpu", "start": "", **facts} for facts in (there, _plain(self._facts)))
        for name, value in _plain(_DEFAULTS).items():  # what an earlier version did not know yet was as it is where nothing is said
            there[name] = {**value, **there.get(name, {})}
        for name in here:
            if name in ("threads", "torch", "processes", "device"):
                before, now = there.get(name), here[name]
                if before != now:
                    self._warn(f"{name} was {before} and is {now}: not the numbers of an uninterrupted run to the last digit")
            elif differences := _differences(there.get(name), here[name], name):
                raise InputError(
                    f"the training in the state folder has another {differences[0]}",
                    hint="go on with the same, or choose another --state folder",
                )


def digest_of(*arrays: np.ndarray) -> str:
    """Return the sha256 of arrays, as lower-case hex."""
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(str((array.dtype, array.shape)).encode())
        sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()


def _nothing(_: object) -> None:
    pass


def _plain(values: Any) -> Any:
    """Return JSON's own idea of some values, so that those of a checkpoint compare equal."""
    return json.loads(json.dumps(values))


def _differences(there: Any, here: Any, name: str) -> list[str]:
    if isinstance(there, dict) and isinstance(here, dict):
        return [line for key in {**here, **there} for line in _differences(there.get(key), here.get(key), f"{name}.{key}")]
    return [] if there == here else [f"{name}: {there}, asked for is {here}"]
