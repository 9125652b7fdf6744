"""`farm3d create` as it is typed: a tiny real model draws toys, the real Reconstructor fits them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.testing.drawing_model import write_drawing_model

import farm3d
from farm3d.apps.cli import main, parse
from farm3d.apps.create_options import CreateOptions
from farm3d.apps.from_words import Tries, animal_from_words
from farm3d.core.errors import InputError, NoAnimalError
from farm3d.diffusion.prior import load_prior
from farm3d.export.glb_reader import read_glb
from farm3d.model.reconstructor import Reconstructor

pytest.importorskip("diffusers", reason="diffusers is not installed: pip install 'farm3d[diffusion]'")

FIT = ["--refine-steps", "1", "--texture-px", "128", "--threads", "1"]
QUICK = [*FIT, "--steps", "3", "--guidance", "2", "--any-animal", "--reader", "none"]
NAME = "a-red-horse"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_drawing_model(tmp_path_factory.mktemp("model") / "toys")


def create(model: Path, out: Path, *more: str, words: str = "a red horse") -> int:
    return main(["create", words, "--out", str(out), "--prior", str(model), "--tries", "5", "--fits", "5", *QUICK, *more])


@pytest.fixture(scope="module")
def made(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made")
    assert create(model, out) == 0
    return out


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def told(capsys: pytest.CaptureFixture[str]) -> str:
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("farm3d: "), lines
    return lines[0]


def test_every_option() -> None:
    words = "create words --out o --name n --category cow --prior m --tries 2 --fits 1 --seed 3 --guidance 5 --steps 7 --any-animal"
    words += " --reader none --texture-from a.jpg --texture-mask m.png --segmenter s.onnx --refine-steps 9 --height-m 1.1"
    words += " --device cuda --threads 2 --turntable --texture-px 64"
    options = parse([*words.split(), "--with-light", "--overwrite"])
    assert options == CreateOptions(
        "words",
        Path("o"),
        "n",
        "cow",
        "m",
        2,
        1,
        3,
        5.0,
        7,
        True,
        "none",
        Path("a.jpg"),
        Path("m.png"),
        Path("s.onnx"),
        9,
        1.1,
        "cuda",
        2,
        True,
        64,
        True,
        True,
    )


@pytest.mark.slow
def test_four_whole_files_that_say_what_was_drawn_and_taken(made: Path) -> None:
    assert files_in(made) == {f"{NAME}.glb", f"{NAME}.json", f"{NAME}.png", f"{NAME}_picture.png"}
    model = read_glb(made / f"{NAME}.glb")
    assert model.category == "horse" and "gallop" in model.clip_names
    facts = json.loads((made / f"{NAME}.json").read_text())
    drawn = facts["drawn"]
    assert drawn["words"] == "a red horse" and drawn["prompt"].startswith("a red horse, seen from its front ")
    scores = {number: one["score"] for number, one in enumerate(drawn["tries"], start=1) if "score" in one}
    assert len(drawn["tries"]) == 5 and scores and all("refused" in one for one in drawn["tries"] if "score" not in one)
    assert drawn["taken"] == min(scores, key=lambda number: scores[number])
    assert facts["hypotheses"][0]["score"] == scores[drawn["taken"]]
    assert (facts["camera"]["width"], facts["camera"]["height"]) == (32, 32)


@pytest.mark.slow
def test_reconstructing_the_picture_gives_the_same_animal(made: Path, tmp_path: Path) -> None:
    assert main(["reconstruct", str(made / f"{NAME}_picture.png"), "--out", str(tmp_path), *FIT]) == 0
    assert (tmp_path / f"{NAME}_picture.glb").read_bytes() == (made / f"{NAME}.glb").read_bytes()
    assert (tmp_path / f"{NAME}_picture.png").read_bytes() == (made / f"{NAME}.png").read_bytes()  # the contact sheet


@pytest.mark.slow
def test_equal_words_and_seed_give_equal_files(made: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert create(model, tmp_path) == 0
    out = capsys.readouterr().out
    assert "took picture" in out.splitlines()[0] and "best score of" in out
    for suffix in (".glb", ".png", "_picture.png"):
        assert (tmp_path / f"{NAME}{suffix}").read_bytes() == (made / f"{NAME}{suffix}").read_bytes()


@pytest.mark.slow
def test_what_is_finished_is_kept_and_what_is_not_ours_too(
    made: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in made.iterdir()}
    assert create(model, made) == 0
    assert "finished already" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in made.iterdir()}
    Image.new("RGB", (32, 32)).save(tmp_path / f"{NAME}_picture.png")
    assert create(model, tmp_path) == 2
    assert f"{NAME}_picture.png: exists and was not made by farm3d" in told(capsys) and files_in(tmp_path) == {f"{NAME}_picture.png"}


@pytest.mark.slow
def test_in_python(made: Path, model: Path) -> None:
    assert farm3d.animal_from_words is animal_from_words
    tries = Tries(5, 5, guidance=2.0, steps=3, any_animal=True, reader="none", refine_steps=1, texture_px=128)
    stages = set()
    got = animal_from_words("a red horse", prior=load_prior(model), tries=tries, callback=lambda number, stage, step: stages.add(stage))
    assert stages == {"drawing", "fitting"} and got.result.animal.category == "horse"
    with Image.open(made / f"{NAME}_picture.png") as picture:
        assert np.array_equal(np.asarray(picture), got.pixels)


def test_no_picture_that_shows_an_animal_is_one_line_and_no_file(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With one step the toys' model draws nothing but noise: no backbone sees an animal in it."""
    words = ["create", "a red horse", "--out", str(tmp_path / "out"), "--prior", str(model), "--steps", "1", "--tries", "2", *FIT]
    assert main(words) == 2
    line = told(capsys)
    assert "none of 2 drawn pictures shows one whole animal as asked: " in line and "--tries" in line
    assert not (tmp_path / "out").exists()
    with pytest.raises(NoAnimalError, match="none of 1 drawn"):
        animal_from_words(
            "a red horse", reconstructor=Reconstructor.from_pretrained("horse"), prior=load_prior(model), tries=Tries(1, steps=1)
        )


