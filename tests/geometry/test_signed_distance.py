"""Distances to meshes against brute force and against shapes with a formula."""

import torch
from tests.testing.blobs import blob

from farm3d.core.random import torch_generator
from farm3d.geometry.signed_distance import distance_to_surface, inside, signed_distance

BOX = (
    torch.tensor([[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)]) * torch.tensor([1.0, 2.0, 0.5]),
    torch.tensor(
        [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]]
    ),
)


def _points(count: int, scale: float = 1.5) -> torch.Tensor:
    return scale * torch.randn(count, 3, generator=torch_generator(0, "points"), dtype=torch.float64)


def test_a_box_has_its_formula() -> None:
    vertices, faces = BOX[0].double(), BOX[1]
    points = _points(3000)
    beyond = points.abs() - vertices.abs().amax(0)
    expected = -(beyond.clamp(min=0).norm(dim=1) + beyond.amax(1).clamp(max=0))
    assert torch.allclose(signed_distance(points, vertices, faces), expected, atol=1e-12)


def test_the_tree_finds_what_brute_force_finds() -> None:
    vertices, faces = blob(6, dtype=torch.float64)
    points = _points(60)
    each = torch.stack([distance_to_surface(points, vertices, faces[k : k + 1]) for k in range(len(faces))])
    assert torch.allclose(distance_to_surface(points, vertices, faces), each.amin(0), atol=1e-12)


def test_points_on_a_face_an_edge_and_a_corner_are_at_distance_zero() -> None:
    vertices, faces = blob(3, dtype=torch.float64)
    corners = vertices[faces]
    for weights in ([1, 0, 0], [0.5, 0.5, 0], [0.2, 0.3, 0.5]):
        points = (corners * torch.tensor(weights, dtype=torch.float64)[:, None]).sum(1)
        assert distance_to_surface(points, vertices, faces).max() < 1e-12


def test_overlapping_pieces_count_as_their_union() -> None:
    vertices, faces = BOX[0].double(), BOX[1]
    moved = vertices + torch.tensor([0.7, 0.3, 0.1], dtype=torch.float64)
    points = _points(2000)
    both = inside(points, torch.cat([vertices, moved]), torch.cat([faces, faces + len(vertices)]))
    assert torch.equal(both, inside(points, vertices, faces) | inside(points, moved, faces))


def test_rays_through_vertices_and_edges_are_counted_once() -> None:
    vertices, faces = blob(4, dtype=torch.float64)
    points = torch.cat([0.5 * vertices, 1.5 * vertices])  # rays from these pass exactly through corners of the lattice
    assert torch.equal(inside(points, vertices, faces), torch.arange(len(points)) < len(vertices))
