"""Runs one function over many jobs in several processes, a few jobs ahead, results in order."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from farm3d.core.errors import InputError

__all__ = ["ordered_map"]

_Job = TypeVar("_Job")
_Result = TypeVar("_Result")
MAX_PROCESSES = 256


def ordered_map(
    function: Callable[[_Job], _Result],
    jobs: Iterable[_Job],
    *,
    processes: int = 1,
    initializer: Callable[..., None] | None = None,
    arguments: tuple[Any, ...] = (),
) -> Iterator[_Result]:
    """Yield ``function(job)`` for each job, in order; at most two jobs a process are read ahead, so jobs may be large.

    With one process everything runs here. Otherwise function, jobs, results and arguments are pickled to fresh interpreters (spawned:
    threads of torch and numba do not survive a fork), each with one torch thread.

    Args:
        initializer: called once in each process with ``arguments``, before its first job.

    Raises:
        InputError: a number of processes that cannot be.
    """
    if not 1 <= processes <= MAX_PROCESSES:
        raise InputError(f"processes: expected 1 to {MAX_PROCESSES}, got {processes}")
    if processes == 1:
        if initializer is not None:
            initializer(*arguments)
        yield from map(function, jobs)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_start, initargs=(initializer, arguments))
    waiting: deque[Future[_Result]] = deque()
    try:
        for job in jobs:
            waiting.append(pool.submit(function, job))
            if len(waiting) >= 2 * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise InputError("a worker process ended without a result", hint="it may have run out of memory: use fewer --processes") from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start(initializer: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    # What was pickled may have imported torch by now; if not, and somebody does later, it reads the variable.
    os.environ["OMP_NUM_THREADS"] = "1"
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    if initializer is not None:
        initializer(*arguments)
