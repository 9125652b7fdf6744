"""Base of the frozen values: short printing, moving to a device, replacing fields."""

from __future__ import annotations

import dataclasses
from typing import Any, Self

import torch
from torch import Tensor

__all__ = ["Value"]


class Value:
    """A frozen dataclass of tensors and plain values. Comparison is by identity; use the tensors for numbers."""

    def __repr__(self) -> str:
        parts = []
        for field in dataclasses.fields(self):  # pyright: ignore[reportArgumentType]
            value = getattr(self, field.name)
            parts.append(f"{field.name}={_short(value)}")
        return f"{type(self).__name__}({', '.join(parts)})"

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some fields changed."""
        return dataclasses.replace(self, **changes)  # pyright: ignore[reportArgumentType, reportReturnType]

    def to(self, target: torch.device | torch.dtype | str) -> Self:
        """Return a copy with every tensor moved to a device, or every floating tensor cast to a dtype; nested values follow."""
        changes: dict[str, Any] = {}
        for field in dataclasses.fields(self):  # pyright: ignore[reportArgumentType]
            value = getattr(self, field.name)
            moved = _moved(value, target)
            if moved is not value:
                changes[field.name] = moved
        return self.replace(**changes)


def _short(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name}: {_short(item)}' for name, item in value.items())}}}"
    if isinstance(value, tuple) and (names := getattr(value, "_fields", None)):
        return f"{type(value).__name__}({', '.join(f'{name}={_short(item)}' for name, item in zip(names, value, strict=True))})"
    if isinstance(value, tuple) and len(value) > 6:
        return f"({value[0]!r}, … {len(value)} items)"
    return f"{value}"


def _moved(value: Any, target: Any) -> Any:
    if isinstance(value, Value):
        return value.to(target)
    if isinstance(value, Tensor):
        return value.to(target) if not isinstance(target, torch.dtype) or value.is_floating_point() else value
    if isinstance(value, dict):
        return {name: _moved(item, target) for name, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_moved(item, target) for item in value))
    return value
