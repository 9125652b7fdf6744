"""Ray Data as a way to share out shards: what is said without it. That it gives the same bytes: tests/apps/test_generate_processes.py."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from farm3d.core.errors import InputError, MissingPartError, OutputError
from farm3d.core.shard_plan import ShardPlan
from farm3d.core.shard_ray import _Maker, _raise_what_it_says, write_shards_with_ray

PLAN = ShardPlan("letters", {"made_by": "a test"}, 6, 2)


def make_draw():
    return lambda number: (f"letters-{number}", {"txt": b"abc"})


def make_poor_draw():
    def draw(number: int):
        raise OutputError("disk: full", hint="free some space") if number else ZeroDivisionError("no")

    return draw


def test_without_ray_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingPartError, match=r"farm3d\[ray\]"):
        write_shards_with_ray(tmp_path, PLAN, make_draw, workers=1)
    with pytest.raises(InputError, match="at least 1"):
        write_shards_with_ray(tmp_path, PLAN, make_draw, workers=0)


def test_what_a_process_of_rays_does(tmp_path: Path) -> None:
    maker = _Maker(tmp_path, PLAN, make_draw)
    (tmp_path / PLAN.file_name).write_text(PLAN.to_text())
    rows = [maker({"shard": [shard]}) for shard in (2, 0, 0)]
    assert [row["made"] for row in rows] == [[True], [True], [False]]
    assert sorted(path.name for path in tmp_path.glob("*.tar")) == ["letters-000000.tar", "letters-000002.tar"]


def test_errors_come_home_as_what_they_were(tmp_path: Path) -> None:
    (tmp_path / PLAN.file_name).write_text(PLAN.to_text())
    maker = _Maker(tmp_path, PLAN, make_poor_draw)
    ours, theirs = ({name: value[0] for name, value in maker({"shard": [shard]}).items()} for shard in (1, 0))
    with pytest.raises(OutputError, match="disk: full"):
        _raise_what_it_says(ours)
    with pytest.raises(RuntimeError, match="ZeroDivisionError: no") as caught:
        _raise_what_it_says(theirs)
    assert "in draw" in caught.value.__notes__[0]
