"""The GLB writer: what is in the file, bit by bit, and that it is whole or absent."""

import hashlib
import io
import json
import math
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pygltflib
import pytest
import torch
from PIL import Image
from tests.testing.animals import quadruped

from farm3d.core.errors import OutputError
from farm3d.export.glb import glb_bytes, glb_transform, split_at_seams, write_glb, write_sidecar
from farm3d.motion.clips import CLIP_NAMES, make_clip, make_clips
from farm3d.structures import Animal


def _parse(data: bytes) -> tuple[dict[str, Any], bytes]:
    length = struct.unpack_from("<I", data, 12)[0]
    return json.loads(data[20 : 20 + length]), data[28 + length :]


def _values(gltf: dict[str, Any], binary: bytes, index: int) -> np.ndarray:
    accessor = gltf["accessors"][index]
    view = gltf["bufferViews"][accessor["bufferView"]]
    assert "byteStride" not in view and view["byteOffset"] % 4 == 0
    kind = {5126: "<f4", 5121: "u1", 5123: "<u2", 5125: "<u4"}[accessor["componentType"]]
    width = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}[accessor["type"]]
    return np.frombuffer(binary[view["byteOffset"] :][: view["byteLength"]], kind).reshape(accessor["count"], width)


@pytest.fixture(scope="module")
def animal() -> Animal:
    return quadruped()


@pytest.fixture(scope="module")
def written(animal: Animal) -> tuple[dict[str, Any], bytes]:
    return _parse(glb_bytes(animal, texture_px=128))


def _attribute(written: tuple[dict[str, Any], bytes], name: str) -> np.ndarray:
    return _values(*written, written[0]["meshes"][0]["primitives"][0]["attributes"][name])


def test_metres_feet_on_the_ground_head_forward(animal: Animal, written: tuple[dict[str, Any], bytes]) -> None:
    position = _attribute(written, "POSITION")
    assert position[:, 1].min() == pytest.approx(0, abs=1e-6)
    assert position[:, 1].max() == pytest.approx(animal.height_m, abs=1e-5)
    nodes = {node["name"]: i for i, node in enumerate(written[0]["nodes"])}
    world = _world(written[0])
    assert world[nodes["head"]][2, 3] > 0.5 > -0.5 > world[nodes["tail_01"]][2, 3]
    assert world[nodes["leg_front_L_01"]][0, 3] > 0 > world[nodes["leg_front_R_01"]][0, 3]


