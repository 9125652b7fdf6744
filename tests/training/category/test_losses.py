"""The losses of section 3: known values, right direction, no reward for less overlap."""

import math

import pytest
import torch

from farm3d.core.random import torch_generator
from farm3d.geometry.surface import vertex_normals
from farm3d.geometry.tetrahedra import ellipsoid_sdf
from farm3d.model.category.config import CategoryConfig
from farm3d.model.category.rest_shape import make_scaffold, rest_shape
from farm3d.model.fields import ShapeField
from farm3d.training.category.losses import (
    articulation_loss,
    colour_loss,
    coverage_loss,
    deformation_loss,
    eikonal_loss,
    feature_loss,
    gap_loss,
    gaps,
    inside_distances,
    mask_loss,
    missing_loss,
    outside_distances,
    outside_loss,
    ripple_loss,
    score_loss,
    silhouette_points,
    thin_loss,
    thin_parts,
    view_loss,
    volume_loss,
)


def disc(radius: float, *, size: int = 32, x: float = 0.0) -> torch.Tensor:
    at = torch.arange(size) + 0.5 - size / 2
    return ((at[:, None] ** 2 + (at[None] - x) ** 2) < radius**2).float()[None]


def test_masks() -> None:
    one, other = disc(8), disc(8, x=4)
    assert float(mask_loss(one, one)) == 0
    assert float(mask_loss(one, other)) == pytest.approx(float((one != other).float().mean()))
    inside = inside_distances(one)
    assert float(inside.max()) == pytest.approx(8 / 32, abs=1 / 32) and float(inside[one == 0].max()) == 0
    assert float(missing_loss(one, inside)) == 0
    assert float(missing_loss(torch.zeros_like(one), inside)) == pytest.approx(
        math.pi * 8.5**3 / 3 / 32**3, rel=0.05
    )  # a cone: half a pixel to the background


def test_what_is_drawn_outside_costs_by_its_distance_and_is_drawn_home() -> None:
    """A limb beside the animal: coverage alone has no say in where it is, distance has."""
    animal = disc(6)
    outside = outside_distances(animal)
    assert float(outside[animal > 0].max()) == 0
    within = torch.tensor([[[16.0, 16.0], [14.0, 18.0]]])
    assert float(outside_loss(within, outside)) == 0
    limb = torch.tensor([[[16.0, 16.0], [26.5, 16.5], [28.5, 16.5]]]).requires_grad_()
    loss = outside_loss(limb, outside)
    assert float(loss.detach()) == pytest.approx((5 + 7) / 3 / 32, rel=0.05)
    pull = torch.autograd.grad(loss.sum(), limb)[0]
    assert pull[0, 1:, 0] == pytest.approx(torch.full((2,), 1 / 3 / 32), rel=0.1) and float(pull[0, 0].abs().max()) == 0
    away = torch.tensor([[[90.0, 16.5]]])
    assert float(outside_loss(away, outside)) == pytest.approx(float(outside[0, 16, -1]))  # beyond the border: as at it
    assert float(outside_distances(torch.zeros(1, 8, 8)).max()) == 0  # no animal, no distance to it


def test_what_is_not_covered_pulls_at_what_is_nearest() -> None:
    """A leg that stands a quarter of the picture from where it was drawn, with nothing between."""
    target = torch.zeros(1, 32, 32)
    target[0, 4:28, 20:22] = 1
    points = silhouette_points(target, count=24)
    assert points.shape == (1, 24, 2) and float(points[..., 0].min()) >= 20 and float(points[..., 0].max()) <= 22
    assert float(points[..., 1].min()) == 4.5 and float(points[..., 1].max()) == 27.5
    leg = torch.stack([torch.full((24,), 13.0), torch.arange(24) + 4.5], -1)[None].requires_grad_()
    loss = coverage_loss(leg, points, size_px=32)
    assert float(loss.detach()) == pytest.approx((8 - 1) / 32, abs=0.5 / 32)
    pull = torch.autograd.grad(loss.sum(), leg)[0]
    assert bool((pull[..., 0] < 0).all()) and float(pull[..., 1].abs().max()) < 1e-3
    there = torch.stack([torch.full((24,), 21.0), torch.arange(24) + 4.5], -1)[None]
    assert float(coverage_loss(there, points, size_px=32)) == 0
    assert torch.equal(silhouette_points(torch.zeros(1, 8, 8), count=3), torch.full((1, 3, 2), 4.5))


@pytest.mark.parametrize("size", [32, 64, 96])
def test_legs_are_thin_and_bodies_are_not(size: int) -> None:
    unit = size // 32
    body, leg = torch.zeros(1, size, size), torch.zeros(1, size, size)
    body[:, 4 * unit : 16 * unit, 4 * unit : 28 * unit] = 1
    leg[:, 16 * unit : 28 * unit, 6 * unit : 8 * unit] = 1
    thin = thin_parts(body + leg)
    assert torch.equal(thin, leg)
    assert float(thin_loss(body, thin)) == pytest.approx(float(leg.mean())) and float(thin_loss(leg, thin)) == 0


