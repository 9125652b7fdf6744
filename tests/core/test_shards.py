"""Shards are equal for equal plans, however often the writer was killed and however many wrote; and each sample is drawn once."""

from __future__ import annotations

import dataclasses
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.testing.samples import contents, draw, environment, logged_draw, plan_of

from farm3d.core import claims, shards
from farm3d.core.errors import Cancelled, InputError, OutputError
from farm3d.core.files import sha256_of, write_whole
from farm3d.core.shard_check import check_shards
from farm3d.core.shard_plan import read_manifest
from farm3d.core.shards import ShardPlan, ShardReport, write_shards

PLAN = plan_of()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What an undisturbed run of ``PLAN`` writes."""
    folder = tmp_path_factory.mktemp("whole")
    assert write_shards(folder, PLAN, draw) == ShardReport(made=3, kept=0)
    return contents(folder)


def not_drawn(number: int) -> tuple[str, Mapping[str, bytes]]:
    raise AssertionError(f"sample {number} was drawn though its shard is finished")


def run(folder: Path, program: str) -> subprocess.Popen[str]:
    """Start a process that has ``folder``, ``write_shards`` and the samples; talk to it through its standard streams."""
    head = (
        "import os, signal, sys; from pathlib import Path\n"
        "from farm3d.core.shards import write_shards; from tests.testing.samples import draw, logged_draw, plan_of\n"
        "folder = Path(sys.argv[1])\n"
    )
    command = [sys.executable, "-c", head + program, str(folder)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment())


# --- equal bytes ----------------------------------------------------------------------------------------------------------------


def test_the_files_of_a_data_set(whole: dict[str, bytes]) -> None:
    shards = [f"horse-train-{shard:06d}.{ending}" for shard in range(3) for ending in ("json", "tar")]
    assert list(whole) == [*shards, "horse-train.plan.json"]


def test_equal_plans_equal_bytes(tmp_path: Path, whole: dict[str, bytes]) -> None:
    write_shards(tmp_path, plan_of(), draw)
    assert contents(tmp_path) == whole


def test_the_order_of_members_does_not_matter(tmp_path: Path, whole: dict[str, bytes]) -> None:
    def reordered(number: int) -> tuple[str, dict[str, bytes]]:
        key, members = draw(number)
        return key, dict(reversed(members.items()))

    write_shards(tmp_path, PLAN, reordered)
    assert contents(tmp_path) == whole


def test_the_manifest_vouches_for_the_tar(tmp_path: Path) -> None:
    write_shards(tmp_path, PLAN, draw)
    manifest = read_manifest(tmp_path / "horse-train-000002.json")
    tar = tmp_path / "horse-train-000002.tar"
    assert (manifest.plan, manifest.shard, manifest.first) == (PLAN.digest, 2, 8)
    assert (manifest.size, manifest.sha256) == (tar.stat().st_size, sha256_of(tar))
    assert [row.key for row in manifest.rows] == [draw(number)[0] for number in (8, 9, 10)]
    assert manifest.rows[1].offset == manifest.rows[0].size


# --- going on ---------------------------------------------------------------------------------------------------------------------


def test_a_finished_data_set_is_not_touched(tmp_path: Path) -> None:
    write_shards(tmp_path, PLAN, draw)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    folder_before = tmp_path.stat().st_mtime_ns
    assert write_shards(tmp_path, PLAN, not_drawn) == ShardReport(made=0, kept=3)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
    assert tmp_path.stat().st_mtime_ns == folder_before


def test_what_was_damaged_is_made_anew_and_nothing_else(tmp_path: Path, whole: dict[str, bytes]) -> None:
    write_shards(tmp_path, PLAN, draw)
    chance = random.Random(0)
    for name in [name for name in whole if "plan" not in name]:
        for how in ("flip", "cut", "gone"):
            path = tmp_path / name
            data = bytearray(path.read_bytes())
            data[chance.randrange(len(data))] ^= 1
            path.write_bytes(data if how == "flip" else data[: len(data) // 2])
            if how == "gone":
                path.unlink()
            numbers: list[int] = []
            write_shards(tmp_path, PLAN, lambda number, seen=numbers: (seen.append(number), draw(number))[1])
            assert contents(tmp_path) == whole
            assert numbers == list(PLAN.samples(int(name.split(".")[0].rsplit("-", 1)[1])))


def test_a_data_set_can_grow_and_not_shrink(tmp_path: Path, whole: dict[str, bytes]) -> None:
    write_shards(tmp_path, plan_of(count=6), draw)
    first = (tmp_path / "horse-train-000000.tar").stat().st_mtime_ns
    found: list[int] = []
    assert write_shards(tmp_path, PLAN, draw, on_start=found.append) == ShardReport(made=2, kept=1) and found == [4]
    assert contents(tmp_path) == whole
    assert (tmp_path / "horse-train-000000.tar").stat().st_mtime_ns == first
    with pytest.raises(InputError, match="count is 11 there and 6 here: a data set can grow but not shrink"):
        write_shards(tmp_path, plan_of(count=6), not_drawn)
    assert contents(tmp_path) == whole


def test_growing_keeps_what_is_there_until_it_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no manifest ever stands beside a tar that it does not vouch for."""
    write_shards(tmp_path, plan_of(count=6), draw)
    before = contents(tmp_path)
    with pytest.raises(AssertionError):
        write_shards(tmp_path, PLAN, not_drawn)
    before["horse-train.plan.json"] = PLAN.to_text().encode()
    assert contents(tmp_path) == before
    replace, without = os.replace, []

    def watched(source: Path, target: Path) -> None:
        without.append(target.with_suffix(".json").exists())
        replace(source, target)

    monkeypatch.setattr(os, "replace", watched)
    write_shards(tmp_path, PLAN, draw)
    assert without == [False] * 4


