"""The training log: one JSON object a line, and TensorBoard's events where its package is installed (extra ``log``)."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from farm3d.core.errors import InputError, OutputError
from farm3d.core.files import write_whole

__all__ = ["TrainingLog"]

_BEGIN = '{"step": '  # of every line, also of one that a kill cut short


class TrainingLog:
    """Appends to ``log.jsonl`` in a folder, each line at once.

    Args:
        folder: of the training.
        step: steps taken so far; lines of later steps, written by a run that was killed, are dropped: they will come again.

    Raises:
        InputError: what is there is no log of ours.
        OutputError: the folder cannot be written.
    """

    def __init__(self, folder: Path, *, step: int) -> None:
        self._path = folder / "log.jsonl"
        kept: list[str] = []
        if self._path.exists():
            for number, line in enumerate(self._path.read_text(encoding="utf-8").splitlines(), start=1):
                try:
                    if json.loads(line)["step"] <= step:
                        kept.append(line)
                except (ValueError, KeyError, TypeError) as error:
                    if line and number == 1 and not line.startswith(_BEGIN[: len(line)]):
                        raise InputError(f"{self._path}: not a training log", hint="choose another --state folder") from error
                    break  # a line cut short by a kill; what follows it comes again
        write_whole(self._path, "".join(f"{line}\n" for line in kept))
        self._events = folder / "tensorboard"
        with _written(self._events):
            self._board = _tensorboard(self._events, step)

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Append a line.

        Raises:
            OutputError: it cannot be written.
        """
        with _written(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}, allow_nan=False) + "\n")
        if self._board is not None:
            phase = values.get("phase", "training")
            with _written(self._events):
                for name, value in values.items():
                    if isinstance(value, int | float):
                        self._board.add_scalar(f"{phase}/{name}", value, step)

    def close(self) -> None:
        """Write what is left.

        Raises:
            OutputError: it cannot be written.
        """
        if self._board is not None:
            with _written(self._events):
                self._board.close()


@contextlib.contextmanager
def _written(path: Path) -> Iterator[None]:
    """Say in our words that something cannot be written, also where TensorBoard's thread had met it some time before."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path}: cannot write: {error.strerror or error}", hint="free some space") from error


def _tensorboard(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:  # the extra `log`: the lines above say the same
        return None
    return SummaryWriter(str(folder), purge_step=step + 1)
