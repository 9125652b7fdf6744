"""A few of the kills of ``benchmarks/kill_training.py``: random ones and chosen ones, and the controls, which must fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system: children are forked")
def test_killed_anywhere_it_ends_at_the_same_bits(repository: Path) -> None:
    command = [sys.executable, str(repository / "benchmarks" / "kill_training.py"), "--random", "3", "--chosen", "6"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "9 of 9 the same; the controls failed"
