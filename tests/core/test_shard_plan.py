"""Plans and manifests say what they were told, and no edit of them goes unseen."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.testing.samples import plan_of, sealed

from farm3d.core.errors import InputError
from farm3d.core.shard_plan import ShardManifest, ShardPlan, ShardRow, read_manifest, read_plan

MANIFEST = ShardManifest(
    plan="ab",
    name="horse",
    shard=1,
    first=4,
    size=10240,
    sha256="cd",
    rows=(ShardRow("k4", 0, 1024, "ef"), ShardRow("k5", 1024, 2048, "01")),
)


@settings(deadline=None)
@given(st.integers(1, 10_000), st.integers(1, 500))
def test_each_sample_lies_in_one_shard(count: int, per_shard: int) -> None:
    plan = ShardPlan("x", {}, count=count, per_shard=per_shard)
    sizes = [len(plan.samples(shard)) for shard in range(plan.shards)]
    assert sum(sizes) == count and set(sizes[:-1]) <= {per_shard} and 1 <= sizes[-1] <= per_shard
    assert plan.samples(plan.shards - 1).stop == count


def test_names() -> None:
    assert (plan_of().stem(3), plan_of().file_name) == ("horse-train-000003", "horse-train.plan.json")


@pytest.mark.parametrize("name", ["", "A", "-x", "a.b", "a/b", "../a", "a b", "é", "x" * 49, ".x"])
def test_bad_names(name: str) -> None:
    with pytest.raises(InputError, match="not a name for a data set"):
        ShardPlan(name, {}, count=1)


@pytest.mark.parametrize("numbers", [{"count": 0}, {"count": -1}, {"count": 1, "per_shard": 0}, {"count": True}, {"count": 1.5}])
def test_bad_numbers(numbers: dict) -> None:
    with pytest.raises(InputError, match="whole number of at least 1"):
        ShardPlan("x", {}, **numbers)


def test_too_many_shards() -> None:
    with pytest.raises(InputError, match="more than"):
        ShardPlan("x", {}, count=2_000_001, per_shard=2)


@pytest.mark.parametrize("recipe", [{"a": object()}, {"a": float("nan")}, {"a": b""}])
def test_a_recipe_that_is_no_json(recipe: dict) -> None:
    with pytest.raises(ValueError, match="no JSON"):
        ShardPlan("x", recipe, count=1)


def test_a_plan_comes_back(tmp_path: Path) -> None:
    recipe = {"views": (1, 2.5), "light": {"on": True, "name": None}, "é": "ü"}
    plan = ShardPlan("x", recipe, count=7, per_shard=2)
    recipe["views"] = ()
    (tmp_path / "x.plan.json").write_text(plan.to_text())
    assert read_plan(tmp_path / "x.plan.json") == plan
    assert plan.fingerprint["views"] == [1, 2.5]


def test_the_digest_is_of_the_recipe_and_not_of_the_count() -> None:
    plan = plan_of()
    assert plan.digest == dataclasses.replace(plan, count=99).digest
    others = [plan_of(per_shard=5), plan_of(seed=1), dataclasses.replace(plan, name="cow-train")]
    assert len({plan.digest, *(other.digest for other in others)}) == 4


def test_differences_name_the_keys() -> None:
    plan = plan_of(light={"sun": 1, "sky": 2})
    assert plan.differences(plan) == []
    assert plan.differences(plan_of(count=5, light={"sun": 1, "sky": 2})) == []
    assert plan.differences(plan_of(per_shard=3, seed=1, light={"sun": 3})) == [
        "fingerprint.light.sky is absent there and 2 here",
        "fingerprint.light.sun is 3 there and 1 here",
        "fingerprint.seed is 1 there and 0 here",
        "per_shard is 3 there and 4 here",
    ]


def test_a_manifest_comes_back(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text(MANIFEST.to_text())
    assert read_manifest(tmp_path / "m.json") == MANIFEST


def test_every_changed_bit_is_seen(tmp_path: Path) -> None:
    """Also in white space, and in a number written in another way."""
    for name, text, read in (("horse-train.plan.json", plan_of().to_text(), read_plan), ("m.json", MANIFEST.to_text(), read_manifest)):
        path, data = tmp_path / name, text.encode()
        for position in range(len(data)):
            changed = bytearray(data)
            changed[position] ^= 1 << random.Random(position).randrange(8)
            path.write_bytes(changed)
            with pytest.raises(InputError):
                read(path)
        for other in (data[:-1], data + b"\n", data.replace(b"\n", b"\r\n"), b" " + data, b""):
            path.write_bytes(other)
            with pytest.raises(InputError):
                read(path)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"format": 2}, "another format"),
        ({"size": -1}, "size: expected int of 0 or more"),
        ({"size": True}, "size: expected int"),
        ({"name": 3}, "name: expected str"),
        ({"rows": [{"key": "x"}]}, "row 0: expected the values key, offset"),
        ({"rows": ["x"]}, "row 0: expected the values"),
        ({"extra": 1}, "expected the values plan, name"),
    ],
)
def test_a_well_sealed_manifest_of_another_shape(tmp_path: Path, change: dict, words: str) -> None:
    values = {**json.loads(MANIFEST.to_text()), **change}
    del values["digest"]
    (tmp_path / "m.json").write_bytes(sealed(values))
    with pytest.raises(InputError, match=words):
        read_manifest(tmp_path / "m.json")


@pytest.mark.parametrize("data", [b"[]", b"3", b"{}", b"NaN", b"\xff", b"[" * 100_000, b'{"a": NaN}', sealed([1])])
def test_what_is_no_manifest_at_all(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "m.json").write_bytes(data)
    with pytest.raises(InputError, match="damaged"):
        read_manifest(tmp_path / "m.json")


def test_missing_renamed_and_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"x\.plan\.json: missing"):
        read_plan(tmp_path / "x.plan.json")
    (tmp_path / "cow.plan.json").write_text(plan_of().to_text())
    with pytest.raises(InputError, match="is the plan of horse-train"):
        read_plan(tmp_path / "cow.plan.json")
    with pytest.raises(InputError, match="cannot be read"):
        read_manifest(tmp_path)
