"""The feature field: which directions it keeps, where it thinks it looks, and that its distance prefers the truth."""

from __future__ import annotations

import torch

from farm3d.barn.rigs import Clip, Rig
from farm3d.core.random import torch_generator
from farm3d.model.encoder import Encoder, EncoderConfig
from farm3d.training.feature_pictures import PictureMaker
from farm3d.training.fit_features import (
    Observations,
    canonical_places,
    cell_places,
    feature_distance,
    fit_features,
    fit_field,
    observe,
    separating_projection,
)

_CORNERS = torch.tensor([[x, y, z] for x in (-0.3, 0.3) for y in (0.0, 1.0) for z in (-0.8, 0.8)])
_FACES = torch.tensor(
    [[0, 1, 3], [0, 3, 2], [4, 7, 5], [4, 6, 7], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]]
)


def block_rig(size: float = 1.0) -> Rig:
    """A block of 0.6 x 1 x 1.6 m on one joint, brown with a dark face, that stands still."""
    zero, one = torch.zeros(1), torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    keys = (torch.zeros(1, 3), one, torch.ones(1, 3))
    return Rig(
        name="block",
        vertices=_CORNERS * size,
        faces=_FACES,
        face_materials=torch.tensor([0] * 10 + [1] * 2),
        material_names=("Main", "Eye_Black"),
        material_colors=torch.tensor([[0.3, 0.15, 0.05], [0.01, 0.01, 0.01]]),
        joint_names=("Body",),
        joint_parents=(-1,),
        inverse_binds=torch.eye(4)[None],
        skin_weights=torch.ones(8, 1),
        root=torch.eye(4),
        rest_translations=keys[0],
        rest_rotations=keys[1],
        rest_scales=keys[2],
        clips=(Clip("Idle", 1.0, ((zero, zero, zero),), (keys,)),),
    )


def test_pictures_follow_the_crop_rule_and_know_their_surface() -> None:
    maker = PictureMaker("horse", [block_rig()], size_px=64)
    covered = []
    for number in range(12):
        picture = maker.draw(number)
        seen = ~picture.surface[..., 0].isnan()
        assert picture.image.shape == (3, 64, 64)
        assert 0 <= picture.image.min() <= picture.image.max() <= 1
        assert ((picture.mask > 0.99) <= seen).all()
        assert ((picture.mask < 0.01) <= ~seen).all()
        # on the block's surface: inside its box, and on at least one of its sides
        inside = picture.surface[seen]
        share = (inside - torch.tensor([0.0, 0.5, 0.0])).abs() / torch.tensor([0.3, 0.5, 0.8])
        assert share.max() < 1 + 1e-3
        torch.testing.assert_close(share.amax(-1), torch.ones(len(share)), atol=2e-3, rtol=0)
        covered.append(picture.mask.mean().item())
    assert 0.2 < sum(covered) / len(covered) < 0.3  # the silhouette covers a quarter of the crop (section 1.2)
    assert torch.equal(maker.draw(3).image, PictureMaker("horse", [block_rig()], size_px=64).draw(3).image)
    assert not torch.equal(maker.draw(3).image, PictureMaker("horse", [block_rig()], size_px=64, seed=1).draw(3).image)


def test_the_side_that_is_seen_is_the_side_of_the_camera() -> None:
    maker = PictureMaker("horse", [block_rig()], size_px=64)
    for number in range(20):
        picture = maker.draw(number)
        side = torch.tensor(picture.azimuth).sin().item()
        if abs(side) > 0.5:
            x = picture.surface[..., 0][~picture.surface[..., 0].isnan()]
            assert (x.mean() > 0) == (side > 0)  # azimuth + looks at the animal's left, +x


