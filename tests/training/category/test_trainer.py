"""Learning a category: it gets better, goes on exactly after a kill, and stops before what is not finite."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.testing.toy_category import toy_pictures

from farm3d.core.errors import InputError, NotFiniteError
from farm3d.core.random import torch_generator
from farm3d.model.category.config import CategoryConfig
from farm3d.model.category.model import CategoryModel
from farm3d.training.category.pictures import PictureBatch
from farm3d.training.category.schedule import Schedule, Weights
from farm3d.training.category.step import reconstruction_step
from farm3d.training.category.trainer import CategoryTrainer, Run
from farm3d.training.checkpoint import Checkpoint, newest_checkpoint, save_checkpoint

REPOSITORY = str(Path(__file__).resolve().parents[3])
SCHEDULE = Schedule(
    12,
    batch_early=2,
    batch_late=3,
    size_early=32,
    size_late=48,
    cell_early=0.4,
    cell_late=0.35,
    renew_every=3,
    uniform_steps=2,
    virtual_from=2.0,
)


def run_of(**changes: object) -> Run:
    config = CategoryConfig("toy", channels=16, feature_channels=8, code=24, local=12, sdf_hidden=32, sdf_layers=2, bone_width=32)
    return Run(config, dataclasses.replace(SCHEDULE, **changes), Weights(view_words=0.3))  # pyright: ignore[reportArgumentType]


def state_of(trainer: CategoryTrainer) -> dict[str, torch.Tensor]:
    return {**trainer.model.state_dict(), "table": torch.from_numpy(trainer.table)}


def same(one: CategoryTrainer, other: CategoryTrainer) -> bool:
    theirs = state_of(other)
    return all(torch.equal(value, theirs[name]) for name, value in state_of(one).items())


def lines_of(folder: Path) -> list[dict]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "hours"} for line in lines]


def test_outlines_get_better(tmp_path: Path) -> None:
    told = []
    run = run_of(steps=60, uniform_steps=5, rate_shape=3e-3, size_late=32, table_from=0.7)
    trainer = CategoryTrainer(run, toy_pictures(), tmp_path, report=told.append)
    assert trainer.run()
    begin, end = (np.mean([progress.figures["iou"] for progress in told[part]]) for part in (slice(0, 8), slice(-8, None)))
    assert end > begin + 0.05
    assert [line["step"] for line in lines_of(tmp_path)] == [20, 40, 60]
    assert told[-1].left_s == 0 and np.isfinite(trainer.table).any()
    pytest.importorskip("tensorboard", reason="tensorboard is not installed: pip install 'farm3d[log]'")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    for name in ("loss", "iou"):
        lines = {line["step"]: line[name] for line in lines_of(tmp_path)}
        assert {event.step: event.value for event in board.Scalars(f"training/{name}")} == pytest.approx(lines, rel=1e-5)


_KILLED = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path.insert(0, {repository!r})
from tests.testing.toy_category import toy_pictures
from tests.training.category.test_trainer import run_of
from farm3d.training.category.trainer import CategoryTrainer
def report(progress):
    if progress.step == {die}:
        os.kill(os.getpid(), signal.SIGKILL)
CategoryTrainer(run_of(), toy_pictures(), Path({folder!r}), report=report, checkpoint_minutes=0.0).run()
"""


