"""Pictures drawn one at a time by a tiny real model and judged by the real filters and backbone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.testing.drawing_model import write_drawing_model
from tests.testing.tiny_models import tiny_stable_diffusion

from farm3d.apps.candidates import LESS_SURE, Candidate, DrawnPictures, noise_seed, surest
from farm3d.apps.words import Ask
from farm3d.data.photo import alpha_is_mask, photo_from_image
from farm3d.diffusion.prior import PicturePrior, load_prior
from farm3d.model.caption_reader import CaptionReader
from farm3d.model.encoder import Encoder
from farm3d.training.dataset.filters import BORDER, NOT_QUADRUPED, NOT_THE_ANIMAL, NOT_THE_VIEW, TOO_LARGE, reason_against

pytest.importorskip("diffusers", reason="diffusers is not installed: pip install 'farm3d[diffusion]'")

ASKS = [Ask("a red toy, seen from its left side")] * 8


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.from_pretrained()


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> PicturePrior:
    return load_prior(write_drawing_model(tmp_path_factory.mktemp("model") / "toys"))


def drawn(prior: PicturePrior, encoder: Encoder, count: int, *, seed: int = 0, any_animal: bool = True) -> list[Candidate]:
    draw = DrawnPictures(prior, encoder, None, guidance=2.0, steps=3, any_animal=any_animal)
    return list(draw(ASKS[:count], seed=seed))


def test_what_passes_is_a_picture_with_its_mask_and_what_does_not_has_a_reason(toys: PicturePrior, encoder: Encoder) -> None:
    candidates = drawn(toys, encoder, 8)
    assert [candidate.number for candidate in candidates] == list(range(1, 9))
    passed = [candidate for candidate in candidates if candidate.pixels is not None]
    assert 0 < len(passed) < 8
    for candidate in candidates:
        assert (candidate.pixels is None) == (candidate.reason is not None)
        assert candidate.facts()["seed"] == candidate.seed == noise_seed(0, candidate.number)
    for candidate in passed:
        assert candidate.pixels is not None and candidate.pixels.shape == (32, 32, 4) and candidate.animal_probability is not None
        assert reason_against(candidate.pixels[..., 3] / 255) is None and alpha_is_mask(photo_from_image(candidate.pixels))


def test_the_first_pictures_do_not_depend_on_how_many_follow(toys: PicturePrior, encoder: Encoder) -> None:
    few, many, other = drawn(toys, encoder, 3), drawn(toys, encoder, 8), drawn(toys, encoder, 3, seed=1)
    for a, b in zip(few, many, strict=False):
        assert a.reason == b.reason
        if a.pixels is not None:
            assert b.pixels is not None and np.array_equal(a.pixels, b.pixels)
    assert {one.seed for one in few}.isdisjoint(one.seed for one in other)


def test_what_the_backbone_takes_for_no_animal_is_refused_unless_allowed(toys: PicturePrior, encoder: Encoder) -> None:
    strict, lax = drawn(toys, encoder, 8, any_animal=False), drawn(toys, encoder, 8)
    assert [one.reason for one in strict if one.reason != NOT_QUADRUPED] == [
        a.reason for a, b in zip(lax, strict, strict=True) if b.reason != NOT_QUADRUPED
    ]
    assert all(one.animal_probability is not None and one.animal_probability < 0.1 for one in strict if one.reason == NOT_QUADRUPED)


def test_the_callback_is_told_every_step(toys: PicturePrior, encoder: Encoder) -> None:
    told: list[tuple[int, int, int]] = []
    draw = DrawnPictures(toys, encoder, None, guidance=2.0, steps=3)
    list(draw(ASKS[:2], seed=0, callback=lambda number, step, total: told.append((number, step, total))))
    assert told == [(number, step, 3) for number in (1, 2) for step in (1, 2, 3)]


@pytest.mark.parametrize(("what", "reason"), [("disc", None), ("all", TOO_LARGE), ("left half", BORDER)])
def test_a_model_without_silhouettes_needs_a_segmenter(what: str, reason: str | None, encoder: Encoder, tmp_path: Path) -> None:
    """What the segmenter finds becomes the picture's alpha, so that the picture alone can be reconstructed again."""
    rows, columns = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    coverage = {
        "disc": ((rows - 7.5) ** 2 + (columns - 7.5) ** 2 < 45).float(),
        "all": torch.ones(16, 16),
        "left half": (columns < 7).float(),
    }[what].numpy()
    prior = load_prior(tiny_stable_diffusion(tmp_path / "sd"))
    seen = []

    def segmenter(rgb: np.ndarray) -> np.ndarray:
        seen.append(rgb.shape)
        return coverage

    draw = DrawnPictures(prior, encoder, segmenter, guidance=2.0, steps=2, any_animal=True)
    (candidate,) = draw([Ask("a cow", negative="a horse")], seed=0)
    assert seen == [(16, 16, 3)] and candidate.reason == reason
    if reason is None:
        assert candidate.pixels is not None and np.array_equal(candidate.pixels[..., 3], (coverage * 255).astype(np.uint8))


def test_the_surest_of_those_that_passed_stay(toys: PicturePrior) -> None:
    pixels = np.zeros((4, 4, 4), np.uint8)
    reads = [{"view": 0.9, "species": 0.5}, {"view": 0.8, "species": 0.9}, None, {"view": 0.41, "species": 0.3}]
    some = [Candidate(number, ASKS[0], number, pixels, read=read) for number, read in enumerate(reads, start=1)]
    some.insert(0, Candidate(9, ASKS[0], 9, reason=BORDER))
    kept = surest(some, 2)
    assert [one.number for one in kept] == [9, 1, 2, 3, 4]
    assert [one.reason for one in kept] == [BORDER, LESS_SURE, None, None, LESS_SURE]  # no opinion is no doubt
    assert all((one.pixels is None) == (one.reason is not None) for one in kept)
    unread = [Candidate(number, ASKS[0], number, pixels) for number in (1, 2, 3)]
    assert [one.reason for one in surest(unread, 2)] == [None, None, LESS_SURE]


def test_what_the_reader_does_not_find_is_refused_with_what_it_found(toys: PicturePrior, encoder: Encoder) -> None:
    reader = CaptionReader.from_pretrained(encoder=encoder)
    draw = DrawnPictures(toys, encoder, None, guidance=2.0, steps=3, any_animal=True, reader=reader, species="horse", action="walking")
    candidates = list(draw([Ask("a red toy, seen from its left side", view="left")] * 8, seed=0))
    lax = drawn(toys, encoder, 8)
    read = [one for one in candidates if one.read is not None]
    assert len(read) == sum(one.pixels is not None for one in lax) and {NOT_THE_ANIMAL, NOT_THE_VIEW} & {one.reason for one in read}
    for one in read:
        assert set(one.read or {}) == {"species", "view", "action"} and one.facts()["read"] == one.read
