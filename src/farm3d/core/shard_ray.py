"""The shards of a data set mapped by Ray Data, on one machine or a cluster that shares the folder; the extra ``ray``."""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from farm3d.core.errors import Farm3DError, InputError, MissingPartError
from farm3d.core.shards import Draw, ShardPlan, ShardReport, make_shards, shards_of_part, unfinished_shards

__all__ = ["write_shards_with_ray"]


def write_shards_with_ray(
    folder: Path,
    plan: ShardPlan,
    make_draw: Callable[[], Draw],
    *,
    workers: int,
    part: str | None = None,
    on_start: Callable[[int], None] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> ShardReport:
    """Do what :func:`farm3d.core.shards.write_shards` does, each shard on whatever machine Ray gives it.

    The cluster is the one that Ray finds (``RAY_ADDRESS``), or one started here for the length of the program. Every machine must see
    ``folder`` under the same path, and have farm3d and the models. Shards are claimed as always: other workers may be at them too.

    Args:
        folder, plan, part: as in ``write_shards``.
        make_draw: called once in each process.
        workers: processes over all machines, one CPU each.
        on_start: as in ``write_shards``.
        on_progress: as in ``write_shards``, but told by whole shards.

    Raises:
        MissingPartError: ray is not installed.
        InputError, OutputError: as ``write_shards``.
        RuntimeError: ``make_draw`` or what it made failed.
    """
    if workers < 1:
        raise InputError(f"workers: expected at least 1, got {workers}")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray tells its makers how it is used unless told not to
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingPartError("--ray: Ray Data is not installed", hint="pip install 'farm3d[ray]'") from error
    folder = Path(folder).resolve()
    shards = shards_of_part(plan, part)
    todo = unfinished_shards(folder, plan, shards)
    total = sum(len(plan.samples(shard)) for shard in shards)
    done = total - sum(len(plan.samples(shard)) for shard in todo)
    if on_start is not None:
        on_start(done)
    if not todo:
        return ShardReport(made=0, kept=len(shards))
    if not ray.is_initialized():
        ray.init(log_to_driver=False, logging_level=logging.ERROR)
    logging.getLogger("ray").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    rows = ray.data.from_items([{"shard": shard} for shard in todo], override_num_blocks=len(todo)).map_batches(
        _Maker,
        fn_constructor_args=(folder, plan, make_draw),
        batch_size=1,
        num_cpus=1,
        compute=ray.data.ActorPoolStrategy(size=min(workers, len(todo))),
    )
    made = 0
    for row in rows.iter_rows():
        _raise_what_it_says(row)
        if row["made"]:
            made += 1
            done += len(plan.samples(row["shard"]))
            if on_progress is not None:
                on_progress(done, total)
    left = unfinished_shards(folder, plan, todo)
    return ShardReport(made=made, kept=len(shards) - made - len(left), elsewhere=len(left))


class _Maker:
    """What each of Ray's processes runs: loads what drawing needs once, then makes shard after shard."""

    def __init__(self, folder: Path, plan: ShardPlan, make_draw: Callable[[], Draw]) -> None:
        self._folder, self._plan = folder, plan
        self._draw: Draw | None = None
        self._make_draw = make_draw

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """Return a row that says what came of one shard: errors of ours travel as words, since Ray would wrap them."""
        shard = int(batch["shard"][0])
        row: dict[str, Any] = {"shard": shard, "made": False, "kind": "", "message": "", "hint": ""}
        try:
            self._draw = self._draw or self._make_draw()
            made, _ = make_shards(self._folder, self._plan, self._draw, [shard], on_sample=lambda: None)
            row["made"] = bool(made)
        except Farm3DError as error:
            row |= {"kind": type(error).__name__, "message": error.message, "hint": error.hint}
        except Exception as error:
            row |= {"kind": "RuntimeError", "message": f"{type(error).__name__}: {error}", "hint": traceback.format_exc()}
        return {name: [value] for name, value in row.items()}


def _raise_what_it_says(row: dict[str, Any]) -> None:
    if not row["kind"]:
        return
    ours = {kind.__name__: kind for kind in Farm3DError.__subclasses__()}
    told: Exception
    if kind := ours.get(row["kind"]):
        told = kind(row["message"], hint=row["hint"])
    else:
        told = RuntimeError(row["message"])
        told.add_note(row["hint"])
    raise told
