"""Shapes of individuals: bone proportions and smooth mirror-symmetric modes of the template.

The paper deforms each instance by a coordinate network (section 2.4). Fitting to one picture needs few, well-conditioned numbers
instead: a length and a girth for each part of the body, and the lowest vibration modes of the template's surface. Both are mirror
symmetric by construction; the x displacement changes sign across the mirror plane (the original's does not, section 2.4).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import coo_matrix, csr_array, diags
from scipy.sparse.linalg import eigsh

from farm3d.core.shapes import Float, Int, Tensor, checked
from farm3d.geometry.skinning import linear_blend_skinning
from farm3d.structures import Skeleton

__all__ = ["GIRTH_GROUPS", "LENGTH_GROUPS", "Modes", "mirror_modes", "proportion_shape"]

# Left and right share a number. Prefixes of bone names.
LENGTH_GROUPS: tuple[tuple[str, ...], ...] = (
    ("spine_", "lumbar_"),
    ("pelvis_",),
    ("neck_",),
    ("head",),
    ("leg_front_L_01", "leg_front_R_01"),
    ("leg_front_L_02", "leg_front_R_02"),
    ("leg_front_L_03", "leg_front_R_03"),
    ("leg_rear_L_01", "leg_rear_R_01"),
    ("leg_rear_L_02", "leg_rear_R_02"),
    ("leg_rear_L_03", "leg_rear_R_03"),
    ("tail_",),
)
GIRTH_GROUPS: tuple[tuple[str, ...], ...] = (
    ("spine_", "lumbar_"),
    ("pelvis_",),
    ("neck_",),
    ("head",),
    ("leg_front_L_01", "leg_front_R_01", "leg_rear_L_01", "leg_rear_R_01"),
    ("leg_front_L_02", "leg_front_R_02", "leg_front_L_03", "leg_front_R_03"),
    ("leg_rear_L_02", "leg_rear_R_02", "leg_rear_L_03", "leg_rear_R_03"),
    ("tail_",),
)


def _membership(names: tuple[str, ...], groups: tuple[tuple[str, ...], ...]) -> Float[Tensor, "G K"]:
    return torch.tensor([[float(name.startswith(group)) for name in names] for group in groups])


@checked
def proportion_shape(
    vertices: Float[Tensor, "V 3"],
    skin_weights: Float[Tensor, "V K"],
    skeleton: Skeleton,
    *,
    log_lengths: Float[Tensor, "B L"],
    log_girths: Float[Tensor, "B G"],
) -> tuple[Float[Tensor, "B V 3"], Skeleton]:
    """Return rest vertices and skeletons whose bones are longer and thicker by the exponentials of the given numbers.

    Each bone stretches along and across itself about its start; children follow their parent's stretched end.
    ``L = len(LENGTH_GROUPS)``, ``G = len(GIRTH_GROUPS)``; zeros return the template.
    """
    lengths = (log_lengths @ _membership(skeleton.names, LENGTH_GROUPS).to(log_lengths)).exp()
    girths = (log_girths @ _membership(skeleton.names, GIRTH_GROUPS).to(log_girths)).exp()
    axes = skeleton.rest_frames()[:, :3, :3]
    scales = torch.stack([girths, girths, lengths], -1)
    stretch = (axes * scales[..., None, :]) @ axes.transpose(-1, -2)  # [B, K, 3, 3]
    offsets: list[Tensor] = []
    for k, parent in enumerate(skeleton.parents):
        start = skeleton.starts[k]
        moved = start.expand(len(stretch), 3) if parent < 0 else (stretch[:, parent] @ start) + offsets[parent]
        offsets.append(moved - stretch[:, k] @ start)
    offset = torch.stack(offsets, 1)
    transforms = torch.cat([stretch, offset[..., None]], -1)
    starts = (stretch @ skeleton.starts[..., None])[..., 0] + offset
    ends = (stretch @ skeleton.ends[..., None])[..., 0] + offset
    transforms = torch.cat([transforms, transforms.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*transforms.shape[:2], 1, 4)], -2)
    shaped = linear_blend_skinning(vertices, skin_weights, transforms)
    return shaped, skeleton.replace(starts=starts, ends=ends, centre=skeleton.centre.expand(len(starts), 3))


class Modes(NamedTuple):
    """Mirror-symmetric displacement basis: ``along_yz [V, M]`` even, ``along_x [V, M]`` odd, unit root mean square, and their
    stiffness ``[M]`` each (eigenvalues; 1 is the first mode of a sphere of the same area).
    """

    along_yz: Tensor
    along_x: Tensor
    stiffness_yz: Tensor
    stiffness_x: Tensor


def mirror_modes(vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"], mirror: Int[Tensor, "V"], *, count: int = 48) -> Modes:
    """Return the ``count`` lowest even and odd eigenvectors of the template's Laplacian (cotangent weights, lumped areas).

    ``mirror[v]`` is the vertex at the mirrored place. Deterministic: fixed start vector, sign fixed by the largest entry.
    """
    points, triangles, partner = vertices.double().numpy(), faces.numpy(), mirror.numpy()
    laplacian, areas = _cotangent_laplacian(points, triangles)
    total = len(points)
    own = np.arange(total)
    left = own[own <= partner]  # one of each pair, and the vertices on the plane
    even = coo_matrix(
        (np.ones(2 * len(left)), (np.concatenate([left, partner[left]]), np.tile(np.arange(len(left)), 2))), shape=(total, len(left))
    ).tocsr()
    even.data[:] = 1.0  # a vertex on the plane was counted twice
    pairs = own[own < partner]
    odd = coo_matrix(
        (np.repeat([1.0, -1.0], len(pairs)), (np.concatenate([pairs, partner[pairs]]), np.tile(np.arange(len(pairs)), 2))),
        shape=(total, len(pairs)),
    ).tocsr()
    # The lowest even mode is a constant: moving the whole animal is the camera's job.
    along_yz, stiffness_yz = (values[..., 1:] for values in _lowest_modes(laplacian, areas, even, count + 1))
    along_x, stiffness_x = _lowest_modes(laplacian, areas, odd, count)
    unit = 8 * np.pi / areas.sum()  # the first mode of a sphere of the same area
    return Modes(*(torch.from_numpy(values).float() for values in (along_yz, along_x, stiffness_yz / unit, stiffness_x / unit)))


def _cotangent_laplacian(points: np.ndarray, triangles: np.ndarray) -> tuple[csr_array, np.ndarray]:
    rows, columns, values = [], [], []
    areas = np.zeros(len(points))
    for corner in range(3):
        a, b, c = triangles[:, corner], triangles[:, (corner + 1) % 3], triangles[:, (corner + 2) % 3]
        u, v = points[b] - points[a], points[c] - points[a]
        double_area = np.linalg.norm(np.cross(u, v), axis=1) + 1e-12
        # Slivers would give huge or negative weights; a bounded cotangent keeps the matrix well behaved.
        weight = 0.5 * np.clip((u * v).sum(1) / double_area, 0.02, 5.0)
        rows += [b, c]
        columns += [c, b]
        values += [weight, weight]
        np.add.at(areas, a, double_area / 6)
    shape = (len(points), len(points))
    weights = coo_matrix((np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape=shape).tocsr()
    return diags(np.asarray(weights.sum(1)).ravel()) - weights, areas


def _lowest_modes(laplacian: csr_array, areas: np.ndarray, basis: csr_array, count: int) -> tuple[np.ndarray, np.ndarray]:
    stiffness = (basis.T @ laplacian @ basis).tocsc()
    mass = (basis.T @ diags(areas) @ basis).tocsc()
    start = np.random.default_rng(0).standard_normal(stiffness.shape[0])
    values, vectors = eigsh(stiffness, k=count, M=mass, sigma=-1e-3, which="LM", v0=start)
    order = np.argsort(values)
    full = basis @ vectors[:, order]
    full = full / np.sqrt(np.square(full).mean(0))
    sign = np.sign(full[np.abs(full).argmax(0), np.arange(count)])
    return full * sign, values[order]
