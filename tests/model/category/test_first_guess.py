"""One pass over a picture: a picture and its mirror image show the same animal, mirrored."""

import math

import torch

from farm3d.core.random import torch_generator
from farm3d.model.category.first_guess import _between, _Said, first_guess
from farm3d.model.category.learned import LearnedCategory
from farm3d.model.parameters import pose
from farm3d.structures import Crop


def test_a_mirrored_picture_gives_the_mirrored_animal() -> None:
    learned = LearnedCategory.from_pretrained("horse-learned")
    generator = torch_generator(0, "picture")
    image = torch.rand(3, 128, 128, generator=generator)
    mask = torch.zeros(128, 128)
    mask[40:90, 20:100] = 1.0  # nearer the left
    maps = torch.randn(1, len(learned.basis.mean), 16, 16, generator=generator)
    crop = Crop(image, mask, torch.ones(128, 128), (0.0, 0.0, 128.0), (128, 128))
    turned = Crop(image.flip(-1), mask.flip(-1), torch.ones(128, 128), (0.0, 0.0, 128.0), (128, 128))
    here, there = first_guess(learned, crop, maps, sagittal=1.0), first_guess(learned, turned, maps.flip(-1), sagittal=1.0)

    assert torch.allclose(torch.cos(there.starts.azimuth), torch.cos(here.starts.azimuth.flip(0)), atol=1e-5)
    assert torch.allclose(torch.sin(there.starts.azimuth), -torch.sin(here.starts.azimuth.flip(0)), atol=1e-5)
    own, other = (pose(each.prior, each.starts, size_px=64) for each in (here, there))
    assert float(own.angles.abs().max()) > 0.05  # it does bend
    mirrored = other.vertices.flip(0)[:, learned.prior.mirror]
    assert torch.allclose(own.vertices, mirrored * torch.tensor([-1.0, 1.0, 1.0]), atol=1e-4)
    across = [each.camera.pixels(each.vertices)[..., 0] for each in (own, other)]
    assert torch.allclose(across[0] + across[1].flip(0)[:, learned.prior.mirror], torch.tensor(64.0), atol=1e-2)
    assert torch.allclose(here.colours, there.colours, atol=1e-5)


def test_readings_of_two_views_are_not_averaged() -> None:
    def said(azimuth_deg: float, elevation: float, flexion: float) -> _Said:
        one = torch.ones(1)
        return _Said(
            torch.tensor([math.radians(azimuth_deg)]), elevation * one, torch.zeros(1, 2), one, flexion * torch.ones(1, 2, 3), one, one
        )

    near = _between(said(170, 0.2, 0.1), said(-170, 0.4, 0.3))  # across the half circle
    assert torch.allclose(near.azimuth, torch.tensor(math.pi)) and torch.allclose(near.elevation, torch.tensor(0.3))
    assert torch.allclose(near.angles, torch.tensor(0.2))
    apart = _between(said(10, 0.2, 0.1), said(150, 0.4, 0.3))
    assert torch.allclose(apart.azimuth, torch.tensor(math.radians(10))) and torch.allclose(apart.elevation, torch.tensor(0.2))
    assert torch.allclose(apart.angles, torch.tensor(0.1))
