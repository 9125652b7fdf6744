"""``farm3d render``: views, light, clips, films and bad options, on a real GLB of the small quadruped."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence
from tests.testing.animals import quadruped

from farm3d.apps.cli import main
from farm3d.apps.options import RenderOptions
from farm3d.apps.render import render
from farm3d.core.errors import Farm3DError, InputError
from farm3d.export.glb import write_glb


@pytest.fixture(scope="module")
def glb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("glb") / "animal.glb"
    write_glb(quadruped(), path)
    return path


def drawn(glb: Path, folder: Path, **options) -> np.ndarray:
    """Render with a transparent background; return RGBA in [0, 1]."""
    out = folder / "drawn.png"
    assert render(RenderOptions(glb, out, **({"size_px": 96, "background": "none"} | options))) == 0
    with Image.open(out) as picture:
        return np.asarray(picture).astype(float) / 255


def centre_x(picture: np.ndarray, rows: slice) -> float:
    alpha = picture[rows, :, 3]
    return float((alpha * (np.arange(alpha.shape[1]) + 0.5)).sum() / alpha.sum() / alpha.shape[1])


def test_the_head_is_where_the_view_says(glb: Path, tmp_path: Path) -> None:
    """The highest part of the animal is its head: left in a picture of its left side, right in one of its right side."""
    for view, low, high in (("left", 0.0, 0.35), ("side", 0.0, 0.35), ("90,0", 0.0, 0.35), ("right", 0.65, 1.0), ("front", 0.4, 0.6)):
        picture = drawn(glb, tmp_path, view=view)
        top = int(np.nonzero(picture[..., 3].max(1) > 0.5)[0][0])
        assert low < centre_x(picture, slice(top, top + 5)) < high, view


def test_the_animal_fills_the_picture_and_is_not_cut(glb: Path, tmp_path: Path) -> None:
    alpha = drawn(glb, tmp_path, view="side")[..., 3]
    assert alpha[[0, -1]].max() == alpha[:, [0, -1]].max() == 0
    assert (alpha.max(0) > 0.5).mean() > 0.6


def test_opposite_sides_have_mirrored_outlines(glb: Path, tmp_path: Path) -> None:
    left, right = (drawn(glb, tmp_path, view=view)[..., 3] for view in ("left", "right"))
    assert np.abs(left - right[:, ::-1]).mean() < 0.01


def test_light_from_the_right_lights_the_right(glb: Path, tmp_path: Path) -> None:
    right, left = (drawn(glb, tmp_path, view="front", light=f"{azimuth},0,0,1") for azimuth in (90, -90))
    columns = np.arange(96) / 96

    def balance(picture: np.ndarray) -> float:
        brightness = (picture[..., :3].sum(-1) * picture[..., 3]).sum(0)
        return float((brightness * columns).sum() / brightness.sum())

    assert balance(right) > balance(left) + 0.02


def test_a_stronger_light_is_brighter(glb: Path, tmp_path: Path) -> None:
    dim, bright = (drawn(glb, tmp_path, light=f"0,0,{strength},0") for strength in (0.2, 0.8))
    assert bright[..., :3].sum() > 1.3 * dim[..., :3].sum()
    assert np.array_equal(bright[..., 3], dim[..., 3])


def test_a_clip_moves_legs_and_repeats(glb: Path, tmp_path: Path) -> None:
    rest, walk = drawn(glb, tmp_path, view="side"), drawn(glb, tmp_path, view="side", clip="walk", time=0.3)
    assert np.abs(rest[..., 3] - walk[..., 3]).sum() > 50
    assert np.array_equal(drawn(glb, tmp_path, clip="walk"), drawn(glb, tmp_path, clip="walk", time=0.0))


def test_a_background_colour_is_kept_exactly(glb: Path, tmp_path: Path) -> None:
    picture = drawn(glb, tmp_path, background="#336699")
    assert picture.shape[2] == 3
    assert (picture[0, 0] * 255).round().tolist() == [0x33, 0x66, 0x99]


def test_films_turn_and_move(glb: Path, tmp_path: Path) -> None:
    turn = RenderOptions(glb, tmp_path / "turn.gif", size_px=32, turntable=True)
    trot = RenderOptions(glb, tmp_path / "trot.gif", size_px=32, clip="trot", view="side")
    for name, options in (("turn.gif", turn), ("trot.gif", trot)):
        assert render(options) == 0
        with Image.open(tmp_path / name) as film:
            frames = [np.asarray(frame.convert("L")).astype(int) for frame in ImageSequence.Iterator(film)]
        assert len(frames) >= 40 and max(np.abs(frames[0] - frame).max() for frame in frames) > 100


def test_equal_calls_equal_bytes(glb: Path, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        render(RenderOptions(glb, tmp_path / name, size_px=64))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"view": "sideways"}, "no such view"),
        ({"view": "1,2,3"}, "--view"),
        ({"view": "0,91"}, "elevation"),
        ({"view": "nan,0"}, "--view"),
        ({"light": "1"}, "--light"),
        ({"light": "0,0,1,-1"}, "strengths"),
        ({"clip": "fly"}, "no clip 'fly'"),
        ({"clip": "walk", "time": float("nan")}, "not a finite number"),
        ({"time": float("inf")}, "not a finite number"),
        ({"background": "purplish"}, "no such colour"),
        ({"size_px": 5}, "--size-px"),
        ({"size_px": 100_000}, "--size-px"),
        ({"turntable": True}, "--turntable makes a film"),
    ],
)
def test_bad_options_are_explained_and_nothing_is_written(glb: Path, tmp_path: Path, options: dict, told: str) -> None:
    with pytest.raises(InputError) as caught:
        render(RenderOptions(glb, tmp_path / "x.png", **options))
    assert told in str(caught.value) and "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["x.mp4", "x.gif", "x", "x.jpeg"])
def test_what_the_name_asks_for_must_make_sense(glb: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="--out"):
        render(RenderOptions(glb, tmp_path / name))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"glTF", b"\x89PNG", bytes(1000), None])
def test_a_file_that_is_no_glb_of_ours(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "bad.glb").write_bytes(content)
    with pytest.raises(Farm3DError, match=r"bad\.glb"):
        render(RenderOptions(tmp_path / "bad.glb", tmp_path / "x.png"))
    assert not (tmp_path / "x.png").exists()


def test_what_is_no_ordinary_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.glb")
    with pytest.raises(InputError, match=r"pipe\.glb: cannot read: not an ordinary file"):
        render(RenderOptions(tmp_path / "pipe.glb", tmp_path / "x.png"))


def test_a_cut_off_file_through_the_command_line(glb: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "cut.glb").write_bytes(glb.read_bytes()[:-5])
    assert main(["render", str(tmp_path / "cut.glb"), "--out", str(tmp_path / "x.png")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def with_floats(glb: Path, accessor_of: Callable[[dict], int], factor: float) -> bytes:
    """Return the file with the numbers of one accessor multiplied."""
    data = bytearray(glb.read_bytes())
    length = struct.unpack_from("<I", data, 12)[0]
    document = json.loads(data[20 : 20 + length])
    view = document["bufferViews"][document["accessors"][accessor_of(document)]["bufferView"]]
    start = 28 + length + view["byteOffset"]
    numbers = np.frombuffer(bytes(data[start : start + view["byteLength"]]), "<f4")
    data[start : start + view["byteLength"]] = (numbers * np.float32(factor)).tobytes()
    return bytes(data)


def test_a_clip_of_days_makes_no_film_of_days(glb: Path, tmp_path: Path) -> None:
    def times(document: dict) -> int:
        clip = next(clip for clip in document["animations"] if clip["name"] == "walk")
        return clip["samplers"][0]["input"]

    (tmp_path / "slow.glb").write_bytes(with_floats(glb, times, 1e6))
    with pytest.raises(InputError, match=r"slow\.glb: clip 'walk' lasts .* too long for a film"):
        render(RenderOptions(tmp_path / "slow.glb", tmp_path / "x.gif", clip="walk", size_px=16))
    assert not (tmp_path / "x.gif").exists()


@pytest.mark.parametrize("factor", [0.0, 1e38])
def test_an_animal_without_a_size_is_no_picture(glb: Path, tmp_path: Path, factor: float) -> None:
    data = with_floats(glb, lambda document: document["skins"][0]["inverseBindMatrices"], factor)
    (tmp_path / "odd.glb").write_bytes(data)
    with pytest.raises(InputError, match=r"odd\.glb: clip 'rest' puts the animal"):
        render(RenderOptions(tmp_path / "odd.glb", tmp_path / "x.png", size_px=16))
    assert not (tmp_path / "x.png").exists()
