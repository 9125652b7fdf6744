"""Flattening a disc of triangles as rigidly as possible (Liu et al. 2008, "A local/global approach to mesh parameterization")."""

from __future__ import annotations

import numpy as np
import torch

from farm3d.core.shapes import Bool, Float, Int, Tensor, checked
from farm3d.geometry.surface import edges, face_areas, face_normals

__all__ = ["flatten_chart", "stretches"]


@checked
def flatten_chart(
    vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "P 3"], *, steps: int = 60
) -> tuple[Float[Tensor, "U 2"], Int[Tensor, "P 3"]]:
    """Flatten a disc as rigidly as possible, seen from outside (u right, v down).

    Returns:
        corners ``[U, 2]`` in the units of the mesh and faces into them.
    """
    from scipy.sparse import coo_matrix, identity
    from scipy.sparse.linalg import splu

    used, local = torch.unique(faces, return_inverse=True)
    points, triangles = vertices[used].numpy(), local.numpy()
    corners = points[triangles]
    along = corners[:, 1] - corners[:, 0]
    length = np.linalg.norm(along, axis=1, keepdims=True)
    along = along / length
    other = corners[:, 2] - corners[:, 0]
    x = (other * along).sum(1)
    y = np.linalg.norm(other - x[:, None] * along, axis=1)
    zero = np.zeros_like(x)
    flat = np.stack([np.stack([zero, zero], 1), np.stack([length[:, 0], zero], 1), np.stack([x, y], 1)], 1)  # each face in its own plane
    sides = flat[:, [1, 2, 0]] - flat  # of edges 0-1, 1-2, 2-0
    cotangent = np.stack([-(sides[:, (k + 1) % 3] * sides[:, (k + 2) % 3]).sum(1) / (length[:, 0] * y) for k in range(3)], 1).clip(
        0.02, 20
    )  # opposite to each edge
    start, end = triangles.reshape(-1), triangles[:, [1, 2, 0]].reshape(-1)
    weight = cotangent.reshape(-1) / 2
    rows, columns = np.concatenate([start, end, start, end]), np.concatenate([start, end, end, start])
    laplacian = coo_matrix((np.concatenate([weight, weight, -weight, -weight]), (rows, columns)), (len(points),) * 2).tocsc()
    solve = splu(laplacian + 1e-9 * identity(len(points), format="csc")).solve

    def settle(uv: np.ndarray) -> np.ndarray:
        for _ in range(steps):
            now = uv[triangles[:, [1, 2, 0]]] - uv[triangles]  # [F, 3, 2]
            left, _, right = np.linalg.svd(np.einsum("fe,fea,feb->fab", cotangent, now, sides))
            left[:, :, 1] *= np.sign(np.linalg.det(left @ right))[:, None]
            wanted = (left @ right) @ sides.transpose(0, 2, 1)  # [F, 2, 3]
            pull = (cotangent[:, None] * wanted / 2).transpose(0, 2, 1).reshape(-1, 2)
            right_side = np.zeros_like(uv)
            np.add.at(right_side, end, pull)
            np.add.at(right_side, start, -pull)
            uv = solve(right_side)
        return uv * [1.0, -1.0]  # pictures have v downward

    found: list[tuple[int, np.ndarray]] = []
    for guess in (_projected, _round):
        start_uv = guess(vertices[used], local)
        if start_uv is not None:
            uv = settle(start_uv)
            folds = int(stretches(vertices, faces, torch.from_numpy(uv), local)[2].sum())
            found.append((folds, uv))
            if folds == 0:
                break
    return torch.from_numpy(min(found, key=lambda item: item[0])[1]), local


def _projected(points: Tensor, faces: Tensor) -> np.ndarray | None:
    """Project along the mean normal, if no face turns over."""
    normals = face_normals(points, faces)
    normal = torch.nn.functional.normalize(normals.sum(0), dim=0)
    if float((normals @ normal).min()) <= 0:
        return None
    helper = torch.tensor([0.0, 1.0, 0.0] if abs(float(normal[1])) < 0.9 else [0.0, 0.0, 1.0], dtype=points.dtype)
    right = torch.nn.functional.normalize(torch.linalg.cross(helper, normal), dim=0)
    return torch.stack([points @ right, points @ torch.linalg.cross(normal, right)], 1).numpy()


def _round(points: Tensor, faces: Tensor) -> np.ndarray:
    """Tutte's embedding (boundary on a circle, each inner vertex at the mean of its neighbours): never folds."""
    from scipy.sparse import coo_matrix, csr_matrix, diags
    from scipy.sparse.linalg import spsolve

    pairs, face_edges, counts = edges(faces)
    lone = (counts[face_edges] == 1).reshape(-1)
    border = torch.stack([faces, faces.roll(-1, 1)], -1).reshape(-1, 2)[lone]
    following = dict(border.tolist())
    loop = [int(border[0, 0])]
    while following[loop[-1]] != loop[0]:
        loop.append(following[loop[-1]])
    ring = points[loop].numpy()
    gaps = np.linalg.norm(np.roll(ring, -1, 0) - ring, axis=1)
    angle = 2 * np.pi * np.concatenate([[0], np.cumsum(gaps)[:-1]]) / gaps.sum()
    radius = float(face_areas(points, faces).sum() / np.pi) ** 0.5
    count = len(points)
    links = np.concatenate([pairs.numpy(), pairs.flip(1).numpy()])
    graph = coo_matrix((np.ones(len(links)), (links[:, 0], links[:, 1])), (count, count)).tocsr()
    inner = np.setdiff1d(np.arange(count), loop)
    uv = np.zeros((count, 2))
    uv[loop] = radius * np.stack([np.cos(angle), np.sin(angle)], 1)
    if len(inner):
        system = csr_matrix(diags(np.asarray(graph.sum(1)).ravel()) - graph)
        uv[inner] = np.asarray(spsolve(system[inner][:, inner].tocsc(), (graph @ uv)[inner])).reshape(-1, 2)
    return uv


@checked
def stretches(
    vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"], uv: Float[Tensor, "U 2"], faces_uv: Int[Tensor, "F 3"]
) -> tuple[Float[Tensor, " F"], Float[Tensor, " F"], Bool[Tensor, " F"]]:
    """Return the largest and smallest length scale of each face from the surface to the atlas (v down), and whether it is turned over."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    along = torch.nn.functional.normalize(b - a, dim=1)
    normal = torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=1)
    up = torch.linalg.cross(normal, along)
    zero = torch.zeros(len(faces), dtype=vertices.dtype)
    frame = torch.stack([torch.stack([(b - a).norm(dim=1), zero], 1), torch.stack([((c - a) * along).sum(1), ((c - a) * up).sum(1)], 1)], 2)
    p, q, r = (uv[faces_uv[:, k]] for k in range(3))
    image = torch.stack([q - p, r - p], 2)
    jacobian = image @ torch.linalg.inv(frame)
    scales = torch.linalg.svdvals(jacobian)
    return scales[:, 0], scales[:, 1], torch.linalg.det(jacobian) >= 0  # v points down: an upright face has a negative determinant
