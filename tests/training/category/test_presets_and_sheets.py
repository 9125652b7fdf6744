"""Every preset is built and takes its steps at a tiny size; a sheet shows what it says."""

import dataclasses
from pathlib import Path

import pytest
import torch
from PIL import Image
from tests.testing.tiny_models import tiny_stable_diffusion, tiny_vit
from tests.testing.toy_category import toy_pictures
from tests.testing.toy_critic import toy_critic

from farm3d.diffusion.distill import DistillOptions
from farm3d.diffusion.prior import load_prior
from farm3d.model.encoder import to_reading_grid
from farm3d.model.vit import VitEncoder, VitOptions
from farm3d.training.category.presets import PRESETS
from farm3d.training.category.sheets import draw_training_sheet
from farm3d.training.category.trainer import CategoryTrainer, Progress, digest_of
from farm3d.training.category.virtual_views import Critic, CriticOptions
from farm3d.training.dataset.phrases import critic_prompts


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_takes_its_steps(name: str, tmp_path: Path) -> None:
    """The paper's run at its own network sizes, but two coarse steps in place of 140,000 at 256 px."""
    run = PRESETS[name]("toy", channels=16, steps=2)
    small = {"size_early": 32, "size_late": 32, "cell_early": 0.5, "cell_late": 0.5, "batch_early": 1, "batch_late": 2}
    run = dataclasses.replace(run, schedule=dataclasses.replace(run.schedule, **small))
    trainer = CategoryTrainer(run, toy_pictures(), tmp_path)
    assert trainer.run() and trainer.step == 2
    assert all(bool(torch.isfinite(parameter).all()) for parameter in trainer.model.parameters())


@pytest.mark.parametrize(("size_px", "grid"), [(64, 16), (256, 32)])
def test_the_papers_way_with_its_own_kind_of_models(size_px: int, grid: int, tmp_path: Path) -> None:
    """Features of a vision transformer, Stable Diffusion as the critic, in its words and with its negatives: tiny ones, two steps."""
    for name in ("diffusers", "transformers"):
        pytest.importorskip(name, reason=f"{name} is not installed: pip install 'farm3d[diffusion]'")
    encoder = VitEncoder.from_pretrained(tiny_vit(tmp_path / "vit"), options=VitOptions(size_px=size_px))
    toys = toy_pictures()
    with torch.no_grad():
        maps = torch.cat([to_reading_grid(encoder.features(part)) for part in (torch.from_numpy(toys.rgb).float() / 255).split(8)])
    assert maps.shape[1:] == (32, grid, grid)
    features, spread = maps.half().numpy(), maps.std((0, 2, 3)).numpy()
    pictures = dataclasses.replace(toys, features=features, scale=spread, digest=digest_of(features))
    run = PRESETS["paper"]("horse", channels=32, steps=2)
    small = {"size_early": 32, "size_late": 32, "cell_early": 0.5, "cell_late": 0.5, "batch_early": 2, "batch_late": 2}
    schedule = dataclasses.replace(run.schedule, **small, virtual_from=0.0, virtual_views=2)
    run = dataclasses.replace(run, schedule=schedule, config=dataclasses.replace(run.config, grid=grid))
    asked = critic_prompts("horse", barn=False)
    assert asked[4][0].endswith("away from the camera, back view") and "face" in asked[4][1]
    prior = load_prior(str(tiny_stable_diffusion(tmp_path / "sd", prompt_tokens=160)))
    critic = Critic(prior, asked, CriticOptions(DistillOptions(), t_max_end=0.5))
    told: list[Progress] = []
    trainer = CategoryTrainer(run, pictures, tmp_path / "state", critic=critic, report=told.append)
    assert trainer.run() and trainer.step == 2
    assert all(at.figures["virtual_error"] > 0 for at in told)
    assert all(bool(torch.isfinite(parameter).all()) for parameter in trainer.model.parameters())


def test_a_sheet_of_a_training(tmp_path: Path) -> None:
    run = PRESETS["tiny"]("toy", channels=16, steps=4)
    trainer = CategoryTrainer(run, toy_pictures(), tmp_path)
    trainer.one_step()
    assert trainer.scaffold is not None
    for step in (0, 3):  # before and after colours and deformation begin
        path = tmp_path / f"{step}.png"
        draw_training_sheet(trainer.model, trainer.scaffold, trainer.pictures, run.schedule.at(step), run.weights, path)
        with Image.open(path) as sheet:
            assert sheet.size == (1024, 768)
            assert len(sheet.crop((0, 0, 1024, 128)).convert("L").getcolors() or ()) > 20


def test_a_sheet_shows_what_the_critic_sees(tmp_path: Path) -> None:
    pytest.importorskip("diffusers", reason="diffusers is not installed: pip install 'farm3d[diffusion]'")
    run = PRESETS["tiny"]("toy", channels=16, steps=4)
    trainer = CategoryTrainer(run, toy_pictures(), tmp_path, critic=toy_critic())
    trainer.one_step()
    assert trainer.scaffold is not None
    path = tmp_path / "sheet.png"
    at = run.schedule.at(3)
    draw_training_sheet(trainer.model, trainer.scaffold, trainer.pictures, at, run.weights, path, critic=trainer.critic)
    with Image.open(path) as sheet:
        assert sheet.size == (1024, 896)
        grounds = [sheet.getpixel((128 * i + 3, 5 * 128 + 3)) for i in range(8)]
    assert len(set(grounds)) == 8  # each on a ground of its own, as only virtual views are
