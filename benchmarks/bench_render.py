"""The renderer against its peers, and its silhouette gradients against the truth; all in one run.

    python benchmarks/bench_render.py [--quick] [--out benchmarks/results/render.json]

Speed: eight meshes, new vertices in, face, barycentrics and depth at every pixel centre out; all candidates take turns within each
round, so that a busy machine treats them alike. Before anything is timed, every peer must see the same faces and find the same gradient.
Gradients: d(sum of the mask) / d(scale of the mesh) as a share of the true change of the silhouette's area, for the edge-driven rule
and for the usual one that looks only at the triangle seen at a pixel centre. Peers that are not installed are skipped with a reason.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # waiting threads must not take the cores from the next candidate

import argparse
import datetime
import importlib.metadata
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))  # the meshes are those of the tests

from benchmarks.render_peers import PEERS, Absent, Job, Steps  # noqa: E402
from benchmarks.render_visible_rule import visible_rule_gradient  # noqa: E402
from tests.testing.blobs import blob, true_area_gradient, walking  # noqa: E402

from farm3d.core.files import write_whole  # noqa: E402
from farm3d.render.rasterize import edge_topology  # noqa: E402
from farm3d.render.renderer import render_attributes  # noqa: E402
from farm3d.structures import Camera  # noqa: E402

PICTURES = 8
CELLS = {"10k": 29, "40k": 58}
SETTINGS = [(name, size) for size in (128, 256) for name in CELLS]
NINE = [(4, 64), (16, 64), (29, 64), (58, 64), (16, 128), (29, 128), (58, 128), (29, 256), (58, 256)]  # cells, pixels
VIEWS = (torch.tensor([0.3, 1.4, 2.9, 4.4]), torch.tensor([0.2, -0.3, 0.5, 0.0]))


def make_job(cells: int, size: int) -> Job:
    vertices, faces = blob(cells)
    generator = torch.Generator().manual_seed(0)
    stretch = 1 + 0.1 * torch.rand(PICTURES, 1, 3, generator=generator)
    camera = Camera.orbit(torch.linspace(0, 5.5, PICTURES), torch.linspace(-0.3, 0.5, PICTURES), distance=9.6, size_px=size)
    return Job((vertices * stretch).contiguous(), faces, camera, torch.randn(PICTURES, size, size, 3, generator=generator))


def fitting_pass(job: Job, backend: str) -> Steps:
    """The whole of what a fit asks for: three colours and the mask, antialiased."""
    colours = job.vertices[:1].sin()

    def forward() -> tuple[np.ndarray, ...]:
        with torch.no_grad():
            image, mask = render_attributes(job.vertices, job.faces, job.camera, colours, backend=backend)
        return image.numpy(), mask.numpy()

    def backward() -> np.ndarray:
        vertices = job.vertices.clone().requires_grad_()
        image, mask = render_attributes(vertices, job.faces, job.camera, colours, backend=backend)
        (gradient,) = torch.autograd.grad((image * job.weights).sum() + (mask * job.weights[..., 0]).sum(), vertices)
        return gradient.numpy()

    return forward, backward  # pyright: ignore[reportReturnType]


class Sample:
    """Times of one step: wall and core milliseconds."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.core: list[float] = []

    def take(self, step: Callable[[], object]) -> None:
        core, wall = time.process_time(), time.perf_counter()
        step()
        self.wall.append((time.perf_counter() - wall) * 1e3)
        self.core.append((time.process_time() - core) * 1e3)

    def summary(self) -> dict[str, float]:
        return {
            "wall_ms": round(statistics.median(self.wall), 2),
            "wall_min_ms": round(min(self.wall), 2),
            "wall_max_ms": round(max(self.wall), 2),
            "core_ms": round(statistics.median(self.core), 2),
            "n": len(self.wall),
        }


