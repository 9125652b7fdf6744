"""What is known of a picture of the closed world: animal, camera, light, keypoints; from tar shards or from a plain folder."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from farm3d.core.errors import InputError
from farm3d.core.shapes import Bool, Float, Tensor
from farm3d.evaluation.predictions import Prediction, mesh_from_tensors
from farm3d.evaluation.views import camera_from_json, field_of, light_from_json, numbers_of, parse_json
from farm3d.structures._value import Value

__all__ = ["MEMBERS", "Truth", "decode_truth", "read_truth", "truth_members"]

MEMBERS = ("json", "rgb.png", "mask.png", "mesh.safetensors")
_MAX_MEMBER_BYTES = 256 << 20
_MAX_SIDE_PX = 8192


@dataclass(frozen=True, eq=False, repr=False)
class Truth(Value):
    """One picture and everything that is known of it.

    Attributes:
        key: name of the picture.
        category: species name.
        individual: name of the animal; its pictures are not independent of each other.
        action: what it does, such as ``walk``.
        view_index: 0 to 7, the eighth of the circle that it is seen from.
        azimuth_deg, elevation_deg: of the camera round the animal; 0 sees the face, 90 its left side.
        rgb: the picture, sRGB, ``[H, W, 3]`` uint8.
        mask: coverage of the animal in [0, 1], ``[H, W]``.
        animal: the true mesh, colours, camera and light, as a prediction would give them.
        names: of the keypoints, K of them.
        keypoints_px: ``[K, 2]``, x right, y down.
        visible: which keypoints the picture shows, ``[K]``.
        truncated, occluded: the frame cuts the animal; something stands before it.
    """

    key: str
    category: str
    individual: str
    action: str
    view_index: int
    azimuth_deg: float
    elevation_deg: float
    rgb: np.ndarray
    mask: Float[Tensor, "H W"]
    animal: Prediction
    names: tuple[str, ...]
    keypoints_px: Float[Tensor, "K 2"]
    visible: Bool[Tensor, " K"]
    truncated: bool
    occluded: bool


def read_truth(path: Path) -> Iterator[Truth]:
    """Yield every sample of a folder of shards, of one shard, or of a plain folder of files; see :func:`truth_members`.

    Raises:
        InputError: as :func:`truth_members` and :func:`decode_truth`.
    """
    for key, members in truth_members(path):
        yield decode_truth(key, members)


def truth_members(path: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield (key, {extension: bytes}) of the extensions in ``MEMBERS``, in the shards' order.

    Args:
        path: a folder with shards, one shard or data set in it (``*.tar``, ``*.plan.json``), or a folder with the members as files:
            ``KEY.json``, ``KEY.rgb.png`` and so on.

    Raises:
        InputError: no such place, nothing in it, or damaged shards.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such folder or shard", hint="give what `farm3d barn make` wrote")
    if not path.is_dir() or any(path.glob("*.tar")) or any(path.glob("*.plan.json")):
        from farm3d.core.shard_reader import read_shards

        yield from read_shards(path, extensions=MEMBERS, strict=False)
        return
    keys = sorted({file.name[: -len(".json")] for file in path.glob("*.json") if "." not in file.name[: -len(".json")]})
    keys = [key for key in keys if (path / f"{key}.mesh.safetensors").is_file()]
    if not keys:
        raise InputError(f"{path}: neither shards nor samples in this folder", hint="expected *.tar, or KEY.json with KEY.mesh.safetensors")
    for key in keys:
        files = {extension: path / f"{key}.{extension}" for extension in MEMBERS}
        yield key, {extension: _read(file) for extension, file in files.items() if file.is_file()}


def decode_truth(key: str, members: Mapping[str, bytes]) -> Truth:
    """Return one sample from its members.

    Raises:
        InputError: a member is missing or damaged, or values do not fit each other; the message names the sample.
    """
    missing = [extension for extension in MEMBERS if extension not in members]
    if missing:
        raise InputError(f"{key}: its {' and '.join(missing)} is missing", hint="`farm3d barn check` tells what else is wrong")
    where = f"{key}.json"
    facts = parse_json(members["json"], where)
    camera = camera_from_json(field_of(facts, "camera", dict, where), where)
    light = light_from_json(field_of(facts, "light", dict, where), where)
    vertices, faces, albedo = mesh_from_tensors(members["mesh.safetensors"], f"{key}.mesh.safetensors", "posed", "faces", "albedo")
    rgb, mask = _picture(members["rgb.png"], f"{key}.rgb.png", "RGB"), _picture(members["mask.png"], f"{key}.mask.png", "L")
    if rgb.shape[:2] != mask.shape or mask.shape != (camera.height_px, camera.width_px):
        raise InputError(
            f"{key}: picture {rgb.shape[:2]}, mask {mask.shape} and camera {(camera.height_px, camera.width_px)} differ in size"
        )
    keypoints = field_of(facts, "keypoints", dict, where)
    names, points, visible = _keypoints(keypoints, where)
    return Truth(
        key=key,
        category=field_of(facts, "category", str, where),
        individual=str(field_of(facts, "individual", (str, int), where)),
        action=str(facts.get("action", "")),
        view_index=field_of(facts, "view_index", int, where),
        azimuth_deg=float(field_of(facts, "azimuth_deg", (int, float), where)),
        elevation_deg=float(field_of(facts, "elevation_deg", (int, float), where)),
        rgb=rgb,
        mask=torch.from_numpy(mask.astype(np.float32) / 255),
        animal=Prediction(vertices, faces, albedo, camera, light),
        names=names,
        keypoints_px=points,
        visible=visible,
        truncated=bool(facts.get("truncated", False)),
        occluded=bool(facts.get("occluded", False)),
    )


def _keypoints(keypoints: dict[str, Any], where: str) -> tuple[tuple[str, ...], Tensor, Tensor]:
    names = field_of(keypoints, "names", list, where)
    visible = field_of(keypoints, "visible", list, where)
    points = numbers_of(keypoints, "xy", (None, 2), where).float()
    strings = all(isinstance(name, str) for name in names) and all(isinstance(value, bool) for value in visible)
    if not strings or not len(names) == len(visible) == len(points) or len(set(names)) != len(names):
        raise InputError(f"{where}: {len(names)} keypoint names, {len(points)} places and {len(visible)} visibilities do not fit")
    return tuple(names), points, torch.tensor(visible, dtype=torch.bool)


def _picture(data: bytes, where: str, mode: str) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
            if max(picture.size) > _MAX_SIDE_PX:
                raise InputError(f"{where}: {picture.size[0]} x {picture.size[1]} pixels; expected at most {_MAX_SIDE_PX} a side")
            return np.asarray(picture.convert(mode))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{where}: not a whole PNG: {error}") from error


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > _MAX_MEMBER_BYTES:
            raise InputError(f"{path.name}: {path.stat().st_size} bytes; expected at most {_MAX_MEMBER_BYTES}")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path.name}: cannot read: {error.strerror or error}") from error
