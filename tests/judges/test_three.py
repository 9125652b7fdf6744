"""three.js in headless Chromium loads our files as skinned meshes, plays every clip, and shows the vertices we compute."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from farm3d.export.glb import write_glb
from farm3d.export.glb_reader import read_glb
from farm3d.motion.clips import CLIP_NAMES
from tests.judges.judges import chromium_path, node_folder, three_reports, three_vertices
from tests.testing.animals import quadruped

pytestmark = pytest.mark.judges


@pytest.fixture(scope="module")
def glb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    chromium_path()
    node_folder()
    path = tmp_path_factory.mktemp("three") / "horse.glb"
    write_glb(quadruped(texture_px=256), path, texture_px=256)
    return path


def test_loads_plays_and_agrees(glb: Path, tmp_path: Path) -> None:
    model = read_glb(glb)
    moments = [{"clip": clip.name, "time_s": share * clip.duration_s} for clip in model.clips for share in (0.0, 0.21, 0.5, 0.83, 0.97)]
    animal = quadruped(texture_px=16)
    write_glb(animal, tmp_path / "lit.glb", texture_px=16, clips=(), with_light=True)
    report, lit = three_reports([{"path": glb, "moments": moments, "screenshot": tmp_path / "shot.png"}, {"path": tmp_path / "lit.glb"}])
    assert [light["type"] for light in lit["lights"]] == ["DirectionalLight"] and lit["clips"] == [] and lit["complaints"] == []
    assert lit["lights"][0]["intensity"] == pytest.approx(np.pi * float(animal.light.diffuse))
    assert report["meshes"] == ["SkinnedMesh"] and report["complaints"] == [] and report["lights"] == []
    assert tuple(report["bones"]) == model.joint_names
    assert report["texture"] == {"colorSpace": "srgb", "width": 256, "height": 256}
    assert [clip["name"] for clip in report["clips"]] == list(CLIP_NAMES)
    for clip in report["clips"]:
        assert clip["finite"] and clip["duration_s"] == pytest.approx(model.clip(clip["name"]).duration_s)
        assert clip["moved_m"] < 1e-5 if clip["name"] == "rest" else clip["moved_m"] > 0.05, clip
    assert np.abs(report["rest"] - model.vertices.numpy()).max() < 1e-5
    for moment in report["moments"]:
        ours = model.vertices_at(moment["clip"], moment["time_s"]).numpy()
        assert np.abs(moment["vertices"] - ours).max() < 1e-4, (moment["clip"], moment["time_s"])
    with Image.open(tmp_path / "shot.png") as shot:
        pixels = np.asarray(shot.convert("RGB")).astype(int)
    animal = np.abs(pixels - pixels[0, 0]).max(-1) > 20
    assert 0.03 < animal.mean() < 0.5  # something animal-sized is in the middle of the picture
    assert (pixels[animal][:, 0] > pixels[animal][:, 2] + 10).mean() > 0.5  # and it is brown


def test_walk_at_three_times(glb: Path) -> None:
    model, times = read_glb(glb), [0.1, 0.456, 1.0]
    for time, theirs in zip(times, three_vertices(glb, "walk", times), strict=True):
        assert np.abs(theirs - model.vertices_at("walk", time).numpy()).max() < 1e-4
