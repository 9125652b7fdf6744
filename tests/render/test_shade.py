from __future__ import annotations

import itertools

import pytest
import torch
from torch.autograd import gradcheck

from farm3d.render.shade import shade
from farm3d.structures import Light


def light(*batch: int, dtype: torch.dtype = torch.float64) -> Light:
    generator = torch.Generator().manual_seed(0)
    direction = torch.nn.functional.normalize(torch.randn(*batch, 3, generator=generator, dtype=dtype), dim=-1)
    return Light(direction, torch.rand(batch, generator=generator, dtype=dtype), torch.rand(batch, generator=generator, dtype=dtype))


def test_the_formula_at_known_angles() -> None:
    lamp = Light(torch.tensor([0.0, 0.6, 0.8]), torch.tensor(0.3), torch.tensor(0.5))
    albedo = torch.tensor([0.2, 0.4, 2.0])
    assert shade(albedo, torch.tensor([0.0, 0.6, 0.8]), lamp).tolist() == pytest.approx([0.16, 0.32, 1.6])
    assert shade(albedo, torch.tensor([0.0, 0.0, 1.0]), lamp).tolist() == pytest.approx([0.14, 0.28, 1.4])
    assert shade(albedo, torch.tensor([0.0, 0.0, -1.0]), lamp).tolist() == pytest.approx([0.06, 0.12, 0.6])  # turned away: ambient only
    assert shade(albedo, torch.zeros(3), lamp).tolist() == pytest.approx([0.06, 0.12, 0.6])


@pytest.mark.parametrize("batch", [(), (2,), (1, 2)])
def test_a_batch_of_lights_serves_pictures_one_by_one(batch) -> None:
    albedo = torch.rand(*batch, 4, 5, 3, dtype=torch.float64)
    normals = torch.nn.functional.normalize(torch.randn(*batch, 4, 5, 3, dtype=torch.float64), dim=-1)
    lamp = light(*batch)
    together = shade(albedo, normals, lamp)
    assert together.shape == (*batch, 4, 5, 3)
    for one in itertools.product(*map(range, batch)):
        alone = shade(albedo[one], normals[one], Light(lamp.direction[one], lamp.ambient[one], lamp.diffuse[one]))
        torch.testing.assert_close(together[one], alone)


def test_a_colour_needs_three_channels() -> None:
    with pytest.raises(Exception, match="albedo"):
        shade(torch.zeros(4, 4), torch.zeros(4, 3), light())


def test_gradients() -> None:
    generator = torch.Generator().manual_seed(1)
    albedo, normals = (torch.randn(2, 5, 3, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(2))
    lamp = light(2)
    values = (lamp.direction.requires_grad_(), lamp.ambient.requires_grad_(), lamp.diffuse.requires_grad_())
    assert gradcheck(lambda a, n, *parts: shade(a, n, Light(*parts)), (albedo, normals, *values))
