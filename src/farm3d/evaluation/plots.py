"""Pictures of a report: figures round the animal and by action, the spread of outlines, the best and the worst answers.

Needs matplotlib (extra ``evaluate``), imported when something is drawn; nothing touches its global state or a screen.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from farm3d.core.color import srgb_from_linear
from farm3d.core.errors import MissingPartError
from farm3d.core.files import whole_file
from farm3d.evaluation.figures import FIGURES
from farm3d.evaluation.pictures import novel_pictures
from farm3d.evaluation.predictions import ProductReader, read_prediction
from farm3d.evaluation.report import Report
from farm3d.evaluation.silhouette import silhouette
from farm3d.evaluation.truth import Truth, decode_truth, truth_members

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

__all__ = ["best_and_worst", "plot_actions", "plot_azimuths", "plot_contact_sheet", "plot_iou", "write_plots"]

_SHOWN = ("iou", "rotation_error_deg", "novel_psnr_db")
_BINS = 16
_SHEET_ROWS = 6
_OTHER_SIDE_DEG = 135.0
_TRUE, _OURS = "#00c853", "#ff00aa"


def write_plots(report: Report, folder: Path, truth: Path, predictions: Path, *, read_product: ProductReader | None = None) -> list[Path]:
    """Write every plot of a report into a folder as PNG, each whole or not at all, and return the paths.

    Args:
        truth, predictions: what the report was made from; the best and the worst answers are drawn again.
        read_product: reads GLB files.

    Raises:
        MissingPartError: matplotlib is not installed.
        OutputError: the folder cannot be written.
    """
    best, worst = best_and_worst(report)
    wanted = {*best, *worst}
    truths = {key: decode_truth(key, members) for key, members in truth_members(truth) if key in wanted}
    canvases = {"azimuth.png": plot_azimuths(report), "action.png": plot_actions(report), "iou.png": plot_iou(report)}
    for name, keys in (("best.png", best), ("worst.png", worst)):
        if keys:
            chosen = [truths[key] for key in keys]
            canvases[name] = plot_contact_sheet(report, chosen, predictions, read_product=read_product)
    paths = []
    for name, canvas in canvases.items():
        paths.append(Path(folder) / name)
        with whole_file(paths[-1]) as part:
            canvas.savefig(part, dpi=110)
    return paths


def best_and_worst(report: Report, *, rows: int = _SHEET_ROWS) -> tuple[list[str], list[str]]:
    """Return the keys with the highest and the lowest outline agreement, best first and worst first, answered or not."""
    order = sorted(report.samples, key=lambda sample: (-(sample["figures"].get("iou") or 0.0), sample["key"]))
    half = min(rows, len(order))
    return [sample["key"] for sample in order[:half]], [sample["key"] for sample in order[::-1][:half]]


def plot_azimuths(report: Report) -> Canvas:
    """Draw the mean of three figures against where the camera stands round the animal, as seen from above, face at the bottom."""
    canvas = _canvas(width=13, height=4.6, title=f"{report.method}: by the camera's azimuth round the animal")
    groups = report.by(lambda sample: int((sample["azimuth_deg"] % 360) // (360 / _BINS)), figures=_SHOWN)
    for place, name in enumerate(_SHOWN, 1):
        axes = canvas.add_subplot(1, len(_SHOWN), place, projection="polar")
        means = {number: summary[name].mean for number, summary in groups.items() if name in summary}
        angles = [math.radians((number + 0.5) * 360 / _BINS) for number in means]
        axes.bar(angles, list(means.values()), width=0.9 * 2 * math.pi / _BINS, color="#4477aa", alpha=0.85)
        axes.set_theta_zero_location("S")  # pyright: ignore[reportAttributeAccessIssue]
        axes.set_xticks([math.radians(angle) for angle in (0, 90, 180, 270)], ["face", "its left", "behind", "its right"])
        axes.tick_params(axis="x", pad=12)
        axes.set_ylim(0, _limit(name, means.values()))
        axes.set_title(_label(name), pad=14)
    return canvas


def plot_actions(report: Report) -> Canvas:
    """Draw the mean of three figures with their intervals for each action."""
    groups = report.by("action", figures=_SHOWN)
    canvas = _canvas(width=13, height=1.6 + 0.35 * len(groups), title=f"{report.method}: by action")
    rows = range(len(groups))
    for place, name in enumerate(_SHOWN, 1):
        axes = canvas.add_subplot(1, len(_SHOWN), place)
        for row, summary in zip(rows, groups.values(), strict=True):
            if name in summary:
                value = summary[name]
                reach = [[max(0.0, value.mean - value.low)], [max(0.0, value.high - value.mean)]]
                axes.barh(row, value.mean, xerr=reach, color="#4477aa", alpha=0.85, ecolor="#333333", capsize=2)
        axes.set_yticks(list(rows), [f"{action or 'unknown'}" for action in groups] if place == 1 else [""] * len(groups))
        axes.invert_yaxis()
        axes.set_xlim(0, _limit(name, (summary[name].high for summary in groups.values() if name in summary)))
        axes.set_xlabel(_label(name))
    return canvas


def plot_iou(report: Report) -> Canvas:
    """Draw how many pictures have which outline agreement; missing answers stand at 0."""
    canvas = _canvas(width=6.4, height=4.0, title=f"{report.method}: outlines")
    axes = canvas.add_subplot(1, 1, 1)
    values = [sample["figures"]["iou"] for sample in report.samples if sample["figures"].get("iou") is not None]
    axes.hist(values, bins=np.linspace(0, 1, 41).tolist(), color="#4477aa", alpha=0.85)
    if values:
        axes.axvline(float(np.median(values)), color="#333333", linestyle="--", label=f"median {np.median(values):.3f}")
        axes.legend()
    axes.set_xlabel(_label("iou"))
    axes.set_ylabel("pictures")
    return canvas


def plot_contact_sheet(report: Report, truths: Sequence[Truth], predictions: Path, *, read_product: ProductReader | None = None) -> Canvas:
    """Draw one row a picture: what went in, both outlines, and truth and answer from the other side (135 degrees on).

    Missing answers have empty places.
    """
    facts: Mapping[str, Mapping] = {sample["key"]: sample for sample in report.samples}
    canvas = _canvas(width=9.6, height=2.5 * len(truths) + 0.6, title=report.method)
    grid = canvas.subplots(len(truths), 4, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, title in zip(
        grid[0], ("picture", "outlines: truth green, answer pink", "truth, other side", "answer, other side"), strict=True
    ):
        axes.set_title(title, fontsize=8)
    for row, truth in zip(grid, truths, strict=True):
        row[0].imshow(truth.rgb)
        row[1].imshow(truth.rgb // 2 + 96)
        row[1].contour(truth.mask.numpy(), levels=[0.5], colors=_TRUE, linewidths=1.0)
        sample = facts[truth.key]
        answered = sample["failure"] is None
        figures = sample["figures"]
        words = f"IoU {figures['iou']:.3f}, rotation {figures['rotation_error_deg']:.0f}°" if answered else "no answer"
        row[0].text(0, -0.02, f"{truth.key}\n{words}", transform=row[0].transAxes, fontsize=7, va="top")
        prediction = read_prediction(predictions, truth.key, read_product=read_product) if answered else None
        if prediction is not None:
            height, width = truth.mask.shape
            drawn = silhouette(prediction, width_px=width, height_px=height)
            if bool((drawn > 0.5).any()):
                row[1].contour(drawn.numpy(), levels=[0.5], colors=_OURS, linewidths=1.0)
        ours, _, theirs, _ = novel_pictures(prediction or truth.animal, truth, turns_deg=[_OTHER_SIDE_DEG], size_px=192)
        row[2].imshow(_bytes(theirs[0]))
        if prediction is not None:
            row[3].imshow(_bytes(ours[0]))
    return canvas


def _canvas(*, width: float, height: float, title: str) -> Canvas:
    try:
        from matplotlib.figure import Figure as Canvas
    except ImportError as error:
        raise MissingPartError("plots need matplotlib", hint="pip install 'farm3d[evaluate]'") from error
    canvas = Canvas(figsize=(width, height), layout="constrained")
    canvas.suptitle(title)
    return canvas


def _limit(name: str, values: Iterable[float]) -> float:
    """Return where an axis that starts at 0 ends: at 1 for shares, else a little above the largest value."""
    return 1.0 if FIGURES[name].unit in ("", "share") else 1.05 * max([1.0, *values])


def _label(name: str) -> str:
    figure = FIGURES[name]
    return f"{figure.title} [{figure.unit}]" if figure.unit else figure.title


def _bytes(picture: torch.Tensor) -> np.ndarray:
    return (srgb_from_linear(picture) * 255).round().to(torch.uint8).numpy()
