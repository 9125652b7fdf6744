"""Small samples for shards, equal for equal numbers, and ways to be watched, stopped and killed while drawing them.

Imports nothing heavy: processes that tests start pay for it each time.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from farm3d.core.shard_plan import ShardPlan


def plan_of(count: int = 11, per_shard: int = 4, **recipe: object) -> ShardPlan:
    return ShardPlan("horse-train", {"category": "horse", "seed": 0, "size_px": 64, **recipe}, count=count, per_shard=per_shard)


def draw(number: int) -> tuple[str, dict[str, bytes]]:
    """Key and members; sizes go through whole blocks, nothing at all, and what needs padding."""
    noise = b"".join(hashlib.sha256(f"{number}/{i}".encode()).digest() for i in range(40))
    members = {
        "rgb.png": noise[: 512 + number * 37 % 700],
        "mask.png": noise[: 512 * (number % 3)],
        "json": json.dumps({"n": number}).encode(),
    }
    return f"horse-train-{number:06d}", members


def logged_draw(log: Path, pause_s: float = 0.0) -> Callable[[int], tuple[str, dict[str, bytes]]]:
    """Return ``draw`` that adds each number it is asked for to a file."""
    return functools.partial(_logged, log, pause_s)


def _logged(log: Path, pause_s: float, number: int) -> tuple[str, dict[str, bytes]]:
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(handle, f"{number}\n".encode())
    os.close(handle)
    time.sleep(pause_s)
    return draw(number)


def fatal_draw(marker: Path | None = None) -> Callable[[int], tuple[str, dict[str, bytes]]]:
    """Return ``draw`` that kills its process at sample 0: every time, or once if a marker is to be left."""
    return functools.partial(_fatal, marker)


def _fatal(marker: Path | None, number: int) -> tuple[str, dict[str, bytes]]:
    if number == 0 and (marker is None or not marker.exists()):
        if marker is not None:
            os.mkfifo(new := marker.with_suffix(".new"))
            os.open(new, os.O_RDONLY | os.O_NONBLOCK)  # closed by death, after all that was opened before it
            new.rename(marker)
        os.kill(os.getpid(), signal.SIGKILL)
    while number > 0 and marker is not None and (not marker.exists() or _is_read(marker)):
        time.sleep(0.005)  # the others must not be through before the one that is to die has died
    return draw(number)


def _is_read(fifo: Path) -> bool:
    try:
        os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
    except OSError:
        return False
    return True


def broken_draw(number: int) -> tuple[str, dict[str, bytes]]:
    raise ZeroDivisionError(f"sample {number}")


def make_careless_draw(started: Path) -> Callable[[int], tuple[str, dict[str, bytes]]]:
    """Return a draw that fails at sample 0, once another process is at a shard too: one that SIGTERM ends on the spot."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return functools.partial(_careless, started)


def _careless(started: Path, number: int) -> tuple[str, dict[str, bytes]]:
    if number > 0:
        started.touch()
        time.sleep(60.0)
    while not started.exists():
        time.sleep(0.005)
    return broken_draw(number)


def plain_draw() -> Callable[[int], tuple[str, dict[str, bytes]]]:
    return draw


def make_broken_draw() -> Callable[[int], tuple[str, dict[str, bytes]]]:
    return broken_draw


def sealed(values: object) -> bytes:
    """The bytes of a plan's or manifest's file with any values, whatever they are, and a digest that fits."""

    def render(part: object) -> str:
        return json.dumps(part, indent=1, sort_keys=True) + "\n"

    if isinstance(values, dict):
        values = {**values, "digest": hashlib.sha256(render(values).encode()).hexdigest()}
    return render(values).encode()


def environment() -> dict[str, str]:
    """What a process needs to import what this one can."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, hidden ones too."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