def _world(gltf: dict[str, Any]) -> dict[int, np.ndarray]:
    """World matrices of the nodes, from translation and rotation."""
    world: dict[int, np.ndarray] = {}

    def visit(index: int, parent: np.ndarray) -> None:
        node = gltf["nodes"][index]
        local = np.eye(4)
        if "rotation" in node:
            x, y, z, w = node["rotation"]
            local[:3, :3] = [
                [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
                [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
                [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
            ]
        local[:3, 3] = node.get("translation", (0, 0, 0))
        world[index] = parent @ local
        for child in node.get("children", ()):
            visit(child, world[index])

    for root in gltf["scenes"][0]["nodes"]:
        visit(root, np.eye(4))
    return world


def test_rest_pose_is_bind_pose(written: tuple[dict[str, Any], bytes]) -> None:
    gltf, binary = written
    skin, world = gltf["skins"][0], _world(gltf)
    inverse_bind = _values(gltf, binary, skin["inverseBindMatrices"]).reshape(-1, 4, 4).transpose(0, 2, 1)
    for joint, matrix in zip(skin["joints"], inverse_bind, strict=True):
        assert np.abs(world[joint] @ matrix - np.eye(4)).max() < 1e-6


def test_joints_are_root_and_every_bone_with_plain_names(animal: Animal, written: tuple[dict[str, Any], bytes]) -> None:
    gltf, _ = written
    skin = gltf["skins"][0]
    assert [gltf["nodes"][joint]["name"] for joint in skin["joints"]] == ["root", *animal.skeleton.names]
    assert skin["skeleton"] == skin["joints"][0] and gltf["nodes"][0]["skin"] == 0
    assert not {"translation", "rotation", "scale", "matrix", "children"} & gltf["nodes"][0].keys()
    assert gltf["scenes"][0]["nodes"] == [0, skin["skeleton"]]
    assert all(node["name"].isascii() for node in gltf["nodes"])


def test_weights_sum_to_one_and_joints_do_not_repeat(written: tuple[dict[str, Any], bytes]) -> None:
    weights, joints = _attribute(written, "WEIGHTS_0").astype(np.float64), _attribute(written, "JOINTS_0")
    assert joints.dtype == np.uint8
    assert np.abs(weights.sum(1) - 1).max() < 2e-7 and weights.min() >= 0
    assert not joints[weights == 0].any()
    for row, used in zip(joints, weights > 0, strict=True):
        assert len(set(row[used])) == used.sum()


def test_more_than_four_weights_are_pruned_and_renormalised(animal: Animal) -> None:
    generator = torch.Generator().manual_seed(0)
    smeared = torch.rand(animal.skin_weights.shape, generator=generator)
    written = _parse(glb_bytes(animal.replace(skin_weights=smeared / smeared.sum(-1, keepdim=True)), clips=(), texture_px=8))
    weights, joints = _attribute(written, "WEIGHTS_0"), _attribute(written, "JOINTS_0")
    assert np.abs(weights.astype(np.float64).sum(1) - 1).max() < 2e-7
    source, _, _ = split_at_seams(animal.rest)
    strongest = smeared.argsort(dim=-1, descending=True)[:, :4].numpy()[source] + 1
    assert (np.sort(joints, 1) == np.sort(strongest, 1)).all()


def test_faces_survive_the_seams(animal: Animal, written: tuple[dict[str, Any], bytes]) -> None:
    gltf, binary = written
    faces = _values(gltf, binary, gltf["meshes"][0]["primitives"][0]["indices"]).reshape(-1, 3)
    position, uv = _attribute(written, "POSITION"), _attribute(written, "TEXCOORD_0")
    mesh = animal.rest
    assert mesh.uv is not None and mesh.faces_uv is not None
    T = glb_transform(animal).numpy()
    expected = mesh.vertices[mesh.faces].numpy() @ T[:3, :3].T + T[:3, 3]
    assert np.abs(position[faces] - expected).max() < 1e-5
    assert np.array_equal(uv[faces], mesh.uv[mesh.faces_uv].numpy())
    assert len(position) > len(mesh.vertices)
    normals = _attribute(written, "NORMAL")
    assert np.abs(np.linalg.norm(normals, axis=1) - 1).max() < 1e-5
    corners = position[faces]
    flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert (np.einsum("fi,fci->fc", flat, normals[faces]) > 0).mean() > 0.97


def test_clips_loop_in_order_with_unit_quaternions(written: tuple[dict[str, Any], bytes]) -> None:
    gltf, binary = written
    assert [clip["name"] for clip in gltf["animations"]] == list(CLIP_NAMES)
    joints = gltf["skins"][0]["joints"]
    for clip in gltf["animations"]:
        targets = [(channel["target"]["node"], channel["target"]["path"]) for channel in clip["channels"]]
        assert sorted(targets) == sorted([(joint, "rotation") for joint in joints] + [(joints[0], "translation")])
        for sampler in clip["samplers"]:
            assert sampler["interpolation"] == "LINEAR"
            times, values = _values(gltf, binary, sampler["input"])[:, 0], _values(gltf, binary, sampler["output"])
            accessor = gltf["accessors"][sampler["input"]]
            assert times[0] == 0 and (np.diff(times) > 0).all()
            assert accessor["min"] == [0.0] and accessor["max"] == [times[-1]]
            assert np.array_equal(values[0], values[-1])
            if values.shape[1] == 4:
                assert np.abs(np.linalg.norm(values.astype(np.float64), axis=1) - 1).max() < 1e-6
                assert ((values[1:] * values[:-1]).sum(1) > 0).all(), "neighbouring keys on the same side"


@pytest.mark.parametrize("texture_px", [128, 64, 200])
def test_texture_holds_the_albedo_srgb_encoded(animal: Animal, texture_px: int) -> None:
    gltf, binary = _parse(glb_bytes(animal, clips=(), texture_px=texture_px))
    assert gltf["images"][0]["mimeType"] == "image/png"
    view = gltf["bufferViews"][gltf["images"][0]["bufferView"]]
    with Image.open(io.BytesIO(binary[view["byteOffset"] :][: view["byteLength"]])) as picture:
        assert picture.size == (texture_px, texture_px) and picture.mode == "RGB"
        texels = np.asarray(picture)
    if texture_px == animal.albedo.shape[0]:  # texel bytes equal, by the definition of sRGB
        linear = animal.albedo.numpy().astype(np.float64)
        encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
        assert np.array_equal(texels, np.rint(encoded * 255).astype(np.uint8))
    material = gltf["materials"][0]["pbrMetallicRoughness"]
    assert material["metallicFactor"] == 0 and 0 < material["roughnessFactor"] <= 1


def test_a_light_is_opt_in_and_shines_from_the_fitted_side(animal: Animal, written: tuple[dict[str, Any], bytes]) -> None:
    assert "extensionsUsed" not in written[0]
    gltf, _ = _parse(glb_bytes(animal, clips=(), texture_px=8, with_light=True))
    assert gltf["extensionsUsed"] == ["KHR_lights_punctual"] and "extensionsRequired" not in gltf
    node = next(i for i, node in enumerate(gltf["nodes"]) if node["name"] == "sun")
    shines = -_world(gltf)[node][:3, 2]
    in_camera = animal.camera.T_camera_world[:3, :3].numpy() @ shines
    assert np.allclose(in_camera, -animal.light.direction.numpy(), atol=1e-5)
    assert gltf["extensions"]["KHR_lights_punctual"]["lights"][0]["intensity"] == pytest.approx(math.pi * float(animal.light.diffuse))


def test_equal_input_gives_equal_bytes_in_another_process(animal: Animal) -> None:
    code = (
        "import hashlib, torch; torch.set_num_threads(1)\n"
        "from tests.testing.animals import quadruped\nfrom farm3d.export.glb import glb_bytes\n"
        "print(hashlib.sha256(glb_bytes(quadruped(), texture_px=64)).hexdigest())"
    )
    root = Path(__file__).resolve().parents[2]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(root), str(root / "src")]), "PYTHONHASHSEED": "7"}
    theirs = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True).stdout.strip()
    assert hashlib.sha256(glb_bytes(animal, texture_px=64)).hexdigest() == theirs


