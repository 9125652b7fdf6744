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
            if isinstance(value, Tensor):
                value = f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
            elif isinstance(value, tuple) and len(value) > 6:
                value = f"({value[0]!r}, … {len(value)} items)"
            parts.append(f"{field.name}={value}")
        return f"{type(self).__name__}({', '.join(parts)})"

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some fields changed."""
        return dataclasses.replace(self, **changes)  # pyright: ignore[reportArgumentType, reportReturnType]

    def to(self, target: torch.device | torch.dtype | str) -> Self:
        """Return a copy with every tensor moved to a device, or every floating tensor cast to a dtype; nested values follow."""
        changes: dict[str, Any] = {}
        for field in dataclasses.fields(self):  # pyright: ignore[reportArgumentType]
            value = getattr(self, field.name)
            if isinstance(value, Value):
                changes[field.name] = value.to(target)
            elif isinstance(value, Tensor) and (not isinstance(target, torch.dtype) or value.is_floating_point()):
                changes[field.name] = value.to(target)
        return self.replace(**changes)
