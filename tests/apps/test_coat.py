"""`--texture-from`: the coat of another picture or GLB on the same shape, and what fits no animal of the category."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.testing.animals import quadruped

from farm3d.apps.cli import main
from farm3d.apps.coat import coat_inputs
from farm3d.apps.options import ReconstructOptions
from farm3d.export.glb import glb_bytes, write_glb
from farm3d.export.glb_animal import animal_from_model
from farm3d.export.glb_reader import read_glb

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "horse.png"
QUICK = ["--refine-steps", "1", "--texture-px", "128", "--threads", "1"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``mare.png`` with alpha; ``blue.jpg``, the same in blue and turned over, with ``blue_mask.png`` beside it."""
    folder = tmp_path_factory.mktemp("photos")
    with Image.open(EXAMPLE) as picture:
        small = picture.convert("RGBA").resize((200, 200))
    small.save(folder / "mare.png")
    turned = np.asarray(small)[:, ::-1]
    Image.fromarray((turned[..., :3] * [0.2, 0.4, 1.0]).astype(np.uint8)).save(folder / "blue.jpg", quality=95)
    Image.fromarray(np.ascontiguousarray(turned[..., 3])).save(folder / "blue_mask.png")
    return folder


@pytest.fixture(scope="module")
def made(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made")
    assert main(["reconstruct", str(photos / "mare.png"), "--out", str(out), *QUICK]) == 0
    return out


@pytest.fixture(scope="module")
def green(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The mare's GLB with another texture."""
    animal = animal_from_model(read_glb(made / "mare.glb"))
    path = tmp_path_factory.mktemp("glb") / "green.glb"
    path.write_bytes(glb_bytes(animal.replace(albedo=torch.rand(128, 128, 3) * torch.tensor([0.1, 1.0, 0.1])), clips=[], texture_px=128))
    return path


def told(capsys: pytest.CaptureFixture[str]) -> str:
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("farm3d: "), lines
    return lines[0]


def test_the_texture_of_a_glb_is_put_on_texel_for_texel(made: Path, photos: Path, green: Path, tmp_path: Path) -> None:
    assert main(["reconstruct", str(photos / "mare.png"), "--texture-from", str(green), "--out", str(tmp_path), *QUICK]) == 0
    own, worn = read_glb(made / "mare.glb"), read_glb(tmp_path / "mare.glb")
    assert torch.equal(worn.texture, read_glb(green).texture) and not torch.equal(own.texture, worn.texture)
    assert torch.equal(own.vertices, worn.vertices) and torch.equal(own.uv, worn.uv)
    facts = json.loads((tmp_path / "mare.json").read_text())
    assert facts["texture_from"] == {"file": "green.glb", "iou": None} and facts["texture_seen"] is None
    before, after = (np.asarray(Image.open(folder / "mare.png").convert("RGB")).astype(int) for folder in (made, tmp_path))
    greener = after[22:342, 976:1296].reshape(-1, 3).mean(0) - before[22:342, 976:1296].reshape(-1, 3).mean(0)  # the panel "same view"
    assert greener[1] > greener[0] and greener[1] > greener[2]


@pytest.mark.slow
def test_the_texture_of_a_picture_is_the_one_its_own_reconstruction_has(made: Path, photos: Path, tmp_path: Path) -> None:
    assert main(["reconstruct", str(photos / "mare.png"), "--texture-from", str(photos / "blue.jpg"), "--out", str(tmp_path), *QUICK]) == 0
    mask = ["--mask", str(photos / "blue_mask.png")]
    assert main(["reconstruct", str(photos / "blue.jpg"), *mask, "--out", str(tmp_path), *QUICK]) == 0
    own, worn, other = (read_glb(path) for path in (made / "mare.glb", tmp_path / "mare.glb", tmp_path / "blue.glb"))
    assert torch.equal(worn.texture, other.texture) and torch.equal(worn.vertices, own.vertices)
    assert worn.texture[..., 2].mean() > 2 * worn.texture[..., 0].mean()
    facts, its = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("mare", "blue"))
    assert facts["texture_from"] == {"file": "blue.jpg", "iou": its["iou"]} and facts["texture_seen"] == its["texture_seen"]


def test_which_mask_marks_the_coat(photos: Path, tmp_path: Path) -> None:
    def inputs(**more) -> list[Path]:
        return coat_inputs(ReconstructOptions((), tmp_path, **more))

    blue, mare = photos / "blue.jpg", photos / "mare.png"
    assert inputs() == [] and inputs(texture_from=mare) == [mare]
    assert inputs(texture_from=blue) == [blue, photos / "blue_mask.png"]
    assert inputs(texture_from=blue, texture_mask=mare) == [blue, mare]
    assert inputs(texture_from=tmp_path / "a.glb") == [tmp_path / "a.glb"]


def test_the_coats_file_is_not_written_over(made: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (made / "mare.glb").read_bytes()
    words = ["reconstruct", str(photos / "mare.png"), "--texture-from", str(made / "mare.glb"), "--out", str(made), "--overwrite", *QUICK]
    assert main(words) == 2
    assert "mare.glb would be written over" in told(capsys) and (made / "mare.glb").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "more", "expected"),
    [
        ("none.jpg", [], "none.jpg: no such file"),
        ("none.glb", [], "none.glb: no such file"),
        ("text.glb", [], "text.glb: not a GLB written by farm3d"),
        ("cow.glb", [], "cow.glb: the coat of a cow does not fit a horse"),
        ("toy.glb", [], "toy.glb: was made with another model of a horse"),
        ("toy.glb", ["--texture-mask", "none.png"], "none.png: no such file"),
        ("toy.glb", ["--texture-mask", "black.png"], "needs no mask"),
        ("black.png", ["--texture-mask", "black.png"], "black.png: the mask is black"),
    ],
)
def test_what_is_no_coat_is_one_line_and_leaves_nothing(
    name: str, more: list[str], expected: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.glb").write_text("no animal")
    write_glb(quadruped().replace(category="cow"), tmp_path / "cow.glb", clips=[], texture_px=8)
    write_glb(quadruped(), tmp_path / "toy.glb", clips=[], texture_px=8)
    Image.new("L", (64, 64)).save(tmp_path / "black.png")
    words = ["reconstruct", str(photos / "mare.png"), "--texture-from", str(tmp_path / name), "--out", str(tmp_path / "out"), *QUICK]
    assert main([*words, *(str(tmp_path / word) if word.endswith(".png") else word for word in more)]) == 2
    assert expected in told(capsys) and not (tmp_path / "out").exists()


def test_a_mask_without_a_coat_is_refused(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(photos / "blue_mask.png", tmp_path)
    words = ["reconstruct", str(photos / "mare.png"), "--texture-mask", str(tmp_path / "blue_mask.png"), "--out", str(tmp_path / "out")]
    assert main(words) == 2
    assert "--texture-from, which is left out" in told(capsys)
