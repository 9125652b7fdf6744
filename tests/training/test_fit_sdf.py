"""Fitting a shape field: to a small shape in seconds; and the rigs' mean where they are at hand."""

from pathlib import Path

import pytest
import torch
from tests.testing.blobs import blob

from farm3d.barn.rigs import load_rig
from farm3d.core.files import cache_folder
from farm3d.core.random import torch_generator
from farm3d.geometry.surface import enclosed_volume, is_closed_manifold
from farm3d.geometry.tetrahedra import Grid, extract_surface
from farm3d.model.fields import ShapeField
from farm3d.training.fit_sdf import fit_shape_field, measure_fit, rest_shape, sample_distances


def _dumbbell() -> tuple[torch.Tensor, torch.Tensor]:
    """A symmetric closed shape that is not the initial ellipsoid."""
    vertices, faces = blob(10)
    ball = torch.nn.functional.normalize(vertices, dim=-1)
    waist = 0.35 + 0.5 * ball[:, 2:] ** 2
    return ball * torch.cat([waist, waist, torch.full_like(waist, 1.4)], 1), faces


def test_a_small_field_learns_a_shape() -> None:
    vertices, faces = _dumbbell()
    torch.manual_seed(0)
    seen: list[float] = []
    field = ShapeField(octaves=4, hidden=32, layers=2)
    fit_shape_field(vertices, faces, field=field, steps=300, batch=1024, samples=20_000, progress=lambda step, loss: seen.append(loss))
    assert seen[-1] < seen[0]
    with torch.no_grad():
        surface = extract_surface(field, Grid((0.0, -1.5, -2.0), (1.5, 1.5, 2.0), (24, 48, 64), mirrored=True))
    report = measure_fit((surface.vertices, surface.faces), (vertices, faces), count=4000)
    assert report.to_target_mean < 1.0 and report.from_target_mean < 1.0  # % of the length
    assert report.volume_ratio == pytest.approx(1, abs=0.05)


def test_equal_seeds_give_equal_fields() -> None:
    vertices, faces = _dumbbell()
    weights = []
    for _ in range(2):
        torch.manual_seed(3)
        field = fit_shape_field(vertices, faces, field=ShapeField(octaves=2, hidden=16, layers=1), steps=5, batch=256, samples=2000, seed=1)
        weights.append(torch.cat([value.reshape(-1) for value in field.state_dict().values()]))
    assert torch.equal(*weights)


def test_samples_are_on_one_side_and_concentrate_at_the_surface() -> None:
    vertices, faces = _dumbbell()
    points, distances = sample_distances(vertices, faces, count=4000, generator=torch_generator(0, "test"))
    assert (points[:, 0] >= 0).all()
    assert (distances.abs() < 0.1).float().mean() > 0.5
    assert (distances > 0).any() and (distances < -1).any()


def test_measuring_a_surface_against_itself_and_a_larger_copy() -> None:
    vertices, faces = _dumbbell()
    same = measure_fit((vertices, faces), (vertices, faces), count=2000)
    assert max(same.to_target_max, same.from_target_max) < 1e-3
    assert same.volume_ratio == pytest.approx(1)
    assert measure_fit((vertices * 1.1, faces), (vertices, faces), count=2000).volume_ratio == pytest.approx(1.331, rel=1e-4)


def test_mean_of_the_cows() -> None:
    folder = cache_folder() / "rigs"
    if not (folder / "bull.glb").is_file():
        pytest.skip(f"rigs not fetched: no {folder / 'bull.glb'}")
    rigs = [load_rig(folder / name) for name in (Path("cow.glb"), Path("bull.glb"))]
    shape = rest_shape(rigs, spacing=0.08)
    assert is_closed_manifold(shape.faces)
    assert float(shape.vertices[:, 2].max() - shape.vertices[:, 2].min()) == pytest.approx(4.2, abs=1e-3)
    assert abs(float(shape.vertices[:, 1].max() + shape.vertices[:, 1].min())) < 1e-3
    placed = [float(enclosed_volume(shape.from_rig(rig, rig.vertices), rig.faces)) for rig in rigs]
    assert 0.97 * min(placed) < float(enclosed_volume(shape.vertices, shape.faces)) < 1.03 * max(placed)
    assert shape.joints["Head"][2] > 1 > 0 > shape.joints["Tail7"][2]
    for rig in rigs:
        mapped = shape.from_rig(rig, rig.joints)
        assert torch.allclose(mapped, torch.stack([shape.joints[name] for name in rig.joint_names]), atol=5e-3)
    with pytest.raises(ValueError, match="differ in name"):
        rest_shape([rigs[0], load_rig(folder / "alpaca.glb")])
    longer = rigs[1].replace(inverse_binds=rigs[1].inverse_binds @ torch.diag(torch.tensor([1.0, 1.0, 0.8, 1.0])))
    with pytest.raises(ValueError, match="align them"):
        rest_shape([rigs[0], longer])
