"""Feet go where they are told, within what joints allow."""

import math

import pytest
import torch
from tests.testing.animals import quadruped_skeleton

from farm3d.motion.legs import bump, find_legs, leg_reach, solve_legs
from farm3d.structures import Skeleton


def _feet_of(skeleton: Skeleton, angles: torch.Tensor, root: torch.Tensor) -> dict[str, torch.Tensor]:
    transforms = skeleton.to(torch.float64).transforms(angles)
    feet = {}
    for leg in find_legs(skeleton):
        foot = leg.bones[2]
        feet[leg.name] = (transforms[:, foot, :3, :3] @ skeleton.ends[foot].double()) + transforms[:, foot, :3, 3] + root
    return feet


@pytest.mark.parametrize("walking", [False, True])
@pytest.mark.parametrize("shift", [(0.0, 0.0, 0.2), (0.0, 0.15, -0.2), (0.05, 0.05, 0.0)])
def test_reachable_places_are_reached(shift: tuple[float, float, float], walking: bool) -> None:
    skeleton = quadruped_skeleton()
    body = torch.zeros(3, len(skeleton.names), 3, dtype=torch.float64)
    body[1, :8] = 0.05  # a bent back moves the hips; the legs make up for it
    root = torch.tensor([[0, 0, 0], [0.02, -0.05, 0], [0, -0.03, 0.0]], dtype=torch.float64)
    goal = {leg.name: (skeleton.ends[leg.bones[2]].double() + torch.tensor(shift).double()).expand(3, 3) for leg in find_legs(skeleton)}
    shares = {name: torch.tensor([0.0, 0.4, 0.8]).double() for name in goal} if walking else None
    angles = solve_legs(skeleton, body, root_offset=root, feet=goal, shares=shares)
    for name, place in _feet_of(skeleton, angles, root).items():
        assert float((place - goal[name]).norm(dim=-1).max()) < 0.02, name
    torso = [k for k, name in enumerate(skeleton.names) if not name.startswith("leg_")]
    assert torch.equal(angles[:, torso], body[:, torso])


@pytest.mark.parametrize("walking", [False, True])
def test_out_of_reach_stretches_toward_it_within_limits(walking: bool) -> None:
    skeleton = quadruped_skeleton()
    body, root = torch.zeros(1, len(skeleton.names), 3, dtype=torch.float64), torch.zeros(1, 3, dtype=torch.float64)
    goal = {leg.name: (skeleton.ends[leg.bones[2]].double() + torch.tensor([0, 0, 2.0]).double())[None] for leg in find_legs(skeleton)}
    shares = {name: torch.tensor([0.5]).double() for name in goal} if walking else None
    angles = solve_legs(skeleton, body, root_offset=root, feet=goal, shares=shares)
    assert bool(torch.isfinite(angles).all())
    feet = _feet_of(skeleton, angles, root)
    for leg in find_legs(skeleton):
        solved = [angles[0, leg.bones[0], 0], angles[0, leg.bones[0], 1], angles[0, leg.bones[1], 0], angles[0, leg.bones[2], 0]]
        assert all(low - 1e-9 <= float(x) <= high + 1e-9 for x, low, high in zip(solved, leg.low, leg.high, strict=True))
        assert float(feet[leg.name][0, 2] - skeleton.ends[leg.bones[2], 2]) > 0.5 * leg_reach(skeleton, leg)


def test_a_steady_path_gives_a_steady_motion() -> None:
    """A foot moved evenly up a little and forward moves no joint by jumps; a leg has many ways to bend and must not change its mind."""
    skeleton = quadruped_skeleton()
    count = 60
    along = torch.linspace(0, 1, count, dtype=torch.float64)
    offset = torch.stack([0 * along, 0.2 * torch.sin(math.pi * along), 0.5 * along - 0.25], -1)
    goal = {leg.name: skeleton.ends[leg.bones[2]].double() + offset for leg in find_legs(skeleton)}
    shares = {name: 0.7 * torch.sin(math.pi * along) for name in goal}
    body = torch.zeros(count, len(skeleton.names), 3, dtype=torch.float64)
    angles = solve_legs(skeleton, body, root_offset=torch.zeros(count, 3, dtype=torch.float64), feet=goal, shares=shares)
    assert float(angles.diff(dim=0).abs().max()) < 0.2
    for leg in find_legs(skeleton):
        fold = angles[:, leg.bones[2], 0]
        assert float(fold.max() if leg.is_front else -fold.min()) > 0.3


def test_joints_fold_the_anatomical_way() -> None:
    """Carpus and stifle fold backward (positive), elbow and hock forward, and none beyond a straight line by more than six degrees."""
    skeleton = quadruped_skeleton()
    along = skeleton.ends - skeleton.starts
    pitch = torch.atan2(-along[:, 2], -along[:, 1])
    for leg in find_legs(skeleton):
        upper, middle, lower = leg.bones
        for bend, low, high, backward in (
            (float(pitch[middle] - pitch[upper]), leg.low[2], leg.high[2], not leg.is_front),
            (float(pitch[lower] - pitch[middle]), leg.low[3], leg.high[3], leg.is_front),
        ):
            most, least = (bend + high, bend + low) if backward else (-(bend + low), -(bend + high))
            assert most > 0.9 and -0.25 < least < 0.01


def test_a_leg_without_all_bones_is_left_out() -> None:
    whole = quadruped_skeleton()
    keep = [i for i, name in enumerate(whole.names) if name != "leg_rear_R_03"]
    names, parents = tuple(whole.names[i] for i in keep), tuple(keep.index(p) if (p := whole.parents[i]) in keep else -1 for i in keep)
    part = Skeleton(names, parents, whole.starts[keep], whole.ends[keep], whole.centre)
    assert [leg.name for leg in find_legs(part)] == ["front_L", "front_R", "rear_L"]


def test_bump_is_a_hill() -> None:
    x = torch.linspace(0, 1, 101, dtype=torch.float64)
    y = bump(x, peak=0.4)
    assert y[0] == 0 and y[-1] == 0 and float(y.max()) == pytest.approx(1)
    assert int(y.argmax()) == 40
    assert bool((y[:41].diff() > 0).all()) and bool((y[40:].diff() < 0).all())
    assert float(bump(torch.tensor([-0.1, 1.2])).abs().max()) == 0
