"""Coats: linear albedo for every vertex of an individual, painted by place on the body and by the rig's own parts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from farm3d.barn.individuals import CLASSES, Build, Individual
from farm3d.barn.species import Coat, Rgb
from farm3d.core.color import linear_from_srgb
from farm3d.core.random import numpy_generator
from farm3d.core.shapes import Float, Tensor
from farm3d.geometry.surface import vertex_normals

__all__ = ["Painted", "paint"]


@dataclass(frozen=True)
class Painted:
    """A coat on an individual: ``albedo`` linear RGB ``[V, 3]``, which coat, and white markings drawn beside it (words)."""

    albedo: Float[Tensor, "V 3"]
    coat: Coat
    markings: tuple[str, ...]


def paint(individual: Individual, *, coat: Coat | None = None) -> Painted:
    """Return the coat of an individual; its number decides which (unless given), and where each patch lies."""
    kind, build = individual.species, individual.build
    rng = numpy_generator(0, "coat", kind.name, individual.number)
    chosen = kind.coats[int(rng.integers(len(kind.coats)))]
    coat = coat or chosen
    height = _height(individual)
    body = _varied(coat.body, rng)
    marks = _varied(coat.marks, rng)
    albedo = body.expand(len(build.place), 3).clone()
    albedo = _patterned(albedo, coat, marks, build, rng)
    pieces = {
        "light": marks if coat.light_parts else None,
        "dark": _varied(coat.points, rng) if coat.points else (body * 0.75 if coat.pattern != "wool" else None),
        "hair": _varied(coat.hair, rng) if coat.hair else (marks if coat.pattern == "stripes" else body * 0.85),
        "muzzle": _varied((58, 50, 48) if rng.random() < 0.75 or kind.name != "cow" else (196, 150, 136), rng),
        "hoof": _varied((60, 54, 48), rng),
        "horn": _varied((196, 180, 148), rng) if build.rig.name != "stag" else _varied((72, 54, 40), rng),
    }
    if coat.face:
        albedo = torch.lerp(albedo, _varied(coat.face, rng), _edge(build.group("Head") - 0.55, 0.08)[:, None])
    if coat.points:
        knee = height - float(rng.uniform(0.30, 0.42)) + 0.06 * _noise(build.place, rng, 5)
        albedo = torch.lerp(albedo, _varied(coat.points, rng), (_edge(-knee, 0.08) * _legs(build))[:, None])
    for name, colour in pieces.items():
        if colour is not None:
            albedo = torch.lerp(albedo, colour.expand_as(albedo), _part(build, name)[:, None])
    albedo, markings = _white_markings(albedo, individual, coat, height, rng)
    grain = 0.10 * _noise(build.place, rng, 10) + 0.05 * _noise(build.place, rng, 40)
    if coat.pattern == "wool":
        grain = grain + 0.08 * _noise(build.place, rng, 24)
    albedo = albedo * (1 + grain + 0.06 * build.place[:, 1] / 0.4)[:, None].clamp(0.5, 1.5)
    eyes = (_part(build, "eye") + _part(build, "eye_white")).clamp(max=1)
    albedo = torch.lerp(albedo, _varied((24, 18, 14), rng).expand_as(albedo), eyes[:, None])
    return Painted(albedo.clamp(0.004, 0.80), coat, markings)


def _patterned(albedo: Tensor, coat: Coat, marks: Tensor, build: Build, rng: np.random.Generator) -> Tensor:
    share = float(rng.uniform(*coat.share))
    place = build.place
    if coat.pattern == "patches":
        field = _noise(place, rng, int(rng.integers(4, 7))) + 0.25 * _noise(place, rng, 18)
        level = float(torch.quantile(field[:: max(len(field) // 4000, 1)], 1 - share))
        return torch.lerp(albedo, marks.expand_as(albedo), _edge(field - level, 0.04)[:, None])
    if coat.pattern in ("spots", "dapples"):
        cells = 16 if coat.pattern == "dapples" else int(rng.integers(11, 17))
        near = _cells(place, rng, cells)
        radius = share if coat.pattern == "spots" else 0.5
        spots = _edge(radius - near, 0.08 if coat.pattern == "spots" else 0.4)
        trunk = 1 - build.group("Head", "FF", "IK", "FrontLowerLeg", "BackLowerLeg")
        return torch.lerp(albedo, marks.expand_as(albedo), (spots * trunk.clamp(0, 1))[:, None])
    if coat.pattern == "stripes":
        # Rings round the trunk and neck, rings round the legs: along z above, along y below, bent by noise.
        legs = _legs(build)
        along = place[:, 2] * (1 - legs) * 26 + place[:, 1] * (legs * 34 + build.group("Neck", "Head") * 14)
        wave = torch.sin(2 * torch.pi * (along * 0.36) + 1.1 * _noise(place, rng, 7) + 0.4 * _noise(place, rng, 20))
        bare = 1.0 if coat.name == "striped" else 1 - float(build.group("Head").mean())
        level = 1 - 2 * share
        return torch.lerp(albedo, marks.expand_as(albedo), (_edge(wave - level, 0.15) * bare)[:, None])
    return albedo


def _white_markings(
    albedo: Tensor, individual: Individual, coat: Coat, height: Tensor, rng: np.random.Generator
) -> tuple[Tensor, tuple[str, ...]]:
    """Blaze and socks, as horses have them; drawn for every species so that the stream of numbers is one."""
    build, white = individual.build, _varied((232, 228, 220), rng)
    blaze, socks, tall = rng.random(), rng.random(4), float(rng.uniform(0.1, 0.28))
    wide, dark = float(rng.uniform(0.010, 0.028)), sum(coat.body) < 480
    if individual.species.name != "horse" or not dark or coat.pattern in ("patches", "spots"):
        return albedo, ()
    words: list[str] = []
    place, normals = build.place, vertex_normals(individual.rest, individual.faces)
    if blaze < 0.45:
        front = _edge(normals[:, 2] + 0.4 * normals[:, 1], 0.15) * _edge(build.group("Head") - 0.5, 0.1)
        stripe = _edge(wide + 0.006 * _noise(place, rng, 20) - place[:, 0].abs(), 0.004) * front
        albedo = torch.lerp(albedo, white.expand_as(albedo), (stripe * (1 - build.group("Ear")))[:, None])
        words.append("a white blaze")
    count = 0
    for leg, (part, side) in enumerate((("Front", 1), ("Front", -1), ("Back", 1), ("Back", -1))):
        if socks[leg] < 0.3:
            mine = build.group(*_leg_joints(part, "L" if side > 0 else "R"))
            sock = _edge(tall + 0.02 * _noise(place, rng, 8) - height, 0.02) * _edge(mine - 0.5, 0.1)
            albedo = torch.lerp(albedo, white.expand_as(albedo), sock[:, None] * (1 - _part(build, "hoof"))[:, None])
            count += 1
    if count:
        words.append("white socks" if count > 1 else "a white sock")
    return albedo, tuple(words)


def _leg_joints(part: str, side: str) -> tuple[str, ...]:
    foot = "FF" if part == "Front" else "FFB"
    return f"{part}LowerLeg.{side}", f"{part}UpperLeg.{side}", f"IK{part}Leg.{side}", f"{foot}.{side}"


def _height(individual: Individual) -> Tensor:
    """Height of each vertex at rest over that of the back, ``[V]``."""
    back = individual.rest[individual.build.group("Torso", "Back") > 0.6, 1].amax()
    return individual.rest[:, 1] / back


def _legs(build: Build) -> Tensor:
    return build.group("FrontUpperLeg", "FrontLowerLeg", "BackUpperLeg", "BackLowerLeg", "BackLeg", "FF", "IK")


def _part(build: Build, name: str) -> Tensor:
    return build.classes[:, CLASSES.index(name)]


def _varied(colour: Rgb, rng: np.random.Generator) -> Tensor:
    """Linear RGB of an sRGB colour, a little lighter or darker and warmer or colder."""
    tint = np.exp(rng.normal(0, (0.03, 0.02, 0.03)) + rng.normal(0, 0.08))
    return linear_from_srgb((torch.tensor(colour) / 255 * torch.from_numpy(tint.astype(np.float32))).clamp(0, 1))


def _edge(value: Tensor, width: float) -> Tensor:
    """From 0 to 1 where the value crosses zero."""
    return (value / width + 0.5).clamp(0, 1)


def _noise(place: Float[Tensor, "V 3"], rng: np.random.Generator, cells: int) -> Float[Tensor, " V"]:
    """Smooth noise of unit size on the body; ``cells`` to a body length."""
    grid = torch.from_numpy(rng.normal(size=(1, 1, cells + 2, cells + 2, cells + 2)).astype(np.float32))
    drawn = functional.grid_sample(grid, (place * 1.7)[None, None, None], align_corners=True, padding_mode="reflection")
    return drawn[0, 0, 0, 0] * 1.4


def _cells(place: Float[Tensor, "V 3"], rng: np.random.Generator, cells: int) -> Float[Tensor, " V"]:
    """Distance to the nearest of many scattered points, in cells: small inside spots."""
    from scipy.spatial import KDTree

    low, high = place.amin(0).numpy(), place.amax(0).numpy()
    count = int(np.prod((high - low) * cells)) + 1
    points = low + rng.uniform(size=(count, 3)) * (high - low)
    near, which = KDTree(points).query(place.numpy())
    size = np.exp(rng.normal(0, 0.25, count))[which]
    return torch.from_numpy((near * cells / size).astype(np.float32))
