"""The camera: the specification's check a, the three projections against each other, and what resizing keeps."""

from __future__ import annotations

import math

import pytest
import torch

from farm3d.structures import Camera

SHAPES = [(), (2,), (1, 2)]


def points(*batch: int) -> torch.Tensor:
    return torch.randn(*batch, 7, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("azimuth", "point", "ndc_x", "ndc_y", "depth"),
    [
        (0.0, (0.0, 0.0, 2.0), 0.0, 0.0, -8.0),  # the animal faces the viewer: its head is nearer
        (-math.pi / 2, (0.0, 0.0, 2.0), 0.902, 0.0, -10.0),  # f = (1, 0, 0): the head points to the picture's right
        (0.0, (0.0, 1.0, 0.0), 0.0, -0.451, -10.0),  # up is toward the top row
    ],
)
def test_the_specification_section_9_check_a(azimuth, point, ndc_x, ndc_y, depth) -> None:
    camera = Camera.orbit(azimuth, distance=10.0, fov_deg=25.0)
    world = torch.tensor([point])
    clip = camera.clip(world)[0]
    assert (clip[:2] / clip[3]).tolist() == pytest.approx([ndc_x, ndc_y], abs=5e-4)
    assert camera.to_camera(world)[0, 2].item() == pytest.approx(depth, abs=1e-5)


def test_positive_azimuth_sees_the_animals_left_side() -> None:
    camera = Camera.orbit(math.pi / 2)
    left, right = camera.to_camera(torch.tensor([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]]))[:, 2]
    assert left > right  # nearer: camera z grows toward the viewer
    assert camera.pixels(torch.tensor([[0.0, 0.0, 1.0]]))[0, 0] < camera.width_px / 2  # its head is on the left


def test_positive_elevation_looks_down() -> None:
    camera = Camera.orbit(0.3, 0.5)
    assert camera.centre[1].item() == pytest.approx(10 * math.sin(0.5), rel=1e-5)


@pytest.mark.parametrize("batch", SHAPES)
def test_pixels_agree_with_clip(batch) -> None:
    azimuth = torch.linspace(-3, 3, max(1, math.prod(batch))).reshape(batch)
    camera = Camera.orbit(azimuth, 0.2, size_px=200).resized(320, 180)
    clip = camera.clip(points(*batch))
    ndc = clip[..., :2] / clip[..., 3:]
    expected = (ndc + 1) / 2 * torch.tensor([320.0, 180.0])
    torch.testing.assert_close(camera.pixels(points(*batch)), expected, rtol=1e-5, atol=1e-3)
    assert camera.T_camera_world.shape == (*batch, 4, 4)


@pytest.mark.parametrize("batch", SHAPES)
def test_the_motion_is_rigid(batch) -> None:
    azimuth = torch.linspace(-3, 3, max(1, math.prod(batch))).reshape(batch)
    rotation = Camera.orbit(azimuth, 0.4).T_camera_world[..., :3, :3]
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).expand_as(rotation), rtol=0, atol=1e-6)
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(batch), rtol=0, atol=1e-6)


def test_the_target_lands_in_the_middle_at_the_distance() -> None:
    target = torch.tensor([0.3, -0.2, 1.1])
    camera = Camera.orbit(0.7, -0.3, distance=4.0, target=target, size_px=100)
    torch.testing.assert_close(camera.pixels(target[None]), torch.tensor([[50.0, 50.0]]), rtol=0, atol=1e-3)
    torch.testing.assert_close((camera.centre - target).norm(), torch.tensor(4.0))
    torch.testing.assert_close(camera.to_camera(camera.centre[None]), torch.zeros(1, 3), rtol=0, atol=1e-5)


def test_resizing_scales_pixels_and_keeps_the_view() -> None:
    camera = Camera.orbit(0.7, 0.1, size_px=128)
    larger = camera.resized(512, 256)
    torch.testing.assert_close(larger.pixels(points()), camera.pixels(points()) * torch.tensor([4.0, 2.0]), rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(larger.clip(points()), camera.clip(points()))
    back = larger.resized(128, 128)
    torch.testing.assert_close(back.intrinsics, camera.intrinsics)


def test_clip_depth_runs_from_near_to_far() -> None:
    camera = Camera.orbit(0.0, distance=0.0)
    clip = camera.clip(torch.tensor([[0.0, 0.0, -0.1], [0.0, 0.0, -1000.0]]), near=0.1, far=1000.0)
    assert (clip[:, 2] / clip[:, 3]).tolist() == pytest.approx([-1.0, 1.0], abs=1e-4)


def test_gradients_reach_points_and_angles() -> None:
    azimuth = torch.tensor(0.3, requires_grad=True)
    camera = Camera.orbit(azimuth)
    camera.pixels(points()).sum().backward()
    assert azimuth.grad is not None and torch.isfinite(azimuth.grad) and azimuth.grad != 0

    double = Camera.orbit(0.3, 0.2).to(torch.float64)
    where = points().double().requires_grad_()
    assert torch.autograd.gradcheck(double.pixels, (where,)) and torch.autograd.gradcheck(double.clip, (where,))
