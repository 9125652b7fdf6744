"""Batches depend on seed, phase and step alone; pictures and prompts belong together."""

from __future__ import annotations

import pytest
import torch
from tests.testing.toy_animals import COATS, toy_cache

from farm3d.core.color import linear_from_srgb
from farm3d.training.prior.batches import Batches, on_ground


def test_a_batch_is_a_function_of_its_step() -> None:
    cache = toy_cache()
    one, other = (Batches(cache, seed=1, phase="denoiser", batch=8) for _ in range(2))
    for step in (0, 7, 3):
        assert torch.equal(one.at(step).rgb, other.at(step).rgb) and one.at(step).prompts == other.at(step).prompts
    assert not torch.equal(one.at(0).rgb, Batches(cache, seed=2, phase="denoiser", batch=8).at(0).rgb)
    assert one.at(0).numbers != Batches(cache, seed=1, phase="words", batch=8).at(0).numbers


def test_an_epoch_has_every_picture_once_and_none_that_is_held_out() -> None:
    cache = toy_cache(copies=4)
    batches = Batches(cache, seed=0, phase="words", batch=8)
    first = [number for step in range(4) for number in batches.at(step).numbers]
    second = [number for step in range(4, 8) for number in batches.at(step).numbers]
    assert sorted(first) == sorted(second) == list(range(32))
    assert first != second


def test_words_turn_over_with_their_pictures() -> None:
    batches = Batches(toy_cache(), seed=0, phase="words", batch=32)
    seen = set()
    for step in range(6):
        batch = batches.at(step)
        for rgb, alpha, prompt in zip(batch.rgb, batch.alpha, batch.prompts, strict=True):
            head = (rgb.amax(0) < 0.1) & (alpha > 0.99)
            column = float(head.nonzero()[:, 1].float().mean())
            for side in ("left", "right"):
                if side in prompt.split():
                    assert (column < 16) == (side == "left")
                    seen.add((side, "background" in prompt))
            body = rgb[:, 15, 16]
            for coat, colour in COATS.items():
                if f"{coat} horse" in prompt and "on a" not in prompt:
                    torch.testing.assert_close(body, torch.tensor(colour) / 255, atol=0.01, rtol=0)
    assert len(seen) == 4


def test_grounds_are_mixed_as_light() -> None:
    rgb = torch.full((3, 16, 16), 0.8)
    alpha = torch.zeros(16, 16)
    alpha[4:12, 4:12] = 1
    alpha[4:12, 12] = 0.25
    rgb[:, 4:12, 12] = 0.3  # over what was behind it
    black = on_ground(rgb, alpha, torch.zeros(3))
    assert torch.equal(black[:, 0, 0], torch.zeros(3))
    torch.testing.assert_close(black[:, 6, 6], torch.full((3,), 0.8))
    torch.testing.assert_close(linear_from_srgb(black[:, 7, 12]), 0.25 * linear_from_srgb(torch.full((3,), 0.8)), atol=2e-3, rtol=0)


@pytest.mark.parametrize("seed", range(3))
def test_grounds_change_nothing_within_the_animal(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    rgb, alpha = torch.rand(3, 16, 16, generator=generator), (torch.rand(16, 16, generator=generator) > 0.5).float()
    changed = on_ground(rgb, alpha, torch.ones(3))
    inside = (alpha == 1).expand(3, -1, -1)
    torch.testing.assert_close(changed[inside], rgb[inside], atol=1e-5, rtol=0)
    torch.testing.assert_close(changed[~inside], torch.ones(int((~inside).sum())))
