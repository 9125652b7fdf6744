"""What a user's words say: which animal, whether from which side, and how the prior is asked for a picture of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from farm3d.core.errors import InputError

__all__ = ["Ask", "action_in", "asks", "category_in", "checked_words", "names_a_view", "slug"]

_MOST_LETTERS = 300
_SLUG_BYTES = 80
_VIEWS = ("front-left", "front-right")
"""Views that are asked for in turn where the words name none: they show head, legs and one whole side. Of nine galloping white horses that
the shipped prior drew, three from each of these views and three from the left side, the ones from the side had the fewest legs."""
_NAMES_A_VIEW = re.compile(
    r"\b(seen|viewed|views?|facing|profile|head-on|toward the camera|away from the camera"
    r"|from (its |the )?(front|rear|back|behind|left|right|side|above|below)|degrees to its)\b"
)
_NEGATIVE = "multiple animals, cropped, occluded, rider, saddle, drawing"


@dataclass(frozen=True)
class Ask:
    """One thing to ask a text-to-image model for: the prompt, what the picture must not look like, and the view that was added, if any."""

    prompt: str
    negative: str = ""
    view: str | None = None


def checked_words(words: str) -> str:
    """Return the words on one line without blanks at their ends.

    Raises:
        InputError: there are none, too many, or no letter among them.
    """
    line = " ".join(words.split()).rstrip(" .,;")
    if not re.search(r"[^\W\d_]", line):
        raise InputError(f"no words to draw from: {words!r}", hint='say what to draw, e.g. "a white horse, galloping"')
    if len(line) > _MOST_LETTERS:
        raise InputError(f"{len(line)} letters of words: expected at most {_MOST_LETTERS}", hint="say it shorter")
    return line


def category_in(words: str, shipped: Sequence[str]) -> str:
    """Return which of the ``shipped`` categories the words name, in the singular or with an s.

    Raises:
        InputError: none or several of them; the hint names those that there are.
    """
    known = ", ".join(shipped)
    spoken = set(re.findall(r"[a-z]+", words.lower()))
    found = [name for name in shipped if {name, f"{name}s"} & spoken]
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(f"{words!r:.80} names {' and '.join(found)}: which is it?", hint=f"say it with --category {found[0]}")
    raise InputError(
        f"{words!r:.80} names no animal there is a model of; shipped: {known}",
        hint="name one of them, or say with --category which of them comes nearest",
    )


def action_in(words: str, known: Sequence[str]) -> str | None:
    """Return which of the ``known`` actions the words name, the first of them, or None."""
    spoken = words.lower()
    found = [(spoken.index(name), name) for name in known if re.search(rf"\b{re.escape(name)}\b", spoken)]
    return min(found)[1] if found else None


def names_a_view(words: str) -> bool:
    """Whether the words say from where the animal is seen."""
    return _NAMES_A_VIEW.search(words.lower()) is not None


def asks(words: str, *, embedded: bool, count: int) -> list[Ask]:
    """Return what to ask for in each of ``count`` tries: the words, with a good view where they name none.

    Args:
        words: the user's.
        embedded: worded as the captions that the embedded prior learned; else as Stable Diffusion is asked, with negative prompts.
        count: of tries. The first ones are the same whatever it is.
    """
    from farm3d.training.dataset.phrases import VIEW_NAMES, embedded_book, stable_diffusion_book

    if names_a_view(words):
        return [Ask(words, "" if embedded else _NEGATIVE)] * count
    prompts = (embedded_book("horse") if embedded else stable_diffusion_book("animal")).prompts
    turns = []
    for name in _VIEWS:
        # The books say "a bay horse, standing, seen from its front left" and "a photo of a single animal, standing, side view facing left".
        prompt = next(one for one in prompts if one.view == VIEW_NAMES.index(name) and one.action == "standing")
        turns.append(Ask(f"{words}, {prompt.text.split(', standing, ', 1)[1]}", prompt.negative, name))
    return [turns[number % len(turns)] for number in range(count)]


def slug(words: str) -> str:
    """Return the words as a file's name: small letters and digits of any script with hyphens between, at most 80 bytes."""
    parts = re.findall(r"[^\W_]+", words.lower())
    return "-".join(parts).encode()[:_SLUG_BYTES].decode("utf-8", "ignore").strip("-") or "animal"
