"""The canary: if a wrong shape passes here, no shape in the project is being checked."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from jaxtyping import TypeCheckError

from farm3d.core.shapes import Float, Int, Tensor, checked
from farm3d.geometry.surface import face_normals
from farm3d.structures import Camera


@checked
def centroid(points: Float[Tensor, "N 3"], faces: Int[Tensor, "F 3"]) -> Float[Tensor, 3]:
    return points[faces].mean((0, 1))


def test_right_shapes_pass() -> None:
    assert centroid(torch.zeros(4, 3), torch.zeros(2, 3, dtype=torch.int64)).shape == (3,)


@pytest.mark.parametrize(
    "points, faces",
    [
        (torch.zeros(4, 2), torch.zeros(2, 3, dtype=torch.int64)),
        (torch.zeros(3), torch.zeros(2, 3, dtype=torch.int64)),
        (torch.zeros(4, 3), torch.zeros(2, 3)),
        (torch.zeros(4, 3, dtype=torch.int64), torch.zeros(2, 3, dtype=torch.int64)),
    ],
)
def test_a_wrong_shape_or_kind_fails(points, faces) -> None:
    with pytest.raises(TypeCheckError):
        centroid(points, faces)


def test_a_result_of_another_shape_fails() -> None:
    @checked
    def wrong(points: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        return points

    with pytest.raises(TypeCheckError):
        wrong(torch.zeros(4, 3))


def test_axis_names_must_agree_between_arguments() -> None:
    @checked
    def pair(a: Float[Tensor, "V 3"], b: Float[Tensor, "V 3"]) -> Float[Tensor, "V 3"]:
        return a + b

    with pytest.raises(TypeCheckError):
        pair(torch.zeros(4, 3), torch.zeros(1, 3))


def test_without_the_variable_nothing_is_wrapped() -> None:
    program = "from farm3d.core.shapes import checked\ndef f(): ...\nassert checked(f) is f"
    environment = {key: value for key, value in os.environ.items() if key != "FARM3D_CHECK_SHAPES"}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)


def test_values_print_their_shapes() -> None:
    assert "T_camera_world=float32[2, 4, 4]" in repr(Camera.orbit(torch.zeros(2)))


def test_the_public_functions_are_checked() -> None:
    with pytest.raises(TypeCheckError):
        face_normals(torch.zeros(4, 2), torch.zeros(2, 3, dtype=torch.int64))
