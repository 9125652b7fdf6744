"""Coordinate networks: sizes of the specification, mirror symmetry, the initial ellipsoid."""

import math

import pytest
import torch

from farm3d.core.errors import ModelError
from farm3d.core.random import torch_generator
from farm3d.geometry.tetrahedra import ellipsoid_sdf
from farm3d.model.fields import CoordMLP, FeatureField, ShapeField, harmonic_embedding, load_field


def _points(*shape: int) -> torch.Tensor:
    return 2 * torch.randn(*shape, 3, generator=torch_generator(0, "fields"))


@pytest.mark.parametrize("batch", [(), (2,), (1, 2)])
def test_embedding_has_the_sizes_of_the_specification(batch: tuple[int, ...]) -> None:
    points = _points(*batch, 5)
    code = harmonic_embedding(points, octaves=8)
    assert code.shape == (*batch, 5, 51)
    assert harmonic_embedding(points, octaves=10).shape[-1] == 63
    assert torch.equal(code[..., :3], points)
    scalar = 0.9 * math.pi / 3.5
    assert torch.allclose(code[..., 3], (points[..., 0] * scalar).sin(), atol=1e-6)
    assert torch.allclose(code[..., 4], (points[..., 0] * scalar * 2).sin(), atol=1e-6)
    assert torch.allclose(code[..., 27], (points[..., 0] * scalar).cos(), atol=1e-6)


def test_higher_octaves_can_be_made_to_count_less() -> None:
    """As if the first layer's weights were smaller there; so a step that changes all weights alike changes the surface less finely."""
    points = torch.rand(50, 3, generator=torch_generator(0, "points"))
    plain, fallen = (harmonic_embedding(points, octaves=5, fall=fall) for fall in (0.0, 1.0))
    torch.testing.assert_close(fallen[:, :3], points)
    ratio = (fallen[:, 3:] / plain[:, 3:]).unflatten(1, (2, 3, 5))
    torch.testing.assert_close(ratio, (2.0 ** -torch.arange(5)).expand_as(ratio))
    field, same = CoordMLP(1, octaves=5, hidden=16, layers=2, fall=1.0), CoordMLP(1, octaves=5, hidden=16, layers=2)
    same.load_state_dict(field.state_dict())
    with torch.no_grad():
        same.first.weight[:, 3:] *= (2.0 ** -torch.arange(5)).repeat(6)
    torch.testing.assert_close(field(points), same(points))


def test_layers_of_the_specification() -> None:
    net = CoordMLP(1)
    linear = [module for module in net.modules() if isinstance(module, torch.nn.Linear)]
    assert len(linear) == 1 + 5  # "5 layers" are one and five
    assert [layer.bias is not None for layer in linear] == [True] + [False] * 5


def test_a_fresh_shape_field_is_the_ellipsoid() -> None:
    points = _points(200)
    assert torch.equal(ShapeField()(points), ellipsoid_sdf(points))


@pytest.mark.parametrize("make", [ShapeField, FeatureField])
def test_fields_are_mirror_symmetric(make: type) -> None:
    torch.manual_seed(0)
    field = make(hidden=32, layers=2)
    for parameter in field.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    points = _points(50)
    assert torch.equal(field(points), field(points * torch.tensor([-1.0, 1.0, 1.0])))
    assert not torch.allclose(field(points), field(points * torch.tensor([1.0, 1.0, -1.0])))


def test_weights_come_back_and_wrong_ones_are_refused() -> None:
    source = ShapeField(hidden=16, layers=1)
    for parameter in source.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    target = load_field(ShapeField(hidden=16, layers=1), {name: value.half() for name, value in source.state_dict().items()})
    assert torch.allclose(target(_points(20)), source(_points(20)), atol=0.05)
    assert not any(parameter.requires_grad for parameter in target.parameters())
    with pytest.raises(ModelError, match="field weights do not fit"):
        load_field(ShapeField(hidden=32, layers=1), source.state_dict())
    with pytest.raises(ModelError, match="field weights do not fit"):
        load_field(ShapeField(hidden=16, layers=1), {})
