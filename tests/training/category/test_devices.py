"""Where a category is trained changes rounding only; checkpoints go from one device to another."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from tests.testing.toy_category import toy_pictures
from tests.testing.toy_critic import toy_critic

from farm3d.diffusion.embedded.pipeline import EmbeddedPrior
from farm3d.model.category.learned import FeatureBasis, LearnedCategory
from farm3d.training.category.finish import FinishOptions, finished_prior
from farm3d.training.category.presets import tiny
from farm3d.training.category.ranks import ALONE, Ranks
from farm3d.training.category.sheets import draw_training_sheet
from farm3d.training.category.trainer import CategoryTrainer, Run
from farm3d.training.category.virtual_views import Critic
from farm3d.training.checkpoint import newest_checkpoint
from farm3d.training.dataset.phrases import critic_prompts

STEPS, CUT = 8, 5  # all hypotheses until step 4, a judged step on both sides of the cut


def run_of() -> Run:
    """The tiny preset; in eight steps everything gets its turn."""
    return tiny("horse", channels=16, steps=STEPS)


def critic_on(device: str) -> Critic:
    """Return the toy critic, its networks on a device."""
    critic = toy_critic()
    assert isinstance(critic.prior, EmbeddedPrior)
    return Critic(EmbeddedPrior(critic.prior.parts, device=device), critic_prompts("horse", barn=True), critic.options)


def trained(folder: Path, device: str, *, until: int = STEPS) -> tuple[CategoryTrainer, list[float], list[str]]:
    """Go on with a training to a step; return it, the losses of its steps, and what it warned of."""
    losses: list[float] = []
    warned: list[str] = []
    trainer = CategoryTrainer(
        run_of(),
        toy_pictures(),
        folder,
        critic=critic_on(device),
        should_stop=lambda: trainer.step >= until,
        report=lambda progress: losses.append(progress.figures["loss"]),
        warn=warned.append,
        device=device,
    )
    trainer.run()
    return trainer, losses, warned


def test_processes_of_a_machine_take_its_gpus_in_turn() -> None:
    assert Ranks(1, 2, 1).device("cuda", gpus=4) == "cuda:1" and Ranks(5, 8, 5).device("cuda", gpus=4) == "cuda:1"
    assert Ranks(1, 2, 1).device("cuda:3", gpus=4) == "cuda:3" and ALONE.device("cuda", gpus=4) == "cuda"
    assert Ranks(1, 2, 1).device("cpu", gpus=4) == "cpu"


def test_the_cpu_writes_no_device(tmp_path: Path) -> None:
    """Its checkpoints have the bytes they always had, and those from before go on without a warning."""
    trained(tmp_path, "cpu", until=1)
    checkpoint = newest_checkpoint(tmp_path / "checkpoints", warn=print, kind="CategoryTraining")
    assert checkpoint is not None and "device" not in checkpoint.facts["settings"]


@pytest.mark.gpu
def test_a_gpu_learns_what_the_cpu_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same numbers are drawn; the topology's order, and sums on a GPU, change the last digits, and the eikonal term its points."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    first, before, _ = trained(tmp_path / "cpu", "cpu", until=CUT)
    shutil.copytree(tmp_path / "cpu", tmp_path / "moved")
    _, after, _ = trained(tmp_path / "cpu", "cpu")
    here, there = before + after, trained(tmp_path / "gpu", "cuda")
    assert first.step == CUT and len(here) == STEPS
    assert there[1] == pytest.approx(here, rel=5e-3)
    assert all(value.is_cuda for value in there[0].model.state_dict().values())

    moved, gone_on, warned = trained(tmp_path / "moved", "cuda")
    assert moved.step == STEPS and any("device was cpu and is cuda" in line for line in warned)
    assert gone_on == pytest.approx(after, rel=5e-3)
    back, none, warned = trained(tmp_path / "moved", "cpu")
    assert back.step == STEPS and not none and any("device was cuda and is cpu" in line for line in warned)
    for name, value in moved.model.state_dict().items():
        assert torch.equal(value.cpu(), back.model.state_dict()[name])


@pytest.mark.gpu
def test_what_a_gpu_has_learned_is_finished_on_the_cpu(tmp_path: Path) -> None:
    trainer, _, _ = trained(tmp_path / "state", "cuda")
    assert trainer.scaffold is not None
    run, pictures = trainer.settings, trainer.pictures
    at = run.schedule.at(STEPS - 1)
    draw_training_sheet(trainer.model, trainer.scaffold, pictures, at, run.weights, tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").is_file()
    basis = FeatureBasis(torch.zeros(16), torch.eye(16), torch.from_numpy(pictures.scale))
    prior = finished_prior(
        trainer.model,
        trainer.scaffold,
        pictures,
        basis,
        at,
        run.weights,
        encoder="efficientnet_lite0",
        source="toys",
        options=FinishOptions(faces=2000),
    )
    assert all(value.device.type == "cpu" for value in prior.to_tensors().values())
    scaffold = trainer.scaffold.to("cpu")
    learned = LearnedCategory.of(trainer.model.cpu(), scaffold, basis, prior=prior, encoder="efficientnet_lite0", encoder_digest="")
    learned.save_pretrained(tmp_path / "model", card="# Toy")
    again = LearnedCategory.from_pretrained(tmp_path / "model")
    assert torch.equal(again.prior.template.vertices, prior.template.vertices)
