"""The tube quadruped is what its users take it for."""

import numpy as np
import pytest
import torch
import trimesh

from tests.testing.animals import GROUND, quadruped, quadruped_mesh, quadruped_skeleton


@pytest.mark.parametrize("tail", [True, False])
def test_parts_are_closed_and_face_outward(tail: bool) -> None:
    mesh = quadruped_mesh(tail=tail)
    parts = trimesh.Trimesh(mesh.vertices.numpy(), mesh.faces.numpy(), process=False).split(only_watertight=False)
    assert len(parts) == (6 if tail else 5)
    assert all(part.is_watertight and part.is_winding_consistent and part.volume > 0 for part in parts)
    assert float(mesh.vertices[:, 1].min()) == pytest.approx(GROUND)


def test_charts_do_not_overlap_or_flip() -> None:
    mesh = quadruped_mesh()
    assert mesh.uv is not None and mesh.faces_uv is not None
    corners = mesh.uv[mesh.faces_uv].double()
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = 0.5 * (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])
    assert bool((area.abs() > 1e-9).all())
    assert bool((mesh.uv >= 0).all()) and bool((mesh.uv <= 1).all())
    # Triangles of an overlap-free atlas cover no texel centre twice.
    size, hits = 64, np.zeros((64, 64), int)
    centres = (np.stack(np.meshgrid(np.arange(size), np.arange(size)), -1) + 0.5) / size
    for (x, y), u, v in zip(corners[:, 0].tolist(), a.numpy(), b.numpy(), strict=True):
        weights = np.linalg.solve(np.stack([u, v], 1), (centres.reshape(-1, 2) - [x, y]).T)
        hits.reshape(-1)[(weights > 1e-9).all(0) & (weights.sum(0) < 1 - 1e-9)] += 1
    assert hits.max() == 1


def test_animal_is_whole() -> None:
    animal = quadruped()
    weights = animal.skin_weights
    assert torch.allclose(weights.sum(-1), torch.ones(len(weights)), atol=1e-6)
    assert int((weights > 0).sum(-1).max()) <= 4
    skeleton = quadruped_skeleton()
    assert all(parent < bone for bone, parent in enumerate(skeleton.parents))
    assert bool(((skeleton.ends - skeleton.starts).norm(dim=-1) > 0.01).all())
    assert "tail_01" not in quadruped_skeleton(tail=False).names
    assert torch.equal(animal.angles, quadruped().angles) and not torch.equal(animal.angles, quadruped(seed=1).angles)
