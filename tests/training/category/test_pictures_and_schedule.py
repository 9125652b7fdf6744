"""Batches depend on the step alone, mirrored pictures are mirrored in all, and the schedule does what its table says."""

import math

import numpy as np
import pytest
import torch
from tests.testing.toy_category import toy_pictures

from farm3d.training.category.pictures import FEW_STANDING, PictureSet, mirrored_view
from farm3d.training.category.schedule import Schedule, Weights
from farm3d.training.category.step import mirrored_hypothesis


def test_batches_depend_on_the_step_alone_and_show_each_picture_once_an_epoch() -> None:
    pictures = toy_pictures()
    batches = [pictures.batch(step, seed=3, size=6) for step in range(8)]
    for epoch in (batches[:4], batches[4:]):
        assert sorted(number for batch in epoch for number in batch.numbers) == list(range(24))
    again = pictures.batch(5, seed=3, size=6)
    assert torch.equal(again.rgb, batches[5].rgb) and np.array_equal(again.flipped, batches[5].flipped)
    assert not np.array_equal(pictures.batch(5, seed=4, size=6).numbers, again.numbers)


def test_a_training_may_begin_with_standing_animals() -> None:
    toys = toy_pictures()
    many = np.arange(len(toys)).repeat(6)
    values = (toys.rgb[many], toys.mask[many], toys.features[many], toys.scale, toys.views[many], tuple(map(str, many)), "many")
    standing = np.arange(len(many)) % 2 == 1
    pictures = PictureSet(*values, standing)
    steps = [pictures.batch(step, seed=3, size=6, standing=True) for step in range(int(standing.sum()) // 6)]
    assert sorted(number for batch in steps for number in batch.numbers) == np.flatnonzero(standing).tolist()
    few = np.arange(len(many)) < FEW_STANDING - 1
    for others in (PictureSet(*values), PictureSet(*values, few)):  # not known, or too few
        assert np.array_equal(others.batch(2, seed=3, size=6, standing=True).numbers, pictures.batch(2, seed=3, size=6).numbers)
    schedule = Schedule(100, standing_until=0.25)
    assert [schedule.at(step).standing for step in (0, 24, 25, 99)] == [True, True, False, False]
    assert not Schedule(100).at(0).standing


def test_thin_parts_count_less_and_less() -> None:
    schedule = Schedule(100, thin_until=0.4)
    assert [schedule.at(step).thin for step in (0, 10, 20, 40, 99)] == [1.0, 0.75, 0.5, 0.0, 0.0]
    assert Schedule(100, thin_until=0).at(99).thin == 1
    assert schedule.at(20).faded(Weights(thin=8.0, mask=3.0)) == Weights(thin=4.0, mask=3.0)


def test_gaps_count_more_as_thin_parts_count_less() -> None:
    schedule = Schedule(100, thin_until=0.4)
    assert [schedule.at(step).gap for step in (0, 10, 20, 40, 99)] == [0.0, 0.25, 0.5, 1.0, 1.0]
    assert Schedule(100, thin_until=0).at(0).gap == 1
    assert schedule.at(10).faded(Weights(thin=8.0, gap=4.0)) == Weights(thin=6.0, gap=1.0)


def test_a_mirrored_picture_is_mirrored_in_all() -> None:
    pictures = toy_pictures()
    numbers = np.arange(6)
    plain = pictures.take(numbers, np.zeros(6, bool))
    turned = pictures.take(numbers, np.ones(6, bool))
    for name in ("rgb", "mask", "features"):
        assert torch.equal(getattr(turned, name), getattr(plain, name).flip(-1))
    assert float(plain.features.std()) == pytest.approx(1, abs=0.5)
    assert mirrored_view(np.array([0, 1, 2, 4, 7, -1])).tolist() == [0, 7, 6, 4, 1, -1]
    assert turned.views.tolist() == mirrored_view(plain.views.numpy()).tolist()


def test_quarters_change_sides() -> None:
    """Hypothesis k looks from 45 + 90 k degrees: the mirror image of 45 degrees is 315."""
    middles = 45 + 90 * np.arange(4)
    mirrored = mirrored_hypothesis(np.arange(4), np.ones(4, bool), 4)
    assert np.array_equal(middles[mirrored], (-middles) % 360)
    assert np.array_equal(mirrored_hypothesis(np.arange(4), np.zeros(4, bool), 4), np.arange(4))


def test_the_schedule_switches_on_time() -> None:
    schedule = Schedule(10_000)
    first, early, middle, late, last = (schedule.at(step) for step in (0, 700, 5000, 8500, 9999))
    assert math.isinf(first.softness) and first.every_hypothesis and not first.articulate and first.rate < 0.05
    assert not schedule.at(599).articulate and schedule.at(600).articulate and 0 < early.words < first.words == 1
    assert early.articulate and not early.centred and early.softness < 1 and early.batch == 4
    assert middle.words == 0 and middle.centred and middle.colour and middle.virtual and not middle.deform and not middle.every_hypothesis
    assert schedule.at(5001).virtual is False and middle.softness == pytest.approx(schedule.softness[1])
    assert late.deform and late.size_px > first.size_px and late.cell < first.cell and late.rate < 1
    assert last.rate == pytest.approx(schedule.decay_to, rel=0.01)
    assert Schedule(10_000, decay_from=1.0).at(9999).rate == 1  # never falls


def test_virtual_views_fade_if_they_are_to_end() -> None:
    weights = Weights(virtual=2.0)
    to_the_end, fading = Schedule(1000, virtual_every=1), Schedule(1000, virtual_from=0.4, virtual_until=0.8, virtual_every=1)
    assert [to_the_end.at(step).faded(weights).virtual for step in (400, 525, 999)] == pytest.approx([0, 1, 2])
    assert [fading.at(step).faded(weights).virtual for step in (410, 500, 600, 700, 799, 900)] == pytest.approx([0.4, 2, 2, 1, 0.01, 0])
    assert [fading.at(step).virtual for step in (399, 400, 799, 800)] == [False, True, True, False]
