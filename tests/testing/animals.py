"""A small quadruped made of swept tubes: real mesh, atlas, skeleton, weights and texture, in a millisecond, with nothing to download."""

from __future__ import annotations

import math

import numpy as np
import torch

from farm3d.core.random import torch_generator
from farm3d.geometry.skinning import prune_weights, skin_weights
from farm3d.structures import Animal, Camera, Light, Mesh, Skeleton

__all__ = ["quadruped", "quadruped_mesh", "quadruped_skeleton"]

GROUND = -0.8  # the feet stand here in canonical units; not 0, so that a forgotten shift shows

# Joints in canonical units above the ground, roughly a horse's. The first name of a chain is the bone it hangs on.
_CHAINS: tuple[tuple[str, tuple[str, ...], tuple[tuple[float, float, float], ...]], ...] = (
    (
        "",
        ("spine_01", "neck_01", "neck_02", "head"),
        ((0, 1.25, 0), (0, 1.28, 0.42), (0, 1.50, 0.74), (0, 1.78, 0.98), (0, 1.52, 1.36)),
    ),
    (
        "",
        ("lumbar_01", "lumbar_02", "pelvis_01", "pelvis_02"),
        ((0, 1.25, 0), (0, 1.28, -0.22), (0, 1.29, -0.42), (0, 1.27, -0.60), (0, 1.20, -0.76)),
    ),
)
_FRONT = ((0.15, 1.20, 0.45), (0.17, 0.85, 0.36), (0.17, 0.46, 0.42), (0.17, 0.02, 0.42))
_REAR = ((0.15, 1.16, -0.56), (0.18, 0.82, -0.42), (0.17, 0.50, -0.72), (0.17, 0.02, -0.66))
_TAIL = ((0, 1.20, -0.76), (0, 1.00, -0.92), (0, 0.78, -0.98), (0, 0.52, -1.00))


def quadruped_skeleton(*, tail: bool = True) -> Skeleton:
    """Return a skeleton with the product's bone names, with or without the three tail bones."""
    names: list[str] = []
    parents: list[int] = []
    segments: list[tuple[tuple[float, float, float], tuple[float, float, float]]] = []

    def add(base: str, bones: tuple[str, ...], joints: tuple[tuple[float, float, float], ...]) -> None:
        for i, bone in enumerate(bones):
            parent = base if i == 0 else bones[i - 1]
            parents.append(names.index(parent) if parent else -1)
            names.append(bone)
            segments.append((joints[i], joints[i + 1]))

    for base, bones, joints in _CHAINS:
        add(base, bones, joints)
    for end, base, joints in (("front", "spine_01", _FRONT), ("rear", "pelvis_01", _REAR)):
        for side, sign in (("L", 1), ("R", -1)):
            mirrored = tuple((sign * x, y, z) for x, y, z in joints)
            add(base, tuple(f"leg_{end}_{side}_{i:02d}" for i in (1, 2, 3)), mirrored)
    if tail:
        add("pelvis_02", ("tail_01", "tail_02", "tail_03"), _TAIL)
    ends = torch.tensor(segments, dtype=torch.float32) + torch.tensor([0.0, GROUND, 0.0])
    return Skeleton(tuple(names), tuple(parents), ends[:, 0], ends[:, 1], torch.tensor([0.0, 1.25 + GROUND, 0.0]))


