"""Cameras and lights in JSON: there and back, and one clear line for whatever else stands there."""

from __future__ import annotations

import json
import math

import pytest
import torch

from farm3d.core.errors import InputError
from farm3d.evaluation.views import (
    camera_from_json,
    camera_to_json,
    field_of,
    light_from_json,
    light_to_json,
    numbers_of,
    parse_json,
)
from farm3d.structures import Camera, Light


def test_a_camera_comes_back() -> None:
    camera = Camera.orbit(0.7, 0.2, size_px=200)
    back = camera_from_json(json.loads(json.dumps(camera_to_json(camera))), "a")
    assert torch.equal(back.T_camera_world, camera.T_camera_world) and torch.equal(back.intrinsics, camera.intrinsics)
    assert (back.width_px, back.height_px) == (200, 200)


def test_a_light_comes_back_with_unit_direction() -> None:
    light = Light(torch.tensor([0.0, 0.6, 0.8]), torch.tensor(0.25), torch.tensor(0.5))
    document = light_to_json(light)
    document["direction_camera"] = [3 * value for value in document["direction_camera"]]
    back = light_from_json(document, "a")
    assert torch.allclose(back.direction, light.direction) and float(back.ambient) == 0.25 and float(back.diffuse) == 0.5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"T_camera_world": [[2.0, 0, 0, 0], [0, 2, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]]}, "not a rotation"),
        ({"T_camera_world": [[-1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]}, "not a rotation"),
        ({"T_camera_world": [[1.0, 0], [0, 1]]}, "4 x 4"),
        ({"T_camera_world": [[1.0, 0], [0]]}, "not an array of numbers"),
        ({"T_camera_world": None}, "not an array of numbers"),
        ({"fx": -5.0}, "focal lengths positive"),
        ({"fx": math.inf}, "finite"),
        ({"fx": "wide"}, "'fx' should be int or float, got str"),
        ({"fx": True}, "got bool"),
        ({"width": 0}, "0 x 100 pixels"),
        ({"width": 100.0}, "'width' should be int"),
    ],
)
def test_wrong_cameras_are_said(change: dict, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        camera_from_json(camera_to_json(Camera.orbit(0.0, size_px=100)) | change, "KEY.json")
    assert caught.value.message.startswith("KEY.json")


@pytest.mark.parametrize("change", [{"direction_camera": [0, 0, 0]}, {"ambient": -1}, {"diffuse": "bright"}, {"direction_camera": [1, 0]}])
def test_wrong_lights_are_said(change: dict) -> None:
    good = {"direction_camera": [0, 0, 1], "ambient": 0.5, "diffuse": 0.5}
    light_from_json(good, "a")
    with pytest.raises(InputError):
        light_from_json(good | change, "a")


def test_json_that_is_none() -> None:
    deep = b"[" * 99_999
    for data, words in ((b"{", "JSON"), (b"[1]", "a JSON object"), (b'{"a": NaN}', "NaN"), (b"\xff\xfe", "JSON"), (deep, "JSON")):
        with pytest.raises(InputError, match=words):
            parse_json(data, "a")
    with pytest.raises(InputError, match="'b' is missing"):
        field_of({"a": 1}, "b", int, "x")


def test_numbers_of_any_length() -> None:
    assert numbers_of({"xy": []}, "xy", (None, 2), "a").shape == (0, 2)
    assert numbers_of({"xy": [[1, 2]]}, "xy", (None, 2), "a").tolist() == [[1.0, 2.0]]
    for wrong in ([[1, 2, 3]], [1, 2], [[1, math.nan]], "ab", [[10**400, 1]]):
        with pytest.raises(InputError):
            numbers_of({"xy": wrong}, "xy", (None, 2), "a")
