"""Legs that put their feet where they are told: damped least squares toward a habitual bend (section 2.6 gives the signs)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from farm3d.core.shapes import Float, Tensor
from farm3d.geometry.kinematics import bone_transforms
from farm3d.geometry.rotations import euler_to_matrix
from farm3d.structures import Skeleton

__all__ = ["LEGS", "Leg", "find_legs", "leg_reach", "solve_legs"]

LEGS = ("front_L", "front_R", "rear_L", "rear_R")

# Weights of the pull toward the habitual angles against a position error in leg lengths: upper x, upper y, middle x, lower x.
# The far joints keep their habit, the shoulder and hip do most of the placing.
_HABIT = (2e-4, 4e-4, 8e-4, 2e-3)
_AIR = 20.0  # how much stronger the habit is for a foot in the air
_STEPS = 12


@dataclass(frozen=True)
class Leg:
    """One leg of a skeleton: bone numbers from the body to the foot and what its joints allow.

    Attributes:
        name: one of :data:`LEGS`.
        bones: upper, middle, lower bone.
        low, high: limits of the four solved angles, radians.
    """

    name: str
    bones: tuple[int, int, int]
    low: tuple[float, float, float, float]
    high: tuple[float, float, float, float]

    @property
    def is_front(self) -> bool:
        """Whether this is a foreleg."""
        return self.name.startswith("front")

    @property
    def is_left(self) -> bool:
        """Whether this is on the animal's left (+x)."""
        return self.name.endswith("L")


def find_legs(skeleton: Skeleton) -> tuple[Leg, ...]:
    """Return the legs that this skeleton has all three bones of, with joint limits read off its rest pose.

    A joint may bend its anatomical way and straighten until its two bones are in line, or keep the rest angle where that is
    already beyond: elbow and hock fold the foot forward, carpus and stifle fold it backward.
    """
    legs = []
    direction = (skeleton.ends - skeleton.starts).double()
    pitch = torch.atan2(-direction[:, 2], -direction[:, 1])  # angle about +x away from straight down; positive points backward
    for name in LEGS:
        names = [f"leg_{name}_{i:02d}" for i in (1, 2, 3)]
        if not all(bone in skeleton.names for bone in names):
            continue
        upper, middle, lower = (skeleton.index(bone) for bone in names)
        bend_middle, bend_lower = float(pitch[middle] - pitch[upper]), float(pitch[lower] - pitch[middle])
        if name.startswith("front"):
            limits_middle = (-1.4, max(0.05 - bend_middle, 0.1))
            limits_lower = (min(-0.05 - bend_lower, -0.03), 1.7)
        else:
            limits_middle = (min(-0.05 - bend_middle, -0.1), 1.4)
            limits_lower = (-1.4, max(0.05 - bend_lower, 0.1))
        low = (-1.1, -0.3, limits_middle[0], limits_lower[0])
        high = (1.1, 0.3, limits_middle[1], limits_lower[1])
        legs.append(Leg(name, (upper, middle, lower), low, high))
    return tuple(legs)


def leg_reach(skeleton: Skeleton, leg: Leg) -> float:
    """Return the length of the straightened leg, canonical units."""
    bones = list(leg.bones)
    return float((skeleton.ends[bones] - skeleton.starts[bones]).norm(dim=-1).sum())


def _about_x(angle: Tensor) -> Tensor:
    zero = torch.zeros_like(angle)
    return euler_to_matrix(torch.stack([angle, zero, zero], -1))


