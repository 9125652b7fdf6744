"""What words say: category, view, file name."""

from __future__ import annotations

import pytest

from farm3d.apps.words import action_in, asks, category_in, checked_words, names_a_view, slug
from farm3d.core.errors import InputError

SHIPPED = ["cow", "horse", "sheep"]


@pytest.mark.parametrize(
    ("words", "category"),
    [
        ("a white horse, galloping", "horse"),
        ("Cow", "cow"),
        ("two black-faced SHEEP", "sheep"),
        ("horses", "horse"),
        ("the horse's horse", "horse"),
    ],
)
def test_the_category_is_the_animal_that_is_named(words: str, category: str) -> None:
    assert category_in(words, SHIPPED) == category


def test_no_animal_and_two_animals_are_said_with_what_there_is() -> None:
    with pytest.raises(InputError, match="no animal there is a model of; shipped: cow, horse, sheep") as caught:
        category_in("a seahorse", SHIPPED)  # no part of a word counts
    assert "--category" in caught.value.hint
    with pytest.raises(InputError, match="names cow and horse: which is it"):
        category_in("a horse like a cow", SHIPPED)


@pytest.mark.parametrize("words", ["", "  ", "...", "42"])
def test_words_without_a_word_are_refused(words: str) -> None:
    with pytest.raises(InputError, match="no words to draw from"):
        checked_words(words)


def test_words_become_one_line_of_some_length() -> None:
    assert checked_words("  a white\nhorse,\t galloping. ") == "a white horse, galloping"
    with pytest.raises(InputError, match="expected at most 300"):
        checked_words("horse " * 60)


@pytest.mark.parametrize(
    "words", ["a horse seen from behind", "a cow, side view", "a sheep facing left", "a cow from the rear", "a horse in profile"]
)
def test_a_view_that_is_named_is_left_alone(words: str) -> None:
    assert names_a_view(words)
    assert {ask.prompt for embedded in (True, False) for ask in asks(words, embedded=embedded, count=3)} == {words}


@pytest.mark.parametrize("words", ["a white horse, galloping", "a horse from the farm", "a cow lowering its head"])
def test_else_views_are_added_in_turn_whatever_the_number_of_tries(words: str) -> None:
    assert not names_a_view(words)
    few, many = asks(words, embedded=True, count=2), asks(words, embedded=True, count=5)
    assert [ask.prompt for ask in few] == [f"{words}, seen from its front left", f"{words}, seen from its front right"]
    assert many[:2] == few and many[2] == many[0] and len(many) == 5
    assert all(ask.negative == "" for ask in many)


def test_stable_diffusion_is_asked_in_its_own_words_and_told_what_not_to_draw() -> None:
    first, second = asks("a white horse", embedded=False, count=2)
    assert first.prompt == "a white horse, three-quarter view from the front, facing left" and first.view == "front-left"
    assert second.prompt.endswith("facing right") and "multiple animals" in first.negative and "back view" in first.negative
    assert asks("a white horse, side view", embedded=False, count=1)[0].negative.startswith("multiple animals")


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("a white horse, galloping", "a-white-horse-galloping"),
        ("A  Cow_with: (spots)!", "a-cow-with-spots"),
        ("../../etc/horse", "etc-horse"),
        ("лошадь", "лошадь"),
        ("!!!", "animal"),
    ],
)
def test_names_of_files(words: str, name: str) -> None:
    assert slug(words) == name


def test_a_long_name_is_cut_between_letters() -> None:
    assert len(slug("ö" * 200).encode()) <= 80 and set(slug("ö" * 200)) == {"ö"}
    assert not slug("a" * 79 + " bc").endswith("-")


@pytest.mark.parametrize(
    ("words", "action"),
    [
        ("a white horse, galloping", "galloping"),
        ("a cow lowering its head, walking", "lowering its head"),
        ("a sleepwalking sheep", None),
        ("a horse", None),
    ],
)
def test_the_action_is_the_first_one_that_is_named(words: str, action: str | None) -> None:
    assert action_in(words, ["walking", "galloping", "lowering its head"]) == action
