"""Standing clips: idling (weight shifts, a look around, the tail) and grazing, with the feet planted."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from farm3d.core.shapes import Float, Tensor
from farm3d.geometry.kinematics import bone_transforms
from farm3d.motion.legs import Leg, find_legs, leg_reach, solve_legs
from farm3d.motion.stance import Soles, Stance, stance_of
from farm3d.structures import Skeleton

__all__ = ["graze_curves", "idle_curves"]

_KEYS = 29

# Grazing: what lowers the head, with the angle each would rather have, its limits, and how dear a departure is. The first is the pitch of
# the whole trunk. What moves the shoulders, that pitch and the bones that carry the forelegs, has its limits from _CHEST_DROP instead.
_TRUNK = "trunk"
_NECK = {
    _TRUNK: (0.0, 0.0, 0.06, 10.0),
    "spine_01": (0.05, 0.0, 0.22, 6.0),
    "neck_01": (0.95, -0.2, 1.45, 1.0),
    "neck_02": (0.75, -0.2, 1.25, 1.0),
    "head": (-0.2, -1.2, 0.8, 1.0),
}
_GRAZING_HEAD = math.radians(-75)  # direction of the head from horizontal: nearly upright, the nose a little ahead
_STEEPEST = {"neck_01": math.radians(-55), "neck_02": math.radians(-68)}  # a neck hangs in front of the legs, not between them
_CHEST_DROP = 0.045  # how far the shoulders come down at most, in lengths of a foreleg: what a stride apart takes, with the legs straight
_FORE_STEP = (0.13, 0.36)  # how far before or behind its shoulder a forefoot stands, at least and at most, leg lengths
_HIND_STEP = {"rear_L": -0.06, "rear_R": 0.06}  # hind feet ahead of where they stand, leg lengths
_HIND_DROP = 0.006  # of the leg length: what those take


def _skeleton_size(skeleton: Skeleton) -> float:
    legs = find_legs(skeleton)
    return sum(leg_reach(skeleton, leg) for leg in legs) / len(legs) if legs else 1.0


def _plant(skeleton: Skeleton, angles: Tensor, root: Tensor, ahead: Mapping[str, float], stance: Stance, soles: Soles | None) -> Tensor:
    """Solve the legs so that each foot stays where it stands, or that far ahead of it (canonical units), its sole on the ground."""
    feet = {}
    for leg in find_legs(skeleton):
        place = stance.places[leg.name].clone()
        place[2] += ahead.get(leg.name, 0.0)
        feet[leg.name] = place.repeat(len(angles), 1)
    angles = solve_legs(skeleton, angles, root_offset=root, feet=feet)
    for _ in range(2 if soles else 0):
        for name, height in (soles.height(angles, root) if soles else {}).items():
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
    stance = stance_of(skeleton, soles)
    stance.lean(skeleton, angles)
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
    root[:, 1] = stance.shift + size * (0.003 * breath - 0.004 - 0.004 * look.abs() ** 2)
    angles = _plant(skeleton, angles, root, {}, stance, soles)
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
    stance = stance_of(skeleton, soles)
    bend = _solve_neck(skeleton, muzzle_height, stance)
    angles = torch.zeros(len(phase), len(skeleton.names), 3, dtype=torch.float64)
    for k, parent in enumerate(skeleton.parents):
        angles[:, k, 0] += stance.pitch + bend.get(_TRUNK, 0.0) if parent < 0 else 0.0
    for name, angle in bend.items():
        _turn(skeleton, angles, name, 0, angle)
    sway, tug = torch.sin(2 * math.pi * phase), torch.sin(8 * math.pi * phase) * (0.5 - 0.5 * torch.cos(2 * math.pi * phase))
    for name, side in (("neck_01", 0.07), ("neck_02", 0.05), ("head", 0.03)):
        _turn(skeleton, angles, name, 1, side * sway)
    _turn(skeleton, angles, "head", 0, -0.05 * tug)  # plucking: only ever toward the chest and back, so the nose stays off the ground
    _tail(skeleton, angles, phase, 0.25)
    root = torch.zeros(len(phase), 3, dtype=torch.float64)
    shifts = _hip_shifts(skeleton, angles[:1])
    # The pitch of the trunk moves the hips: the body goes the other way, so that the hind legs stand as they do at rest.
    moved = [float(shift[1]) + stance.rise[name] for name, shift in shifts.items() if name.startswith("rear")]
    root[:, 1] = -_HIND_DROP * size - (max(moved) if moved else 0.0)
    ahead = {}
    for leg in find_legs(skeleton):
        shift = shifts[leg.name] + root[0]
        step = _fore_step(skeleton, leg, -float(shift[1]) - stance.rise[leg.name]) if leg.is_front else _HIND_STEP[leg.name] * size
        ahead[leg.name] = float(shift[2]) + step
    angles = _plant(skeleton, angles, root, ahead, stance, soles)
    return torch.linspace(0, period_s, _KEYS, dtype=torch.float64), angles, root, torch.zeros_like(phase)


def _fore_step(skeleton: Skeleton, leg: Leg, drop: float) -> float:
    """How far ahead of where it stands a forefoot is put so that its leg, as straight as ever, spans what is left of its height."""
    hang = skeleton.ends[leg.bones[2]].double() - skeleton.starts[leg.bones[0]].double()
    span = float(hang[1:].norm())
    height = -float(hang[1]) - drop
    apart = min(max(math.sqrt(max(span**2 - height**2, 0.0)), _FORE_STEP[0] * span), _FORE_STEP[1] * span)
    return (apart if leg.is_left else -apart) - float(hang[2])


def _chest_limits(skeleton: Skeleton, names: list[str], rear_z: float) -> dict[str, float]:
    """Largest flexion of the trunk and of each bone that carries forelegs, so that together they lower the shoulders by _CHEST_DROP."""
    fore = [leg for leg in find_legs(skeleton) if leg.is_front]
    if not fore:
        return {}
    shoulder = min(float(skeleton.starts[leg.bones[0], 2]) for leg in fore)
    carriers, bone = [], skeleton.parents[fore[0].bones[0]]
    while bone >= 0:
        carriers.append(bone)
        bone = skeleton.parents[bone]
    levers = {skeleton.names[k]: shoulder - float(skeleton.starts[k, 2]) for k in carriers if skeleton.names[k] in names}
    levers[_TRUNK] = shoulder - rear_z
    drop = _CHEST_DROP * leg_reach(skeleton, fore[0]) / len(levers)
    return {name: min(drop / lever, 0.2) if lever > 0 else 0.0 for name, lever in levers.items()}


def _hip_shifts(skeleton: Skeleton, angles: Float[Tensor, "1 K 3"]) -> dict[str, Tensor]:
    """How the body's pose moves each leg's hip or shoulder, ``[3]``."""
    transforms = skeleton.to(torch.float64).transforms(angles)[0]
    shifts = {}
    for leg in find_legs(skeleton):
        parent, hip = skeleton.parents[leg.bones[0]], skeleton.starts[leg.bones[0]].double()
        moved = transforms[parent, :3, :3] @ hip + transforms[parent, :3, 3] if parent >= 0 else hip
        shifts[leg.name] = moved - hip
    return shifts


def _solve_neck(skeleton: Skeleton, muzzle_height: float, stance: Stance) -> dict[str, float]:
    """Damped least squares on the flexion of the neck's bones: height of the muzzle, direction of the head, habits, limits."""
    if "head" not in skeleton.names:
        return {}
    chain = [skeleton.index("head")]  # only the head's own ancestors matter here
    while (parent := skeleton.parents[chain[0]]) >= 0:
        chain.insert(0, parent)
    bones = {name: chain.index(skeleton.index(name)) for name in _NECK if name in skeleton.names and skeleton.index(name) in chain}
    names = [_TRUNK, *bones]
    size = _skeleton_size(skeleton)
    ground = min([float(place[1]) for place in stance.places.values()] or [float(skeleton.ends[:, 1].min())])
    goal = ground - stance.shift + muzzle_height + _HIND_DROP * size
    rear = [float(skeleton.starts[leg.bones[0], 2]) for leg in find_legs(skeleton) if not leg.is_front]
    lever = max(float(skeleton.centre[2]) - min(rear), 0.0) if rear else 0.0  # the body comes down by this times its pitch
    most = _chest_limits(skeleton, names, min(rear)) if rear else {}
    wishes = [(min(_NECK[n][0], most[n]), 0.0, most[n], 1.0) if n in most else _NECK[n] for n in names]
    habit, low, high, dear = (torch.tensor(column).double() for column in zip(*wishes, strict=True))
    frames = skeleton.rest_frames().double()[chain]
    tip, along = skeleton.ends[chain[-1]].double(), (skeleton.ends - skeleton.starts)[chain].double()
    necks = [(bones[name], limit) for name, limit in _STEEPEST.items() if name in bones]
    parents = [i - 1 for i in range(len(chain))]

    def residual(theta: Tensor) -> Tensor:
        angles = torch.zeros(len(theta), len(chain), 3, dtype=torch.float64)
        angles[:, 0, 0] = stance.pitch + theta[:, 0]
        angles[:, list(bones.values()), 0] += theta[:, 1:]
        posed = bone_transforms(frames, parents, angles)
        end = (posed[:, -1, :3, :3] @ tip) + posed[:, -1, :3, 3]
        pointing = (posed[..., :3, :3] @ along[..., None])[..., 0]
        pitch = torch.atan2(pointing[..., 1], pointing[..., 2])
        away = torch.atan2((pitch[:, -1] - _GRAZING_HEAD).sin(), (pitch[:, -1] - _GRAZING_HEAD).cos())
        steep = [(limit - pitch[:, k]).clamp_min(0)[:, None] for k, limit in necks]
        habits = (theta - habit) * dear.sqrt() * 0.03
        height = 3 * (end[:, 1] - lever * theta[:, 0].sin() - goal) / size
        return torch.cat([height[:, None], 0.4 * away[:, None], habits, *(3 * excess for excess in steep)], -1)

    theta = habit.clone()
    nudge = 1e-5 * torch.eye(len(names), dtype=torch.float64)
    for _ in range(25):
        all_at_once = residual(torch.cat([theta[None], theta + nudge]))
        value, jacobian = all_at_once[0], (all_at_once[1:] - all_at_once[0]).T / 1e-5
        downhill = -(jacobian.T @ value)
        # What rests on a limit and would go on is left out, or the others would count on its help.
        free = (~(((theta >= high) & (downhill > 0)) | ((theta <= low) & (downhill < 0)))).double()
        normal = jacobian.T @ jacobian * free[:, None] * free + 1e-4 * torch.eye(len(names)).double() + torch.diag(1 - free)
        step = torch.linalg.solve(normal, downhill * free)
        theta = (theta + step * (0.3 / step.abs().max().clamp_min(0.3))).clamp(low, high)
    return dict(zip(names, theta.tolist(), strict=True))
