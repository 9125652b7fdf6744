"""Training, for real and small: it learns what is asked, goes on exactly where it was killed, and never saves what is not finite."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from tests.testing.toy_animals import COATS, SIDES, toy_cache

from farm3d.core.errors import InputError, NotFiniteError
from farm3d.diffusion.embedded.parts import EmbeddedParts, tensors_of
from farm3d.training.prior.schedule import Budget
from farm3d.training.prior.settings import Settings
from farm3d.training.prior.sheets import draw_sheet, grid_prompts
from farm3d.training.prior.trainer import Progress, Trainer
from farm3d.training.prior.validation import LEVELS, prior_of, validation_losses

REPOSITORY = Path(__file__).resolve().parents[3]


def settings(samples: int, **changes) -> Settings:
    return Settings("tiny", Budget(samples=samples), **{"log_every": 5, **changes})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trainer, list[Progress]]:
    told: list[Progress] = []
    trainer = Trainer(settings(12000), toy_cache(copies=6), tmp_path_factory.mktemp("state"), report=told.append)
    assert trainer.run()
    return trainer, told


def lines_of(folder: Path) -> list[dict]:
    """The log without what the clock says."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in ("hours", "pictures_per_s")} for line in lines]


def same(one: EmbeddedParts, other: EmbeddedParts) -> bool:
    there = tensors_of(other)
    return all(torch.equal(value, there[name]) for name, value in tensors_of(one).items())


def test_it_draws_what_is_asked(trained: tuple[Trainer, list[Progress]]) -> None:
    """Eight kinds of animals: each prompt gives its colour, and its head on the side that was said; paraphrases too."""
    pytest.importorskip("diffusers", reason="diffusers is not installed: pip install 'farm3d[diffusion]'")
    prior = prior_of(trained[0].parts)
    kinds = [(coat, side) for coat in COATS for side in SIDES]
    for wording in ("a {} horse, standing, seen from its {} side", "{} horse, its {} side"):
        drawn = prior.draw([wording.format(*kind) for kind in kinds], seeds=range(8))
        assert drawn.alpha is not None
        for (coat, side), rgb, alpha in zip(kinds, drawn.rgb, drawn.alpha, strict=True):
            body = rgb[:, 13:19, 12:20].mean((1, 2))
            wanted = {name: float((body - torch.tensor(colour) / 255).norm()) for name, colour in COATS.items()}
            assert min(wanted, key=lambda name: wanted[name]) == coat, (wording, coat, side, wanted)
            top = alpha[8:11].mean(0)  # above the back there is only the head
            assert (float(top[:16].mean()) > float(top[16:].mean())) == (side == "left"), (wording, coat, side)
            assert alpha[13:19, 10:22].mean() > 0.5 and alpha[:6].mean() < 0.3


def test_losses_fall_in_each_phase(trained: tuple[Trainer, list[Progress]]) -> None:
    trainer, told = trained
    lines = lines_of(trainer.folder)
    for phase, term in (("words", "mean"), ("denoiser", "velocity")):
        values = [line[term] for line in lines if line["phase"] == phase]
        assert values[-1] < 0.8 * values[0], phase
    assert [line["step"] for line in lines] == sorted(line["step"] for line in lines)
    assert trainer.figures["v0.8"] < 0.5 and trainer.figures["iou"] > 0.95
    assert set(trainer.figures) == {*(f"v{level:g}" for level in LEVELS), "psnr", "iou"}
    assert told[-1].phase == "denoiser (3 of 3)" and told[-1].done == 1 and told[-1].left_s == 0
    assert trainer.shown == 12000 and trainer.steps == told[-1].step + sum(1 for p in told if not p.phase.startswith("denoiser"))


def test_validation_is_the_same_every_time_and_sees_a_worse_model(trained: tuple[Trainer, list[Progress]], tmp_path: Path) -> None:
    trainer = trained[0]
    assert validation_losses(trainer.parts, trainer.pictures, seed=0) == trainer.figures
    untrained = Trainer(settings(100), trainer.pictures, tmp_path)
    untrained._fit_transform()
    assert validation_losses(untrained.parts, trainer.pictures, seed=0)["v0.8"] > 1.3 * trainer.figures["v0.8"]


def test_a_finished_training_stays_finished(trained: tuple[Trainer, list[Progress]]) -> None:
    first = trained[0]
    again = Trainer(first.settings, first.pictures, first.folder, report=lambda progress: pytest.fail("trained again"))
    assert again.run() and same(again.parts, first.parts)


