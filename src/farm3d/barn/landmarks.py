"""Landmarks that every quadruped has, as vertices of a rig's fine surface, and the rest pose told in our 20 or 23 bones."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from farm3d.barn.individuals import CLASSES, Build, Individual, make_individual
from farm3d.barn.species import species
from farm3d.core.shapes import Float, Int, Tensor
from farm3d.geometry.quadruped import find_quadruped_bones
from farm3d.geometry.skinning import linear_blend_skinning, skin_weights
from farm3d.structures import Skeleton

__all__ = ["LANDMARKS", "angles_between", "landmarks_of", "matrix_to_euler", "skeleton_of"]

CANONICAL_LENGTH = 4.2  # of an animal in the frame the bone finder expects
LANDMARKS: tuple[str, ...] = (
    "nose",
    "chin",
    "eye_L",
    "eye_R",
    "ear_base_L",
    "ear_base_R",
    "ear_tip_L",
    "ear_tip_R",
    "throat",
    "withers",
    "back",
    "belly",
    "tail_base",
    "tail_tip",
    "elbow_L",
    "elbow_R",
    "front_knee_L",
    "front_knee_R",
    "front_hoof_L",
    "front_hoof_R",
    "stifle_L",
    "stifle_R",
    "hock_L",
    "hock_R",
    "hind_hoof_L",
    "hind_hoof_R",
)


def landmarks_of(build: Build) -> Int[Tensor, " N"]:
    """Return for each of ``LANDMARKS`` a vertex of the fine surface; -1 where the animal has no such part."""
    return _landmarks(build.rig.name, build)


_KEPT: dict[str, Tensor] = {}


def _landmarks(name: str, build: Build) -> Tensor:
    if name not in _KEPT:
        _KEPT[name] = torch.tensor([_find(build, landmark) for landmark in LANDMARKS])
    return _KEPT[name]


def _find(build: Build, landmark: str) -> int:
    fine, side = build.fine, 1.0 if landmark.endswith("_L") else -1.0
    letter = "L" if side > 0 else "R"
    head = build.group("Head") > 0.5
    face = head & (build.classes[:, CLASSES.index("horn")] < 0.5)
    joint = dict(zip(build.rig.joint_names, build.rig.joints, strict=True))

    def extreme(where: Tensor, score: Tensor) -> int:
        return int(torch.where(where, score, -torch.inf).argmax()) if bool(where.any()) else -1

    def outermost(name: str) -> int:
        """Surface point beside a joint, on the animal's outer side."""
        far = (fine[:, 1:] - joint[name][1:]).norm(dim=1)
        mine = build.group(*(n for n in build.rig.joint_names if n.endswith(f".{letter}"))) > 0.3
        return extreme(mine, side * fine[:, 0] * 0.5 - far * 3)

    kind = landmark[:-2] if landmark.endswith(("_L", "_R")) else landmark
    middle = -fine[:, 0].abs() * 4
    match kind:
        case "nose":
            return extreme(face, fine[:, 2] + middle)
        case "chin":
            muzzle = face & (fine[:, 2] > fine[face][:, 2].quantile(0.9))
            return extreme(muzzle, -fine[:, 1] + middle)
        case "eye":
            eyes = (build.classes[:, CLASSES.index("eye")] > 0.5) & (fine[:, 0] * side > 0)
            return extreme(eyes, side * fine[:, 0])
        case "ear_base" | "ear_tip":
            ears = build.group("Ear") > 0.5
            if not bool(ears.any()):  # no ear bones: the outermost upper part of the head that is neither horn nor eye
                upper = face & (fine[:, 1] > fine[face][:, 1].quantile(0.5)) & (fine[:, 2] < fine[face][:, 2].quantile(0.5))
                ears = upper & (fine[:, 0] * side > fine[face][:, 0].abs().quantile(0.75))
            ears = ears & (fine[:, 0] * side > 0)
            root = joint["Head"]
            score = (fine - root).norm(dim=1)
            return extreme(ears, score if kind == "ear_tip" else -score)
        case "throat":
            neck = build.group("Neck2", "Neck3") > 0.5
            return extreme(neck, fine[:, 2] - fine[:, 1] + middle)
        case "withers":
            return extreme(
                build.group("Torso3", "Neck1", "Torso2") > 0.5, fine[:, 1] + middle - (fine[:, 2] - joint["Torso3"][2]).abs() * 2
            )
        case "back":
            return extreme(build.group("Torso") > 0.5, fine[:, 1] + middle - (fine[:, 2] - joint["Torso2"][2]).abs() * 2)
        case "belly":
            return extreme(build.group("Torso") > 0.5, -fine[:, 1] + middle - (fine[:, 2] - joint["Torso2"][2]).abs() * 2)
        case "tail_base":
            tail = build.group("Tail1", "Tail2") > 0.4
            return extreme(tail, fine[:, 1] + middle - (fine - joint["Tail2"]).norm(dim=1) * 3)
        case "tail_tip":
            tail = build.group("Tail") > 0.6
            return extreme(tail, (fine - joint["Tail1"]).norm(dim=1))
        case "elbow":
            return outermost(f"FrontUpperLeg.{letter}")
        case "front_knee":
            return outermost(f"FrontLowerLeg.{letter}")
        case "stifle":
            return outermost(f"BackUpperLeg.{letter}")
        case "hock":
            return outermost(f"BackLowerLeg.{letter}")
        case _:
            foot = build.group(f"{'FF' if kind == 'front_hoof' else 'FFB'}.{letter}") > 0.5
            return extreme(foot, fine[:, 2] - fine[:, 1])


