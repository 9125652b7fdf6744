"""Mending with a model whose opinion is known: it wants the right animal, so the gradient must lead there, by number and by free form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.testing.toy_barn import toy_prior

from farm3d.core.shapes import Tensor
from farm3d.diffusion.embedded.pipeline import EmbeddedPrior
from farm3d.geometry.surface import vertex_normals
from farm3d.training.prior.framing import FILL
from farm3d.training.prior.judge import mending, slopes
from farm3d.training.prior.judge.faults import Case, case_of
from farm3d.training.prior.judge.freeform import Smoother, free_mend
from farm3d.training.prior.judge.mending import Setting, mend
from farm3d.training.prior.judge.slopes import Slopes, crossing, drawn_at, slopes_of
from farm3d.training.prior.judge.stage import Shot, framed_camera, shoot, shot_of


class Wanting(EmbeddedPrior):
    """Denoises every picture to the one it is told to want."""

    want: Tensor

    @classmethod
    def made(cls) -> Wanting:
        return cls(toy_prior().parts, name="wanting", digest="wanting")

    def predict_noise(self, z_t, t, prompts, **options):
        level = t[:, None, None, None]
        return (z_t - (1 - level) * self.want) / level


class Plain(Wanting):
    """Latents are the picture and its coverage, made small. The toy's own are whitened on a few drawings, where the least directions, and
    with them what is near to what, are another processor's rounding."""

    def encode(self, rgb, alpha=None, *, generator=None):
        assert alpha is not None
        return torch.nn.functional.adaptive_avg_pool2d(torch.cat([rgb, alpha[:, None]], 1), 16)


@pytest.fixture(scope="module")
def legs(rig_folder: Path) -> Case:
    return case_of("short-legs", "fox", number=2, rigs=rig_folder)


@pytest.fixture(scope="module")
def coat(rig_folder: Path) -> Case:
    return case_of("wrong-coat", "fox", number=2, rigs=rig_folder)


def test_renders_are_framed_as_training_pictures_are(legs: Case) -> None:
    for number in range(3):
        shot = shot_of(0, "framing", number)
        surface = legs.stances[0].right
        at = framed_camera(surface, shot, size_px=128).pixels(surface)
        box = at.amax(0) - at.amin(0)
        middle = (at.amax(0) + at.amin(0)) / 2 / 128
        assert FILL[0] - 0.01 < float(box.max()) / 128 < FILL[1] + 0.01 and float((middle - 0.5).abs().max()) < 0.031
        rgb, alpha = shoot(surface[None], legs.right_albedo[None], legs.individual.faces, [shot], size_px=128)
        columns = (alpha[0] > 0.5).nonzero()
        seen = columns.amax(0) - columns.amin(0) + 1
        assert float(seen.max()) == pytest.approx(float(box.max()), abs=2.5)
        assert float(rgb.min()) >= 0 and float(rgb.max()) <= 1
    assert shot_of(0, "a") == shot_of(0, "a") != shot_of(0, "b")
    assert Shot(90, 0, 0, 0).view == "seen from its left side"


def test_the_gradient_is_that_of_the_pictures(legs: Case, coat: Case) -> None:
    """Through renderer, sRGB and coverage, against central differences, the camera standing still."""
    for case in (legs, coat):
        shots = [shot_of(0, "gradient", number) for number in range(2)]
        p = torch.full((2,), 0.5, requires_grad=True)
        size: dict[str, Any] = {"size_px": 96, "supersample": 2}
        rgb, alpha, _ = drawn_at(case, p, shots, **size)
        with torch.no_grad():
            more, less = (drawn_at(case, p + sign * 0.05, shots, **size, framed_at=p) for sign in (1, -1))
            slope = [(more[0] - less[0]) / 0.1, (more[1] - less[1]) / 0.1]
        (through,) = torch.autograd.grad((rgb * slope[0]).sum() + (alpha * slope[1]).sum(), p)
        expected = slope[0].square().sum((1, 2, 3)) + slope[1].square().sum((1, 2))
        assert float(through.sum() / expected.sum()) == pytest.approx(1, abs=0.15), case.fault


