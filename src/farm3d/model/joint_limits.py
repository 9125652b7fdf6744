"""How far each joint of a quadruped bends, radians.

Ours, from the anatomy of horses and cattle, rounded: the paper allows 60 degrees about every axis (section 2.7), which lets a knee
bend forward. Axes are the bone's own (section 2.6): x is flexion in the sagittal plane and positive x moves the foot of a downward
bone backward, lowers the tip of a bone that points to the head, raises one that points to the tail.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from farm3d.core.shapes import Float, Tensor

__all__ = ["joint_limits"]

# name prefix -> ((x low, x high), largest |y|, largest |z|) in degrees; the first prefix that fits counts.
_LIMITS_DEG: tuple[tuple[str, tuple[float, float], float, float], ...] = (
    ("spine_", (-12, 12), 10, 5),
    ("lumbar_", (-12, 12), 10, 5),
    ("pelvis_", (-10, 10), 6, 4),
    ("neck_", (-35, 60), 35, 12),
    ("head", (-45, 55), 35, 15),
    ("tail_", (-30, 60), 35, 5),
    ("leg_front_L_01", (-50, 45), 12, 8),
    ("leg_front_R_01", (-50, 45), 12, 8),
    ("leg_rear_L_01", (-50, 40), 12, 8),
    ("leg_rear_R_01", (-50, 40), 12, 8),
    ("leg_front_L_02", (-45, 40), 6, 5),
    ("leg_front_R_02", (-45, 40), 6, 5),
    ("leg_rear_L_02", (-40, 55), 6, 5),
    ("leg_rear_R_02", (-40, 55), 6, 5),
    ("leg_front_L_03", (-15, 95), 5, 5),
    ("leg_front_R_03", (-15, 95), 5, 5),
    ("leg_rear_L_03", (-60, 50), 5, 5),
    ("leg_rear_R_03", (-60, 50), 5, 5),
)


def joint_limits(names: Sequence[str]) -> tuple[Float[Tensor, "K 3"], Float[Tensor, "K 3"]]:
    """Return the lowest and highest angle of each bone about its x, y, z axes, radians; bones of unknown name get 20 degrees."""
    low, high = torch.empty(len(names), 3), torch.empty(len(names), 3)
    for k, name in enumerate(names):
        (x_low, x_high), y, z = next(((x, y, z) for prefix, x, y, z in _LIMITS_DEG if name.startswith(prefix)), ((-20.0, 20.0), 20.0, 20.0))
        low[k] = torch.tensor([x_low, -y, -z])
        high[k] = torch.tensor([x_high, y, z])
    return low * (math.pi / 180), high * (math.pi / 180)
