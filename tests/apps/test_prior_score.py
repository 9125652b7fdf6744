"""``farm3d prior score`` and ``farm3d prior judge`` as they are typed, on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from tests.testing.toy_barn import toy_prior, write_toy_facts

from farm3d.apps.cli import main
from farm3d.model.caption_reader import CaptionReader

pytest.importorskip("diffusers", reason="diffusers is not installed: pip install 'farm3d[diffusion]'")


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("prior")
    toy_prior().save_pretrained(folder / "model")
    for split, count in (("train", 40), ("val", 16)):
        write_toy_facts(folder / f"horse-{split}", "horse", split=split, count=count)
    return {"model": folder / "model", "train": folder / "horse-train", "val": folder / "horse-val", "state": folder / "state"}


def scored(places: dict[str, Path], out: Path) -> list[str]:
    data = ["--train-data", str(places["train"]), "--held-out", str(places["val"])]
    numbers = ["--count", "8", "--steps", "2", "--taught", "24", "--searched", "24", "--threads", "1"]
    return ["prior", "score", str(places["model"]), *data, "--out", str(out), "--state", str(places["state"]), *numbers]


def test_a_score_is_written_and_the_second_run_makes_nothing_again(
    places: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(scored(places, tmp_path / "first")) == 0
    told = capsys.readouterr()
    assert "score.md: 8 samples: species" in told.out and "drawing horse: 8 of 8" in told.err
    report = json.loads((tmp_path / "first" / "score.json").read_text())
    assert report["model"]["digest"] and report["settings"]["count"] == 8 and len(report["species"]["horse"]["seeds"]) == 8
    assert report["command"].startswith("farm3d prior score MODEL --train-data horse-train") and str(tmp_path) not in report["command"]
    assert report["autoencoder"]["mask_iou"] > 0.5
    names = {"score.json", "score.md", "views-horse.png", "samples-horse-1.png", "neighbours-horse.png"}
    assert {path.name for path in (tmp_path / "first").iterdir()} == names
    assert main(scored(places, tmp_path / "again")) == 0
    assert "drawing" not in capsys.readouterr().err
    assert json.loads((tmp_path / "again" / "score.json").read_text()) | {"seconds": 0} == report | {"seconds": 0}
    with Image.open(tmp_path / "again" / "views-horse.png") as one, Image.open(tmp_path / "first" / "views-horse.png") as other:
        assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize(
    "changes, words",
    [
        (["--count", "3"], "expected at least 8"),
        (["--species", "wolf"], "no pictures of a wolf"),
        (["--held-out", "nowhere"], "nowhere: no data set"),
    ],
)
def test_what_cannot_be_scored_is_one_line(
    places: dict[str, Path], tmp_path: Path, changes: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*scored(places, tmp_path), *changes]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("farm3d: ") and words in last


def looked(places: dict[str, Path], out: Path) -> list[str]:
    return ["prior", "look", str(places["model"]), "--out", str(out / "look.png")]


@pytest.mark.parametrize("verb", ["look", "score", "judge"])
def test_a_hub_id_without_a_network_and_a_device_that_is_not_there_are_one_line(
    places: dict[str, Path], tmp_path: Path, verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if verb == "judge":
        pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'farm3d[evaluate]'")
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    words = {"look": looked, "score": scored, "judge": lambda places, out: judged(places, out, out)}[verb](places, tmp_path / "out")
    nobody = ["nobody/knows-this-model" if word == str(places["model"]) else word for word in words]
    for asked, told in (
        (nobody, "nobody/knows-this-model: no such folder, and not among the models downloaded before"),
        ([*words, "--device", f"cuda:{torch.cuda.device_count() + 1}"], "torch finds no such GPU"),
    ):
        assert main(asked) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert line.startswith("farm3d: ") and told in line
    assert not (tmp_path / "out").exists()


def read(places: dict[str, Path], out: Path, *more: str) -> list[str]:
    words = ["--data", str(places["train"]), "--held-out", str(places["val"]), "--out", str(out), "--state", str(places["state"])]
    return ["prior", "reader", *words, "--taught", "24", "--epochs", "2", "--threads", "1", *more]


def test_a_reader_is_trained_and_the_same_the_second_time(
    places: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(read(places, tmp_path / "first")) == 0
    told = capsys.readouterr()
    assert "of 16 held-out pictures reads species 100.0 %, view" in told.out and "features of training pictures: 24 of 24" in told.err
    assert main(read(places, tmp_path / "again")) == 0
    assert "features" not in capsys.readouterr().err
    assert (tmp_path / "first" / "model.safetensors").read_bytes() == (tmp_path / "again" / "model.safetensors").read_bytes()
    card = (tmp_path / "first" / "README.md").read_text()
    assert "farm3d prior reader --data horse-train" in card and str(tmp_path) not in card
    reader = CaptionReader.from_pretrained(tmp_path / "first")
    assert reader.config.species == ("horse",)


@pytest.mark.parametrize(
    "changes, words",
    [(["--taught", "3"], "expected at least 8"), (["--data", "nowhere"], "nowhere: no data set"), (["--epochs", "0"], "expected at least")],
)
def test_a_reader_that_cannot_be_trained_is_one_line(
    places: dict[str, Path], tmp_path: Path, changes: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(read(places, tmp_path / "out", *changes)) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("farm3d: ") and words in last and not (tmp_path / "out").exists()
    (tmp_path / "mine").mkdir()
    assert main(read(places, tmp_path / "mine")) == 2 and "is not a model folder" in capsys.readouterr().err


def judged(places: dict[str, Path], out: Path, rigs: Path) -> list[str]:
    words = ["--held-out", str(places["val"]), "--out", str(out), "--rigs", str(rigs), "--species", "horse", "--threads", "1"]
    return ["prior", "judge", str(places["model"]), *words, "--faults", "wrong-coat", "--pictures", "2", "--descent", "2", "--quick"]


def test_a_verdict_is_written(places: dict[str, Path], rig_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'farm3d[evaluate]'")
    assert main(judged(places, tmp_path, rig_folder)) == 0
    assert "judge.md: true view preferred" in capsys.readouterr().out
    report = json.loads((tmp_path / "judge.json").read_text())
    assert report["views"]["own"]["all"]["sum"]["n"] == 2
    coat = report["faults"]["wrong-coat"]
    assert len(coat["gradient"]["rows"]) == 12 and coat["gradient"]["values"] == [1.0, 0.5, 0.0]
    assert [row["way_back"].keys() for row in coat["by_number"]] == [{"horse"}] * 2 and len(report["settings_compared"]) == 2
    assert [(row["levels"], row["guidance"], row["weighting"]) for row in report["settings_compared"]] == [
        ([0.7, 0.85], 5, weighting) for weighting in ("1-alphabar", "signal")
    ]
    freed = coat["free_form"][0]
    assert (freed["levels"], freed["guidance"], freed["weighting"]) == ([0.7, 0.85], 5, "1-alphabar")
    assert {"way_back", "remaining", "disturbed"} <= set(freed["oracle"])
    text = (tmp_path / "judge.md").read_text()
    assert "| 0.7–0.85 | 5 | 1-alphabar |" in text and "| 0.7–0.85 | 5 | signal |" in text
    assert "with t 0.7–0.85, guidance 5, weighting 1-alphabar, on the horse," in text
    assert "wrong-coat" in text and "nan" not in text and str(tmp_path) not in text
    for name in ("gradients.png", "mended-wrong-coat.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.width > 500


def test_what_cannot_be_judged_is_one_line(
    places: dict[str, Path], rig_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'farm3d[evaluate]'")
    for changes, words in ((["--faults", "two-heads"], "no fault 'two-heads'"), (["--species", "wolf"], "of wolf")):
        assert main([*judged(places, tmp_path, rig_folder), *changes]) == 2
        last = capsys.readouterr().err.strip().splitlines()[-1]
        assert last.startswith("farm3d: ") and words in last