@pytest.mark.parametrize(
    ("words", "more", "expected"),
    [
        ("a white unicorn", [], "shipped: cow, cow-learned, horse, horse-learned, sheep, sheep-learned"),
        ("a horse and a cow", [], "which is it"),
        ("...", [], "no words to draw from"),
        ("a horse", ["--tries", "0"], "--tries 0"),
        ("a horse", ["--fits", "0"], "--fits 0"),
        ("a horse", ["--reader", "nothing/here"], "nothing/here: does not exist"),
        ("a horse", ["--steps", "0"], "--steps 0"),
        ("a horse", ["--guidance", "nan"], "--guidance nan"),
        ("a horse", ["--seed", "-1"], "--seed -1"),
        ("a horse", ["--height-m", "-1"], "height"),
        ("a horse", ["--threads", "0"], "--threads"),
        ("a horse", ["--name", "../b"], "--name"),
        ("a horse", ["--name", "n" * 240], "at most 235"),
        ("a horse", ["--device", "abacus"], "no such kind of device"),
        ("a horse", ["--category", "zebra"], "no shipped model 'zebra'"),
        ("a horse", ["--prior", "nowhere/at/all"], "no such folder"),
        ("a horse", ["--texture-mask", __file__], "--texture-from, which is left out"),
        ("a horse", ["--texture-from", "none.jpg"], "none.jpg: no such file"),
    ],
)
def test_what_cannot_be_used_is_one_line(
    words: str, more: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["create", words, "--out", str(tmp_path / "out"), *more]) == 2
    assert expected in told(capsys)
    assert not (tmp_path / "out").exists()


def test_numbers_are_checked_before_anything_is_loaded() -> None:
    with pytest.raises(InputError, match="--tries 0"):
        animal_from_words("a horse", tries=Tries(0))
