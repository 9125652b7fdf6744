"""Making the shards of one plan as the command line asks: in this process, in several, or by Ray; with progress, and in company."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from farm3d.apps.progress import Pace, progress, say_err
from farm3d.core.errors import InputError

if TYPE_CHECKING:
    from farm3d.core.shards import Draw, ShardPlan, ShardReport

__all__ = ["Hands", "make_all"]

_PATIENCE_S = 30.0


@dataclass(frozen=True)
class Hands:
    """Who does the work.

    Attributes:
        workers: processes; None for one a core.
        part: ``"2/8"`` leaves to this call every eighth shard.
        ray: let Ray Data share out the shards.
    """

    workers: int | None = None
    part: str | None = None
    ray: bool = False

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise InputError(f"--workers {self.workers}: expected at least 1")

    @property
    def count(self) -> int:
        """Number of processes."""
        return self.workers or os.cpu_count() or 1


def make_all(
    folder: Path, plan: ShardPlan, make_draw: Callable[[], Draw], hands: Hands, *, words: str, here: Callable[[], Draw] | None = None
) -> tuple[ShardReport, Pace]:
    """Make what is not there yet, wait for shards that other workers are at, and return what came of it and how fast.

    Args:
        folder, plan: as in :func:`farm3d.core.shards.write_shards`.
        make_draw: loads what drawing needs, in another process.
        hands: who does it.
        words: what is made, for the progress line.
        here: the same as ``make_draw``, for this process, where it may take what is loaded already.

    Raises:
        Farm3DError: as ``write_shards``.
    """
    from farm3d.core.shard_ray import write_shards_with_ray
    from farm3d.core.shard_workers import write_shards_in_parallel
    from farm3d.core.shards import write_shards

    if hands.ray:
        write = functools.partial(write_shards_with_ray, make_draw=make_draw, workers=hands.count)
    elif hands.count == 1:
        loaded: list[Draw] = []

        def draw(number: int) -> tuple[str, dict[str, bytes]]:
            if not loaded:  # nothing is loaded where nothing is to be made
                loaded.append((here or make_draw)())
            key, members = loaded[0](number)
            return key, dict(members)

        write = functools.partial(write_shards, draw=draw)
    else:
        write = functools.partial(write_shards_in_parallel, make_draw=make_draw, workers=hands.count)
    pace, pause = Pace(), 0.5
    with progress(words, pace) as advance:
        report = write(folder, plan, part=hands.part, on_start=pace.found, on_progress=advance)
        while report.elsewhere:
            if pause == 0.5:
                say_err(f"{words}: waiting for {report.elsewhere} shards that other workers are at")
            time.sleep(pause)
            pause = min(2 * pause, _PATIENCE_S)
            report = write(folder, plan, part=hands.part, on_start=pace.found, on_progress=advance)
    return report, pace
