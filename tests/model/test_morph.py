"""Between two animals: the ends are the animals themselves, the middle lies between them, and what does not fit is refused."""

from __future__ import annotations

import pytest
import torch
from tests.testing.animals import quadruped

from farm3d.core.errors import InputError
from farm3d.export.glb import glb_transform
from farm3d.model.morph import morph
from farm3d.structures import Animal


@pytest.fixture(scope="module")
def pair() -> tuple[Animal, Animal]:
    a, b = quadruped(seed=0, texture_px=32), quadruped(seed=1, texture_px=64)
    stretch = torch.tensor([1.3, 0.8, 1.1])
    skeleton = b.skeleton.replace(starts=b.skeleton.starts * stretch, ends=b.skeleton.ends * stretch, centre=b.skeleton.centre * stretch)
    return a, b.replace(rest=b.rest.replace(vertices=b.rest.vertices * stretch), skeleton=skeleton, height_m=1.1)


def metres(animal: Animal, points: torch.Tensor) -> torch.Tensor:
    T = glb_transform(animal).float()
    return points @ T[:3, :3].T + T[:3, 3]


@pytest.mark.parametrize("end", [0, 1])
def test_the_ends_are_the_animals(pair: tuple[Animal, Animal], end: int) -> None:
    got, want = morph(*pair, float(end)), pair[end]
    assert torch.allclose(metres(got, got.rest.vertices), metres(want, want.rest.vertices), atol=1e-6)
    for name in ("starts", "ends", "centre"):
        assert torch.allclose(metres(got, getattr(got.skeleton, name)), metres(want, getattr(want.skeleton, name)), atol=1e-6)
    assert torch.equal(got.angles, want.angles) and got.height_m == pytest.approx(want.height_m)
    assert got.albedo.shape == (64, 64, 3)  # the finer one's
    if end:
        assert torch.equal(got.albedo, want.albedo)


def test_half_the_way_lies_in_the_middle(pair: tuple[Animal, Animal]) -> None:
    a, b = pair
    got = morph(a, b, 0.5)
    assert got.height_m == pytest.approx((a.height_m + b.height_m) / 2)
    tall = [metres(one, one.rest.vertices) / one.height_m for one in (a, b, got)]  # one unit tall each
    assert torch.allclose(tall[2], (tall[0] + tall[1]) / 2, atol=1e-5)
    assert torch.allclose(got.angles, (a.angles + b.angles) / 2, atol=1e-6)
    assert torch.allclose(got.albedo.mean((0, 1)), (a.albedo.mean((0, 1)) + b.albedo.mean((0, 1))) / 2, atol=1e-3)


def test_there_and_back_are_the_same_way(pair: tuple[Animal, Animal]) -> None:
    a, b = pair
    there, back = morph(a, b, 0.3), morph(b, a, 0.7)
    assert torch.allclose(there.rest.vertices, back.rest.vertices, atol=1e-6)
    assert torch.allclose(there.albedo, back.albedo, atol=1e-6) and there.height_m == pytest.approx(back.height_m)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_beyond_the_ends_is_refused(pair: tuple[Animal, Animal], share: float) -> None:
    with pytest.raises(InputError, match="expected 0 to 1"):
        morph(*pair, share)


def test_other_animals_are_refused(pair: tuple[Animal, Animal]) -> None:
    for other in (pair[0].replace(category="cow"), quadruped(tail=False), quadruped(sides=10)):
        with pytest.raises(InputError, match="other meshes or bones"):
            morph(pair[0], other, 0.5)
