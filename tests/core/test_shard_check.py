"""Nothing that happens to a folder of shards goes unseen, and the line says where."""

from __future__ import annotations

import json
import random
import re
import shutil
from pathlib import Path

import pytest
from tests.testing.samples import draw, plan_of, sealed

from farm3d.core.errors import InputError
from farm3d.core.shard_check import check_shards
from farm3d.core.shard_plan import read_manifest
from farm3d.core.shards import ShardPlan, write_shards


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_shards(tmp_path, plan_of(), draw)
    return tmp_path


def stem(shard: int) -> str:
    return f"horse-train-{shard:06d}"


def test_what_was_written_is_well(folder: Path) -> None:
    assert check_shards(folder) == []
    write_shards(folder, ShardPlan("cow", {}, count=3), lambda number: (f"cow-{number}", {"txt": b"moo"}))
    assert check_shards(folder) == []


def test_any_flipped_bit_of_a_tar_is_found_and_told_by_sample(folder: Path) -> None:
    """Headers, members, padding and the end: each equally."""
    path, chance = folder / f"{stem(1)}.tar", random.Random(0)
    data, rows = path.read_bytes(), read_manifest(folder / f"{stem(1)}.json").rows
    end = rows[-1].offset + rows[-1].size
    positions = [
        *chance.sample(range(len(data)), 150),
        *chance.sample(range(end, len(data)), 20),
        *(row.offset for row in rows),
        len(data) - 1,
    ]
    for position in positions:
        changed = bytearray(data)
        changed[position] ^= 1 << chance.randrange(8)
        path.write_bytes(changed)
        lines = check_shards(folder)
        where = next((f"sample {4 + i} ({row.key})" for i, row in enumerate(rows) if position < row.offset + row.size), "the end behind")
        assert lines and lines[0].startswith(f"{stem(1)}.tar: {where}"), (position, lines)
        assert all(line.startswith(f"{stem(1)}.tar: ") and "\n" not in line for line in lines)
    path.write_bytes(data)
    assert check_shards(folder) == []


