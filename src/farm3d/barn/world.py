"""One picture of the closed world, and everything that is true of it."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save
from torch.nn import functional

from farm3d.barn.captions import VIEWS, captions, view_index
from farm3d.barn.coats import paint
from farm3d.barn.individuals import Individual, make_individual
from farm3d.barn.landmarks import LANDMARKS, angles_between, landmarks_of, skeleton_of
from farm3d.barn.scenes import ELEVATION_DEG, background, random_camera, random_light, shadow
from farm3d.barn.species import ACTIONS, species
from farm3d.core.color import srgb_from_linear
from farm3d.core.random import numpy_generator
from farm3d.core.shapes import Float, Tensor
from farm3d.geometry.rotations import euler_to_matrix
from farm3d.render.rasterize import rasterize
from farm3d.render.renderer import render
from farm3d.structures import Camera, Light, Skeleton

__all__ = ["FORMAT", "SPLITS", "Sample", "Settings", "draw", "members", "random_pose"]

FORMAT = 1  # of the numbers drawn: another number, other pictures
SPLITS: Mapping[str, tuple[int, int]] = {  # first individual and how many; no individual is in two splits
    "train": (0, 100_000),
    "val": (800_000, 1_000),
    "test": (900_000, 1_000),
}


_VISIBILITY_PX = 256  # section 6.1 asks at this size which vertices are seen; smaller pictures are asked at a multiple of theirs


@dataclass(frozen=True)
class Settings:
    """What a data set of the barn is made of; equal settings, equal bytes.

    Attributes:
        category: a species.
        split: ``train``, ``val`` or ``test``: which individuals.
        seed: of poses, views, lights and scenes. Individuals do not depend on it.
        size_px: width and height of the pictures.
        per_individual: pictures in a row of one animal.
        truncated, occluded: share of pictures in which the animal is cut by the border, or partly hidden.
        truth: ``full`` writes depth, normals and meshes too; ``light`` only picture, mask and facts.
    """

    category: str
    split: str = "train"
    seed: int = 0
    size_px: int = 256
    per_individual: int = 8
    truncated: float = 0.0
    occluded: float = 0.0
    truth: str = "full"


@dataclass(frozen=True, eq=False)
class Sample:
    """A picture with its truth; see :func:`members` for how it is written.

    Attributes:
        key: e.g. ``horse-test-000017``.
        rgb: sRGB in [0, 1], ``[S, S, 3]``; mask: coverage ``[S, S]``; depth: metres ``[S, S]``, 0 behind the animal;
        normals: camera frame ``[S, S, 3]``.
        mesh: ``posed``, ``rest`` ``[V, 3]`` metres, ``faces`` ``[F, 3]``, ``albedo`` ``[V, 3]`` linear.
        facts: the JSON.
    """

    key: str
    rgb: Tensor
    mask: Tensor
    depth: Tensor
    normals: Tensor
    mesh: Mapping[str, Tensor]
    facts: dict[str, Any]


@dataclass(frozen=True, eq=False)
class _Known:
    individual: Individual
    albedo: Tensor
    coat: str
    pattern: str
    markings: tuple[str, ...]
    skeleton: Skeleton
    weights: Tensor


@lru_cache(maxsize=2)
def _known(category: str, number: int, rigs: Path) -> _Known:
    individual = make_individual(species(category), number, rigs=rigs)
    painted = paint(individual)
    skeleton, weights = skeleton_of(individual, rigs=rigs)
    return _Known(individual, painted.albedo, painted.coat.name, painted.coat.pattern, painted.markings, skeleton, weights)


@torch.no_grad()
def draw(settings: Settings, number: int, *, rigs: Path) -> Sample:
    """Return picture ``number`` of a data set.

    Args:
        rigs: folder of the fetched rigs.

    Raises:
        InputError: no such species.
        MissingPartError: the rigs are not there.
    """
    rng = numpy_generator(settings.seed, "barn", FORMAT, settings.category, settings.split, number)
    first, count = SPLITS[settings.split]
    known = _known(settings.category, first + (number // settings.per_individual) % count, Path(rigs))
    individual = known.individual
    action, clip, time_s, turns = random_pose(individual, rng)
    posed = individual.pose(clip, time_s, turns=turns)
    azimuth = float(rng.uniform(0, 360))
    low, high = ELEVATION_DEG
    elevation = float(rng.triangular(low, 8.0, high))
    cut = float(rng.uniform(0.12, 0.35)) if rng.random() < settings.truncated else 0.0
    hidden = rng.random() < settings.occluded
    camera = random_camera(posed, azimuth_deg=azimuth, elevation_deg=elevation, size_px=settings.size_px, rng=rng, cut=cut)
    light = random_light(rng)
    picture, scene = background(camera, light, rng)
    if scene.ground:
        picture = shadow(picture, posed, individual.faces, camera, light)
    drawn = render(posed[None], individual.faces, camera, light, albedo=known.albedo[None], background=picture, supersample=2)
    rgb, mask, depth, normals = drawn.rgb[0], drawn.mask[0], drawn.depth[0], drawn.normals[0]
    if hidden:
        rgb, mask = _occluded(rgb, mask, rng)
    key = f"{settings.category}-{settings.split}-{number:06d}"
    angles, left = angles_between(known.skeleton, known.weights, individual.rest, posed)
    action = _seen_action(action, individual, posed)
    words = captions(
        individual.species,
        coat=known.coat,
        markings=known.markings,
        action=action,
        azimuth_deg=azimuth,
        elevation_deg=elevation,
        rng=rng,
    )
    facts: dict[str, Any] = {
        "format": FORMAT,
        "category": settings.category,
        "split": settings.split,
        "individual": individual.number,
        "number": number,
        "seed": settings.seed,
        "size_px": settings.size_px,
        "rig": individual.build.rig.name,
        "caption": words[0],
        "captions": words,
        "coat": {"name": known.coat, "pattern": known.pattern, "markings": list(known.markings)},
        "action": action,
        "view": VIEWS[view_index(azimuth)][0],
        "view_index": view_index(azimuth),
        "azimuth_deg": round(azimuth, 4),
        "elevation_deg": round(elevation, 4),
        "backdrop": scene.backdrop,
        "camera": _camera_facts(camera),
        "light": _light_facts(light),
        "pose": {
            "clip": clip,
            "time_s": round(time_s, 5),
            "bones": list(known.skeleton.names),
            "starts": _rounded(known.skeleton.starts),
            "ends": _rounded(known.skeleton.ends),
            "angles_rad": _rounded(angles),
            "rms_left_m": round(left, 5),
        },
        "keypoints": _keypoints(individual, posed, camera, mask),
        "truncated": cut > 0,
        "occluded": bool(hidden),
    }
    mesh = {"posed": posed, "rest": individual.rest, "faces": individual.faces.int(), "albedo": known.albedo}
    return Sample(key, srgb_from_linear(rgb), mask, depth, normals, mesh, facts)


def members(sample: Sample, *, truth: str = "full") -> dict[str, bytes]:
    """Return the files of a sample by extension: ``rgb.png``, ``mask.png``, ``json``, and with full truth ``depth.png`` (16 bit,
    millimetres, 0 where there is nothing), ``normals.png`` (n = value / 127.5 - 1, camera frame) and ``mesh.safetensors``.
    """
    files = {
        "rgb.png": _png((sample.rgb * 255).round().byte().numpy()),
        "mask.png": _png((sample.mask * 255).round().byte().numpy()),
        "json": json.dumps(sample.facts, sort_keys=True, separators=(",", ":"), allow_nan=False).encode(),
    }
    if truth == "full":
        files["depth.png"] = _png((sample.depth * 1000).round().clamp(0, 65535).to(torch.int32).numpy().astype(np.uint16))
        seen = (sample.normals.abs().sum(-1, keepdim=True) > 0).float()
        files["normals.png"] = _png((((sample.normals + 1) * 127.5).round() * seen).byte().numpy())
        files["mesh.safetensors"] = save({name: tensor.contiguous() for name, tensor in sample.mesh.items()})
    return files


def random_pose(individual: Individual, rng: np.random.Generator) -> tuple[str, str, float, dict[str, Tensor]]:
    """Return an action, a clip that shows it, a time in it, and small turns of the joints beside it."""
    actions = ("standing", "walking", "walking", "galloping", "galloping", "grazing", "standing", "jumping", "lowering its head")
    action = actions[int(rng.integers(len(actions)))]
    rig = individual.build.rig
    clips = [clip for clip in rig.clips if clip.name in ACTIONS[action]]
    clip = clips[int(rng.integers(len(clips)))]
    span = {"grazing": (0.25, 0.75), "jumping": (0.25, 0.7), "lowering its head": (0.2, 0.8)}.get(action, (0.0, 1.0))
    time_s = float(rng.uniform(*span)) * clip.duration_s
    turns: dict[str, Tensor] = {}
    sway = {"Neck1": (4, 7, 3), "Neck2": (3, 6, 3), "Neck3": (3, 6, 3), "Head": (6, 9, 5), "Torso": (1.5, 2.5, 1), "Torso2": (1.5, 2.5, 1)}
    calm = 0.4 if action in ("grazing", "lowering its head") else 1.0
    for name in rig.joint_names:
        spread = sway.get(name)
        if spread is None and name.startswith("Tail"):
            spread = (4, 5, 2)
        elif spread is None and name.startswith("Ear1"):
            spread = (12, 12, 8)
        elif spread is None and name.startswith(("FrontUpperLeg", "BackUpperLeg")):
            spread = (2.5, 0.5, 1.0)
        if spread is not None:
            angles = np.radians(np.clip(rng.normal(size=3), -2, 2) * spread) * calm
            turns[name] = _rotation(angles)
    return action, clip.name, time_s, turns


def _seen_action(action: str, individual: Individual, posed: Tensor) -> str:
    """Return what a stranger would call a pose of a clip: a grazing animal whose head is up just now stands."""
    if action not in ("grazing", "lowering its head"):
        return action
    vertex = landmarks_of(individual.build)
    nose, withers = vertex[LANDMARKS.index("nose")], vertex[LANDMARKS.index("withers")]
    now, usual = (float(surface[nose, 1] / surface[withers, 1]) for surface in (posed, individual.rest))
    if usual - now < 0.22:
        return "standing"
    return "grazing" if now < 0.4 else "lowering its head"


def _rotation(angles: np.ndarray) -> Tensor:
    return euler_to_matrix(torch.from_numpy(angles.astype(np.float32)))


def _occluded(rgb: Tensor, mask: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Put a post, a rail or a bush before the animal; its part of the mask goes."""
    size = len(mask)
    rows, columns = (mask > 0.5).nonzero(as_tuple=True)
    y, x = torch.meshgrid(torch.arange(size) + 0.5, torch.arange(size) + 0.5, indexing="ij")
    left, right, top, bottom = (float(v) for v in (columns.min(), columns.max(), rows.min(), rows.max()))
    colour = torch.tensor([(0.10, 0.07, 0.05), (0.05, 0.09, 0.03), (0.35, 0.33, 0.30)][int(rng.integers(3))])
    kind = int(rng.integers(3))
    noise = functional.interpolate(
        torch.from_numpy(rng.normal(size=(1, 1, 9, 9)).astype(np.float32)), (size, size), mode="bicubic", align_corners=False
    )[0, 0]
    if kind == 0:  # a post
        middle, half = rng.uniform(left + 0.2 * (right - left), right - 0.2 * (right - left)), rng.uniform(0.02, 0.06) * size
        cover = ((x - middle).abs() < half + noise).float()
    elif kind == 1:  # a rail
        middle, half = rng.uniform(top + 0.35 * (bottom - top), bottom), rng.uniform(0.012, 0.03) * size
        cover = ((y - middle).abs() < half).float()
    else:  # a bush from below
        height = bottom - rng.uniform(0.12, 0.35) * (bottom - top)
        cover = (y > height + noise * size * 0.03).float()
    cover = functional.avg_pool2d(functional.pad(cover[None, None], [1] * 4, mode="replicate"), 3, 1)[0, 0]
    paint = colour * (1 + 0.25 * noise[..., None]).clamp(0.5, 1.6)
    return torch.lerp(rgb, paint, cover[..., None]), mask * (1 - cover)