def test_cells_name_their_middle() -> None:
    surface = torch.full((8, 8, 3), torch.nan)
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    surface[:, :4] = torch.stack([-columns, rows, rows * 0], -1)[:, :4]
    places, coverage = cell_places(surface, cells=2)
    torch.testing.assert_close(coverage, torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    assert (places[0, 0] - torch.tensor([-1.5, 1.5, 0.0])).norm() < 0.8
    assert any(torch.equal(places[0, 0], point) for point in surface[:4, :4].reshape(-1, 3))  # a point of the surface, not a mean


def test_observations_keep_the_animal_only() -> None:
    maker = PictureMaker("horse", [block_rig()], size_px=64)
    seen = observe((maker.draw(number) for number in range(3)), Encoder(EncoderConfig(blocks=(4,), grid=8)))
    assert seen.features.shape[1] == 40
    assert len(seen.features) == len(seen.places) == len(seen.rigs) == len(seen.pictures)
    assert set(seen.pictures.tolist()) == {0, 1, 2}
    assert 0.1 * 192 < len(seen.places) < 0.5 * 192
    assert torch.isfinite(seen.places).all()


def test_places_survive_another_size_of_rig() -> None:
    template = (_CORNERS - torch.tensor([0.0, 0.5, 0.0])) * 2.0
    rigs = [block_rig(), block_rig(1.7)]
    expected = torch.arange(8).repeat(2)
    observations = Observations(
        torch.zeros(16, 1), torch.cat([rig.vertices for rig in rigs]), torch.arange(2).repeat_interleave(8), torch.zeros(16).long()
    )
    found = canonical_places(observations, rigs, template, scale=2.0, offset=torch.tensor([0.0, 0.5, 0.0]))
    assert torch.equal(found, expected)


def test_projection_separates_places_and_ignores_loud_nuisance() -> None:
    """Two quiet channels tell six classes apart, six loud ones tell nothing: variance would choose the loud, the discriminant must not."""
    generator = torch_generator(0, "classes")
    classes = torch.randint(6, (4000,), generator=generator)
    centres = torch.randn(6, 2, generator=generator)
    features = torch.cat(
        [centres[classes] + 0.1 * torch.randn(4000, 2, generator=generator), 30 * torch.randn(4000, 6, generator=generator)], 1
    )
    features = features @ torch.linalg.qr(torch.randn(8, 8, generator=generator)).Q
    mean, matrix, separation = separating_projection(features, classes, channels=3, ridge=0.0)
    projected = (features - mean) @ matrix
    means = torch.stack([projected[classes == k].mean(0) for k in range(6)])
    torch.testing.assert_close(torch.cov((projected - means[classes]).T), torch.eye(3), atol=0.02, rtol=0)  # spread 1, uncorrelated
    torch.testing.assert_close(means.mean(0), torch.zeros(3), atol=1e-3, rtol=0)
    assert separation[1] > 10 > 0.1 > separation[2]  # two directions tell the classes apart, a third cannot
    nearest = torch.cdist(projected[:, :2], means[:, :2]).argmin(1)
    assert (nearest == classes).float().mean() > 0.95


def test_fit_gives_equal_features_left_and_right_and_the_field_follows() -> None:
    generator = torch_generator(0, "fit")
    points = torch.nn.functional.normalize(torch.randn(300, 3, generator=generator), dim=-1)
    template = torch.cat([points, points * torch.tensor([-1.0, 1.0, 1.0])])
    labels = torch.randint(600, (6000,), generator=generator)
    truth = torch.cat([template[:, :1].abs(), template[:, 1:], torch.zeros(600, 3)], 1)
    fit = fit_features(truth[labels] + 0.2 * torch.randn(6000, 6, generator=generator), labels, template, channels=3, places=40)
    torch.testing.assert_close(fit.vertex_features[:300], fit.vertex_features[300:], atol=1e-5, rtol=0)
    assert fit.vertex_variance.mean() < 3  # about 1: the noise, and what varies within the kernel
    design = torch.cat([fit.vertex_features, torch.ones(600, 1)], 1)
    residual = truth[:, :3] - design @ torch.linalg.lstsq(design, truth[:, :3]).solution
    assert 1 - residual.var() / truth[:, :3].var() > 0.9  # the place can be read back
    field = fit_field(template, fit.vertex_features, steps=400)
    error = (field(template) - fit.vertex_features).square().mean()
    assert error < 0.05 * fit.vertex_features.var()
    torch.testing.assert_close(field(template[:300]), field(template[300:]))


def test_distance_is_zero_for_no_information_and_lowest_at_the_truth() -> None:
    generator = torch_generator(0, "distance")
    truth = 2 * torch.randn(1, 5, 8, 8, generator=generator)
    picture = truth[0] + torch.randn(5, 8, 8, generator=generator)
    others = torch.cat([truth, torch.zeros_like(truth), truth.flip(-1), -truth])
    overlap = torch.ones(4, 8, 8)
    distance = feature_distance(others, overlap, picture)
    assert distance[1] == 0
    assert distance[0] < 0 < min(distance[2], distance[3])
    square = ((others - picture).square().mean(1) - picture.square().mean(0)).mean((1, 2))
    torch.testing.assert_close(distance, square)
    # a loud cell that no place explains does not decide which cells to cover
    picture[:, :4] += 30 * torch.nn.functional.normalize(torch.randn(5, 4, 8, generator=generator), dim=0)
    covering, avoiding = torch.ones(1, 8, 8), torch.cat([torch.zeros(1, 4, 8), torch.ones(1, 4, 8)], 1)
    zero = torch.zeros(1, 5, 8, 8)
    assert feature_distance(zero, covering, picture) == feature_distance(zero, avoiding, picture)
