"""The surface of a shape field: coarse-to-fine against the dense sweep, our marching tetrahedra against marching cubes; in one run.

    python benchmarks/bench_tetrahedra.py [--quick] [--out benchmarks/results/tetrahedra.json]

The field is the shipped horse's where there is one, else the initial ellipsoid with a network of the same size. Sweeping (evaluating
the network) and triangulating (from values already there) are timed apart; candidates take turns within each round, the median counts.
Before anything is timed, coarse-to-fine must give the dense sweep's very surface. Peers that are not installed are skipped with a reason.
"""

from __future__ import annotations

import argparse
import copy
import datetime
import importlib.metadata
import json
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from farm3d.core.errors import Farm3DError
from farm3d.core.files import write_whole
from farm3d.geometry.surface import enclosed_volume, is_closed_manifold
from farm3d.geometry.tetrahedra import Grid, extract_surface, marching_tetrahedra
from farm3d.model.fields import ShapeField, load_field

REPOSITORY = Path(__file__).resolve().parent.parent
HALF = 2.6  # of the cube swept: the animals are 4.2 long


def the_field() -> tuple[str, ShapeField]:
    """Return a name and the shape field to sweep."""
    try:
        from farm3d.model.prior import CategoryPrior

        prior = CategoryPrior.from_pretrained("horse")
        size = prior.config.sdf
        field = ShapeField(octaves=size.octaves, hidden=size.hidden, layers=size.layers)
        load_field(field, prior.sdf_weights)
        return f"shipped horse ({size.layers} layers of {size.hidden})", field
    except Farm3DError as error:
        return f"initial ellipsoid, 5 layers of 128 (no shipped horse: {error.message})", ShapeField(hidden=128, layers=5).requires_grad_(
            False
        )


def take_turns(candidates: dict[str, Callable[[], Any]], *, rounds: int) -> dict[str, float]:
    """Return the median milliseconds of each candidate."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for call in candidates.values():
        call()  # compile, allocate
    for _ in range(rounds):
        for name, call in candidates.items():
            start = time.perf_counter()
            call()
            times[name].append((time.perf_counter() - start) * 1000)
    return {name: round(statistics.median(values), 2) for name, values in times.items()}


def measure(field: ShapeField, resolution: int, *, rounds: int) -> dict[str, Any]:
    """Time one resolution."""
    whole = Grid.cube(resolution, half=HALF)
    half = Grid((0.0, -HALF, -HALF), (HALF, HALF, HALF), (resolution // 2, resolution, resolution), mirrored=True)
    with torch.no_grad():
        dense, sparse = extract_surface(field, whole, coarsen=1), extract_surface(field, whole)
        mirrored = extract_surface(field, half)
        same = torch.equal(dense.vertices, sparse.vertices) and torch.equal(dense.faces, sparse.faces)
        if not same or not is_closed_manifold(sparse.faces) or not is_closed_manifold(mirrored.faces):
            raise SystemExit(f"resolution {resolution}: coarse-to-fine missed a part, or the surface is not closed: nothing timed")
        points = whole.points(torch.arange((resolution + 1) ** 3))
        values = torch.cat([field(part) for part in points.split(16384)]).reshape(whole.shape)
        sweeps = take_turns(
            {
                "dense": lambda: extract_surface(field, whole, coarsen=1),
                "coarse to fine": lambda: extract_surface(field, whole),
                "coarse to fine, mirrored half": lambda: extract_surface(field, half),
            },
            rounds=max(1, rounds // 3),
        )
        triangulate: dict[str, Callable[[], Any]] = {
            "ours, numba, implicit grid": lambda: marching_tetrahedra(values, backend="numba"),
            "ours, torch": lambda: marching_tetrahedra(values, backend="torch"),
        }
        skipped = {}
        try:
            from skimage.measure import marching_cubes

            array = values.numpy()
            triangulate["scikit-image marching cubes"] = lambda: marching_cubes(array, 0.0)
            cubes_faces = len(marching_cubes(array, 0.0)[1])
        except ImportError as error:
            cubes_faces, skipped = None, {"scikit-image marching cubes": str(error)}
        march = take_turns(triangulate, rounds=rounds)
    trainable = copy.deepcopy(field).requires_grad_(True)

    def step() -> None:
        surface = extract_surface(trainable, whole)
        enclosed_volume(surface.vertices, surface.faces).backward()

    return {
        "resolution": resolution,
        "grid_points": (resolution + 1) ** 3,
        "evaluated": {"dense": dense.evaluated, "coarse to fine": sparse.evaluated, "coarse to fine, mirrored half": mirrored.evaluated},
        "vertices": len(sparse.vertices),
        "faces": len(sparse.faces),
        "marching_cubes_faces": cubes_faces,
        "extract_ms": sweeps,
        "speedup": round(sweeps["dense"] / sweeps["coarse to fine"], 1),
        "triangulate_ms": march,
        "extract_and_gradient_ms": take_turns({"coarse to fine": step}, rounds=max(1, rounds // 3))["coarse to fine"],
        "skipped": skipped,
    }


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
        "threads": torch.get_num_threads(),
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "numba", "numpy")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small grids, one round")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks" / "results" / "tetrahedra.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    name, field = the_field()
    print(f"field: {name}; one thread, float32")
    rows = []
    for resolution in (32, 64) if options.quick else (32, 64, 128):
        row = measure(field, resolution, rounds=1 if options.quick else 5)
        rows.append(row)
        share = row["evaluated"]["coarse to fine"] / row["grid_points"]
        print(f"{resolution}^3: {row['faces']} faces, {share:.1%} of the points evaluated, {row['speedup']} times faster than dense")
        for kind in ("extract_ms", "triangulate_ms"):
            print("   ", kind, json.dumps(row[kind]))
        print("    extract_and_gradient_ms", row["extract_and_gradient_ms"])
    write_whole(options.out, json.dumps({"field": name, **machine(), "rows": rows}, indent=2) + "\n")
    print(f"wrote {options.out}")


if __name__ == "__main__":
    np.seterr(all="raise", under="ignore")
    main()
