"""Individuals: a rig with its own proportions, its facets smoothed, its wool grown, and any pose of the rig's clips.

Proportions are changed bone by bone in the bind pose: each joint scales what hangs on it along and across its bone, children are
carried along, and skin weights blend the parts. Poses keep the clips' rotations; positions are chained anew over the changed bones, the
inverse-kinematics feet hung back on the lower legs, so that an animal with longer legs walks on longer legs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from farm3d.barn.rigs import Rig, load_rig
from farm3d.barn.species import Species
from farm3d.core.random import numpy_generator
from farm3d.core.shapes import Float, Int, Tensor
from farm3d.geometry.surface import fill_holes, loop_subdivide, vertex_normals
from farm3d.structures._value import Value

__all__ = ["CLASSES", "TRAITS", "Build", "Individual", "build_of", "make_individual"]

TRAITS: Mapping[str, float] = {  # proportion -> standard deviation of its logarithm among adults of one species
    "size": 0.07,
    "leg_length": 0.06,
    "leg_girth": 0.10,
    "trunk_length": 0.05,
    "trunk_width": 0.09,
    "trunk_depth": 0.06,
    "neck_length": 0.07,
    "neck_girth": 0.09,
    "head": 0.05,
    "muzzle": 0.06,
    "ear": 0.14,
    "horn": 0.20,
    "tail_length": 0.12,
    "tail_girth": 0.18,
}
CLASSES = ("body", "light", "dark", "hair", "muzzle", "hoof", "horn", "eye", "eye_white")
_MATERIALS = {  # the rigs' material names -> class; those with numbers were told apart by where they lie
    "Main": "body",
    "Main_Light": "light",
    "Main_Dark": "dark",
    "Grey": "dark",
    "Hair": "hair",
    "Muzzle": "muzzle",
    "Nose": "muzzle",
    "Black": "muzzle",
    "Hooves": "hoof",
    "Horns": "horn",
    "Eyes": "eye",
    "Eyes_Pupil": "eye",
    "Eye_Lighter": "dark",
    "Eye_Black": "eye",
    "Eyes_Black": "eye",
    "Eye_Dark": "eye",
    "Eye_White": "eye_white",
    "Eyes_White": "eye_white",
}
_OWN_MATERIALS = {
    "husky": ("body", "muzzle", "light", "eye", "eye_white"),
    "stag": ("body", "horn", "light", "dark", "eye"),
}


@dataclass(frozen=True, eq=False, repr=False)
class Build(Value):
    """What all individuals of one rig share: the fine surface as a linear function of the rig's vertices.

    Attributes:
        rig: the rig, holes filled.
        parents: semantic parents of the joints (feet hang from lower legs), parents before children by ``order``.
        order: joints, parents first.
        fine: the rig's own bind pose, facets smoothed, metres, ``[V, 3]``.
        faces: ``[F, 3]``, four times four for each of the rig's.
        weights: skin weights of the fine vertices, ``[V, J]``.
        classes: share of each of ``CLASSES`` at each fine vertex, ``[V, 9]``.
        place: rest position of the rig itself in body lengths, centred, ``[V, 3]``: where coats are painted, whatever the proportions.
    """

    rig: Rig
    parents: tuple[int, ...]
    order: tuple[int, ...]
    fine: Float[Tensor, "V 3"]
    faces: Int[Tensor, "F 3"]
    weights: Float[Tensor, "V J"]
    classes: Float[Tensor, "V 9"]
    place: Float[Tensor, "V 3"]

    def group(self, *starts: str) -> Float[Tensor, " V"]:
        """Return how much each fine vertex hangs on joints whose names start so."""
        chosen = torch.tensor([name.startswith(starts) for name in self.rig.joint_names])
        return self.weights[:, chosen].sum(1)


@lru_cache(maxsize=16)
def build_of(path: Path) -> Build:
    """Read a rig and prepare its fine surface (about a second; kept)."""
    rig = load_rig(path)
    vertices, faces = fill_holes(rig.vertices, rig.faces)
    extra = len(vertices) - len(rig.vertices)
    if extra:  # a hole's new centre vertex takes the weights of its neighbours
        weights = torch.cat([rig.skin_weights, torch.zeros(extra, rig.skin_weights.shape[1])])
        for new in range(len(rig.vertices), len(vertices)):
            weights[new] = weights[faces[(faces == new).any(1)].unique()].mean(0)
        weights = weights / weights.sum(1, keepdim=True).clamp_min(1e-9)
    else:
        weights = rig.skin_weights
    materials = torch.cat([rig.face_materials, rig.face_materials.new_zeros(len(faces) - len(rig.faces))])
    own = _OWN_MATERIALS.get(rig.name)
    named = own or tuple(_MATERIALS[name] for name in rig.material_names)
    face_class = torch.tensor([CLASSES.index(name) for name in named])[materials]
    rig = rig.replace(vertices=vertices, faces=faces, face_materials=materials, skin_weights=weights)

    fine_faces, fine, soft = faces, vertices, weights
    for keep in (0.6, 0.3):  # as for the category priors: the volume of the facetted rig stays
        soft = _subdivided(soft, fine_faces)
        fine, fine_faces = loop_subdivide(fine, fine_faces, keep=keep)
    soft = soft.clamp_min(0.0)
    shares = torch.zeros(len(fine), len(CLASSES))
    per_face = face_class.repeat_interleave(len(fine_faces) // len(faces))
    for corner in range(3):
        shares.index_put_((fine_faces[:, corner], per_face), torch.ones(len(fine_faces)), accumulate=True)
    low, high = fine.amin(0), fine.amax(0)
    names = list(rig.joint_names)
    parents = tuple(_semantic_parent(names, j, rig.joint_parents[j]) for j in range(len(names)))
    return Build(
        rig,
        parents,
        _parents_first(parents),
        fine,
        fine_faces,
        soft / soft.sum(1, keepdim=True),
        shares / shares.sum(1, keepdim=True),
        (fine - (low + high) / 2) / float(high[2] - low[2]),
    )


@dataclass(frozen=True, eq=False, repr=False)
class Individual(Value):
    """One animal at rest, and how it moves.

    Attributes:
        species, number: who it is.
        build: what it shares with the others of its rig.
        traits: its proportions relative to the rig.
        rest: fine vertices in the bind pose, metres, object frame, feet at y = 0, ``[V, 3]``.
        joints: bind positions, ``[J, 3]``.
        stretch: by what each joint stretches the offset from its parent in the clips, ``[J, 3, 3]``.
    """

    species: Species
    number: int
    build: Build
    traits: Mapping[str, float]
    rest: Float[Tensor, "V 3"]
    joints: Float[Tensor, "J 3"]
    stretch: Float[Tensor, "J 3 3"]

    @property
    def faces(self) -> Int[Tensor, "F 3"]:
        """Triangles of ``rest`` and of every pose."""
        return self.build.faces

    def pose(self, clip: str, time_s: float, *, turns: Mapping[str, Float[Tensor, "3 3"]] | None = None) -> Float[Tensor, "V 3"]:
        """Return the vertices at a time of a clip, with extra rotations at some joints, feet on the ground (or in the air, in a leap).

        Args:
            turns: joint name -> rotation in the object frame at rest, applied under the joint's own.
        """
        rig = self.build.rig
        frames = rig.joint_matrices(rig.local_transforms(clip, time_s))
        rotations = (frames @ rig.inverse_binds)[:, :3, :3]
        rotations = rotations / torch.linalg.det(rotations).abs().pow(1 / 3)[:, None, None]
        where = frames[:, :3, 3]
        posed = self._skinned(rotations, where, turns or {})
        feet = torch.tensor([name.startswith(("FF", "IK")) for name in rig.joint_names])
        lift = max(float(rig.skin(frames)[rig.skin_weights[:, feet].sum(1) > 0.5, 1].amin()), 0.0) * self.traits["size"]
        lowest = float(posed[self.build.weights[:, feet].sum(1) > 0.5, 1].amin())
        posed = posed + posed.new_tensor([0.0, (lift if lift > 0.04 else 0.0) - lowest, 0.0])
        return posed

    def _skinned(self, rotations: Tensor, where: Tensor, turns: Mapping[str, Tensor]) -> Tensor:
        names, parents = self.build.rig.joint_names, self.build.parents
        new_rotation, new_place = list(rotations), list(where)
        for j in self.build.order:
            p = parents[j]
            if p < 0:
                new_place[j] = self.stretch[j] @ where[j]
                continue
            local = rotations[p].T @ rotations[j]
            offset = rotations[p].T @ (where[j] - where[p])
            turned = turns[names[j]] @ local if names[j] in turns else local
            new_rotation[j] = new_rotation[p] @ turned
            new_place[j] = new_place[p] + new_rotation[p] @ (self.stretch[j] @ offset)
        linear = torch.stack(new_rotation)
        shift = torch.stack(new_place) - (linear @ self.joints[:, :, None])[..., 0]
        blended = (self.build.weights @ torch.cat([linear.flatten(1), shift], 1)).split((9, 3), 1)
        return (blended[0].unflatten(1, (3, 3)) @ self.rest[:, :, None])[..., 0] + blended[1]


def make_individual(kind: Species, number: int, *, rigs: Path, rig: str | None = None, varied: bool = True) -> Individual:
    """Return individual ``number`` of a species; equal numbers, equal animals.

    Args:
        rigs: folder of the fetched rigs.
        rig: which of the species' rigs; None draws one.
        varied: False gives the species' mean proportions.
    """
    rng = numpy_generator(0, "individual", kind.name, number)
    chosen = rig or kind.rigs[int(rng.integers(len(kind.rigs)))]
    build = build_of(Path(rigs) / f"{chosen}.glb")
    traits = {name: kind.traits.get(name, 1.0) for name in TRAITS}
    if varied:
        for name, usual in TRAITS.items():
            sigma = kind.spread.get(name, usual)
            traits[name] *= float(np.exp(np.clip(rng.normal(), -2, 2) * sigma))
        if kind.name == "cow" and rng.random() < 0.5:
            traits["horn"] = 0.02  # polled
    rest, joints, stretch = _proportioned(build, traits)
    if kind.name == "sheep":
        rest = _lower_ears(build, rest)
    if kind.fleece_m:
        rest = _with_fleece(build, rest, kind.fleece_m, rng if varied else None)
    back = rest[build.group("Torso", "Back") > 0.6, 1].amax()
    scale = kind.height_m * traits["size"] / float(back - rest[:, 1].amin())
    ground = rest.new_tensor([0.0, float(rest[:, 1].amin()), 0.0])
    return Individual(kind, number, build, traits, (rest - ground) * scale, (joints - ground) * scale, stretch * scale)


def _subdivided(columns: Tensor, faces: Tensor) -> Tensor:
    """Apply one Loop step to any number of columns."""
    parts = []
    for start in range(0, columns.shape[1], 3):
        three = columns[:, start : start + 3]
        padded = torch.nn.functional.pad(three, (0, 3 - three.shape[1]))
        parts.append(loop_subdivide(padded.contiguous(), faces)[0][:, : three.shape[1]])
    return torch.cat(parts, 1)


def _semantic_parent(names: list[str], joint: int, parent: int) -> int:
    name = names[joint]
    if name.startswith("IKFrontLeg"):
        return names.index(name.replace("IKFrontLeg", "FrontLowerLeg"))
    if name.startswith("IKBackLeg"):
        return names.index(name.replace("IKBackLeg", "BackLowerLeg"))
    return parent


def _parents_first(parents: tuple[int, ...]) -> tuple[int, ...]:
    order: list[int] = []
    while len(order) < len(parents):
        order += [j for j, p in enumerate(parents) if j not in order and (p < 0 or p in order)]
    return tuple(order)


def _proportioned(build: Build, traits: Mapping[str, float]) -> tuple[Tensor, Tensor, Tensor]:
    """Return rest vertices, joints and stretches in rig metres; front and hind feet level."""
    hind = 1.0
    for _ in range(3):  # hind legs take the length that levels the feet
        result = _scaled(build, traits, hind)
        joints = result[1]
        names = build.rig.joint_names
        gap = float(joints[names.index("FFB.L"), 1] - joints[names.index("FF.L"), 1])
        own = build.rig.joints
        gap -= float(own[names.index("FFB.L"), 1] - own[names.index("FF.L"), 1])
        leg = float(joints[names.index("BackLeg.L"), 1] - joints[names.index("FFB.L"), 1])
        hind *= 1 + gap / leg
    return result


def _scaled(build: Build, traits: Mapping[str, float], hind: float) -> tuple[Tensor, Tensor, Tensor]:
    rig, names = build.rig, build.rig.joint_names
    bind = rig.joints
    scales = torch.stack([_joint_scale(build, j, traits, hind) for j in range(len(names))])
    place, stretch = list(bind), [torch.eye(3)] * len(names)
    for j in build.order:
        p = build.parents[j]
        if p < 0:
            stretch[j] = torch.diag(torch.tensor([1.0, traits["leg_length"], traits["trunk_length"]]))
            place[j] = stretch[j] @ bind[j]
            continue
        place[j] = place[p] + scales[p] @ (bind[j] - bind[p])
        stretch[j] = _rotation_and_stretch(bind[j] - bind[p], place[j] - place[p])
    joints = torch.stack(place)
    fine = _grown_horns(build, build.fine, traits["horn"])
    moved = joints - (scales @ bind[:, :, None])[..., 0]
    blended = (build.weights @ torch.cat([scales.flatten(1), moved], 1)).split((9, 3), 1)
    rest = (blended[0].unflatten(1, (3, 3)) @ fine[:, :, None])[..., 0] + blended[1]
    return rest, joints, torch.stack(stretch)


def _joint_scale(build: Build, joint: int, traits: Mapping[str, float], hind: float) -> Tensor:
    """Return how a joint scales what hangs on it: along its bone by length, across by girth, ``[3, 3]`` in the object frame."""
    name = build.rig.joint_names[joint]
    if name.startswith(("Torso", "Back")) and not name.startswith(("BackLeg", "BackUpper", "BackLower", "BackShoulder")):
        return torch.diag(torch.tensor([traits["trunk_width"], traits["trunk_depth"], traits["trunk_length"]]))
    if name.startswith(("FrontShoulder", "BackShoulder")):
        return torch.diag(torch.tensor([traits["trunk_width"], traits["trunk_depth"], traits["trunk_length"]]))
    if name.startswith("Neck"):
        return _along(_axis(build, joint), traits["neck_length"], traits["neck_girth"])
    if name == "Head":
        return _along(_axis(build, joint), traits["head"] * traits["muzzle"], traits["head"])
    if name.startswith("Ear"):
        return torch.eye(3) * traits["ear"]
    if name.startswith("Tail"):
        return _along(_axis(build, joint), traits["tail_length"], traits["tail_girth"])
    if name.startswith(("Front", "FF.", "IKFront")):
        return _along(torch.tensor([0.0, 1.0, 0.0]), traits["leg_length"], traits["leg_girth"])
    if name.startswith(("Back", "FFB", "IKBack")):
        return _along(torch.tensor([0.0, 1.0, 0.0]), traits["leg_length"] * hind, traits["leg_girth"])
    return torch.diag(torch.tensor([1.0, traits["leg_length"], traits["trunk_length"]]))


def _axis(build: Build, joint: int) -> Tensor:
    """Direction of a joint's bone: to its first child, or, at an end, on from its parent; the head's is toward the muzzle."""
    bind = build.rig.joints
    if build.rig.joint_names[joint] == "Head":
        hung = build.weights[:, joint] > 0.9
        front = build.fine[hung][build.fine[hung][:, 2].argmax()]
        return _unit((front - bind[joint]) * torch.tensor([0.0, 1.0, 1.0]))
    children = [j for j, p in enumerate(build.parents) if p == joint]
    offset = bind[children[0]] - bind[joint] if children else bind[joint] - bind[build.parents[joint]]
    return _unit(offset)


def _unit(vector: Tensor) -> Tensor:
    return torch.nn.functional.normalize(vector, dim=0)


def _along(axis: Tensor, length: float, girth: float) -> Tensor:
    return girth * torch.eye(3) + (length - girth) * torch.outer(axis, axis)


def _rotation_and_stretch(old: Tensor, new: Tensor) -> Tensor:
    """Return the smallest rotation times the scale that takes one offset to another; for no offset, the identity."""
    a, b = float(old.norm()), float(new.norm())
    if a < 1e-6 or b < 1e-6:
        return torch.eye(3)
    u, v = old / a, new / b
    cross = torch.linalg.cross(u, v)
    cosine = float(u @ v)
    zero = torch.zeros(())
    skew = torch.stack(
        [
            torch.stack([zero, -cross[2], cross[1]]),
            torch.stack([cross[2], zero, -cross[0]]),
            torch.stack([-cross[1], cross[0], zero]),
        ]
    )
    return (torch.eye(3) + skew + skew @ skew / (1 + cosine)) * (b / a)


def _grown_horns(build: Build, fine: Tensor, factor: float) -> Tensor:
    horn = build.classes[:, CLASSES.index("horn")] > 0.5
    if not bool(horn.any()) or build.rig.name == "stag":  # the stag's hooves share the antlers' material
        return fine
    fine = fine.clone()
    for side in (-1.0, 1.0):
        mine = horn & (fine[:, 0] * side > 0) & (build.group("Head") > 0.5)
        if bool(mine.any()):
            root = fine[mine][fine[mine][:, 0].abs() < fine[mine][:, 0].abs().quantile(0.15)].mean(0)
            fine[mine] = root + (fine[mine] - root) * factor
    return fine


def _lower_ears(build: Build, rest: Tensor) -> Tensor:
    """Turn the ears outward and down: a sheep's hang to the side where an alpaca's stand."""
    names = build.rig.joint_names
    result = rest.clone()
    for side, angle in (("L", -1.45), ("R", 1.45)):
        ear = build.group(f"Ear1.{side}", f"Ear2.{side}", f"Ear3.{side}", f"Ear4.{side}")
        if f"Ear1.{side}" not in names or not bool((ear > 0.5).any()):
            continue
        mine = rest[ear > 0.5]
        root = mine[mine[:, 1] < mine[:, 1].quantile(0.2)].mean(0)
        cosine, sine = float(np.cos(angle)), float(np.sin(angle))
        turn = torch.tensor([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])
        result = result + ear[:, None] * ((result - root) @ turn.T + root - result)
    return result


def _with_fleece(build: Build, rest: Tensor, thickness: float, rng: np.random.Generator | None) -> Tensor:
    """Move the woolly parts out along their normals, in tufts; without a generator evenly."""
    bare = build.group("Head", "Ear", "FF", "IK", "FrontLowerLeg", "BackLowerLeg")
    woolly = ((1 - bare) * 1.6 - 0.3).clamp(0, 1)
    size = float(rest[:, 2].max() - rest[:, 2].min())
    tufts = torch.zeros(1, 1, 36, 26, 14) if rng is None else torch.from_numpy(rng.normal(size=(1, 1, 36, 26, 14)).astype(np.float32))
    low, high = rest.amin(0), rest.amax(0)
    at = ((rest - low) / (high - low) * 2 - 1)[None, None, None]
    noise = torch.nn.functional.grid_sample(tufts, at, align_corners=True, padding_mode="reflection")[0, 0, 0, 0]
    normals = vertex_normals(rest, build.faces)
    return rest + normals * (woolly * (1 + 0.35 * noise) * thickness * size / 1.1)[:, None]
