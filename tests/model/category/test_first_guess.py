"""One pass over a picture: a picture and its mirror image show the same animal, mirrored."""

import torch

from farm3d.core.random import torch_generator
from farm3d.model.category.first_guess import first_guess
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
