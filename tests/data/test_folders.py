"""Which files of a folder are photos, and which mask belongs to which."""

from __future__ import annotations

from pathlib import Path

import pytest

from farm3d.core.errors import InputError
from farm3d.data.folders import find_masks, list_photos


def touch(folder: Path, *names: str) -> list[Path]:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"x")
    return [folder / name for name in names]


def test_folders_are_listed_without_masks_and_in_order(tmp_path: Path) -> None:
    touch(tmp_path, "b.JPG", "a.png", "a_mask.png", "c_mask.jpg", "notes.txt", ".hidden.jpg", "d.WebP")
    (tmp_path / "sub.jpg").mkdir()
    names = [path.name for path in list_photos(tmp_path)]
    assert names == ["a.png", "b.JPG", "c_mask.jpg", "d.WebP"]
    single = tmp_path / "b.JPG"
    assert list_photos([single, tmp_path, tmp_path / "missing.jpg"])[0] == single
    assert list_photos(tmp_path / "missing.jpg") == [tmp_path / "missing.jpg"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no picture in this folder"):
        list_photos(tmp_path / "empty")


def test_masks_are_paired_by_name(tmp_path: Path) -> None:
    photos = touch(tmp_path / "photos", "a.jpg", "b.jpg", "c.jpg", "d.jpg")
    touch(tmp_path / "masks", "a_mask.PNG", "a.png", "b.jpg", "b.png", "x.png", "c_mask.txt")
    pairs = find_masks(photos, tmp_path / "masks")
    assert [path and path.name for path in pairs.values()] == ["a_mask.PNG", "b.png", None, None]
    assert find_masks(photos, None) == dict.fromkeys(photos)
    assert find_masks(photos[:1], tmp_path / "masks" / "x.png") == {photos[0]: tmp_path / "masks" / "x.png"}
    with pytest.raises(InputError, match="one mask file for 4 photos"):
        find_masks(photos, tmp_path / "masks" / "x.png")


def test_a_photo_is_never_its_own_mask(tmp_path: Path) -> None:
    photos = touch(tmp_path / "p", "a.jpg", "b.jpg")
    touch(tmp_path / "p", "a_mask.png")
    assert find_masks(photos, tmp_path / "p") == {photos[0]: tmp_path / "p" / "a_mask.png", photos[1]: None}
    (tmp_path / "p" / "a_mask.png").unlink()
    with pytest.raises(InputError, match="no mask for any"):
        find_masks(photos, tmp_path / "p")
