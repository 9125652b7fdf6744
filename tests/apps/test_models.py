"""``farm3d models``: the list, and when nothing has to be fetched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from farm3d.apps.models import fetch_models, list_models, shipped_models
from farm3d.apps.options import ModelsFetchOptions, ModelsListOptions
from farm3d.core.errors import InputError


@pytest.fixture(autouse=True)
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No segmenter on this machine, and no npm to bring one."""
    monkeypatch.setenv("FARM3D_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("U2NET_HOME", str(tmp_path / "rembg"))
    return tmp_path / "home"


def picture(path: Path, *, transparent: bool) -> Path:
    pixels = np.full((64, 64, 4), 255, np.uint8)
    if transparent:
        pixels[:, :32, 3] = 0
    Image.fromarray(pixels).save(path)
    return path


def test_a_picture_with_transparency_needs_no_segmenter(tmp_path: Path, empty_home: Path) -> None:
    assert fetch_models(ModelsFetchOptions(needed_by=picture(tmp_path / "a.png", transparent=True))) == 0
    assert not empty_home.exists()


def test_one_that_is_there_is_enough(tmp_path: Path, empty_home: Path) -> None:
    (tmp_path / "rembg").mkdir()
    (tmp_path / "rembg" / "u2net.onnx").write_bytes(b"x")
    assert fetch_models(ModelsFetchOptions(needed_by=picture(tmp_path / "a.png", transparent=False))) == 0
    assert not empty_home.exists()


def test_a_picture_that_cannot_be_read_is_said_first(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(InputError, match=r"a\.jpg"):
        fetch_models(ModelsFetchOptions(needed_by=tmp_path / "a.jpg"))


def test_the_list_names_what_is_shipped_and_what_is_found(empty_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert list_models(ModelsListOptions()) == 0
    text = capsys.readouterr().out
    assert "no segmenter" in text and "efficientnet_lite0" in text
    assert all(folder.name in text for folder, _ in shipped_models())

    (empty_home / "models").mkdir(parents=True)
    (empty_home / "models" / "mine.onnx").write_bytes(b"x")
    list_models(ModelsListOptions())
    assert "mine.onnx" in capsys.readouterr().out
