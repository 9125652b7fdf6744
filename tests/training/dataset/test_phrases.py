"""Words for samples: views as often as asked in every block, by seed and number alone; and prompt files checked to the last field."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from farm3d.barn.captions import VIEWS
from farm3d.barn.species import SPECIES
from farm3d.core.errors import InputError
from farm3d.training.dataset.captions import view_of_caption
from farm3d.training.dataset.phrases import (
    BLOCK,
    VIEW_NAMES,
    PhraseBook,
    Prompt,
    PromptOrder,
    embedded_book,
    read_view_shares,
    stable_diffusion_book,
)
from farm3d.training.dataset.prompt_file import read_prompt_file


def test_the_embedded_book_speaks_as_the_barn_does() -> None:
    book = embedded_book("horse")
    assert "a bay horse, walking, seen from its left side" in {prompt.text for prompt in book.prompts}
    assert len(book.prompts) == 8 * 6 * len(SPECIES["horse"].coats)
    assert all(VIEWS[prompt.view or 0][0] in prompt.text and prompt.negative == "" for prompt in book.prompts)
    assert {prompt.action for prompt in embedded_book("dog").prompts} >= {"eating", "walking"}


def test_the_embedded_prior_knows_no_other_species() -> None:
    with pytest.raises(InputError, match=r"the barn has no 'okapi'"):
        embedded_book("okapi")


def test_other_models_are_kept_from_other_views() -> None:
    book = stable_diffusion_book("cow")
    texts = {prompt.text for prompt in book.prompts}
    assert "a photo of a single brown cow, walking, side view facing left" in texts
    assert any("cow, walking away from the camera" in text for text in texts)
    assert all("rider" in prompt.negative for prompt in book.prompts)
    assert all("front view" in prompt.negative for prompt in book.prompts if prompt.view == VIEW_NAMES.index("behind"))
    okapis = stable_diffusion_book("okapi").prompts
    assert len(okapis) == 32 and all(prompt.coat is None and "  " not in prompt.text for prompt in okapis)


@pytest.mark.parametrize("seed", [0, 7])
def test_every_block_has_each_view_as_often_as_asked(seed: int) -> None:
    order = PromptOrder(embedded_book("horse").prompts, seed)
    for block in range(4):
        prompts = [order(block * BLOCK + place) for place in range(BLOCK)]
        assert set(Counter(prompt.view for prompt in prompts).values()) == {BLOCK // 8}
        assert set(Counter(prompt.action for prompt in prompts).values()) <= set(range(8, 17))  # a few either way
        assert len({prompt.coat for prompt in prompts}) > 8
        assert [prompt.view for prompt in prompts] != sorted(prompt.view or 0 for prompt in prompts)
    coats = Counter(order(number).coat for number in range(40 * BLOCK))
    assert max(coats.values()) < 1.3 * min(coats.values())


def test_a_ratio_of_views() -> None:
    book = embedded_book("cow").with_views(read_view_shares(["behind=3", "front=1"]))
    count = Counter(prompt.view for prompt in map(PromptOrder(book.prompts, 0), range(BLOCK)))
    assert count == {VIEW_NAMES.index("behind"): 48, 0: 16}
    assert book.digest != embedded_book("cow").digest


def test_words_depend_on_seed_and_number_alone() -> None:
    first, again, other = (PromptOrder(embedded_book("cow").prompts, seed) for seed in (0, 0, 1))
    assert [first(number) for number in (5, 700, 5)] == [again(number) for number in (5, 700, 5)]
    assert [first(number) for number in range(40)] != [other(number) for number in range(40)]


@pytest.mark.parametrize(
    "bad", [["up=1"], ["front"], ["front=x"], ["front=-1"], ["front=nan"], ["front=inf"], ["front=0"], ["front=1", "front=2"]]
)
def test_ratios_that_cannot_be(bad: list[str]) -> None:
    with pytest.raises(InputError, match="--views"):
        read_view_shares(bad)


def test_a_ratio_asks_for_views_that_prompts_have() -> None:
    with pytest.raises(InputError, match=r"prompt 2 of the file has none: 'b'"):
        PhraseBook("file", (Prompt("a", view=1), Prompt("b"))).with_views({"left": 1.0})
    with pytest.raises(InputError, match="shows the view 'left'"):
        PhraseBook("file", (Prompt("a", view=1),)).with_views({"left": 1.0})


def test_a_prompt_file(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text('negative = "drawing"\n[[prompt]]\ntext = "a goat"\nview = "left"\nweight = 3\n[[prompt]]\ntext = "b"\nnegative = ""\n')
    book = read_prompt_file(path)
    assert book.prompts == (Prompt("a goat", "drawing", 2, weight=3.0), Prompt("b", ""))
    assert Counter(PromptOrder(book.prompts, 0)(number).text for number in range(BLOCK)) == {"a goat": 48, "b": 16}
    path.write_text(path.read_text() + "# only a remark\n")
    assert read_prompt_file(path).digest == book.digest


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no prompt in it"),
        ("prompt = 3", "no prompt in it"),
        ("prompt = [3]", "prompt 1: expected a table"),
        ("[[prompt]]\ntext = 3", "prompt 1: text is '3', expected words"),
        ('[[prompt]]\ntext = "a"\n[[prompt]]\ntext = "b"\nwieght = 2', "prompt 2: unknown field 'wieght'"),
        ('seed = 1\n[[prompt]]\ntext = "a"', "unknown field 'seed'"),
        ('[[prompt]]\ntext = " "', "prompt 1: text is ' '"),
        ('[[prompt]]\nview = "left"', "prompt 1: has no text"),
        ('[[prompt]]\ntext = "a"\nview = "above"', "prompt 1: view is 'above', expected one of front"),
        ('[[prompt]]\ntext = "a"\nweight = true', "prompt 1: weight is True"),
        ('[[prompt]]\ntext = "a"\nweight = -1', "prompt 1: weight is -1"),
        ('[[prompt]]\ntext = "a"\nweight = nan', "prompt 1: weight is nan"),
        ('[[prompt]]\ntext = "a"\nweight = 0', "every weight is 0"),
        ("[[prompt]\n", "not readable as TOML"),
        ("\udcff", "not readable as TOML"),
    ],
)
def test_a_prompt_file_that_cannot_be_used_is_told_by_entry_and_field(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "p.toml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError) as caught:
        read_prompt_file(path)
    assert str(path) in caught.value.message and words in caught.value.message


def test_no_such_prompt_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_prompt_file(tmp_path / "none.toml")


def test_captions_of_both_books_name_their_view() -> None:
    for prompt in (*embedded_book("cow").prompts, *stable_diffusion_book("okapi").prompts):
        assert view_of_caption(prompt.text) == prompt.view, prompt.text


@pytest.mark.parametrize(
    ("caption", "view"),
    [
        ("a horse, Seen from ITS front left", "front-left"),  # and not the front, which it begins with
        ("a horse in profile head to the right", "right"),
        ("a horse", None),
        ("a horse, front view, and another, back viewer", "front"),
        ("front view, facing the camera", "front"),
        ("seen from its left side, seen from its rear left", None),  # two views
        ("from the rear or front view", None),
    ],
)
def test_words_for_one_view_count(caption: str, view: str | None) -> None:
    assert view_of_caption(caption) == (None if view is None else VIEW_NAMES.index(view))
