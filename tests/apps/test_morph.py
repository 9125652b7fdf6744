"""`farm3d morph` as it is typed, between two GLBs of the small quadruped."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.testing.animals import quadruped

from farm3d.apps.cli import main, parse
from farm3d.apps.create_options import MorphOptions
from farm3d.export.filmstrip import ROWS
from farm3d.export.glb import write_glb
from farm3d.export.glb_reader import read_glb
from farm3d.motion.clips import CLIP_NAMES


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("ends")
    a, b = quadruped(seed=0, texture_px=64), quadruped(seed=1, texture_px=64)
    stretch = torch.tensor([1.3, 0.8, 1.1])
    skeleton = b.skeleton.replace(starts=b.skeleton.starts * stretch, ends=b.skeleton.ends * stretch, centre=b.skeleton.centre * stretch)
    b = b.replace(rest=b.rest.replace(vertices=b.rest.vertices * stretch), skeleton=skeleton, height_m=1.1)
    write_glb(a, folder / "tall.glb", texture_px=64)
    write_glb(b, folder / "small.glb", texture_px=64)
    return folder / "tall.glb", folder / "small.glb"


@pytest.fixture(scope="module")
def out(ends: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out") / "steps"
    assert main(["morph", *map(str, ends), "--out", str(folder), "--steps", "4"]) == 0
    return folder


def told(capsys: pytest.CaptureFixture[str]) -> str:
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("farm3d: "), lines
    return lines[0]


def height(path: Path) -> float:
    y = read_glb(path).vertices[:, 1]
    assert abs(float(y.min())) < 1e-5  # feet on the ground
    return float(y.max())


def test_every_option() -> None:
    words = "morph a.glb b.glb --out o.glb --at 0.3 --texture-px 512 --overwrite"
    assert parse(words.split()) == MorphOptions(Path("a.glb"), Path("b.glb"), Path("o.glb"), at=0.3, texture_px=512, overwrite=True)


def test_steps_are_whole_animals_from_one_to_the_other(out: Path, ends: tuple[Path, Path]) -> None:
    names = [f"tall_to_small_{share}.glb" for share in ("000", "033", "067", "100")]
    assert {path.name for path in out.iterdir()} == {*names, "tall_to_small.png"}
    assert [height(out / name) for name in names] == pytest.approx([1.9, 1.9 - 0.8 / 3, 1.1 + 0.8 / 3, 1.1], abs=1e-4)
    first = read_glb(ends[0])
    for name in names:
        model = read_glb(out / name)
        assert model.clip_names == CLIP_NAMES and model.joint_names == first.joint_names and model.category == "horse"
        assert torch.equal(model.faces, first.faces) and torch.equal(model.uv, first.uv)
        for clip in ("walk", "gallop", "graze"):
            assert abs(float(model.vertices_at(clip, 0.0)[:, 1].min())) < 0.25 * height(out / name)


@pytest.mark.parametrize(("end", "name"), [(0, "tall_to_small_000.glb"), (1, "tall_to_small_100.glb")])
def test_the_ends_are_the_files_that_were_given(out: Path, ends: tuple[Path, Path], end: int, name: str) -> None:
    given, got = read_glb(ends[end]), read_glb(out / name)
    assert torch.equal(got.texture, given.texture)
    assert torch.allclose(got.vertices, given.vertices, atol=1e-5)
    for clip in CLIP_NAMES:
        for time in (0.0, 0.4):
            assert torch.allclose(got.vertices_at(clip, time), given.vertices_at(clip, time), atol=1e-4), clip


def test_one_share_is_the_same_animal_as_that_step(out: Path, ends: tuple[Path, Path], tmp_path: Path) -> None:
    third = tmp_path / "third.glb"
    assert main(["morph", *map(str, ends), "--at", str(1 / 3), "--out", str(third)]) == 0
    assert third.read_bytes() == (out / "tall_to_small_033.glb").read_bytes()


def test_the_strip_has_a_column_a_step_and_animals_shrink_on_it(out: Path) -> None:
    with Image.open(io.BytesIO((out / "tall_to_small.png").read_bytes())) as strip:
        picture = np.asarray(strip.convert("L")).astype(int)
    width, line = picture.shape[1] // 4, (picture.shape[0] - 20) // len(ROWS)
    for row in range(len(ROWS)):
        rows = picture[20 + row * line : 20 + (row + 1) * line - 6]
        paper = int(np.median(rows[5]))
        tall = [int((np.abs(rows[:, 6 + i * width : (i + 1) * width - 6] - paper) > 12).any(1).sum()) for i in range(4)]
        assert tall[0] > tall[3] > 40 and tall == sorted(tall, reverse=True)


def test_other_categories_and_foreign_files_are_one_line(
    ends: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_glb(quadruped().replace(category="cow"), tmp_path / "cow.glb", clips=[], texture_px=8)
    write_glb(quadruped(sides=10), tmp_path / "other.glb", clips=[], texture_px=8)
    (tmp_path / "text.glb").write_text("no animal")
    for name, expected in (
        ("cow.glb", "show a horse and a cow"),
        ("other.glb", "different models of a horse"),
        ("text.glb", "text.glb: not a GLB written by farm3d"),
        ("none.glb", "none.glb: cannot read"),
    ):
        assert main(["morph", str(ends[0]), str(tmp_path / name), "--out", str(tmp_path / "out")]) == 2
        assert expected in told(capsys) and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--out", "o.glb"], "one file for several animals"),
        (["--out", "o", "--at", "0.5"], "expected FILE.glb"),
        (["--out", "o.glb", "--at", "1.5"], "--at 1.5"),
        (["--out", "o.glb", "--at", "nan"], "--at nan"),
        (["--out", "o", "--steps", "1"], "--steps 1"),
        (["--out", "o.glb", "--steps", "3", "--at", "0.5"], "give one of the two"),
        (["--out", "o", "--texture-px", "9"], "--texture-px 9"),
    ],
)
def test_options_that_do_not_fit(more: list[str], expected: str, ends: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["morph", *map(str, ends), *more]) == 2
    assert expected in told(capsys)


def test_nothing_of_others_and_no_end_is_written_over(ends: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["morph", *map(str, ends), "--at", "0.5", "--out", str(ends[1]), "--overwrite"]) == 2
    assert "small.glb would be written over" in told(capsys)
    mine = tmp_path / "tall_to_small_100.glb"
    mine.write_text("somebody's own work")
    assert main(["morph", *map(str, ends), "--out", str(tmp_path), "--steps", "2"]) == 2
    assert "was not made by farm3d" in told(capsys) and [path.name for path in tmp_path.iterdir()] == [mine.name]


def test_a_full_disk_leaves_no_file(ends: tuple[Path, Path], tmp_path: Path, full_disk: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["morph", *map(str, ends), "--out", str(tmp_path / "out"), "--steps", "2"]) == 2
    assert "cannot write" in told(capsys) and not (tmp_path / "out").exists()


def test_one_file_that_stands_there_is_kept(ends: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep = tmp_path / "keep.GLB"
    keep.write_bytes(ends[0].read_bytes())
    words = ["morph", *map(str, ends), "--at", "0.5", "--out", str(keep)]
    assert main(words) == 2 and "keep.GLB: exists" in told(capsys)
    assert keep.read_bytes() == ends[0].read_bytes()
    assert main([*words, "--overwrite"]) == 0 and keep.read_bytes() != ends[0].read_bytes()