def test_killed_it_ends_at_the_same_bits(tmp_path: Path) -> None:
    """kill -9 after any step, also between two looks at the surface: equal weights, table and log."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        whole = CategoryTrainer(run_of(), toy_pictures(), tmp_path / "whole")
        assert whole.run()
        for die in (2, 5, 9):
            program = _KILLED.format(repository=REPOSITORY, die=die, folder=str(tmp_path / "killed"))
            done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, env={**os.environ})
            assert done.returncode == -signal.SIGKILL, done.stderr
        last = CategoryTrainer(run_of(), toy_pictures(), tmp_path / "killed")
        assert last.step == 8
        assert last.run() and same(last, whole)
        assert lines_of(last.folder) == lines_of(whole.folder)
    finally:
        torch.set_num_threads(threads)


def test_asked_to_stop_it_saves(tmp_path: Path) -> None:
    first = CategoryTrainer(run_of(), toy_pictures(), tmp_path, should_stop=lambda: first.step == 7)
    assert not first.run() and first.step == 7
    second = CategoryTrainer(run_of(), toy_pictures(), tmp_path)
    assert second.step == 7 and same(first, second)


def test_the_log_goes_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    """A line is the mean of twenty steps, also of those before a stop."""
    run = run_of(steps=21, size_late=32, table_from=0.2)
    whole = CategoryTrainer(run, toy_pictures(), tmp_path / "whole")
    assert whole.run()
    first = CategoryTrainer(run, toy_pictures(), tmp_path / "cut", should_stop=lambda: first.step == 7)
    assert not first.run()
    assert CategoryTrainer(run, toy_pictures(), tmp_path / "cut").run()
    assert lines_of(tmp_path / "cut") == lines_of(tmp_path / "whole") and len(lines_of(tmp_path / "cut")) == 1


def test_what_is_not_finite_stops_before_the_update(tmp_path: Path) -> None:
    trainer = CategoryTrainer(run_of(), toy_pictures(), tmp_path)
    trainer.one_step()
    before = {name: value.clone() for name, value in state_of(trainer).items()}
    trainer.model.features.mlp.first.bias.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(NotFiniteError, match=r"step 1: the gradient of features is not finite; pictures toy-\d+, toy-\d+"):
        trainer.one_step()
    assert all(torch.equal(before[name], value) for name, value in state_of(trainer).items())


TERMS = (
    *("mask", "missing", "thin", "gap", "feature", "score"),
    *("eikonal", "view", "volume", "ripple", "articulation", "deformation", "colour"),
)
MODULES = ("shape", "features", "reader", "deformation", "articulation", "albedo", "light")
BROKEN = (
    *(("term", name, value) for name in TERMS for value in ("nan", "inf")),
    *(("gradient", name, value) for name in MODULES for value in ("nan", "inf")),
    *(("weight", name, value) for name in MODULES for value in ("nan", "inf")),
    *(("picture", name, value) for name in ("features", "scale") for value in ("nan", "inf")),
)


@pytest.fixture(scope="module")
def all_on(tmp_path_factory: pytest.TempPathFactory) -> CategoryTrainer:
    """A training with every loss switched on, after three steps."""
    everything = {"articulation_from": 0.0, "colour_from": 0.0, "deformation_from": 0.0, "words_until": 1.0}
    run = dataclasses.replace(run_of(**everything), weights=Weights(view_words=0.3, view=1.0, volume=0.02, thin=1.0, gap=1.0, ripple=0.1))
    trainer = CategoryTrainer(run, toy_pictures(), tmp_path_factory.mktemp("all on"))
    for _ in range(3):
        trainer.one_step()
    return trainer


@pytest.mark.parametrize(("what", "name", "value"), BROKEN)
@pytest.mark.parametrize("later", [0, 1], ids=["renewed", "kept"])  # a step that looks for the surface anew, and one that does not
def test_wherever_it_breaks_it_stops_before_the_update(
    all_on: CategoryTrainer, what: str, name: str, value: str, later: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, trainer, step = float(value), all_on, 3 + later
    monkeypatch.setattr(trainer, "step", step)
    before = {key: tensor.clone() for key, tensor in state_of(trainer).items()}
    if what == "term":
        weights = dataclasses.replace(trainer.settings.weights, **{name: bad})
        monkeypatch.setattr(trainer, "settings", dataclasses.replace(trainer.settings, weights=weights))
    elif what == "picture":
        broken = getattr(trainer.pictures, name).copy()
        broken[:] = bad if name == "features" else 0.0
        monkeypatch.setattr(trainer, "pictures", dataclasses.replace(trainer.pictures, **{name: broken}))
    parameter = next(getattr(trainer.model, name).parameters()) if what in ("gradient", "weight") else None
    hook = parameter.register_hook(lambda gradient: gradient * bad) if parameter is not None and what == "gradient" else None
    if parameter is not None and what == "weight":
        with torch.no_grad():
            parameter.view(-1)[0] = bad
    try:
        with (
            np.errstate(divide="ignore"),
            pytest.raises(NotFiniteError, match=rf"^step {step}: .* not finite.*; pictures toy-\d+") as raised,
        ):
            trainer.one_step()
    finally:
        if hook is not None:
            hook.remove()
        if parameter is not None and what == "weight":
            key = next(key for key, tensor in trainer.model.state_dict().items() if tensor.data_ptr() == parameter.data_ptr())
            with torch.no_grad():
                parameter.copy_(before[key])
    assert raised.value.exit_code == 3 and trainer.step == step
    assert all(torch.equal(before[key], tensor) for key, tensor in state_of(trainer).items())


def test_another_training_in_the_folder_is_refused(tmp_path: Path) -> None:
    first = CategoryTrainer(run_of(), toy_pictures(), tmp_path, should_stop=lambda: True)
    first.run()
    with pytest.raises(InputError, match=r"another schedule.steps: 12, asked for is 13"):
        CategoryTrainer(run_of(steps=13), toy_pictures(), tmp_path)


def test_a_training_of_an_earlier_version_goes_on_if_its_settings_are_the_same(tmp_path: Path) -> None:
    """Settings that it did not know are as they are where nothing is said; one that there is no more is named."""
    first = CategoryTrainer(run_of(), toy_pictures(), tmp_path, should_stop=lambda: True)
    first.run()
    newest = newest_checkpoint(tmp_path / "checkpoints", warn=print, kind="CategoryTraining")
    assert newest is not None
    facts = json.loads(json.dumps(newest.facts))
    del facts["settings"]["config"]["sdf_fall"], facts["settings"]["weights"]["volume"]
    save_checkpoint(tmp_path / "checkpoints", Checkpoint(1, facts, newest.tensors), kind="CategoryTraining")
    assert same(CategoryTrainer(run_of(), toy_pictures(), tmp_path), first)
    other = run_of()
    with pytest.raises(InputError, match=r"another config.sdf_fall: 0.0, asked for is 0.5"):
        CategoryTrainer(dataclasses.replace(other, config=dataclasses.replace(other.config, sdf_fall=0.5)), toy_pictures(), tmp_path)
    facts["settings"]["weights"]["gone"] = 2.0
    save_checkpoint(tmp_path / "checkpoints", Checkpoint(1, facts, newest.tensors), kind="CategoryTraining")
    with pytest.raises(InputError, match=r"another weights.gone: 2.0, asked for is None"):
        CategoryTrainer(run_of(), toy_pictures(), tmp_path)


def test_a_shape_that_is_begun_with_is_held_until_views_are_found(tmp_path: Path) -> None:
    torch.manual_seed(5)
    given = CategoryModel(run_of().config).shape.state_dict()
    run, start = run_of(shape_from=0.25), {f"shape.{name}": value for name, value in given.items()}
    trainer = CategoryTrainer(run, toy_pictures(), tmp_path / "one", start=start)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    for _ in range(4):  # of 12: the rate is 0 up to a quarter, and rises after it
        trainer.one_step()
    assert all(torch.equal(value, given[name]) for name, value in trainer.model.shape.state_dict().items())
    assert any(not torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items() if name.startswith("reader."))
    trainer.one_step()
    assert any(not torch.equal(value, given[name]) for name, value in trainer.model.shape.state_dict().items())
    stopped = CategoryTrainer(run, toy_pictures(), tmp_path / "two", start=start, should_stop=lambda: stopped.step == 5)
    assert not stopped.run() and same(stopped, trainer)
    with pytest.raises(InputError, match="another start"):
        CategoryTrainer(run, toy_pictures(), tmp_path / "two")
    gone_on = CategoryTrainer(run, toy_pictures(), tmp_path / "two", start=start)
    assert same(gone_on, trainer)


def test_bones_of_a_shape_that_is_held_are_found_again_only_when_they_are_asked_for_otherwise(tmp_path: Path) -> None:
    run = run_of(shape_from=1.0, centred_from=0.5, cell_from=1.0, renew_every=2)
    trainer = CategoryTrainer(run, toy_pictures(), tmp_path)
    found = []
    for _ in range(12):
        trainer.one_step()
        found.append(trainer.scaffold)
    renewed = [step for step in range(1, 12) if found[step] is not found[step - 1]]
    assert renewed == [6]  # in the middle of limbs, from half of the run on


def test_another_hypothesis_than_the_best_teaches_nothing(tmp_path: Path) -> None:
    """It is drawn to see what it costs; the loss is that of the pictures whose best hypothesis was drawn."""
    trainer = CategoryTrainer(run_of(explore=1.0, table_from=0.0), toy_pictures(), tmp_path)
    trainer.one_step()
    trainer.table[:] = np.arange(trainer.table.shape[1])  # the first is the best of every picture
    chosen, counted = trainer._chosen(np.arange(24), np.zeros(24, bool))
    assert torch.equal(counted, chosen == 0) and 0 < int(counted.sum()) < 24
    batch, at = trainer.pictures.take(np.arange(3), np.zeros(3, bool)), trainer.settings.schedule.at(1)

    def terms(part: PictureBatch, chosen: list[int], counts: list[float] | None) -> dict[str, float]:
        told = {"chosen": torch.tensor(chosen), "counts": None if counts is None else torch.tensor(counts)}
        assert trainer.scaffold is not None
        made = reconstruction_step(trainer.model, trainer.scaffold, part, at, Weights(), generator=torch_generator(0, "step"), **told)
        return {name: made.terms[name].item() for name in ("mask", "missing", "feature", "iou")}

    some, alone = terms(batch, [0, 2, 0], [1.5, 0.0, 1.5]), terms(trainer.pictures.take(np.array([0, 2]), np.zeros(2, bool)), [0, 0], None)
    assert some == pytest.approx(alone, rel=1e-4)
    assert terms(batch, [0, 2, 0], None)["mask"] != pytest.approx(alone["mask"], rel=1e-3)