def _keypoints(individual: Individual, posed: Tensor, camera: Camera, mask: Tensor) -> dict[str, Any]:
    """Return the landmarks in 2D and 3D. One is visible where a face at its vertex owns a pixel (as in section 6.1) that nothing hides."""
    vertex = landmarks_of(individual.build)
    there = vertex >= 0
    at = camera.pixels(posed[vertex.clamp(min=0)])
    size = camera.width_px
    inside = ((at >= 0) & (at < size)).all(1)
    column, row = at.long().clamp(0, size - 1).unbind(1)
    unhidden = functional.max_pool2d(mask[None, None], 3, 1, 1)[0, 0][row, column] > 0.3
    fine = size * max(1, -(-_VISIBILITY_PX // size))
    fragments = rasterize(camera.clip(posed[None]), individual.faces, height_px=fine, width_px=fine)
    owners = torch.unique(fragments.face_id[fragments.face_id >= 0]).long()
    seen = torch.zeros(len(posed), dtype=torch.bool)
    seen[individual.faces[owners].flatten()] = True
    visible = there & inside & unhidden & seen[vertex.clamp(min=0)]
    return {
        "names": list(LANDMARKS),
        "xy": _rounded(at, 3),
        "xyz": _rounded(posed[vertex.clamp(min=0)]),
        "visible": [bool(v) for v in visible],
        "vertex": vertex.tolist(),
    }


def _camera_facts(camera: Camera) -> dict[str, Any]:
    fx, fy, cx, cy = (round(float(v), 6) for v in camera.intrinsics)
    matrix = [[round(float(v), 9) for v in row] for row in camera.T_camera_world]
    return {"T_camera_world": matrix, "fx": fx, "fy": fy, "cx": cx, "cy": cy, "width": camera.width_px, "height": camera.height_px}


def _light_facts(light: Light) -> dict[str, Any]:
    direction = [round(float(v), 8) for v in light.direction]
    return {"direction_camera": direction, "ambient": round(float(light.ambient), 6), "diffuse": round(float(light.diffuse), 6)}


def _rounded(values: Float[Tensor, "N C"], digits: int = 5) -> list[list[float]]:
    return [[round(float(v), digits) for v in row] for row in values]


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
