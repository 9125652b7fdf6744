"""What is said while training: mirrored exactly, and never more than a caption says."""

from __future__ import annotations

import numpy as np
import pytest

from farm3d.barn.captions import VIEWS, captions, view_index
from farm3d.barn.species import species
from farm3d.diffusion.embedded.config import PRESETS
from farm3d.diffusion.embedded.tokenizer import PAD, WordTokenizer
from farm3d.training.prior.words import GROUNDS, SCENES, mirrored, said, vocabulary_captions


@pytest.mark.parametrize("azimuth", range(0, 360, 15))
def test_mirrored_captions_are_those_of_the_mirrored_camera(azimuth: int) -> None:
    """A picture turned over shows the animal from azimuth -a; its caption turned over must be the one the barn gives there."""

    def told(angle: float) -> list[str]:
        rng = np.random.default_rng(1)
        return captions(species("horse"), coat="bay", markings=("a blaze",), action="walking", azimuth_deg=angle, elevation_deg=5, rng=rng)

    if view_index(azimuth) == view_index(-azimuth) or azimuth % 45 < 22:  # off the borders between views, which belong to one side
        assert [mirrored(caption) for caption in told(azimuth)] == told(-azimuth % 360)


def test_mirroring_twice_changes_nothing_and_spares_other_words() -> None:
    for view in VIEWS:
        for wording in view:
            assert mirrored(mirrored(wording)) == wording
    assert mirrored("turned to the left, its right side, leftover") == "turned to the right, its left side, leftover"


def test_prompts_hold_only_words_of_the_caption_its_scene_or_none_at_all() -> None:
    words = ("a bay horse, walking, seen from its left side", "bay horse, walking, side view, facing left")
    known = set(" ".join(words).replace(",", "").split()) | set(SCENES["field"].split())
    rng = np.random.default_rng(0)
    prompts = [said(words, "horse", SCENES["field"], rng) for _ in range(2000)]
    strange = [prompt for prompt in prompts if set(prompt.replace(",", "").split()) - known]
    assert 0.04 < len(strange) / 2000 < 0.10  # those with a made-up word
    assert 0.07 < prompts.count("") / 2000 < 0.13
    assert sum(prompt == "a horse" for prompt in prompts) > 80
    assert 0.15 < sum("in a field" in prompt for prompt in prompts) / 2000 < 0.4
    assert any("walking" in prompt and "left" not in prompt for prompt in prompts)


def test_equal_streams_say_equal_things() -> None:
    words = ("a bay horse, walking, seen from its left side",)
    one, other = ([said(words, "horse", "in a field", np.random.default_rng(seed)) for seed in range(20)] for _ in range(2))
    assert one == other


def test_the_longest_caption_fits() -> None:
    text = PRESETS["default"].text
    tokenizer = WordTokenizer.of_captions(vocabulary_captions(), buckets=text.buckets, max_words=text.max_words)
    longest = "a three-quarter view picture of a brown and white patched horse with a blaze and four white socks, lowering its head, "
    tokens = tokenizer([longest + "three-quarter view from behind, its right side, " + GROUNDS["colour"] + " wordthatisnone"])
    assert 30 < int((tokens.words != PAD).sum()) <= text.max_words
