"""Several processes of this machine at one data set: started, listened to, and all stopped when one is interrupted."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from farm3d.core.errors import Farm3DError, InputError, OutputError
from farm3d.core.shards import Draw, ShardPlan, ShardReport, make_shards, remove_working_files, shards_of_part, unfinished_shards

__all__ = ["write_shards_in_parallel"]

_PATIENCE_S = 30.0


def write_shards_in_parallel(
    folder: Path,
    plan: ShardPlan,
    make_draw: Callable[[], Draw],
    *,
    workers: int,
    part: str | None = None,
    on_start: Callable[[int], None] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> ShardReport:
    """Do what :func:`farm3d.core.shards.write_shards` does, with ``workers`` processes.

    Ctrl-C, SIGTERM (where this is called in the main thread) and an error in any of them stop all of them; finished shards stay, and
    nothing unfinished is left. A process that is killed is replaced by the others. When the calling process is killed, each of the others
    ends after the sample it is at.

    Args:
        folder: where the shards go.
        plan: what to make.
        make_draw: called once in each process, to load there what drawing needs. It has to be a function of a module, or a
            ``functools.partial`` of one, and the program has to start under ``if __name__ == "__main__":``, as for all processes.
        workers: how many processes; never more than there are shards to make.
        part: as in ``write_shards``.
        on_start, on_progress: as in ``write_shards``; called in this process.

    Raises:
        InputError: also for fewer than one worker.
        OutputError: also for shards that are not finished because the processes at them were killed, as for want of memory.
        RuntimeError: ``make_draw`` or what it made failed; the note of the error is the other process's traceback.
    """
    if workers < 1:
        raise InputError(f"workers: expected at least 1, got {workers}")
    folder = Path(folder)
    shards = shards_of_part(plan, part)
    todo = unfinished_shards(folder, plan, shards)
    total = sum(len(plan.samples(shard)) for shard in shards)
    done = total - sum(len(plan.samples(shard)) for shard in todo)
    if on_start is not None:
        on_start(done)
    made: set[int] = set()
    with _crew(min(workers, len(todo)), folder, plan, make_draw, todo) as crew:
        for message in _messages(crew):
            if isinstance(message, Exception):
                raise message
            if message is None:
                done += 1
                if on_progress is not None:
                    on_progress(done, total)
            else:
                made.update(message)
    left = unfinished_shards(folder, plan, [shard for shard in todo if shard not in made])
    ended = sum(process.exitcode != 0 for process in crew.values())
    if left and ended:
        raise OutputError(
            f"{folder}: {len(left)} shards are not finished: {ended} of {len(crew)} processes were ended, perhaps for want of memory",
            hint="run again, perhaps with fewer workers: finished shards are kept",
        )
    return ShardReport(made=len(made), kept=len(shards) - len(made) - len(left), elsewhere=len(left))


@contextlib.contextmanager
def _crew(
    workers: int, folder: Path, plan: ShardPlan, make_draw: Callable[[], Draw], todo: Sequence[int]
) -> Iterator[dict[Connection, BaseProcess]]:
    """Start processes and yield them by the connection that each talks through; none is left when the block ends."""
    context = multiprocessing.get_context("spawn")
    crew: dict[Connection, BaseProcess] = {}
    with _on_signal(signal.SIGTERM, _end):
        try:
            with _on_signal(signal.SIGINT, signal.SIG_IGN):  # inherited: Ctrl-C reaches every process, but it is for this one to act on
                for _ in range(workers):
                    here, there = context.Pipe(duplex=False)
                    process = context.Process(target=_work, args=(there, folder, plan, make_draw, todo))
                    process.start()
                    crew[here] = process
                    there.close()  # so that the end of the process is the end of what can be heard from it
            yield crew
        except BaseException:
            for process in crew.values():
                process.terminate()
            raise
        finally:
            for process in crew.values():
                process.join(_PATIENCE_S)
                if process.is_alive():
                    process.kill()
                    process.join()
            # One that was told to end while it tidied up after an error of its own may not have come to the end of that.
            with contextlib.suppress(OSError, OutputError):  # what brought us here matters more
                remove_working_files(folder, plan)


def _messages(crew: dict[Connection, BaseProcess]) -> Iterator[Any]:
    """Yield what the processes say, as it comes, until the last has ended."""
    listening = list(crew)
    while listening:
        for connection in wait(listening):
            assert isinstance(connection, Connection)
            try:
                message = connection.recv()
            except EOFError:
                listening.remove(connection)
                continue
            yield message


def _work(connection: Connection, folder: Path, plan: ShardPlan, make_draw: Callable[[], Draw], todo: Sequence[int]) -> None:
    """What each process runs: says None for each sample, then the list of the shards it made; or the error that stopped it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end)
    try:
        made, _ = make_shards(folder, plan, make_draw(), todo, on_sample=lambda: connection.send(None))
        connection.send(made)
    except Exception as error:
        told: Exception = error
        if not isinstance(error, Farm3DError):  # an error of a library may not survive the journey
            told = RuntimeError(f"{type(error).__name__}: {error}")
            told.add_note(traceback.format_exc())
        with contextlib.suppress(OSError):  # nobody listens any more
            connection.send(told)


def _end(number: int, frame: object) -> None:
    signal.signal(number, signal.SIG_IGN)  # a second one must not interrupt the tidying up
    raise SystemExit(128 + number)


@contextlib.contextmanager
def _on_signal(number: signal.Signals, handler: Any) -> Iterator[None]:
    """Handle a signal for the length of the block; only the main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before if before is not None else signal.SIG_DFL)
