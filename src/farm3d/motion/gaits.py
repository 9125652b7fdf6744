"""Walk, trot and gallop: footfall plans of a horse, turned into joint angles for any skeleton with our bone names.

Footfalls and duty factors are those of textbook gaits: walk in lateral sequence with four beats, trot on diagonal pairs, transverse
gallop with one suspension. Feet travel on planned paths relative to the body (in place, as on a treadmill), joints fold as a
horse's do, and :func:`farm3d.motion.legs.solve_legs` finds the angles that join the two.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from farm3d.core.shapes import Float, Tensor
from farm3d.motion.legs import bump, find_legs, leg_reach, solve_legs
from farm3d.motion.stance import Soles, stance_of
from farm3d.structures import Skeleton

__all__ = ["GALLOP", "TROT", "WALK", "Gait", "gait_curves"]


@dataclass(frozen=True)
class Gait:
    """One stride. Phases are fractions of the period; lengths are fractions of the leg's own length; angles are radians.

    Attributes:
        period_s: time of one stride.
        keys: key times in one stride, the repeated first one included.
        touchdown: phase at which each foot lands.
        duty: fraction of the stride that a foot is on the ground.
        reach: half of the way a foot travels on the ground.
        centre: where the middle of that way lies ahead of the standing foot, fore and hind.
        follow: how much of the ground speed the foot keeps while it leaves and meets the ground.
        lift: highest point of a foot in the air, fore and hind.
        fold: share of a swinging leg's shortening that carpus and hock make, fore and hind.
        bob, bob_beats, bob_phase: the body's rise and fall, how often in a stride, and the phase of its highest point.
        nod, nod_beats, nod_phase: the neck's, as an angle; positive lowers the head.
        neck: constant angle of the neck against the standing pose; positive lowers it.
        pitch, pitch_phase: rocking of the whole trunk, nose down at the phase given.
        arch, arch_phase: flexing of the back, most tucked at the phase given.
        sway: sideways bending of the back; the hips go with the hind feet.
    """

    period_s: float
    keys: int
    touchdown: Mapping[str, float]
    duty: float
    reach: float
    lift: tuple[float, float]
    fold: tuple[float, float]
    centre: tuple[float, float] = (0.0, 0.0)
    follow: float = 1.0
    bob: float = 0.0
    bob_beats: int = 2
    bob_phase: float = 0.0
    nod: float = 0.0
    nod_beats: int = 2
    nod_phase: float = 0.0
    neck: float = 0.0
    pitch: float = 0.0
    pitch_phase: float = 0.0
    arch: float = 0.0
    arch_phase: float = 0.0
    sway: float = 0.0
    tail: tuple[float, float] = field(default=(0.0, 0.0))  # lift of the dock, sideways swing


WALK = Gait(
    period_s=1.15,
    keys=61,
    touchdown={"rear_L": 0.0, "front_L": 0.25, "rear_R": 0.5, "front_R": 0.75},
    duty=0.63,
    reach=0.26,
    lift=(0.10, 0.07),
    fold=(0.80, 0.45),
    centre=(0.02, 0.02),
    bob=0.008,
    bob_phase=0.14,
    nod=0.06,
    nod_phase=0.30,
    neck=0.10,
    sway=0.035,
    tail=(0.0, 0.10),
)
TROT = Gait(
    period_s=0.70,
    keys=61,
    touchdown={"rear_L": 0.0, "front_R": 0.0, "rear_R": 0.5, "front_L": 0.5},
    duty=0.44,
    reach=0.27,
    lift=(0.20, 0.14),
    fold=(0.75, 0.45),
    centre=(0.02, 0.0),
    follow=0.6,
    bob=0.022,
    bob_phase=-0.03,
    nod=0.02,
    nod_phase=0.22,
    neck=-0.03,
    sway=0.025,
    tail=(0.12, 0.06),
)
GALLOP = Gait(
    period_s=0.48,
    keys=61,
    touchdown={"rear_L": 0.0, "rear_R": 0.10, "front_L": 0.34, "front_R": 0.48},
    duty=0.24,
    reach=0.29,
    lift=(0.26, 0.16),
    fold=(0.65, 0.42),
    centre=(0.06, 0.08),
    follow=0.5,
    bob=0.022,
    bob_beats=1,
    bob_phase=0.86,
    nod=0.13,
    nod_beats=1,
    nod_phase=0.58,
    neck=0.28,
    pitch=0.03,
    pitch_phase=0.62,
    arch=0.22,
    arch_phase=0.90,
    tail=(0.45, 0.03),
)


# Standing feet may be behind or ahead of the hip (a cow's hind feet are behind); walking ones swing about a point nearer below it.
_UNDER_HIP = 0.6


def _foot_path(phase: Tensor, gait: Gait, *, centre: float, lift: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return how far ahead and above its standing place a foot is (in leg lengths) at phases since touchdown, and the swing fraction."""
    swing = ((phase - gait.duty) / (1 - gait.duty)).clamp(0, 1)
    on_ground = centre + gait.reach * (1 - 2 * phase / gait.duty)
    # Cubic from the back to the front end whose end speeds are a share of the ground's, so that the foot neither snatches nor stabs.
    speed = -2 * gait.reach / gait.duty * (1 - gait.duty) * gait.follow
    w = swing
    h00, h10, h01, h11 = 2 * w**3 - 3 * w**2 + 1, w**3 - 2 * w**2 + w, -2 * w**3 + 3 * w**2, w**3 - w**2
    in_air = centre + h00 * -gait.reach + h10 * speed + h01 * gait.reach + h11 * speed
    ahead = torch.where(phase < gait.duty, on_ground, in_air)
    above = lift * bump(swing, peak=0.42, sharpness=1.1)
    return ahead, above, swing


