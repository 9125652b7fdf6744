"""Print the barn's part of docs/benchmark.md from reports of `farm3d evaluate barn` and `farm3d evaluate shape`.

    python tools/benchmark_tables.py REPORTS

where REPORTS holds METHOD_CATEGORY/report.json, shape_METHOD_CATEGORY.json and asis_METHOD_CATEGORY.json (with --no-rotation) of those
methods of METHODS that were run. Each cell is the mean with its 95 % bootstrap interval.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

METHODS = {
    "truth": "the truth",
    "mean": "mean shape, true camera",
    "fit": "fit of the rig-made template",
    "one": "learned, one pass",
    "one-sds": "learned with critic, one pass",
    "refined": "learned, refined",
    "refined-sds": "learned with critic, refined",
}
CATEGORIES = ("horse", "cow", "sheep")
ROWS = (
    ("iou", "silhouette IoU ↑", "{:.3f}", 1.0),
    ("boundary_f", "boundary F ↑", "{:.3f}", 1.0),
    ("rotation_error_deg", "rotation error, degrees ↓", "{:.1f}", 1.0),
    ("azimuth_error_deg", "azimuth error, degrees ↓", "{:.1f}", 1.0),
    ("elevation_error_deg", "elevation error, degrees ↓", "{:.1f}", 1.0),
    ("front_back_flip", "front/back flips, % ↓", "{:.1f}", 100.0),
    ("left_right_flip", "left/right flips, % ↓", "{:.1f}", 100.0),
    ("pck", "keypoint transfer, PCK@0.1 ↑", "{:.1f}", 100.0),
    ("novel_psnr_db", "novel views, PSNR in dB ↑", "{:.1f}", 1.0),
    ("novel_psnr_scaled_db", "the same after one best scale of colours ↑", "{:.1f}", 1.0),
    ("novel_ssim", "novel views, SSIM ↑", "{:.3f}", 1.0),
    ("albedo_error", "albedo error, linear RGB ↓", "{:.3f}", 1.0),
    ("albedo_error_scaled", "the same after one best scale ↓", "{:.3f}", 1.0),
    ("relit_psnr_db", "relit, PSNR in dB ↑", "{:.1f}", 1.0),
    ("transfer_right", "keypoints right by source, % ↑", "{:.1f}", 100.0),
    ("seconds", "seconds a picture, one thread, beside other work ↓", "{:.1f}", 1.0),
    ("peak_memory_mib", "peak memory, MiB ↓", "{:.0f}", 1.0),
)
SHAPES = (
    ("shape", "bidirectional_m", "Animodel Chamfer, bidirectional, cm ↓", "{:.2f}"),
    ("shape", "bidirectional_scaled", "the same in the unit cube, × 100 ↓", "{:.2f}"),
    ("asis", "bidirectional_scaled", "the same, nothing turned, × 100 ↓", "{:.2f}"),
)


MEDIANS = {"rotation_error_deg", "azimuth_error_deg"}
"""Figures of which a second row gives the median: a few animals turned round lead their means."""


def constant_guess(report: dict) -> str:
    """Return what the elevation error would be if every picture were given the set's own median: what is to be beaten."""
    heights = [sample["elevation_deg"] for sample in report["samples"]]
    middle = statistics.median(heights)
    return f"{statistics.mean(abs(height - middle) for height in heights):.1f}"


def cell(report: dict, name: str, form: str, factor: float) -> str:
    """Return mean and interval, or a dash where a method has no such figure."""
    if name == "pck":
        points = report.get("keypoints") or {}
        return _told(points.get("pck"), points.get("low"), points.get("high"), form, factor)
    figure = report["summary"].get(name)
    return "–" if figure is None else _told(figure["mean"], figure["low"], figure["high"], form, factor)


def _told(mean: float | None, low: float | None, high: float | None, form: str, factor: float) -> str:
    if mean is None or low is None or high is None:
        return "–"
    middle, least, most = (form.format(value * factor) for value in (mean, low, high))
    return middle if least == middle == most else f"**{middle}** {least} – {most}"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", type=Path)
    folder = parser.parse_args().reports
    for category in CATEGORIES:
        there = {method: folder / f"{method}_{category}" / "report.json" for method in METHODS}
        reports = {method: json.loads(path.read_text()) for method, path in there.items() if path.is_file()}
        if not reports:
            continue
        print(f"\n#### {category.capitalize()}\n")
        print("| figure | " + " | ".join(METHODS[method] for method in reports) + " |\n|---|" + "---|" * len(reports))
        print("| pictures | " + " | ".join(str(report["pictures"]) for report in reports.values()) + " |")
        for name, title, form, factor in ROWS:
            cells = [cell(report, name, form, factor) for report in reports.values()]
            if any(text != "–" for text in cells):
                print(f"| {title} | " + " | ".join(cells) + " |")
            if name in MEDIANS:
                middles = [form.format(report["summary"][name]["median"]) for report in reports.values()]
                print("| the same, the median ↓ | " + " | ".join(middles) + " |")
            if name == "elevation_error_deg":
                print("| one guess for all: the median of the truth's | " + " | ".join(map(constant_guess, reports.values())) + " |")
        for prefix, name, title, form in SHAPES:
            paths = {method: folder / f"{prefix}_{method}_{category}.json" for method in reports}
            found = {method: json.loads(path.read_text()) if path.is_file() else None for method, path in paths.items()}
            if not any(found.values()):
                continue
            cells = []
            for one in found.values():
                summary = one["summary"][name] if one else {}
                cells.append(_told(summary.get("mean"), summary.get("low"), summary.get("high"), form, 100.0))
            count = max(len(one["pairs"]) for one in found.values() if one)
            print(f"| {title} (first {count}) | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
