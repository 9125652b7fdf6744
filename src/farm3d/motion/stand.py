"""Standing clips: idling (weight shifts, a look around, the tail) and grazing, with the feet planted."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from farm3d.core.shapes import Float, Tensor
from farm3d.geometry.kinematics import bone_transforms
from farm3d.motion.legs import Soles, find_legs, leg_reach, solve_legs
from farm3d.structures import Skeleton

__all__ = ["graze_curves", "idle_curves"]

_KEYS = 29

# Grazing: what lowers the head, with the angle each would rather have, its limits, and how dear a departure is. The first is the pitch of
# the whole trunk; a bone that carries forelegs is as stiff as the spine.
_TRUNK = "trunk"
_NECK = {
    _TRUNK: (0.0, 0.0, 0.06, 10.0),
    "spine_01": (0.05, 0.0, 0.22, 6.0),
    "neck_01": (0.95, -0.2, 1.45, 1.0),
    "neck_02": (0.75, -0.2, 1.25, 1.0),
    "head": (-0.2, -0.9, 0.8, 1.0),
}
_CARRIES_LEGS = (0.15, 0.0, 0.60, 3.0)
_GRAZING_HEAD = math.radians(-75)  # direction of the head from horizontal: nearly upright, the nose a little ahead
_GRAZING_STANCE = {"front_L": 0.17, "front_R": 0.0, "rear_L": -0.06, "rear_R": 0.06}  # feet ahead of where they stand, leg lengths
_GRAZING_DROP = 0.035  # of the leg length: what the spread feet lower the body by


def _skeleton_size(skeleton: Skeleton) -> float:
    legs = find_legs(skeleton)
    return sum(leg_reach(skeleton, leg) for leg in legs) / len(legs) if legs else 1.0


def _plant(skeleton: Skeleton, angles: Tensor, root: Tensor, ahead: Mapping[str, float], soles: Soles | None) -> Tensor:
    """Solve the legs so that each foot stays where it stands, or that far ahead of it (in leg lengths), its sole on the ground."""
    feet = {}
    for leg in find_legs(skeleton):
        place = skeleton.ends[leg.bones[2]].double().clone()
        place[2] += ahead.get(leg.name, 0.0) * leg_reach(skeleton, leg)
        feet[leg.name] = place.repeat(len(angles), 1)
    angles = solve_legs(skeleton, angles, root_offset=root, feet=feet)
    for _ in range(2 if soles else 0):
        for name, height in (soles(angles, root) if soles else {}).items():
            feet[name][:, 1] -= height
        angles = solve_legs(skeleton, angles, root_offset=root, feet=feet)
    return angles


def _turn(skeleton: Skeleton, angles: Tensor, name: str, axis: int, curve: Tensor | float) -> None:
    if name in skeleton.names:
        angles[:, skeleton.index(name), axis] += curve


def _tail(skeleton: Skeleton, angles: Tensor, phase: Tensor, amount: float) -> None:
    """Two swishes in a loop, the tip after the dock."""
    for i, share in enumerate((0.7, 1.0, 1.0)):
        late = phase - 0.05 * i
        _turn(
            skeleton,
            angles,
            f"tail_{i + 1:02d}",
            1,
            amount * share * torch.sin(4 * math.pi * late) * (0.6 - 0.4 * torch.cos(2 * math.pi * late)),
        )


def _loop() -> Tensor:
    phase = torch.linspace(0, 1, _KEYS, dtype=torch.float64)
    phase[-1] = 0.0
    return phase


def idle_curves(
    skeleton: Skeleton, *, soles: Soles | None = None, period_s: float = 4.0
) -> tuple[Float[Tensor, "T"], Float[Tensor, "T K 3"], Float[Tensor, "T 3"], Float[Tensor, "T"]]:
    """Return key times, angles, root shift and foot height (0) of a loop: breathing, weight from side to side, head and tail."""
    phase = _loop()
    size = _skeleton_size(skeleton)
    angles = torch.zeros(len(phase), len(skeleton.names), 3, dtype=torch.float64)
    breath, look = torch.sin(4 * math.pi * phase), torch.sin(2 * math.pi * phase)
    slow = 0.5 - 0.5 * torch.cos(2 * math.pi * phase)
    for name, nod, side in (("neck_01", 0.05, 0.10), ("neck_02", 0.03, 0.08), ("head", -0.02, 0.10)):
        _turn(skeleton, angles, name, 0, nod * slow + 0.006 * breath)
        _turn(skeleton, angles, name, 1, side * look * slow)
    for name in ("spine_01", "lumbar_01"):
        _turn(skeleton, angles, name, 0, 0.004 * breath)
    _tail(skeleton, angles, phase, 0.22)
    root = torch.zeros(len(phase), 3, dtype=torch.float64)
    root[:, 0] = 0.012 * size * look
    root[:, 1] = size * (0.003 * breath - 0.004 - 0.004 * look.abs() ** 2)
    angles = _plant(skeleton, angles, root, {}, soles)
    return torch.linspace(0, period_s, _KEYS, dtype=torch.float64), angles, root, torch.zeros_like(phase)


def graze_curves(
    skeleton: Skeleton, *, muzzle_height: float, soles: Soles | None = None, period_s: float = 4.0
) -> tuple[Float[Tensor, "T"], Float[Tensor, "T K 3"], Float[Tensor, "T 3"], Float[Tensor, "T"]]:
    """Return key times, angles, root shift and foot height (0) of a loop with the head at the ground.

    The neck is solved for this skeleton: the end of the head bone comes to ``muzzle_height`` (canonical units above the feet), or as
    near as its limits allow, with the head nearly upright. One forefoot stands ahead of the other, as grazers do.
    """
    phase = _loop()
    size = _skeleton_size(skeleton)
    bend = _solve_neck(skeleton, muzzle_height)
    angles = torch.zeros(len(phase), len(skeleton.names), 3, dtype=torch.float64)
    for k, parent in enumerate(skeleton.parents):
        angles[:, k, 0] += bend.get(_TRUNK, 0.0) if parent < 0 else 0.0
    for name, angle in bend.items():
        _turn(skeleton, angles, name, 0, angle)
    sway, tug = torch.sin(2 * math.pi * phase), torch.sin(8 * math.pi * phase) * (0.5 - 0.5 * torch.cos(2 * math.pi * phase))
    for name, side in (("neck_01", 0.07), ("neck_02", 0.05), ("head", 0.03)):
        _turn(skeleton, angles, name, 1, side * sway)
    _turn(skeleton, angles, "head", 0, -0.05 * tug)  # plucking: only ever toward the chest and back, so the nose stays off the ground
    _tail(skeleton, angles, phase, 0.25)
    root = torch.zeros(len(phase), 3, dtype=torch.float64)
    shifts = _hip_shifts(skeleton, angles[:1])
    # The trunk's pitch lifts the hips: the body comes down by as much, or the hind feet would leave the ground.
    rise = max([0.0, *(float(shift[1]) for name, shift in shifts.items() if name.startswith("rear"))])
    root[:, 1] = -_GRAZING_DROP * size - rise
    ahead = {name: step + float(shifts[name][2]) / size for name, step in _GRAZING_STANCE.items() if name in shifts}
    angles = _plant(skeleton, angles, root, ahead, soles)
    return torch.linspace(0, period_s, _KEYS, dtype=torch.float64), angles, root, torch.zeros_like(phase)


def _hip_shifts(skeleton: Skeleton, angles: Float[Tensor, "1 K 3"]) -> dict[str, Tensor]:
    """How the body's pose moves each leg's hip or shoulder, ``[3]``."""
    transforms = skeleton.to(torch.float64).transforms(angles)[0]
    shifts = {}
    for leg in find_legs(skeleton):
        parent, hip = skeleton.parents[leg.bones[0]], skeleton.starts[leg.bones[0]].double()
        moved = transforms[parent, :3, :3] @ hip + transforms[parent, :3, 3] if parent >= 0 else hip
        shifts[leg.name] = moved - hip
    return shifts


def _solve_neck(skeleton: Skeleton, muzzle_height: float) -> dict[str, float]:
    """Damped least squares on the flexion of the neck's bones: height of the muzzle, direction of the head, habits, limits."""
    if "head" not in skeleton.names:
        return {}
    chain = [skeleton.index("head")]  # only the head's own ancestors matter here
    while (parent := skeleton.parents[chain[0]]) >= 0:
        chain.insert(0, parent)
    bones = {name: chain.index(skeleton.index(name)) for name in _NECK if name in skeleton.names and skeleton.index(name) in chain}
    names = [_TRUNK, *bones]
    carriers = {skeleton.names[p] for leg in find_legs(skeleton) if (p := skeleton.parents[leg.bones[0]]) >= 0} - {"spine_01"}
    wishes = [_CARRIES_LEGS if name in carriers else _NECK[name] for name in names]
    habit, low, high, dear = (torch.tensor(column).double() for column in zip(*wishes, strict=True))
    size = _skeleton_size(skeleton)
    feet = [skeleton.ends[leg.bones[2], 1] for leg in find_legs(skeleton)] or [skeleton.ends[:, 1].min()]
    goal = float(torch.stack(feet).min()) + muzzle_height + _GRAZING_DROP * size
    rear = [float(skeleton.starts[leg.bones[0], 2]) for leg in find_legs(skeleton) if not leg.is_front]
    lever = max(float(skeleton.centre[2]) - min(rear), 0.0) if rear else 0.0  # the body comes down by this times its pitch
    frames = skeleton.rest_frames().double()[chain]
    points = torch.stack([skeleton.starts[chain[-1]], skeleton.ends[chain[-1]]]).double()
    parents = [i - 1 for i in range(len(chain))]

    def residual(theta: Tensor) -> Tensor:
        angles = torch.zeros(len(theta), len(chain), 3, dtype=torch.float64)
        angles[:, 0, 0] = theta[:, 0]
        angles[:, list(bones.values()), 0] += theta[:, 1:]
        posed = bone_transforms(frames, parents, angles)[:, -1]
        start, end = ((posed[:, :3, :3] @ point) + posed[:, :3, 3] for point in points)
        pitch = torch.atan2(end[:, 1] - start[:, 1], end[:, 2] - start[:, 2])
        away = torch.atan2((pitch - _GRAZING_HEAD).sin(), (pitch - _GRAZING_HEAD).cos())
        habits = (theta - habit) * dear.sqrt() * 0.03
        height = 3 * (end[:, 1] - lever * theta[:, 0].sin() - goal) / size
        return torch.cat([height[:, None], 0.08 * away[:, None], habits], -1)

    theta = habit.clone()
    nudge = 1e-5 * torch.eye(len(names), dtype=torch.float64)
    for _ in range(25):
        all_at_once = residual(torch.cat([theta[None], theta + nudge]))
        value, jacobian = all_at_once[0], (all_at_once[1:] - all_at_once[0]).T / 1e-5
        normal = jacobian.T @ jacobian + 1e-4 * torch.eye(len(names)).double()
        step = torch.linalg.solve(normal, -(jacobian.T @ value))
        theta = (theta + step.clamp(-0.3, 0.3)).clamp(low, high)
    return dict(zip(names, theta.tolist(), strict=True))