@pytest.mark.parametrize("name", [f"{stem(2)}.json", "horse-train.plan.json"])
def test_any_flipped_bit_of_a_manifest_or_plan_is_found(folder: Path, name: str) -> None:
    path, chance = folder / name, random.Random(1)
    data = path.read_bytes()
    for _ in range(100):
        changed = bytearray(data)
        changed[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(changed)
        assert [line for line in check_shards(folder) if line.startswith(f"{name}: ")]


def test_any_truncation_or_addition_is_found(folder: Path) -> None:
    path, chance = folder / f"{stem(0)}.tar", random.Random(2)
    data = path.read_bytes()
    for length in [0, 511, 512, len(data) - 1, len(data) - 512, *chance.sample(range(len(data)), 25)]:
        path.write_bytes(data[:length])
        assert f"{stem(0)}.tar: {length} bytes, expected {len(data)}: truncated" in check_shards(folder)
    for more in (b"\0", bytes(512), bytes(10240), b"x"):
        path.write_bytes(data + more)
        assert f"{stem(0)}.tar: {len(data) + len(more)} bytes, expected {len(data)}: something was added" in check_shards(folder)


def test_many_damaged_samples_are_few_lines(tmp_path: Path) -> None:
    write_shards(tmp_path, plan_of(count=12, per_shard=12), draw)
    path = tmp_path / f"{stem(0)}.tar"
    path.write_bytes(bytes(byte ^ 1 for byte in path.read_bytes()))
    lines = check_shards(tmp_path)
    assert len(lines) == 7 and lines[5] == f"{stem(0)}.tar: and 8 more places with other bytes than were written"


def exchange(one: Path, other: Path) -> None:
    one.rename(one.with_name("aside"))
    other.rename(one)
    one.with_name("aside").rename(other)


def test_swapped_shards(folder: Path) -> None:
    exchange(folder / f"{stem(0)}.tar", folder / f"{stem(1)}.tar")
    assert check_shards(folder) == [
        f"{stem(0)}.tar: holds the bytes of {stem(1)}.tar: swapped or renamed",
        f"{stem(1)}.tar: holds the bytes of {stem(0)}.tar: swapped or renamed",
    ]
    exchange(folder / f"{stem(0)}.json", folder / f"{stem(1)}.json")
    assert check_shards(folder) == [
        f"{stem(0)}.json: is the manifest of {stem(1)}: swapped or renamed",
        f"{stem(1)}.json: is the manifest of {stem(0)}: swapped or renamed",
    ]


def test_a_renamed_data_set(folder: Path) -> None:
    for path in list(folder.iterdir()):
        path.rename(folder / path.name.replace("horse", "cow"))
    lines = check_shards(folder)
    assert lines[0] == "cow-train.plan.json: is the plan of horse-train: the file was renamed"
    assert lines[1] == f"cow-train-000000.json: is the manifest of {stem(0)}: swapped or renamed" and len(lines) == 4


def test_missing_files(folder: Path) -> None:
    (folder / f"{stem(0)}.tar").unlink()
    (folder / f"{stem(1)}.json").unlink()
    (folder / f"{stem(2)}.tar").unlink()
    (folder / f"{stem(2)}.json").unlink()
    assert check_shards(folder) == [
        f"{stem(1)}.json: missing",
        f"{stem(2)}.tar: missing, and so is its manifest: not made yet, or lost",
        f"{stem(0)}.tar: missing",
    ]


def test_a_missing_plan_and_files_that_do_not_belong(folder: Path) -> None:
    (folder / "horse-train.plan.json").unlink()
    (folder / "notes.txt").write_text("x")
    (folder / "deep").mkdir()
    (folder / ".horse-train-000001.1-x.part.tar").write_text("x")
    assert check_shards(folder) == [
        "horse-train.plan.json: missing",
        ".horse-train-000001.1-x.part.tar: left by a writer that still runs or was killed",
        "deep: belongs to no data set",
        "notes.txt: belongs to no data set",
    ]


def test_shards_beyond_the_plan_and_of_another_recipe(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    write_shards(other, plan_of(count=6), draw)
    shutil.copy(other / "horse-train.plan.json", folder)
    assert check_shards(folder) == [
        f"{stem(1)}.json: samples 4 to 7, expected 4 to 5",
        f"{stem(2)}.json: beyond the 2 shards of the plan",
    ]
    other = tmp_path_factory.mktemp("another")
    write_shards(other, plan_of(seed=1), draw)
    shutil.copy(other / "horse-train.plan.json", folder)
    assert check_shards(folder) == [f"{stem(shard)}.json: made by another recipe than horse-train.plan.json holds" for shard in range(3)]


def test_a_key_in_two_shards(tmp_path: Path) -> None:
    write_shards(tmp_path, ShardPlan("x", {}, count=5, per_shard=2), lambda number: (f"k{number % 4}", {"txt": b"x"}))
    assert check_shards(tmp_path) == ["x-000002.json: sample 4 (k0): this key is also in x-000000"]


@pytest.mark.parametrize(
    "edit, words",
    [
        (lambda m: m.update(sha256="0" * 64), "its sha256 is not the manifest's, though that of each sample is"),
        (lambda m: m.update(size=1), "bytes, expected 1: something was added"),
        (lambda m: m.update(first=5), "samples 5 to 8, expected 4 to 7"),
        (lambda m: m["rows"].pop(), "samples 4 to 6, expected 4 to 7"),
        (lambda m: m["rows"].reverse(), r"sample 4 \(horse-train-000007\): not the bytes"),
        (lambda m: m["rows"][2].update(key="other"), "its keys are not those of its manifest"),
        (lambda m: m["rows"][2].update(key=m["rows"][1]["key"]), "this key is also in"),
        (lambda m: m["rows"][3].update(size=1 << 60), r"sample 7 \(horse-train-000007\): not the bytes"),
        (lambda m: m["rows"][0].update(offset=512), r"sample 4 \(horse-train-000004\): not the bytes"),
        (lambda m: m.update(rows=[]), "samples 4 to 3, expected 4 to 7"),
    ],
)
def test_a_manifest_edited_and_sealed_again(folder: Path, edit, words: str) -> None:
    path = folder / f"{stem(1)}.json"
    values = json.loads(path.read_bytes())
    del values["digest"]
    edit(values)
    path.write_bytes(sealed(values))
    lines = check_shards(folder)
    assert any(re.search(words, line) for line in lines), lines


def test_no_folder_and_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        check_shards(tmp_path / "x")
    with pytest.raises(InputError, match="no data set"):
        check_shards(tmp_path)
