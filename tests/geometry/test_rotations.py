"""Rotations: group axioms, the signs that the specification fixes, gradients."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from farm3d.geometry.rotations import euler_to_matrix, look_matrix, matrix_to_euler, matrix_to_quaternion, quaternion_to_matrix, slerp

angle = st.floats(-3.1, 3.1)


@pytest.mark.parametrize("batch", [(), (2,), (1, 2)])
def test_matrices_are_rotations(batch: tuple[int, ...]) -> None:
    matrix = euler_to_matrix(torch.randn(*batch, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    assert matrix.shape == (*batch, 3, 3)
    assert torch.allclose(matrix @ matrix.transpose(-1, -2), torch.eye(3, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(torch.linalg.det(matrix), torch.ones(batch, dtype=torch.float64))


def test_euler_is_rx_ry_rz_in_that_order() -> None:
    a, b, c = torch.tensor([0.3, -0.7, 1.1], dtype=torch.float64)
    zero = torch.zeros((), dtype=torch.float64)
    rx, ry, rz = (euler_to_matrix(torch.stack(v)) for v in ([a, zero, zero], [zero, b, zero], [zero, zero, c]))
    assert torch.allclose(euler_to_matrix(torch.stack([a, b, c])), rx @ ry @ rz)
    # A positive turn about x takes y toward z.
    assert torch.allclose(rx @ torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64), torch.stack([zero, a.cos(), a.sin()]))


@settings(max_examples=80, deadline=None)
@given(angle, angle, angle)
def test_quaternions_round_trip(a: float, b: float, c: float) -> None:
    matrix = euler_to_matrix(torch.tensor([a, b, c], dtype=torch.float64))
    quaternion = matrix_to_quaternion(matrix)
    assert abs(quaternion.norm().item() - 1) < 1e-12
    assert quaternion[0] >= 0
    assert torch.allclose(quaternion_to_matrix(quaternion), matrix, atol=1e-10)


@settings(max_examples=80, deadline=None)
@given(angle, st.floats(-1.5, 1.5), angle)
def test_euler_angles_round_trip(a: float, b: float, c: float) -> None:
    angles = torch.tensor([a, b, c], dtype=torch.float64)
    assert torch.allclose(matrix_to_euler(euler_to_matrix(angles)), angles, atol=1e-10)


@pytest.mark.parametrize("batch", [(), (2,), (1, 2)])
def test_euler_angles_of_batches_and_of_a_bend_of_ninety_degrees(batch: tuple[int, ...]) -> None:
    angles = torch.randn(*batch, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    angles[..., 1] = math.pi / 2  # a and c turn about one axis now: the angles are others, the rotation is the same
    matrix = euler_to_matrix(angles)
    assert matrix_to_euler(matrix).shape == (*batch, 3)
    assert torch.allclose(euler_to_matrix(matrix_to_euler(matrix)), matrix, atol=1e-7)


def test_quaternion_of_half_turns() -> None:
    for axis in range(3):
        angles = torch.zeros(3, dtype=torch.float64)
        angles[axis] = math.pi
        matrix = euler_to_matrix(angles)
        assert torch.allclose(quaternion_to_matrix(matrix_to_quaternion(matrix)), matrix, atol=1e-12)


def test_slerp_moves_at_constant_speed_along_the_short_arc() -> None:
    start = matrix_to_quaternion(torch.eye(3, dtype=torch.float64))
    end = matrix_to_quaternion(euler_to_matrix(torch.tensor([1.2, 0.0, 0.0], dtype=torch.float64)))
    for fraction in (0.0, 0.25, 0.5, 1.0):
        got = quaternion_to_matrix(slerp(start, -end, torch.tensor(fraction, dtype=torch.float64)))
        assert torch.allclose(got, euler_to_matrix(torch.tensor([1.2 * fraction, 0.0, 0.0], dtype=torch.float64)), atol=1e-12)


def test_look_matrix_signs() -> None:
    """Acceptance check a of the specification: facing the viewer is the identity; head to the right turns +z to +x."""
    assert torch.allclose(look_matrix(torch.tensor([0.0, 0.0, 1.0])), torch.eye(3))
    matrix = look_matrix(torch.tensor([1.0, 0.0, 0.0]))
    assert torch.allclose(matrix @ torch.tensor([0.0, 0.0, 1.0]), torch.tensor([1.0, 0.0, 0.0]))
    assert torch.allclose(torch.linalg.det(matrix), torch.tensor(1.0))


def test_gradients() -> None:
    generator = torch.Generator().manual_seed(1)
    angles = torch.randn(2, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(euler_to_matrix, (angles,))
    quaternions = torch.randn(2, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(quaternion_to_matrix, (quaternions,))
    assert torch.autograd.gradcheck(lambda a: matrix_to_euler(euler_to_matrix(a)), (angles,))
    assert torch.autograd.gradcheck(lambda a: matrix_to_quaternion(euler_to_matrix(a)), (angles,))


def test_a_wrong_shape_is_refused() -> None:
    with pytest.raises(Exception, match="angles"):
        euler_to_matrix(torch.zeros(4))
