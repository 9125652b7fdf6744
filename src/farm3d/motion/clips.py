"""Animation clips: joint-angle curves over time, made for the skeleton at hand and set on the ground."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

import torch

from farm3d.core.errors import InputError
from farm3d.core.shapes import Float, Tensor, checked
from farm3d.motion.gaits import GALLOP, TROT, WALK, gait_curves
from farm3d.motion.legs import find_legs
from farm3d.motion.stance import Soles
from farm3d.motion.stand import graze_curves, idle_curves
from farm3d.structures import Animal, Mesh, Skeleton
from farm3d.structures._value import Value

__all__ = ["CLIP_NAMES", "Clip", "ground", "input_pose_clip", "make_clip", "make_clips"]

CLIP_NAMES = ("rest", "input_pose", "idle", "walk", "trot", "gallop", "graze")
"""The clips of a product file, in their order there."""

_GAITS = {"walk": WALK, "trot": TROT, "gallop": GALLOP}
_MUZZLE_GAP = 0.012  # a grazing head's lowest point above the ground, in heights of the animal
_STILL_S = 1.0  # a still clip holds its pose this long: players choke on a clip of no duration


@dataclass(frozen=True, eq=False, repr=False)
class Clip(Value):
    """A named motion in place. Between keys joints turn along the shorter arc at even speed and the root moves in a line (glTF LINEAR).

    Attributes:
        name: what the product file calls it.
        times_s: key times, ``[T]``, starting at 0, strictly increasing.
        angles: ``[T, K, 3]`` radians in the bones' rest frames. First = last, so every clip loops.
        root_offset: shift of the whole animal, ``[T, 3]``, canonical units, object frame.
        lift: how high the lowest foot is meant to be at each key, ``[T]`` canonical units: 0 but in a suspension.
    """

    name: str
    times_s: Float[Tensor, "T"]
    angles: Float[Tensor, "T K 3"]
    root_offset: Float[Tensor, "T 3"]
    lift: Float[Tensor, "T"]

    @property
    def duration_s(self) -> float:
        """Time of the last key."""
        return float(self.times_s[-1])


def _clip(name: str, times: Tensor, angles: Tensor, root: Tensor, lift: Tensor) -> Clip:
    angles[-1], root[-1], lift[-1] = angles[0], root[0], lift[0]
    return Clip(name, times.float(), angles.float(), root.float(), lift.float())


def _still(name: str, angles: Tensor) -> Clip:
    twice = angles.detach().cpu().double().expand(2, *angles.shape).clone()
    return _clip(name, torch.tensor([0.0, _STILL_S]), twice, torch.zeros(2, 3), torch.zeros(2))


@checked
def input_pose_clip(angles: Float[Tensor, "K 3"]) -> Clip:
    """Return the clip ``input_pose``: the photographed pose, held; the root does not move, so it matches the photograph's camera."""
    return _still("input_pose", angles)


def make_clip(name: str, skeleton: Skeleton, *, muzzle_height: float | None = None, soles: Soles | None = None) -> Clip:
    """Return one of ``rest, idle, walk, trot, gallop, graze`` for this skeleton (unbatched, any device; the clip is on the CPU).

    Args:
        name: which clip; ``input_pose`` has its own function, since it needs the pose.
        skeleton: bones with the product's names; a missing tail or leg is left out.
        muzzle_height: for ``graze``, how high above the feet the head bone ends, canonical units; a twelfth of the body's
            height if not given. :func:`make_clips` finds it from the mesh.
        soles: the feet's skin, so that soles stand on the ground, not ends of bones; :func:`make_clips` does so with the mesh.

    Raises:
        InputError: an unknown name.
    """
    skeleton = skeleton.to("cpu")
    if name == "rest":
        return _still("rest", torch.zeros(len(skeleton.names), 3))
    if name == "idle":
        return _clip(name, *idle_curves(skeleton, soles=soles))
    if name == "graze":
        height = _muzzle_height(skeleton) if muzzle_height is None else muzzle_height
        return _clip(name, *graze_curves(skeleton, muzzle_height=height, soles=soles))
    if name in _GAITS:
        return _clip(name, *gait_curves(skeleton, _GAITS[name], soles=soles))
    known = ("rest", "idle", *_GAITS, "graze")
    near = difflib.get_close_matches(name, known, n=1)
    raise InputError(f"no clip {name!r}", hint=f"did you mean {near[0]!r}?" if near else f"clips: {', '.join(known)}")


