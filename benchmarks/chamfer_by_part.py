"""Which parts of the animal a Chamfer distance comes from, and in what proportions the reconstructions are too long, high or wide.

    farm3d evaluate baseline truth --truth barn/horse/horse-test-000000.tar --out predictions/truth
    python benchmarks/chamfer_by_part.py horse --truth predictions/truth predictions/one predictions/refined [--count 15]

Each reconstruction is scaled to the volume of its target and aligned to it by the Animodel protocol, as for `farm3d evaluate shape`. The
targets are the barn's animals, whose vertices know their joints: a point of the target belongs to the part of its nearest vertex, a point
of the reconstruction to that of the nearest vertex of the target. Distances are in units of the target's longest side, times 100. A
part's two columns are the mean distance from its points to the reconstruction, and what it adds to the distance of the whole in that
direction. Proportions are extents without the outermost hundredth at each end, reconstruction over target (geometric mean, x wide, y
high, z long): 1 is right, and as volumes are equal, what is too wide is too short and too low.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.spatial import KDTree

from farm3d.apps.evaluate import read_product
from farm3d.barn.individuals import Build, build_of
from farm3d.barn.rigs import fetch_rigs
from farm3d.barn.species import SPECIES
from farm3d.core.errors import Farm3DError, InputError
from farm3d.core.files import cache_folder
from farm3d.core.random import numpy_generator
from farm3d.evaluation.alignment import EvenSampler, nearest_distances
from farm3d.evaluation.meshes import Surface, mesh_files, read_mesh
from farm3d.evaluation.shape import animodel_score

POINTS = 60_000
PARTS = {  # the first whose joints' names begin so
    "head and ears": ("Head", "Ear"),
    "neck": ("Neck",),
    "tail": ("Tail",),
    "forelegs, upper": ("FrontShoulder", "FrontUpperLeg"),
    "forelegs, lower": ("FrontLowerLeg", "FF."),
    "hind legs, upper": ("BackShoulder", "BackLeg", "BackUpperLeg"),
    "hind legs, lower": ("BackLowerLeg", "FFB."),
    "trunk": ("",),
}


class Pair(NamedTuple):
    """What one reconstruction gives: distances both ways with the part each belongs to, and extents over the target's."""

    to_reconstruction: np.ndarray
    parts: np.ndarray
    to_target: np.ndarray
    nearest_parts: np.ndarray
    proportions: np.ndarray


def main() -> int:
    """Print a table for each folder of predictions; return 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("species", choices=list(SPECIES))
    parser.add_argument("predictions", nargs="+", type=Path, help="answers of `farm3d evaluate baseline`")
    parser.add_argument("--truth", type=Path, required=True, help="folder of `farm3d evaluate baseline truth` for the same pictures")
    parser.add_argument("--count", type=int, help="the first so many (all of the truth's)")
    options = parser.parse_args()
    targets, builds = mesh_files(options.truth)[: options.count], _builds(options.species)
    for folder in options.predictions:
        pairs = [_measure(path, folder, builds, place) for place, path in enumerate(targets)]
        print(f"\n**{folder.name}**, {len(pairs)} pictures\n\n{table(pairs)}")
    return 0


def table(pairs: list[Pair]) -> str:
    """Return parts by row, means over pictures, and a line of proportions."""
    lines = ["| part | target to it: mean | adds | it to target: mean | adds |", "|---|---|---|---|---|"]
    for number, name in enumerate(PARTS):
        there = [(_share(p.to_reconstruction, p.parts == number), _share(p.to_target, p.nearest_parts == number)) for p in pairs]
        cells = np.nanmean(np.array(there).reshape(len(pairs), 4), axis=0) * 100
        lines.append(f"| {name} | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |")
    whole = np.mean([(p.to_reconstruction.mean(), p.to_target.mean()) for p in pairs], axis=0) * 100
    lines.append(f"| all | {whole[0]:.2f} | {whole[0]:.2f} | {whole[1]:.2f} | {whole[1]:.2f} |")
    wide, high, long = np.exp(np.mean([np.log(p.proportions) for p in pairs], axis=0))
    return "\n".join(lines) + f"\n\nChamfer {whole.mean() / 100:.4f}; wide {wide:.2f}, high {high:.2f}, long {long:.2f} of the target"


def _share(distances: np.ndarray, chosen: np.ndarray) -> tuple[float, float]:
    return (float(distances[chosen].mean()) if chosen.any() else float("nan")), float(distances[chosen].sum() / len(distances))


def _measure(target_path: Path, folder: Path, builds: list[Build], place: int) -> Pair:
    made = [folder / f"{target_path.stem}{suffix}" for suffix in (".glb", ".safetensors")]
    path = next((one for one in made if one.exists()), None)
    if path is None:
        raise InputError(f"{folder}: no answer to {target_path.stem}", hint="predict the pictures of the truth, or give a smaller --count")
    target, reconstruction = read_mesh(target_path), read_mesh(path, read_product=read_product)
    generator = numpy_generator(0, "animodel", place)
    score = animodel_score(target, reconstruction, generator=generator)
    aligned = reconstruction.transformed(score.T_target_reconstruction)
    there, here = EvenSampler(target).draw(POINTS, generator), EvenSampler(aligned).draw(POINTS, generator)
    labels, vertices = _labels(target, builds), KDTree(target.vertices)
    longest = target.sides.max()
    return Pair(
        nearest_distances(there, here) / longest,
        labels[vertices.query(there)[1]],
        nearest_distances(here, there) / longest,
        labels[vertices.query(here)[1]],
        _extents(aligned) / _extents(target),
    )


def _builds(species: str) -> list[Build]:
    rigs = fetch_rigs(cache_folder())
    return [build_of(rigs / f"{name}.glb") for name in SPECIES[species].rigs]


def _labels(target: Surface, builds: list[Build]) -> np.ndarray:
    """Return the number of the part each vertex hangs on most; the rig is the one with the target's faces."""
    build = next((one for one in builds if np.array_equal(one.faces.numpy(), target.faces)), None)
    if build is None:
        raise InputError(f"{target.name}: no animal of this species of the barn", hint="give the species the pictures were made of")
    joints = [next(i for i, starts in enumerate(PARTS.values()) if joint.startswith(starts)) for joint in build.rig.joint_names]
    return np.array(joints)[build.weights.argmax(1).numpy()]


def _extents(surface: Surface) -> np.ndarray:
    return np.ptp(np.quantile(surface.vertices, [0.01, 0.99], axis=0), axis=0)


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except Farm3DError as error:
        print(f"chamfer_by_part: {error}", file=sys.stderr)
        raise SystemExit(2) from None
