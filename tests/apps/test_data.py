"""``farm3d prepare-data`` as it is typed: rows of photographs, reasons for those of no use, and changed photographs noticed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.testing.toy_animals import draw_toy

from farm3d.apps.cli import main
from farm3d.core.shard_reader import read_shards
from farm3d.model.feature_pca import FeaturePca

SIZE = 128


@pytest.fixture(autouse=True)
def no_segmenter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the segmenter of whoever runs it."""
    monkeypatch.setenv("FARM3D_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("U2NET_HOME", str(tmp_path / "rembg"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Toys: two with transparency, one with a mask beside it, one with a mask elsewhere, one of no use, and one that is no picture."""
    folder, masks = tmp_path / "photos", tmp_path / "masks"
    folder.mkdir()
    masks.mkdir()
    for number, (coat, side) in enumerate([("red", "left"), ("blue", "right"), ("green", "left"), ("white", "left"), ("red", "right")]):
        pixels = draw_toy(coat, side, size_px=SIZE).transpose(1, 2, 0)
        picture, mask = Image.fromarray(np.ascontiguousarray(pixels[..., :3])), Image.fromarray(np.ascontiguousarray(pixels[..., 3]))
        if number < 2:
            Image.fromarray(np.ascontiguousarray(pixels)).save(folder / f"alpha{number}.png")
            continue
        picture.save(folder / f"photo{number}.jpg")
        if number == 2:
            mask.save(folder / "photo2_mask.png")
        if number == 3:
            mask.save(masks / "photo3_mask.png")
    (folder / "torn.jpg").write_bytes(b"\xff\xd8\xff torn")
    return folder


def prepare(photos: Path, out: Path, *more: str) -> int:
    words = ["--size-px", "64", "--workers", "1", "--per-shard", "4", "--dims", "3", "--category", "horse"]
    return main(["prepare-data", str(photos), "--out", str(out), *words, *more])


def rows_of(out: Path, name: str = "horse-photos") -> dict[str, dict]:
    rows = [json.loads(members["json"]) for _, members in read_shards(out / f"{name}.plan.json")]
    return {row["file"]: row for row in rows}


def test_rows_of_photographs_and_reasons(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "set"
    assert prepare(photos, out) == 0
    assert "no segmenter is installed" in capsys.readouterr().err
    rows = rows_of(out)
    assert sorted(rows) == ["alpha0.png", "alpha1.png", "photo2.jpg", "photo3.jpg", "photo4.jpg", "torn.jpg"]
    assert rows["alpha0.png"]["mask_source"] == "alpha" and rows["photo2.jpg"]["mask_source"] == "file"
    assert "no mask, no transparency and no segmenter" in rows["photo3.jpg"]["failed"]
    assert "torn.jpg: a damaged or truncated picture" in rows["torn.jpg"]["failed"] and str(photos) not in rows["torn.jpg"]["failed"]
    assert rows["alpha0.png"]["source_size_px"] == [SIZE, SIZE] and rows["alpha0.png"]["view"] is None
    assert FeaturePca.load(out / "horse-photos-features.pca").config.dims == 3
    assert main(["data", "check", str(out)]) == 0
    assert main(["data", "look", str(out), "--out", str(tmp_path / "l.png"), "--features"]) == 0
    assert main(["data", "look", str(out), "--out", str(tmp_path / "f.png"), "--failed"]) == 0


def test_equal_photographs_elsewhere_give_equal_bytes(photos: Path, tmp_path: Path) -> None:
    assert prepare(photos, tmp_path / "one", "--no-features") == 0
    elsewhere = photos.rename(tmp_path / "moved")
    assert prepare(elsewhere, tmp_path / "two", "--no-features") == 0
    for path in (tmp_path / "one").glob("horse-photos*.tar"):
        assert (tmp_path / "two" / path.name).read_bytes() == path.read_bytes()


def test_masks_of_a_folder(photos: Path, tmp_path: Path) -> None:
    assert prepare(photos, tmp_path / "set", "--mask", str(tmp_path / "masks"), "--no-features", "--name", "mine") == 0
    rows = rows_of(tmp_path / "set", "mine")
    assert rows["photo3.jpg"]["mask_source"] == "file" and "failed" in rows["photo4.jpg"]


def test_a_changed_photograph_is_noticed_by_name(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "set"
    assert prepare(photos, out, "--no-features") == 0
    assert prepare(photos, out, "--no-features") == 0
    Image.new("RGB", (SIZE, SIZE), "red").save(photos / "photo4.jpg")
    capsys.readouterr()
    assert prepare(photos, out, "--no-features") == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "another data set of this name" in line and "photo4.jpg" in line


def test_nothing_to_make_features_of_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "blank"
    folder.mkdir()
    Image.new("RGB", (SIZE, SIZE), "red").save(folder / "a.png")
    assert prepare(folder, tmp_path / "set") == 2
    assert "no picture to make features of" in capsys.readouterr().err
    assert "failed" in rows_of(tmp_path / "set")["a.png"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "nowhere: no such folder"),
        (["empty"], "empty: no picture in this folder"),
        (["photos", "--mask", "empty"], "empty: no mask for any of the photos"),
        (["photos", "--size-px", "4"], "--size-px 4: expected 16 to 2048"),
        (["photos", "--workers", "0"], "--workers 0: expected at least 1"),
        (["photos", "--name", "A B"], "'A B': not a name for a data set"),
        (["photos", "--mask-model", "no.onnx"], "no.onnx: no such segmenter file"),
        (["photos", "--encoder", "nowhere"], "nowhere: no such folder"),
    ],
)
def test_bad_words_end_with_two_and_one_line(
    photos: Path, tmp_path: Path, words: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert main(["prepare-data", *words, "--out", "set"]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("farm3d: ") and message in line, line
    assert not (tmp_path / "set").exists()


def test_captions_beside_photographs_name_the_view(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (photos / "alpha0.txt").write_text("A red toy,\n seen from its LEFT side\n", encoding="utf-8")
    (photos / "photo2.txt").write_text("a green toy", encoding="utf-8")
    assert prepare(photos, tmp_path / "set", "--no-features") == 0
    rows = rows_of(tmp_path / "set")
    assert rows["alpha0.png"]["prompt"] == "A red toy, seen from its LEFT side"
    assert (rows["alpha0.png"]["view"], rows["alpha0.png"]["view_name"]) == (2, "left")
    assert rows["photo2.jpg"]["prompt"] == "a green toy" and rows["photo2.jpg"]["view"] is None
    assert "prompt" not in rows["alpha1.png"]
    assert main(["data", "check", str(tmp_path / "set")]) == 0
    (photos / "photo2.txt").write_text("a green toy, seen from behind", encoding="utf-8")
    assert prepare(photos, tmp_path / "set", "--no-features") == 2
    assert "another data set of this name" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\xff\xfe\x00", "photo4.txt: this caption is no UTF-8 text"), (b" \n", "is empty"), (b"a " * 5000, "longer than 8192 bytes")],
)
def test_a_caption_of_no_use_is_said_before_anything_is_written(
    photos: Path, tmp_path: Path, content: bytes, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "photo4.txt").write_bytes(content)
    assert prepare(photos, tmp_path / "set") == 2
    assert message in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (tmp_path / "set").exists()
