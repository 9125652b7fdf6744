"""What we wrote is read back and poses alike; anything else is one clear error."""

import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.testing.animals import quadruped
from tests.testing.glb import rewritten

from farm3d.core.errors import InputError
from farm3d.export.glb import glb_bytes, glb_transform, split_at_seams, write_glb
from farm3d.export.glb_reader import RiggedModel, read_glb
from farm3d.motion.animate import posed_vertices
from farm3d.motion.clips import CLIP_NAMES, make_clips
from farm3d.structures import Animal


@pytest.fixture(scope="module")
def animal() -> Animal:
    return quadruped()


@pytest.fixture(scope="module")
def model(animal: Animal, tmp_path_factory: pytest.TempPathFactory) -> RiggedModel:
    path = tmp_path_factory.mktemp("glb") / "a.glb"
    write_glb(animal, path, texture_px=128)
    return read_glb(path)


@pytest.fixture(scope="module")
def small(animal: Animal) -> bytes:
    return glb_bytes(animal, clips=make_clips(animal)[3:4], texture_px=8)


def test_everything_comes_back(animal: Animal, model: RiggedModel) -> None:
    source, uv, faces = split_at_seams(animal.rest)
    T = glb_transform(animal).float()
    assert torch.allclose(model.vertices, animal.rest.vertices[source] @ T[:3, :3].T + T[:3, 3], atol=1e-5)
    assert np.array_equal(model.uv.numpy(), uv) and np.array_equal(model.faces.numpy(), faces)
    assert model.joint_names == ("root", *animal.skeleton.names)
    assert model.joint_parents == (-1, *(parent + 1 for parent in animal.skeleton.parents))
    assert model.category == "horse" and model.clip_names == CLIP_NAMES
    dense = torch.zeros(len(source), len(model.joint_names)).scatter_add(1, model.joint_indices, model.joint_weights)
    assert torch.allclose(dense[:, 1:], animal.skin_weights[source], atol=1e-6)
    assert float((model.texture - animal.albedo).abs().max()) < 0.005


@pytest.mark.parametrize("name", CLIP_NAMES)
def test_poses_as_our_skinning_does(animal: Animal, model: RiggedModel, name: str) -> None:
    source, _, _ = split_at_seams(animal.rest)
    T = glb_transform(animal).float()
    clip = next(clip for clip in make_clips(animal) if clip.name == name)
    for share in (0.0, 0.137, 0.5, 0.811, 1.0, 1.3):
        ours = posed_vertices(animal, clip, share * clip.duration_s)[source] @ T[:3, :3].T + T[:3, 3]
        assert float((model.vertices_at(name, share * clip.duration_s) - ours).abs().max()) < 1e-5


def test_rest_pose_is_the_mesh(model: RiggedModel) -> None:
    assert torch.allclose(model.vertices_at(), model.vertices, atol=1e-6)
    assert torch.allclose(model.vertices_at("rest", 0.4), model.vertices, atol=1e-6)


def test_unknown_clip_and_time_are_refused(model: RiggedModel) -> None:
    with pytest.raises(InputError, match=r"no clip 'fly'.*walk"):
        model.vertices_at("fly")
    with pytest.raises(InputError, match="finite"):
        model.vertices_at("walk", float("nan"))


def test_missing_file_and_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.glb", tmp_path):
        with pytest.raises(InputError, match="cannot read"):
            read_glb(path)


