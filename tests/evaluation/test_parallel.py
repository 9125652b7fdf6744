"""Jobs over processes: in order, few ahead, errors and lost workers said."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from farm3d.core.errors import InputError
from farm3d.evaluation.parallel import ordered_map

_offset = 0


def set_offset(value: int) -> None:
    global _offset
    _offset = value


def work(job: int) -> tuple[int, int]:
    if job == 99:
        raise InputError("job 99 cannot be done", hint="leave it out")
    if job == 98:
        os._exit(1)
    return job + _offset, os.getpid()


def test_one_process_is_this_one() -> None:
    assert list(ordered_map(work, [1, 2], initializer=set_offset, arguments=(10,))) == [(11, os.getpid()), (12, os.getpid())]
    set_offset(0)


def test_several_processes_keep_the_order_and_read_few_jobs_ahead() -> None:
    taken = 0

    def jobs() -> Iterator[int]:
        nonlocal taken
        for job in [*range(12), 99, 98]:
            taken += 1
            yield job

    results = ordered_map(work, jobs(), processes=2, initializer=set_offset, arguments=(100,))
    first, process = next(results)
    assert first == 100 and process != os.getpid() and taken <= 4
    assert [next(results)[0] for _ in range(11)] == list(range(101, 112))
    with pytest.raises(InputError, match="job 99 cannot be done"):  # errors come back as they were, with their hint
        next(results)


def test_a_worker_that_dies_is_said() -> None:
    with pytest.raises(InputError, match="ended without a result"):
        list(ordered_map(work, [98], processes=2))


@pytest.mark.parametrize("processes", [0, -1, 10_000])
def test_numbers_of_processes_that_cannot_be(processes: int) -> None:
    with pytest.raises(InputError, match="processes"):
        list(ordered_map(work, [1], processes=processes))
