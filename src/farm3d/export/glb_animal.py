"""A GLB of ours back to an :class:`Animal`: mesh without seams, skeleton, pose and coat, so that it can be changed and written again.

What a file does not hold, the photograph's light and camera, is a plain one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch

from farm3d.core.errors import InputError
from farm3d.core.shapes import Float, Int, Tensor
from farm3d.data.photo import shown_path
from farm3d.export.glb_reader import RiggedModel, read_glb
from farm3d.geometry.rotations import matrix_to_euler, quaternion_to_matrix
from farm3d.structures import Animal, Camera, Light, Mesh, Skeleton

__all__ = ["animal_from_model", "kin_from_files", "mesh_vertices", "same_mesh"]


def kin_from_files(paths: Sequence[Path]) -> list[Animal]:
    """Read GLBs of animals that share category, mesh, atlas and bones.

    Vertices are in metres in the files' frame (feet on y = 0). Each animal's ``rest.uv`` are those of its file's vertices.

    Raises:
        InputError: a file that is no GLB of ours, is older than bone lengths, or is of another category or model than the first.
    """
    models = [read_glb(path) for path in paths]
    first, *others = models
    for path, other in zip(paths[1:], others, strict=True):
        names = f"{shown_path(paths[0])} and {shown_path(path)}"
        if other.category != first.category:
            raise InputError(
                f"{names} show a {first.category} and a {other.category}: only animals of one category have the same mesh and bones",
                hint="give two animals of one category",
            )
        if not same_mesh(first, other):
            raise InputError(
                f"{names} were made with different models of a {first.category}: their meshes, atlases or bones are not the same",
                hint="reconstruct both with the same --category",
            )
    source = mesh_vertices(models)
    return [animal_from_model(model, source=source, where=shown_path(path)) for model, path in zip(models, paths, strict=True)]


def same_mesh(a: RiggedModel, b: RiggedModel) -> bool:
    """Whether two files have equal faces, atlas, bones and skin weights, so that only places and colours differ."""
    return (
        (a.joint_names, a.joint_parents) == (b.joint_names, b.joint_parents)
        and a.vertices.shape == b.vertices.shape
        and torch.equal(a.faces, b.faces)
        and torch.allclose(a.uv, b.uv, atol=1e-5)
        and torch.allclose(_dense_weights(a), _dense_weights(b), atol=1e-3)
    )


def mesh_vertices(models: Sequence[RiggedModel]) -> Int[Tensor, "N"]:
    """Return the number of the mesh vertex that each file vertex copies, for files of one mesh.

    Copies along a texture seam follow one another in a file of ours; they are copies if they are in one place in every one of ``models``.
    """
    moved = torch.stack([(model.vertices[1:] != model.vertices[:-1]).any(-1) for model in models]).any(0)
    return torch.cat([torch.zeros(1, dtype=torch.int64), moved.long().cumsum(0)])


def animal_from_model(model: RiggedModel, *, source: Int[Tensor, "N"] | None = None, where: str = "this GLB") -> Animal:
    """Return the animal of a file, in metres: writing it again gives the file's mesh, skeleton, texture and clips.

    Args:
        model: what :func:`read_glb` returned.
        source: as :func:`mesh_vertices` returns it, when several animals are to have one numbering.
        where: the file's name for messages.

    Raises:
        InputError: the file does not hold the lengths of bones, or its joints are not ours.
    """
    lengths = torch.tensor(model.bone_lengths_m, dtype=torch.float64)
    if len(lengths) != len(model.joint_names) - 1:
        raise InputError(
            f"{where}: written by an earlier farm3d: it does not say how long its bones are", hint="reconstruct the animal again"
        )
    weights = _dense_weights(model)
    if model.joint_names[0] != "root" or len(lengths) < 1 or float(weights[:, 0].max()) > 1e-6:
        raise InputError(f"{where}: its joints are not those that farm3d writes", hint="give the NAME.glb of a reconstruction")
    source = mesh_vertices([model]) if source is None else source
    first = torch.nonzero(torch.cat([torch.ones(1, dtype=torch.int64), source.diff()]))[:, 0]
    rotations = quaternion_to_matrix(model.rest_rotations)
    turns, places = [rotations[0]], [model.rest_places[0]]
    for joint, parent in enumerate(model.joint_parents[1:], start=1):
        turns.append(turns[parent] @ rotations[joint])
        places.append(turns[parent] @ model.rest_places[joint] + places[parent])
    starts = torch.stack(places[1:])
    ends = starts + lengths[:, None] * torch.stack(turns[1:])[..., 2]  # z leads along a bone
    parents = tuple(parent - 1 for parent in model.joint_parents[1:])
    heights = model.vertices[:, 1]
    return Animal(
        model.category,
        Mesh(model.vertices[first], source[model.faces], model.uv, model.faces),
        Skeleton(model.joint_names[1:], parents, starts.float(), ends.float(), places[0].float()),
        weights[first, 1:],
        _input_angles(model),
        model.texture,
        Light(torch.tensor([0.0, 0.8, 0.6]), torch.tensor(0.6), torch.tensor(0.5)),
        Camera.orbit(math.radians(45), math.radians(10), distance=10.0),
        height_m=float(heights.max() - heights.min()),
    )


def _input_angles(model: RiggedModel) -> Float[Tensor, "K 3"]:
    """Return the photographed pose in radians; a file without the clip ``input_pose`` is at rest."""
    if "input_pose" not in model.clip_names:
        return torch.zeros(len(model.joint_names) - 1, 3)
    rest, posed = quaternion_to_matrix(model.rest_rotations), quaternion_to_matrix(model.clip("input_pose").rotations[0])
    return matrix_to_euler(rest.transpose(-1, -2) @ posed)[1:].float()


def _dense_weights(model: RiggedModel) -> Float[Tensor, "N J"]:
    zeros = torch.zeros(len(model.vertices), len(model.joint_names))
    return zeros.scatter_add(1, model.joint_indices, model.joint_weights)
