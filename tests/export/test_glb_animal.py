"""A GLB back to an animal: written again it is the same file; files that are no kin are refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.testing.animals import quadruped
from tests.testing.glb import rewritten

from farm3d.core.errors import InputError
from farm3d.export.glb import glb_bytes, glb_transform, write_glb
from farm3d.export.glb_animal import animal_from_model, kin_from_files, mesh_vertices
from farm3d.export.glb_reader import read_glb
from farm3d.motion.clips import CLIP_NAMES
from farm3d.structures import Animal


@pytest.fixture(scope="module")
def animal() -> Animal:
    return quadruped(texture_px=64)


@pytest.fixture(scope="module")
def path(animal: Animal, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("glb") / "a.glb"
    write_glb(animal, path, texture_px=64)
    return path


def changed(path: Path, out: Path, change) -> Path:
    """Copy a GLB with its JSON changed."""
    out.write_bytes(rewritten(path.read_bytes(), change))
    return out


def test_what_was_written_comes_back(animal: Animal, path: Path) -> None:
    got, T = animal_from_model(read_glb(path)), glb_transform(animal).float()

    def metres(points: torch.Tensor) -> torch.Tensor:
        return points @ T[:3, :3].T + T[:3, 3]

    assert torch.allclose(got.rest.vertices, metres(animal.rest.vertices), atol=1e-5)  # without seams, in the same order
    assert torch.equal(got.rest.faces, animal.rest.faces)
    assert got.skeleton.names == animal.skeleton.names and got.skeleton.parents == animal.skeleton.parents
    for name in ("starts", "ends", "centre"):
        assert torch.allclose(getattr(got.skeleton, name), metres(getattr(animal.skeleton, name)), atol=1e-5)
    assert torch.allclose(got.skin_weights, animal.skin_weights, atol=1e-6)
    assert torch.allclose(got.angles, animal.angles, atol=1e-5)
    assert got.height_m == pytest.approx(animal.height_m, abs=1e-5)


def test_written_again_it_is_the_same_animal(path: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.glb"
    again.write_bytes(glb_bytes(animal_from_model(read_glb(path)), texture_px=64))
    a, b = read_glb(path), read_glb(again)
    assert b.clip_names == a.clip_names == CLIP_NAMES and b.joint_names == a.joint_names
    assert torch.equal(a.faces, b.faces) and torch.equal(a.uv, b.uv) and torch.equal(a.texture, b.texture)
    for name in CLIP_NAMES:
        for time in (0.0, 0.31):
            assert torch.allclose(a.vertices_at(name, time), b.vertices_at(name, time), atol=1e-4), name  # metres, of an animal of 1.9


def test_seams_close_where_all_files_agree(path: Path) -> None:
    model = read_glb(path)
    source = mesh_vertices([model])
    assert int(source.max()) + 1 < len(model.vertices) and (source.diff() >= 0).all()
    moved = model.replace(vertices=model.vertices + torch.arange(len(model.vertices))[:, None] * 1e-3)  # no two in one place
    assert torch.equal(mesh_vertices([model, moved]), torch.arange(len(model.vertices)))


def test_kin_are_read_together(animal: Animal, path: Path, tmp_path: Path) -> None:
    other = tmp_path / "b.glb"
    write_glb(animal.replace(rest=animal.rest.replace(vertices=animal.rest.vertices * 1.2), height_m=1.0), other, texture_px=32)
    a, b = kin_from_files([path, other])
    assert torch.equal(a.rest.faces, b.rest.faces) and a.rest.vertices.shape == b.rest.vertices.shape
    assert b.height_m == pytest.approx(1.0, abs=1e-5)


def test_another_category_or_model_is_named(animal: Animal, path: Path, tmp_path: Path) -> None:
    other = tmp_path / "b.glb"
    write_glb(animal.replace(category="cow"), other, texture_px=8)
    with pytest.raises(InputError, match=r"a\.glb and .*b\.glb show a horse and a cow"):
        kin_from_files([path, other])
    for odd in (quadruped(sides=10), quadruped(tail=False), animal.replace(skin_weights=animal.skin_weights.flip(-1))):
        write_glb(odd, other, texture_px=8)
        with pytest.raises(InputError, match="different models of a horse"):
            kin_from_files([path, other])


def test_a_file_without_bone_lengths_or_with_false_ones_is_refused(path: Path, tmp_path: Path) -> None:
    old = changed(path, tmp_path / "old.glb", lambda gltf: gltf["asset"]["extras"]["farm3d"].pop("bone_lengths_m"))
    assert read_glb(old).bone_lengths_m == ()  # it can be drawn as before
    with pytest.raises(InputError, match=r"old\.glb: written by an earlier farm3d"):
        kin_from_files([old])
    for wrong in ([1.0], [-1.0] * 23, "long"):
        bad = changed(path, tmp_path / "bad.glb", lambda gltf, wrong=wrong: gltf["asset"]["extras"]["farm3d"].update(bone_lengths_m=wrong))
        with pytest.raises(InputError, match="bone"):
            read_glb(bad)


def test_a_file_without_the_photographs_pose_is_at_rest(animal: Animal, tmp_path: Path) -> None:
    write_glb(animal, tmp_path / "still.glb", clips=[], texture_px=8)
    assert not animal_from_model(read_glb(tmp_path / "still.glb")).angles.any()
