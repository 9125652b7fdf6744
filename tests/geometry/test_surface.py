"""Predicates, sampling, smoothing and subdivision of triangle surfaces."""

import math

import pytest
import torch
from tests.testing.blobs import blob

from farm3d.core.random import torch_generator
from farm3d.geometry.surface import (
    edges,
    enclosed_volume,
    face_areas,
    fill_holes,
    inspect_surface,
    is_closed_manifold,
    keep_components,
    loop_subdivide,
    midpoint_subdivide,
    sample_surface,
    taubin_smooth,
    vertex_components,
    vertex_normals,
    weld,
)

TETRA = (
    torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]),
    torch.tensor([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]]),
)


def test_a_tetrahedron_is_sound_and_has_six_edges() -> None:
    vertices, faces = TETRA
    report = inspect_surface(faces)
    assert report.closed and report.oriented and report.manifold
    assert (report.components, report.euler) == (1, 2)
    pairs, face_edges, counts = edges(faces)
    assert len(pairs) == 6
    assert (counts == 2).all()
    sides = torch.stack([faces, faces.roll(-1, 1)], -1).sort(-1).values
    assert torch.equal(pairs[face_edges], sides)
    assert enclosed_volume(vertices, faces) == pytest.approx(1 / 6)
    assert face_areas(vertices, faces).sum() == pytest.approx(1.5 + math.sqrt(3) / 2)


@pytest.mark.parametrize(
    ("faces", "fault"),
    [
        (TETRA[1][:3], "closed"),
        (torch.cat([TETRA[1][:3], TETRA[1][3:].flip(1)]), "oriented"),
        (torch.cat([TETRA[1], torch.tensor([[0, 1, 4]])]), "manifold"),  # three faces at one edge
        (torch.cat([TETRA[1], torch.where(TETRA[1] > 0, TETRA[1] + 3, 0)]), "manifold"),  # two pieces that touch in one point
    ],
)
def test_each_fault_is_named(faces: torch.Tensor, fault: str) -> None:
    assert getattr(inspect_surface(faces), fault) is False
    assert not is_closed_manifold(faces)


def test_pieces_are_counted_and_small_ones_dropped() -> None:
    ball, faces = blob(4)
    vertices = torch.cat([ball, TETRA[0]])
    both = torch.cat([faces, TETRA[1] + len(ball)])
    assert vertex_components(both, len(vertices)).max() == 1
    kept, kept_faces = keep_components(vertices, both, min_faces=10)
    assert torch.equal(kept, ball)
    assert torch.equal(kept_faces, faces)


def test_holes_are_filled_to_a_closed_surface() -> None:
    vertices, faces = blob(4)
    cut = faces[(vertices[faces][..., 2].mean(1) < 0.8) & (vertices[faces][..., 0].mean(1) > -0.8)]
    filled, filled_faces = fill_holes(vertices, cut)
    assert is_closed_manifold(filled_faces)
    assert enclosed_volume(filled, filled_faces) > 0
    same, same_faces = fill_holes(vertices, faces)
    assert same is vertices and same_faces is faces


def test_welding_undoes_splitting() -> None:
    vertices, faces = blob(4)
    soup = vertices[faces].reshape(-1, 3)
    welded, welded_faces, index = weld(soup, torch.arange(len(soup)).reshape(-1, 3))
    assert len(welded) == len(vertices)
    assert is_closed_manifold(welded_faces)
    assert torch.equal(welded[index], soup)


def test_samples_are_uniform_by_area_and_lie_on_their_faces() -> None:
    vertices, faces = blob(3)
    points, chosen, weights = sample_surface(vertices, faces, count=40_000, generator=torch_generator(1, "test"))
    assert torch.allclose((vertices[faces[chosen]] * weights[..., None]).sum(1), points)
    assert (weights >= 0).all()
    assert torch.allclose(weights.sum(1), torch.ones(len(points)), atol=1e-5)
    areas = face_areas(vertices, faces)
    expected = 40_000 * areas / areas.sum()
    chi_square = ((torch.bincount(chosen, minlength=len(faces)) - expected) ** 2 / expected).sum()
    assert abs(chi_square - len(faces)) < 6 * math.sqrt(2 * len(faces))
    doubled = torch.where(vertices[faces].mean(1)[:, 2] > 0, 3.0, 1.0)
    _, chosen, _ = sample_surface(vertices, faces, count=40_000, generator=torch_generator(1, "test"), density=doubled)
    share = (areas * doubled)[doubled > 1].sum() / (areas * doubled).sum()
    assert (doubled[chosen] > 1).float().mean() == pytest.approx(float(share), abs=0.02)


def test_midpoints_keep_the_shape_and_loop_rounds_it() -> None:
    vertices, faces = blob(4, dtype=torch.float64)
    finer, finer_faces = midpoint_subdivide(vertices, faces)
    assert len(finer_faces) == 4 * len(faces)
    assert is_closed_manifold(finer_faces)
    assert torch.allclose(enclosed_volume(finer, finer_faces), enclosed_volume(vertices, faces))
    assert torch.allclose(face_areas(finer, finer_faces).reshape(-1, 4).sum(1), face_areas(vertices, faces))
    rounded, rounded_faces = loop_subdivide(vertices, faces)
    assert torch.equal(rounded_faces, finer_faces)
    kept, _ = loop_subdivide(vertices, faces, keep=0.7)
    true = enclosed_volume(*blob(64, dtype=torch.float64))
    shrunk, held = enclosed_volume(rounded, rounded_faces), enclosed_volume(kept, rounded_faces)
    assert shrunk < held  # plain Loop thins
    assert abs(held - true) < abs(shrunk - true)


def test_loop_subdivision_of_a_flat_patch_stays_flat_with_its_border() -> None:
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [0, 1, 0], [1, 1, 0], [2, 1, 0]])
    faces = torch.tensor([[0, 1, 4], [0, 4, 3], [1, 2, 5], [1, 5, 4]])
    finer, finer_faces = loop_subdivide(vertices, faces)
    assert (finer[:, 2] == 0).all()
    assert not inspect_surface(finer_faces).closed
    assert (finer[:, 1] >= 0).all() and (finer[:, 1] <= 1).all()


def test_taubin_takes_noise_but_not_volume() -> None:
    vertices, faces = blob(12)
    noisy = vertices + 0.01 * torch.randn(vertices.shape, generator=torch_generator(0, "noise"))
    smooth = taubin_smooth(noisy, faces, steps=10)
    true = vertex_normals(vertices, faces)
    before, after = ((vertex_normals(shape, faces) - true).norm(dim=1).mean() for shape in (noisy, smooth))
    assert after < 0.7 * before
    assert enclosed_volume(smooth, faces) == pytest.approx(float(enclosed_volume(vertices, faces)), rel=0.01)
    fixed = vertices[:, 1] > 0
    assert torch.equal(taubin_smooth(noisy, faces, steps=2, fixed=fixed)[fixed], noisy[fixed])
