"""A picture of the barn and its truth agree: everything said of it can be found in it again."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load

from farm3d.barn.world import SPLITS, Sample, Settings, draw, members
from farm3d.core.color import srgb_from_linear
from farm3d.core.errors import InputError
from farm3d.render.renderer import render
from farm3d.structures import Camera, Light

SIZE = 96


@pytest.fixture(scope="module")
def sample(rig_folder: Path) -> Sample:
    return draw(Settings("horse", "test", size_px=SIZE, per_individual=1), 5, rigs=rig_folder)


def camera_of(facts: dict) -> Camera:
    view = facts["camera"]
    intrinsics = torch.tensor([view[name] for name in ("fx", "fy", "cx", "cy")])
    return Camera(torch.tensor(view["T_camera_world"]), intrinsics, view["width"], view["height"])


def test_the_truth_draws_the_picture_again(sample: Sample) -> None:
    files = members(sample)
    facts, mesh = json.loads(files["json"]), load(files["mesh.safetensors"])
    told = facts["light"]
    light = Light(torch.tensor(told["direction_camera"]), torch.tensor(told["ambient"]), torch.tensor(told["diffuse"]))
    drawn = render(mesh["posed"][None], mesh["faces"].long(), camera_of(facts), light, albedo=mesh["albedo"][None], supersample=2)
    rgb, mask = (np.asarray(Image.open(io.BytesIO(files[name]))) / 255.0 for name in ("rgb.png", "mask.png"))
    inside = mask > 0.999
    assert np.abs(drawn.mask[0].numpy() - mask).max() < 0.01
    assert np.abs(srgb_from_linear(drawn.rgb[0]).numpy() - rgb)[inside].max() < 0.01
    depth = np.asarray(Image.open(io.BytesIO(files["depth.png"]))) / 1000.0
    assert np.abs(drawn.depth[0].numpy() - depth)[inside].max() < 0.002
    normals = np.asarray(Image.open(io.BytesIO(files["normals.png"]))) / 127.5 - 1
    assert np.abs(drawn.normals[0].numpy() - normals)[inside].max() < 0.01


def test_keypoints_are_vertices_that_project_where_it_says(sample: Sample) -> None:
    points, posed = sample.facts["keypoints"], sample.mesh["posed"]
    xyz = posed[torch.tensor(points["vertex"])]
    assert torch.allclose(xyz, torch.tensor(points["xyz"]), atol=1e-4)
    assert torch.allclose(camera_of(sample.facts).pixels(xyz), torch.tensor(points["xy"]), atol=0.05)
    mask = sample.mask.numpy()
    for (x, y), seen in zip(points["xy"], points["visible"]):
        if seen:
            row, column = int(y), int(x)
            assert mask[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2].max() > 0.3
    assert sum(points["visible"]) >= 5


def test_the_view_told_is_the_cameras(sample: Sample) -> None:
    toward = camera_of(sample.facts).T_camera_world[2, :3]  # the camera's z axis in the world: from the animal to the camera
    azimuth = np.degrees(np.arctan2(float(toward[0]), float(toward[2]))) % 360
    assert abs((azimuth - sample.facts["azimuth_deg"] + 180) % 360 - 180) < 0.1
    assert abs(np.degrees(np.arcsin(float(toward[1]))) - sample.facts["elevation_deg"]) < 0.1
    assert sample.facts["caption"].endswith(sample.facts["view"])


def test_equal_settings_equal_bytes_and_another_seed_other_pictures(rig_folder: Path) -> None:
    settings = Settings("sheep", size_px=48, per_individual=2)
    first, again = (members(draw(settings, 3, rigs=rig_folder)) for _ in range(2))
    assert first == again
    other = members(draw(Settings("sheep", size_px=48, per_individual=2, seed=1), 3, rigs=rig_folder))
    assert other["rgb.png"] != first["rgb.png"]
    assert json.loads(other["json"])["individual"] == json.loads(first["json"])["individual"]


def test_no_individual_is_in_two_splits(rig_folder: Path) -> None:
    ranges = [range(first, first + count) for first, count in SPLITS.values()]
    assert all(not set(a) & set(b) for i, a in enumerate(ranges) for b in ranges[:i])
    for split, (first, count) in SPLITS.items():
        facts = draw(Settings("fox", split, size_px=48, per_individual=1), 2 * count + 1, rigs=rig_folder).facts
        assert first <= facts["individual"] < first + count and facts["split"] == split


def test_an_action_is_what_is_seen(rig_folder: Path) -> None:
    settings = Settings("cow", size_px=32, per_individual=40)
    seen = set()
    for number in range(40):
        sample = draw(settings, number, rigs=rig_folder)
        names, xyz = sample.facts["keypoints"]["names"], sample.facts["keypoints"]["xyz"]
        nose, withers = (xyz[names.index(name)][1] for name in ("nose", "withers"))
        action = sample.facts["action"]
        seen.add(action)
        assert action != "grazing" or nose < 0.4 * withers
        assert action != "standing" or nose > 0.4 * withers
    assert {"standing", "walking", "galloping", "grazing"} <= seen


def test_light_truth_leaves_the_heavy_files_out(sample: Sample) -> None:
    assert set(members(sample, truth="light")) == {"rgb.png", "mask.png", "json"}


def test_truncated_touches_the_border_and_occluded_loses_mask(rig_folder: Path) -> None:
    whole = Settings("dog", size_px=64, per_individual=1)
    for number in range(4):
        cut = draw(Settings("dog", size_px=64, per_individual=1, truncated=1.0), number, rigs=rig_folder)
        border = torch.cat([cut.mask[0], cut.mask[-1], cut.mask[:, 0], cut.mask[:, -1]])
        assert cut.facts["truncated"] and border.max() > 0.5
        hidden = draw(Settings("dog", size_px=64, per_individual=1, occluded=1.0), number, rigs=rig_folder)
        plain = draw(whole, number, rigs=rig_folder)
        assert hidden.facts["occluded"] and not plain.facts["occluded"]
        assert (hidden.mask <= plain.mask + 1e-5).all() and hidden.mask.sum() < plain.mask.sum()
        assert sum(hidden.facts["keypoints"]["visible"]) <= sum(plain.facts["keypoints"]["visible"])


def test_unknown_species(rig_folder: Path) -> None:
    with pytest.raises(InputError, match="unicorn"):
        draw(Settings("unicorn"), 0, rigs=rig_folder)
