"""How far a fit is, on stderr: a bar on a terminal, nothing where output is not a terminal (logs stay short)."""

from __future__ import annotations

from typing import Any

__all__ = ["FitBar"]


class FitBar:
    """A context in which a labelled bar is shown; :meth:`update` is a callback of the Reconstructor."""

    def __init__(self, label: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self.label = label
        # No markup: a file may be called "[b].jpg".
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[state]}", markup=False),
            TimeRemainingColumn(),
        )
        self.progress = Progress(*columns, console=Console(stderr=True), transient=True)
        self.task = self.progress.add_task(label, total=None, state="reading")

    def __enter__(self) -> FitBar:
        if self.progress.console.is_terminal:
            self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.progress.console.is_terminal:
            self.progress.stop()

    def say(self, state: str) -> None:
        """Show what is being done."""
        self.progress.update(self.task, state=state)

    def update(self, progress: Any) -> None:
        """Show a :class:`farm3d.model.fitting.Progress`."""
        self.progress.update(
            self.task, completed=progress.step, total=progress.total, state=f"{progress.stage}, agreement {progress.iou:.2f}"
        )
