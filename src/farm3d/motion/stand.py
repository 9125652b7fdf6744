"""Standing clips: idling (weight shifts, a look around, the tail) and grazing, with the feet planted."""

from __future__ import annotations

import math

import torch

from farm3d.core.shapes import Float, Tensor
from farm3d.geometry.kinematics import bone_transforms
from farm3d.motion.legs import find_legs, leg_reach, solve_legs
from farm3d.structures import Skeleton

__all__ = ["graze_curves", "idle_curves"]

_KEYS = 29

# Grazing: bones that lower the head, with the angle each would rather have, its limits, and how dear a departure is.
_NECK = {
    "spine_01": (0.05, 0.0, 0.30, 8.0),
    "neck_01": (0.95, -0.2, 1.35, 1.0),
    "neck_02": (0.75, -0.2, 1.25, 1.0),
    "head": (-0.2, -0.9, 0.8, 1.0),
}
_GRAZING_HEAD = math.radians(-72)  # direction of the head from horizontal: nearly upright, the nose a little ahead


def _skeleton_size(skeleton: Skeleton) -> float:
    legs = find_legs(skeleton)
    return sum(leg_reach(skeleton, leg) for leg in legs) / len(legs) if legs else 1.0


def _plant(skeleton: Skeleton, angles: Tensor, root: Tensor, steps: dict[str, tuple[float, float]], fold: dict[str, Tensor]) -> Tensor:
    """Solve the legs so that the feet stay where they stand, moved by ``steps`` (ahead, above, in leg lengths)."""
    feet, habits = {}, {}
    for leg in find_legs(skeleton):
        ahead, above = steps.get(leg.name, (0.0, 0.0))
        place = skeleton.ends[leg.bones[2]].double() + torch.tensor([0.0, above, ahead]).double() * leg_reach(skeleton, leg)
        feet[leg.name] = place.expand(len(angles), 3)
        habits[leg.name] = fold.get(leg.name, torch.zeros(3)).double().expand(len(angles), 3)
    return solve_legs(skeleton, angles, root_offset=root, feet=feet, habits=habits)


def _turn(skeleton: Skeleton, angles: Tensor, name: str, axis: int, curve: Tensor | float) -> None:
    if name in skeleton.names:
        angles[:, skeleton.index(name), axis] += curve


def _tail(skeleton: Skeleton, angles: Tensor, phase: Tensor, amount: float) -> None:
    """Two swishes in a loop, the tip after the dock."""
    for i, share in enumerate((0.7, 1.0, 1.0)):
        late = phase - 0.05 * i
        _turn(skeleton, angles, f"tail_{i + 1:02d}", 1, amount * share * torch.sin(4 * math.pi * late) * (0.6 - 0.4 * torch.cos(2 * math.pi * late)))


def _loop() -> Tensor:
    phase = torch.linspace(0, 1, _KEYS, dtype=torch.float64)
    phase[-1] = 0.0
    return phase


def idle_curves(
    skeleton: Skeleton, *, period_s: float = 4.0
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
    angles = _plant(skeleton, angles, root, {}, {})
    return torch.linspace(0, period_s, _KEYS, dtype=torch.float64), angles, root, torch.zeros_like(phase)


def graze_curves(
    skeleton: Skeleton, *, muzzle_height: float, period_s: float = 4.0
) -> tuple[Float[Tensor, "T"], Float[Tensor, "T K 3"], Float[Tensor, "T 3"], Float[Tensor, "T"]]:
    """Return key times, angles, root shift and foot height (0) of a loop with the head at the ground.

    The neck is solved for this skeleton: the end of the head bone comes to ``muzzle_height`` (canonical units above the feet), or as
    near as its limits allow, with the head nearly upright. One forefoot stands ahead of the other, as grazers do.
    """
    phase = _loop()
    size = _skeleton_size(skeleton)
    bend = _solve_neck(skeleton, muzzle_height)
    angles = torch.zeros(len(phase), len(skeleton.names), 3, dtype=torch.float64)
    for name, angle in bend.items():
        _turn(skeleton, angles, name, 0, angle)
    sway, tug = torch.sin(2 * math.pi * phase), torch.sin(8 * math.pi * phase) * (0.5 - 0.5 * torch.cos(2 * math.pi * phase))
    for name, side in (("neck_01", 0.07), ("neck_02", 0.05), ("head", 0.03)):
        _turn(skeleton, angles, name, 1, side * sway)
    _turn(skeleton, angles, "head", 0, -0.05 * tug)  # plucking: only ever toward the chest and back, so the nose stays off the ground
    _tail(skeleton, angles, phase, 0.25)
    root = torch.zeros(len(phase), 3, dtype=torch.float64)
    root[:, 1] = -0.012 * size
    angles = _plant(skeleton, angles, root, {"front_L": (0.09, 0.0), "front_R": (-0.07, 0.0)}, {})
    return torch.linspace(0, period_s, _KEYS, dtype=torch.float64), angles, root, torch.zeros_like(phase)


def _solve_neck(skeleton: Skeleton, muzzle_height: float) -> dict[str, float]:
    """Damped least squares on the flexion of the neck's bones: height of the muzzle, direction of the head, habits, limits."""
    names = [name for name in _NECK if name in skeleton.names]
    if "head" not in names:
        return {}
    chain = [skeleton.index("head")]  # only the head's own ancestors matter here
    while (parent := skeleton.parents[chain[0]]) >= 0:
        chain.insert(0, parent)
    names = [name for name in names if skeleton.index(name) in chain]
    bones = [chain.index(skeleton.index(name)) for name in names]
    parents = [i - 1 for i in range(len(chain))]
    habit, low, high, dear = (torch.tensor(column).double() for column in zip(*(_NECK[name] for name in names), strict=True))
    size = _skeleton_size(skeleton)
    feet = [skeleton.ends[leg.bones[2], 1] for leg in find_legs(skeleton)] or [skeleton.ends[:, 1].min()]
    goal = float(torch.stack([torch.as_tensor(y) for y in feet]).min()) + muzzle_height
    frames = skeleton.rest_frames().double()[chain]
    points = torch.stack([skeleton.starts[chain[-1]], skeleton.ends[chain[-1]]]).double()

    def residual(theta: Tensor) -> Tensor:
        angles = torch.zeros(len(theta), len(chain), 3, dtype=torch.float64)
        angles[:, bones, 0] = theta
        posed = bone_transforms(frames, parents, angles)[:, -1]
        start, end = ((posed[:, :3, :3] @ point) + posed[:, :3, 3] for point in points)
        pitch = torch.atan2(end[:, 1] - start[:, 1], end[:, 2] - start[:, 2])
        away = torch.atan2((pitch - _GRAZING_HEAD).sin(), (pitch - _GRAZING_HEAD).cos())
        habits = (theta - habit) * dear.sqrt() * 0.03
        return torch.cat([((end[:, 1] - goal) / size)[:, None], 0.12 * away[:, None], habits], -1)

    theta = habit.clone()
    nudge = 1e-5 * torch.eye(len(bones), dtype=torch.float64)
    for _ in range(25):
        all_at_once = residual(torch.cat([theta[None], theta + nudge]))
        value, jacobian = all_at_once[0], (all_at_once[1:] - all_at_once[0]).T / 1e-5
        step = torch.linalg.lstsq(jacobian.T @ jacobian + 1e-4 * torch.eye(len(bones)).double(), -(jacobian.T @ value)[:, None]).solution[:, 0]
        theta = (theta + step.clamp(-0.3, 0.3)).clamp(low, high)
    return dict(zip(names, theta.tolist(), strict=True))
