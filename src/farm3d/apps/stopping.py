"""Long training is asked to stop, not killed: it ends after the step it is at, with a checkpoint."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator

__all__ = ["stop_signals"]


@contextlib.contextmanager
def stop_signals() -> Iterator[Callable[[], int]]:
    """Yield a function that says which of SIGINT and SIGTERM came, or 0. The second Ctrl-C ends the program at once."""
    came: list[int] = []

    def note(number: int, _frame: object) -> None:
        if came:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        came.append(number)
        print("farm3d: stopping after this step", file=sys.stderr, flush=True)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: came[0] if came else 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
