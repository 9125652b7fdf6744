"""``farm3d prior`` as it is typed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from tests.testing.tiny_models import tiny_stable_diffusion
from tests.testing.toy_animals import write_toy_barn

from farm3d.apps.cli import main
from farm3d.training.prior import trainer

pytest.importorskip("diffusers", reason="diffusers is not installed: pip install 'farm3d[diffusion]'")


@pytest.fixture(scope="module")
def barn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_barn(tmp_path_factory.mktemp("barn") / "horse")


def words_for(barn: Path, folder: Path, samples: int = 160) -> list[str]:
    places = ["--data", str(barn), "--out", str(folder / "model"), "--state", str(folder / "state")]
    return ["prior", "train", *places, "--samples", str(samples), "--size", "tiny", "--dtype", "float32", "--threads", "1"]


@pytest.fixture(scope="module")
def model(barn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prior")
    assert main(words_for(barn, folder)) == 0
    return folder / "model"


def test_a_model_and_its_traces_are_written(model: Path, barn: Path) -> None:
    card = (model / "README.md").read_text()
    assert "farm3d prior train --data horse" in card and "160 pictures shown" in card and "horse-train: 96 pictures" in card
    assert str(barn.parent) not in card and "v0.8" in card
    state = model.parent / "state"
    assert json.loads((state / "log.jsonl").read_text().splitlines()[0])["phase"] in ("words", "decoder", "denoiser")
    assert (state / "samples" / "final.png").is_file()
    assert sorted(path.name for path in (state / "checkpoints").iterdir())[-1].startswith("step-")


def test_interrupted_and_gone_on_gives_the_same_bytes(model: Path, barn: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "farm3d", *words_for(barn, tmp_path), "--checkpoint-minutes", "0"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None and not list(tmp_path.glob("state/checkpoints/step-*")):
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 143, told
    assert "the same command goes on from there" in told and not (tmp_path / "model").exists()
    assert main(words_for(barn, tmp_path)) == 0
    files = [path.relative_to(model) for path in model.rglob("*.safetensors")]
    assert len(files) == 3
    for file in files:
        assert (tmp_path / "model" / file).read_bytes() == (model / file).read_bytes()


def test_a_signal_while_the_end_is_measured_is_not_lost(
    barn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measure, asked = trainer.Trainer._validated, []

    def asked_meanwhile(self: trainer.Trainer) -> dict[str, float]:
        if self._at.phase == len(self._phases) and not asked:  # once: a second signal ends the program
            asked.append(signal.raise_signal(signal.SIGTERM))
        return measure(self)

    monkeypatch.setattr(trainer.Trainer, "_validated", asked_meanwhile)
    assert main(words_for(barn, tmp_path)) == 143
    assert "the same command goes on from there" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()
    monkeypatch.undo()
    assert main(words_for(barn, tmp_path)) == 0
    assert (tmp_path / "model" / "manifest.json").is_file()


def test_going_on_from_a_model_tells_how_both_were_made(model: Path, barn: Path, tmp_path: Path) -> None:
    assert main([*words_for(barn, tmp_path, samples=96), "--from", str(model), "--seed", "1"]) == 0
    card = (tmp_path / "model" / "README.md").read_text()
    assert "--from MODEL --seed 1" in card and "96 pictures shown" in card
    assert "## It went on from the model" in card and "160 pictures shown" in card and card.count("## On held-out animals") == 1
    assert card.count("\n    farm3d prior train --data horse") == 2
    assert str(model.parent) not in card
    decoder = "vae/diffusion_pytorch_model.safetensors"
    assert (tmp_path / "model" / decoder).read_bytes() == (model / decoder).read_bytes()


def test_look_draws_sheets(model: Path, tmp_path: Path) -> None:
    assert main(["prior", "look", str(model), "--out", str(tmp_path / "views.png"), "--species", "horse", "--steps", "2"]) == 0
    with Image.open(tmp_path / "views.png") as sheet:
        assert sheet.width == 8 * 32
    prompts = ["--prompts", "a red horse", "a blue horse"]
    assert main(["prior", "look", str(model), "--out", str(tmp_path / "words.png"), *prompts, "--steps", "2"]) == 0
    with Image.open(tmp_path / "words.png") as taller, Image.open(tmp_path / "views.png") as sheet:
        assert taller.height == 2 * sheet.height


def test_look_opens_stable_diffusion_too(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="transformers is not installed: pip install 'farm3d[diffusion]'")
    folder = tiny_stable_diffusion(tmp_path / "sd")
    words = ["--prompts", "a horse walking", "--steps", "2", "--dtype", "bfloat16"]
    assert main(["prior", "look", str(folder), "--out", str(tmp_path / "words.png"), *words]) == 0
    with Image.open(tmp_path / "words.png") as sheet:
        assert sheet.width == 8 * 16  # no row of silhouettes
        assert sheet.height < 2 * 16


@pytest.mark.parametrize(
    "changes, words",
    [
        (["--hours", "1"], "either hours or samples"),
        (["--threads", "0"], "--threads 0"),
        (["--data", "nowhere"], "nowhere: no data set"),
        (["--seed", "5"], "has seed 0, asked for is 5"),
        (["--resume", "never"], "--resume is never"),
        (["--from", "nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_is_one_line(model: Path, barn: Path, changes: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words_for(barn, model.parent), *changes]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("farm3d: ") and words in last


def test_one_training_at_a_time_and_no_foreign_folder(model: Path, barn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from farm3d.core.claims import claimed

    with claimed(tmp_path / "state" / ".training.lock") as claim:
        assert claim is not None
        assert main(words_for(barn, tmp_path)) == 2
    assert "another training is at work" in capsys.readouterr().err
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "thesis.txt").write_text("years")
    assert main(words_for(barn, tmp_path)) == 2
    assert "is not a pipeline folder" in capsys.readouterr().err
    assert os.listdir(tmp_path / "model") == ["thesis.txt"]