def _refuses(path: Path, data: bytes) -> bool:
    """Whether reading ends in our error; any other exception fails the test. What is accepted must pose."""
    path.write_bytes(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a warning would stand on stderr beside our one line
            model = read_glb(path)
    except InputError as error:
        assert "\n" not in str(error) and str(path) in str(error)
        return True
    assert all(bool(torch.isfinite(model.vertices_at(name, 0.1)).all()) for name in model.clip_names)
    return False


def test_every_truncation_is_refused(small: bytes, tmp_path: Path) -> None:
    for length in [0, 1, 4, 11, 12, 19, 20, 27, 28, 100, *range(1000, len(small), 1009), len(small) - 1]:
        assert _refuses(tmp_path / "cut.glb", small[:length]), length
    assert _refuses(tmp_path / "long.glb", small + b"\0\0\0\0")
    assert not _refuses(tmp_path / "whole.glb", small)


def test_flipped_bytes_never_crash_it(small: bytes, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    json_end = 20 + struct.unpack_from("<I", small, 12)[0]
    places = [*draw.integers(0, json_end, 150), *draw.integers(json_end, len(small), 50)]
    refused = []
    for place in places:
        data = bytearray(small)
        data[place] ^= 1 << int(draw.integers(8))
        refused.append(_refuses(tmp_path / "flipped.glb", bytes(data)))
    assert sum(refused) > 20  # most of its words; a flipped coordinate is a coordinate


CHANGES = {
    "not ours": lambda g: g["asset"].pop("extras"),
    "no skin": lambda g: g.pop("skins"),
    "two meshes": lambda g: g["meshes"].append(g["meshes"][0]),
    "view beyond the data": lambda g: g["bufferViews"][0].update(byteLength=1 << 40),
    "negative offset": lambda g: g["bufferViews"][0].update(byteOffset=-4),
    "count too large": lambda g: g["accessors"][0].update(count=1 << 40),
    "count zero": lambda g: g["accessors"][0].update(count=0),
    "count not a number": lambda g: g["accessors"][0].update(count="many"),
    "count true": lambda g: g["accessors"][0].update(count=True),
    "other component type": lambda g: g["accessors"][0].update(componentType=5120),
    "sparse": lambda g: g["accessors"][0].update(sparse={}),
    "stride": lambda g: g["bufferViews"][0].update(byteStride=16),
    "joint out of range": lambda g: g["skins"][0]["joints"].__setitem__(3, 999),
    "joint twice": lambda g: g["skins"][0]["joints"].__setitem__(3, 2),
    "cycle of joints": lambda g: g["nodes"][5].update(children=[1]),
    "two parents": lambda g: g["nodes"][2].setdefault("children", []).append(5),
    "huge rotation": lambda g: g["nodes"][4].update(rotation=[1e9, 0, 0, 0]),
    "infinite translation": lambda g: g["nodes"][4].update(translation=[1e999, 0, 0]),
    "NaN": lambda g: g["nodes"][4].update(translation=[float("nan"), 0, 0]),
    "huge integer": lambda g: g["nodes"][4].update(translation=[10**300, 0, 0]),
    "scaled joint": lambda g: g["nodes"][4].update(scale=[2, 2, 2]),
    "stepped clip": lambda g: g["animations"][0]["samplers"][2].update(interpolation="STEP"),
    "clip moves the mesh": lambda g: g["animations"][0]["channels"][2]["target"].update(node=0),
    "clip scales": lambda g: g["animations"][0]["channels"][2]["target"].update(path="scale"),
    "swapped accessors": lambda g: g["meshes"][0]["primitives"][0]["attributes"].update(POSITION=1, NORMAL=0, WEIGHTS_0=0),
    "no image": lambda g: g["images"].clear(),
    "image is geometry": lambda g: g["images"][0].update(bufferView=0),
    "no asset": lambda g: g.pop("asset"),
    "animations is a number": lambda g: g.update(animations=1.5),
    "rotation that overflows": lambda g: g["nodes"][4].update(rotation=[1e308, 0, 0, 0]),
    "animations is a word": lambda g: g.update(animations="walk"),
    "primitive is null": lambda g: g["meshes"][0].update(primitives=[None]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_unsound_documents_are_refused(small: bytes, tmp_path: Path, name: str) -> None:
    assert _refuses(tmp_path / "changed.glb", rewritten(small, CHANGES[name]))


def test_deep_or_foreign_json_is_refused(tmp_path: Path) -> None:
    for text in (b"[" * 200_000, b"[]  ", b"null", b'{"asset":' + b"9" * 5000 + b"}", b"\xff\xfe\x00\x00"):
        text += b" " * (-len(text) % 4)
        data = struct.pack("<IIIII", 0x46546C67, 2, 28 + len(text), len(text), 0x4E4F534A) + text + struct.pack("<II", 0, 0x004E4942)
        assert _refuses(tmp_path / "deep.glb", data)
