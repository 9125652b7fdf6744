"""The Animodel protocol: ours beside a plain implementation of the published steps with trimesh, on pairs of different animals.

    python benchmarks/bench_animodel.py [--pairs N] [--seeds N] [--reference-settings full|reduced] [--out benchmarks/results/animodel.json]

Both sides get the same meshes and the same settings (``full``: the published ones; ``reduced``: fewer points, cubes and rounds, for a
quick look) and draw their own random points, so the figures agree up to chance. The plain one is written for reading: trimesh's
``voxelized().fill()``, ``marching_cubes``, ``sample_surface_even`` and ``registration.icp`` in the published order.

The animals are the CC0 rigs in poses of their clips and the shipped templates, fetched on the first run. Some reconstructions are
also scaled, turned and shifted. Then, with ours alone, the floor: a mesh against itself, against itself scaled 3 times and turned by
180 degrees, and against itself turned by 90 degrees.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import importlib.metadata
import json
import math
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from farm3d.barn.rigs import fetch_rigs, load_rig
from farm3d.core.files import cache_folder, write_whole
from farm3d.core.random import numpy_generator
from farm3d.evaluation.meshes import Surface, make_surface
from farm3d.evaluation.shape import AnimodelSettings, animodel_score
from farm3d.geometry.skinning import linear_blend_skinning
from farm3d.model.prior import CategoryPrior
from farm3d.motion.animate import pose_at
from farm3d.motion.clips import make_clip

REPOSITORY = Path(__file__).resolve().parent.parent
SETTINGS = {
    "full": AnimodelSettings(),
    "reduced": AnimodelSettings(align_points=1500, icp_iterations=60, chamfer_points=8000, min_cubes=30),
}
Pose = tuple[str, str | None, float]  # animal, clip, seconds; an animal in capitals is a shipped template
# Target, reconstruction, and what is done to the reconstruction: scale, turn about the vertical in degrees.
PAIRS: tuple[tuple[Pose, Pose, float, float], ...] = (
    (("horse", "Walk", 0.3), ("cow", None, 0.0), 3.0, 180.0),
    (("horse", "Gallop", 0.2), ("donkey", "Walk", 0.5), 1.0, 0.0),
    (("deer", "Idle", 0.4), ("stag", "Walk", 0.2), 0.5, 0.0),
    (("cow", "Eating", 1.0), ("bull", "Walk", 0.6), 1.0, 20.0),
    (("fox", "Gallop", 0.3), ("wolf", "Walk", 0.1), 1.0, 0.0),
    (("husky", "Walk", 0.4), ("shibainu", "Idle", 0.0), 2.0, 170.0),
    (("alpaca", "Walk", 0.2), ("deer", "Eating", 0.8), 1.0, 0.0),
    (("horse_white", "Eating", 1.2), ("horse", None, 0.0), 1.0, 90.0),
    (("horse", "Idle", 0.5), ("HORSE", "walk", 0.4), 1.0, 0.0),
    (("cow", "Walk", 0.5), ("COW", "graze", 1.0), 1.0, 180.0),
    (("wolf", "Gallop", 0.1), ("HORSE", "gallop", 0.2), 0.3, 45.0),
    (("donkey", "Jump_toIdle", 0.3), ("alpaca", "Gallop", 0.2), 1.0, 0.0),
)


# --- the animals ----------------------------------------------------------------------------------------------------------------


def posed(pose: Pose, rigs: Path) -> Surface:
    """Return an animal in a pose; templates are in their own units."""
    animal, clip, time_s = pose
    name = f"{animal} {clip} {time_s:g} s" if clip else f"{animal} at rest"
    if not animal.isupper():
        rig = load_rig(rigs / f"{animal}.glb")
        return make_surface(name, rig.pose(clip, time_s).double().numpy(), rig.faces.numpy())
    prior = CategoryPrior.from_pretrained(animal.lower())
    angles, shift = pose_at(make_clip(clip or "rest", prior.skeleton), time_s)
    vertices = linear_blend_skinning(prior.template.vertices, prior.skin_weights, prior.skeleton.transforms(angles)) + shift
    return make_surface(f"template {name.lower()}", vertices.double().numpy(), prior.template.faces.numpy())


def moved(surface: Surface, *, scale: float, turn_deg: float) -> Surface:
    """Return a copy turned about the vertical and scaled, about the origin."""
    cosine, sine = math.cos(math.radians(turn_deg)), math.sin(math.radians(turn_deg))
    turn = np.array([[cosine, 0.0, sine], [0.0, 1.0, 0.0], [-sine, 0.0, cosine]])
    note = f"{f' x{scale:g}' if scale != 1 else ''}{f' turned {turn_deg:g}°' if turn_deg else ''}"
    return make_surface(surface.name + note, scale * surface.vertices @ turn.T, surface.faces)


# --- the published steps, plainly -------------------------------------------------------------------------------------------------


def reference_score(target: Surface, reconstruction: Surface, settings: AnimodelSettings, generator: np.random.Generator) -> float:
    """Return the bidirectional distance in metres by steps 2 to 7, with trimesh."""
    import trimesh
    from scipy.spatial import KDTree

    def cubes(mesh: Any) -> Any:
        return mesh.voxelized(mesh.extents.min() / settings.min_cubes).fill()

    def samples(mesh: Any, count: int) -> np.ndarray:
        drawn = np.empty((0, 3))
        while len(drawn) < count:
            more, _ = trimesh.sample.sample_surface_even(mesh, count, seed=int(generator.integers(1 << 31)))
            drawn = np.concatenate([drawn, more])
        return drawn[:count]

    def chamfer(mesh: Any) -> float:
        points_true, points_made = samples(true, settings.chamfer_points), samples(mesh, settings.chamfer_points)
        forth = KDTree(points_made).query(points_true)[0].mean()
        back = KDTree(points_true).query(points_made)[0].mean()
        return float(forth + back) / 2

    def aligned(mesh: Any) -> Any:
        matrix, _, _ = trimesh.registration.icp(
            samples(mesh, settings.align_points),
            samples(true, settings.align_points),
            threshold=settings.cost_threshold,
            max_iterations=settings.icp_iterations,
            reflection=False,
            scale=False,
        )
        return mesh.copy().apply_transform(matrix)

    true, made = (trimesh.Trimesh(surface.vertices, surface.faces) for surface in (target, reconstruction))
    made.apply_scale(float(np.cbrt(cubes(true).volume / cubes(made).volume)))
    closed = cubes(made).marching_cubes
    closed.apply_scale(float((made.extents / closed.extents).mean()))
    closed.apply_translation(made.centroid - closed.centroid)
    first = aligned(closed)
    half_turn = first.copy().apply_transform(trimesh.transformations.rotation_matrix(math.pi, [0, 1, 0]))
    return min(chamfer(first), chamfer(aligned(half_turn)))


# --- measuring --------------------------------------------------------------------------------------------------------------------


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """Return a call's result and its processor seconds: both sides use one thread, and so other work on the machine counts less."""
    start = time.process_time()
    result = call()
    return result, round(time.process_time() - start, 2)


