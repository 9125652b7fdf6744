"""Strict conversion between frozen dataclasses and JSON: unknown keys are errors that name the nearest known key."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from farm3d.core.errors import ModelError

__all__ = ["config_from_dict", "config_to_dict"]

_Config = TypeVar("_Config")


def config_to_dict(config: Any) -> dict[str, Any]:
    """Return the fields of a (nested) frozen dataclass as JSON-ready values (tuples become lists)."""
    return dataclasses.asdict(config)


def config_from_dict(kind: type[_Config], values: Mapping[str, Any], *, where: str = "config") -> _Config:
    """Build ``kind`` from parsed JSON, checking every key and every value.

    Raises:
        ModelError: an unknown key (with the nearest known name), a missing one, or a value of another type, with the key's full path.
    """
    if not isinstance(values, Mapping):
        raise ModelError(f"{where}: expected an object with named values, got {type(values).__name__}")
    fields = {field.name: field for field in dataclasses.fields(kind)}  # pyright: ignore[reportArgumentType]
    hints = typing.get_type_hints(kind)
    for key in values:
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=1)
            guess = f"did you mean '{near[0]}'?" if near else f"known keys: {', '.join(sorted(fields))}"
            raise ModelError(f"{where}.{key}: unknown key", hint=guess)
    arguments: dict[str, Any] = {}
    for name, field in fields.items():
        if name in values:
            arguments[name] = _convert(hints[name], values[name], f"{where}.{name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ModelError(f"{where}.{name}: missing", hint=f"add a value of type {_name(hints[name])}")
    return kind(**arguments)


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        options = typing.get_args(hint)
        if value is None and type(None) in options:
            return None
        return _convert(next(option for option in options if option is not type(None)), value, where)
    if dataclasses.is_dataclass(hint):
        return config_from_dict(typing.cast(type, hint), value, where=where)
    if origin is tuple:
        inner = typing.get_args(hint)
        if not isinstance(value, (list, tuple)):
            raise ModelError(f"{where}: expected a list, got {value!r}")
        kinds = [inner[0]] * len(value) if len(inner) == 2 and inner[1] is Ellipsis else list(inner)
        if len(kinds) != len(value):
            raise ModelError(f"{where}: expected {len(kinds)} values, got {len(value)}")
        return tuple(_convert(kind, item, f"{where}[{i}]") for i, (kind, item) in enumerate(zip(kinds, value, strict=True)))
    if origin is dict:
        _, inner_kind = typing.get_args(hint)
        if not isinstance(value, Mapping):
            raise ModelError(f"{where}: expected an object, got {value!r}")
        return {str(key): _convert(inner_kind, item, f"{where}.{key}") for key, item in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ModelError(f"{where}: expected {_name(hint)}, got {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ModelError(f"{where}: expected a finite number, got {value!r}")
    return value


def _name(hint: Any) -> str:
    return getattr(hint, "__name__", str(hint))
