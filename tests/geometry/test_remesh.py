"""Decimation, flips and relaxation keep the surface where it is and make its triangles rounder."""

import pytest
import torch
from tests.testing.blobs import blob

from farm3d.core.random import torch_generator
from farm3d.geometry.remesh import decimate, flip_edges, relax, triangle_quality
from farm3d.geometry.surface import enclosed_volume, inspect_surface, is_closed_manifold


def _on_ball(points: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(points, dim=-1)


def test_quality_of_known_triangles() -> None:
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0.5, 3**0.5 / 2, 0], [0, 1, 0], [2, 0, 0]])
    quality = triangle_quality(vertices, torch.tensor([[0, 1, 2], [0, 1, 3], [0, 1, 4]]))
    assert quality.tolist() == pytest.approx([1.0, 3**0.5 / 2, 0.0], abs=1e-6)


def test_flips_keep_a_closed_surface_and_improve_it() -> None:
    vertices, faces = blob(8)
    ball = _on_ball(vertices)
    ball = _on_ball(ball + 0.05 * torch.randn(ball.shape, generator=torch_generator(0, "shake")))
    better = flip_edges(ball, faces)
    assert is_closed_manifold(better)
    assert inspect_surface(better).euler == 2
    assert len(better) == len(faces)
    assert triangle_quality(ball, better).quantile(0.05) > triangle_quality(ball, faces).quantile(0.05)


def test_relaxing_evens_the_triangles_on_the_surface() -> None:
    vertices, faces = blob(8)
    ball = _on_ball(vertices)
    ball = _on_ball(ball + 0.03 * torch.randn(ball.shape, generator=torch_generator(0, "shake")))
    fixed = torch.arange(len(ball)) == 7
    smooth = relax(ball, faces, project=_on_ball, steps=10, fixed=fixed)
    assert torch.allclose(smooth.norm(dim=1), torch.ones(len(ball)), atol=1e-5)
    assert torch.allclose(smooth[fixed], ball[fixed], atol=1e-6)
    assert triangle_quality(smooth, faces).quantile(0.05) > triangle_quality(ball, faces).quantile(0.05)


def test_decimation_keeps_a_flat_border_flat_and_the_volume() -> None:
    pytest.importorskip("fast_simplification", reason="the optional library fast-simplification is not installed")
    vertices, faces = blob(24)
    whole, whole_faces = decimate(vertices, faces, target_faces=2000)
    assert is_closed_manifold(whole_faces)
    assert len(whole_faces) <= 2000
    assert enclosed_volume(whole, whole_faces) == pytest.approx(float(enclosed_volume(vertices, faces)), rel=0.01)
    ball = _on_ball(vertices)
    ball[ball[:, 0].abs() < 1e-6, 0] = 0.0
    half, half_faces = decimate(ball, faces[(ball[faces][..., 0] >= 0).all(1)], target_faces=800)
    used = torch.unique(half_faces)
    assert half[used, 0].min() == 0.0
    report = inspect_surface(half_faces)
    assert report.manifold and not report.closed and report.euler == 1
