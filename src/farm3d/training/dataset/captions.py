"""What a photograph shows, in words that lie beside it: ``NAME.txt``, one line, as text-to-image training sets have it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from farm3d.core.errors import InputError
from farm3d.data.photo import shown_path
from farm3d.training.dataset.phrases import VIEW_WORDINGS

__all__ = ["find_captions", "view_of_caption"]

_LIMIT_BYTES = 8192


def find_captions(photos: Sequence[Path]) -> dict[Path, str]:
    """Return the captions of those photographs that have one: the words of ``NAME.txt`` beside NAME, in one line.

    Raises:
        InputError: a caption that cannot be read, is no UTF-8, is too long, or has no words.
    """
    found: dict[Path, str] = {}
    for photo in photos:
        path = photo.with_suffix(".txt")
        try:
            with path.open("rb") as file:
                data = file.read(_LIMIT_BYTES + 1)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise InputError(f"{shown_path(path)}: this caption cannot be read: {error.strerror or error}") from error
        try:
            words = " ".join(data.decode("utf-8-sig").split())
        except UnicodeDecodeError as error:
            raise InputError(f"{shown_path(path)}: this caption is no UTF-8 text", hint="save it as UTF-8, or remove it") from error
        if len(data) > _LIMIT_BYTES or not words:
            what = "empty" if not words else f"longer than {_LIMIT_BYTES} bytes"
            raise InputError(f"{shown_path(path)}: this caption is {what}", hint='write a line such as "a horse, seen from its left side"')
        found[photo] = words
    return found


def view_of_caption(caption: str) -> int | None:
    """Return which of the eight views a caption names in the words of a phrase book (0 the front, 2 the animal's left side), or None.

    Commas and capitals do not matter. A wording that is part of a longer one does not count; words for several views count for nothing.
    """
    words = _plain(caption)
    found = {wording: view for wording, view in _VIEW_OF.items() if re.search(rf"\b{re.escape(wording)}\b", words)}
    views = {view for wording, view in found.items() if not any(wording in other for other in found if other != wording)}
    return views.pop() if len(views) == 1 else None


def _plain(words: str) -> str:
    return " ".join(words.lower().replace(",", " ").split())


_VIEW_OF = {_plain(wording): view for view, wordings in enumerate(VIEW_WORDINGS) for wording in wordings}
