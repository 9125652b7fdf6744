"""Reading gives what was written: in order, by number, by key, and from several processes and threads at once."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import random
from pathlib import Path

import pytest
from tests.testing.samples import draw, plan_of

from farm3d.core.errors import InputError
from farm3d.core.shard_reader import ShardIndex, read_shards
from farm3d.core.shards import ShardPlan, write_shards

EXPECTED = [draw(number) for number in range(11)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_shards(tmp_path, plan_of(), draw)
    return tmp_path


def tars(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.tar"))


def test_in_order_from_a_folder_a_plan_or_tars(folder: Path) -> None:
    assert list(read_shards(folder)) == EXPECTED
    assert list(read_shards(str(folder / "horse-train.plan.json"))) == EXPECTED
    assert list(read_shards([*reversed(tars(folder))])) == [*EXPECTED[8:], *EXPECTED[4:8], *EXPECTED[:4]]
    assert list(read_shards(tars(folder)[1])) == EXPECTED[4:8]


def test_by_number_and_by_key_in_any_order(folder: Path) -> None:
    index = ShardIndex(folder)
    assert len(index) == 11 and index.keys == tuple(key for key, _ in EXPECTED)
    for number in random.Random(0).choices(range(11), k=40):
        assert index.read(number) == EXPECTED[number] == index.read(EXPECTED[number][0])
    for absent in (11, -1, "cow"):
        with pytest.raises(LookupError, match="no sample"):
            index.read(absent)


def test_other_processes_and_threads_read_from_one_index(folder: Path) -> None:
    index = ShardIndex(folder)
    numbers = random.Random(0).choices(range(11), k=200)
    expected = [EXPECTED[number] for number in numbers]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(index.read, numbers)) == expected
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert list(pool.map(index.read, numbers, chunksize=20)) == expected


def test_only_the_members_wanted(folder: Path) -> None:
    wanted = [(key, {"json": members["json"]}) for key, members in EXPECTED]
    assert list(read_shards(folder, extensions={"json"}, strict=False)) == wanted
    assert ShardIndex(folder, extensions={"json"}, strict=False).read(3) == wanted[3]
    with pytest.raises(InputError, match=r"000000\.tar: member 'horse-train-000000\.mask\.png': not one of the extensions json"):
        next(read_shards(folder, extensions={"json"}))


@pytest.mark.parametrize("ending", ["tar", "json"])
def test_a_data_set_that_is_not_finished(folder: Path, ending: str) -> None:
    (folder / f"horse-train-000001.{ending}").unlink()
    with pytest.raises(InputError, match=r"000001\.tar: not finished, as 1 of 3 shards") as caught:
        list(read_shards(folder))
    assert "name the shards to read" in caught.value.hint
    assert list(read_shards(folder / "horse-train-000002.tar")) == EXPECTED[8:]


def test_a_key_in_two_shards(folder: Path) -> None:
    twice = [tars(folder)[0]] * 2
    with pytest.raises(InputError, match=r"000000\.tar: member 'horse-train-000000\.json': its key came before"):
        list(read_shards(twice))
    with pytest.raises(InputError, match=r"000000\.tar: member 'horse-train-000000\.json': its key came before"):
        ShardIndex(twice)


def test_two_data_sets_in_a_folder(folder: Path) -> None:
    write_shards(folder, ShardPlan("cow", {}, count=2), lambda number: (f"cow-{number}", {"txt": b"moo"}))
    with pytest.raises(InputError, match="holds 2 data sets"):
        list(read_shards(folder))
    assert list(read_shards(folder / "cow.plan.json")) == [("cow-0", {"txt": b"moo"}), ("cow-1", {"txt": b"moo"})]


def test_tars_without_a_plan(folder: Path) -> None:
    (folder / "horse-train.plan.json").unlink()
    (folder / ".horse-train-000009.1-x.part.tar").write_bytes(b"half")
    assert list(read_shards(folder)) == EXPECTED


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no shards"):
        list(read_shards(tmp_path))
    with pytest.raises(InputError, match="cannot be read: No such file"):
        list(read_shards(tmp_path / "x.tar"))
    with pytest.raises(InputError, match="missing"):
        list(read_shards(tmp_path / "x.plan.json"))


def test_a_shard_changed_after_it_was_indexed(folder: Path) -> None:
    index = ShardIndex(folder)
    tars(folder)[0].write_bytes(tars(folder)[1].read_bytes())
    with pytest.raises(InputError, match=r"000000\.tar: sample 'horse-train-000000' is not where it was"):
        index.read(0)
    tars(folder)[1].write_bytes(tars(folder)[1].read_bytes()[:2048])
    with pytest.raises(InputError, match=r"000001\.tar: .*truncated"):
        index.read(7)
