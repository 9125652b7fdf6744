"""Prompts to numbers."""

from __future__ import annotations

import pytest
import torch

from farm3d.core.errors import InputError, ModelError
from farm3d.diffusion.embedded.tokenizer import PAD, UNKNOWN, WordTokenizer

CAPTIONS = ["a bay horse, walking, three-quarter view from its left", "seen from 45 degrees", "seen from 120 degrees"]


@pytest.fixture
def tokenizer() -> WordTokenizer:
    return WordTokenizer.of_captions(CAPTIONS, buckets=512, max_words=12)


def test_the_vocabulary_is_the_captions_words_in_order(tokenizer: WordTokenizer) -> None:
    assert list(tokenizer.words) == sorted(tokenizer.words)
    assert {"three", "quarter", "45", "120", "bay"} <= set(tokenizer.words)
    again = WordTokenizer.of_captions(reversed(CAPTIONS), buckets=512, max_words=12)
    assert again.words == tokenizer.words


def test_case_and_punctuation_say_nothing(tokenizer: WordTokenizer) -> None:
    one, other = tokenizer(["a bay horse, walking", "A  BAY-horse: walking!"]).words
    assert torch.equal(one, other)


def test_what_is_unknown_keeps_its_letters(tokenizer: WordTokenizer) -> None:
    tokens = tokenizer(["a horse walks", "a horse walking", "a horse zzz"])
    assert tokens.words[0, 2] == tokens.words[2, 2] == UNKNOWN
    walks, walking, other = (set(row[2][row[2] > 0].tolist()) for row in tokens.pieces)
    assert len(walks & walking) >= 3  # <wa, wal, alk
    assert not walks & other


def test_a_number_is_read_as_the_nearest_known(tokenizer: WordTokenizer) -> None:
    words = tokenizer(["from 40 degrees", "from 45 degrees", "from 999999999999999 degrees", "from 120 degrees"]).words
    assert torch.equal(words[0], words[1])
    assert torch.equal(words[2], words[3])


def test_short_prompts_are_padded_and_the_empty_one_is_a_prompt(tokenizer: WordTokenizer) -> None:
    tokens = tokenizer(["", "a horse"])
    assert tokens.words.shape == (2, 2)
    assert tokens.words[0].tolist() == [PAD, PAD] and not tokens.pieces[0].any()
    assert tokenizer([""]).words.shape == (1, 1)


def test_too_many_words_are_an_error(tokenizer: WordTokenizer) -> None:
    with pytest.raises(InputError, match=r"13 words.*reads 12"):
        tokenizer(["horse " * 13])


@pytest.mark.parametrize("words", [["horse", "horse"], ["Horse"], ["a b"], [""]])
def test_vocabularies_that_cannot_be(words: list[str]) -> None:
    with pytest.raises(ModelError):
        WordTokenizer(words, buckets=8, max_words=4)
