"""An animal as one GLB file: skinned mesh, named bones, clips, albedo texture; and its JSON sidecar. Standard library and NumPy.

glTF 2.0: metres, +y up, the head toward +z, feet on y = 0, quaternions xyzw, matrices column-major. The bind pose is the rest pose.
Equal input gives equal bytes: no dates, no random numbers.
"""

from __future__ import annotations

import io
import json
import math
import re
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from farm3d.core.errors import OutputError
from farm3d.core.files import write_whole
from farm3d.core.shapes import Float, Tensor
from farm3d.core.version import __version__
from farm3d.geometry.kinematics import rest_frames, rigid_inverse
from farm3d.geometry.rotations import euler_to_matrix, matrix_to_quaternion
from farm3d.geometry.skinning import prune_weights
from farm3d.geometry.surface import vertex_normals
from farm3d.motion.clips import Clip, make_clips
from farm3d.structures import Animal, Mesh

__all__ = ["animal_name", "glb_bytes", "glb_transform", "sidecar_text", "split_at_seams", "write_glb", "write_sidecar"]

_FLOAT, _U8, _U16, _U32 = 5126, 5121, 5123, 5125
_VERTEX_DATA, _INDEX_DATA = 34962, 34963


def glb_transform(animal: Animal) -> Float[Tensor, "4 4"]:
    """Return T_glb_object, float64: canonical object units to the file's metres, lowest vertex at y = 0; a scale and a lift, no turn."""
    height = animal.rest.vertices[..., 1].double()
    low, high = float(height.min()), float(height.max())
    if not (math.isfinite(low) and math.isfinite(high) and high > low and animal.height_m > 0 and math.isfinite(animal.height_m)):
        raise OutputError(
            f"an animal {high - low:g} units and {animal.height_m:g} m tall cannot be exported", hint="give a positive --height-m"
        )
    scale = animal.height_m / (high - low)
    matrix = torch.diag(torch.tensor([scale, scale, scale, 1.0], dtype=torch.float64))
    matrix[1, 3] = -scale * low
    return matrix