def test_many_vertices_use_wider_indices() -> None:
    animal = quadruped(sides=640, texture_px=8)
    written = _parse(glb_bytes(animal, clips=(), texture_px=8))
    accessor = written[0]["accessors"][written[0]["meshes"][0]["primitives"][0]["indices"]]
    assert len(_attribute(written, "POSITION")) > 65535 and accessor["componentType"] == 5125


def test_another_reader_opens_it(animal: Animal, tmp_path: Path) -> None:
    write_glb(animal, tmp_path / "a.glb", texture_px=16)
    document = pygltflib.GLTF2().load(str(tmp_path / "a.glb"))
    assert document is not None
    assert len(document.skins) == 1 and [clip.name for clip in document.animations] == list(CLIP_NAMES)


@pytest.mark.parametrize("where", ["vertices", "weights", "albedo", "angles"])
def test_values_that_are_not_finite_are_refused(animal: Animal, where: str, tmp_path: Path) -> None:
    broken = {
        "vertices": lambda: animal.replace(rest=animal.rest.replace(vertices=_with_nan(animal.rest.vertices))),
        "weights": lambda: animal.replace(skin_weights=_with_nan(animal.skin_weights)),
        "albedo": lambda: animal.replace(albedo=_with_nan(animal.albedo)),
        "angles": lambda: animal.replace(angles=_with_nan(animal.angles)),
    }[where]()
    with pytest.raises(OutputError):
        write_glb(broken, tmp_path / "a.glb", texture_px=16)
    assert list(tmp_path.iterdir()) == []