def machine() -> dict[str, Any]:
    """Return what the numbers depend on."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    model = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        model = next((line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")), model)
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit.stdout.strip() or "unknown",
        "processor": model,
        "threads": 1,
        "versions": {name: importlib.metadata.version(name) for name in ("numpy", "scipy", "numba", "scikit-image", "trimesh")},
    }


def measure(target: Surface, reconstruction: Surface, settings: AnimodelSettings, *, place: int, seeds: int) -> dict[str, Any]:
    """Score one pair on both sides, once for each seed; processor seconds are medians."""
    ours, plain, ours_s, plain_s = [], [], [], []
    for seed in range(seeds):
        score, seconds = timed(
            lambda seed=seed: (
                animodel_score(target, reconstruction, generator=numpy_generator(seed, "ours", place), settings=settings).bidirectional_m
            )
        )
        ours.append(round(score, 6))
        ours_s.append(seconds)
        score, seconds = timed(lambda seed=seed: reference_score(target, reconstruction, settings, numpy_generator(seed, "plain", place)))
        plain.append(round(score, 6))
        plain_s.append(seconds)
    return {
        "target": target.name,
        "reconstruction": reconstruction.name,
        "ours_bidir_m": ours,
        "plain_bidir_m": plain,
        "ratio": round(statistics.mean(ours) / statistics.mean(plain), 5),
        "ours_cpu_s": round(statistics.median(ours_s), 2),
        "plain_cpu_s": round(statistics.median(plain_s), 2),
    }


def figure(values: list[float]) -> str:
    """Return a mean, with the spread over seeds where there are several."""
    return f"{statistics.mean(values):.5f}" + (f" ± {statistics.stdev(values):.5f}" if len(values) > 1 else "")


def floors(target: Surface, settings: AnimodelSettings) -> dict[str, Any]:
    """Score a mesh against copies of itself: what is left is the sampling and the remeshing."""
    copies = {"itself": target, "x3 turned 180°": moved(target, scale=3, turn_deg=180), "turned 90°": moved(target, scale=1, turn_deg=90)}
    rows = {}
    for name, copy in copies.items():
        score = animodel_score(target, copy, generator=numpy_generator(0, "floor"), settings=settings)
        rows[name] = {"bidir_m": round(score.bidirectional_m, 5), "scale": round(score.scale, 5), "turned": score.turned}
        print(f"| {target.name} against {name} | {score.bidirectional_m:.5f} | {score.scale:.4f} |", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=len(PAIRS), help="how many of the pairs")
    parser.add_argument("--seeds", type=int, default=1, help="how often each pair is scored, on both sides")
    parser.add_argument("--reference-settings", choices=tuple(SETTINGS), default="full", help="of both sides")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks" / "results" / "animodel.json")
    options = parser.parse_args()
    settings = SETTINGS[options.reference_settings]
    rigs = fetch_rigs(cache_folder())
    target = posed(PAIRS[0][0], rigs)
    animodel_score(target, target, generator=numpy_generator(0), settings=SETTINGS["reduced"])  # compile
    print(
        "| target | reconstruction | ours, m | plain, m | ours / plain | ours, CPU s | plain, CPU s |\n|---|---|---|---|---|---|---|",
        flush=True,
    )
    rows = []
    for place, (true, made, scale, turn_deg) in enumerate(PAIRS[: options.pairs]):
        target, reconstruction = posed(true, rigs), moved(posed(made, rigs), scale=scale, turn_deg=turn_deg)
        row = measure(target, reconstruction, settings, place=place, seeds=options.seeds)
        rows.append(row)
        print(
            f"| {target.name} | {reconstruction.name} | {figure(row['ours_bidir_m'])} | {figure(row['plain_bidir_m'])} "
            f"| {row['ratio']:.4f} | {row['ours_cpu_s']} | {row['plain_cpu_s']} |",
            flush=True,
        )
    ours, plain = (statistics.mean(statistics.mean(row[side]) for row in rows) for side in ("ours_bidir_m", "plain_bidir_m"))
    print(f"| mean | | {ours:.5f} | {plain:.5f} | {ours / plain:.4f} | | |")
    print("\n| floor | ours, m | scale found |\n|---|---|---|")
    document = {
        "settings": {"name": options.reference_settings, **dataclasses.asdict(settings)},
        **machine(),
        "mean": {"ours_bidir_m": round(ours, 6), "plain_bidir_m": round(plain, 6), "ratio": round(ours / plain, 5)},
        "pairs": rows,
        "floors": floors(posed(PAIRS[0][0], rigs), settings),
    }
    write_whole(options.out, json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
