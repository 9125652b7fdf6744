"""Films play, have the right size, and are whole or absent."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from farm3d.core.errors import InputError, MissingPartError, OutputError
from farm3d.export.video import write_turntable


def _frames(count: int = 6, height: int = 33, width: int = 47) -> Iterator[np.ndarray]:
    for i in range(count):
        frame = np.full((height, width, 3), 40, np.uint8)
        frame[:, : (i + 1) * width // count] = (200, 120, 60)
        yield frame


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_animations_hold_every_frame(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"turn{suffix}"
    write_turntable(_frames(), path, fps=20)
    with Image.open(path) as film:
        assert film.size == (47, 33) and getattr(film, "n_frames", 1) == 6
        film.seek(5)
        assert np.abs(np.asarray(film.convert("RGB")).astype(int) - [200, 120, 60]).max() < 16
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_mp4_is_h264_with_even_sides_and_every_frame(tmp_path: Path) -> None:
    ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="no imageio-ffmpeg: the extra 'video' is not installed")
    path = tmp_path / "turn.mp4"
    write_turntable(_frames(), path, fps=10)
    reader = ffmpeg.read_frames(str(path))
    meta = next(reader)
    pictures = [np.frombuffer(data, np.uint8).reshape(34, 48, 3) for data in reader]
    assert meta["codec"] == "h264" and meta["size"] == (48, 34) and "yuv420p" in meta["pix_fmt"] and meta["fps"] == 10
    assert len(pictures) == 6
    assert np.abs(pictures[5][4:-4, 4:-4].astype(int) - [200, 120, 60]).max() < 20
    again = tmp_path / "again.mp4"
    write_turntable(_frames(), again, fps=10)
    assert again.read_bytes() == path.read_bytes()


def test_floating_tensors_are_srgb_in_0_1(tmp_path: Path) -> None:
    write_turntable([torch.full((8, 8, 3), value) for value in (0.0, 0.5, 1.0)], tmp_path / "a.webp")
    with Image.open(tmp_path / "a.webp") as film:
        film.seek(1)
        assert abs(int(np.asarray(film.convert("RGB"))[4, 4, 0]) - 128) <= 2


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_a_failing_renderer_leaves_nothing(tmp_path: Path, suffix: str) -> None:
    def failing() -> Iterator[np.ndarray]:
        yield from _frames(3)
        raise RuntimeError("the renderer failed")

    if suffix == ".mp4":
        pytest.importorskip("imageio_ffmpeg", reason="no imageio-ffmpeg: the extra 'video' is not installed")
    with pytest.raises(RuntimeError, match="renderer failed"):
        write_turntable(failing(), tmp_path / f"turn{suffix}")
    assert list(tmp_path.iterdir()) == []


def test_full_disk_leaves_nothing(tmp_path: Path, full_disk: None) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (3, 64, 64, 3), np.uint8)
    with pytest.raises(OutputError):
        write_turntable(noise, tmp_path / "turn.gif")
    assert list(tmp_path.iterdir()) == []


def test_bad_requests(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.avi.*use one of \.mp4"):
        write_turntable(_frames(), tmp_path / "turn.avi")
    with pytest.raises(InputError, match="at least one frame"):
        write_turntable([], tmp_path / "turn.gif")
    with pytest.raises(InputError, match="frame 1 has shape"):
        write_turntable([np.zeros((4, 4, 3), np.uint8), np.zeros((4, 6, 3), np.uint8)], tmp_path / "turn.gif")
    with pytest.raises(InputError, match="frames a second"):
        write_turntable(_frames(), tmp_path / "turn.gif", fps=0)
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra_mp4_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(MissingPartError, match=r"farm3d\[video\]"):
        write_turntable(_frames(), tmp_path / "turn.mp4")


def test_full_disk_leaves_no_mp4(tmp_path: Path, full_disk: None) -> None:
    """ffmpeg may fail as late as when it closes the file, and tells nobody."""
    pytest.importorskip("imageio_ffmpeg", reason="no imageio-ffmpeg: the extra 'video' is not installed")
    for count in (2, 30):
        noise = np.random.default_rng(0).integers(0, 255, (count, 64, 64, 3), np.uint8)
        with pytest.raises(OutputError):
            write_turntable(noise, tmp_path / "turn.mp4")
    assert list(tmp_path.iterdir()) == []
