"""Viewpoint errors: known turns, what counts as a flip, and that the azimuth is the one that truth files hold."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from farm3d.evaluation.viewpoint import azimuth_elevation_deg, viewpoint_error
from farm3d.structures import Camera


def camera(azimuth_deg: float, elevation_deg: float = 0.0) -> Camera:
    return Camera.orbit(math.radians(azimuth_deg), math.radians(elevation_deg))


@given(st.floats(-179, 179), st.floats(-80, 80))
@settings(max_examples=30, deadline=None)
def test_azimuth_and_elevation_of_an_orbit(azimuth: float, elevation: float) -> None:
    found = azimuth_elevation_deg(camera(azimuth, elevation).T_camera_world[:3, :3])
    assert abs((found[0] - azimuth + 180) % 360 - 180) < 0.02 and found[1] == pytest.approx(elevation, abs=0.02)


@pytest.mark.parametrize("turn", [0.01, 1.0, 37.0, 90.0, 179.0, 180.0])
def test_a_turn_about_the_vertical(turn: float) -> None:
    error = viewpoint_error(camera(20 + turn), camera(20))
    assert error.rotation_deg == pytest.approx(turn, abs=1e-3) and error.azimuth_deg == pytest.approx(turn, abs=1e-3)
    assert error.elevation_deg == pytest.approx(0, abs=1e-3)


def test_azimuth_errors_wrap() -> None:
    assert viewpoint_error(camera(175), camera(-175)).azimuth_deg == pytest.approx(10, abs=1e-3)


def test_a_roll_is_a_rotation_but_no_azimuth() -> None:
    upright = camera(50, 10)
    rolled = upright.T_camera_world.clone()
    angle = math.radians(25)
    spin = torch.tensor([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]])
    rolled[:3, :3] = spin @ rolled[:3, :3]
    error = viewpoint_error(upright.replace(T_camera_world=rolled), upright)
    assert error.rotation_deg == pytest.approx(25, abs=1e-3) and error.azimuth_deg == pytest.approx(0, abs=1e-3)


@given(st.floats(-180, 180), st.floats(-40, 40), st.floats(-180, 180), st.floats(-40, 40), st.floats(-180, 180))
@settings(max_examples=25, deadline=None)
def test_rotation_error_is_a_distance(a: float, ae: float, b: float, be: float, c: float) -> None:
    x, y, z = camera(a, ae), camera(b, be), camera(c)
    direct = viewpoint_error(x, y).rotation_deg
    assert direct == pytest.approx(viewpoint_error(y, x).rotation_deg, abs=1e-3)
    assert direct <= viewpoint_error(x, z).rotation_deg + viewpoint_error(z, y).rotation_deg + 1e-3
    assert viewpoint_error(x, x).rotation_deg < 1e-3


@pytest.mark.parametrize(
    ("true", "predicted", "front_back", "left_right"),
    [
        (45, 45, False, False),
        (45, 135, True, False),  # head still to the same side of the picture, but away from the viewer
        (45, -45, False, True),
        (45, -135, True, True),
        (0, 180, True, None),  # seen from ahead there is no left or right
        (90, -90, None, True),  # from the side there is no front or back
        (10, -10, False, None),
    ],
)
def test_flips(true: float, predicted: float, front_back: bool | None, left_right: bool | None) -> None:
    error = viewpoint_error(camera(predicted), camera(true))
    assert error.front_back_flip is front_back and error.left_right_flip is left_right


def test_heads_point_where_the_docstring_says() -> None:
    """Seen from its left side (azimuth 90) the animal's head is at the left of the picture: h.x < 0."""
    head = camera(90).pixels(torch.tensor([[0.0, 0, 1.0]]))
    assert head[0, 0] < 128 and camera(90).T_camera_world[0, 2] < 0 and camera(0).T_camera_world[2, 2] > 0
