"""The errors that farm3d raises on purpose: one tree, each with what to do about it.

```
Farm3DError              exit 2
├── InputError           a picture, mask, path or option that cannot be used
├── ModelError           a model folder that is damaged, incomplete or of another kind
│   └── ForeignModelError    of another kind or version, or closed to us: not damaged as far as can be seen
├── MissingPartError     an optional library or model file that is not there yet
├── OutputError          a result that cannot be written (disk full, no permission)
├── NoAnimalError        a picture in which no animal was found
├── Cancelled            stopped by the caller's callback
└── NotFiniteError       exit 3: training has met a number that is not finite
```
"""

from __future__ import annotations

__all__ = [
    "Cancelled",
    "Farm3DError",
    "ForeignModelError",
    "InputError",
    "MissingPartError",
    "ModelError",
    "NoAnimalError",
    "NotFiniteError",
    "OutputError",
]


class Farm3DError(Exception):
    """An error a user can act on.

    Args:
        message: what was wrong and what was expected, naming the file, in one line.
        hint: what to do about it, in one line (no trailing full stop needed).
    """

    exit_code = 2

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class InputError(Farm3DError):
    """A picture, mask, path or option that cannot be used."""


class ModelError(Farm3DError):
    """A model folder that is damaged, incomplete or of another kind."""


class ForeignModelError(ModelError):
    """A model folder of another kind or version, or that may not be read: not damaged, as far as can be seen."""


class MissingPartError(Farm3DError):
    """An optional library or model file that is not there yet."""


class OutputError(Farm3DError):
    """A result that cannot be written."""


class NoAnimalError(Farm3DError):
    """A picture in which no animal was found."""


class Cancelled(Farm3DError):
    """The caller's callback asked to stop."""


class NotFiniteError(Farm3DError):
    """A loss or gradient that is not finite; nothing was updated by it."""

    exit_code = 3
