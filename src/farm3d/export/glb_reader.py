"""Read back a GLB that :mod:`farm3d.export.glb` wrote, and pose it. Strict: anything else is an error, and no count is trusted."""

from __future__ import annotations

import io
import json
import math
import stat
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch

from farm3d.core.errors import InputError
from farm3d.core.shapes import Float, Int, Tensor
from farm3d.geometry.rotations import quaternion_to_matrix, slerp
from farm3d.structures._value import Value

__all__ = ["ModelClip", "RiggedModel", "read_glb"]

_MAX_FILE_BYTES = 256 << 20
_MAX_JSON_BYTES = 16 << 20
_MAX_TEXTURE_PX = 8192
_MAX_VERTICES = 4_000_000
_COMPONENTS = {5126: ("f", 4), 5121: ("B", 1), 5123: ("H", 2), 5125: ("I", 4)}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}


@dataclass(frozen=True, eq=False, repr=False)
class ModelClip(Value):
    """One animation of a file: local rotations of every joint and the root's place at key times, LINEAR.

    Attributes:
        name: as in the file.
        times_s: ``[T]`` float64, from 0 upward.
        rotations: local joint rotations, quaternions wxyz, ``[T, J, 4]`` float64.
        root_places: the root joint's translation in metres, ``[T, 3]`` float64.
    """

    name: str
    times_s: Float[Tensor, "T"]
    rotations: Float[Tensor, "T J 4"]
    root_places: Float[Tensor, "T 3"]

    @property
    def duration_s(self) -> float:
        """Time of the last key."""
        return float(self.times_s[-1])


@dataclass(frozen=True, eq=False, repr=False)
class RiggedModel(Value):
    """What a GLB of ours holds, in its own frame: metres, +y up, head toward +z, feet on y = 0.

    Attributes:
        category: species name.
        vertices: rest positions, ``[V, 3]``; vertices on UV seams are repeated.
        faces: ``[F, 3]`` int64.
        uv: one per vertex, ``[V, 2]``, origin at the top left.
        texture: base colour, linear RGB, ``[H, W, 3]``.
        joint_indices: four joints a vertex, ``[V, 4]`` int64.
        joint_weights: ``[V, 4]``, rows sum to 1.
        joint_names: joint 0 is ``root``.
        joint_parents: -1 for the root; parents come first.
        rest_rotations: local, quaternions wxyz, ``[J, 4]`` float64.
        rest_places: local translations in metres, ``[J, 3]`` float64.
        inverse_bind: ``[J, 4, 4]`` float64.
        clips: in the file's order.
        bone_lengths_m: of the bones, which are the joints but the root, in metres; empty in a file written before lengths were.
    """

    category: str
    vertices: Float[Tensor, "V 3"]
    faces: Int[Tensor, "F 3"]
    uv: Float[Tensor, "V 2"]
    texture: Float[Tensor, "Ht Wt 3"]
    joint_indices: Int[Tensor, "V 4"]
    joint_weights: Float[Tensor, "V 4"]
    joint_names: tuple[str, ...]
    joint_parents: tuple[int, ...]
    rest_rotations: Float[Tensor, "J 4"]
    rest_places: Float[Tensor, "J 3"]
    inverse_bind: Float[Tensor, "J 4 4"]
    clips: tuple[ModelClip, ...]
    bone_lengths_m: tuple[float, ...] = ()

    @property
    def clip_names(self) -> tuple[str, ...]:
        """Names of the clips, in the file's order."""
        return tuple(clip.name for clip in self.clips)

    def clip(self, name: str) -> ModelClip:
        """Return a clip by name; InputError lists the names."""
        for clip in self.clips:
            if clip.name == name:
                return clip
        raise InputError(f"no clip {name!r} in this file", hint=f"clips: {', '.join(self.clip_names) or 'none'}")

    def joint_matrices(self, clip: str | None = None, time_s: float = 0.0) -> Float[Tensor, "J 4 4"]:
        """Return for each joint the map from rest to posed points (metres) at a time of a clip; the rest pose if ``clip`` is None.

        Times beyond the clip wrap round, as players loop.
        """
        rotations, places = self.rest_rotations, self.rest_places.clone()
        if clip is not None:
            curve = self.clip(clip)
            times, end = curve.times_s, curve.duration_s
            if not math.isfinite(time_s):
                raise InputError(f"the time {time_s} s is not a finite number")
            if not 0 <= time_s <= end:
                time_s = time_s % end
            after = int(torch.searchsorted(times, torch.tensor(time_s, dtype=times.dtype), right=True).clamp(1, len(times) - 1))
            fraction = float((time_s - times[after - 1]) / (times[after] - times[after - 1]))
            spread = torch.full(rotations.shape[:1], fraction).to(rotations)
            rotations = slerp(curve.rotations[after - 1], curve.rotations[after], spread)
            places[0] = torch.lerp(curve.root_places[after - 1], curve.root_places[after], fraction)
        local = torch.eye(4, dtype=torch.float64).repeat(len(places), 1, 1)
        local[:, :3, :3], local[:, :3, 3] = quaternion_to_matrix(rotations), places
        world: list[Tensor] = []
        for joint, parent in enumerate(self.joint_parents):
            world.append(local[joint] if parent < 0 else world[parent] @ local[joint])
        return torch.stack(world) @ self.inverse_bind

    def vertices_at(self, clip: str | None = None, time_s: float = 0.0) -> Float[Tensor, "V 3"]:
        """Return the skinned vertices in metres at a time of a clip (None: the rest pose).

        Raises:
            InputError: an unknown clip or a time that is not finite.
        """
        matrices = self.joint_matrices(clip, time_s)[:, :3].float()
        blended = (matrices[self.joint_indices] * self.joint_weights[..., None, None]).sum(1)
        return (blended[..., :3] @ self.vertices[..., None])[..., 0] + blended[..., 3]