def test_slopes_point_to_what_the_model_wants(legs: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    prior = Plain.made()
    drawn = slopes.drawn_at

    def wanting(case, p, shots, **options):
        prior.want = prior.encode(
            *drawn(case, torch.zeros_like(p), shots, **{**options, "framed_at": options.get("framed_at", p)})[:2]
        ).detach()
        return drawn(case, p, shots, **options)

    monkeypatch.setattr(slopes, "drawn_at", wanting)
    found = slopes_of(prior, [legs], values=(1.0, 0.4, -0.4), draws=4, size_px=32)
    told = found.told()
    assert 0.7 < told["gradient_agreement"] < 1.3 and told["draws"] == 4 and len(told["rows"]) == 12
    for row in told["rows"]:
        assert row["move"][0] < row["move"][1] < 0 < row["move"][2]
        assert row["way_back"] == pytest.approx(1, abs=0.2)


def test_where_one_comes_to_rest() -> None:
    assert crossing((1, 0.5, 0, -0.5), (-2, -1, 1, 2)) == pytest.approx(0.25)
    assert crossing((0, 1, 0.5), (1, 0.1, -1)) is None
    assert crossing((1, 0), (-2, -1)) == 0
    pulls, squares = np.ones((2, 4, 3, 5)), np.full((2, 5), 2.0)
    told = Slopes((1.0, 0.0), -pulls, squares, np.ones(3)).told()
    assert told["rows"][0]["move"] == [-0.5, -0.5] and told["rows"][0]["error"] == [0, 0]


def test_free_form_goes_back_to_what_is_wanted(rig_folder: Path, coat: Case) -> None:
    setting = Setting((0.5, 0.7), 1.0)
    for case, least in ((case_of("thin-body", "fox", number=2, rigs=rig_folder), 0.2), (coat, 0.3)):
        freed = free_mend(toy_prior(), case, setting, steps=16, size_px=64, oracle=True)
        assert freed.way_back > least and freed.remaining < 1 and freed.path[-1] > freed.path[3], case.fault
        assert freed.told()["way_back"] == freed.way_back
    told: list[tuple[int, int]] = []
    by_model = [free_mend(toy_prior(), coat, setting, steps=2, size_px=32, tell=lambda *n: told.append(n)) for _ in range(2)]
    assert told[:2] == [(1, 2), (2, 2)] and torch.equal(by_model[0].values, by_model[1].values)
    assert not torch.equal(by_model[0].values, coat.wrong_albedo)


def test_one_number_goes_back_to_what_the_model_wants(coat: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    prior = Wanting.made()
    drawn = mending.drawn_at

    def wanting(case, p, shots, **options):
        prior.want = prior.encode(*drawn(case, torch.zeros_like(p), shots, **options)[:2]).detach()[:1]
        return drawn(case, p, shots, **options)

    monkeypatch.setattr(mending, "drawn_at", wanting)
    settings = [Setting((0.5, 0.7), 1.0), Setting((0.5, 0.7), 3.0)]
    runs = mend(prior, coat, settings, steps=20, rate=0.12, size_px=32, supersample=1)
    assert len(runs) == 2 and len(runs[0].path) == 20
    assert runs[0].way_back == pytest.approx(1, abs=0.35)
    assert np.allclose(runs[0].path, runs[1].path, atol=1e-4)  # this model does not listen, so guidance changes nothing


def test_smoothing_keeps_what_is_even_and_spreads_what_is_not(legs: Case) -> None:
    faces, count = legs.individual.faces, len(legs.stances[0].right)
    smooth = Smoother(faces, count, 5.0)
    even = torch.full((count, 2), 3.0)
    assert torch.allclose(smooth(even), even, atol=1e-4)
    rough = vertex_normals(legs.stances[0].right, faces) * torch.randn(count, 1, generator=torch.Generator().manual_seed(0))
    assert float(smooth(rough).norm()) < 0.2 * float(rough.norm())
