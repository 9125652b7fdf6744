"""Reconstruct a folder of photographs with hand-made silhouettes and judge the exported files, not the fit.

The silhouette of the GLB, posed by the clip and time of the JSON and drawn through the JSON's camera at the photograph's size, is
compared with the hand-made mask. Run for example

    python benchmarks/photos.py PHOTOS --category horse --masks PHOTOS --truth PHOTOS --out out/horse

where the folder given by --truth holds ``NAME_mask.*`` for photograph ``NAME``; --masks is what the reconstruction is given (leave it
out to use the segmenter). Prints a Markdown table, the median, the five worst, seconds and peak memory, and writes report.json.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from farm3d.data.photo import load_photo
from farm3d.data.preprocess import find_masks, list_photos, read_mask
from farm3d.export.glb_reader import read_glb
from farm3d.render.rasterize import rasterize
from farm3d.structures import Camera


def exported_silhouette(stem: Path) -> np.ndarray:
    """Draw the exported animal through the exported camera; coverage ``[H, W]`` at the photograph's size, 4 samples a pixel."""
    facts = json.loads(stem.with_suffix(".json").read_text())
    model = read_glb(stem.with_suffix(".glb"))
    vertices = torch.as_tensor(model.vertices_at(facts["pose"]["clip"], facts["pose"]["time_s"]), dtype=torch.float32)
    view = facts["camera"]
    camera = Camera(
        torch.tensor(view["T_camera_world"], dtype=torch.float32),
        torch.tensor([view[name] for name in ("fx", "fy", "cx", "cy")], dtype=torch.float32),
        view["width"],
        view["height"],
    ).resized(2 * view["width"], 2 * view["height"])
    faces = torch.as_tensor(model.faces, dtype=torch.int64)
    ids = rasterize(camera.clip(vertices[None], near=1e-3), faces, height_px=camera.height_px, width_px=camera.width_px).face_id[0]
    covered = (ids >= 0).float().numpy()
    return covered.reshape(view["height"], 2, view["width"], 2).mean((1, 3))


def azimuth_deg(facts: dict) -> float:
    """From which side the exported camera looks: 0 at the face, 90 at the animal's left, 180 from behind."""
    matrix = facts["camera"]["T_camera_world"]
    return math.degrees(math.atan2(matrix[2][0], matrix[2][2]))


def agreement(drawn: np.ndarray, truth: np.ndarray) -> float:
    """Intersection over union at one half."""
    a, b = drawn > 0.5, truth > 0.5
    return float((a & b).sum() / max((a | b).sum(), 1))


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--category", default="horse")
    parser.add_argument("--masks", type=Path)
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", help="comma-separated photograph names")
    parser.add_argument("--no-refine", action="store_true", help="what one pass of a learned category gives")
    parser.add_argument("--reader", default="auto", help="who is asked about the view, as of `farm3d reconstruct`: auto, none or a folder")
    parser.add_argument("--judge-only", action="store_true", help="judge files that are there already")
    options = parser.parse_args()
    photos = list_photos(options.photos)
    if options.only:
        photos = [photo for photo in photos if photo.stem in options.only.split(",")]
    seconds = None
    peak_gib = None
    if not options.judge_only:
        command = [
            sys.executable,
            "-m",
            "farm3d",
            "reconstruct",
            *map(str, photos),
            "--category",
            options.category,
            "--out",
            str(options.out),
        ]
        command += ["--threads", str(options.threads), "--reader", options.reader, "--overwrite"]
        if options.no_refine:
            command += ["--no-refine"]
        if options.masks:
            command += ["--mask", str(options.masks)]
        started = time.perf_counter()
        subprocess.run(command, check=False)
        seconds = (time.perf_counter() - started) / len(photos)
        peak_gib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    truths = find_masks(photos, options.truth)
    rows = []
    for photo in photos:
        stem = options.out / photo.stem
        if not stem.with_suffix(".json").is_file():
            rows.append({"photo": photo.stem, "iou": 0.0, "seconds": None, "azimuth_deg": None})
            continue
        facts = json.loads(stem.with_suffix(".json").read_text())
        truth_file = truths[photo]
        assert truth_file is not None, f"no hand-made mask for {photo.name}"
        truth = read_mask(truth_file, load_photo(photo).size_px)
        rows.append(
            {
                "photo": photo.stem,
                "iou": round(agreement(exported_silhouette(stem), truth), 4),
                "seconds": round(sum(facts["timings_s"].values()), 2),
                "azimuth_deg": round(azimuth_deg(facts), 1),
            }
        )
    print("| photo | IoU | seconds | azimuth |\n|---|---|---|---|")
    for row in rows:
        print(f"| {row['photo']} | {row['iou']:.3f} | {row['seconds']} | {row['azimuth_deg']} |")
    ious = [row["iou"] for row in rows]
    times = [row["seconds"] for row in rows if row["seconds"] is not None]
    quartiles = statistics.quantiles(ious, n=10, method="inclusive") if len(ious) > 1 else ious * 9
    summary = {
        "count": len(rows),
        "median_iou": round(statistics.median(ious), 4),
        "p10_iou": round(quartiles[0], 4),
        "median_seconds": round(statistics.median(times), 2) if times else None,
        "wall_seconds_per_photo": round(seconds, 2) if seconds else None,
        "peak_gib": round(peak_gib, 2) if peak_gib else None,
        "worst": [f"{row['photo']} {row['iou']:.3f}" for row in sorted(rows, key=lambda row: row["iou"])[:5]],
    }
    print(json.dumps(summary, indent=2))
    (options.out / "judged.json").write_text(json.dumps({"summary": summary, "photos": rows}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
