"""How far a long job is, on stderr: a bar where it is a terminal, else a line now and then."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

__all__ = ["Pace", "progress", "say", "say_err"]

_TELL_EVERY_S = 30.0


class Pace:
    """How fast things come since this run began; what was there before, or came from others, does not count."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._done = 0
        self._made = 0

    def found(self, done: int) -> None:
        """Take in that ``done`` are there which this run did not make: at its start, or after waiting for others."""
        self._done = done

    def update(self, done: int) -> None:
        """Take in that this run made more, one or many at once: ``done`` are there now."""
        self._made += done - self._done
        self._done = done

    @property
    def made(self) -> int:
        """How many this run made."""
        return self._made

    @property
    def per_second(self) -> float:
        """How many came a second."""
        return self.made / max(time.perf_counter() - self._started, 1e-6)

    def left(self, total: int) -> str:
        """Say in words how long the rest will take; empty when nothing can be said."""
        if self.made == 0 or self._done >= total:
            return ""
        seconds = (total - self._done) / self.per_second
        for unit, size in (("h", 3600), ("min", 60)):
            if seconds >= 2 * size:
                return f"about {seconds / size:.1f} {unit} left"
        return f"about {seconds:.0f} s left"


@contextlib.contextmanager
def progress(words: str, pace: Pace | None = None) -> Iterator[Callable[[int, int], None]]:
    """Yield what is told after each sample, or after many, how many are there and how many there will be.

    Args:
        words: what comes.
        pace: is told too; give one, and let it know what was found, where counting does not begin at 0.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    pace = pace or Pace()
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[left]}"))
    bar = Progress(*columns, console=console, disable=not console.is_terminal)
    told = 0.0
    with bar:
        task = bar.add_task(words, left="")

        def advance(done: int, total: int) -> None:
            nonlocal told
            pace.update(done)
            left = pace.left(total)
            bar.update(task, completed=done, total=total, left=left)
            now = time.perf_counter()
            if not console.is_terminal and (now - told > _TELL_EVERY_S or done == total):
                told = now
                say_err(f"{words}: {done} of {total}, {pace.per_second:.1f} a second{left and ', '}{left}")

        yield advance


def say(line: str) -> None:
    """Print a line on stdout. A reader that went away, or a full disk behind stdout, must not stop the work."""
    with contextlib.suppress(OSError):
        print(line, flush=True)


def say_err(line: str) -> None:
    """Print a line on stderr. A reader of it that went away (`2>&1 | head`) must not stop hours of work; nor must a signal that comes
    in the middle of another line, whose handler may write no second one (RuntimeError).
    """
    with contextlib.suppress(OSError, RuntimeError):
        print(line, file=sys.stderr, flush=True)
