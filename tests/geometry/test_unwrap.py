"""Atlases: in range, no overlap, little stretch; and meshes that make other unwrappers hang are refused."""

import math
import time

import pytest
import torch
from tests.testing.blobs import blob

from farm3d.core.errors import InputError
from farm3d.geometry.atlas import inspect_atlas
from farm3d.geometry.flatten import flatten_chart
from farm3d.geometry.remesh import decimate, flip_edges
from farm3d.geometry.surface import inspect_surface
from farm3d.geometry.tetrahedra import Grid, extract_surface
from farm3d.geometry.unwrap import cut_charts, unwrap_half


def _half(cells: int = 12, stretch: tuple[float, float, float] = (1.0, 1.0, 2.0)) -> tuple[torch.Tensor, torch.Tensor]:
    """The half x >= 0 of an ellipsoid."""
    vertices, faces = blob(cells)
    ball = torch.nn.functional.normalize(vertices, dim=-1) * torch.tensor(stretch)
    ball[ball[:, 0].abs() < 1e-6, 0] = 0.0
    chosen, half = torch.unique(faces[(ball[faces][..., 0] >= 0).all(1)], return_inverse=True)
    return ball[chosen], half


def test_half_an_ellipsoid_unwraps_without_overlap() -> None:
    vertices, faces = _half()
    uv, faces_uv = unwrap_half(vertices, faces, size_px=256, padding_px=2)
    assert uv[:, 1].max() <= 0.5  # the lower half of the atlas is for the mirror image
    report = inspect_atlas(vertices, faces, uv, faces_uv, size_px=256)
    assert report.in_range
    assert report.overlap_texels == 0
    assert report.coverage > 0.2
    assert report.stretch_99 < 2


def test_every_corner_belongs_to_its_own_vertex_and_no_face_is_turned_over() -> None:
    vertices, faces = _half()
    uv, faces_uv = unwrap_half(vertices, faces, size_px=256, padding_px=2)
    owner = torch.full((len(uv),), -1)
    for corner in range(3):
        owner[faces_uv[:, corner]] = faces[:, corner]
    for corner in range(3):
        assert torch.equal(owner[faces_uv[:, corner]], faces[:, corner])
    a, b, c = (uv[faces_uv[:, k]] for k in range(3))
    turned = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
    assert (turned < 0).all()  # counter-clockwise on the animal is clockwise in a picture whose v points down


def test_charts_are_padded() -> None:
    vertices, faces = _half(stretch=(3.0, 1.0, 1.0))  # too deep to flatten in one piece
    charts = cut_charts(vertices.double(), faces)
    assert len(charts) > 1
    assert torch.equal(torch.sort(torch.cat(charts)).values, torch.arange(len(faces)))
    uv, faces_uv = unwrap_half(vertices, faces, size_px=256, padding_px=3)
    pieces = [uv[faces_uv[part]].reshape(-1, 2) * 256 for part in charts]
    for i, one in enumerate(pieces):
        assert one.min() >= 2
        for other in pieces[i + 1 :]:
            assert torch.cdist(one, other).min() >= 3


def _toy(points: torch.Tensor) -> torch.Tensor:
    """A body on four legs."""
    body = 0.5 - (points / points.new_tensor([1.0, 1.0, 2.2])).norm(dim=-1)
    legs = []
    for z in (-0.7, 0.7):
        offset = points - points.new_tensor([0.25, 0.0, z])
        down = torch.stack([offset[..., 0], offset[..., 1] - offset[..., 1].clamp(-1.2, 0.0), offset[..., 2]], -1)
        legs.append(0.13 - down.norm(dim=-1))
    return torch.stack([body, *legs]).amax(0)


def test_charts_are_discs_also_where_legs_hang_from_the_body() -> None:
    pytest.importorskip("fast_simplification", reason="the optional library fast-simplification is not installed")
    with torch.no_grad():
        surface = extract_surface(_toy, Grid((0.0, -1.6, -1.4), (0.8, 0.8, 1.4), (32, 96, 112), mirrored=True))
    used, half = torch.unique(surface.faces[: len(surface.faces) // 2], return_inverse=True)
    vertices = surface.vertices[used]
    vertices[vertices[:, 0].abs() < 1e-6, 0] = 0.0
    vertices, half = decimate(vertices, half, target_faces=1800)
    half = flip_edges(vertices, half)
    charts = cut_charts(vertices.double(), half)
    assert len(charts) <= 16
    for part in charts:
        report = inspect_surface(half[part])
        assert report.manifold and report.euler == 1 and not report.closed
    uv, faces_uv = unwrap_half(vertices, half, size_px=512)
    atlas = inspect_atlas(vertices, half, uv, faces_uv, size_px=512)
    assert atlas.overlap_texels == 0
    assert atlas.charts == len(charts)


def test_a_cylinder_patch_flattens_isometrically() -> None:
    u, v = torch.meshgrid(torch.linspace(0, math.pi * 0.9, 24), torch.linspace(0, 2, 20), indexing="ij")
    vertices = torch.stack([u.sin(), u.cos(), v], -1).reshape(-1, 3).double()
    index = torch.arange(24 * 20).reshape(24, 20)
    a, b, c, d = index[:-1, :-1].reshape(-1), index[1:, :-1].reshape(-1), index[1:, 1:].reshape(-1), index[:-1, 1:].reshape(-1)
    faces = torch.cat([torch.stack([a, c, b], 1), torch.stack([a, d, c], 1)])
    uv, local = flatten_chart(vertices, faces)
    for one, two in ((0, 1), (1, 2), (2, 0)):
        true = (vertices[faces[:, one]] - vertices[faces[:, two]]).norm(dim=1)
        assert torch.allclose((uv[local[:, one]] - uv[local[:, two]]).norm(dim=1), true, rtol=1e-3)


@pytest.mark.parametrize("bad", [math.inf, math.nan, 1e30])
def test_meshes_that_hang_others_are_refused_at_once(bad: float) -> None:
    vertices, faces = _half(4)
    vertices[5, 1] = bad
    start = time.monotonic()
    with pytest.raises(InputError, match=r"not finite|without area"):
        unwrap_half(vertices, faces)
    assert time.monotonic() - start < 60
    with pytest.raises(InputError, match="without area"):
        unwrap_half(torch.zeros(len(vertices), 3), faces)
    with pytest.raises(InputError, match="manifold"):
        unwrap_half(_half(4)[0], torch.cat([faces, faces[:1]]))


def test_an_atlas_with_faults_is_reported() -> None:
    vertices, faces = _half(4)
    uv, faces_uv = unwrap_half(vertices, faces, size_px=256)
    doubled = torch.cat([faces_uv, faces_uv[:1]])
    assert inspect_atlas(vertices, torch.cat([faces, faces[:1]]), uv, doubled, size_px=256).overlap_texels > 0
    assert not inspect_atlas(vertices, faces, uv + 0.9, faces_uv).in_range
    assert not inspect_atlas(vertices, faces, uv * torch.nan, faces_uv).in_range
