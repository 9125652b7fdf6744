"""Which category a picture shows, by the shipped categories on the shipped example."""

from pathlib import Path

import pytest

from farm3d.core.errors import InputError
from farm3d.model.any_category import AnyCategory
from farm3d.model.fitting import FitOptions
from farm3d.model.reconstructor import read_picture

EXAMPLE = Path(__file__).parents[2] / "examples" / "horse.png"


@pytest.fixture(scope="module")
def every() -> AnyCategory:
    return AnyCategory.from_pretrained(["cow", "horse", "sheep"])


def test_the_example_is_a_horse(every: AnyCategory) -> None:
    photo, silhouette = read_picture(EXAMPLE, None, None)
    guesses = every.recognise(every.reconstructors["cow"].crop(photo, silhouette))
    assert guesses[0].category == "horse" and sorted(guess.category for guess in guesses) == ["cow", "horse", "sheep"]
    assert sum(guess.probability for guess in guesses) == pytest.approx(1) and guesses[0].probability > 0.4


def test_the_answer_is_of_that_category(every: AnyCategory, monkeypatch: pytest.MonkeyPatch) -> None:
    short = FitOptions(hypotheses=4, refine_steps=1)
    monkeypatch.setattr("farm3d.model.reconstructor.FitOptions", lambda **how: short)
    found = every(EXAMPLE, texture_px=64)
    assert found.animal.category == "horse" == found.categories[0].category


def test_two_of_a_kind_are_refused() -> None:
    with pytest.raises(InputError, match="two categories for horse"):
        AnyCategory.from_pretrained(["horse", "horse-learned"])


def test_learned_categories_tell_kinds_apart_by_what_they_draw() -> None:
    learned = AnyCategory.from_pretrained(["cow-learned", "horse-learned"])
    photo, silhouette = read_picture(EXAMPLE, None, None)
    first = learned.reconstructors["horse"]
    crop = first.crop(photo, silhouette)
    assert first.first_score(crop, first.maps(crop)) < learned.reconstructors["cow"].first_score(crop, first.maps(crop))
    assert learned.recognise(crop)[0].category == "horse"


def test_learned_categories_judge_for_those_without_networks() -> None:
    judged = AnyCategory.from_pretrained(["cow", "horse"], judges=["horse-learned", "cow-learned"])
    photo, silhouette = read_picture(EXAMPLE, None, None)
    crop = judged.reconstructors["horse"].crop(photo, silhouette)
    with_judges = {guess.category: guess.probability for guess in judged.recognise(crop)}
    without = {guess.category: guess.probability for guess in AnyCategory(judged.reconstructors).recognise(crop)}
    one_judge = AnyCategory.from_pretrained(["cow", "horse"], judges=["horse-learned"]).recognise(crop)
    assert with_judges["horse"] > without["horse"] + 0.05
    assert {guess.category: guess.probability for guess in one_judge} == without  # a score alone says nothing
    learned = AnyCategory.from_pretrained(["cow-learned", "horse-learned"]).recognise(crop)
    assert with_judges == {guess.category: guess.probability for guess in learned}


def test_nothing_to_choose_from_is_told() -> None:
    with pytest.raises(InputError, match="no category"):
        AnyCategory({})
