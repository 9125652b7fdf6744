"""Seeded streams: equal words, equal draws; and nobody touches the global streams."""

from __future__ import annotations

import numpy as np
import torch

from farm3d.core.random import numpy_generator, torch_generator


def test_equal_words_equal_stream() -> None:
    assert np.array_equal(numpy_generator(0, "coat", 7).random(5), numpy_generator(0, "coat", 7).random(5))
    assert torch.equal(torch.rand(5, generator=torch_generator(0, "a")), torch.rand(5, generator=torch_generator(0, "a")))


def test_other_words_other_stream() -> None:
    draws = [numpy_generator(*words).random() for words in [(0, "coat", 7), (0, "coat", 8), (0, "coat"), (1, "coat", 7), (0, "coat/7", "")]]
    assert len(set(draws)) == len(draws)


def test_the_global_streams_stay_untouched() -> None:
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state(legacy=True)
    torch.rand(3, generator=torch_generator(3, "x"))
    numpy_generator(3, "x").random(3)
    assert torch.equal(torch.get_rng_state(), torch_before)
    assert all(np.array_equal(now, before) for now, before in zip(np.random.get_state(legacy=True), numpy_before, strict=True))


def test_the_seeding_does_not_change_between_releases() -> None:
    """Seeds are a promise to users: the same seed gives the same files. These numbers were made by version 0.1.0."""
    assert torch_generator(0, "promise").initial_seed() == TORCH_SEED
    assert numpy_generator(0, "promise").bit_generator.seed_seq.entropy == NUMPY_ENTROPY  # pyright: ignore[reportAttributeAccessIssue]


TORCH_SEED = 6600472562615462979
NUMPY_ENTROPY = 15823844599470238787
