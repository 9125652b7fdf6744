"""Several processes make what one makes, and stop together, leaving nothing half done."""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from tests.testing.samples import (
    contents,
    draw,
    environment,
    fatal_draw,
    logged_draw,
    make_broken_draw,
    make_careless_draw,
    plain_draw,
    plan_of,
)

from farm3d.core.errors import Cancelled, InputError, OutputError
from farm3d.core.shard_check import check_shards
from farm3d.core.shard_workers import write_shards_in_parallel
from farm3d.core.shards import ShardReport, write_shards

PLAN = plan_of(count=22)


@pytest.fixture
def whole(tmp_path: Path) -> dict[str, bytes]:
    write_shards(tmp_path / "alone", PLAN, draw)
    return contents(tmp_path / "alone")


def test_two_processes_make_what_one_makes_and_tell(tmp_path: Path, whole: dict[str, bytes]) -> None:
    told: list[tuple[int, int]] = []
    found: list[int] = []
    make_draw = functools.partial(logged_draw, tmp_path / "log")
    report = write_shards_in_parallel(
        tmp_path / "set", PLAN, make_draw, workers=2, on_start=found.append, on_progress=lambda *step: told.append(step)
    )
    assert report == ShardReport(made=6, kept=0) and found == [0]
    assert contents(tmp_path / "set") == whole
    assert told == [(number, 22) for number in range(1, 23)]
    assert sorted(map(int, (tmp_path / "log").read_text().split())) == list(range(22))
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "set").iterdir()}
    again = write_shards_in_parallel(tmp_path / "set", PLAN, make_draw, workers=2, on_start=found.append)
    assert again == ShardReport(made=0, kept=6) and found == [0, 22]
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "set").iterdir()} == before


def test_ctrl_c_is_for_the_first_process_to_act_on(tmp_path: Path, whole: dict[str, bytes]) -> None:
    """A terminal sends it to all: those that work wait to be told, or they would be interrupted twice while they tidy up."""
    reached: list[int] = []

    def interrupt(done: int, total: int) -> None:
        for child in multiprocessing.active_children() if done in (3, 4) else []:
            assert child.pid is not None
            os.kill(child.pid, signal.SIGINT)
            reached.append(child.pid)

    report = write_shards_in_parallel(tmp_path / "set", PLAN, plain_draw, workers=2, on_progress=interrupt)
    assert report == ShardReport(made=6, kept=0) and reached
    assert contents(tmp_path / "set") == whole


def test_the_others_take_over_from_one_that_is_killed(tmp_path: Path, whole: dict[str, bytes]) -> None:
    make_draw = functools.partial(fatal_draw, tmp_path / "marker")
    report = write_shards_in_parallel(tmp_path / "set", PLAN, make_draw, workers=2)
    assert (tmp_path / "marker").exists() and report.kept + report.made == 6
    assert contents(tmp_path / "set") == whole


def test_all_killed(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="1 shards are not finished: 1 of 1 processes were ended") as caught:
        write_shards_in_parallel(tmp_path / "set", plan_of(count=3), fatal_draw, workers=2)
    assert "finished shards are kept" in caught.value.hint
    assert list(contents(tmp_path / "set")) == ["horse-train.plan.json"]


def test_an_error_in_one_stops_all_and_says_where(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="ZeroDivisionError: sample") as caught:
        write_shards_in_parallel(tmp_path / "set", PLAN, make_broken_draw, workers=2)
    assert "broken_draw" in caught.value.__notes__[0]
    assert list(contents(tmp_path / "set")) == ["horse-train.plan.json"]


def test_one_that_ends_before_it_has_tidied_up_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="ZeroDivisionError: sample 0"):
        write_shards_in_parallel(tmp_path / "set", PLAN, functools.partial(make_careless_draw, tmp_path / "started"), workers=2)
    assert (tmp_path / "started").exists()
    assert list(contents(tmp_path / "set")) == ["horse-train.plan.json"]


def test_a_full_disk_in_the_processes(tmp_path: Path, full_disk: None) -> None:
    with pytest.raises(OutputError, match="cannot write") as caught:
        write_shards_in_parallel(tmp_path / "set", PLAN, plain_draw, workers=2)
    assert caught.value.hint and list(contents(tmp_path / "set")) == ["horse-train.plan.json"]


def test_stopped_by_the_caller_also_outside_the_main_thread(tmp_path: Path, whole: dict[str, bytes]) -> None:
    stopped: list[str] = []

    def stop(done: int, total: int) -> None:
        if done == 9:
            raise Cancelled("enough")

    def work() -> None:
        try:
            write_shards_in_parallel(tmp_path / "set", PLAN, plain_draw, workers=1, on_progress=stop)
        except Cancelled as error:
            stopped.append(error.message)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert stopped == ["enough"]
    assert contents(tmp_path / "set").items() <= whole.items()


@pytest.mark.parametrize("how", ["ctrl-c", "terminate", "kill"])
def test_interrupted_from_outside(tmp_path: Path, how: str) -> None:
    """Ctrl-C reaches every process of a terminal, SIGTERM and SIGKILL only the first."""
    program = """
import functools, signal, sys
from pathlib import Path
from farm3d.core.shard_workers import write_shards_in_parallel
from tests.testing.samples import logged_draw, plan_of

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    folder = Path(sys.argv[1])
    make_draw = functools.partial(logged_draw, folder.with_name("log"), 0.01)
    plan = plan_of(count=20_000, per_shard=5)
    write_shards_in_parallel(folder, plan, make_draw, workers=2, on_progress=lambda *step: print(*step, flush=True))
"""
    (tmp_path / "program.py").write_text(program)
    folder = tmp_path / "set"
    process = subprocess.Popen(
        [sys.executable, tmp_path / "program.py", folder],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=environment(),
    )
    assert process.stdout is not None
    for _ in range(15):
        assert process.stdout.readline()
    if how == "ctrl-c":
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGTERM if how == "terminate" else signal.SIGKILL)
    _, complaint = process.communicate()  # returns when the last process has closed its streams
    assert process.returncode == {"ctrl-c": -signal.SIGINT, "terminate": 143, "kill": -signal.SIGKILL}[how], complaint
    assert complaint.count("Traceback") == (how == "ctrl-c"), complaint
    drawn = (tmp_path / "log").read_text()
    time.sleep(0.1)
    assert (tmp_path / "log").read_text() == drawn, "somebody still draws"
    lines = [line for line in check_shards(folder) if "not made yet" not in line]
    assert lines == []
    assert len(list(folder.glob("*.tar"))) >= 1 and list(folder.glob(".*")) == []


def test_at_least_one_worker(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least 1"):
        write_shards_in_parallel(tmp_path, PLAN, plain_draw, workers=0)
