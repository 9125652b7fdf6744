"""Labelled pictures of the CC0 rigs, to fit a category's feature field on: each pixel knows its place on the animal at rest.

Coats, lights, clips, views and backgrounds are random: what stays the same for one place on the animal is what the field should keep.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from farm3d.barn.coats import paint
from farm3d.barn.individuals import make_individual
from farm3d.barn.rigs import Rig
from farm3d.barn.scenes import random_light
from farm3d.barn.species import species
from farm3d.barn.world import random_pose
from farm3d.core.color import srgb_from_linear
from farm3d.core.random import numpy_generator
from farm3d.core.shapes import Float, Int, Tensor
from farm3d.render.rasterize import interpolate, rasterize
from farm3d.render.renderer import render
from farm3d.structures import Camera

__all__ = ["LabelledPicture", "PictureMaker", "SpeciesPictureMaker"]

_STILL_CLIPS = ("Death", "Attack", "HitReact")  # poses that no photograph of a living animal shows
_COATS = {  # sRGB of body, darker or lighter markings, mane and tail; chosen by eye from common breeds
    "horse": (
        ((112, 60, 32), (60, 32, 20), (22, 18, 16)),
        ((140, 72, 36), (120, 60, 30), (150, 84, 44)),
        ((40, 32, 28), (28, 24, 22), (20, 18, 18)),
        ((206, 202, 196), (150, 148, 146), (225, 222, 214)),
        ((128, 124, 122), (84, 82, 82), (60, 58, 58)),
        ((202, 158, 96), (180, 130, 72), (236, 220, 186)),
        ((92, 48, 28), (40, 24, 18), (16, 14, 14)),
    ),
    "cow": (
        ((150, 84, 44), (232, 224, 210), (120, 70, 40)),
        ((34, 30, 30), (235, 232, 226), (30, 28, 28)),
        ((196, 160, 116), (224, 204, 170), (150, 110, 70)),
        ((112, 62, 36), (90, 48, 28), (70, 40, 26)),
        ((228, 222, 210), (70, 50, 40), (200, 190, 176)),
        ((50, 40, 34), (40, 34, 30), (30, 26, 24)),
    ),
}


@dataclass(frozen=True)
class LabelledPicture:
    """One cropped picture.

    Attributes:
        image: sRGB in [0, 1], ``[3, S, S]``.
        mask: coverage, ``[S, S]``.
        surface: bind position on the rig (metres, object frame) of each pixel of the animal, ``[S, S, 3]``; NaN elsewhere.
        rig: number of the rig.
        azimuth, elevation: of the camera, radians.
    """

    image: Tensor
    mask: Tensor
    surface: Tensor
    rig: int
    azimuth: float
    elevation: float


class PictureMaker:
    """Draws numbered random pictures of one category's rigs; number and seed fix each."""

    def __init__(self, category: str, rigs: Sequence[Rig], *, size_px: int = 256, seed: int = 0) -> None:
        self.category, self.size_px, self.seed, self.rigs = category, size_px, seed, list(rigs)
        self._splits = [rig.split_by_material() for rig in self.rigs]

    def draw(self, number: int, *, background: str | None = None) -> LabelledPicture:
        """Return picture ``number``; ``background`` is ``plain`` (mid grey), or None for a random one."""
        rng = numpy_generator(self.seed, "feature picture", self.category, number)
        index = int(rng.integers(len(self.rigs)))
        rig = self.rigs[index]
        posed = _random_pose(rig, rng)
        azimuth, elevation = float(rng.uniform(0, 2 * np.pi)), float(np.radians(rng.uniform(-10, 30)))
        camera = self._crop_camera(posed, rig.faces, azimuth, elevation, rng)
        fine = 2 * self.size_px
        sources, faces, materials = self._splits[index]
        attributes = torch.cat([posed, _normals(posed, rig.faces), rig.vertices, torch.zeros(len(posed), 1)], 1)[sources]
        attributes[:, 9] = materials
        drawn, inside = _draw(attributes[:, :3], faces, attributes[:, 3:], camera.resized(fine, fine))
        layers = torch.zeros(fine, fine, 4)
        layers[inside] = torch.cat([self._shade(rig, drawn[inside], camera, rng), torch.ones(int(inside.sum()), 1)], 1)
        layers = functional.avg_pool2d(layers.permute(2, 0, 1), 2)
        mask = layers[3]
        canvas = _background(self.size_px, rng) if background is None else torch.full((self.size_px, self.size_px, 3), 0.5)
        image = _photograph(layers[:3] + (1 - mask) * canvas.permute(2, 0, 1), rng)
        surface = torch.where(inside[..., None], drawn[..., 3:6], torch.nan)[::2, ::2]
        return LabelledPicture(image, mask, surface, index, azimuth, elevation)

    def _crop_camera(self, posed: Tensor, faces: Tensor, azimuth: float, elevation: float, rng: np.random.Generator) -> Camera:
        """Return a camera whose picture is the square of section 1.2 around the silhouette, with a small error of the rule."""
        low, high = posed.amin(0), posed.amax(0)
        size = float((high - low).norm())
        distance = size * float(np.exp(rng.uniform(np.log(1.3), np.log(6))))
        fov = 2 * np.degrees(np.arctan(0.65 * size / distance))
        camera = Camera.orbit(azimuth, elevation, distance=distance, target=(low + high) / 2, fov_deg=fov, size_px=128)
        _, inside = _draw(posed, faces, posed[:, :1], camera)
        rows, columns = inside.nonzero(as_tuple=True)
        half = float(inside.sum()) ** 0.5 * float(np.exp(rng.normal(0, 0.06)))
        x0 = float(columns.float().mean()) + 0.5 - half + float(rng.normal(0, 0.06)) * half
        y0 = float(rows.float().mean()) + 0.5 - half + float(rng.normal(0, 0.06)) * half
        scale = self.size_px / (2 * half)
        fx, fy, cx, cy = camera.intrinsics.tolist()
        intrinsics = torch.tensor([fx * scale, fy * scale, (cx - x0) * scale, (cy - y0) * scale])
        return camera.replace(intrinsics=intrinsics, width_px=self.size_px, height_px=self.size_px)

    def _shade(self, rig: Rig, drawn: Tensor, camera: Camera, rng: np.random.Generator) -> Tensor:
        """Return sRGB colours ``[N, 3]`` from normals, rest positions and materials (channels 0-2, 3-5 and 6 of ``drawn`` ``[N, 7]``)."""
        normal, rest, material = functional.normalize(drawn[..., :3], dim=-1), drawn[..., 3:6], drawn[..., 6].round().long()
        coats = _COATS.get(self.category, _COATS["horse"])
        body, marks, hair = (torch.tensor(colour) / 255 for colour in coats[int(rng.integers(len(coats)))])
        palette = rig.material_colors.clone()
        for i, name in enumerate(rig.material_names):
            if name.startswith("Eye_White"):
                palette[i] = palette[i] * 0.2
            elif not name.startswith("Eye") and rng.random() < 0.8:
                kind = {"Main": body, "Main_Dark": body * 0.8, "Main_Light": marks, "Hair": hair, "Muzzle": (body + marks) * 0.35}
                palette[i] = _linear((kind.get(name, torch.tensor([0.25, 0.22, 0.2])) * float(rng.uniform(0.8, 1.2))).clamp(0, 1))
        albedo = palette[material]
        grid = torch.from_numpy(rng.normal(size=(1, 2, 7, 9, 5)).astype(np.float32))
        noise = functional.grid_sample(grid, rest[None, None, None] / 1.2, align_corners=True, padding_mode="reflection")[0, :, 0, 0]
        if rng.random() < (0.7 if self.category == "cow" else 0.3):  # patches
            coat = ((noise[0] - float(rng.uniform(0.0, 0.8))) * 12).sigmoid()[..., None]
            albedo = torch.lerp(albedo, _linear(marks if rng.random() < 0.5 else torch.tensor([0.9, 0.88, 0.84])), coat)
        grain = torch.from_numpy(rng.normal(size=(len(albedo), 1)).astype(np.float32))
        albedo = albedo * (1 + 0.15 * noise[1, ..., None] + 0.12 * grain).clamp(0.4, 1.6)
        light = functional.normalize(torch.tensor([rng.normal(), abs(rng.normal()) + 0.6, rng.normal()], dtype=torch.float32), dim=0)
        ambient, diffuse = float(rng.uniform(0.25, 0.8)), float(rng.uniform(0.2, 1.0))
        in_camera = normal @ camera.T_camera_world[:3, :3].T  # shading from above also with respect to the picture
        sky = 0.5 + 0.5 * normal[..., 1]
        shading = ambient * (0.6 + 0.4 * sky) + diffuse * (in_camera @ light).clamp(min=0)
        return (albedo * shading[..., None]).clamp(0, 1) ** (1 / 2.2)


