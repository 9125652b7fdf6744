"""Long training is asked to stop, not killed: it ends after the step it is at, with a checkpoint."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator

from farm3d.apps.progress import say_err

__all__ = ["stop_signals"]


@contextlib.contextmanager
def stop_signals() -> Iterator[Callable[[], int]]:
    """Yield a function that says which of SIGINT, SIGTERM and SIGHUP (a closed terminal) came, or 0.

    The second one ends the program at once. A SIGHUP that is ignored, as `nohup` has it, stays so.
    """
    came: list[int] = []
    numbers = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)

    def note(number: int, _frame: object) -> None:
        if came:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        came.append(number)
        say_err("farm3d: stopping after this step")

    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield lambda: came[0] if came else 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
