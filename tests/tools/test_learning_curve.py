"""``tools/learning_curve.py``: every figure of every log is drawn, over steps and over hours; bad logs are one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tools.learning_curve import COLOURS, draw, main, panels_of, read_log, smoothed

pytest.importorskip("matplotlib", reason="no matplotlib: the extra 'evaluate' is not installed")
LEVELS = ("v0.2", "v0.4", "v0.6", "v0.8", "v0.9")


def write(folder: Path, lines: list[Any]) -> Path:
    folder.mkdir()
    (folder / "log.jsonl").write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return folder


def category(folder: Path, *, lines: int = 60, worse: float = 0.0) -> Path:
    """A log as `farm3d train` writes it."""
    steps = [20 * number for number in range(1, lines + 1)]
    rows = [
        {"step": s, "iou": 0.8 - 50 / (s + 100) - worse, "feature": 0.7 + 20 / s, "loss": 40 / s + worse, "hours": s / 8e3} for s in steps
    ]
    return write(folder, rows)


def prior(folder: Path) -> Path:
    """A log as `farm3d prior train` writes it: validations have no hours, and an ``iou`` that is another thing."""
    rows: list[dict[str, Any]] = []
    for step in range(20, 821, 20):
        rows.append({"step": step, "phase": "denoiser", "velocity": 0.5 + 1 / step, "hours": step / 4e3})
        if step % 200 == 0:
            levels = {name: 0.2 + 0.1 * place - step / 1e5 for place, name in enumerate(LEVELS)}
            rows.append({"step": step, "phase": "validation", **levels, "psnr": 36.0, "iou": 0.98})
    return write(folder, rows)


def drawn(places: list[str]) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Return each labelled line of the page: its caption on the x axis or "", its points."""
    logs = [read_log(place) for place in places]
    page = draw(logs, panels_of(logs, None))
    lines = []
    for number, axes in enumerate(page.axes):
        assert axes.get_ylabel() or number % 2
        lines += [(str(line.get_label()), *map(np.asarray, line.get_data())) for line in axes.get_lines()]
    assert [axes.get_xlabel() for axes in page.axes[-2:]] == ["steps", "hours of training"]
    return lines


def test_every_figure_of_a_category_is_drawn_over_steps_and_hours(tmp_path: Path) -> None:
    places = [category(tmp_path / "horse"), category(tmp_path / "cow", lines=40, worse=0.1)]
    lines = drawn([str(place) for place in places])
    for place in places:
        rows = [json.loads(line) for line in (place / "log.jsonl").read_text().splitlines()]
        for along in ("step", "hours"):
            for figure in ("iou", "feature", "loss"):
                wanted = np.array([[row[along], row[figure]] for row in rows])
                assert any(np.array_equal(np.stack([x, y], 1), wanted) for _, x, y in lines), (place.name, along, figure)
                smooth = smoothed(wanted[:, 1])
                assert any(name == place.name and np.array_equal(y, smooth) and x[0] == wanted[0, 0] for name, x, y in lines)
    assert len(lines) == 2 * 3 * 2 * 2


def test_every_level_of_a_prior_is_drawn(tmp_path: Path) -> None:
    lines = drawn([f"second run={prior(tmp_path / 'state')}"])
    thick = {name: (x, y) for name, x, y in lines if name.startswith("second run")}
    assert set(thick) == {"second run", *(f"second run, {name}" for name in LEVELS)}
    hours, values = thick["second run, v0.6"]  # the last drawn: over hours, which are those of the line before
    assert hours.tolist() == [0.05, 0.1, 0.15, 0.2] and values == pytest.approx(0.4 - np.array([200, 400, 600, 800]) / 1e5)
    assert len(lines) == (1 + 5) * 2 * 2


def test_the_picture_shows_each_log(tmp_path: Path) -> None:
    places = [str(category(tmp_path / name, worse=0.05 * number)) for number, name in enumerate(("a", "b", "c"))]
    to = tmp_path / "new" / "curves.png"
    assert main([*places, "--to", str(to)]) == 0
    with Image.open(to) as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3).astype(int)
    for colour in COLOURS[:3]:
        wanted = [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
        assert (np.abs(pixels - wanted).max(1) < 12).sum() > 500
    assert main([*places, "--figures", "loss", "--to", str(to)]) == 0
    with Image.open(to) as less:
        assert less.height < 400


def test_the_mean_of_neighbours_keeps_what_is_straight() -> None:
    values = np.linspace(0, 1, 200)
    assert np.allclose(smoothed(values)[4:-4], values[4:-4]) and smoothed(values)[0] == pytest.approx(values[:5].mean())
    assert np.array_equal(smoothed(values[:5]), values[:5])


def test_a_last_line_that_a_kill_cut_short_is_left_out(tmp_path: Path) -> None:
    folder = category(tmp_path / "cut", lines=3)
    with (folder / "log.jsonl").open("a") as file:
        file.write('{"step": 80, "iou": 0.')
    assert len(read_log(str(folder)).curves["iou"]) == 3


@pytest.mark.parametrize(
    ("make", "more", "words"),
    [
        (lambda folder: folder, [], "cannot be read as a training log"),
        (lambda folder: write(folder, []), [], "no line says how many hours"),
        (lambda folder: write(folder, ["step,iou", "1,2"]), [], "line 1 is no line of a training log"),
        (lambda folder: write(folder, [{"step": 1, "iou": 0.1, "hours": 0.1}, {"iou": 0.2}, {"step": 3}]), [], "line 2 is no line"),
        (lambda folder: write(folder, ['{"step": NaN, "hours": 0}']), [], "line 1 is no line"),
        (lambda folder: write(folder, [{"step": 1, "iou": 0.1}]), [], "no line says how many hours"),
        (lambda folder: write(folder, [{"step": 1, "hours": 0.1, "wings": 2}]), [], "none of the usual figures"),
        (category, ["--figures", "wings"], "--figures wings: in none of the logs"),
        (category, ["--to", "curves.jpg"], "--to curves.jpg: expected a name that ends in .png"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(
    make: Callable[[Path], Path], more: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place, to = make(tmp_path / "state"), tmp_path / "curves.png"
    assert main([str(place), "--to", str(to), *more]) == 2
    told = capsys.readouterr().err
    assert words in told and told.count("\n") == 1 and not to.exists()


def test_two_logs_of_one_name_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = category(tmp_path / "horse")
    assert main([str(place), f"horse={place}", "--to", str(tmp_path / "curves.png")]) == 2
    assert "two logs of one name: horse, horse (name them: NAME=PLACE)" in capsys.readouterr().err
    assert main([str(place), f"again={place / 'log.jsonl'}", "--to", str(tmp_path / "curves.png")]) == 0
