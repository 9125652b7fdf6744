"""Legs that put their feet where they are told: damped least squares toward a habitual bend (section 2.6 gives the signs)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from farm3d.core.shapes import Float, Tensor
from farm3d.geometry.kinematics import bone_transforms
from farm3d.geometry.rotations import euler_to_matrix
from farm3d.structures import Skeleton

__all__ = ["LEGS", "Leg", "bump", "find_legs", "leg_reach", "solve_legs"]

LEGS = ("front_L", "front_R", "rear_L", "rear_R")

# Pull toward the starting angles against a position error in leg lengths: upper x, upper y, middle x, lower x.
_STANDING = (2e-4, 4e-4, 8e-4, 2e-3)  # all joints help, the near ones most
_STEPPING = (1e-5, 1e-5, 1e3, 1e3)  # only the shoulder or hip turns; the others are set by the fold
_STEPS = {_STANDING: 10, _STEPPING: 4}
_DEEPEST = 1.9  # radians that carpus or hock fold at most
_SOFT = 0.012  # how gently a leg runs into its full stretch, as a fraction of its length


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
    shares: Mapping[str, Float[Tensor, "T"]] | None = None,
) -> Float[Tensor, "T K 3"]:
    """Return ``angles`` with the leg bones set so that each foot reaches its place while the body moves as given.

    A place out of reach is approached with the leg stretched. Without ``shares`` the joints stay as near to the standing pose as the
    feet allow. With them a leg shortens as a walking one does: the lower joint (carpus, hock) folds for its share and the two above
    follow by the law of cosines, elbow pointing backward and stifle forward. That has one solution at every moment, so a steady path
    of the foot gives a steady motion of the leg.

    Args:
        skeleton: unbatched.
        angles: body angles at T keys, float64; leg entries are ignored.
        root_offset: shift of the whole body at each key, canonical units.
        feet: for each leg by name, where the end of its lower bone should be, object frame.
        shares: for each leg by name, the part of its shortening that the lower joint makes, 0 to 1.
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
    # The same places as seen by an unmoved body, whose legs hang from their standing hips.
    seen = torch.stack([feet[leg.name].to(angles) - root_offset for leg in legs])
    seen = (base[..., :3, :3].transpose(-1, -2) @ (seen - base[..., :3, 3])[..., None])[..., 0]
    tipped = torch.atan2(base[..., 2, 1], base[..., 1, 1])
    joints = torch.stack([torch.cat([skeleton.starts[list(leg.bones)], skeleton.ends[list(leg.bones[2:])]]) for leg in legs]).to(angles)
    if shares is None:
        start = torch.zeros(*seen.shape[:2], 4).to(angles)
        start[..., 0] = -tipped  # a bent back tips the hips; the leg hangs as it stood
        pull = _STANDING
    else:
        start = _fold(legs, joints, seen, torch.stack([shares[leg.name] for leg in legs]).to(angles))
        pull = _STEPPING
    low, high = (
        torch.tensor([getattr(leg, side) for leg in legs], dtype=angles.dtype)[:, None].repeat(1, len(angles), 1)
        for side in ("low", "high")
    )
    for limit in (low, high):
        limit[..., 0] -= tipped
    theta = _place(frames[torch.tensor([leg.bones for leg in legs])], joints[:, 3], seen, start, pull=pull, low=low, high=high)
    for i, leg in enumerate(legs):
        angles[:, leg.bones[0], :2] = theta[i, :, :2]
        angles[:, leg.bones[1], 0] = theta[i, :, 2]
        angles[:, leg.bones[2], 0] = theta[i, :, 3]
    return angles


def _pitch(vector: Tensor) -> Tensor:
    """Angle about +x away from straight down; x rotations add to it."""
    return torch.atan2(-vector[..., 2], -vector[..., 1])