@checked
def ground(clip: Clip, rest: Mesh, *, skin_weights: Float[Tensor, "V K"], skeleton: Skeleton) -> Clip:
    """Return ``clip`` with the root raised or lowered at each key so that the lowest vertex is where it should be.

    That is the height of the lowest vertex at rest, plus the clip's ``lift``: feet neither sink nor float, and a gallop keeps its
    suspension.
    """
    lowest = _heights(clip, rest, skin_weights, skeleton).amin(-1)
    offset = clip.root_offset.clone()
    offset[:, 1] += rest.vertices[:, 1].min().cpu() + clip.lift - lowest
    offset[-1] = offset[0]
    return clip.replace(root_offset=offset)


def _heights(clip: Clip, rest: Mesh, skin_weights: Tensor, skeleton: Skeleton) -> Tensor:
    """Return the height of every skinned vertex at every key, ``[T, V]``, on the CPU: the y row of linear blend skinning."""
    rows = skin_weights.cpu() @ skeleton.to("cpu").transforms(clip.angles)[:, :, 1]
    return torch.einsum("tvi,vi->tv", rows[..., :3], rest.vertices.cpu()) + rows[..., 3] + clip.root_offset[:, 1:2]


def make_clips(animal: Animal) -> tuple[Clip, ...]:
    """Return all clips of a product file in the order of :data:`CLIP_NAMES`, set on the ground with the animal's own skin.

    ``rest`` and ``input_pose`` are left as they are: the first is the file's bind pose, the second must match the photograph's camera.
    """
    clips = [make_clip("rest", animal.skeleton), input_pose_clip(animal.angles)]
    soles = _soles(animal)
    for name in CLIP_NAMES[2:]:
        clip = _graze(animal, soles) if name == "graze" else make_clip(name, animal.skeleton, soles=soles)
        clips.append(ground(clip, animal.rest, skin_weights=animal.skin_weights, skeleton=animal.skeleton))
    return tuple(clips)


def _soles(animal: Animal) -> Soles:
    """Return the measure of the animal's feet: the lowest of the vertices that belong to each leg's lower bone."""
    skeleton, weights, places = animal.skeleton.to("cpu"), animal.skin_weights.cpu(), animal.rest.vertices.cpu()
    feet: dict[str, tuple[Tensor, Mesh]] = {}
    side: dict[str, float] = {}
    rise: dict[str, float] = {}
    ground_y = float(places[:, 1].min())
    for leg in find_legs(skeleton):
        low = places[:, 1] < (skeleton.starts[leg.bones[2], 1] + skeleton.ends[leg.bones[2], 1]) / 2
        own = (weights[:, leg.bones[2]] > 0.5) & low
        if own.any():
            side[leg.name] = float(places[own, 0].mean() - skeleton.ends[leg.bones[2], 0])
            rise[leg.name] = float(places[own, 1].min()) - ground_y
            feet[leg.name] = weights[own], Mesh(places[own], animal.rest.faces.new_zeros(0, 3).cpu())

    def measure(angles: Tensor, root: Tensor) -> dict[str, Tensor]:
        clip = Clip("", torch.arange(float(len(root))), angles.float(), root.float(), torch.zeros(len(root)))
        return {name: (_heights(clip, mesh, own, skeleton).amin(-1) - ground_y).double() for name, (own, mesh) in feet.items()}

    return Soles(measure, side, rise)


def _graze(animal: Animal, soles: Soles) -> Clip:
    """Lower the head until its skin, not just its bone, is just above the ground."""
    skeleton, clip = animal.skeleton.to("cpu"), make_clip("graze", animal.skeleton, soles=soles)
    if "head" not in skeleton.names:
        return clip
    weights, places = animal.skin_weights.cpu(), animal.rest.vertices.cpu()
    of_head = weights[:, skeleton.index("head")] > 0.5
    if not of_head.any():
        return clip
    height = _muzzle_height(skeleton)
    for _ in range(2):
        few = clip.replace(times_s=clip.times_s[::4], angles=clip.angles[::4], root_offset=clip.root_offset[::4], lift=clip.lift[::4])
        poses = _heights(few, animal.rest, weights, skeleton)
        gap = poses[:, of_head].min() - places[:, 1].min()
        height += _MUZZLE_GAP * float(places[:, 1].max() - places[:, 1].min()) - float(gap)
        clip = make_clip("graze", skeleton, muzzle_height=height, soles=soles)
    return clip


def _muzzle_height(skeleton: Skeleton) -> float:
    """A twelfth of the body's height: about the thickness of a muzzle below the bone's end."""
    return float(skeleton.centre[1] - skeleton.ends[:, 1].min()) / 12