class SpeciesPictureMaker(PictureMaker):
    """The same for a species of the barn that has no rig of its own: its training individuals, in the barn's poses, coats and lights.

    A pixel's ``surface`` is the place on the species' mean individual at rest (metres, object frame), whatever the individual's own
    proportions.
    """

    def __init__(self, category: str, *, rigs: Path, size_px: int = 256, seed: int = 0, individuals: int = 60) -> None:
        super().__init__(category, (), size_px=size_px, seed=seed)
        kind = species(category)
        self._animals = [make_individual(kind, number, rigs=rigs) for number in range(individuals)]
        self._coats = [paint(animal).albedo for animal in self._animals]
        self._mean = {name: make_individual(kind, 0, rigs=rigs, rig=name, varied=False).rest for name in kind.rigs}

    def draw(self, number: int, *, background: str | None = None) -> LabelledPicture:
        """Return picture ``number``; ``background`` is ``plain`` (mid grey), or None for a random one."""
        rng = numpy_generator(self.seed, "feature picture", self.category, number)
        index = int(rng.integers(len(self._animals)))
        animal = self._animals[index]
        _, clip, time_s, turns = random_pose(animal, rng)
        posed = animal.pose(clip, time_s, turns=turns)
        azimuth, elevation = float(rng.uniform(0, 2 * np.pi)), float(np.radians(rng.uniform(-10, 30)))
        camera = self._crop_camera(posed, animal.faces, azimuth, elevation, rng)
        rest = self._mean[animal.build.rig.name]
        drawn = render(posed[None], animal.faces, camera, random_light(rng), albedo=self._coats[index][None], supersample=2)
        places, inside = _draw(posed, animal.faces, rest, camera)
        mask = drawn.mask[0]
        canvas = _background(self.size_px, rng) if background is None else torch.full((self.size_px, self.size_px, 3), 0.5)
        shaded = srgb_from_linear(drawn.rgb[0] / mask.clamp_min(1e-3)[..., None]) * mask[..., None]
        image = _photograph((shaded + (1 - mask)[..., None] * canvas).permute(2, 0, 1), rng)
        return LabelledPicture(image, mask, torch.where(inside[..., None], places, torch.nan), 0, azimuth, elevation)


