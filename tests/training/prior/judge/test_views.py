"""The view is preferred where the model knows it, and at chance where it does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.testing.toy_barn import toy_prior, write_toy_facts

from farm3d.barn.captions import VIEWS
from farm3d.diffusion.embedded.pipeline import EmbeddedPrior
from farm3d.training.prior.judge.views import asked_of_all_views, caption_from, view_errors, view_preferences
from farm3d.training.prior.score.known import Fact, Known, read_known


def fact(view: int) -> Fact:
    return Fact("horse-val-000000", "horse", view, "walking", "bay", f"a bay horse, walking, {VIEWS[view][0]}", 0)


class Knowing(EmbeddedPrior):
    """Sees exactly the noise with the true view in the caption, and more wrongly the further the caption's view is turned."""

    true: list[int]

    @classmethod
    def made(cls, views: list[int]) -> Knowing:
        prior = cls(toy_prior().parts, name="knowing", digest="knowing")
        prior.true, prior.asked = views, 0  # type: ignore[attr-defined]
        return prior

    def predict_noise(self, z_t, t, prompts, **options):
        true = self.true[self.asked // 2]  # type: ignore[attr-defined]
        self.asked += 1  # type: ignore[attr-defined]
        said = [next(i for i, view in enumerate(VIEWS) if words.endswith(view[0])) for words in prompts.words]
        off = torch.tensor([min((view - true) % 8, (true - view) % 8) for view in said]).float()
        return (z_t - (1 - t)[:, None, None, None] * self.z) / t[:, None, None, None] + off[:, None, None, None]  # type: ignore[attr-defined]


def test_the_caption_gets_another_view_and_nothing_else() -> None:
    assert caption_from(fact(2), 4) == "a bay horse, walking, seen from behind"
    assert [caption_from(fact(view), view) for view in range(8)] == [fact(view).caption for view in range(8)]


def test_errors_and_preferences_of_one_that_knows() -> None:
    views = [0, 3, 5]
    prior = Knowing.made(views)
    rgb, alpha = torch.rand(1, 3, 32, 32).expand(3, -1, -1, -1), torch.ones(3, 32, 32)
    prior.z = prior.encode(rgb[:1], alpha[:1])  # type: ignore[attr-defined]
    facts = [fact(view) for view in views]
    generators = [torch.Generator().manual_seed(i) for i in range(3)]
    errors = view_errors(prior, rgb, alpha, facts, levels=(0.5, 0.9), generators=generators)
    assert errors.shape == (3, 2, 8)
    for row, view in zip(errors, views, strict=True):
        assert row[:, view] == pytest.approx(0, abs=1e-6)
        assert row[0, (view + 4) % 8] == pytest.approx(16 / 0.25, rel=1e-4) and row[1, (view + 1) % 8] == pytest.approx(1 / 0.01, rel=1e-4)
    told = view_preferences(errors, facts, levels=(0.5, 0.9))
    assert set(told) == {"0.5", "0.9", "sum"} and all(value["exact"]["share"] == 1 for value in told.values())


def test_neighbours_opposites_and_mirror_images_are_counted() -> None:
    facts = [fact(view) for view in (0, 1, 2, 3)]
    errors = np.ones((4, 1, 8))
    for row, chosen in enumerate((4, 2, 6, 3)):
        errors[row, 0, chosen] = 0
    told = view_preferences(errors, facts, levels=(0.8,))["sum"]
    counts = {kind: (told[kind]["count"], told[kind]["of"]) for kind in ("exact", "within_one", "opposite", "mirrored")}
    assert counts == {"exact": (1, 4), "within_one": (2, 4), "opposite": (2, 4), "mirrored": (1, 3)}


def test_both_backgrounds_and_each_species(tmp_path: Path) -> None:
    barns = [write_toy_facts(tmp_path / name, name, split="val", count=8) for name in ("horse", "cow")]
    known: Known = read_known(barns, tmp_path / "state", held_out=True, size_px=32, most=8)
    told: list[tuple[int, int]] = []
    options = {"pictures": 3, "seed": 0, "tell": lambda *n: told.append(n)}
    report = asked_of_all_views(toy_prior(), known, ("horse", "cow"), **options)
    assert set(report) == {"own", "plain"} and told[-1] == (12, 12)
    assert report["own"]["all"]["sum"]["n"] == 6 and report["plain"]["species"]["cow"]["0.95"]["n"] == 3
    assert asked_of_all_views(toy_prior(), known, ("horse", "cow"), **options) == report