def split_at_seams(mesh: Mesh) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (source, uv, faces): one file vertex per pair of mesh vertex and UV corner, ``source[i]`` the mesh vertex it copies.

    Faces with a repeated corner are dropped. Without an atlas, UVs are 0.
    """
    faces = mesh.faces.detach().cpu().numpy()
    if mesh.uv is None or mesh.faces_uv is None:
        corners, table = np.zeros_like(faces), np.zeros((1, 2), np.float32)
    else:
        corners, table = mesh.faces_uv.detach().cpu().numpy(), mesh.uv.detach().cpu().numpy().astype(np.float32)
    a, b, c = faces.T
    keep = (a != b) & (b != c) & (c != a)
    pairs = np.stack([faces[keep], corners[keep]], -1).reshape(-1, 2)
    unique, inverse = np.unique(pairs, axis=0, return_inverse=True)
    return unique[:, 0], table[unique[:, 1]], inverse.reshape(-1, 3)


def write_glb(
    animal: Animal,
    path: Path,
    *,
    clips: Sequence[Clip] | None = None,
    texture_px: int = 1024,
    texture_format: Literal["png", "jpeg"] = "png",
    with_light: bool = False,
) -> None:
    """Write the animal to ``path``, whole or not at all; see :func:`glb_bytes`.

    Raises:
        OutputError: the file cannot be written, or the animal holds values no file can (not finite, no height).
    """
    write_whole(
        Path(path),
        glb_bytes(animal, clips=clips, texture_px=texture_px, texture_format=texture_format, with_light=with_light),
    )


def glb_bytes(
    animal: Animal,
    *,
    clips: Sequence[Clip] | None = None,
    texture_px: int = 1024,
    texture_format: Literal["png", "jpeg"] = "png",
    with_light: bool = False,
) -> bytes:
    """Return the file's bytes: one skinned mesh, a ``root`` joint and all bones, the clips, an sRGB base colour texture.

    Args:
        animal: in rest pose; at most four skin weights a vertex are kept (the rest is divided among them).
        clips: in the order wanted; all of :func:`farm3d.motion.clips.make_clips` if not given.
        texture_px: side of the square texture; the albedo is resampled when it has another size, else kept texel for texel.
        texture_format: lossless ``png`` or smaller ``jpeg``.
        with_light: add the photograph's light as a ``KHR_lights_punctual`` sun, in lux such that three.js shows what we fitted. Programs
            disagree on its brightness (Blender shows it 683 times weaker), so it is left out unless asked for.

    Raises:
        OutputError: values that are not finite, or no height.
    """
    buffer = _Buffer()
    gltf = _skinned_mesh(animal, buffer)
    gltf["images"] = [
        {"bufferView": buffer.view(_texture(animal.albedo, texture_px, texture_format)), "mimeType": f"image/{texture_format}"}
    ]
    joints: list[int] = gltf["skins"][0]["joints"]
    scale = float(glb_transform(animal)[0, 0])
    rest = np.array([gltf["nodes"][joint]["rotation"] for joint in joints])
    root_place = np.array(gltf["nodes"][joints[0]]["translation"])
    gltf["animations"] = [
        _animation(clip, joints, buffer, rest=rest, root_place=root_place, scale=scale)
        for clip in (make_clips(animal) if clips is None else clips)
    ]
    if not gltf["animations"]:
        del gltf["animations"]
    if with_light:
        _add_light(animal, gltf)
    return _pack(gltf, buffer)


def animal_name(animal: Animal) -> str:
    """Return the category as a plain node name."""
    return re.sub(r"[^A-Za-z0-9_]+", "_", animal.category) or "animal"


class _Buffer:
    """The binary chunk in the making: appended, 4-byte aligned pieces, each its own buffer view."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []

    def view(self, piece: bytes, *, target: int | None = None) -> int:
        self.data.extend(b"\0" * (-len(self.data) % 4))
        view = {"buffer": 0, "byteOffset": len(self.data), "byteLength": len(piece)}
        if target is not None:
            view["target"] = target
        self.data.extend(piece)
        self.views.append(view)
        return len(self.views) - 1

    def accessor(self, values: np.ndarray, kind: str, *, target: int | None = None, bounds: bool = False) -> int:
        component = {"f": _FLOAT, "B": _U8, "H": _U16, "I": _U32}[values.dtype.char]
        if component == _FLOAT and not np.isfinite(values).all():
            raise OutputError(
                "the animal holds values that are not finite (NaN or infinity)", hint="this is a fault of the fit: please report it"
            )
        entry: dict[str, Any] = {
            "bufferView": self.view(np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<")).tobytes(), target=target),
            "componentType": component,
            "count": len(values),
            "type": kind,
        }
        if bounds:
            flat = values.reshape(len(values), -1)
            entry |= {"min": flat.min(0).tolist(), "max": flat.max(0).tolist()}
        self.accessors.append(entry)
        return len(self.accessors) - 1


def _float32(values: Tensor) -> np.ndarray:
    return values.detach().cpu().numpy().astype(np.float32)


def _skinned_mesh(animal: Animal, buffer: _Buffer) -> dict[str, Any]:
    """Return the glTF tree without images, clips and light: nodes, mesh, material, skin."""
    T_glb_object = glb_transform(animal)
    scale, lift = T_glb_object[0, 0], T_glb_object[:3, 3]
    source, uv, faces = split_at_seams(animal.rest)
    places = animal.rest.vertices.detach().cpu().double() * scale + lift
    joints, weights = _joint_sets(animal.skin_weights)
    normals = _float32(vertex_normals(places, animal.rest.faces.cpu()))
    normals[np.linalg.norm(normals, axis=1) < 0.5] = (0, 1, 0)  # a vertex of faces without area has no normal; a file needs one
    index_kind = np.uint16 if len(source) < 65535 else np.uint32  # 65535 itself is reserved
    primitive = {
        "attributes": {
            "POSITION": buffer.accessor(_float32(places)[source], "VEC3", target=_VERTEX_DATA, bounds=True),
            "NORMAL": buffer.accessor(normals[source], "VEC3", target=_VERTEX_DATA),
            "TEXCOORD_0": buffer.accessor(uv, "VEC2", target=_VERTEX_DATA),
            "JOINTS_0": buffer.accessor(joints[source], "VEC4", target=_VERTEX_DATA),
            "WEIGHTS_0": buffer.accessor(weights[source], "VEC4", target=_VERTEX_DATA),
        },
        "indices": buffer.accessor(faces.reshape(-1).astype(index_kind), "SCALAR", target=_INDEX_DATA),
        "material": 0,
        "mode": 4,
    }
    skeleton = animal.skeleton.to("cpu").to(torch.float64)
    frames = rest_frames(skeleton.starts * scale + lift, skeleton.ends * scale + lift)
    root = torch.eye(4, dtype=torch.float64)
    root[:3, 3] = skeleton.centre * scale + lift
    frames = torch.cat([root[None], frames])
    inverse = rigid_inverse(frames)
    parents = [-1, *(parent + 1 for parent in skeleton.parents)]
    name = animal_name(animal)
    nodes: list[dict[str, Any]] = [{"name": name, "mesh": 0, "skin": 0}]
    for joint, (bone, parent) in enumerate(zip(("root", *skeleton.names), parents, strict=True)):
        local = frames[joint] if parent < 0 else inverse[parent] @ frames[joint]
        node: dict[str, Any] = {
            "name": bone,
            "translation": local[:3, 3].tolist(),
            "rotation": _xyzw(matrix_to_quaternion(local[:3, :3])).tolist(),
        }
        children = [child + 1 for child, its_parent in enumerate(parents) if its_parent == joint]
        if children:
            node["children"] = children
        nodes.append(node)
    ibm = inverse.transpose(-1, -2).reshape(-1, 16)  # column-major
    ibm[:, [3, 7, 11]], ibm[:, 15] = 0.0, 1.0
    skin = {
        "name": name,
        "inverseBindMatrices": buffer.accessor(_float32(ibm), "MAT4"),
        "skeleton": 1,
        "joints": list(range(1, len(frames) + 1)),
    }
    material = {
        "name": "coat",
        "pbrMetallicRoughness": {"baseColorTexture": {"index": 0}, "metallicFactor": 0.0, "roughnessFactor": 0.9},
    }
    generator = f"farm3d {__version__}"
    # Nodes say where bones start and which way they lead, not how far: without it nobody could rebuild the skeleton (a head has no child).
    lengths = (scale * (skeleton.ends - skeleton.starts).norm(dim=-1)).tolist()
    return {
        "asset": {
            "version": "2.0",
            "generator": generator,
            "extras": {"farm3d": {"category": animal.category, "height_m": animal.height_m, "bone_lengths_m": lengths}},
        },
        "scene": 0,
        "scenes": [{"name": name, "nodes": [0, 1]}],
        "nodes": nodes,
        "meshes": [{"name": name, "primitives": [primitive]}],
        "skins": [skin],
        "materials": [material],
        "textures": [{"sampler": 0, "source": 0}],
        "samplers": [{"magFilter": 9729, "minFilter": 9987, "wrapS": 33071, "wrapT": 33071}],
    }


def _joint_sets(skin_weights: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return JOINTS_0 (u8, or u16 beyond 255 joints) and WEIGHTS_0 that sum to 1 in float32; joint 0 is the root, bone k is joint k + 1."""
    weights = prune_weights(skin_weights.detach().cpu().double(), keep=4)
    if not bool(torch.isfinite(weights).all()):
        raise OutputError("the skin weights are not finite or a vertex has none", hint="this is a fault of the model: please report it")
    if weights.shape[-1] < 4:
        weights = torch.nn.functional.pad(weights, (0, 4 - weights.shape[-1]))
    values, bones = torch.sort(weights, dim=-1, descending=True, stable=True)
    values = values[:, :4].numpy().astype(np.float32)
    values[values < 1e-7] = 0
    values[:, 0] = 1 - values[:, 1:].astype(np.float64).sum(1)
    joints = (bones[:, :4].numpy() + 1) * (values > 0)
    return joints.astype(np.uint8 if weights.shape[-1] < 255 else np.uint16), values


def _xyzw(quaternion_wxyz: Tensor) -> Tensor:
    return quaternion_wxyz[..., [1, 2, 3, 0]]


def _animation(clip: Clip, joints: list[int], buffer: _Buffer, *, rest: np.ndarray, root_place: np.ndarray, scale: float) -> dict[str, Any]:
    """Return a glTF animation: a rotation channel for every joint and a translation channel for the root, LINEAR."""
    times = clip.times_s.numpy().astype(np.float32)
    if len(times) < 2 or times[0] != 0 or not (np.diff(times) > 0).all() or clip.angles.shape[1] != len(joints) - 1:
        raise OutputError(f"clip {clip.name!r} does not fit: needs times from 0 upward and angles for {len(joints) - 1} bones")
    turns = matrix_to_quaternion(euler_to_matrix(clip.angles.double()))  # [T, K, 4] wxyz
    local = _multiply(torch.from_numpy(rest[1:, [3, 0, 1, 2]]), turns)
    local = _xyzw(_continuous(local)).numpy().astype(np.float32)
    root_turn = np.broadcast_to(np.array([0, 0, 0, 1], np.float32), (len(times), 4))
    places = (root_place + scale * clip.root_offset.double().numpy()).astype(np.float32)
    input_ = buffer.accessor(times, "SCALAR", bounds=True)
    curves = [(joints[0], "translation", places, "VEC3"), (joints[0], "rotation", root_turn, "VEC4")]
    curves += [(joint, "rotation", local[:, i], "VEC4") for i, joint in enumerate(joints[1:])]
    samplers, channels = [], []
    for node, path, values, kind in curves:
        channels.append({"sampler": len(samplers), "target": {"node": node, "path": path}})
        samplers.append({"input": input_, "output": buffer.accessor(values, kind), "interpolation": "LINEAR"})
    return {"name": clip.name, "samplers": samplers, "channels": channels}


def _multiply(a: Tensor, b: Tensor) -> Tensor:
    """Hamilton product of quaternions wxyz, normalised."""
    (aw, av), (bw, bv) = ((q[..., :1], q[..., 1:]) for q in torch.broadcast_tensors(a, b))
    product = torch.cat([aw * bw - (av * bv).sum(-1, keepdim=True), aw * bv + bw * av + torch.linalg.cross(av, bv)], -1)
    return torch.nn.functional.normalize(product, dim=-1)


def _continuous(quaternions: Tensor) -> Tensor:
    """Flip signs along the first axis so that neighbours lie on the same side: players that do not look for the shorter arc agree too."""
    dots = (quaternions[1:] * quaternions[:-1]).sum(-1, keepdim=True)
    signs = torch.cumprod(torch.where(dots < 0, -1.0, 1.0).to(quaternions), 0)
    return torch.cat([quaternions[:1], quaternions[1:] * signs])


def _texture(albedo: Tensor, side_px: int, kind: str) -> bytes:
    """Return the sRGB-encoded picture file of a linear albedo ``[H, W, 3]``."""
    from PIL import Image

    linear = albedo.detach().cpu().float()
    if not bool(torch.isfinite(linear).all()):
        raise OutputError("the albedo holds values that are not finite", hint="this is a fault of the fit: please report it")
    if linear.shape[:2] != (side_px, side_px):
        resized = torch.nn.functional.interpolate(linear.permute(2, 0, 1)[None], (side_px, side_px), mode="bilinear", antialias=True)
        linear = resized[0].permute(1, 2, 0)
    linear = linear.clamp(0, 1)
    encoded = torch.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear.clamp_min(1e-9) ** (1 / 2.4) - 0.055)
    picture = Image.fromarray((encoded * 255).round().to(torch.uint8).numpy())
    out = io.BytesIO()
    if kind == "png":
        picture.save(out, "PNG", compress_level=6)
    else:
        picture.save(out, "JPEG", quality=92, subsampling=0)
    return out.getvalue()


def _add_light(animal: Animal, gltf: dict[str, Any]) -> None:
    """Add a sun node that shines along its -z, which is from the light to the animal; lux = pi * diffuse, as a Lambert surface needs."""
    rotation = animal.camera.T_camera_world[:3, :3].detach().cpu().double()
    toward = torch.nn.functional.normalize(rotation.T @ animal.light.direction.detach().cpu().double(), dim=0)
    other = torch.tensor([0.0, 1.0, 0.0] if abs(float(toward[1])) < 0.9 else [1.0, 0.0, 0.0], dtype=torch.float64)
    x = torch.nn.functional.normalize(torch.linalg.cross(other, toward), dim=0)
    turn = torch.stack([x, torch.linalg.cross(toward, x), toward], -1)
    sun = {
        "type": "directional",
        "name": "sun",
        "color": [1.0, 1.0, 1.0],
        "intensity": math.pi * max(float(animal.light.diffuse), 0.0),
        "extras": {"farm3d_ambient": float(animal.light.ambient)},
    }
    gltf["extensionsUsed"] = ["KHR_lights_punctual"]
    gltf["extensions"] = {"KHR_lights_punctual": {"lights": [sun]}}
    node = {"name": "sun", "rotation": _xyzw(matrix_to_quaternion(turn)).tolist(), "extensions": {"KHR_lights_punctual": {"light": 0}}}
    gltf["nodes"].append(node)
    gltf["scenes"][0]["nodes"].append(len(gltf["nodes"]) - 1)


def _pack(gltf: dict[str, Any], buffer: _Buffer) -> bytes:
    """Join the JSON and binary chunks."""
    binary = bytes(buffer.data) + b"\0" * (-len(buffer.data) % 4)
    gltf = gltf | {"accessors": buffer.accessors, "bufferViews": buffer.views, "buffers": [{"byteLength": len(binary)}]}
    try:
        text = json.dumps(gltf, allow_nan=False, separators=(",", ":")).encode()
    except ValueError as error:
        raise OutputError(
            "the animal holds values that are not finite (NaN or infinity)", hint="this is a fault of the fit: please report it"
        ) from error
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<II", len(text), 0x4E4F534A) + text + struct.pack("<II", len(binary), 0x004E4942) + binary
    return struct.pack("<III", 0x46546C67, 2, 12 + len(chunks)) + chunks


def write_sidecar(animal: Animal, path: Path, *, extra: Mapping[str, Any]) -> None:
    """Write NAME.json beside the GLB, whole or not at all; see :func:`sidecar_text`.

    Raises:
        OutputError: the file cannot be written, or a value is not finite.
    """
    write_whole(Path(path), sidecar_text(animal, extra=extra))


def sidecar_text(animal: Animal, *, extra: Mapping[str, Any]) -> str:
    """Return the text of NAME.json: the photograph's camera for the GLB's frame, the clip that shows the photographed pose, and more.

    ``camera.T_camera_world`` (4x4, row-major, rigid) maps the GLB's frame (metres) to an OpenGL camera (x right, y up, looks along -z),
    in metres too; ``fx, fy, cx, cy`` in pixels of the upright photograph, y down, pixel centres at +0.5. ``light.direction_camera`` is the
    unit vector toward the light in that camera's frame; with ``ambient`` and ``diffuse`` as in section 2.9, linear.

    Args:
        animal: what the GLB was written from.
        extra: further top-level entries, JSON-ready: timings, versions, seed, warnings.

    Raises:
        OutputError: a value is not finite.
    """
    T_glb_object = glb_transform(animal)
    scale, lift = T_glb_object[0, 0], T_glb_object[:3, 3]
    camera = animal.camera.T_camera_world.detach().cpu().double()
    T_camera_glb = camera.clone()
    T_camera_glb[:3, 3] = scale * camera[:3, 3] - camera[:3, :3] @ lift
    fx, fy, cx, cy = animal.camera.intrinsics.detach().cpu().tolist()
    document = {
        "camera": {
            "T_camera_world": T_camera_glb.tolist(),
            "fx": fx,
            "fy": fy,
            "cx": cx,
            "cy": cy,
            "width": animal.camera.width_px,
            "height": animal.camera.height_px,
        },
        "pose": {"clip": "input_pose", "time_s": 0.0},
        "light": {
            "direction_camera": animal.light.direction.detach().cpu().tolist(),
            "ambient": float(animal.light.ambient),
            "diffuse": float(animal.light.diffuse),
        },
        **extra,
    }
    try:
        return json.dumps(document, allow_nan=False, indent=2, ensure_ascii=False) + "\n"
    except ValueError as error:
        raise OutputError(
            "the sidecar: a value is not finite (NaN or infinity)", hint="this is a fault of the fit: please report it"
        ) from error
