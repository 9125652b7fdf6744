"""A few trials of ``benchmarks/kill_training.py``: kills, signals, a full disk, a process of its own, and the controls, which must fail."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system: children are forked")
def test_ended_anyhow_and_anywhere_it_ends_at_the_same_bits(repository: Path) -> None:
    counts = ["--random", "3", "--chosen", "6", "--signals", "2", "--full", "4", "--pairs", "1"]
    critic = ["--critic", "0.25" if importlib.util.find_spec("diffusers") else "0"]
    command = [sys.executable, str(repository / "benchmarks" / "kill_training.py"), *counts, *critic]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "16 of 16 the same; the controls failed"
