"""Plots of a verdict: the gradient over the value of each fault, and animals before and after. Needs matplotlib (extra ``evaluate``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image, ImageDraw

from farm3d.core.errors import MissingPartError
from farm3d.core.files import whole_file
from farm3d.core.shapes import Tensor
from farm3d.training.prior.judge.faults import Case
from farm3d.training.prior.judge.freeform import Freed
from farm3d.training.prior.judge.mending import Mended
from farm3d.training.prior.judge.slopes import GUIDANCES, RANGES
from farm3d.training.prior.judge.stage import Shot, shoot

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_slopes", "require_plots", "write_before_and_after"]

_COLOURS = dict(zip(GUIDANCES, ("#88aacc", "#4477aa", "#aa3355"), strict=True))
_SHOWN_DEG = (65.0, 150.0)
_PX, _LABEL_PX = 128, 14


def require_plots() -> type[Figure]:
    """Return matplotlib's figure.

    Raises:
        MissingPartError: it is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingPartError("plots need matplotlib", hint="pip install 'farm3d[evaluate]'") from error
    return Figure


def plot_slopes(faults: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Draw a row of axes for each fault, one for each noise range: the change that the model asks for, over the value, by guidance."""
    figure = require_plots()(figsize=(3.4 * len(RANGES), 2.5 * len(faults)), layout="constrained")
    grid = figure.subplots(len(faults), len(RANGES), squeeze=False, sharex=True)
    for row, (fault, told) in zip(grid, faults.items(), strict=True):
        gradient = told["gradient"]
        for axes, levels in zip(row, RANGES, strict=True):
            axes.axhline(0, color="#999999", linewidth=0.8)
            axes.axvline(0, color="#999999", linewidth=0.8, linestyle=":")
            for line in gradient["rows"]:
                if tuple(line["levels"]) == levels:
                    guidance = line["guidance"]
                    axes.errorbar(
                        gradient["values"],
                        line["move"],
                        yerr=line["error"],
                        color=_COLOURS[guidance],
                        label=f"guidance {guidance:g}",
                        capsize=2,
                    )
            axes.set_title(f"{fault}, t {levels[0]:g}–{levels[1]:g}", fontsize=9)
        row[0].set_ylabel("change asked for")
    for axes in grid[-1]:
        axes.set_xlabel("value (0 right, 1 the fault)")
    grid[0][0].legend(fontsize=7)
    with whole_file(path) as part:
        figure.savefig(part, dpi=100)


@torch.no_grad()
def write_before_and_after(path: Path, shown: Sequence[tuple[Case, Mended, Freed | None]]) -> None:
    """Write a row for each animal: right, wrong, mended by one number, mended by free form, from two sides."""
    titles = ("right", "wrong", "by one number", "free form")
    width = len(titles) * len(_SHOWN_DEG) * _PX
    sheet = Image.new("RGB", (width, len(shown) * (_PX + _LABEL_PX)), "white")
    pen = ImageDraw.Draw(sheet)
    for row, (case, mended, freed) in enumerate(shown):
        top = row * (_PX + _LABEL_PX)
        notes = ("", "", *("" if run is None else f" {100 * run.way_back:.0f} %" for run in (mended, freed)))
        for column, (surface, albedo) in enumerate(_states(case, mended, freed)):
            shots = [Shot(azimuth, 8.0, 5, 0) for azimuth in _SHOWN_DEG]
            count = len(shots)
            rgb, _ = shoot(surface.expand(count, -1, -1), albedo[None], case.individual.faces, shots, size_px=_PX, supersample=2)
            left = column * len(_SHOWN_DEG) * _PX
            pen.text((left + 2, top + 1), f"{titles[column]}{notes[column]}: {case.words}"[:40], fill="black")
            for place, picture in enumerate(rgb):
                data = (picture.permute(1, 2, 0).clamp(0, 1) * 255).round().byte().numpy()
                sheet.paste(Image.fromarray(data), (left + place * _PX, top + _LABEL_PX))
    with whole_file(path) as part:
        sheet.save(part, "PNG")


def _states(case: Case, mended: Mended, freed: Freed | None) -> list[tuple[Tensor, Tensor]]:
    right, wrong = (case.right_albedo, case.wrong_albedo) if case.is_coat else (case.stances[0].right, case.stances[0].wrong)
    values = [right, wrong, torch.lerp(right, wrong, mended.value), *([] if freed is None else [freed.values])]
    if case.is_coat:
        return [(case.stances[0].right, albedo.clamp(0, 1)) for albedo in values]
    return [(surface, case.right_albedo) for surface in values]