def prepare(job: Job, skipped: dict[str, str]) -> dict[str, Steps]:
    """Return every candidate that runs here, after it has shown that it does the same work as ours."""
    ready: dict[str, Steps] = {}
    truth = None
    for name, peer in PEERS.items():
        try:
            steps = peer(job)
        except Absent as reason:
            skipped[name.strip()] = str(reason)
            continue
        ids, uv, depth = steps[0]()
        gradient = steps[1]() if steps[1] else None
        if truth is None:
            truth = ids.copy(), uv.copy(), depth.copy(), gradient
        same = ids == truth[0]
        covered_alike = float(((ids >= 0) == (truth[0] >= 0)).mean())
        assert covered_alike > 0.9999 and same.mean() > 0.999, f"{name} sees other faces: {same.mean():.5f} alike"
        assert np.abs(depth - truth[2])[same].max() < 1e-3, f"{name} sees other depths"
        if gradient is not None and truth[3] is not None:
            alike = np.corrcoef(gradient.ravel(), truth[3].ravel())[0, 1]
            assert alike > 0.999, f"{name} finds another gradient: correlation {alike:.5f}"
        ready[name] = steps
    for backend in ("numba", "torch"):
        ready[f"fitting pass, {backend}"] = fitting_pass(job, backend)
    return ready


