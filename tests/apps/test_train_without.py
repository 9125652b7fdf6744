"""``farm3d train --without PART``: what is left out is really out, the rest learns, and a reduced model can be used."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from tests.testing.toy_category import toy_pictures
from tests.testing.train_words import words_for

from farm3d.apps.cli import main
from farm3d.apps.train import _without
from farm3d.export.glb_reader import read_glb
from farm3d.training.category.presets import tiny
from farm3d.training.category.trainer import CategoryTrainer

EXAMPLE = Path(__file__).parents[2] / "examples" / "horse.png"
PARTS = ("articulation", "deformation", "hypotheses", "elevation", "local-features", "tail", "view-words")
STEPS = 5  # the fewest after which each part has been at work: individuals get shapes of their own at 60 %, and show them a step later


@torch.no_grad()
def traces(trainer: CategoryTrainer, steps: list[Mapping[str, float]]) -> set[str]:
    """Return the parts whose work is seen in a training: in the figures of its steps, in what it reads, and in its gradients."""
    config, batch = trainer.model.config, trainer.pictures.batch(0, seed=0, size=4)
    reading = trainer.model.reader(batch.features, batch.rgb, batch.mask)
    gradient = trainer.model.articulation.enter.weight.grad
    assert trainer.scaffold is not None
    found = {
        "articulation": steps[-1]["articulation"] > 0,
        "deformation": steps[-1]["deformation"] > 0,
        "hypotheses": trainer.table.shape[1] == 4 and reading.viewpoints.azimuth.shape[1] == 4,
        "elevation": bool((reading.viewpoints.elevation != 0).all()),
        "local-features": gradient is not None and bool((gradient[:, config.code : config.code + config.local] != 0).any()),
        "tail": "tail_01" in trainer.scaffold.skeleton.names,
        "view-words": "view" in steps[0],
    }
    return {part for part, seen in found.items() if seen}


@pytest.mark.parametrize("part", ["none", *PARTS])
def test_what_is_left_out_is_out_and_the_rest_learns(part: str, tmp_path: Path) -> None:
    run = _without(tiny("toy", channels=16, steps=STEPS), () if part == "none" else (part,))
    steps: list[Mapping[str, float]] = []
    trainer = CategoryTrainer(run, toy_pictures(), tmp_path, report=lambda progress: steps.append(dict(progress.figures)))
    assert trainer.run() and len(steps) == STEPS
    assert all(bool(torch.isfinite(parameter).all()) for parameter in trainer.model.parameters())
    still = {"articulation", "local-features"} if part == "articulation" else {part}  # without bones that turn nothing asks for the places
    assert traces(trainer, steps) == set(PARTS) - still


def test_a_reduced_model_is_finished_and_used_in_one_pass(category_data: Path, tmp_path: Path) -> None:
    assert main([*words_for(category_data, tmp_path, steps=2), "--without", "hypotheses", "tail"]) == 0
    assert "--without hypotheses tail" in (tmp_path / "model" / "README.md").read_text()
    words = ["--category", str(tmp_path / "model"), "--out", str(tmp_path), "--texture-px", "128", "--threads", "1", "--no-refine"]
    assert main(["reconstruct", str(EXAMPLE), *words]) == 0
    facts = json.loads((tmp_path / "horse.json").read_text())
    assert len(facts["hypotheses"]) == 1 and facts["view_confidence"] == 1 and facts["runner_up"] is None
    bones = read_glb(tmp_path / "horse.glb").joint_names
    assert "head" in bones and not [name for name in bones if name.startswith("tail")]
