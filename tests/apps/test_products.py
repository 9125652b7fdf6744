"""Whose files stand where the products are to go: what is not farm3d's stays as it was."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from farm3d.apps.options import ReconstructOptions
from farm3d.apps.products import (
    finished,
    output_folder,
    products,
    refuse_bad_names,
    refuse_foreign,
    refuse_other_results,
    refuse_own_inputs,
    without_sheets,
)
from farm3d.core.errors import InputError, OutputError
from farm3d.export.sheet import _page
from farm3d.export.video import write_turntable

GLB = b'glTF....{"asset":{"version":"2.0","generator":"farm3d 0.1.0"'  # how each of ours starts
SHEET = _page([("photo", np.zeros((8, 8, 3), np.uint8))])
SIDECAR = b'{\n  "camera": {\n    "T_camera_world": []}}'


def options_for(out: Path, **changes: Any) -> ReconstructOptions:
    return ReconstructOptions((), out, **changes)


def test_files_that_farm3d_did_not_make_are_refused(tmp_path: Path) -> None:
    photo, options = Path("mare.jpg"), options_for(tmp_path, turntable=True)
    for path in products(photo, options):
        path.write_bytes(b"somebody's own work")
        with pytest.raises(OutputError, match=rf"mare\{path.suffix}: exists and was not made by") as caught:
            refuse_foreign([photo], options, report=False)
        assert "--overwrite" in caught.value.hint
        refuse_foreign([photo], options_for(tmp_path, turntable=True, overwrite=True), report=False)
        path.unlink()


def test_files_of_ours_may_be_replaced(tmp_path: Path) -> None:
    photo, options = Path("mare.jpg"), options_for(tmp_path)
    for suffix, data in ((".glb", GLB), (".png", SHEET), (".json", SIDECAR)):
        (tmp_path / f"mare{suffix}").write_bytes(data)
    refuse_foreign([photo], options, report=False)
    assert finished(photo, options, {"seed": 0})  # of an earlier farm3d, which did not say how
    (tmp_path / "mare.json").write_text('{"request": {"seed": 0}}')
    assert finished(photo, options, {"seed": 0}) and not finished(photo, options, {"seed": 1})
    refuse_other_results(photo, options, {"seed": 0})
    with pytest.raises(OutputError, match=r"mare\.json: is of another picture, or was made otherwise: seed 0 then, 1 now"):
        refuse_other_results(photo, options, {"seed": 1})
    refuse_other_results(photo, options_for(tmp_path, overwrite=True), {"seed": 1})
    (tmp_path / "mare.json").write_text("")
    assert not finished(photo, options, {"seed": 0})


def test_a_film_of_ours_may_be_replaced(tmp_path: Path) -> None:
    pytest.importorskip("imageio_ffmpeg", reason="no imageio-ffmpeg: the extra 'video' is not installed")
    film = tmp_path / "mare.mp4"
    write_turntable([np.zeros((16, 16, 3), np.uint8)] * 3, film)
    before = film.read_bytes()
    refuse_foreign([Path("mare.jpg")], options_for(tmp_path, turntable=True), report=False)
    assert film.read_bytes() == before
    film.write_bytes(b"somebody else's" * 100)
    with pytest.raises(OutputError):
        refuse_foreign([Path("mare.jpg")], options_for(tmp_path, turntable=True), report=False)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["mare.glb", "mare.png", "mare.json", "report.json"])
def test_a_folder_of_a_products_name_is_said_first(tmp_path: Path, name: str, overwrite: bool) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(OutputError, match="a folder stands where"):
        refuse_foreign([Path("mare.jpg")], options_for(tmp_path, overwrite=overwrite), report=True)


def test_a_pipe_of_a_products_name_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "mare.json")
    with pytest.raises(OutputError, match=r"mare\.json: exists"):
        refuse_foreign([Path("mare.jpg")], options_for(tmp_path), report=False)


def test_the_sidecar_of_a_photograph_called_report_is_no_report(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_bytes(SIDECAR)
    with pytest.raises(OutputError, match=r"report\.json: exists"):
        refuse_foreign([], options_for(tmp_path), report=True)
    (tmp_path / "report.json").write_text(json.dumps({"version": "0", "photos": [{"photo": "a.jpg", "iou": 0.9}]}))
    refuse_foreign([], options_for(tmp_path), report=True)


def test_a_sheet_is_known_by_its_mark_and_a_photograph_is_not_taken_for_one(tmp_path: Path) -> None:
    photos = [tmp_path / "mare.jpg", tmp_path / "mare.png"]
    Image.new("RGB", (64, 64)).save(photos[0])
    photos[1].write_bytes(SHEET)  # the run that wrote it was killed before the sidecar
    assert without_sheets(photos, options_for(tmp_path)) == photos[:1]
    Image.new("RGB", (64, 64)).save(photos[1])
    assert without_sheets(photos, options_for(tmp_path)) == photos
    with pytest.raises(InputError, match="same files"):
        refuse_bad_names(photos, options_for(tmp_path))
    (tmp_path / "mare.glb").write_bytes(GLB)
    (tmp_path / "mare.json").write_bytes(SIDECAR)
    assert without_sheets(photos, options_for(tmp_path)) == photos[:1]  # a sheet from before there were marks


def test_a_link_to_itself_is_no_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    refuse_own_inputs([tmp_path / "loop.jpg"], {}, options_for(tmp_path / "out"))
    assert (tmp_path / "loop.jpg").is_symlink() and not (tmp_path / "out").exists()


def test_an_output_folder_of_which_nothing_came_goes_away(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for folder in (tmp_path / "there", tmp_path / "new" / "deep"):
        with pytest.raises(InputError), output_folder(folder):
            assert folder.is_dir()
            raise InputError("no")
    assert os.listdir(tmp_path) == ["there"]
    with output_folder(tmp_path / "new" / "deep"):
        (tmp_path / "new" / "deep" / "x").touch()
    assert (tmp_path / "new" / "deep" / "x").is_file()
