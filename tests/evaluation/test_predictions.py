"""Answers on disk: both forms come back as one value, damage is said, and vertex numbers survive the texture's seams."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from tests.testing.animals import quadruped
from tests.testing.truths import truth_sample

from farm3d.apps.evaluate import read_product
from farm3d.core.errors import InputError
from farm3d.evaluation.drawing import draw, plain_light, seen
from farm3d.evaluation.predictions import Prediction, is_answered, read_prediction, write_prediction
from farm3d.export.glb import glb_bytes, sidecar_text
from farm3d.geometry.skinning import linear_blend_skinning
from farm3d.motion.clips import input_pose_clip
from farm3d.render.renderer import Texture


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with our product for the picture ``a``, as ``farm3d reconstruct`` writes it."""
    folder, animal = tmp_path_factory.mktemp("product"), quadruped()
    (folder / "a.glb").write_bytes(glb_bytes(animal, clips=[input_pose_clip(animal.angles)], texture_px=128))
    (folder / "a.json").write_text(sidecar_text(animal, extra={"timings_s": {"fit": 2.0, "texture": 0.5}}))
    return folder


def loaded(folder: Path, key: str = "a") -> Prediction:
    prediction = read_prediction(folder, key, read_product=read_product)
    assert prediction is not None
    return prediction


def test_tensors_come_back(tmp_path: Path) -> None:
    animal = truth_sample(0).animal.replace(seconds=1.5, peak_memory_mib=300.0)
    assert not is_answered(tmp_path, "a") and read_prediction(tmp_path, "a") is None
    write_prediction(tmp_path, "a", animal, extra={"note": "kept"})
    back = loaded(tmp_path)
    assert is_answered(tmp_path, "a") and json.loads((tmp_path / "a.json").read_text())["note"] == "kept"
    assert isinstance(back.albedo, torch.Tensor) and isinstance(animal.albedo, torch.Tensor)
    assert torch.equal(back.vertices, animal.vertices) and torch.equal(back.faces, animal.faces) and torch.equal(back.albedo, animal.albedo)
    assert torch.equal(back.camera.T_camera_world, animal.camera.T_camera_world)
    assert back.light is not None and (back.seconds, back.peak_memory_mib) == (1.5, 300.0)
    assert back.topology == animal.topology


def test_a_product_looks_as_the_animal_it_was_written_from(product: Path) -> None:
    animal, answer = quadruped(), loaded(product)
    posed = linear_blend_skinning(animal.rest.vertices, animal.skin_weights, animal.skeleton.transforms(animal.angles))
    assert animal.rest.uv is not None and animal.rest.faces_uv is not None
    texture = Texture(animal.rest.uv, animal.rest.faces_uv, animal.albedo)
    original = Prediction(posed, animal.rest.faces, texture, animal.camera)
    pictures = []
    for each in (original, answer):
        view = seen(each, width_px=128, height_px=128)
        pictures.append(draw(view, view.camera, plain_light()))
    assert (pictures[0].mask - pictures[1].mask).abs().max() < 0.02
    assert (pictures[0].rgb - pictures[1].rgb).abs().mean() < 0.004  # eight-bit texture
    assert answer.seconds == 2.5 and answer.light is not None


def test_seams_are_closed_and_numbers_stay(product: Path) -> None:
    """Copies along a seam get the number of the first: faces close up, and the topology is that of any animal of the template."""
    answer = loaded(product)
    used = answer.faces.unique()
    assert len(used) < len(answer.vertices)
    assert len(answer.vertices[used].unique(dim=0)) == len(used)
    assert isinstance(answer.albedo, tuple) and len(answer.albedo[0]) == len(answer.vertices)
    other = quadruped(seed=3)
    other_rest = other.rest.replace(vertices=other.rest.vertices * torch.tensor([1.2, 0.9, 1.1]))
    folder = product.parent / "other"
    folder.mkdir(exist_ok=True)
    other = other.replace(rest=other_rest)
    (folder / "a.glb").write_bytes(glb_bytes(other, clips=[input_pose_clip(other.angles)], texture_px=64))
    (folder / "a.json").write_text(sidecar_text(other, extra={}))
    assert loaded(folder).topology == answer.topology