def gait_curves(
    skeleton: Skeleton, gait: Gait, *, soles: Soles | None = None
) -> tuple[Float[Tensor, "T"], Float[Tensor, "T K 3"], Float[Tensor, "T 3"], Float[Tensor, "T"]]:
    """Return key times in seconds, joint angles, shift of the root, and how high the lowest foot is meant to be (canonical units).

    The last key repeats the first. Works with any subset of the product's bone names; missing ones stay at rest.

    Args:
        skeleton: unbatched.
        gait: which one.
        soles: the feet's skin, so that the sole of a tilted hoof stands on the ground and not just the end of its bone.
    """
    phase = torch.linspace(0, 1, gait.keys, dtype=torch.float64)
    phase[-1] = 0.0
    count = len(skeleton.names)
    angles = torch.zeros(len(phase), count, 3, dtype=torch.float64)
    legs, stance = find_legs(skeleton), stance_of(skeleton, soles)
    stance.lean(skeleton, angles)
    reach = sum(leg_reach(skeleton, leg) for leg in legs) / max(len(legs), 1) or 1.0

    def wave(at: float, beats: int = 1) -> Tensor:
        return torch.cos(2 * math.pi * beats * (phase - at))

    def turn(name: str, axis: int, curve: Tensor | float) -> None:
        if name in skeleton.names:
            angles[:, skeleton.index(name), axis] += curve

    # Hind feet are farthest forward at their touchdown: the pelvis turns with them, the loins counter-bend. y points down for bones that
    # run backward, so one sign bends both halves of the back to the same side.
    side = wave(gait.touchdown["rear_L"]) * gait.sway
    for name, share in (("lumbar_02", 0.5), ("pelvis_01", 0.5), ("neck_01", 0.4), ("neck_02", 0.3), ("head", -0.5)):
        turn(name, 1, share * side)
    # The back flexes where the hind legs hang on it: farther forward it would not swing the hips but drop them.
    tuck = wave(gait.arch_phase) * gait.arch
    bone = next((skeleton.parents[leg.bones[0]] for leg in legs if not leg.is_front), -1)
    for share in (-0.75, -0.25):
        if bone >= 0:
            turn(skeleton.names[bone], 0, share * tuck)
            bone = skeleton.parents[bone]
    turn("spine_01", 0, 0.12 * tuck)
    rock = wave(gait.pitch_phase) * gait.pitch
    for k, parent in enumerate(skeleton.parents):
        if parent < 0:
            angles[:, k, 0] += rock
    nod = gait.neck + wave(gait.nod_phase, gait.nod_beats) * gait.nod - rock
    for name, share in (("neck_01", 0.6), ("neck_02", 0.4), ("head", -0.45)):
        turn(name, 0, share * nod)
    lift_tail, swing_tail = gait.tail
    for i, share in enumerate((1.0, 0.6, 0.4)):
        turn(f"tail_{i + 1:02d}", 0, share * lift_tail)
        turn(f"tail_{i + 1:02d}", 1, share * swing_tail * wave(0.1 + 0.08 * i))

    feet: dict[str, Tensor] = {}
    shares: dict[str, Tensor] = {}
    heights: dict[str, Tensor] = {}
    on_ground: dict[str, Tensor] = {}
    drops = [0.0]
    for leg in legs:
        since = (phase - gait.touchdown[leg.name]) % 1.0
        fore = 0 if leg.is_front else 1
        ahead, above, swing = _foot_path(since, gait, centre=gait.centre[fore], lift=gait.lift[fore])
        length = leg_reach(skeleton, leg)
        standing, hip = stance.places[leg.name], skeleton.starts[leg.bones[0]].double()
        under_hip = float(((hip[2] - standing[2]) * _UNDER_HIP).clamp(-0.15 * length, 0.15 * length))
        path = standing.expand(len(phase), 3).clone()
        path[:, 1] += above * length
        path[:, 2] += ahead * length + under_hip
        feet[leg.name], heights[leg.name] = path, above * length
        shares[leg.name] = gait.fold[fore] * bump(swing, sharpness=0.75)
        on_ground[leg.name] = 1 - bump(swing, sharpness=0.5)
        far = gait.reach + abs(gait.centre[fore])
        drops.append(
            0.85 * min(float(hip[1] - standing[1]) - stance.rise[leg.name] - length * math.sqrt(max(1 - far**2, 0.5)), 0.08 * length)
        )
    root = torch.zeros(len(phase), 3, dtype=torch.float64)
    root[:, 1] = gait.bob * reach * wave(gait.bob_phase, gait.bob_beats) - max(drops) + stance.shift
    angles = solve_legs(skeleton, angles, root_offset=root, feet=feet, shares=shares)
    for _ in range(2 if soles else 0):
        measured = soles.height(angles, root) if soles else {}
        for name, height in measured.items():
            feet[name][:, 1] += on_ground[name] * (heights[name] - height)
        angles = solve_legs(skeleton, angles, root_offset=root, feet=feet, shares=shares)
    height = torch.stack([*heights.values()]).amin(0) if legs else torch.zeros_like(phase)
    times = torch.linspace(0, gait.period_s, gait.keys, dtype=torch.float64)
    return times, angles, root, height
