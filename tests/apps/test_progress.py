"""The time left is reckoned from what came since the run began."""

from __future__ import annotations

import pytest

from farm3d.apps import progress as module
from farm3d.apps.progress import Pace, progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    return now


def test_what_was_there_before_does_not_count(clock: list[float]) -> None:
    pace = Pace()
    pace.found(900)
    assert pace.made == 0 and pace.left(1000) == "" and pace.per_second == 0
    clock[0] += 10
    pace.update(901)
    assert pace.made == 1 and pace.per_second == pytest.approx(0.1) and pace.left(1000) == "about 16.5 min left"
    clock[0] += 1
    pace.update(910)
    assert pace.made == 10 and pace.left(1000) == "about 99 s left" and pace.left(910) == ""
    assert pace.left(100_000) == "about 30.3 h left"


def test_a_first_report_of_a_whole_shard_counts_in_full(clock: list[float]) -> None:
    pace = Pace()
    pace.found(400)
    clock[0] += 20
    pace.update(440)  # forty at once, as Ray tells them
    assert pace.made == 40 and pace.per_second == pytest.approx(2) and pace.left(1000) == "about 4.7 min left"


def test_what_others_made_meanwhile_does_not_count(clock: list[float]) -> None:
    pace = Pace()
    pace.found(0)
    clock[0] += 10
    pace.update(40)
    pace.found(80)  # after waiting for another worker's shard
    pace.update(81)
    assert pace.made == 41 and pace.per_second == pytest.approx(4.1)


def test_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("[b] sheep") as advance:
        advance(5, 6)
        advance(6, 6)
    told = capsys.readouterr().err.strip().splitlines()
    assert told[0].startswith("[b] sheep: 5 of 6, ") and told[-1].startswith("[b] sheep: 6 of 6, ") and "left" not in told[-1]
