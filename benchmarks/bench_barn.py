"""Pictures a second of the barn, by size, truth and number of processes; and what the compiled renderer saves over the plain-torch one.

    python benchmarks/bench_barn.py [--quick] [--out benchmarks/results/barn.json]

Processes start before the clock does: each draws one picture first. The two renderers draw the same scene in turn, in one run.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import torch

from farm3d.barn.individuals import make_individual
from farm3d.barn.rigs import fetch_rigs
from farm3d.barn.scenes import random_camera, random_light
from farm3d.barn.species import species
from farm3d.barn.world import Settings, draw, members
from farm3d.core.files import cache_folder, write_whole
from farm3d.core.random import numpy_generator
from farm3d.render.renderer import render

REPOSITORY = Path(__file__).resolve().parent.parent


def pictures_a_second(settings: Settings, rigs: Path, *, processes: int, count: int) -> float:
    """Return how many pictures all processes together draw and encode in a second."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(processes + 1)
    crew = [context.Process(target=_draw_some, args=(settings, rigs, start, count // processes, barrier)) for start in range(processes)]
    for process in crew:
        process.start()
    barrier.wait()
    started = time.perf_counter()
    barrier.wait()
    seconds = time.perf_counter() - started
    for process in crew:
        process.join()
    return count // processes * processes / seconds


def _draw_some(settings: Settings, rigs: Path, start: int, count: int, barrier: Barrier) -> None:
    torch.set_num_threads(1)
    first = start * 10_000
    draw(settings, first, rigs=rigs)
    for extra in range(4):  # every rig of the species has been read before the clock starts
        draw(settings, first + (extra + 1) * settings.per_individual, rigs=rigs)
    barrier.wait()
    for number in range(first + 1000, first + 1000 + count):
        members(draw(settings, number, rigs=rigs), truth=settings.truth)
    barrier.wait()


def renderers(rigs: Path, *, rounds: int) -> dict[str, float]:
    """Return median milliseconds of one shaded picture at 128 px, twice supersampled, by renderer."""
    animal = make_individual(species("horse"), 0, rigs=rigs)
    posed = animal.pose("Walk", 0.3)
    rng = numpy_generator(0, "bench barn")
    camera = random_camera(posed, azimuth_deg=60, elevation_deg=10, size_px=128, rng=rng)
    light, albedo = random_light(rng), torch.full((1, len(posed), 3), 0.5)
    times: dict[str, list[float]] = {"numba": [], "torch": []}
    with torch.no_grad():
        for turn in range(rounds + 1):
            for backend, kept in times.items():
                started = time.perf_counter()
                render(posed[None], animal.faces, camera, light, albedo=albedo, supersample=2, backend=backend)
                if turn:
                    kept.append((time.perf_counter() - started) * 1000)
    return {backend: round(statistics.median(kept), 1) for backend, kept in times.items()}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks" / "results" / "barn.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rigs = fetch_rigs(cache_folder())
    cores = os.cpu_count() or 1
    rows: list[dict[str, Any]] = []
    print("| size | truth | processes | pictures a second |\n|---|---|---|---|")
    for size in (128, 256):
        for truth in ("light", "full"):
            for processes in sorted({1, 2, cores}):
                settings = Settings("horse", size_px=size, truth=truth)
                rate = pictures_a_second(settings, rigs, processes=processes, count=32 if options.quick else 160)
                rows.append({"size_px": size, "truth": truth, "processes": processes, "pictures_per_s": round(rate, 1)})
                print(f"| {size} | {truth} | {processes} | {rate:.1f} |", flush=True)
    by_renderer = renderers(rigs, rounds=3 if options.quick else 9)
    print(f"renderer, one horse of 34,912 triangles at 128 px: {by_renderer}")
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    ).stdout.strip()
    report = {
        "date": datetime.date.today().isoformat(),
        "commit": commit,
        "machine": f"{platform.machine()}, {cores} cores",
        "torch": importlib.metadata.version("torch"),
        "pictures": rows,
        "render_ms": by_renderer,
    }
    write_whole(options.out, (json.dumps(report, indent=2) + "\n").encode())


if __name__ == "__main__":
    main()
