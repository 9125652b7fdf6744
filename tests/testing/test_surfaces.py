"""The referee's test surfaces are what their users take them for."""

import math

import numpy as np
import pytest
import trimesh

from tests.testing.surfaces import ball, box, square_surface, toy, turned


def test_areas_sides_and_orientation() -> None:
    assert box((1, 2, 3)).areas.sum() == pytest.approx(22)
    assert ball(2.0).areas.sum() == pytest.approx(4 * math.pi * 4, rel=3e-3)
    assert square_surface().areas.sum() == pytest.approx(1)
    for surface in (box(), ball()):
        mesh = trimesh.Trimesh(surface.vertices, surface.faces)
        assert mesh.is_watertight and mesh.volume > 0
    assert toy().sides.max() == toy().sides[2] > 2


def test_a_quarter_turn_takes_the_head_from_front_to_left() -> None:
    surface = turned(toy(), degrees=90, scale=2)
    assert np.allclose(surface.sides, 2 * toy().sides[[2, 1, 0]])
    assert np.allclose(surface.vertices[:, 0], 2 * toy().vertices[:, 2])
