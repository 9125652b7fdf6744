"""Settings that differ in one thing only stay apart, from the list to the means over faults."""

from __future__ import annotations

from farm3d.training.prior.judge.judge import RECOMMENDED, SETTINGS, _compared
from farm3d.training.prior.judge.mending import Setting


def test_weightings_are_compared_at_the_recommended_noise_and_guidance() -> None:
    there = {setting.weighting for setting in SETTINGS if (setting.levels, setting.guidance) == ((0.7, 0.85), 5.0)}
    assert there == {"1-alphabar", "uniform", "signal"} and RECOMMENDED in SETTINGS
    assert len({setting.name for setting in SETTINGS}) == len(set(SETTINGS)) == len(SETTINGS)
    for setting in SETTINGS:
        assert setting.options.weighting == setting.weighting and Setting.of_told(setting.told()) == setting


def test_means_over_faults_do_not_merge_weightings() -> None:
    ways = {"1-alphabar": (0.5, 0.7), "uniform": (1.5, 0.5), "signal": (0.0, -0.2)}
    faults = {
        fault: {"by_number": [{**Setting((0.7, 0.85), 5.0, name).told(), "way_back": {"cow": way[i]}} for name, way in ways.items()]}
        for i, fault in enumerate(("short-legs", "thin-body"))
    }
    rows = _compared(faults)
    assert [row["weighting"] for row in rows] == list(ways) and {row["n"] for row in rows} == {2}
    assert [round(row["way_back"], 6) for row in rows] == [0.6, 1.0, -0.1]
    assert [round(row["missed"], 6) for row in rows] == [0.4, 0.5, 1.1]
