"""One answer to one picture: posed mesh, colours and camera, from a product's files or from plain tensors.

A method is a folder. For picture KEY it holds either our product, ``KEY.glb`` with ``KEY.json`` (as ``farm3d reconstruct`` writes
them), or ``KEY.safetensors`` with ``KEY.json``: tensors ``vertices [V, 3]`` (posed), ``faces [F, 3]``, ``albedo [V, 3]`` (linear RGB),
and in the JSON ``camera`` and optionally ``light``, ``seconds``, ``peak_memory_mib``. The JSON is written last: where it stands, the
answer is whole.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from farm3d.core.errors import InputError
from farm3d.core.files import write_whole
from farm3d.core.shapes import Float, Int, Tensor
from farm3d.evaluation.views import camera_from_json, camera_to_json, field_of, light_from_json, light_to_json, parse_json
from farm3d.render.renderer import Texture
from farm3d.structures import Camera, Light
from farm3d.structures._value import Value

__all__ = ["Prediction", "ProductMesh", "ProductReader", "is_answered", "mesh_from_tensors", "read_prediction", "write_prediction"]

_MAX_FILE_BYTES = 512 << 20
_MAX_JSON_BYTES = 16 << 20


class ProductMesh(NamedTuple):
    """What a product's GLB shows at one moment of a clip.

    ``rest [V, 3]``, ``posed [V, 3]``, ``faces [F, 3]``, ``uv [V, 2]`` (origin top left), ``texture [Ht, Wt, 3]`` linear RGB. Vertices on
    texture seams are repeated, with exactly equal rest positions.
    """

    rest: Tensor
    posed: Tensor
    faces: Tensor
    uv: Tensor
    texture: Tensor


ProductReader = Callable[[Path, str | None, float], ProductMesh]
"""Reads a GLB at a clip and a time; handed in by the caller, because the file format lives in a room beside this one."""


@dataclass(frozen=True, eq=False, repr=False)
class Prediction(Value):
    """A posed animal as seen in one picture.

    Attributes:
        vertices: posed, object frame (+x the animal's left, +y up, +z toward the head), any units, ``[V, 3]``.
        faces: ``[F, 3]`` int64; vertices that no face uses are allowed (copies along texture seams).
        albedo: linear RGB per vertex ``[V, 3]``, or a texture.
        camera: object frame to the picture's pixels.
        light: camera frame, or None where the method gives none.
        seconds: what the answer took, or None.
        peak_memory_mib: most memory its process held, or None.
    """

    vertices: Float[Tensor, "V 3"]
    faces: Int[Tensor, "F 3"]
    albedo: Float[Tensor, "V 3"] | Texture
    camera: Camera
    light: Light | None = None
    seconds: float | None = None
    peak_memory_mib: float | None = None

    @property
    def topology(self) -> str:
        """Name of the connectivity: equal for two answers if and only if vertex i means the same point of the animal in both."""
        data = self.faces.to(torch.int64).contiguous().numpy().tobytes()
        return hashlib.sha256(len(self.vertices).to_bytes(8, "little") + data).hexdigest()[:16]


def is_answered(folder: Path, key: str) -> bool:
    """True if the folder holds a whole answer for the picture."""
    return (folder / f"{key}.json").is_file() and any((folder / f"{key}{suffix}").is_file() for suffix in (".glb", ".safetensors"))


def read_prediction(folder: Path, key: str, *, read_product: ProductReader | None = None) -> Prediction | None:
    """Return the answer for picture ``key``, or None if there is none.

    Args:
        folder: of one method.
        key: name of the picture.
        read_product: reads ``KEY.glb``; needed only for products.

    Raises:
        InputError: the files are damaged, cannot be told apart, or hold values that cannot be used.
    """
    sidecar, glb, tensors = (Path(folder) / f"{key}{suffix}" for suffix in (".json", ".glb", ".safetensors"))
    if not sidecar.is_file() or not (glb.is_file() or tensors.is_file()):
        return None
    if glb.is_file() and tensors.is_file():
        raise InputError(f"{key}: both {glb.name} and {tensors.name} are there", hint="keep the answers of one method in one folder")
    facts = parse_json(_bytes_of(sidecar, _MAX_JSON_BYTES), sidecar.name)
    camera = camera_from_json(field_of(facts, "camera", dict, sidecar.name), sidecar.name)
    light = light_from_json(facts["light"], sidecar.name) if facts.get("light") is not None else None
    if glb.is_file():
        vertices, faces, albedo = _from_product(glb, facts, read_product)
    else:
        vertices, faces, albedo = mesh_from_tensors(_bytes_of(tensors, _MAX_FILE_BYTES), tensors.name, "vertices", "faces", "albedo")
    memory = _amount(facts, "peak_memory_mib", sidecar.name)
    return Prediction(vertices, faces, albedo, camera, light, _seconds(facts, sidecar.name), memory)


def write_prediction(folder: Path, key: str, prediction: Prediction, *, extra: dict[str, Any] | None = None) -> None:
    """Write ``KEY.safetensors`` and then ``KEY.json``, each whole or not at all; ``extra`` are further JSON entries.

    Raises:
        InputError: the colours are a texture, which this form does not hold.
        OutputError: the folder cannot be written.
    """
    from safetensors.torch import save

    if isinstance(prediction.albedo, tuple):
        raise InputError(f"{key}: a texture cannot be written as colours per vertex", hint="give albedo as [V, 3]")
    tensors = {
        "vertices": prediction.vertices.detach().cpu().float().contiguous(),
        "faces": prediction.faces.cpu().int().contiguous(),
        "albedo": prediction.albedo.detach().cpu().float().contiguous(),
    }
    facts: dict[str, Any] = {"camera": camera_to_json(prediction.camera)}
    if prediction.light is not None:
        facts["light"] = light_to_json(prediction.light)
    for name in ("seconds", "peak_memory_mib"):
        if getattr(prediction, name) is not None:
            facts[name] = getattr(prediction, name)
    write_whole(Path(folder) / f"{key}.safetensors", save(tensors))
    write_whole(Path(folder) / f"{key}.json", json.dumps(facts | (extra or {}), indent=2, allow_nan=False) + "\n")


def mesh_from_tensors(data: bytes, where: str, vertices: str, faces: str, albedo: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return vertices ``[V, 3]`` and albedo ``[V, 3]`` as float32 and faces ``[F, 3]`` as int64 from a safetensors file, by names.

    Raises:
        InputError: not a safetensors file, a tensor is missing, has another shape or kind, is not finite, or faces point outside.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load(data)
    except (SafetensorError, ValueError, OverflowError) as error:
        raise InputError(f"{where}: not a whole safetensors file: {error}") from error
    points, corners, colours = (_tensor(tensors, name, where, floating=name != faces) for name in (vertices, faces, albedo))
    if len(points) == 0 or len(corners) == 0:
        raise InputError(f"{where}: an empty mesh")
    if len(colours) != len(points):
        raise InputError(f"{where}: {len(colours)} colours for {len(points)} vertices")
    if corners.min() < 0 or corners.max() >= len(points):
        raise InputError(f"{where}: faces that name vertices it does not have")
    return points, corners, colours


def _tensor(tensors: dict[str, Tensor], name: str, where: str, *, floating: bool) -> Tensor:
    if name not in tensors:
        raise InputError(f"{where}: tensor {name!r} is missing; it has {', '.join(sorted(tensors)) or 'none'}")
    value = tensors[name]
    if value.ndim != 2 or value.shape[1] != 3 or value.is_floating_point() != floating or value.dtype == torch.bool:
        raise InputError(
            f"{where}: {name!r} should be {'floats' if floating else 'integers'} [N, 3], got {value.dtype} {list(value.shape)}"
        )
    if floating and not bool(torch.isfinite(value).all()):
        raise InputError(f"{where}: {name!r} has values that are not finite")
    return value.float() if floating else value.long()


def _from_product(glb: Path, facts: dict[str, Any], read_product: ProductReader | None) -> tuple[Tensor, Tensor, Texture]:
    if read_product is None:
        raise InputError(f"{glb.name}: no reader for GLB files was given", hint="run `farm3d evaluate`, or give read_product")
    where = f"{glb.stem}.json"
    pose = field_of(facts, "pose", dict, where)
    clip, time_s = field_of(pose, "clip", (str, type(None)), where), float(field_of(pose, "time_s", (int, float), where))
    mesh = read_product(glb, clip, time_s)
    # One vertex for all its copies along the seams, or an outline would run along them; the numbers of the others stay what they are.
    _, group = torch.unique(mesh.rest, dim=0, return_inverse=True)
    numbers = torch.arange(len(group))
    first = torch.full((int(group.max()) + 1,), len(group)).scatter_reduce(0, group, numbers, "amin")
    return mesh.posed, first[group][mesh.faces], Texture(mesh.uv, mesh.faces, mesh.texture)


def _seconds(facts: dict[str, Any], where: str) -> float | None:
    if "timings_s" not in facts or "seconds" in facts:
        return _amount(facts, "seconds", where)
    stages = field_of(facts, "timings_s", dict, where)
    return sum(_amount(stages, name, where) or 0.0 for name in stages)


def _amount(facts: dict[str, Any], name: str, where: str) -> float | None:
    if facts.get(name) is None:
        return None
    value = float(field_of(facts, name, (int, float), where))
    if not (math.isfinite(value) and value >= 0):
        raise InputError(f"{where}: {name!r} should be 0 or more, got {value}")
    return value


def _bytes_of(path: Path, limit: int) -> bytes:
    try:
        if path.stat().st_size > limit:
            raise InputError(f"{path.name}: {path.stat().st_size} bytes; expected at most {limit}")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path.name}: cannot read: {error.strerror or error}") from error
