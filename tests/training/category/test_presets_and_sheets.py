"""Every preset is built and takes its steps at a tiny size; a sheet shows what it says."""

import dataclasses
from pathlib import Path

import pytest
import torch
from PIL import Image
from tests.testing.toy_category import toy_pictures

from farm3d.training.category.presets import PRESETS
from farm3d.training.category.sheets import draw_training_sheet
from farm3d.training.category.trainer import CategoryTrainer


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_takes_its_steps(name: str, tmp_path: Path) -> None:
    """The paper's run at its own network sizes, but two coarse steps in place of 140,000 at 256 px."""
    run = PRESETS[name]("toy", channels=16, steps=2)
    small = {"size_early": 32, "size_late": 32, "cell_early": 0.5, "cell_late": 0.5, "batch_early": 1, "batch_late": 2}
    run = dataclasses.replace(run, schedule=dataclasses.replace(run.schedule, **small))
    trainer = CategoryTrainer(run, toy_pictures(), tmp_path)
    assert trainer.run() and trainer.step == 2
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