def _linear(srgb: Tensor) -> Tensor:
    return srgb**2.2


def _random_pose(rig: Rig, rng: np.random.Generator) -> Tensor:
    clips = [clip for clip in rig.clips if not any(word in clip.name for word in _STILL_CLIPS)]
    clip = clips[int(rng.integers(len(clips)))]
    posed = rig.pose(clip.name, float(rng.uniform(0, clip.duration_s)))
    return posed * torch.from_numpy(np.exp(rng.normal(0, (0.09, 0.09, 0.06))).astype(np.float32))


def _normals(vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"]) -> Float[Tensor, "V 3"]:
    a, b, c = vertices[faces].unbind(1)
    normals = torch.zeros_like(vertices)
    face = torch.linalg.cross(b - a, c - a)
    for corner in range(3):
        normals.index_add_(0, faces[:, corner], face)
    return functional.normalize(normals, dim=-1)


def _draw(vertices: Tensor, faces: Tensor, attributes: Tensor, camera: Camera) -> tuple[Tensor, Tensor]:
    """Return interpolated attributes ``[H, W, C]`` and where the mesh covers the pixel centre ``[H, W]``."""
    fragments = rasterize(camera.clip(vertices)[None], faces, height_px=camera.height_px, width_px=camera.width_px)
    return interpolate(attributes[None].contiguous(), fragments, faces)[0], fragments.face_id[0] >= 0


def _smooth_noise(rng: np.random.Generator, cells: int, size: int) -> Tensor:
    grid = rng.normal(size=(1, 1, cells, cells)) + 0.25 * rng.normal(size=(1, 3, cells, cells))  # mostly lightness, some colour
    grid = torch.from_numpy(grid.astype(np.float32))
    return functional.interpolate(grid, (size, size), mode="bicubic", align_corners=False)[0].permute(1, 2, 0)


def _background(size: int, rng: np.random.Generator) -> Tensor:
    """Return a random sRGB background ``[size, size, 3]``: plain, gradient, noise, or ground and sky."""
    kind = ("plain", "grey", "gradient", "noise", "field", "field", "field")[int(rng.integers(7))]
    colours = torch.from_numpy(rng.uniform(0, 1, (2, 3)).astype(np.float32))
    if kind == "grey":
        return torch.full((size, size, 3), 0.5)
    if kind == "plain":
        return colours[0].expand(size, size, 3)
    ramp = torch.linspace(0, 1, size)[:, None, None]
    if kind == "gradient":
        ramp = ramp if rng.random() < 0.5 else ramp.transpose(0, 1)
        return torch.lerp(colours[0], colours[1], ramp).expand(size, size, 3)
    texture = sum(_smooth_noise(rng, cells, size) * float(rng.uniform(0.01, 0.12)) for cells in (4, 9, 20, 48, 110))
    if kind == "noise":
        return (colours[0] + texture).clamp(0, 1)  # pyright: ignore[reportOperatorIssue]
    sky = torch.lerp(torch.tensor([0.55, 0.68, 0.9]), colours[0], 0.5)
    ground = torch.lerp(torch.tensor([0.36, 0.45, 0.2]), colours[1], 0.4)
    line = (ramp - float(rng.uniform(0.2, 0.8)) + 0.06 * texture[..., :1]) * 40  # pyright: ignore[reportIndexIssue]
    return (torch.lerp(sky, ground, line.sigmoid()) + texture * (0.4 + ramp)).clamp(0, 1)


def _photograph(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Random exposure, contrast, softness and grain of a camera."""
    image = image.clamp(1e-4, 1) ** float(np.exp(rng.normal(0, 0.2)))
    image = (image - 0.5) * float(np.exp(rng.normal(0, 0.15))) + 0.5 + float(rng.normal(0, 0.04))
    if rng.random() < 0.4:
        small = int(image.shape[-1] * rng.uniform(0.4, 0.8))
        coarse = functional.interpolate(image[None], (small, small), mode="area")
        image = functional.interpolate(coarse, image.shape[-2:], mode="bilinear", align_corners=False)[0]
    image = image + torch.from_numpy(rng.normal(size=image.shape).astype(np.float32)) * float(abs(rng.normal(0, 0.02)))
    return image.clamp(0, 1)