def skeleton_of(individual: Individual, *, rigs: Path) -> tuple[Skeleton, Float[Tensor, "V K"]]:
    """Return our bones in the individual at rest (metres, object frame) and which bone each vertex follows, ``[V, K]``.

    The bones are found once, in the mean individual of the rig (section 2.5, with our tail); in others each joint is carried along
    by the skin around it.
    """
    mean, bones, weights, around = _bones_of_mean(individual.species.name, individual.build.rig.name, Path(rigs))
    starts, ends, centre = (around @ (individual.rest - mean.rest)).split((len(bones.names), len(bones.names), 1))
    skeleton = bones.replace(starts=bones.starts + starts, ends=bones.ends + ends, centre=bones.centre + centre[0])
    return skeleton, weights


@lru_cache(maxsize=16)
def _bones_of_mean(kind: str, rig: str, rigs: Path) -> tuple[Individual, Skeleton, Tensor, Tensor]:
    mean = make_individual(species(kind), 0, rigs=rigs, rig=rig, varied=False)
    low, high = mean.rest.amin(0), mean.rest.amax(0)
    scale, middle = CANONICAL_LENGTH / float(high[2] - low[2]), (low + high) / 2 * torch.tensor([0.0, 1.0, 1.0])
    canonical = (mean.rest - middle) * scale
    found = find_quadruped_bones(canonical, mean.faces)
    weights = skin_weights(canonical, found.starts, found.ends)
    joints = torch.cat([found.starts, found.ends, found.centre[None]])
    around = torch.softmax(-torch.cdist(joints, canonical) / 0.1, 1)
    starts, ends, centre = (points / scale + middle for points in (found.starts, found.ends, found.centre))
    return mean, Skeleton(found.names, found.parents, starts, ends, centre), weights, around


def angles_between(
    skeleton: Skeleton, weights: Float[Tensor, "V K"], rest: Float[Tensor, "V 3"], posed: Float[Tensor, "V 3"]
) -> tuple[Float[Tensor, "K 3"], float]:
    """Return the bone angles (radians, section 2.6) that best turn a rest surface into a posed one, and what they leave, RMS metres.

    Each bone's rotation is the Procrustes fit of the vertices that follow it; angles are relative to the parent's. The turn of the
    two body bones next to the centre is global motion: the roots' angles are relative to it, and it is not told.
    """
    frames = skeleton.rest_frames()
    roots = torch.tensor([parent < 0 for parent in skeleton.parents])
    turned = _procrustes(rest, posed, torch.cat([weights, weights[:, roots].sum(1, keepdim=True), torch.ones(len(rest), 1)], 1))
    count = len(skeleton.names)
    angles = torch.zeros(count, 3)
    for k, parent in enumerate(skeleton.parents):
        above = turned[parent if parent >= 0 else count]
        angles[k] = matrix_to_euler(frames[k, :3, :3].T @ above.T @ turned[k] @ frames[k, :3, :3])
    again = linear_blend_skinning(rest, weights, skeleton.transforms(angles))
    turn = _procrustes(again, posed, torch.ones(len(rest), 1))[0]
    laid = (again - again.mean(0)) @ turn.T + posed.mean(0)
    return angles, float((laid - posed).square().sum(1).mean().sqrt())


def matrix_to_euler(matrix: Float[Tensor, "3 3"]) -> Float[Tensor, "3"]:
    """Return (a, b, c) with Rx(a) Ry(b) Rz(c) = matrix, radians; b within 90 degrees."""
    sine = float(matrix[0, 2].clamp(-1, 1))
    b = np.arcsin(sine)
    if abs(sine) > 0.9999:
        return torch.tensor([float(torch.atan2(matrix[2, 1], matrix[1, 1])), b, 0.0])
    a = torch.atan2(-matrix[1, 2], matrix[2, 2])
    c = torch.atan2(-matrix[0, 1], matrix[0, 0])
    return torch.tensor([float(a), float(b), float(c)])


def _procrustes(source: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Return the rotations that best take source points to target points, each about their mean, for many weights: ``[K, 3, 3]``."""
    a, b = source.double(), target.double()
    products = (b[:, :, None] * a[:, None, :]).flatten(1)
    sums = weights.double().T @ torch.cat([products, b, a, torch.ones(len(a), 1, dtype=torch.float64)], 1)
    moments, of_b, of_a, total = sums.split((9, 3, 3, 1), 1)
    covariance = moments.unflatten(1, (3, 3)) - of_b[:, :, None] * of_a[:, None, :] / total[:, :, None].clamp_min(1e-9)
    u, _, vh = torch.linalg.svd(covariance)
    sign = torch.ones(len(u), 3, dtype=torch.float64)
    sign[:, 2] = torch.linalg.det(u @ vh)
    return ((u * sign[:, None]) @ vh).float()