def solve_legs(
    skeleton: Skeleton,
    angles: Float[Tensor, "T K 3"],
    *,
    root_offset: Float[Tensor, "T 3"],
    feet: Mapping[str, Float[Tensor, "T 3"]],
    habits: Mapping[str, Float[Tensor, "T 3"]],
    in_air: Mapping[str, Float[Tensor, "T"]] | None = None,
) -> Float[Tensor, "T K 3"]:
    """Return ``angles`` with the leg bones set so that each foot reaches its place while the body moves as given.

    Each leg has four free angles (upper x and y, middle x, lower x); the foot takes three, the rest stays near the habit. A place
    out of reach is approached with the leg stretched.

    Args:
        skeleton: unbatched.
        angles: body angles at T keys, float64; leg entries are ignored.
        root_offset: shift of the whole body at each key, canonical units.
        feet: for each leg by name, where the end of its lower bone should be, object frame.
        habits: for each leg by name, the x angles of its three bones when nothing else matters.
        in_air: for each leg by name, 0 where the foot is on the ground and must be in its place, up to 1 where the place is a wish
            and the habit rules. All 0 if not given.
    """
    legs = [leg for leg in find_legs(skeleton) if leg.name in feet]
    if not legs:
        return angles
    angles = angles.clone()
    for leg in legs:
        angles[:, list(leg.bones)] = 0
    frames = skeleton.rest_frames().to(angles)
    body = bone_transforms(frames, skeleton.parents, angles)
    eye = torch.eye(4).to(angles)
    base = torch.stack([body[:, p] if (p := skeleton.parents[leg.bones[0]]) >= 0 else eye.expand(len(angles), 4, 4) for leg in legs])
    reach = torch.tensor([leg_reach(skeleton, leg) for leg in legs]).to(angles)[:, None, None]
    target = torch.stack([feet[leg.name] - root_offset for leg in legs]).to(angles)
    habit = torch.stack([habits[leg.name] for leg in legs]).to(angles)
    habit = torch.cat([habit[..., :1], torch.zeros_like(habit[..., :1]), habit[..., 1:]], -1)
    low, high = (torch.tensor([getattr(leg, side) for leg in legs]).to(angles)[:, None] for side in ("low", "high"))
    bones = torch.tensor([leg.bones for leg in legs])
    rest = frames[bones]  # [legs, 3, 4, 4]
    foot_rest = skeleton.ends.to(angles)[bones[:, 2]]
    freedom = torch.zeros_like(habit[..., 0]) if in_air is None else torch.stack([in_air[leg.name] for leg in legs]).to(angles)
    pull = torch.tensor(_HABIT).to(angles) * (1 + _AIR * freedom[..., None])
    # Rotations and origins of middle and lower rest frames seen from the frame before: constant along the chain.
    step = rest[:, :-1, :3, :3].transpose(-1, -2) @ rest[:, 1:, :3, :3]
    shift = (rest[:, :-1, :3, :3].transpose(-1, -2) @ (rest[:, 1:, :3, 3:] - rest[:, :-1, :3, 3:]))[..., 0]
    tip = (rest[:, 2, :3, :3].transpose(-1, -2) @ (foot_rest - rest[:, 2, :3, 3])[..., None])[..., 0]

    upper = base[..., :3, :3] @ rest[:, None, 0, :3, :3]
    origin_upper = (base[..., :3, :3] @ rest[:, None, 0, :3, 3:])[..., 0] + base[..., :3, 3]
    # A bent back tips the hips: habit and limits of the first joint are meant against the standing animal, not against its hip.
    tipped = torch.atan2(base[..., 2, 1], base[..., 1, 1])
    upright = torch.stack([tipped, *[torch.zeros_like(tipped)] * 3], -1)
    habit, low, high = habit - upright, low - upright, high - upright
    theta = habit.clamp(low, high)
    for _ in range(_STEPS):
        after_x = upper @ _about_x(theta[..., 0])
        zero = torch.zeros_like(theta[..., 1])
        posed = after_x @ euler_to_matrix(torch.stack([zero, theta[..., 1], zero], -1))
        axes, origins = [upper[..., 0], after_x[..., 1]], [origin_upper, origin_upper]
        origin = origin_upper
        for joint in (0, 1):
            origin = origin + (posed @ shift[:, None, joint, :, None])[..., 0]
            posed = posed @ step[:, None, joint]
            axes.append(posed[..., 0])
            origins.append(origin)
            posed = posed @ _about_x(theta[..., 2 + joint])
        foot = origin + (posed @ tip[:, None, :, None])[..., 0]
        jacobian = (
            torch.stack([torch.linalg.cross(axis, foot - centre) for axis, centre in zip(axes, origins, strict=True)], -1)
            / reach[..., None]
        )
        error = (target - foot) / reach
        normal = jacobian.transpose(-1, -2) @ jacobian + torch.diag_embed(pull + 1e-4)
        gradient = (jacobian.transpose(-1, -2) @ error[..., None])[..., 0] + pull * (habit - theta)
        change = torch.linalg.solve(normal, gradient).clamp(-0.4, 0.4)
        theta = (theta + change).clamp(low, high)
    for i, leg in enumerate(legs):
        angles[:, leg.bones[0], :2] = theta[i, :, :2]
        angles[:, leg.bones[1], 0] = theta[i, :, 2]
        angles[:, leg.bones[2], 0] = theta[i, :, 3]
    return angles


def bump(phase: Tensor, *, peak: float = 0.5, sharpness: float = 1.0) -> Tensor:
    """Return a smooth hill on [0, 1]: 0 at both ends, 1 at ``peak``; 0 outside. The larger ``sharpness``, the narrower."""
    inside = (phase > 0) & (phase < 1)
    warped = phase.clamp(0, 1) ** (math.log(0.5) / math.log(peak))
    return torch.where(inside, torch.sin(math.pi * warped).clamp_min(0) ** (2 * sharpness), torch.zeros_like(phase))