def _fold(
    legs: Sequence[Leg], joints: Float[Tensor, "L 4 3"], feet: Float[Tensor, "L T 3"], share: Float[Tensor, "L T"]
) -> Float[Tensor, "L T 4"]:
    """Angles of legs in the sagittal plane: fold the lower joint by its share, then two links by the law of cosines."""
    front = torch.tensor([1.0 if leg.is_front else -1.0 for leg in legs]).to(share)[:, None]
    bones = joints.diff(dim=1)
    rest = _pitch(bones)
    upper, middle, lower = bones[..., 1:].norm(dim=-1).T[..., None]
    line = feet - joints[:, None, 0]
    span = line[..., 1:].norm(dim=-1)

    def link(bend: Tensor) -> Tensor:
        """Length of middle and lower bone together."""
        return (middle.square() + lower.square() + 2 * middle * lower * bend.cos()).sqrt()

    def reached(longest: Tensor) -> Tensor:
        """The span, run softly into the leg's full length."""
        gap = _SOFT * longest
        return longest - gap * torch.nn.functional.softplus((longest - span) / gap)

    straight = (rest[:, 2] - rest[:, 1])[:, None]
    whole = link(straight)
    wanted = whole - share * (upper + whole - reached(upper + whole))
    cosine = (wanted.square() - middle.square() - lower.square()) / (2 * middle * lower)
    bend = front * torch.acos(cosine.clamp(math.cos(_DEEPEST), 1))
    # A joint that stands bent the other way has to pass through straight first: let it do so as its share comes in.
    beyond = (front * straight.abs() - straight) * (1 - share / 0.6).clamp_min(0)
    fold = bend - straight - beyond

    second = link(straight + fold)
    lean = torch.atan2(lower * (straight + fold).sin(), middle + lower * (straight + fold).cos())  # of the link against the middle bone
    distance = torch.maximum(reached(upper + second), (upper - second).abs() * 1.02 + 1e-6)
    at_hip = torch.acos(((upper.square() + distance.square() - second.square()) / (2 * upper * distance)).clamp(-1, 1))
    at_foot = torch.acos(((second.square() + distance.square() - upper.square()) / (2 * second * distance)).clamp(-1, 1))
    # Carpus and stifle fold backward, elbow and hock forward: the elbow points backward, the stifle forward.
    alpha_upper = _pitch(line) + front * at_hip
    alpha_middle = _pitch(line) - front * at_foot - lean
    x_upper = alpha_upper - rest[:, 0, None]
    x_middle = alpha_middle - alpha_upper - (rest[:, 1] - rest[:, 0])[:, None]
    return torch.stack([x_upper, torch.zeros_like(fold), x_middle, fold], -1)


def _place(
    rest: Float[Tensor, "L 3 4 4"],
    tip: Float[Tensor, "L 3"],
    feet: Float[Tensor, "L T 3"],
    start: Float[Tensor, "L T 4"],
    *,
    pull: tuple[float, float, float, float],
    low: Tensor,
    high: Tensor,
) -> Float[Tensor, "L T 4"]:
    """Damped least squares from ``start``: put the ends of three-bone chains at ``feet``; all legs and keys at once."""
    # Rotations and origins of the middle and lower rest frames seen from the frame before: constant along the chain.
    step = rest[:, :-1, :3, :3].transpose(-1, -2) @ rest[:, 1:, :3, :3]
    shift = (rest[:, :-1, :3, :3].transpose(-1, -2) @ (rest[:, 1:, :3, 3:] - rest[:, :-1, :3, 3:]))[..., 0]
    end = (rest[:, 2, :3, :3].transpose(-1, -2) @ (tip - rest[:, 2, :3, 3])[..., None])[..., 0]
    size = (shift.norm(dim=-1).sum(-1) + end.norm(dim=-1))[:, None, None]
    weight = torch.tensor(pull).to(start)
    upper, origin_upper = rest[:, None, 0, :3, :3], rest[:, None, 0, :3, 3].expand_as(feet)
    theta = start.clamp(low, high)
    for _ in range(_STEPS[pull]):
        after_x = upper @ _about_x(theta[..., 0])
        zero = torch.zeros_like(theta[..., 1])
        posed = after_x @ euler_to_matrix(torch.stack([zero, theta[..., 1], zero], -1))
        axes, origins = [upper[..., 0].expand_as(feet), after_x[..., 1]], [origin_upper, origin_upper]
        origin = origin_upper
        for joint in (0, 1):
            origin = origin + (posed @ shift[:, None, joint, :, None])[..., 0]
            posed = posed @ step[:, None, joint]
            axes.append(posed[..., 0])
            origins.append(origin)
            posed = posed @ _about_x(theta[..., 2 + joint])
        foot = origin + (posed @ end[:, None, :, None])[..., 0]
        levers = [torch.linalg.cross(axis, foot - centre) for axis, centre in zip(axes, origins, strict=True)]
        jacobian = torch.stack(levers, -1) / size[..., None]
        normal = jacobian.transpose(-1, -2) @ jacobian + torch.diag(weight + 1e-4)
        gradient = (jacobian.transpose(-1, -2) @ ((feet - foot) / size)[..., None])[..., 0] + weight * (start - theta)
        theta = (theta + torch.linalg.solve(normal, gradient).clamp(-0.4, 0.4)).clamp(low, high)
    return theta


def bump(phase: Tensor, *, peak: float = 0.5, sharpness: float = 1.0) -> Tensor:
    """Return a smooth hill on [0, 1]: 0 at both ends, 1 at ``peak``; 0 outside. The larger ``sharpness``, the narrower."""
    inside = (phase > 0) & (phase < 1)
    warped = phase.clamp(0, 1) ** (math.log(0.5) / math.log(peak))
    return torch.where(inside, torch.sin(math.pi * warped).clamp_min(0) ** (2 * sharpness), torch.zeros_like(phase))
