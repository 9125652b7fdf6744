"""``farm3d train`` as it is typed, on a data set that ``farm3d prepare-data`` made."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.testing.tiny_models import tiny_stable_diffusion, tiny_vit
from tests.testing.train_words import words_for

from farm3d.apps.cli import main
from farm3d.model.category.learned import LearnedCategory
from farm3d.model.folder import weights_folder
from farm3d.training.category import sheets

EXAMPLE = Path(__file__).parents[2] / "examples" / "horse.png"


@pytest.fixture(scope="module")
def trained(category_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    assert main(words_for(category_data, folder)) == 0
    return folder


def test_a_model_and_its_traces_are_written(trained: Path, category_data: Path) -> None:
    learned = LearnedCategory.from_pretrained(trained / "model")
    assert learned.model.config.category == "toy" and learned.encoder == "efficientnet_lite0"
    card = (trained / "model" / "README.md").read_text()
    assert "farm3d train --data DATA" in card and "8 steps" in card and str(category_data.parent) not in card
    assert (trained / "state" / "sheets" / "step-00000008.png").is_file()
    assert sum(path.stat().st_size for path in (trained / "model").iterdir()) < 25e6


@pytest.mark.parametrize("more", [["--no-refine"], ["--refine-steps", "1"]])
def test_the_model_reconstructs_in_one_pass_and_refined(trained: Path, more: list[str], tmp_path: Path) -> None:
    words = ["--category", str(trained / "model"), "--out", str(tmp_path), "--texture-px", "128", "--threads", "1"]
    assert main(["reconstruct", str(EXAMPLE), *words, *more]) == 0
    facts = json.loads((tmp_path / "horse.json").read_text())
    assert len(facts["hypotheses"]) == 4 and 0 < facts["view_confidence"] <= 1
    assert sum(hypothesis["confidence"] for hypothesis in facts["hypotheses"]) == pytest.approx(1, abs=1e-3)
    assert facts["runner_up"] is None or facts["runner_up"]["confidence"] > 0.2
    assert (tmp_path / "horse.glb").read_bytes()[:4] == b"glTF"


def test_a_category_learned_with_another_backbone_asks_for_it(
    category_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Features of a vision transformer from `data features`, a critic of Stable Diffusion's kind, and a picture reconstructed with it."""
    for name in ("diffusers", "transformers"):
        pytest.importorskip(name, reason=f"{name} is not installed: pip install 'farm3d[diffusion]'")
    data, vit, other = tmp_path / "data", tiny_vit(tmp_path / "vit"), tiny_vit(tmp_path / "other", seed=1)
    shutil.copytree(category_data, data)
    features = ["--encoder", str(vit), "--suffix", "vit", "--dims", "12", "--workers", "1"]
    assert main(["data", "features", str(data), *features]) == 0
    prior = tiny_stable_diffusion(tmp_path / "sd", prompt_tokens=160)
    critic = ["--prior", str(prior), "--critic-guidance", "7", "--critic-noise", "0.1", "0.9"]
    words = ["--features", "toy-photos-features-vit", *critic, "--critic-noise-end", "0.6"]
    assert main([*words_for(data, tmp_path), *words]) == 0
    assert "--critic-guidance 7.0 --critic-noise 0.1 0.9 --critic-noise-end 0.6" in (tmp_path / "model" / "README.md").read_text()
    picture = ["reconstruct", str(EXAMPLE), "--category", str(tmp_path / "model"), "--out", str(tmp_path / "out"), "--no-refine"]
    picture += ["--texture-px", "128", "--threads", "1"]
    assert main(picture) == 2
    assert "learned with the backbone 'vit', which is not here (say where it is: --encoder FOLDER)" in capsys.readouterr().err
    assert main([*picture, "--encoder", str(other)]) == 2
    assert "is not the backbone that the category was learned with (that was 'vit')" in capsys.readouterr().err
    assert main([*picture, "--category", "auto", "--encoder", str(vit)]) == 2
    assert "goes with one category, not with auto" in capsys.readouterr().err
    assert main([*picture, "--encoder", str(vit)]) == 0
    assert (tmp_path / "out" / "horse.glb").read_bytes()[:4] == b"glTF"


def test_interrupted_and_gone_on_gives_the_same_bytes(trained: Path, category_data: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "farm3d", *words_for(category_data, tmp_path), "--checkpoint-minutes", "0"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None and not list(tmp_path.glob("state/checkpoints/step-*")):
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=120)
    if process.returncode:  # it may have been quicker than the signal
        assert process.returncode == 143 and "the same command goes on from there" in told, told
        assert not (tmp_path / "model").exists()
    assert main(words_for(category_data, tmp_path)) == 0
    one, other = (folder / "model" / "model.safetensors" for folder in (trained, tmp_path))
    assert one.read_bytes() == other.read_bytes()


