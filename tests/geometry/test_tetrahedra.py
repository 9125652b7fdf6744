"""Marching tetrahedra: closed, right size, right gradient; coarse-to-fine equals dense; numba equals torch."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from farm3d.core.errors import InputError, NotFiniteError
from farm3d.core.random import torch_generator
from farm3d.geometry.surface import enclosed_volume, face_areas, inspect_surface, is_closed_manifold
from farm3d.geometry.tetrahedra import Grid, crossing_points, ellipsoid_sdf, extract_surface, marching_tetrahedra

FLIP = torch.tensor([-1.0, 1.0, 1.0])


def sphere(points: torch.Tensor) -> torch.Tensor:
    return 1 - points.norm(dim=-1)


def torus(points: torch.Tensor) -> torch.Tensor:
    ring = points[..., :2].norm(dim=-1) - 1.5
    return 0.5 - torch.hypot(ring, points[..., 2])


SHAPES = {
    "sphere": (sphere, 4 / 3 * math.pi, 4 * math.pi, 2),
    "torus": (torus, 2 * math.pi**2 * 1.5 * 0.25, 4 * math.pi**2 * 1.5 * 0.5, 0),
    "ellipsoid": (ellipsoid_sdf, 4 / 3 * math.pi * 1.05**3 * 2, None, 2),
}


def _faces_by_place(ends: torch.Tensor, faces: torch.Tensor) -> set[tuple[tuple[int, ...], ...]]:
    names = [tuple(sorted(pair)) for pair in ends.tolist()]
    result = set()
    for face in faces.tolist():
        corners = [names[k] for k in face]
        start = corners.index(min(corners))
        result.add(tuple(corners[start:] + corners[:start]))
    return result


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("coarsen", [1, None])
def test_known_shapes(name: str, coarsen: int | None) -> None:
    field, volume, area, euler = SHAPES[name]
    with torch.no_grad():
        surface = extract_surface(field, Grid.cube(48, half=2.5), coarsen=coarsen)
    assert is_closed_manifold(surface.faces)
    assert inspect_surface(surface.faces).euler == euler
    assert enclosed_volume(surface.vertices.double(), surface.faces) == pytest.approx(volume, rel=0.02)
    if area is not None:
        assert face_areas(surface.vertices, surface.faces).sum() == pytest.approx(area, rel=0.01)
    assert field(surface.vertices).abs().max() < 0.01


def test_the_initial_prior_is_the_ellipsoid_of_the_specification() -> None:
    with torch.no_grad():
        surface = extract_surface(ellipsoid_sdf, Grid.cube(64))
    assert surface.vertices.abs().amax(0).tolist() == pytest.approx([1.05, 1.05, 2.1], abs=2e-3)


@pytest.mark.parametrize("name", SHAPES)
def test_coarse_to_fine_finds_the_same_surface_as_the_dense_sweep(name: str) -> None:
    field = SHAPES[name][0]
    with torch.no_grad():
        dense = extract_surface(field, Grid.cube(48, half=2.5), coarsen=1)
        sparse = extract_surface(field, Grid.cube(48, half=2.5), coarsen=4)
    assert torch.equal(dense.vertices, sparse.vertices)
    assert torch.equal(dense.faces, sparse.faces)
    assert sparse.evaluated < dense.evaluated / 3


def test_a_field_steeper_than_promised_still_gives_a_closed_surface() -> None:
    with torch.no_grad():
        steep = extract_surface(lambda points: 20 * torus(points), Grid.cube(64, half=2.5), coarsen=8, lipschitz=0.5)
        dense = extract_surface(lambda points: 20 * torus(points), Grid.cube(64, half=2.5), coarsen=1)
    assert is_closed_manifold(steep.faces)
    assert torch.equal(steep.vertices, dense.vertices)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), shape=st.tuples(*[st.integers(2, 6)] * 3))
def test_any_signs_give_a_closed_manifold_and_both_backends_agree(seed: int, shape: tuple[int, int, int]) -> None:
    values = torch.randn(*(n + 2 for n in shape), generator=torch_generator(seed, "signs"))
    padded = torch.full_like(values, -1.0)
    padded[1:-1, 1:-1, 1:-1] = values[1:-1, 1:-1, 1:-1]
    ends, faces = marching_tetrahedra(padded, backend="numba")
    assert is_closed_manifold(faces)
    inside, outside = padded.reshape(-1)[ends].amax(1), padded.reshape(-1)[ends].amin(1)
    assert (inside > 0).all() and (outside <= 0).all()
    slow_ends, slow_faces = marching_tetrahedra(padded, backend="torch")
    assert _faces_by_place(ends, faces) == _faces_by_place(slow_ends, slow_faces)


def test_a_shape_that_leaves_the_box_is_closed_at_its_walls() -> None:
    with torch.no_grad():
        surface = extract_surface(sphere, Grid((-0.5, -2, -2), (0.7, 2, 2), (16, 32, 32)))
    assert is_closed_manifold(surface.faces)
    cut = math.pi * (1.2 - (0.7**3 + 0.5**3) / 3)
    assert enclosed_volume(surface.vertices, surface.faces) == pytest.approx(cut, rel=0.02)


def test_mirrored_grids_give_exact_mirror_images() -> None:
    grid = Grid((0.0, -2, -2.5), (2.0, 2, 2.5), (16, 32, 40), mirrored=True)
    with torch.no_grad():
        surface = extract_surface(lambda p: sphere(p * p.new_tensor([1.2, 0.9, 0.6])), grid)
    assert surface.mirror is not None
    assert is_closed_manifold(surface.faces)
    assert torch.equal(surface.vertices[surface.mirror], surface.vertices * FLIP)
    assert torch.equal(surface.mirror[surface.mirror], torch.arange(len(surface.vertices)))
    half = len(surface.faces) // 2
    assert torch.equal(surface.mirror[surface.faces[:half]].flip(1), surface.faces[half:])
    assert enclosed_volume(surface.vertices, surface.faces) == pytest.approx(4 / 3 * math.pi / (1.2 * 0.9 * 0.6), rel=0.02)


def test_jitter_moves_the_grid_not_the_surface() -> None:
    with torch.no_grad():
        still = extract_surface(sphere, Grid.cube(40, half=1.5))
        moved = extract_surface(sphere, Grid.cube(40, half=1.5), shift=(0.02, 0.02, 0.02))
    assert sphere(moved.vertices).abs().max() < 0.01
    assert enclosed_volume(moved.vertices, moved.faces) == pytest.approx(float(enclosed_volume(still.vertices, still.faces)), rel=0.005)
    assert len(still.vertices) != len(moved.vertices) or not torch.allclose(still.vertices, moved.vertices, atol=1e-3)
    with pytest.raises(InputError, match="cannot be shifted in x"):
        extract_surface(sphere, Grid((0.0, -1, -1), (1.0, 1, 1), (4, 4, 4), mirrored=True), shift=(0.1, 0.1, 0.1))


def test_vertex_gradients_match_finite_differences() -> None:
    points = torch.randn(12, 2, 3, generator=torch_generator(0, "ends"), dtype=torch.float64)
    values = torch.rand(12, 2, generator=torch_generator(0, "values"), dtype=torch.float64) + 0.1
    values[:, 1] *= -1
    assert torch.autograd.gradcheck(lambda v: crossing_points(points, v), values.requires_grad_())


def test_gradient_of_the_volume_through_the_whole_extraction() -> None:
    grid = Grid.cube(24, half=1.5)

    def volume(parameters: torch.Tensor) -> torch.Tensor:
        def field(points: torch.Tensor) -> torch.Tensor:
            return parameters[0] - (points * parameters[1:]).norm(dim=-1)

        surface = extract_surface(field, grid, dtype=torch.float64)
        return enclosed_volume(surface.vertices, surface.faces)

    start = torch.tensor([1.0137, 1.0, 0.9, 1.1], dtype=torch.float64, requires_grad=True)
    gradient = torch.autograd.grad(volume(start), start)[0]
    for k in range(4):
        step = torch.zeros(4, dtype=torch.float64)
        step[k] = 1e-6
        with torch.no_grad():
            difference = (volume(start + step) - volume(start - step)) / 2e-6
        assert gradient[k] == pytest.approx(float(difference), rel=1e-4)
    true = 4 * math.pi * 1.0137**2 / (1.0 * 0.9 * 1.1)  # d(volume) / d(radius) of the ellipsoid
    assert gradient[0] == pytest.approx(true, rel=0.02)


def test_bad_grids_and_fields_are_refused() -> None:
    with pytest.raises(InputError, match="low < high"):
        Grid((0, 0, 0), (1, 1, 0), (2, 2, 2))
    with pytest.raises(InputError, match="starts at x = 0"):
        Grid((-1, 0, 0), (1, 1, 1), (2, 2, 2), mirrored=True)
    with pytest.raises(InputError, match="power of two"):
        extract_surface(sphere, Grid.cube(24), coarsen=3)
    with pytest.raises(NotFiniteError, match="not finite"):
        extract_surface(lambda points: sphere(points) * torch.nan, Grid.cube(8))


def test_an_empty_surface_is_empty() -> None:
    with torch.no_grad():
        surface = extract_surface(lambda points: sphere(points) - 9, Grid.cube(16))
    assert surface.vertices.shape == (0, 3)
    assert surface.faces.shape == (0, 3)


@pytest.mark.gpu
def test_the_same_surface_on_a_gpu() -> None:
    with torch.no_grad():
        here = extract_surface(sphere, Grid.cube(32, half=1.5))
        there = extract_surface(sphere, Grid.cube(32, half=1.5), device="cuda")
    assert is_closed_manifold(there.faces)
    assert len(there.faces) == len(here.faces)
