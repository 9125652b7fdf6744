"""The samples that shards are tested with are what their tests take them for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.testing.samples import contents, draw, environment, logged_draw, plan_of, sealed


def test_equal_numbers_equal_samples_and_sizes_of_every_kind() -> None:
    assert draw(5) == draw(5) and draw(5) != draw(6)
    remainders = {len(data) % 512 for number in range(12) for data in draw(number)[1].values()}
    assert 0 in remainders and len(remainders) > 5
    assert any(not data for number in range(12) for data in draw(number)[1].values())


def test_the_log_has_every_call(tmp_path: Path) -> None:
    logged = logged_draw(tmp_path / "log")
    assert [logged(number) for number in (3, 1)] == [draw(3), draw(1)]
    assert contents(tmp_path) == {"log": b"3\n1\n"}


def test_sealed_as_the_writer_seals() -> None:
    text = plan_of().to_text()
    values = json.loads(text)
    del values["digest"]
    assert sealed(values) == text.encode() and sealed({**values, "count": 1}) != text.encode()


def test_other_processes_find_it_and_load_nothing_heavy() -> None:
    program = "import sys, tests.testing.samples, farm3d.core.shard_workers; sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], env=environment(), timeout=60).returncode == 0