@pytest.mark.parametrize("size", [32, 64, 96])
def test_what_lies_between_legs_is_a_gap_and_the_ground_is_not(size: int) -> None:
    unit = size // 32
    animal, between = torch.zeros(1, size, size), torch.zeros(1, size, size)
    animal[:, 4 * unit : 16 * unit, 4 * unit : 28 * unit] = 1
    animal[:, 16 * unit : 28 * unit, 6 * unit : 10 * unit] = animal[:, 16 * unit : 28 * unit, 12 * unit : 16 * unit] = 1
    between[:, 16 * unit : 28 * unit, 10 * unit : 12 * unit] = 1
    assert torch.equal(gaps(animal), between)  # the wide space behind the second leg is none
    skirt = animal + between
    assert float(gap_loss(skirt, gaps(animal))) == pytest.approx(float(between.mean())) and float(gap_loss(animal, gaps(animal))) == 0
    drawn = skirt.clone().requires_grad_()
    assert torch.equal(torch.autograd.grad(gap_loss(drawn, gaps(animal)).sum(), drawn)[0] > 0, between > 0)


def test_a_leg_that_is_seldom_there_is_worth_having() -> None:
    """Coverage alone takes it for nothing where a third of the pictures show it; its own weight grows it."""
    legs = torch.zeros(3, 32, 32)
    legs[0, 16:28, 6:8] = 1
    guess = torch.full((1, 32, 32), 0.5, requires_grad=True)
    slope = torch.autograd.grad(mask_loss(guess.expand(3, -1, -1), legs).mean(), guess)[0][0, 20, 7]
    assert float(slope) > 0  # less of it is better
    both = mask_loss(guess.expand(3, -1, -1), legs) + 2 * thin_loss(guess.expand(3, -1, -1), thin_parts(legs))
    assert float(torch.autograd.grad(both.mean(), guess)[0][0, 20, 7]) < 0


def test_features_are_compared_over_the_overlap() -> None:
    seen = torch.randn(1, 4, 8, 8, generator=torch_generator(0, "seen"))
    target = torch.ones(1, 32, 32)
    wrong = torch.zeros(1, 4, 32, 32)
    whole = feature_loss(wrong, target, seen, target)
    assert float(whole) == pytest.approx(float(seen.square().mean()), rel=1e-5)
    half = torch.ones(1, 32, 32)
    half[:, :, 16:] = 0
    less = feature_loss(wrong * half[:, None], half, seen, target)
    assert float(less) == pytest.approx(float(seen[..., :4].square().mean()), rel=1e-5)  # not half of it
    right = torch.nn.functional.interpolate(seen, (32, 32), mode="nearest")
    assert float(feature_loss(right, target, seen, target)) < 1e-10


def test_colours_count_within_both_outlines() -> None:
    image, drawn = torch.zeros(1, 3, 32, 32), torch.full((1, 3, 32, 32), 0.5)
    assert float(colour_loss(drawn, disc(8), image, disc(8))) == pytest.approx(0.5)
    assert float(colour_loss(drawn, disc(3, x=-12), image, disc(3, x=12))) == 0  # nothing in common
    mask = disc(8).requires_grad_()
    drawn.requires_grad_()
    colour_loss(drawn, mask, image, disc(8)).sum().backward()
    assert mask.grad is None  # the overlap is no way to lower it
    assert drawn.grad is not None and float(drawn.grad[:, :, disc(6)[0] > 0].min()) > 0


def test_small_ones() -> None:
    assert float(articulation_loss(torch.full((1, 5, 3), 0.2))) == pytest.approx(0.04)
    assert float(deformation_loss(torch.full((1, 5, 3), 0.1))) == pytest.approx(0.01)
    achieved = torch.tensor([2.0], requires_grad=True)
    score = torch.tensor([0.5], requires_grad=True)
    loss = score_loss(score, achieved)
    assert float(loss.detach()) == pytest.approx(2.25)
    loss.sum().backward()
    assert achieved.grad is None and score.grad is not None and float(score.grad) < 0


def test_a_distance_has_slope_one() -> None:
    field = ShapeField(octaves=4, hidden=32, layers=2)
    with torch.no_grad():
        points = torch.rand(400, 3, generator=torch_generator(0, "points")) * 2 - 1
        numeric = torch.stack(
            [(ellipsoid_sdf(points + step) - ellipsoid_sdf(points - step)) / 2e-3 for step in 1e-3 * torch.eye(3)], 1
        ).norm(dim=1)
    assert float(eikonal_loss(field, points).detach()) == pytest.approx(float((numeric - 1).square().mean()), rel=0.02)
    with torch.no_grad():
        field.mlp.first.bias.add_(0.1)
        last = field.mlp.rest[-1]
        assert isinstance(last, torch.nn.Linear)
        last.weight.add_(0.05)
    eikonal_loss(field, points).backward()
    assert all(parameter.grad is not None for parameter in field.parameters())


