"""The Khronos validator finds nothing to say about any file of ours: not an error, a warning, an info or a hint."""

import itertools
import json
import struct
from pathlib import Path

import pytest
import torch

from farm3d.export.glb import glb_bytes, write_glb
from farm3d.geometry.skinning import prune_weights
from farm3d.motion.clips import make_clip, make_clips
from farm3d.structures import Animal
from tests.judges.judges import validate
from tests.testing.animals import quadruped

pytestmark = pytest.mark.judges


def _assert_silent(paths: list[Path]) -> None:
    for report in validate(paths):
        issues = report["issues"]
        counts = [issues[kind] for kind in ("numErrors", "numWarnings", "numInfos", "numHints")]
        assert counts == [0, 0, 0, 0], (report["path"], issues["messages"][:3])


def _matrix(folder: Path, *, pixels: tuple[int, ...], heights: tuple[float, ...]) -> list[Path]:
    """Write a file for every combination of tail, clips, picture kind, light, texture size and height."""
    paths = []
    for tail in (True, False):
        animal = quadruped(tail=tail)
        every = make_clips(animal)
        clip_sets = {"none": (), "rest": every[:1], "all": every, "reversed": every[::-1], "walk": (make_clip("walk", animal.skeleton),)}
        for clips, kind, light, texture_px, height in itertools.product(clip_sets, ("png", "jpeg"), (False, True), pixels, heights):
            path = folder / f"{tail}-{clips}-{kind}-{light}-{texture_px}-{height}.glb"
            sized = animal.replace(height_m=height)
            write_glb(sized, path, clips=clip_sets[clips], texture_format=kind, with_light=light, texture_px=texture_px)
            paths.append(path)
    return paths


def test_option_matrix(tmp_path: Path) -> None:
    paths = _matrix(tmp_path, pixels=(16,), heights=(1.9,))
    assert len(paths) == 40
    _assert_silent(paths)


@pytest.mark.slow
def test_large_option_matrix(tmp_path: Path) -> None:
    paths = _matrix(tmp_path, pixels=(16, 64), heights=(0.4, 1.9, 3.0))
    assert len(paths) == 240
    _assert_silent(paths)


@pytest.mark.parametrize("count", [6, pytest.param(60, marks=pytest.mark.slow)])
def test_random_rigs(tmp_path: Path, count: int) -> None:
    """Bones anywhere, smeared and one-sided weights, wild poses, flat and repeated faces, no atlas."""
    paths = []
    for seed in range(count):
        path = tmp_path / f"{seed}.glb"
        path.write_bytes(glb_bytes(_random_animal(seed), texture_px=8))
        paths.append(path)
    _assert_silent(paths)


def _random_animal(seed: int) -> Animal:
    generator = torch.Generator().manual_seed(seed)
    animal = quadruped(tail=seed % 2 == 0, seed=seed, texture_px=8)

    def noise(like: torch.Tensor, size: float) -> torch.Tensor:
        return size * torch.randn(like.shape, generator=generator)

    skeleton = animal.skeleton.replace(
        starts=animal.skeleton.starts + noise(animal.skeleton.starts, 0.05), ends=animal.skeleton.ends + noise(animal.skeleton.ends, 0.05)
    )
    rest = animal.rest.replace(vertices=animal.rest.vertices + noise(animal.rest.vertices, 0.02))
    if seed % 3 == 0:
        rest = rest.replace(uv=None, faces_uv=None)
    if seed % 5 == 0:
        faces = rest.faces.clone()
        faces[::7, 1] = faces[::7, 0]  # faces with a repeated corner
        vertices = rest.vertices.clone()
        vertices[100:104] = vertices[100]  # and faces without area
        rest = rest.replace(faces=faces, vertices=vertices)
    weights = torch.rand(animal.skin_weights.shape, generator=generator) ** 8
    if seed % 4 == 0:
        weights = torch.nn.functional.one_hot(weights.argmax(-1), weights.shape[-1]).float()
    angles = noise(animal.angles, 1.5)
    height = 0.3 + 3 * float(torch.rand((), generator=generator))
    return animal.replace(
        rest=rest, skeleton=skeleton, skin_weights=prune_weights(weights / weights.sum(-1, keepdim=True)), angles=angles, height_m=height
    )


def test_the_validator_does_complain(tmp_path: Path) -> None:
    """The control: a file with weights that do not sum to 1 must not pass."""
    data = bytearray(glb_bytes(quadruped(), clips=(), texture_px=8))

    length = struct.unpack_from("<I", data, 12)[0]
    gltf = json.loads(data[20 : 20 + length])
    accessor = gltf["accessors"][gltf["meshes"][0]["primitives"][0]["attributes"]["WEIGHTS_0"]]
    place = 28 + length + gltf["bufferViews"][accessor["bufferView"]]["byteOffset"]
    struct.pack_into("<f", data, place, 1.1 * struct.unpack_from("<f", data, place)[0])
    path = tmp_path / "bad.glb"
    path.write_bytes(data)
    (report,) = validate([path])
    assert report["issues"]["numErrors"] > 0
