"""Published annotation files: small ones of the same form as the loaders of A-CSM and BADJA read, and damaged ones."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from tests.testing.truths import truth_sample

from farm3d.core.errors import InputError
from farm3d.evaluation.annotations import BADJA_JOINTS, read_badja, read_pascal, truth_annotation


def pascal(path: Path, *, names: bool = True, count: int = 3) -> Path:
    """Write what A-CSM's cache holds: a struct array ``images``, parts 3 x P with NaN where nothing was marked, pixels from 1."""
    images = np.zeros(count, dtype=[(name, object) for name in ("rel_path", "voc_rec_id", "bbox", "parts", "mask")])
    for i in range(count):
        parts = np.array([[10.0 + i, 20, np.nan], [30.0, 40 + i, np.nan], [1, 1, np.nan]])
        box = {"x1": 5.0, "y1": 6.0, "x2": 105.0, "y2": 66.0}
        images[i] = (f"2008_00000{i}.jpg", i + 1, box, parts, np.ones((4, 4), dtype=np.uint8))
    savemat(path, {"images": images})
    if names:
        savemat(path.with_name("horse_kps.mat"), {"kp_names": np.array(["nose", "tail", "hoof"], dtype=object), "kp_perm_inds": [1, 2, 3]})
    return path


def test_pascal(tmp_path: Path) -> None:
    found = read_pascal(pascal(tmp_path / "horse_val.mat"))
    assert [annotation.key for annotation in found] == ["2008_000000_1", "2008_000001_2", "2008_000002_3"]
    second = found[1]
    assert second.names == ("nose", "tail", "hoof") and second.visible.tolist() == [True, True, False]
    assert second.points_px[:2].tolist() == [[10.5, 29.5], [19.5, 40.5]]  # the first pixel, 1 in the file, has its centre at 0.5
    assert second.box_px == (100.0, 60.0) and second.group == "2008_000001"


def test_pascal_without_names_and_with_one_picture(tmp_path: Path) -> None:
    found = read_pascal(pascal(tmp_path / "horse_val.mat", names=False, count=1))
    assert len(found) == 1 and found[0].names == ("part_00", "part_01", "part_02")


def test_damaged_matlab_files_are_said(tmp_path: Path) -> None:
    path = pascal(tmp_path / "horse_val.mat", names=False)
    whole = path.read_bytes()
    for end in (0, 100, 127, 200, len(whole) // 2):
        path.write_bytes(whole[:end])
        with pytest.raises(InputError):
            read_pascal(path)
    for place in range(128, len(whole), 11):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        with contextlib.suppress(InputError):
            read_pascal(path)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ({"rel_path": "a.jpg"}, "expected rel_path"),
        ({"rel_path": "a.jpg", "voc_rec_id": 1, "bbox": {"x1": 1, "y1": 1, "x2": 1, "y2": 9}, "parts": np.ones((3, 2))}, "a box from"),
        ({"rel_path": "a.jpg", "voc_rec_id": 1, "bbox": {"x1": 1, "y1": 1, "x2": 5, "y2": 9}, "parts": np.ones((2, 2))}, "3 x P numbers"),
    ],
)
def test_wrong_pascal_records_are_said(images: dict, words: str, tmp_path: Path) -> None:
    savemat(tmp_path / "a_val.mat", {"images": images})
    with pytest.raises(InputError, match=words):
        read_pascal(tmp_path / "a_val.mat")
    savemat(tmp_path / "b_val.mat", {"other": 1})
    with pytest.raises(InputError, match="holds no 'images'"):
        read_pascal(tmp_path / "b_val.mat")
    savemat(tmp_path / "c_val.mat", {"images": "none"})
    with pytest.raises(InputError, match="expected a struct array"):
        read_pascal(tmp_path / "c_val.mat")


def film(folder: Path, *, count: int = 2) -> Path:
    """Write what BADJA's folder holds: 37 joints of (row, column) a picture, 0, 0 where nobody marked one."""
    records = []
    for i in range(count):
        joints = [[0, 0] for _ in range(37)]
        visible = [False] * 37
        for joint in BADJA_JOINTS:
            joints[joint], visible[joint] = [100 + joint, 200 + 2 * joint + i], joint != 14
        records.append(
            {
                "segmentation_path": f"extra_videos/dog/segmentations/{i:04d}.png",
                "image_path": f"extra_videos/dog/rgb/{i:04d}.png",
                "visibility": visible,
                "joints": joints,
            }
        )
    path = folder / "joint_annotations" / "dog.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(records))
    return path


def test_badja(tmp_path: Path) -> None:
    found = read_badja(film(tmp_path))
    assert [annotation.key for annotation in found] == ["0000", "0001"] and found[0].group == "dog"
    first = found[0]
    nose = first.names.index("nose")
    assert len(first.names) == 20 and first.points_px[nose].tolist() == [200 + 66 + 0.5, 100 + 33 + 0.5]  # x, y of row, column
    assert not first.visible[first.names.index("upper_left_3")] and first.visible.sum() == 19
    assert first.box_px == (2.0 * (36 - 8), 36.0 - 8)  # no segmentation here: round the joints


def test_badja_takes_the_segmentations_box(tmp_path: Path) -> None:
    path = film(tmp_path)
    marked = np.zeros((300, 400), dtype=np.uint8)
    marked[50:150, 100:320] = 255
    place = tmp_path / "extra_videos" / "dog" / "segmentations" / "0001.png"
    place.parent.mkdir(parents=True)
    Image.fromarray(marked).save(place)
    found = read_badja(path)
    assert found[1].box_px == (220.0, 100.0) and found[0].box_px != (220.0, 100.0)
    place.write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"0001\.png: not a whole picture"):
        read_badja(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}", "expected a list"),
        ("[", "JSON"),
        ("[1]", "expected image_path"),
        ('[{"image_path": "a", "segmentation_path": "b", "joints": [[1, 2]], "visibility": [true]}]', "expected 37 joints"),
    ],
)
def test_wrong_films_are_said(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "dog.json").write_text(text)
    with pytest.raises(InputError, match=words):
        read_badja(tmp_path / "dog.json")


def test_files_that_are_not_there(tmp_path: Path) -> None:
    for read in (read_badja, read_pascal):
        with pytest.raises(InputError, match="cannot read"):
            read(tmp_path / "absent")
        with pytest.raises(InputError):
            read(tmp_path)


def test_the_barns_own_keypoints() -> None:
    truth = truth_sample(0)
    found = truth_annotation(truth)
    rows, columns = (truth.mask > 0.5).nonzero(as_tuple=True)
    assert found.box_px == (float(columns.max() - columns.min() + 1), float(rows.max() - rows.min() + 1))
    assert found.key == truth.key and found.group == truth.individual
    assert np.array_equal(found.visible, truth.visible.numpy())