def test_sheets_are_the_same_every_time(trained: tuple[Trainer, list[Progress]], tmp_path: Path) -> None:
    pytest.importorskip("diffusers", reason="diffusers is not installed: pip install 'farm3d[diffusion]'")
    prior = prior_of(trained[0].parts)
    for name in ("a.png", "b.png"):
        assert draw_sheet(prior, tmp_path / name, rows=[grid_prompts("horse")], steps=2)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert not draw_sheet(prior, tmp_path / "c.png", rows=[["a horse"]], steps=2, should_stop=lambda: True)
    assert not (tmp_path / "c.png").exists()


def test_grids_and_tensorboard_while_it_trains(tmp_path: Path) -> None:
    pytest.importorskip("diffusers", reason="diffusers is not installed: pip install 'farm3d[diffusion]'")
    pytest.importorskip("tensorboard", reason="tensorboard is not installed: pip install 'farm3d[log]'")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trainer = Trainer(settings(40, log_every=1, grid_minutes=0.0), toy_cache(copies=1), tmp_path)
    assert trainer.run()
    lines = lines_of(tmp_path)
    looked = {line["step"] for line in lines if line["phase"] == "denoiser"}
    assert {path.name for path in (tmp_path / "samples").iterdir()} == {f"step-{step:08d}.png" for step in looked} and looked
    with Image.open(tmp_path / "samples" / f"step-{max(looked):08d}.png") as sheet:
        assert sheet.width == 8 * 32
    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    for name in ("denoiser/velocity", "validation/v0.8"):
        phase, _, value = name.partition("/")
        expected = {line["step"]: line[value] for line in lines if line["phase"] == phase}
        found = {event.step: event.value for event in board.Scalars(name)}
        assert found == pytest.approx(expected, rel=1e-6) and found, name


_KILLED = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path.insert(0, {repository!r})
from tests.testing.toy_animals import toy_cache
from tests.training.prior.test_trainer import settings
from farm3d.training.prior.trainer import Trainer
seen = 0
def report(progress):
    global seen
    seen += 1
    if seen == {die}:
        os.kill(os.getpid(), signal.SIGKILL)
