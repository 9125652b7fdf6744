"""Reports and their comparison: tables say what the samples hold, and a difference is called one only beyond noise."""

from __future__ import annotations

import json
from typing import Any

import pytest

from farm3d.core.errors import InputError
from farm3d.core.random import numpy_generator
from farm3d.evaluation.circumstances import circumstances
from farm3d.evaluation.comparison import compare
from farm3d.evaluation.figures import FIGURES, figure_format, figure_title
from farm3d.evaluation.report import Report


def report(method: str, *, gain: float = 0.0, count: int = 48, start: int = 0, failed: int = 0, noise: float = 0.02) -> Report:
    """Return a report on pictures whose difficulty is the same for every method, eight an individual."""
    samples: list[dict[str, Any]] = []
    for number in range(start, start + count):
        hard = float(numpy_generator(number, "hard").normal(0, 0.1))
        own = float(numpy_generator(number, "own", method).normal(0, noise))
        lost = number - start < failed
        iou = 0.0 if lost else min(1.0, max(0.0, 0.7 + hard + gain + own))
        turn = 180.0 if lost else 20 - 50 * gain + 100 * own
        samples.append(
            {
                "key": f"horse-{number:03d}",
                "individual": str(number // 8),
                "action": ("standing", "walking", "")[number % 3],
                "view_index": number % 8,
                "azimuth_deg": 45.0 * (number % 8),
                "failure": "no answer" if lost else None,
                "figures": {
                    "iou": iou,
                    "rotation_error_deg": turn,
                    "seconds": None if lost else 2.0,
                },
            }
        )
    return Report(method, "test", {"command": "farm3d evaluate barn"}, tuple(samples))


def test_every_figure_has_a_title_and_a_worst_value_on_the_bad_side() -> None:
    for name, figure in FIGURES.items():
        assert figure_title(name).endswith("↑" if figure.higher_is_better else "↓")
        assert figure.worst is None or (figure.worst == 0 if figure.higher_is_better else figure.worst > 0)
    assert figure_format("front_back_flip")(0.125) == "12.5" and figure_title("front_back_flip").startswith("front/back flips (%)")
    assert figure_format("iou", sign=True)(0.1234) == "+0.123"


def test_the_tables() -> None:
    text = report("ours", failed=3).to_markdown()
    assert text.startswith("# ours on test\n\n48 pictures, 3 without an answer.")
    assert "- horse-000: no answer" in text and "| run time (s) ↓ | 2.0 |" in text and "| 45 |" in text
    assert text.count("| walking | 16 |") == 1 and "| – | 16 |" in text  # pictures whose action is unknown


def test_missing_answers_count_and_can_be_left_out() -> None:
    some = report("ours", failed=6)
    assert some.summary()["iou"].n == 48 and some.summary(answered_only=True)["iou"].n == 42
    assert some.summary()["iou"].mean < some.summary(answered_only=True)["iou"].mean
    document = json.loads(some.to_json())
    assert document["summary_of_answers_only"]["iou"]["n"] == 42 and len(document["failures"]) == 6


def test_groups() -> None:
    groups = report("ours").by("view_index", figures=["iou"])
    assert list(groups) == list(range(8)) and all(list(summary) == ["iou"] and summary["iou"].n == 6 for summary in groups.values())


def test_a_clear_difference_and_none() -> None:
    ours, better, same = report("ours"), report("better", gain=0.06), report("same")
    found = compare(better, ours)
    assert found.differences["iou"].beyond_noise and found.verdict("iou") == "better is better"
    assert found.verdict("rotation_error_deg") == "better is better"  # lower there
    assert compare(ours, better).verdict("iou") == "better is better"
    assert compare(same, ours).verdict("iou") == "within noise"
    assert found.differences["iou"].groups == 6 and found.differences["seconds"].mean == 0
    assert "| silhouette IoU ↑ | +0.0" in found.to_markdown()


def test_only_common_pictures_are_compared() -> None:
    found = compare(report("a", start=0), report("b", start=16))
    assert (found.pictures, found.only_first, found.only_second) == (32, 16, 16)
    assert "Left out: 16 only in the first" in found.to_markdown()
    with pytest.raises(InputError, match="0 common pictures"):
        compare(report("a"), report("b", start=100))


def test_equal_names_of_different_pictures_are_refused() -> None:
    other = report("b")
    samples = tuple({**sample, "azimuth_deg": 1.0} for sample in other.samples)
    with pytest.raises(InputError, match="another picture in each report"):
        compare(report("a"), Report("b", "test", {}, samples))


def test_circumstances_name_no_place() -> None:
    facts = circumstances("farm3d evaluate barn --truth test")
    assert set(facts) == {"command", "date", "versions", "machine"} and facts["machine"]["cores"] >= 1
    assert {"farm3d", "python", "torch", "numpy", "scipy"} == set(facts["versions"])
    assert "/" not in json.dumps(facts["machine"])
