"""How an animal stands: where its feet belong, and the pitch of a body whose fore and hind legs do not end at one height."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

from farm3d.core.shapes import Float, Tensor
from farm3d.motion.legs import Leg, find_legs
from farm3d.structures import Skeleton

__all__ = ["Soles", "Stance", "stance_of"]

_WIDTH = (0.9, 1.8)  # how far from the midline a foot stands, in distances of its hip or shoulder from there
_STEEPEST = 0.14  # radians that a body is pitched at most to bring its feet to one height


@dataclass(frozen=True)
class Soles:
    """The skin of the feet, which is what stands on the ground.

    Attributes:
        height: given angles ``[T, K, 3]`` and root shifts ``[T, 3]``: how far each foot's lowest skin is above the ground, ``[T]``.
        side: how far to the left of its lower bone's end each foot's skin is at rest, canonical units.
        rise: how far above the ground it is then.
    """

    height: Callable[[Tensor, Tensor], Mapping[str, Tensor]]
    side: Mapping[str, float]
    rise: Mapping[str, float]


@dataclass(frozen=True)
class Stance:
    """Where a standing animal has its feet and its body.

    Attributes:
        places: for each leg, where the end of its lower bone is, ``[3]`` float64, object frame.
        rise: for each leg, how far above that its rest pose has it.
        pitch: of the trunk against the rest pose, radians, nose down.
        shift: of the root, upward, so that the legs are as long as at rest.
    """

    places: Mapping[str, Float[Tensor, "3"]]
    rise: Mapping[str, float] = field(default_factory=dict)
    pitch: float = 0.0
    shift: float = 0.0

    def lean(self, skeleton: Skeleton, angles: Float[Tensor, "T K 3"]) -> None:
        """Add the pitch to the bones that start at the root; the neck gives it back."""
        for k, parent in enumerate(skeleton.parents):
            angles[:, k, 0] += self.pitch if parent < 0 else 0.0
        if "neck_01" in skeleton.names:
            angles[:, skeleton.index("neck_01"), 0] -= self.pitch


def stance_of(skeleton: Skeleton, soles: Soles | None = None) -> Stance:
    """Return how this animal stands.

    A shape fitted to one view may have its feet close together, crossed, or its hind feet higher than its forefeet: that view does not
    show it. Walking on them as they are would cross the legs and leave two feet in the air. So each foot is kept on its own side, between
    :data:`_WIDTH` times as far from the midline as the leg's upper end, all are put on one ground, and the body follows.
    """
    legs = find_legs(skeleton)
    rise = {leg.name: soles.rise.get(leg.name, 0.0) if soles else 0.0 for leg in legs}
    places = {leg.name: _place(skeleton, leg, soles, rise[leg.name]) for leg in legs}

    def mean(front: bool) -> tuple[float, float] | None:
        ends = [(rise[leg.name], float(skeleton.starts[leg.bones[0], 2])) for leg in legs if leg.is_front == front]
        return (sum(end[0] for end in ends) / len(ends), sum(end[1] for end in ends) / len(ends)) if ends else None

    fore, hind = mean(True), mean(False)
    if fore is None or hind is None or fore[1] <= hind[1]:
        return Stance(places, rise)
    pitch = min(max((fore[0] - hind[0]) / (fore[1] - hind[1]), -_STEEPEST), _STEEPEST)
    centre = float(skeleton.centre[2])
    return Stance(places, rise, pitch, min(pitch * (fore[1] - centre) - fore[0], pitch * (hind[1] - centre) - hind[0]))


def _place(skeleton: Skeleton, leg: Leg, soles: Soles | None, rise: float) -> Tensor:
    place, hip = skeleton.ends[leg.bones[2]].double().clone(), abs(float(skeleton.starts[leg.bones[0], 0]))
    side = 1 if leg.is_left else -1
    foot = side * (float(place[0]) + (soles.side.get(leg.name, 0.0) if soles else 0.0))
    return place + torch.tensor([side * (min(max(foot, _WIDTH[0] * hip), _WIDTH[1] * hip) - foot), -rise, 0.0]).double()
