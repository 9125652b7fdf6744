"""Cameras and lights as the JSON files of truth and predictions hold them, read strictly."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

import torch

from farm3d.core.errors import InputError
from farm3d.structures import Camera, Light

__all__ = ["camera_from_json", "camera_to_json", "field_of", "light_from_json", "light_to_json", "numbers_of", "parse_json"]

MAX_SIDE_PX = 16384
_INTRINSICS = ("fx", "fy", "cx", "cy")


def parse_json(data: bytes, where: str) -> dict[str, Any]:
    """Return the JSON object in ``data``; ``where`` names the file in messages.

    Raises:
        InputError: not JSON, not an object, or NaN and infinities among its numbers.
    """

    def refuse(word: str) -> NoReturn:
        raise ValueError(f"{word} is no number of JSON")

    try:
        document = json.loads(data.decode(), parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not readable as JSON: {error}") from error
    if not isinstance(document, dict):
        raise InputError(f"{where}: expected a JSON object, got {type(document).__name__}")
    return document


def field_of(document: Any, name: str, kind: type | tuple[type, ...], where: str) -> Any:
    """Return ``document[name]`` if it is there and of the kind; a bool is no number.

    Raises:
        InputError: it is missing or of another kind.
    """
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(document, dict) or name not in document:
        raise InputError(f"{where}: {name!r} is missing")
    value = document[name]
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise InputError(f"{where}: {name!r} should be {' or '.join(k.__name__ for k in kinds)}, got {type(value).__name__}")
    return value


def numbers_of(document: Any, name: str, shape: tuple[int | None, ...], where: str) -> torch.Tensor:
    """Return nested lists of finite numbers as a float64 tensor of ``shape``; None in it is any length.

    Raises:
        InputError: missing, ragged, of another shape, or not finite.
    """
    value = document.get(name) if isinstance(document, dict) else None
    try:
        tensor = torch.tensor(value, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise InputError(f"{where}: {name!r} is missing or not an array of numbers") from error
    if tensor.numel() == 0 and None in shape and shape[0] is None:
        tensor = tensor.reshape([0, *(size or 0 for size in shape[1:])])
    fits = tensor.ndim == len(shape) and all(want is None or got == want for got, want in zip(tensor.shape, shape))
    if not fits or not bool(torch.isfinite(tensor).all()):
        wanted = " x ".join("N" if size is None else str(size) for size in shape) or "one number"
        raise InputError(f"{where}: {name!r} should be finite numbers ({wanted}), got an array of {list(tensor.shape)}")
    return tensor


def camera_from_json(document: Any, where: str) -> Camera:
    """Return the camera of ``T_camera_world`` (4x4, rigid), ``fx, fy, cx, cy`` and ``width, height`` in pixels, float32.

    Raises:
        InputError: a field is missing or of another kind, the matrix is not rigid, or a size is out of range.
    """
    matrix = numbers_of(document, "T_camera_world", (4, 4), where)
    rotation = matrix[:3, :3]
    off = (rotation @ rotation.T - torch.eye(3, dtype=torch.float64)).abs().max()
    if off > 1e-3 or torch.linalg.det(rotation) < 0 or (matrix[3] - torch.tensor([0.0, 0, 0, 1])).abs().max() > 1e-6:
        raise InputError(f"{where}: 'T_camera_world' is not a rotation and a translation", hint="scale the vertices, not the camera")
    intrinsics = [float(field_of(document, name, (int, float), where)) for name in _INTRINSICS]
    if not all(map(math.isfinite, intrinsics)) or min(intrinsics[:2]) <= 0:
        raise InputError(f"{where}: fx, fy, cx, cy should be finite and the focal lengths positive, got {intrinsics}")
    width, height = (field_of(document, name, int, where) for name in ("width", "height"))
    if not (1 <= width <= MAX_SIDE_PX and 1 <= height <= MAX_SIDE_PX):
        raise InputError(f"{where}: a picture of {width} x {height} pixels; expected 1 to {MAX_SIDE_PX} a side")
    return Camera(matrix.float(), torch.tensor(intrinsics, dtype=torch.float32), width, height)


def camera_to_json(camera: Camera) -> dict[str, Any]:
    """Return what :func:`camera_from_json` reads."""
    intrinsics = dict(zip(_INTRINSICS, camera.intrinsics.detach().cpu().double().tolist(), strict=True))
    matrix = camera.T_camera_world.detach().cpu().double().tolist()
    return {"T_camera_world": matrix, **intrinsics, "width": camera.width_px, "height": camera.height_px}


def light_from_json(document: Any, where: str) -> Light:
    """Return the light of ``direction_camera`` (toward the light, normalised here), ``ambient`` and ``diffuse``, float32.

    Raises:
        InputError: a field is missing or of another kind, no direction, or a negative strength.
    """
    direction = numbers_of(document, "direction_camera", (3,), where)
    ambient, diffuse = (float(field_of(document, name, (int, float), where)) for name in ("ambient", "diffuse"))
    if direction.norm() < 1e-6 or not (math.isfinite(ambient) and math.isfinite(diffuse)) or min(ambient, diffuse) < 0:
        raise InputError(f"{where}: a light needs a direction and strengths of 0 and more, got {ambient}, {diffuse}")
    return Light((direction / direction.norm()).float(), torch.tensor(ambient), torch.tensor(diffuse))


def light_to_json(light: Light) -> dict[str, Any]:
    """Return what :func:`light_from_json` reads."""
    direction = light.direction.detach().cpu().double().tolist()
    return {"direction_camera": direction, "ambient": float(light.ambient), "diffuse": float(light.diffuse)}
