from __future__ import annotations

import gc

import pytest
import torch
from tests.testing.blobs import blob

from farm3d.core.errors import InputError
from farm3d.render import topology as module
from farm3d.render.topology import edge_topology


def test_a_closed_mesh_has_two_opposite_faces_at_every_edge() -> None:
    _, faces = blob(5)
    edges = edge_topology(faces)
    assert len(edges.edges) * 2 == len(faces) * 3
    assert (edges.edge_faces >= 0).all()
    assert (edges.edge_sides.sum(-1) == 0).all()  # consistent winding: one runs up, the other down
    assert (edges.edges[:, 0] < edges.edges[:, 1]).all()
    for k in range(2):  # both ends of an edge are corners of each of its faces
        corners = faces[edges.edge_faces[:, k].long()]
        assert (corners[:, None] == edges.edges[..., None]).any(-1).all()


def test_boundaries_and_a_shared_edge_of_three_faces() -> None:
    edges = edge_topology(torch.tensor([[0, 1, 2], [1, 0, 3], [0, 1, 4]]))
    found = {
        tuple(edge): (tuple(f), tuple(s)) for edge, f, s in zip(edges.edges.tolist(), edges.edge_faces.tolist(), edges.edge_sides.tolist())
    }
    shared = [f for edge, f in zip(edges.edges.tolist(), edges.edge_faces.tolist()) if edge == [0, 1]]
    assert shared == [[0, 1], [2, -1]]
    assert found[(0, 2)] == ((0, -1), (-1, 0))
    assert len(edges.edges) == 2 + 6


def test_no_faces() -> None:
    edges = edge_topology(torch.zeros(0, 3, dtype=torch.int64))
    assert edges.edges.shape == (0, 2) and edges.max_vertex == -1


def test_it_is_remembered_for_the_tensor_not_for_its_address() -> None:
    _, faces = blob(3)
    first = edge_topology(faces)
    assert edge_topology(faces) is first
    assert edge_topology(faces.clone()) is not first
    faces[0] = faces[0].flip(0)
    changed = edge_topology(faces)
    assert changed is not first
    assert (changed.edge_sides.sum(-1) != 0).sum() == 3  # one face now runs against its neighbours
    key = id(faces)
    assert module._memory[key][2] is changed
    del faces
    gc.collect()
    assert key not in module._memory


def test_a_negative_index_is_refused() -> None:
    with pytest.raises(InputError, match="negative vertex index -1"):
        edge_topology(torch.tensor([[0, 1, -1]]))


def test_inference_mode_works_without_memory() -> None:
    with torch.inference_mode():
        _, faces = blob(2)
        assert len(edge_topology(faces).edges) == 72
        assert id(faces) not in module._memory