def speed(rounds: int, skipped: dict[str, str]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for name, size in SETTINGS:
        job = make_job(CELLS[name], size)
        candidates = prepare(job, skipped)
        samples = {(who, what): Sample() for who, steps in candidates.items() for what in ("forward", "both") if steps[what == "both"]}
        for turn in range(rounds):
            for (who, what), sample in samples.items():
                step = candidates[who][what == "both"]
                if step is not None and (turn < 5 or statistics.median(sample.wall) < 200):  # five rounds of a slow one tell enough
                    sample.take(step)
        for (who, what), sample in samples.items():
            rows.append({"who": who.strip(), "what": what, "triangles": len(job.faces), "px": size, **sample.summary()})
        print(f"timed {len(job.faces)} triangles at {size} px", file=sys.stderr, flush=True)
    return rows


def shares(vertices: torch.Tensor, faces: torch.Tensor, camera: Camera) -> tuple[torch.Tensor, torch.Tensor]:
    """Return for every view the share of the true gradient that the edge-driven and the visible-triangle rule recover."""
    truth = true_area_gradient(vertices, faces, camera)
    scale = torch.ones(len(truth), requires_grad=True)
    _, mask = render_attributes(vertices * scale[:, None, None], faces, camera, vertices[None, :, :0])
    (ours,) = torch.autograd.grad(mask.sum(), scale)
    visible = visible_rule_gradient(vertices, edge_topology(faces), camera)
    return ours / truth, visible / truth


def gradients() -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    scenes: list[tuple[str, torch.Tensor, torch.Tensor, int, tuple[torch.Tensor, torch.Tensor]]] = []
    for cells, size in NINE:
        scenes.append(("blob", *blob(cells), size, VIEWS))
    round_about = (torch.tensor([1.57, 1.2, 0.6, 0.1, 2.4, 4.5, 5.3, 3.4]), torch.full((8,), 0.1))
    for size in (64, 128, 256):
        for time_s in (0.0, 0.45):
            scenes.append((f"walking animal, t = {time_s:.2f} s", *walking(sides=48, time_s=time_s), size, round_about))
    for name, vertices, faces, size, views in scenes:
        ours, visible = shares(vertices, faces, Camera.orbit(*views, size_px=size))
        row = {"scene": name, "triangles": len(faces), "px": size, "views": len(ours), "edge_driven": round(float(ours.mean()), 4)}
        row["edge_driven_range"] = [round(float(ours.min()), 4), round(float(ours.max()), 4)]
        row["visible_triangle"] = round(float(visible.mean()), 4)
        rows.append(row)
    return rows


FIRST = {
    "numba": "f, b = bench.fitting_pass(bench.make_job(4, 32), 'numba'); f(); b()",
    "warp": "f, b = bench.PEERS['warp-lang (CPU)'](bench.make_job(4, 32)); f(); b()",
}


def start_up(skipped: dict[str, str]) -> dict[str, dict[str, float]]:
    """Seconds from the first call to the first gradient in a new process, compiling included; with an empty cache, then a full one."""
    seconds: dict[str, dict[str, float]] = {}
    for kind, first in FIRST.items():
        if any(kind in name for name in skipped):
            continue
        with tempfile.TemporaryDirectory() as folder:
            environment = {**os.environ, "NUMBA_CACHE_DIR": folder, "WARP_CACHE_PATH": folder}
            environment["PYTHONPATH"] = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "src"), os.environ.get("PYTHONPATH", "")])
            for state in ("cold", "cached"):
                program = "import time; from benchmarks import bench_render as bench; t, c = time.perf_counter(), time.process_time();"
                program += f"{first}; print(time.perf_counter() - t, time.process_time() - c)"
                done = subprocess.run(
                    [sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True, cwd=folder
                )
                wall, core = map(float, done.stdout.split()[-2:])
                seconds[f"{kind}, {state}"] = {"wall_s": round(wall, 2), "core_s": round(core, 2)}
    return seconds


def facts() -> dict[str, object]:
    processor = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        names = [line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        processor = names[0] if names else processor
    versions = {}
    for package in ("torch", "numba", "numpy", "mitsuba", "drjit", "warp-lang"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "absent"
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=REPOSITORY, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = "unknown"
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit,
        "processor": processor,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_at_start": round(load, 1),
        "python": platform.python_version(),
        **versions,
    }


def markdown(report: dict) -> str:
    about = report["facts"]
    lines = [
        f"{about['date']}, {about['processor']}, {about['cores']} cores, {about['threads']} threads, load {about['load_at_start']}",
        "",
        "Milliseconds a batch of 8, wall median [min..max] (core-ms)",
        "",
        "| | " + " | ".join(f"{name}@{size}" for name, size in SETTINGS) + " |",
        "|---|" + "---|" * len(SETTINGS),
    ]
    names = list(dict.fromkeys(row["who"] for row in report["speed"]))
    for what, title in (("forward", "forward"), ("both", "forward + backward")):
        for who in names:
            rows = [row for row in report["speed"] if row["who"] == who and row["what"] == what]
            cells = [f"{row['wall_ms']:g} [{row['wall_min_ms']:g}..{row['wall_max_ms']:g}] ({row['core_ms']:g})" for row in rows]
            if cells:
                lines.append(f"| {who}: {title} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "Share of the true d(area)/d(scale), mean over views [range]",
        "",
        "| scene | triangles@px | edge-driven | visible triangle |",
    ]
    lines.append("|---|---|---|---|")
    for row in report["gradients"]:
        low, high = row["edge_driven_range"]
        ours = f"{row['edge_driven']:.3f} [{low:.3f}..{high:.3f}]"
        lines.append(f"| {row['scene']} | {row['triangles']}@{row['px']} | {ours} | {row['visible_triangle']:.3f} |")
    first = ", ".join(f"{kind} {value['wall_s']:g} ({value['core_s']:g})" for kind, value in report["start_up"].items())
    lines += ["", f"Seconds to the first gradient in a new process, wall (core): {first}"]
    lines += [f"Skipped: {name}: {reason}" for name, reason in report["skipped"].items()]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three rounds instead of fifteen")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks" / "results" / "render.json")
    options = parser.parse_args()
    about = facts()
    skipped: dict[str, str] = {}
    timings = speed(3 if options.quick else 15, skipped)
    report = {"facts": about, "speed": timings, "gradients": gradients(), "start_up": start_up(skipped), "skipped": skipped}
    print(markdown(report))
    write_whole(options.out, json.dumps(report, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
