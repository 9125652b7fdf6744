"""Meshes of every kind are read alike; what cannot be used is one line that names the file."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from tests.testing.animals import quadruped
from tests.testing.surfaces import box, toy

from farm3d.core.errors import InputError
from farm3d.evaluation.meshes import Surface, make_surface, mesh_files, read_mesh
from farm3d.evaluation.predictions import Prediction, ProductMesh, write_prediction
from farm3d.export.glb import write_glb
from farm3d.export.glb_reader import read_glb
from farm3d.structures import Camera

CUBE_OBJ = """# a cube: a triangle pair, quads, every way to write a corner
mtllib cube.mtl
o cube
v 0 0 0
v 0 0 1 1.0
v 0 1 0 0.2 0.3 0.4
v 0 1 1
v 1 0 0
v 1 0 1
vt 0 0
vn 0 1 0
g one
usemtl red
f 1/1/1 2/1 4//1
f 1 4 3  # the other half
v 1 1 0
v 1 1 1
f -4 -2 \\
 -1 -3
s off
f 1 5 6 2
f 3 4 8 7
f 1 3 7 5
f 2 6 8 4
"""
CUBE_OFF = """OFF
# a comment
8 7 0
0 0 0 255 0 0
0 0 1
0 1 0
0 1 1

1 0 0
1 0 1
1 1 0
1 1 1
3 0 1 3
3 0 3 2 0.5 0.5 0.5
4 4 6 7 5
4 0 4 5 1
4 2 3 7 6
4 0 2 6 4
4 1 5 7 3
"""


def volume(surface: Surface) -> float:
    """Enclosed volume if closed and facing outward, whatever the origin."""
    a, b, c = (surface.vertices[surface.faces[:, i]] for i in range(3))
    return float((a * np.cross(b, c)).sum() / 6)


@pytest.mark.parametrize("name, text", [("a.obj", CUBE_OBJ), ("b.OBJ", CUBE_OBJ.replace("\n", "\r\n")), ("c.off", CUBE_OFF)])
def test_a_cube_is_whole(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, newline="")
    surface = read_mesh(tmp_path / name)
    assert len(surface.vertices) == 8 and len(surface.faces) == 12
    assert volume(surface) == pytest.approx(1) and surface.areas.sum() == pytest.approx(6)
    assert np.allclose(surface.sides, 1) and np.allclose(surface.centroid, 0.5)


def test_counts_may_stand_on_the_first_line(tmp_path: Path) -> None:
    (tmp_path / "a.off").write_text(CUBE_OFF.replace("OFF\n# a comment\n8 7 0", "OFF 8 7 0"))
    assert volume(read_mesh(tmp_path / "a.off")) == pytest.approx(1)


@pytest.mark.parametrize(
    "name, text, why",
    [
        ("a.obj", "v 0 0\nf 1 1 1\n", "line 1: 'v 0 0' is not a vertex"),
        ("a.obj", "v 0 0 0\nf 1 x 1\n", "line 2: 'f 1 x 1' is not a face"),
        ("a.obj", "v 0 0 0\nv 1 0 0\nf 1 2\n", "a face with 2 corners"),
        ("a.obj", "v 0 0 0\nf 0 1 1\n", "names vertex 0"),
        ("a.obj", "v 0 0 0\nf -2 1 1\n", "one before the first"),
        ("a.obj", "v 0 0 0\nf 1 2 3\n", r"names vertex 1 \(from 0\), but there are 1"),
        ("a.obj", "v 0 0 0\nv 1 0 0\nv 0 1 0\n", "has no faces"),
        ("a.obj", "v nan 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "not finite"),
        ("a.obj", "v 0 0 0\nv 1 0 0\nv 2 0 0\nf 1 2 3\n", "no area"),
        ("a.obj", "\x00\x01\x02", "has no faces"),
        ("a.off", "PLY\n", "does not start with OFF"),
        ("a.off", "", "does not start with OFF"),
        ("a.off", "OFF\nmany few\n", "numbers of vertices and faces are missing"),
        ("a.off", "OFF\n3 1 0\n0 0 0\n1 0 0\n", "promises 3 vertices and 1 faces"),
        ("a.off", "OFF\n3 1 0\n0 0 0\n1 0 x\n0 1 0\n3 0 1 2\n", "line 4: '1 0 x' is not a vertex"),
        ("a.off", "OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n4 0 1 2\n", "a face with 3 corners that promises 4"),
        ("a.stl", "solid", "not a mesh we read"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, name: str, text: str, why: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=why) as caught:
        read_mesh(tmp_path / name)
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    (tmp_path / "folder.obj").mkdir()
    for name, why in (("none.obj", "No such file"), ("folder.obj", "not an ordinary file")):
        with pytest.raises(InputError, match=f"{name}.*{why}"):
            read_mesh(tmp_path / name)


def test_vertices_that_no_face_uses_do_not_widen_the_box() -> None:
    cube = box()
    far = make_surface("cube", np.concatenate([[[9.0, 9.0, 9.0]], cube.vertices]), cube.faces + 1)
    assert np.array_equal(far.vertices, cube.vertices) and np.array_equal(far.faces, cube.faces)


def test_moving_a_surface_moves_its_centroid() -> None:
    matrix = np.array([[0.0, 0, 2, 1], [0, 2, 0, 2], [-2, 0, 0, 3], [0, 0, 0, 1]])
    moved = box((1, 2, 3)).transformed(matrix)
    assert np.allclose(moved.centroid, [1, 2, 3]) and np.allclose(moved.sides, [6, 4, 2])


def test_areas_and_centroid_are_those_trimesh_finds() -> None:
    surface = toy()
    theirs = trimesh.Trimesh(surface.vertices, surface.faces, process=False)
    assert np.allclose(surface.areas, theirs.area_faces, rtol=1e-12, atol=0)
    assert np.allclose(surface.centroid, theirs.centroid, rtol=0, atol=1e-12)


# --- our own files ----------------------------------------------------------------------------------------------------------


def read_product(path: Path, clip: str | None, time_s: float) -> ProductMesh:
    model = read_glb(path)
    return ProductMesh(model.vertices, model.vertices_at(clip, time_s), model.faces, model.uv, model.texture)


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("product") / "animal.glb"
    write_glb(quadruped(), path, texture_px=16)
    return path


@pytest.mark.parametrize("clip, time_s", [(None, None), ("input_pose", 0.0), ("walk", 0.3), (None, 0.0)])
def test_a_product_stands_as_its_sidecar_says(product: Path, clip: str | None, time_s: float | None) -> None:
    sidecar = product.with_suffix(".json")
    sidecar.unlink(missing_ok=True)
    if time_s is not None:
        sidecar.write_text(json.dumps({"pose": {"clip": clip, "time_s": time_s}}))
    model = read_glb(product)
    surface = read_mesh(product, read_product=read_product)
    expected = model.vertices_at(clip, time_s or 0.0).double().numpy()[model.faces.numpy()]
    assert np.array_equal(surface.vertices[surface.faces], expected)
    sidecar.unlink(missing_ok=True)


@pytest.mark.parametrize(
    "text, why",
    [
        ("{", "animal.json: not readable as JSON"),
        ("{}", "animal.json: 'pose' is missing"),
        ('{"pose": {"clip": 3, "time_s": 0}}', "animal.json: 'clip'"),
        ('{"pose": {"clip": "fly", "time_s": 0}}', "animal.glb: no clip 'fly'"),
    ],
)
def test_a_sidecar_that_cannot_be_followed_is_named(product: Path, text: str, why: str) -> None:
    sidecar = product.with_suffix(".json")
    sidecar.write_text(text)
    with pytest.raises(InputError, match=why):
        read_mesh(product, read_product=read_product)
    sidecar.unlink()


def test_a_product_needs_a_reader(product: Path) -> None:
    with pytest.raises(InputError, match="no reader for GLB files"):
        read_mesh(product)


# --- folders ------------------------------------------------------------------------------------------------------------------


def test_meshes_of_a_folder_are_sorted_and_others_left_out(tmp_path: Path) -> None:
    for name in ("b.obj", "a.ply", "a.json", "C.OFF", "readme.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in mesh_files(tmp_path)] == ["C.OFF", "a.ply", "b.obj"]


def test_a_folder_without_meshes_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no meshes in this folder"):
        mesh_files(tmp_path)
    with pytest.raises(InputError, match="No such file"):
        mesh_files(tmp_path / "none")


def test_a_surface_prints_its_size() -> None:
    assert repr(box()) == "Surface('box', 8 vertices, 12 faces)"


def test_a_prediction_as_tensors_is_read(tmp_path: Path) -> None:
    cube = box()
    vertices, faces = torch.from_numpy(cube.vertices).float(), torch.from_numpy(cube.faces)
    write_prediction(tmp_path, "a", Prediction(vertices, faces, torch.full_like(vertices, 0.5), Camera.orbit(0.3, 0.1, distance=6.0)))
    surface = read_mesh(tmp_path / "a.safetensors")
    assert np.allclose(surface.vertices, cube.vertices) and abs(volume(surface) - 1) < 1e-6
    (tmp_path / "a.safetensors").write_bytes(b"no tensors")
    with pytest.raises(InputError, match=r"a\.safetensors: not a whole safetensors file"):
        read_mesh(tmp_path / "a.safetensors")