def test_another_recipe_is_refused(tmp_path: Path, whole: dict[str, bytes]) -> None:
    write_shards(tmp_path, PLAN, draw)
    with pytest.raises(
        InputError, match=r"horse-train\.plan\.json: another data set .*: fingerprint\.seed is 0 there and 1 here"
    ) as caught:
        write_shards(tmp_path, plan_of(seed=1), not_drawn)
    assert "choose another folder or name" in caught.value.hint
    with pytest.raises(InputError, match=r"fingerprint\.a is absent there and 1 here; .* and 1 more"):
        write_shards(tmp_path, plan_of(per_shard=1, seed=1, a=1, b=2), not_drawn)
    assert contents(tmp_path) == whole


def test_a_damaged_plan_is_refused_and_a_lost_one_comes_back(tmp_path: Path, whole: dict[str, bytes]) -> None:
    write_shards(tmp_path, PLAN, draw)
    plan = tmp_path / "horse-train.plan.json"
    plan.write_bytes(whole[plan.name].replace(b'"seed": 0', b'"seed": 1'))
    with pytest.raises(InputError, match=r"plan\.json: damaged or edited") as caught:
        write_shards(tmp_path, PLAN, not_drawn)
    assert "delete it" in caught.value.hint
    plan.unlink()
    assert write_shards(tmp_path, PLAN, not_drawn).kept == 3
    assert contents(tmp_path) == whole


def test_shards_of_a_lost_plan_of_another_recipe_are_made_anew(tmp_path: Path, whole: dict[str, bytes]) -> None:
    write_shards(tmp_path, plan_of(seed=1), draw)
    (tmp_path / "horse-train.plan.json").unlink()
    assert write_shards(tmp_path, PLAN, draw).made == 3
    assert contents(tmp_path) == whole


def test_two_data_sets_in_one_folder(tmp_path: Path, whole: dict[str, bytes]) -> None:
    cow = dataclasses.replace(PLAN, name="horse", count=3)  # one name begins as the other
    write_shards(tmp_path, cow, draw)
    write_shards(tmp_path, PLAN, draw)
    assert whole.items() <= contents(tmp_path).items() and len(contents(tmp_path)) == len(whole) + 3


