"""Named bones in a rest pose."""

from __future__ import annotations

from dataclasses import dataclass

from farm3d.core.shapes import Float, Tensor
from farm3d.geometry.kinematics import bone_transforms, rest_frames
from farm3d.structures._value import Value

__all__ = ["Skeleton"]


@dataclass(frozen=True, eq=False, repr=False)
class Skeleton(Value):
    """K bones, parents before children. There is no root bone here: the root joint at ``centre`` is added on export.

    A bone's rest frame (section 2.6) has z along the bone, y = z x (1, 0, 0), x = y x z, and its origin at ``starts``. Its three
    angles are a rotation Rx Ry Rz about those axes, radians: x is flexion in the sagittal plane, y bends sideways, z twists.

    Attributes:
        names: plain ASCII bone names such as ``neck_01`` or ``leg_front_L_02``, length K.
        parents: index of the parent bone or -1, length K.
        starts: joint nearer the root, ``[*batch, K, 3]``, object frame.
        ends: the other joint, ``[*batch, K, 3]``.
        centre: the root joint, ``[*batch, 3]``.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    starts: Float[Tensor, "*batch K 3"]
    ends: Float[Tensor, "*batch K 3"]
    centre: Float[Tensor, "*batch 3"]

    def index(self, name: str) -> int:
        """Return the number of a bone by name; KeyError lists the names."""
        if name not in self.names:
            raise KeyError(f"no bone {name!r}; bones: {', '.join(self.names)}")
        return self.names.index(name)

    def rest_frames(self) -> Float[Tensor, "*batch K 4 4"]:
        """Return T_object_bone of each bone at rest."""
        return rest_frames(self.starts, self.ends)

    def transforms(self, angles: Float[Tensor, "*batch K 3"]) -> Float[Tensor, "*batch K 4 4"]:
        """Return for each bone the map from rest to posed points in the object frame, for angles in radians (section 2.6)."""
        return bone_transforms(self.rest_frames(), self.parents, angles)