def test_a_signal_while_the_end_is_drawn_is_not_lost(
    category_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    drawing = sheets.draw_training_sheet

    def asked_meanwhile(*things: Any, **more: Any) -> None:
        signal.raise_signal(signal.SIGTERM)
        drawing(*things, **more)

    monkeypatch.setattr(sheets, "draw_training_sheet", asked_meanwhile)
    assert main(words_for(category_data, tmp_path)) == 143
    assert "stopped after 8 steps; the same command goes on from there" in capsys.readouterr().err
    assert (tmp_path / "state" / "checkpoints" / "step-00000008").is_dir() and not (tmp_path / "model").exists()


def test_the_schedule_is_shown(category_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words_for(tmp_path / "nothing-yet", tmp_path), "--preset", "wide", "--set", "thin_until=0.4", "--show-schedule"]) == 0
    told = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert {"missing 100 0 1", "thin 10 0 0.4 falls to nothing", "deformation 10 0.6 1", "gap 0 - - rises until 0.4"} <= set(told)
    assert "virtual 0.0002 0.5 1 with --prior; every 4 steps, 4 views" in told and "articulation_from 0.06" in told
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["--without", "wings"], "--without wings: no such part"),
        (["--set", "wings=1"], "--set wings=1: no such number"),
        (["--set", "volume"], "--set volume: expected NAME=NUMBER, from 0 to 1e+06"),
        (["--set", "feature_channels=65"], "--set feature_channels=65: expected NAME=WHOLE_NUMBER, from 1 to"),
        (["--set", "elevation_deg=61"], "--set elevation_deg=61: expected NAME=NUMBER, from 0 to 60"),
        (["--set", "box_length=2"], "--set box_length=2: expected NAME=NUMBER, from 2.4 to 3.5"),
        (["--set", "cell_late=0.01"], "--set cell_late=0.01: expected NAME=NUMBER, from 0.05 to 0.5 (e.g. --set cell_late=0.05)"),
        (["--set", "words_until=nan"], "--set words_until=nan: expected NAME=NUMBER, from 0 to 1"),
        (["--set", "words_until=2"], "--set words_until=2: expected"),
        (["--set", "code=128.5"], "--set code=128.5: expected NAME=WHOLE_NUMBER, from 8 to 1024"),
        (["--set", "rate_networks=1"], "--set rate_networks=1: expected NAME=NUMBER, from 0 to 0.1"),
        (["--start", "horse"], "--start horse: not a learned category (give a folder that `farm3d train` wrote, or horse-learned)"),
        (["--start", "./nothing"], "nothing"),
        (["--steps", "0"], "--steps 0: expected at least 1"),
        (["--threads", "2000"], "--threads 2000: expected 1 to 1024"),
        (["--height-m", "nan"], "--height-m nan: expected 0.01 to 100"),
        (["--checkpoint-minutes", "nan"], "--checkpoint-minutes nan: expected 0 to"),
        (["--seed", "-1"], "--seed -1: expected at least 0"),
        (["--critic-guidance", "5"], "--critic-guidance: says how --prior judges, which is left out"),
        (["--prior", "SHIPPED", "--critic-guidance", "nan"], "--critic-guidance nan: expected"),
        (["--set", "volume=1", "--set", "gap=1"], "--set is given twice (give it once, with all its values"),
        (["--data", "nowhere"], "nowhere: no such folder"),
        (["--features", "dino"], "features named dino for toy-photos: found toy-photos-features (say which with --features)"),
        (["--prior", "./nothing"], "nothing"),
        (["--prior", "SHIPPED", "--critic-noise", "0.9", "0.2"], "noise levels from 0.9 to 0.2: expected 0 <= t_min <= t_max <= 1"),
        (["--prior", "SHIPPED", "--critic-noise-end", "2"], "noise levels that end at 2: expected from 0.7 to 1"),
        (["--device", "nonsense"], "--device nonsense: no such kind of device"),
        (["--device", "meta"], "--device meta: not a kind of device that this runs on"),
        (["--device", "cuda:99"], "--device cuda:99: torch finds no such GPU"),
    ],
)
def test_what_cannot_be_is_one_line(
    category_data: Path, changes: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if "SHIPPED" in changes:
        pytest.importorskip("diffusers", reason="diffusers is not installed: pip install 'farm3d[diffusion]'")
        changes = [str(weights_folder("embedded_prior")) if word == "SHIPPED" else word for word in changes]
    assert main([*words_for(category_data, tmp_path), *changes]) == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert words in told and not (tmp_path / "model").exists()


def test_weights_and_times_can_be_set(category_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changes = ["--set", "volume=0.05", "words_until=1", "words_slack_deg=11.25", "thin=10", "box_length=3.5", "cell_early=0.3"]
    changes += ["bone_width=24", "rate_networks=0.001", "words_oblique_deg=33.75", "bone_points=3", "local_scale=2"]
    changes += ["feature_channels=5", "elevation_deg=12", "elevation_reach_deg=0"]
    assert main([*words_for(category_data, tmp_path), *changes, "--show-schedule"]) == 0
    told = {line.split()[0]: line.split()[1] for line in capsys.readouterr().out.splitlines() if line.startswith("  ")}
    assert (told["volume"], told["words_until"], told["words_slack_deg"], told["mask"]) == ("0.05", "1.0", "11.25", "10")
    assert (told["thin"], told["box_length"], told["cell_early"]) == ("10", "3.5", "0.3")
    assert (told["bone_width"], told["rate_networks"], told["words_oblique_deg"]) == ("24", "0.001", "33.75")
    assert main([*words_for(category_data, tmp_path), *changes]) == 0
    assert "--threads 1" in (card := (tmp_path / "model" / "README.md").read_text()) and " ".join(changes) in card
    config = LearnedCategory.from_pretrained(tmp_path / "model").model.config
    assert (config.bone_width, config.bone_points, config.local_scale) == (24, 3, 2)
    assert (config.feature_channels, config.elevation_deg, config.box[2]) == (5, (12.0, 0.0), 3.5)


def test_a_training_may_begin_with_another_animals_shape(
    trained: Path, category_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = [*words_for(category_data, tmp_path), "--start", str(trained / "model")]
    assert main([*begun, "--show-schedule"]) == 0
    assert "shape_from          0.06" in capsys.readouterr().out
    assert main([*begun, "--set", "shape_from=1"]) == 0  # never changed
    one, other = (LearnedCategory.from_pretrained(folder / "model").model.shape.state_dict() for folder in (trained, tmp_path))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert "--start model --set shape_from=1" in (tmp_path / "model" / "README.md").read_text()
    assert main(words_for(category_data, tmp_path)) == 2
    assert "another start" in capsys.readouterr().err


def test_networks_go_on_and_the_shape_stays(trained: Path, category_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*words_for(category_data, tmp_path), "--preset", "poses"]
    assert main(words) == 2
    assert "--preset poses goes on with a learned category: --start is missing" in capsys.readouterr().err
    assert main([*words, "--start", str(trained / "model"), "--set", "looks=3"]) == 0
    one, other = (LearnedCategory.from_pretrained(folder / "model").model for folder in (trained, tmp_path))
    assert other.config == dataclasses.replace(one.config, looks=3)
    before, after = one.state_dict(), other.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items() if name.startswith("shape."))
    for part in ("reader.whole.weight", "articulation.out.weight", "deformation.first.weight", "albedo.first.weight"):
        assert not torch.equal(before[part], after[part])
    assert float(after["articulation.again.1.out.weight"].abs().max()) > 0
    assert float((before["reader.whole.weight"] - after["reader.whole.weight"]).abs().max()) < 0.02  # it went on: 8 steps from there
    assert "--preset poses --start model --set looks=3" in (tmp_path / "model" / "README.md").read_text()
    capsys.readouterr()
    other = [*words_for(category_data, tmp_path / "other"), "--preset", "poses", "--start", str(tmp_path / "model")]
    for change in (["--set", "code=64"], ["--set", "looks=2"], ["--without", "hypotheses"]):
        assert main([*other, *change]) == 2
        assert "does not fit its sizes" in (told := capsys.readouterr().err.splitlines()[-1]) and "Traceback" not in told
    assert main([*words, "--show-schedule"]) == 0
    assert re.search(r"outside +12 +0 +1\n", capsys.readouterr().out)


def test_another_run_in_the_state_folder_is_refused(trained: Path, category_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words_for(category_data, trained), "--seed", "3"]) == 2
    assert "another seed: 0, asked for is 3" in capsys.readouterr().err


def test_a_reader_of_its_progress_that_goes_away_does_not_stop_it(category_data: Path, tmp_path: Path) -> None:
    """`farm3d train … 2>&1 | head`: the training is not over because nobody listens any more."""
    command = [sys.executable, "-m", "farm3d", *words_for(category_data, tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        process.stderr.close()
    assert process.returncode == 0 and LearnedCategory.from_pretrained(tmp_path / "model").model.config.category == "toy"


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("app", "exists and is not a model folder"),
        ("horse", "holds a learned horse, and the pictures are of toy"),
        ("state", "--out {}: is --state's folder, or holds it"),
        ("file/model", "cannot be made in"),
    ],
)
def test_what_stands_at_out_is_said_at_the_beginning(
    category_data: Path, tmp_path: Path, place: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "manifest.json").write_text('{"name": "a page of someone\'s"}')
    (tmp_path / "file").write_text("")
    shutil.copytree(weights_folder("horse-learned"), tmp_path / "horse")
    before = sorted(tmp_path.rglob("*"))
    out = tmp_path / place
    typed = words_for(category_data, tmp_path)
    typed[typed.index("--out") + 1] = str(out)
    assert main(typed) == 2
    told = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("reading pictures")]
    assert len(told) == 1 and words.format(out) in told[0], told
    assert sorted(tmp_path.rglob("*")) == before