Trainer(settings({samples}, dtype=torch.bfloat16, checkpoint_minutes={minutes}), toy_cache(copies=1), Path({folder!r}), report=report).run()
"""


def test_killed_at_any_step_it_ends_at_the_same_bits(tmp_path: Path) -> None:
    """kill -9 in each of the three phases, with checkpoints at every step or only between the phases: equal weights and equal log."""
    samples = 200  # 4 steps of words, 2 of the decoder, 13 of the denoiser
    whole = Trainer(settings(samples, dtype=torch.bfloat16), toy_cache(copies=1), tmp_path / "whole")
    assert whole.run()
    for die, minutes in ((2, 0.0), (4, 0.0), (8, 10.0)):  # counted from the start of each process
        program = _KILLED.format(repository=str(REPOSITORY), die=die, samples=samples, minutes=minutes, folder=str(tmp_path / "killed"))
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
        assert done.returncode == -signal.SIGKILL, done.stderr
    last = Trainer(settings(samples, dtype=torch.bfloat16), toy_cache(copies=1), tmp_path / "killed")
    assert 0 < last.steps < whole.steps
    assert last.run()
    assert same(last.parts, whole.parts)
    assert lines_of(last.folder) == lines_of(whole.folder)
    assert last.figures == whole.figures and last.shown == whole.shown


def test_one_worker_and_two_give_the_same_bits(tmp_path: Path) -> None:
    trainers = [Trainer(settings(100, workers=workers), toy_cache(copies=1), tmp_path / str(workers)) for workers in (1, 2)]
    assert all(trainer.run() for trainer in trainers) and same(trainers[0].parts, trainers[1].parts)
    assert lines_of(trainers[0].folder) == lines_of(trainers[1].folder)


def test_going_on_from_a_model_makes_it_better_and_keeps_its_latents(trained: tuple[Trainer, list[Progress]], tmp_path: Path) -> None:
    """From a half-trained model: the last phase alone; what gives latents their meaning, and the model it began with, stay as they were."""
    cache = trained[0].pictures
    half = Trainer(settings(1600), cache, tmp_path / "half")
    assert half.run()
    before = {name: value.clone() for name, value in tensors_of(half.parts).items()}
    told: list[Progress] = []
    more = settings(3200, seed=1, start="half")
    onward = Trainer(more, cache, tmp_path / "onward", start=half.parts, report=told.append)
    assert onward.run()
    assert {progress.phase for progress in told} == {"denoiser (1 of 1)"} and onward.shown == 3200
    after = tensors_of(onward.parts)
    changed = {name for name, value in before.items() if not torch.equal(after[name], value)}
    assert all(name.startswith(("text_encoder/", "unet/network.")) for name in changed) and len(changed) > 20
    assert onward.figures["v0.8"] < 0.97 * half.figures["v0.8"]
    assert all(torch.equal(value, before[name]) for name, value in tensors_of(half.parts).items())
    again = Trainer(more, cache, tmp_path / "onward", start=half.parts)
    assert again.run() and same(again.parts, onward.parts)
    with pytest.raises(InputError, match="has from half, asked for is another"):
        Trainer(settings(3200, seed=1, start="another"), cache, tmp_path / "onward", start=half.parts)
    with pytest.raises(InputError, match="not of size 'small'"):
        Trainer(Settings("small", Budget(samples=10), start="half"), cache, tmp_path / "other", start=half.parts)


def test_going_on_is_exact_too_when_it_is_interrupted(trained: tuple[Trainer, list[Progress]], tmp_path: Path) -> None:
    first, cache = trained[0].parts, toy_cache(copies=1)
    more = settings(160, seed=1, start="first", dtype=torch.bfloat16)
    stopped = Trainer(more, cache, tmp_path / "stopped", start=first, should_stop=lambda: stopped.steps == 4)
    assert not stopped.run()
    resumed = Trainer(more, cache, tmp_path / "stopped", start=first)
    assert resumed.steps == 4 and resumed.run()
    whole = Trainer(more, cache, tmp_path / "whole", start=first)
    assert whole.run() and same(resumed.parts, whole.parts)
    assert lines_of(resumed.folder) == lines_of(whole.folder)


def test_asked_to_stop_it_saves_and_goes_on(tmp_path: Path) -> None:
    cache = toy_cache(copies=1)
    steps = 0

    def soon() -> bool:
        nonlocal steps
        steps += 1
        return steps % 6 == 0

    while not (trainer := Trainer(settings(160), cache, tmp_path, should_stop=soon)).run():
        assert trainer.steps == steps
    whole = Trainer(settings(160), cache, tmp_path / "whole")
    assert whole.run() and same(trainer.parts, whole.parts)


def test_hours_end_on_time(tmp_path: Path) -> None:
    begun = time.monotonic()
    trainer = Trainer(Settings("tiny", Budget(hours=2 / 3600)), toy_cache(copies=1), tmp_path)
    assert trainer.run()
    assert 2 / 3600 <= trainer.hours < 1 / 60 and trainer.steps > 3
    assert time.monotonic() - begun < 120


def test_what_is_not_finite_stops_before_the_update(tmp_path: Path) -> None:
    cache = toy_cache(copies=1)
    stop_at = 8
    first = Trainer(settings(160), cache, tmp_path, should_stop=lambda: first.steps == stop_at)
    assert not first.run()
    broken = Trainer(settings(160), cache, tmp_path)
    broken.parts.denoiser.wiener.variance[0, 0, 0] = float("nan")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "checkpoints").rglob("*")}
    with pytest.raises(NotFiniteError, match=r"denoiser, step \d: the loss 'velocity' is not finite; pictures \d+, ") as caught:
        broken.run()
    assert caught.value.exit_code == 3
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "checkpoints").rglob("*")} == before
    assert Trainer(settings(160), cache, tmp_path).run()


def test_a_gradient_that_is_not_finite_is_named(tmp_path: Path) -> None:
    trainer = Trainer(settings(400), toy_cache(copies=1), tmp_path)
    trainer.parts.text.vector.bias.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(NotFiniteError, match=r"words, step 0: the gradient of text/vector.bias is not finite"):
        trainer.run()


def test_another_training_in_the_folder_is_refused(trained: tuple[Trainer, list[Progress]]) -> None:
    with pytest.raises(InputError, match=r"has samples 12000, asked for is 500"):
        Trainer(settings(500), trained[0].pictures, trained[0].folder)


def test_leftovers_of_a_kill_are_removed(tmp_path: Path) -> None:
    (tmp_path / "checkpoints" / ".step-00000007.abc.part").mkdir(parents=True)
    Trainer(settings(100), toy_cache(copies=1), tmp_path)
    assert os.listdir(tmp_path / "checkpoints") == []