def _tube(
    joints: np.ndarray, radii: np.ndarray, chart: tuple[float, float, float, float], *, rings: int, sides: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Sweep circles along a polyline and close both ends with a cap; one rectangular chart with a seam."""
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(joints, axis=0), axis=1))])
    t = np.linspace(0, length[-1], rings)
    centre = np.stack([np.interp(t, length, joints[:, i]) for i in range(3)], 1)
    radius = np.interp(t, length, radii)
    forward = np.gradient(centre, axis=0)
    forward /= np.linalg.norm(forward, axis=1, keepdims=True)
    up = np.cross(forward, [1.0, 0, 0])
    up /= np.linalg.norm(up, axis=1, keepdims=True)
    side = np.cross(up, forward)
    # Each end is closed by a shrunken, shifted ring and its centre point.
    centre = np.concatenate([centre[:1] - forward[:1] * radius[0] * 0.5, centre, centre[-1:] + forward[-1:] * radius[-1] * 0.5])
    side, up = (np.concatenate([a[:1], a, a[-1:]]) for a in (side, up))
    radius = np.concatenate([radius[:1] * 0.6, radius, radius[-1:] * 0.6])
    turn = np.linspace(0, 2 * math.pi, sides, endpoint=False)
    circle = np.cos(turn)[:, None, None] * side + np.sin(turn)[:, None, None] * up  # [sides, rings + 2, 3]
    points = (centre + circle * radius[:, None]).transpose(1, 0, 2)  # [rings + 2, sides, 3]
    count = len(centre)
    vertices = np.concatenate([points.reshape(-1, 3), centre[:1], centre[-1:]])
    u0, v0, u1, v1 = chart
    grid_u, grid_v = np.meshgrid(np.linspace(u0, u1, sides + 1), np.linspace(v0, v1, count + 2)[1:-1])
    uv = np.concatenate([np.stack([grid_u, grid_v], -1).reshape(-1, 2), [[(u0 + u1) / 2, v0], [(u0 + u1) / 2, v1]]])
    faces, faces_uv = [], []
    for r in range(count - 1):
        for s in range(sides):
            a, b, c, d = (r * sides + s, r * sides + (s + 1) % sides, (r + 1) * sides + s, (r + 1) * sides + (s + 1) % sides)
            ua, ub, uc, ud = (r * (sides + 1) + s, r * (sides + 1) + s + 1, (r + 1) * (sides + 1) + s, (r + 1) * (sides + 1) + s + 1)
            faces += [(a, b, d), (a, d, c)]
            faces_uv += [(ua, ub, ud), (ua, ud, uc)]
    first, last = count * sides, count * sides + 1
    for s in range(sides):
        faces.append((first, (s + 1) % sides, s))
        faces_uv.append((count * (sides + 1), s + 1, s))
        base, base_uv = (count - 1) * sides, (count - 1) * (sides + 1)
        faces.append((last, base + s, base + (s + 1) % sides))
        faces_uv.append((count * (sides + 1) + 1, base_uv + s, base_uv + s + 1))
    return vertices, np.array(faces), uv, np.array(faces_uv)


def quadruped_mesh(*, tail: bool = True, sides: int = 12) -> Mesh:
    """Return closed, outward oriented tubes (trunk with neck and head, four legs, tail), each with its own chart of the atlas."""
    trunk = np.array([_CHAINS[1][2][4], _CHAINS[1][2][2], _CHAINS[0][2][0], *_CHAINS[0][2][1:]])
    parts = [(trunk, np.array([0.2, 0.27, 0.30, 0.27, 0.17, 0.13, 0.08]), 26)]
    for joints, radii in ((_FRONT, [0.12, 0.09, 0.055, 0.05]), (_REAR, [0.16, 0.11, 0.06, 0.05])):
        for sign in (1, -1):
            parts.append((np.array(joints) * [sign, 1, 1] + [0, 0.025, 0], np.array(radii), 14))
    if tail:
        parts.append((np.array(_TAIL), np.array([0.05, 0.05, 0.045, 0.02]), 10))
    pieces, seen, seen_uv = [], 0, 0
    for i, (joints, radii, rings) in enumerate(parts):
        column, row = i % 3, i // 3
        chart = (column / 3 + 0.02, row / 2 + 0.02, (column + 1) / 3 - 0.02, (row + 1) / 2 - 0.02)
        vertices, faces, uv, faces_uv = _tube(np.asarray(joints, float), radii, chart, rings=rings, sides=sides)
        pieces.append((vertices, faces + seen, uv, faces_uv + seen_uv))
        seen, seen_uv = seen + len(vertices), seen_uv + len(uv)
    vertices, faces, uv, faces_uv = (np.concatenate([piece[i] for piece in pieces]) for i in range(4))
    vertices[:, 1] += GROUND - vertices[:, 1].min()
    return Mesh(
        torch.tensor(vertices, dtype=torch.float32), torch.tensor(faces), torch.tensor(uv, dtype=torch.float32), torch.tensor(faces_uv)
    )


def quadruped(*, tail: bool = True, sides: int = 12, texture_px: int = 128, seed: int = 0) -> Animal:
    """Return a whole animal: mesh, weights pruned to four, a random pose, a coat with a patch pattern, light and camera."""
    mesh, skeleton = quadruped_mesh(tail=tail, sides=sides), quadruped_skeleton(tail=tail)
    weights = prune_weights(skin_weights(mesh.vertices, skeleton.starts, skeleton.ends))
    generator = torch_generator(seed, "quadruped")
    angles = 0.2 * torch.randn(len(skeleton.names), 3, generator=generator)
    coarse = torch.rand(1, 1, 12, 12, generator=generator)
    patches = (torch.nn.functional.interpolate(coarse, (texture_px, texture_px), mode="bicubic") > 0.55).float()[0, 0, :, :, None]
    coat = torch.tensor([0.23, 0.10, 0.045]) * (1 - patches) + torch.tensor([0.70, 0.62, 0.50]) * patches
    light = Light(torch.nn.functional.normalize(torch.tensor([0.4, 0.8, 0.5]), dim=0), torch.tensor(0.5), torch.tensor(0.5))
    camera = Camera.orbit(math.radians(70), math.radians(10), distance=8.0, size_px=256)
    return Animal("horse", mesh, skeleton, weights, angles, coat.clamp(0, 1), light, camera, height_m=1.9)