def test_words_pull_azimuths_to_their_view_but_for_some_slack() -> None:
    quarters = torch.tensor([[45.0, 135.0, 225.0, 315.0]])
    azimuth = quarters.repeat(5, 1)
    azimuth[0, 0], azimuth[1, 0] = 55.0, 80.0  # in the inner half of the front left, and outside
    azimuth[2, :2] = torch.tensor([80.0, 100.0])  # a side belongs to two quarters, and both are within
    azimuth[3, 2] = 250.0  # not asked: held near its middle, a quarter as much
    views = torch.tensor([1, 1, 2, 1, -1])
    loss = view_loss(torch.deg2rad(azimuth), views, slack_deg=(11.25, 11.25))
    assert loss[0] == 0 and loss[1] > 0.05 and loss[2] == 0 and 0 < loss[3] < loss[1] and loss[4] == 0
    strict = view_loss(torch.deg2rad(azimuth), views)
    assert torch.isclose(strict[0], torch.tensor((1 - math.cos(math.radians(10))) / 2)) and strict[2] > 0 and strict[4] == 0
    turned = view_loss(torch.deg2rad(360 - azimuth.flip(1)), (8 - views) % 8, slack_deg=(11.25, 11.25))
    assert torch.allclose(turned[:4], loss[:4], atol=1e-6)  # mirrored pictures, mirrored words
    oblique = view_loss(torch.deg2rad(azimuth), views, slack_deg=(11.25, 33.75))
    assert oblique[1] < 0.1 * loss[1] and oblique[0] == oblique[2] == 0  # 35 degrees off is hardly more than 33.75
    assert torch.allclose(view_loss(torch.deg2rad(azimuth), views, slack_deg=(0.0, 33.75))[2], strict[2])  # a side is not oblique
    one = view_loss(torch.deg2rad(torch.tensor([[10.0], [-170.0]])), torch.tensor([0, 0]), slack_deg=(11.25, 11.25))
    assert one[0] == 0 and torch.isclose(one[1], torch.tensor(1.0), atol=0.05)


def test_pressure_fills_a_hollow_and_pushes_outward() -> None:
    field = ShapeField(octaves=2, hidden=16, layers=1)
    config = CategoryConfig("toy", sdf_octaves=2, sdf_hidden=16, sdf_layers=1)
    rest = rest_shape(field, make_scaffold(field, config, cell=0.2, centred=False))
    assert float(volume_loss(rest.vertices, rest.faces).detach()) == pytest.approx(-1, rel=0.03)  # the ellipsoid that fields begin as
    vertices = rest.vertices.detach().requires_grad_()
    volume_loss(vertices, rest.faces).backward()
    assert vertices.grad is not None
    outward = vertex_normals(vertices.detach(), rest.faces)
    assert float(torch.nn.functional.cosine_similarity(-vertices.grad, outward).min()) > 0.9


def test_ribs_cost_and_an_even_trunk_does_not() -> None:
    depth = torch.tensor(0.08, requires_grad=True)
    along = torch.tensor([[0.0, 0.0, 1.0]])

    def ribbed(points: torch.Tensor) -> torch.Tensor:
        radius = 0.4 + depth * torch.cos(2 * math.pi / 0.49 * points[:, 2])
        return points[:, :2].norm(dim=1) - radius

    z = torch.linspace(-1.5, 1.5, 400)
    points = torch.stack([torch.full_like(z, 0.4), torch.zeros_like(z), z], 1)
    loss = ripple_loss(ribbed, points, along.expand(400, 3))
    bend = 2 * 0.08 * (1 - math.cos(2 * math.pi * 0.12 / 0.49)) / 0.12
    assert float(loss.detach()) == pytest.approx(bend**2 / 2, rel=0.05)
    loss.backward()
    assert depth.grad is not None and depth.grad > 0
    across = ripple_loss(ribbed, points, torch.tensor([[0.0, 1.0, 0.0]]).expand(400, 3))  # round, not ribbed: what a trunk is
    field = ShapeField(octaves=2, hidden=16, layers=1)
    rest = rest_shape(
        field, make_scaffold(field, CategoryConfig("toy", sdf_octaves=2, sdf_hidden=16, sdf_layers=1), cell=0.2, centred=False)
    )
    even = ripple_loss(field, rest.vertices, along.expand(len(rest.vertices), 3))
    assert max(float(across.detach()), float(even.detach())) < 0.1 < 0.5 < float(loss.detach())