def test_topology_tells_meshes_apart() -> None:
    animal = truth_sample(0).animal
    assert truth_sample(1).animal.topology == animal.topology
    assert truth_sample(0, tail=False).animal.topology != animal.topology
    assert animal.replace(faces=animal.faces.roll(1, 0)).topology != animal.topology


def test_a_product_without_its_reader(product: Path) -> None:
    with pytest.raises(InputError, match="no reader"):
        read_prediction(product, "a")


def test_half_an_answer_is_none(product: Path, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes((product / "a.json").read_bytes())
    assert read_prediction(tmp_path, "a") is None
    (tmp_path / "a.json").unlink()
    (tmp_path / "a.glb").write_bytes((product / "a.glb").read_bytes())
    assert read_prediction(tmp_path, "a") is None


def test_two_forms_of_one_answer(product: Path, tmp_path: Path) -> None:
    write_prediction(tmp_path, "a", truth_sample(0).animal)
    (tmp_path / "a.glb").write_bytes((product / "a.glb").read_bytes())
    with pytest.raises(InputError, match=r"both a\.glb and a\.safetensors"):
        read_prediction(tmp_path, "a", read_product=read_product)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"vertices": torch.zeros(4, 2)}, "'vertices' should be floats"),
        ({"vertices": torch.full((4, 3), torch.nan)}, "not finite"),
        ({"vertices": None}, "'vertices' is missing"),
        ({"faces": torch.zeros(2, 3)}, "'faces' should be integers"),
        ({"faces": torch.tensor([[0, 1, 4]])}, "does not have"),
        ({"faces": torch.tensor([[0, 1, -1]])}, "does not have"),
        ({"faces": torch.zeros(0, 3, dtype=torch.int32)}, "empty mesh"),
        ({"albedo": torch.zeros(3, 3)}, "3 colours for 4 vertices"),
    ],
)
def test_wrong_tensors_are_said(change: dict, words: str, tmp_path: Path) -> None:
    write_prediction(tmp_path, "a", truth_sample(0).animal)
    tensors = {"vertices": torch.rand(4, 3), "faces": torch.tensor([[0, 1, 2]]), "albedo": torch.rand(4, 3)} | change
    (tmp_path / "a.safetensors").write_bytes(save({name: value for name, value in tensors.items() if value is not None}))
    with pytest.raises(InputError, match=words):
        read_prediction(tmp_path, "a")


def test_every_cut_and_flip_of_a_file_is_survived(tmp_path: Path) -> None:
    write_prediction(tmp_path, "a", truth_sample(0).animal)
    whole = (tmp_path / "a.safetensors").read_bytes()
    for end in (0, 4, 8, 100, len(whole) - 1):
        (tmp_path / "a.safetensors").write_bytes(whole[:end])
        with pytest.raises(InputError):
            read_prediction(tmp_path, "a")
    for place in range(0, 300, 7):
        (tmp_path / "a.safetensors").write_bytes(whole[:place] + bytes([whole[place] ^ 0x41]) + whole[place + 1 :])
        with contextlib.suppress(InputError):
            read_prediction(tmp_path, "a")


def test_a_sidecar_with_wrong_values(product: Path, tmp_path: Path) -> None:
    good = json.loads((product / "a.json").read_text())
    (tmp_path / "a.glb").write_bytes((product / "a.glb").read_bytes())
    for change, words in (
        ({"pose": {"clip": "fly", "time_s": 0.0}}, "no clip 'fly'"),
        ({"pose": {"clip": "input_pose"}}, "'time_s' is missing"),
        ({"pose": None}, "'pose' should be dict"),
        ({"camera": {}}, "T_camera_world"),
        ({"timings_s": {"fit": -1}}, "0 or more"),
        ({"light": {"ambient": 1}}, "direction_camera"),
    ):
        (tmp_path / "a.json").write_text(json.dumps(good | change))
        with pytest.raises(InputError, match=words):
            read_prediction(tmp_path, "a", read_product=read_product)


def test_a_texture_does_not_fit_the_plain_form(product: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="texture"):
        write_prediction(tmp_path, "b", loaded(product))
