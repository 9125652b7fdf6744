"""The user's own prompts: a TOML file of ``[[prompt]]`` tables, read strictly.

```
negative = "drawing, rider"

[[prompt]]
text = "a zebra drinking, side view facing left"
view = "left"
weight = 2
```
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from farm3d.core.errors import InputError
from farm3d.training.dataset.phrases import VIEW_NAMES, PhraseBook, Prompt

__all__ = ["read_prompt_file"]

_LIMIT_BYTES = 16 << 20
_TOP = ("negative", "prompt")
_FIELDS = ("text", "negative", "view", "action", "coat", "weight")


def read_prompt_file(path: Path) -> PhraseBook:
    """Return the prompts of a TOML file; their weights are as they stand there.

    Raises:
        InputError: in one line that names file, prompt and field: unreadable, no TOML, no prompts, a field that is unknown, missing, of
            another type or out of range.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_LIMIT_BYTES + 1)
        if len(data) > _LIMIT_BYTES:
            raise InputError(f"{path}: larger than {_LIMIT_BYTES >> 20} MiB, too large for a file of prompts")
        values = tomllib.loads(data.decode())
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}", hint="--prompts takes a TOML file") from error
    except (ValueError, RecursionError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise InputError(f"{path}: not readable as TOML: {error}", hint="see docs/generate.md for an example") from error
    _require_known(values, _TOP, f"{path}")
    negative = _text(values, "negative", f"{path}", empty=True) or ""
    entries = values.get("prompt")
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{path}: no prompt in it", hint='write [[prompt]] and under it text = "…" for each')
    prompts = [_prompt(entry, negative, f"{path}: prompt {number}") for number, entry in enumerate(entries, start=1)]
    if not any(prompt.weight > 0 for prompt in prompts):
        raise InputError(f"{path}: every weight is 0", hint="give at least one prompt a weight above 0")
    return PhraseBook("file", tuple(prompt for prompt in prompts if prompt.weight > 0))


def _prompt(entry: Any, negative: str, where: str) -> Prompt:
    if not isinstance(entry, dict):
        raise InputError(f"{where}: expected a table, got {str(entry)[:60]!r}", hint="write [[prompt]]")
    _require_known(entry, _FIELDS, where)
    text = _text(entry, "text", where)
    if text is None:
        raise InputError(f"{where}: has no text", hint=f"fields: {', '.join(_FIELDS)}")
    view = _text(entry, "view", where)
    if view is not None and view not in VIEW_NAMES:
        raise InputError(f"{where}: view is '{view[:40]}', expected one of {', '.join(VIEW_NAMES)}")
    weight = entry.get("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not (math.isfinite(weight) and 0 <= weight < 1e6):
        raise InputError(f"{where}: weight is {str(weight)[:40]}, expected a number of 0 or more")
    own = _text(entry, "negative", where, empty=True)
    return Prompt(
        text,
        negative=negative if own is None else own,
        view=None if view is None else VIEW_NAMES.index(view),
        action=_text(entry, "action", where),
        coat=_text(entry, "coat", where),
        weight=float(weight),
    )


def _require_known(values: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    if unknown := [name for name in values if name not in known]:
        raise InputError(f"{where}: unknown field '{unknown[0][:40]}'", hint=f"fields: {', '.join(known)}")


def _text(values: Mapping[str, Any], name: str, where: str, *, empty: bool = False) -> str | None:
    value = values.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not (value.strip() or empty):
        raise InputError(f"{where}: {name} is {str(value)[:40]!r}, expected words")
    return " ".join(value.split())
