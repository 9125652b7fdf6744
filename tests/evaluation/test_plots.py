"""Plots of a real report: every file is a picture with something in it, and sheets show the right samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.testing.truths import truth_folder

from farm3d.core.errors import MissingPartError
from farm3d.evaluation.baselines import truths
from farm3d.evaluation.plots import best_and_worst, plot_iou, write_plots
from farm3d.evaluation.referee import Settings, evaluate
from farm3d.evaluation.report import Report

pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'farm3d[evaluate]'")


def test_every_plot_is_written(tmp_path: Path) -> None:
    truth, out = truth_folder(tmp_path / "test", count=4), tmp_path / "answers"
    list(truths(truth, out))
    (out / "horse-test-000002.json").unlink()
    report = evaluate(truth, out, settings=Settings(novel_views=0, pairs=0))
    best, worst = best_and_worst(report)
    assert worst[0] == best[-1] == "horse-test-000002" and set(best) == set(worst) and len(best) == 4
    paths = write_plots(report, tmp_path / "plots", truth, out)
    assert [path.name for path in paths] == ["azimuth.png", "action.png", "iou.png", "best.png", "worst.png"]
    for path in paths:
        with Image.open(path) as picture:
            assert min(picture.size) > 200 and np.asarray(picture.convert("L")).std() > 10, path.name
    pink = np.array([255, 0, 170])
    with Image.open(tmp_path / "plots" / "best.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    assert (np.abs(pixels - pink).sum(-1) < 60).sum() > 100  # the answer's outline lies on the truth's


def test_an_empty_report_can_be_drawn() -> None:
    assert plot_iou(Report("none", "test", {}, ())) is not None


def test_without_matplotlib_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingPartError, match="plots need matplotlib"):
        plot_iou(Report("none", "test", {}, ()))
