"""Draw how trainings went: the figures of their logs over steps and over hours, one PNG.

    python tools/learning_curve.py state/horse state/cow --to docs/pictures/training/learning-curves.png

Logs are the ``log.jsonl`` of `farm3d train` or of `farm3d prior train`, or the state folders that hold them; ``NAME=PLACE`` gives one
another name than its folder's. One row a figure, one colour a log: thin is every line of the log, thick the mean of its neighbours.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from farm3d.core.errors import Farm3DError, InputError, MissingPartError
from farm3d.core.files import whole_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS: dict[str, tuple[str, ...]] = {  # caption: fields of the log
    "outline IoU,\ntraining pictures ↑": ("iou",),
    "feature loss ↓": ("feature",),
    "loss, all terms\nat their weights ↓": ("loss",),
    "velocity error,\ntraining pictures ↓": ("velocity",),
    "velocity error,\nheld-out animals ↓": ("v0.2", "v0.4", "v0.6", "v0.8", "v0.9"),
}
COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb")
STYLES = ("-", "--", "-.", ":", (0, (1, 4)))
SMOOTH = 0.02  # of a curve's points: how many to each side count in the mean that is drawn thick


@dataclass(frozen=True)
class Log:
    """A training's log: ``curves`` by field, each ``[N, 3]``: step, hours, value."""

    name: str
    curves: dict[str, np.ndarray]


def read_log(words: str) -> Log:
    """Read a log by its place, or by ``NAME=PLACE``. A last line that a kill cut short is left out; one without hours has those before it.

    Raises:
        InputError: there is none, or it is no log of a training.
    """
    name, _, place = words.rpartition("=")
    path = Path(place) / "log.jsonl" if Path(place).is_dir() else Path(place)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a training log", hint="give a training's --state folder, or its log.jsonl") from error
    points: dict[str, list[tuple[float, float, float]]] = {}
    hours = None
    for number, line in enumerate(lines, start=1):
        figures = _figures(line)
        if figures is None and 1 < number == len(lines):
            break
        if figures is None:
            raise InputError(f"{path}: line {number} is no line of a training log", hint='expected {"step": N, "NAME": NUMBER, ...}')
        step, hours = figures.pop("step"), figures.pop("hours", hours)
        for field, value in figures.items():
            points.setdefault(field, []).append((step, hours or 0.0, value))
    if hours is None:
        raise InputError(f"{path}: no line says how many hours the training took", hint="give the log.jsonl of a --state folder")
    return Log(name or path.absolute().parent.name, {field: np.array(curve) for field, curve in points.items()})


def _figures(line: str) -> dict[str, float] | None:
    """Return a line's numbers by name, or None if it is none of a log's."""
    try:
        values: Any = json.loads(line)
    except ValueError:
        return None
    if not isinstance(values, dict):
        return None
    figures = {name: float(value) for name, value in values.items() if isinstance(value, int | float) and not isinstance(value, bool)}
    if values.get("phase") == "validation":  # of encoder and decoder, not of outlines that were learned
        figures = {f"decoded {name}" if name in ("iou", "psnr") else name: value for name, value in figures.items()}
    return figures if "step" in figures and all(map(math.isfinite, figures.values())) else None


def panels_of(logs: Sequence[Log], asked: Sequence[str] | None) -> dict[str, tuple[str, ...]]:
    """Return captions and fields of the panels: those that were asked for, else those of :data:`PANELS` that some log has.

    Raises:
        InputError: two logs of one name, or a figure that no log has.
    """
    if len({log.name for log in logs}) < len(logs):
        raise InputError(f"two logs of one name: {', '.join(log.name for log in logs)}", hint="name them: NAME=PLACE")
    there = list(dict.fromkeys(field for log in logs for field in log.curves))
    for field in asked or ():
        if field not in there:
            raise InputError(f"--figures {field}: in none of the logs", hint=f"there are {', '.join(there)}")
    if asked:
        captions = {fields: caption for caption, fields in PANELS.items()}
        return {captions.get((field,), field): (field,) for field in dict.fromkeys(asked)}
    known = {caption: tuple(field for field in fields if field in there) for caption, fields in PANELS.items()}
    if not any(known.values()):
        raise InputError(f"none of the usual figures is in {', '.join(log.name for log in logs)}", hint=f"--figures of {', '.join(there)}")
    return {caption: fields for caption, fields in known.items() if fields}


def draw(logs: Sequence[Log], panels: dict[str, tuple[str, ...]]) -> Figure:
    """Return the page: a row a panel, over steps on the left and over hours on the right.

    Raises:
        MissingPartError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter
    except ImportError as error:
        raise MissingPartError("curves need matplotlib", hint="pip install 'farm3d[evaluate]'") from error
    page = Figure(figsize=(11, 0.4 + 2.5 * len(panels)), layout="constrained")
    grid = page.subplots(len(panels), 2, squeeze=False, sharey="row", sharex="col")
    for row, (caption, fields) in zip(grid, panels.items(), strict=True):
        for column, axes in enumerate(row):
            for index, log in enumerate(logs):
                _draw_log(axes, log, fields, column, COLOURS[index % len(COLOURS)])
            axes.grid(alpha=0.3)
        row[0].set_ylabel(caption, fontsize=8)
        if "loss" in fields and all((log.curves[field][:, 2] > 0).all() for log in logs for field in fields if field in log.curves):
            row[0].set_yscale("log")
            row[0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            row[0].yaxis.set_major_formatter(ScalarFormatter())
            row[0].yaxis.set_minor_formatter(NullFormatter())
        row[1].legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1.0))
    for axes, caption in zip(grid[-1], ("steps", "hours of training"), strict=True):
        axes.set_xlabel(caption)
    return page


def _draw_log(axes: Axes, log: Log, fields: tuple[str, ...], column: int, colour: str) -> None:
    for field, style in zip(fields, (STYLES[number % len(STYLES)] for number in range(len(fields))), strict=True):
        if (curve := log.curves.get(field)) is None:
            continue
        label = log.name if len(fields) == 1 else f"{log.name}, {field}"
        marker = "o" if len(curve) < 12 else None
        axes.plot(curve[:, column], smoothed(curve[:, 2]), color=colour, linestyle=style, linewidth=1.6, marker=marker, ms=3, label=label)
        axes.plot(curve[:, column], curve[:, 2], color=colour, linestyle=style, linewidth=0.5, alpha=0.4)


def smoothed(values: np.ndarray) -> np.ndarray:
    """Return the mean of each value and its neighbours, of fewer at both ends; ``[N]``."""
    half = int(SMOOTH * len(values))
    window = np.ones(2 * half + 1)
    sums, counts = (np.convolve(each, window)[half : half + len(values)] for each in (values, np.ones(len(values))))
    return sums / counts


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, or 2 after one line about what cannot be used."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("logs", nargs="+", metavar="[NAME=]PLACE", help="state folders of trainings, or their log.jsonl")
    parser.add_argument("--figures", nargs="+", metavar="NAME", help="fields of the logs to draw instead of the usual ones")
    parser.add_argument("--to", type=Path, required=True, metavar="FILE.png")
    options = parser.parse_args(words)
    try:
        if options.to.suffix.lower() != ".png":
            raise InputError(f"--to {options.to}: expected a name that ends in .png")
        logs = [read_log(words) for words in options.logs]
        page = draw(logs, panels_of(logs, options.figures))
        with whole_file(options.to) as part:
            page.savefig(part, dpi=100, format="png")
    except Farm3DError as error:
        print(f"learning_curve: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