def _with_nan(values: torch.Tensor) -> torch.Tensor:
    values = values.clone()
    values.view(-1)[7] = math.nan
    return values


def test_a_clip_of_another_skeleton_is_refused(animal: Animal) -> None:
    with pytest.raises(OutputError, match=r"walk.*23 bones"):
        glb_bytes(animal, clips=[make_clip("walk", quadruped(tail=False).skeleton)], texture_px=8)


def test_full_disk_leaves_nothing(animal: Animal, tmp_path: Path, full_disk: None) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        write_glb(animal, tmp_path / "a.glb", clips=(), texture_px=64)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_killed_while_writing_leaves_the_old_file_or_none(tmp_path: Path) -> None:
    """A child kills itself at the n-th system call of saving: the file is absent or whole, never in between."""
    code = (
        "import os, signal, sys, pathlib\n"
        "import farm3d.core.files as files\n"
        "count, stop = 0, int(sys.argv[2])\n"
        "def fatal(call):\n"
        "    def wrapped(*a, **k):\n"
        "        global count\n"
        "        count += 1\n"
        "        if count == stop: os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return call(*a, **k)\n"
        "    return wrapped\n"
        "for name in ('replace', 'fsync', 'close', 'umask'): setattr(files.os, name, fatal(getattr(os, name)))\n"
        "pathlib.Path.write_bytes = fatal(pathlib.Path.write_bytes)\n"
        "files.write_whole(pathlib.Path(sys.argv[1]), b'x' * 100000)\n"
    )
    root = Path(__file__).resolve().parents[2]
    environment = os.environ | {"PYTHONPATH": str(root / "src")}
    outcomes = set()
    for stop in range(1, 8):
        target = tmp_path / f"{stop}.glb"
        done = subprocess.run([sys.executable, "-c", code, str(target), str(stop)], env=environment)
        if target.exists():
            assert target.read_bytes() == b"x" * 100000
        outcomes.add((done.returncode == -signal.SIGKILL, target.exists()))
    assert (True, False) in outcomes and (False, True) in outcomes


def test_sidecar_camera_sees_the_file_as_the_photo_saw_the_animal(animal: Animal, tmp_path: Path) -> None:
    write_sidecar(animal, tmp_path / "a.json", extra={"seed": 3, "warnings": ["cut"]})
    document = json.loads((tmp_path / "a.json").read_text())
    camera = document["camera"]
    T = np.array(camera["T_camera_world"])
    assert np.allclose(T[:3, :3] @ T[:3, :3].T, np.eye(3), atol=1e-6) and T[3].tolist() == [0, 0, 0, 1]
    T_glb_object = glb_transform(animal).numpy()
    points = animal.rest.vertices.numpy()
    metres = points @ T_glb_object[:3, :3].T + T_glb_object[:3, 3]
    x, y, z = (metres @ T[:3, :3].T + T[:3, 3]).T
    pixels = np.stack([camera["cx"] + camera["fx"] * x / -z, camera["cy"] - camera["fy"] * y / -z], 1)
    assert np.abs(pixels - animal.camera.pixels(animal.rest.vertices).numpy()).max() < 1e-2
    assert (camera["width"], camera["height"]) == (256, 256)
    light = document["light"]
    assert np.allclose(light["direction_camera"], animal.light.direction.numpy(), atol=1e-6)
    assert (light["ambient"], light["diffuse"]) == (float(animal.light.ambient), float(animal.light.diffuse))
    assert document["pose"] == {"clip": "input_pose", "time_s": 0.0} and document["seed"] == 3 and document["warnings"] == ["cut"]


def test_sidecar_refuses_what_json_cannot_hold(animal: Animal, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="not finite"):
        write_sidecar(animal, tmp_path / "a.json", extra={"iou": math.nan})
    assert list(tmp_path.iterdir()) == []


def test_clips_default_to_all(animal: Animal, written: tuple[dict[str, Any], bytes]) -> None:
    assert _parse(glb_bytes(animal, clips=make_clips(animal), texture_px=128)) == written
