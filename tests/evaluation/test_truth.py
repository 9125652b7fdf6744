"""Truth from plain files and from shards is the same truth; what is damaged is named."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.testing.truths import truth_folder, truth_members, truth_sample

from farm3d.core.errors import InputError
from farm3d.evaluation.truth import decode_truth, read_truth


def shard(path: Path, numbers: range) -> Path:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for number in numbers:
            key, members = truth_members(number)
            for extension, data in (members | {"depth.png": b"not read"}).items():
                header = tarfile.TarInfo(f"{key}.{extension}")
                header.size = len(data)
                tar.addfile(header, io.BytesIO(data))
    return path


def test_files_and_shards_hold_the_same(tmp_path: Path) -> None:
    plain = list(read_truth(truth_folder(tmp_path / "plain", count=3)))
    (tmp_path / "shards").mkdir()
    shard(tmp_path / "shards" / "a-000000.tar", range(2))
    single = shard(tmp_path / "shards" / "a-000001.tar", range(2, 3))
    packed = list(read_truth(tmp_path / "shards"))
    assert [truth.key for truth in packed] == [truth.key for truth in plain]
    assert [truth.key for truth in read_truth(single)] == [plain[2].key]
    for ours, theirs in zip(packed, plain, strict=True):
        assert np.array_equal(ours.rgb, theirs.rgb) and torch.equal(ours.mask, theirs.mask)
        assert torch.equal(ours.animal.vertices, theirs.animal.vertices)


def test_what_a_sample_says() -> None:
    truth = truth_sample(3, azimuth_deg=100.0)
    assert (truth.category, truth.individual, truth.action, truth.view_index) == ("horse", "1", "walking", 2)
    assert truth.rgb.shape == (96, 96, 3) and truth.mask.shape == (96, 96)
    projected = truth.animal.camera.pixels(truth.animal.vertices)
    rows, columns = (truth.mask > 0.5).nonzero(as_tuple=True)
    assert abs(float(projected[:, 0].amax() - columns.max())) < 2 and abs(float(projected[:, 1].amin() - rows.min())) < 2
    assert truth.keypoints_px.shape == (len(truth.names), 2) and 0 < int(truth.visible.sum()) < len(truth.names)


@pytest.mark.parametrize("extension", ["json", "rgb.png", "mask.png", "mesh.safetensors"])
def test_missing_and_cut_members_are_named(extension: str) -> None:
    key, members = truth_members(0)
    with pytest.raises(InputError, match=extension.replace(".", r"\.")):
        decode_truth(key, {name: data for name, data in members.items() if name != extension})
    with pytest.raises(InputError, match=key):
        decode_truth(key, members | {extension: members[extension][: len(members[extension]) // 2]})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"camera": None}, "'camera' should be dict"),
        ({"view_index": "left"}, "'view_index' should be int"),
        ({"keypoints": {"names": ["a"], "xy": [], "visible": [True]}}, "do not fit"),
        ({"keypoints": {"names": ["a", "a"], "xy": [[0, 0], [1, 1]], "visible": [True, True]}}, "do not fit"),
        ({"keypoints": {"names": ["a"], "xy": [[0, 0]], "visible": [1]}}, "do not fit"),
    ],
)
def test_wrong_facts_are_said(change: dict, words: str) -> None:
    key, members = truth_members(0)
    facts = json.loads(members["json"]) | change
    with pytest.raises(InputError, match=words):
        decode_truth(key, members | {"json": json.dumps(facts).encode()})


def test_pictures_of_another_size_are_said() -> None:
    key, members = truth_members(0)
    buffer = io.BytesIO()
    Image.new("L", (95, 96)).save(buffer, "PNG")
    with pytest.raises(InputError, match="differ in size"):
        decode_truth(key, members | {"mask.png": buffer.getvalue()})


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    path = shard(tmp_path / "a-000000.tar", range(1))
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(InputError, match=r"a-000000\.tar"):
        list(read_truth(tmp_path))