def test_progress_counts_what_was_there(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    write_shards(tmp_path, PLAN, draw, part="2/3", on_progress=lambda *step: told.append(step))
    assert told == [(number, 4) for number in range(1, 5)]
    told.clear()
    write_shards(tmp_path, PLAN, draw, on_progress=lambda *step: told.append(step))
    assert told == [(number, 11) for number in range(5, 12)]


# --- being stopped ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [Cancelled("enough"), KeyboardInterrupt(), BrokenPipeError(32, "Broken pipe"), ZeroDivisionError()])
@pytest.mark.parametrize("where", ["draw", "on_progress"])
def test_an_error_of_the_caller_comes_out_as_it_is(tmp_path: Path, error: BaseException, where: str, whole: dict[str, bytes]) -> None:
    def fail(number: int) -> None:
        if number == 6:
            raise error

    def failing_draw(number: int) -> tuple[str, dict[str, bytes]]:
        fail(number if where == "draw" else 0)
        return draw(number)

    with pytest.raises(type(error)) as caught:
        write_shards(tmp_path, PLAN, failing_draw, on_progress=lambda done, total: fail(done if where == "on_progress" else 0))
    assert caught.value is error
    assert sorted(contents(tmp_path)) == ["horse-train-000000.json", "horse-train-000000.tar", "horse-train.plan.json"]
    write_shards(tmp_path, PLAN, draw)
    assert contents(tmp_path) == whole


@pytest.mark.parametrize("moment", range(14))
def test_killed_at_each_renaming_and_gone_on(tmp_path: Path, moment: int, whole: dict[str, bytes]) -> None:
    """A plan, three tars and three manifests: killed just before and just after each of the seven gets its name."""
    program = f"""
replace, steps = os.replace, iter(range(100))
def fatal(*names):
    if next(steps) == {moment}: os.kill(os.getpid(), signal.SIGKILL)
    replace(*names)
    if next(steps) == {moment}: os.kill(os.getpid(), signal.SIGKILL)
os.replace = fatal
write_shards(folder, plan_of(), draw)
"""
    with run(tmp_path, program) as process:
        assert process.wait() == -signal.SIGKILL
    for manifest in tmp_path.glob("horse-train-*.json"):
        assert sha256_of(manifest.with_suffix(".tar")) == read_manifest(manifest).sha256
    assert write_shards(tmp_path, PLAN, draw).kept == max(moment - 1, 0) // 4
    assert contents(tmp_path) == whole


def test_killed_at_any_moment_and_gone_on(tmp_path: Path) -> None:
    plan, chance = plan_of(count=60, per_shard=5), random.Random(0)
    write_shards(tmp_path / "whole", plan, draw)
    folder = tmp_path / "killed"
    program = "print(flush=True)\nwrite_shards(folder, plan_of(count=60, per_shard=5), logged_draw(folder.with_name('log'), 0.002))"
    for _ in range(7):
        with run(folder, program) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(chance.uniform(0, 0.06))
            process.kill()
    write_shards(folder, plan, draw)
    assert contents(folder) == contents(tmp_path / "whole")


@pytest.mark.parametrize("ending", ["tar", "json", "lock", "lock.held"])
def test_what_workers_of_other_machines_left_goes(tmp_path: Path, ending: str, whole: dict[str, bytes], monkeypatch) -> None:
    """Their process numbers say nothing here: one of them may be ours."""
    if ending == "lock.held":
        monkeypatch.setattr(claims, "fcntl", None)
    temporary = {f".{stem}.{os.getpid()}-abc.part.{ending}" for stem in ("horse-train-000001", "horse-train.plan")}
    left = temporary if ending in ("tar", "json") else {f".horse-train-000001.{ending}"}
    for name in left:
        (tmp_path / name).write_text("half")
        os.utime(tmp_path / name, (1, 1))
    (tmp_path / f".horse-000001.{os.getpid()}-abc.part.tar").write_text("of another data set")
    write_shards(tmp_path, PLAN, draw)
    rest = contents(tmp_path)
    assert rest.pop(f".horse-000001.{os.getpid()}-abc.part.tar")
    assert rest == whole


def test_a_full_disk(tmp_path: Path, full_disk: None) -> None:
    with pytest.raises(OutputError, match=r"horse-train-000000\.tar: cannot write") as caught:
        write_shards(tmp_path, PLAN, draw)
    assert caught.value.hint
    assert list(contents(tmp_path)) == ["horse-train.plan.json"]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OutputError, match="cannot write here"):
        write_shards(tmp_path / "file" / "set", PLAN, draw)


# --- several workers --------------------------------------------------------------------------------------------------------------------


