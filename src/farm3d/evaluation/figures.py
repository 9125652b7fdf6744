"""What is measured for each picture: one table of names, units, directions, and what a missing answer is worth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["FIGURES", "SHAPE_FIGURES", "Figure", "figure_format", "figure_of", "figure_title"]


@dataclass(frozen=True)
class Figure:
    """One number per picture.

    Attributes:
        title: as people read it.
        unit: printed after the title; empty for shares in [0, 1].
        higher_is_better: which way is better.
        worst: what a missing or broken answer is given, so that leaving out hard pictures never helps; None where no number is the
            worst (seconds, memory): such figures are means over the answers there are.
        digits: decimals in tables.
    """

    title: str
    unit: str
    higher_is_better: bool
    worst: float | None
    digits: int


FIGURES: dict[str, Figure] = {
    "iou": Figure("silhouette IoU", "", True, 0.0, 3),
    "boundary_f": Figure("boundary F", "", True, 0.0, 3),
    "rotation_error_deg": Figure("rotation error", "deg", False, 180.0, 1),
    "azimuth_error_deg": Figure("azimuth error", "deg", False, 180.0, 1),
    "elevation_error_deg": Figure("elevation error", "deg", False, 90.0, 1),
    "front_back_flip": Figure("front/back flips", "share", False, 1.0, 3),
    "left_right_flip": Figure("left/right flips", "share", False, 1.0, 3),
    "transfer_right": Figure("keypoints transferred right, by source", "share", True, 0.0, 3),
    "novel_psnr_db": Figure("novel views, PSNR", "dB", True, 0.0, 2),
    "novel_ssim": Figure("novel views, SSIM", "", True, 0.0, 3),
    "novel_psnr_scaled_db": Figure("novel views, PSNR after best single scale", "dB", True, 0.0, 2),
    "albedo_error": Figure("albedo error, as given", "linear RGB", False, 1.0, 3),
    "albedo_error_scaled": Figure("albedo error, best single scale", "linear RGB", False, 1.0, 3),
    "relit_psnr_db": Figure("relit, PSNR", "dB", True, 0.0, 2),
    "relit_psnr_scaled_db": Figure("relit, PSNR after best single scale", "dB", True, 0.0, 2),
    "seconds": Figure("run time", "s", False, None, 1),
    "peak_memory_mib": Figure("peak memory", "MiB", False, None, 0),
}

SHAPE_FIGURES: dict[str, Figure] = {
    "bidirectional_m": Figure("Animodel Chamfer", "m", False, None, 4),
    "bidirectional_scaled": Figure("Animodel Chamfer, unit cube", "", False, None, 4),
}
"""What :mod:`farm3d.evaluation.shape` measures for each pair of meshes, whose files have to be there."""


def figure_of(name: str) -> Figure:
    """Return a figure of either table."""
    return FIGURES[name] if name in FIGURES else SHAPE_FIGURES[name]


def figure_title(name: str) -> str:
    """Return a figure's title with its unit and an arrow toward better, for table heads."""
    figure = figure_of(name)
    unit = {"": "", "share": " (%)"}.get(figure.unit, f" ({figure.unit})")
    return f"{figure.title}{unit} {'↑' if figure.higher_is_better else '↓'}"


def figure_format(name: str, *, sign: bool = False) -> Callable[[float], str]:
    """Return what writes a figure's values in tables: shares as percent, everything with its decimals, and a sign if asked for."""
    figure = figure_of(name)
    factor, digits = (100, 1) if figure.unit == "share" else (1, figure.digits)
    return lambda value: f"{factor * value:{'+' if sign else ''}.{digits}f}"
