"""Prompts to numbers: known words by number, and the letters of every word hashed, so that a word never seen still says something."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from farm3d.core.errors import InputError, ModelError
from farm3d.core.shapes import Int, Tensor
from farm3d.structures._value import Value

__all__ = ["PAD", "UNKNOWN", "Tokens", "WordTokenizer"]

PAD, UNKNOWN = 0, 1
_FIRST_WORD = 2
_WORD = re.compile(r"[a-z]+|[0-9]+")
_PIECES = 8  # runs of three letters that are kept of one word


@dataclass(frozen=True, eq=False, repr=False)
class Tokens(Value):
    """B prompts of up to W words.

    Attributes:
        words: number of each word; :data:`PAD` after the last, :data:`UNKNOWN` for one that is in no caption, ``[B, W]``.
        pieces: buckets of each word's runs of three letters, from 1; 0 where there are no more, ``[B, W, P]``.
    """

    words: Int[Tensor, "B W"]
    pieces: Int[Tensor, "B W P"]


class WordTokenizer:
    """Splits prompts into words.

    Letters are lowered, and everything else but digits separates words: "three-quarter view" are three. A number that is not known is read
    as the nearest known one ("40 degrees" as 45).

    Args:
        words: the known ones.
        buckets: that runs of letters are hashed to.
        max_words: that a prompt may have.

    Raises:
        ModelError: a word twice, or one that no prompt can contain.
    """

    def __init__(self, words: Sequence[str], *, buckets: int, max_words: int) -> None:
        if bad := [word for word in words if not _WORD.fullmatch(word)]:
            raise ModelError(f"vocabulary: {bad[0]!r} is not a word: lower-case letters or digits are")
        if len(set(words)) != len(words):
            raise ModelError("vocabulary: the same word twice")
        self.words = tuple(words)
        self.buckets = buckets
        self.max_words = max_words
        self._number = {word: i + _FIRST_WORD for i, word in enumerate(self.words)}
        self._values = sorted(int(word) for word in self.words if word.isdigit())

    @classmethod
    def of_captions(cls, captions: Iterable[str], *, buckets: int, max_words: int) -> WordTokenizer:
        """Return the tokenizer that knows the words of ``captions``, in alphabetical order."""
        found: set[str] = set()
        for caption in captions:
            found.update(_WORD.findall(caption.lower()))
        return cls(sorted(found), buckets=buckets, max_words=max_words)

    def __call__(self, prompts: Sequence[str]) -> Tokens:
        """Return the tokens of ``prompts``, as wide as the longest of them (at least one column).

        Raises:
            InputError: a prompt has more words than ``max_words``.
        """
        rows = [self._row(prompt) for prompt in prompts]
        width = max([1, *map(len, rows)])
        words = torch.zeros(len(rows), width, dtype=torch.long)
        pieces = torch.zeros(len(rows), width, _PIECES, dtype=torch.long)
        for row, found in enumerate(rows):
            for column, word in enumerate(found):
                words[row, column] = self._number.get(word, UNKNOWN)
                hashed = self._hashed(word)
                pieces[row, column, : len(hashed)] = torch.tensor(hashed)
        return Tokens(words, pieces)

    def _row(self, prompt: str) -> list[str]:
        found = [self._nearest(word) for word in _WORD.findall(prompt.lower())]
        if len(found) > self.max_words:
            raise InputError(f"the prompt has {len(found)} words: '{prompt[:60]}…'", hint=f"the model reads {self.max_words}")
        return found

    def _nearest(self, word: str) -> str:
        if not word.isdigit() or word in self._number or not self._values:
            return word
        value = int(word[:9])
        return str(min(self._values, key=lambda known: abs(known - value)))

    def _hashed(self, word: str) -> list[int]:
        framed = f"<{word}>"
        runs = [framed[i : i + 3] for i in range(len(framed) - 2)]
        return [1 + zlib.crc32(run.encode()) % self.buckets for run in runs[:_PIECES]]