def test_three_workers_draw_each_sample_once(tmp_path: Path) -> None:
    plan, folder = plan_of(count=120, per_shard=5), tmp_path / "set"
    write_shards(tmp_path / "alone", plan, draw)
    program = (
        "print(flush=True); sys.stdin.readline()\n"
        "report = write_shards(folder, plan_of(count=120, per_shard=5), logged_draw(folder.with_name('log'), 0.001))\n"
        "print(report.made, report.kept + report.elsewhere)"
    )
    workers = [run(folder, program) for _ in range(3)]
    for worker in workers:  # all loaded, so that all begin together
        assert worker.stdout is not None
        worker.stdout.readline()
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("\n")
        worker.stdin.flush()
    told = [tuple(map(int, worker.communicate()[0].split())) for worker in workers]
    assert sum(made for made, _ in told) == 24 and all(made + rest == 24 for made, rest in told)
    assert sorted(map(int, (tmp_path / "log").read_text().split())) == list(range(120))
    assert contents(folder) == contents(tmp_path / "alone")


def test_without_file_locks_each_sample_is_drawn_once_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: dict[str, bytes]) -> None:
    monkeypatch.setattr(claims, "fcntl", None)
    seen: list[int] = []

    def nested(number: int) -> tuple[str, Mapping[str, bytes]]:
        seen.append(number)
        if number == 0:  # a second worker comes while the first is at its first shard
            assert write_shards(tmp_path, PLAN, nested) == ShardReport(made=2, kept=0, elsewhere=1)
        return draw(number)

    assert write_shards(tmp_path, PLAN, nested) == ShardReport(made=1, kept=2)
    assert sorted(seen) == list(range(11))
    assert contents(tmp_path) == whole


def test_parts_are_made_by_their_workers_alone(tmp_path: Path, whole: dict[str, bytes]) -> None:
    log = tmp_path / "log"
    for part, numbers in (("2/2", range(4, 8)), ("1/2", [0, 1, 2, 3, 8, 9, 10])):
        log.write_text("")
        write_shards(tmp_path / "set", PLAN, logged_draw(log), part=part)
        assert list(map(int, log.read_text().split())) == list(numbers)
    assert contents(tmp_path / "set") == whole
    assert write_shards(tmp_path / "set", PLAN, not_drawn, part="7/8") == ShardReport(made=0, kept=0)


@pytest.mark.parametrize("part", ["", "0/2", "3/2", "1/0", "a/b", "1/2/3", "-1/2", "1", "1 / 2", "²/3"])
def test_parts_that_are_none(tmp_path: Path, part: str) -> None:
    with pytest.raises(InputError, match="expected K/N"):
        write_shards(tmp_path, PLAN, not_drawn, part=part)
    assert contents(tmp_path) == {}


def test_a_plan_extended_meanwhile_stops_the_others(tmp_path: Path) -> None:
    """Else a worker of the smaller plan could put its short last shard over a full one."""

    def extended(number: int) -> tuple[str, Mapping[str, bytes]]:
        if number == 0:
            write_shards(tmp_path, PLAN, draw, part="3/3")
        return draw(number)

    with pytest.raises(InputError, match="was changed by another worker meanwhile"):
        write_shards(tmp_path, plan_of(count=6), extended)
    assert check_shards(tmp_path) == ["horse-train-000001.tar: missing, and so is its manifest: not made yet, or lost"]


# --- what draw may give -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [("a.b", {"txt": b""}), ("k", {}), ("k", {"pkl": b""}), ("../k", {"txt": b""})])
def test_samples_that_cannot_be_written(tmp_path: Path, answer: tuple[str, dict[str, bytes]]) -> None:
    with pytest.raises(ValueError, match="horse-train: sample 0"):
        write_shards(tmp_path, PLAN, lambda number: answer)
    assert list(contents(tmp_path)) == ["horse-train.plan.json"]


def test_a_key_twice_in_a_shard(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="sample 1 has the key 'k' of another sample"):
        write_shards(tmp_path, ShardPlan("x", {}, count=2), lambda number: ("k", {"txt": b""}))


def test_a_shard_whose_manifest_cannot_be_written_leaves_no_tar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be it a full disk or the end of the process: a tar that nothing vouches for would be told as one that lost its manifest."""
    plan = plan_of()

    def ended(path: Path, text: str) -> None:
        if path.suffix == ".json" and "plan" not in path.name:
            raise SystemExit(143)
        write_whole(path, text)

    with monkeypatch.context() as patched, pytest.raises(SystemExit):
        patched.setattr(shards, "write_whole", ended)
        write_shards(tmp_path, plan, draw)
    assert list(tmp_path.glob("*.tar")) == [] and all("not made yet" in line for line in check_shards(tmp_path))
    assert write_shards(tmp_path, plan, draw).made == plan.shards
