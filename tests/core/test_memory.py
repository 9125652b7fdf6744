"""Keeping freed memory: asked for once, and seen in the faults that do not come."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from farm3d.core.memory import keep_freed_memory

_FAULTS = """
import resource, sys
from farm3d.core.memory import keep_freed_memory
import numpy as np
if sys.argv[1] == "keep" and not keep_freed_memory():
    sys.exit(7)
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def work():
    for _ in range(2):
        np.ones(5_000_000)  # 40 MB: beyond what malloc keeps of its own accord
work()
before = faults()
work()
print(faults() - before)
"""


def faults(how: str) -> int | None:
    done = subprocess.run([sys.executable, "-c", _FAULTS, how], capture_output=True, text=True, timeout=120)
    if done.returncode == 7:
        return None
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_freed_memory_comes_back_without_faults() -> None:
    kept = faults("keep")
    if kept is None:
        pytest.skip("this C library has no mallopt that takes these settings")
    given_back = faults("usual")
    assert given_back is not None and kept < 0.2 * given_back


def test_other_c_libraries_are_left_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: object) -> object:
        raise OSError("no such library")

    monkeypatch.setattr(ctypes, "CDLL", none)
    assert keep_freed_memory() is False