def read_glb(path: Path) -> RiggedModel:
    """Read a GLB written by farm3d.

    Raises:
        InputError: no such file, or not a whole, sound GLB of ours; the message names the file and what is wrong.
    """
    path = Path(path)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe could block for ever, a device never end
            raise InputError(f"{path}: cannot read: not an ordinary file", hint="give a GLB file that farm3d wrote")
        size = status.st_size
        if size > _MAX_FILE_BYTES:
            raise InputError(f"{path}: {size} bytes is more than a GLB of ours can have ({_MAX_FILE_BYTES})")
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot read: {error.strerror or error}", hint="give a GLB file that farm3d wrote") from error
    with np.errstate(over="ignore", invalid="ignore"):  # absurd numbers are refused below; NumPy need not speak of them too
        return _Reader(path, data).model()


class _Reader:
    """One file being read; every method checks what it returns."""

    def __init__(self, path: Path, data: bytes) -> None:
        self.path = path
        self.gltf, self.binary = self._chunks(data)

    def _fail(self, what: str) -> NoReturn:
        raise InputError(f"{self.path}: not a GLB written by farm3d: {what}", hint="give the NAME.glb of a reconstruction")

    def _chunks(self, data: bytes) -> tuple[dict[str, Any], bytes]:
        if len(data) < 28 or data[:4] != b"glTF":
            self._fail("the file does not start as a GLB")
        _, version, total, json_length, json_kind = struct.unpack_from("<IIIII", data)
        if version != 2 or total != len(data) or json_kind != 0x4E4F534A or not 0 < json_length <= _MAX_JSON_BYTES:
            self._fail("the header does not fit the file (is it cut off?)")
        if 28 + json_length > len(data):
            self._fail("the file is cut off")
        binary_length, binary_kind = struct.unpack_from("<II", data, 20 + json_length)
        if binary_kind != 0x004E4942 or 28 + json_length + binary_length != len(data):
            self._fail("the binary chunk does not fit the file")

        def refuse(word: str) -> NoReturn:
            self._fail(f"{word} among its numbers")

        try:
            gltf = json.loads(data[20 : 20 + json_length], parse_constant=refuse)
        except (ValueError, RecursionError):
            self._fail("its JSON cannot be read")
        if not isinstance(gltf, dict):
            self._fail("its JSON is not an object")
        return gltf, data[28 + json_length :]

    def _get(self, owner: Any, key: str | int, kind: type, where: str) -> Any:
        """Return ``owner[key]`` if it is there and of the kind; a bool is no int."""
        try:
            value = owner[key]
        except (KeyError, IndexError, TypeError):
            self._fail(f"{where}[{key!r}] is missing")
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value) if abs(value) < 1 << 53 else math.inf
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            self._fail(f"{where}[{key!r}] is not {kind.__name__}")
        if isinstance(value, float) and not math.isfinite(value):
            self._fail(f"{where}[{key!r}] is not finite")
        if isinstance(value, int) and value < 0:
            self._fail(f"{where}[{key!r}] is negative")
        return value

    def _item(self, table: str, index: int) -> dict[str, Any]:
        return self._get(self._get(self.gltf, table, list, "glTF"), index, dict, table)

    def _view(self, index: int) -> bytes:
        view = self._item("bufferViews", index)
        start, length = (self._get(view, key, int, "bufferView") for key in ("byteOffset", "byteLength"))
        if "byteStride" in view or self._get(view, "buffer", int, "bufferView") != 0 or start + length > len(self.binary):
            self._fail("a buffer view reaches beyond the data")
        return self.binary[start : start + length]

    def _accessor(self, index: int, *, kind: str, components: str) -> np.ndarray:
        """Return an accessor's values as float64 or int64, ``[count, width]``."""
        accessor = self._item("accessors", index)
        component, count = (self._get(accessor, key, int, "accessor") for key in ("componentType", "count"))
        code, size = _COMPONENTS.get(component, ("", 0))
        if (
            self._get(accessor, "type", str, "accessor") != kind
            or not code
            or code not in components
            or {"sparse", "byteOffset"} & accessor.keys()
        ):
            self._fail("an accessor of another kind than we write")
        data = self._view(self._get(accessor, "bufferView", int, "accessor"))
        if count < 1 or count > 3 * _MAX_VERTICES * 4 or count * size * _WIDTHS[kind] != len(data):
            self._fail("an accessor's count does not fit its data")
        values = np.frombuffer(data, dtype=np.dtype(code).newbyteorder("<"))
        values = values.reshape(count, _WIDTHS[kind]).astype(np.float64 if code == "f" else np.int64)
        if code == "f" and not np.isfinite(values).all():
            self._fail("values that are not finite")
        return values

    def model(self) -> RiggedModel:
        asset = self._get(self.gltf, "asset", dict, "glTF")
        ours = self._get(self._get(asset, "extras", dict, "asset"), "farm3d", dict, "asset.extras")
        category = self._get(ours, "category", str, "farm3d")
        skins, meshes = (self._get(self.gltf, table, list, "glTF") for table in ("skins", "meshes"))
        if len(skins) != 1 or len(meshes) != 1:
            self._fail("not one skinned mesh")
        nodes, names, parents, rotations, places, inverse_bind = self._joints(self._item("skins", 0))
        primitive = self._get(self._get(self._item("meshes", 0), "primitives", list, "mesh"), 0, dict, "primitives")
        attributes = self._get(primitive, "attributes", dict, "primitive")

        def attribute(name: str, kind: str, components: str) -> np.ndarray:
            return self._accessor(self._get(attributes, name, int, "attributes"), kind=kind, components=components)

        vertices, uv = attribute("POSITION", "VEC3", "f"), attribute("TEXCOORD_0", "VEC2", "f")
        joints, weights = attribute("JOINTS_0", "VEC4", "BH"), attribute("WEIGHTS_0", "VEC4", "f")
        faces = self._accessor(self._get(primitive, "indices", int, "primitive"), kind="SCALAR", components="HI")
        if not len(vertices) == len(uv) == len(joints) == len(weights) <= _MAX_VERTICES:
            self._fail("attributes of different lengths")
        if len(faces) % 3 or faces.max() >= len(vertices):
            self._fail("faces that name vertices it does not have")
        if joints.max() >= len(names) or weights.min() < 0 or np.abs(weights.sum(1) - 1).max() > 1e-3:
            self._fail("skin weights that do not fit its joints or do not sum to 1")
        if uv.min() < -1e-3 or uv.max() > 1 + 1e-3 or np.abs(vertices).max() > 1e4:
            self._fail("coordinates out of range")
        images = self._item("images", 0)
        texture = self._texture(self._view(self._get(images, "bufferView", int, "image")))
        animations = self._get(self.gltf, "animations", list, "glTF") if "animations" in self.gltf else []
        clips = tuple(self._clip(index, nodes, rotations, places) for index in range(len(animations)))
        if len({clip.name for clip in clips}) != len(clips):
            self._fail("two clips of one name")

        def floats(values: np.ndarray) -> Tensor:
            return torch.from_numpy(values.astype(np.float32))

        return RiggedModel(
            category=category,
            vertices=floats(vertices),
            faces=torch.from_numpy(faces.reshape(-1, 3)),
            uv=floats(uv),
            texture=texture,
            joint_indices=torch.from_numpy(joints),
            joint_weights=floats(weights),
            joint_names=names,
            joint_parents=parents,
            rest_rotations=torch.from_numpy(rotations),
            rest_places=torch.from_numpy(places),
            inverse_bind=torch.from_numpy(inverse_bind),
            clips=clips,
            bone_lengths_m=self._bone_lengths(ours, len(names) - 1),
        )

    def _bone_lengths(self, ours: dict[str, Any], count: int) -> tuple[float, ...]:
        listed = self._get(ours, "bone_lengths_m", list, "farm3d") if "bone_lengths_m" in ours else []
        lengths = tuple(self._get(listed, i, float, "bone_lengths_m") for i in range(len(listed)))
        if lengths and (len(lengths) != count or min(lengths) < 0 or max(lengths) > 1e4):
            self._fail("bone lengths that do not fit its bones")
        return lengths

    def _joints(self, skin: dict[str, Any]) -> tuple[list[int], tuple[str, ...], tuple[int, ...], np.ndarray, np.ndarray, np.ndarray]:
        listed = self._get(skin, "joints", list, "skin")
        nodes = [self._get(listed, i, int, "joints") for i in range(len(listed))]
        if not 1 <= len(nodes) <= 65535 or len(set(nodes)) != len(nodes):
            self._fail("joints that repeat")
        number = {node: joint for joint, node in enumerate(nodes)}
        names, rotations, places, parents = [], [], [], [-1] * len(nodes)
        for joint, index in enumerate(nodes):
            node = self._item("nodes", index)
            if {"matrix", "scale"} & node.keys():
                self._fail("a joint with a matrix or scale")
            names.append(self._get(node, "name", str, "node"))
            rotation, place = (self._get(node, key, list, "node") for key in ("rotation", "translation"))
            if len(rotation) != 4 or len(place) != 3:
                self._fail("a joint with a rotation or translation of another length")
            x, y, z, w = (self._get(rotation, i, float, "rotation") for i in range(4))
            rotations.append((w, x, y, z))
            places.append([self._get(place, i, float, "translation") for i in range(3)])
            children = self._get(node, "children", list, "node") if "children" in node else []
            for i in range(len(children)):
                child = number.get(self._get(children, i, int, "children"), -1)
                if child <= joint or parents[child] != -1:
                    self._fail("joints that do not form a tree with parents first")
                parents[child] = joint
        if parents.count(-1) != 1:
            self._fail("more than one root joint")
        quaternions = np.array(rotations)
        if np.abs(np.linalg.norm(quaternions, axis=1) - 1).max() > 1e-3:
            self._fail("rotations that are not unit quaternions")
        inverse = self._accessor(self._get(skin, "inverseBindMatrices", int, "skin"), kind="MAT4", components="f")
        if len(inverse) != len(nodes):
            self._fail("a bind matrix for each joint is missing")
        return nodes, tuple(names), tuple(parents), quaternions, np.array(places), inverse.reshape(-1, 4, 4).transpose(0, 2, 1).copy()

    def _clip(self, index: int, nodes: list[int], rest_rotations: np.ndarray, rest_places: np.ndarray) -> ModelClip:
        animation = self._item("animations", index)
        name = self._get(animation, "name", str, "animation")
        channels, samplers = (self._get(animation, key, list, "animation") for key in ("channels", "samplers"))
        number = {node: joint for joint, node in enumerate(nodes)}
        times: np.ndarray | None = None
        rotations: dict[int, np.ndarray] = {}
        root: np.ndarray | None = None
        for i in range(len(channels)):
            channel = self._get(channels, i, dict, "channels")
            sampler = self._get(samplers, self._get(channel, "sampler", int, "channel"), dict, "samplers")
            target = self._get(channel, "target", dict, "channel")
            joint, path = number.get(self._get(target, "node", int, "target"), -1), self._get(target, "path", str, "target")
            if (
                joint < 0
                or sampler.get("interpolation", "LINEAR") != "LINEAR"
                or path not in ("rotation", "translation")
                or (path == "translation" and joint)
            ):
                self._fail(f"clip {name!r} moves something that ours do not")
            keys = self._accessor(self._get(sampler, "input", int, "sampler"), kind="SCALAR", components="f")[:, 0]
            kind = "VEC4" if path == "rotation" else "VEC3"
            values = self._accessor(self._get(sampler, "output", int, "sampler"), kind=kind, components="f")
            times = keys if times is None else times
            if len(keys) < 2 or keys[0] != 0 or (np.diff(keys) <= 0).any() or len(values) != len(keys) or not np.array_equal(keys, times):
                self._fail(f"clip {name!r} has times that do not rise from 0 or do not fit its values")
            if path == "rotation":
                if np.abs(np.linalg.norm(values, axis=1) - 1).max() > 1e-3:
                    self._fail(f"clip {name!r} has rotations that are not unit quaternions")
                rotations[joint] = values[:, [3, 0, 1, 2]]
            else:
                root = values
        if times is None:
            self._fail(f"clip {name!r} is empty")
        every = np.stack(
            [
                rotations[joint] if joint in rotations else np.repeat(rest_rotations[joint][None], len(times), 0)
                for joint in range(len(nodes))
            ],
            1,
        )
        root = np.repeat(rest_places[:1], len(times), 0) if root is None else root
        return ModelClip(name, torch.from_numpy(times.copy()), torch.from_numpy(every), torch.from_numpy(root.copy()))

    def _texture(self, data: bytes) -> Tensor:
        from PIL import Image

        try:
            with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as picture:
                if max(picture.size) > _MAX_TEXTURE_PX:
                    self._fail(f"a texture of {picture.size[0]}x{picture.size[1]} pixels")
                encoded = np.asarray(picture.convert("RGB"))
        except InputError:
            raise
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            self._fail("its texture cannot be read")
        s = np.arange(256) / 255
        table = np.where(s <= 0.04045, s / 12.92, ((s + 0.055) / 1.055) ** 2.4).astype(np.float32)
        return torch.from_numpy(table[encoded])
