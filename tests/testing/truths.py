"""A tiny closed world: the small quadruped in several poses, drawn by our renderer, in the files that the barn writes."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save

from farm3d.core.color import srgb_from_linear
from farm3d.core.random import numpy_generator
from farm3d.evaluation.truth import Truth, decode_truth
from farm3d.evaluation.views import camera_to_json, light_to_json
from farm3d.geometry.skinning import linear_blend_skinning
from farm3d.render.renderer import render
from farm3d.structures import Camera, Light
from tests.testing.animals import quadruped

__all__ = ["truth_folder", "truth_members", "truth_sample"]

ACTIONS = ("standing", "walking")
KEYPOINTS = 14


def truth_members(
    number: int, *, size_px: int = 96, azimuth_deg: float | None = None, elevation_deg: float = 12.0, tail: bool = True
) -> tuple[str, dict[str, bytes]]:
    """Return key and members of picture ``number``; two pictures in a row show one individual, in other poses."""
    rng = numpy_generator(number, "truths")
    animal = quadruped(tail=tail, sides=16, seed=number // 2)
    angles = torch.from_numpy(rng.normal(0, 0.12, (len(animal.skeleton.names), 3)).astype(np.float32))
    posed = linear_blend_skinning(animal.rest.vertices, animal.skin_weights, animal.skeleton.transforms(angles))
    posed = posed - torch.tensor([0.0, float(posed[:, 1].min()), 0.0])
    rest = animal.rest.vertices
    coat = 0.35 + 0.25 * torch.sin(5 * rest @ torch.tensor([[1.0, 0.4, 0.2], [0.3, 1.0, 0.6], [0.9, 0.7, 1.0]]) + number // 2)
    azimuth = float(rng.uniform(0, 360)) if azimuth_deg is None else azimuth_deg
    centre = (posed.amax(0) + posed.amin(0)) / 2
    camera = Camera.orbit(math.radians(azimuth), math.radians(elevation_deg), distance=7.5, target=centre, size_px=size_px)
    light = Light(torch.nn.functional.normalize(torch.tensor([0.3, 0.8, 0.5]), dim=0), torch.tensor(0.4), torch.tensor(0.6))
    drawn = render(posed[None], animal.rest.faces, camera, light, albedo=coat[None], supersample=2, background=0.2)
    vertex = torch.linspace(0, len(posed) - 1, KEYPOINTS).long()
    points, depth = camera.pixels(posed[vertex]), -camera.to_camera(posed[vertex])[:, 2]
    column, row = points.long().clamp(0, size_px - 1).unbind(1)
    seen = drawn.depth[0][row, column]
    facts: dict[str, Any] = {
        "category": "horse",
        "split": "test",
        "individual": number // 2,
        "action": ACTIONS[number % len(ACTIONS)],
        "view_index": round(azimuth / 45) % 8,
        "azimuth_deg": azimuth,
        "elevation_deg": elevation_deg,
        "camera": camera_to_json(camera),
        "light": light_to_json(light),
        "keypoints": {
            "names": [f"mark_{i:02d}" for i in range(KEYPOINTS)],
            "xy": points.tolist(),
            "visible": [bool(value) for value in (seen > 0) & ((seen - depth).abs() < 0.03)],
            "vertex": vertex.tolist(),
        },
        "truncated": False,
        "occluded": False,
    }
    tensors = {"posed": posed, "rest": rest, "faces": animal.rest.faces.int(), "albedo": coat}
    members = {
        "json": json.dumps(facts).encode(),
        "rgb.png": _png(srgb_from_linear(drawn.rgb[0])),
        "mask.png": _png(drawn.mask[0]),
        "mesh.safetensors": save({name: tensor.contiguous() for name, tensor in tensors.items()}),
    }
    return f"horse-test-{number:06d}", members


def truth_sample(number: int, **options: Any) -> Truth:
    """Return picture ``number`` as the referee reads it."""
    return decode_truth(*truth_members(number, **options))


def truth_folder(folder: Path, *, count: int, **options: Any) -> Path:
    """Write ``count`` pictures as plain files and return the folder."""
    folder.mkdir(parents=True)
    for number in range(count):
        key, members = truth_members(number, **options)
        for extension, data in members.items():
            (folder / f"{key}.{extension}").write_bytes(data)
    return folder


def _png(picture: torch.Tensor) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray((picture * 255).round().byte().numpy()).save(buffer, "PNG")
    return buffer.getvalue()
