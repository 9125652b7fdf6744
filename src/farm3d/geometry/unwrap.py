"""UV atlas of one half of a mirror-symmetric animal: few charts with little stretch, packed so that the other half is their mirror image.

Charts are the outer side of the body, the outer and inner sides of the legs, and whatever sticks out too far to be flattened with
them (ears, horns). Each is flattened as rigidly as possible (Liu et al. 2008, "A local/global approach to mesh parameterization"),
so a texel covers the same area everywhere. General unwrappers cut an animal into a hundred charts, hang on infinite vertices and
are slow (product notes, section 4.3); this one is plain linear algebra, refuses what is not finite, and always ends.
"""

from __future__ import annotations

import numpy as np
import torch

from farm3d.core.errors import InputError
from farm3d.core.shapes import Float, Int, Tensor, checked
from farm3d.geometry.atlas import pack_charts, texel_coverage
from farm3d.geometry.flatten import flatten_chart, stretches
from farm3d.geometry.surface import connected_components, edges, face_areas, face_normals, inspect_surface, vertex_components

__all__ = ["cut_charts", "unwrap_half"]

MAX_STRETCH = 2.0  # a chart whose triangles are stretched more than this, in area or in one direction, is cut


@checked
def unwrap_half(
    vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"], *, size_px: int = 1024, padding_px: int = 4
) -> tuple[Float[Tensor, "U 2"], Int[Tensor, "F 3"]]:
    """Unwrap the half x >= 0 of an animal into the upper half of the atlas, v <= 1/2.

    The other half takes the same corners at (u, 1 - v): every texel's mirror place on the animal is found by turning the atlas over.

    Args:
        padding_px: free texels around every chart at ``size_px``.

    Returns:
        corners ``[U, 2]`` and faces into them ``[F, 3]``.

    Raises:
        InputError: vertices that are not finite, faces without area, or a surface that is not manifold.
    """
    areas = face_areas(vertices, faces)
    if not bool(torch.isfinite(vertices).all() & torch.isfinite(areas).all()):
        raise InputError("unwrap: the mesh has vertices that are not finite, or too far away to measure")
    if float(areas.min()) <= 0:
        raise InputError("unwrap: the mesh has faces without area", hint="weld and decimate it first")
    if not inspect_surface(faces).manifold:
        raise InputError("unwrap: the mesh is not manifold", hint="weld it first")
    work = vertices.detach().double().cpu()
    flat = [(part, *flatten_chart(work, faces[part])) for part in cut_charts(work, faces)]
    placed = pack_charts([uv for _, uv, _ in flat], [local for _, _, local in flat], size_px=size_px, padding_px=padding_px)
    corners, faces_uv, base = [], torch.zeros_like(faces), 0
    for (part, _, local), uv in zip(flat, placed, strict=True):
        faces_uv[part] = local + base
        corners.append(uv)
        base += len(uv)
    return torch.cat(corners).to(vertices), faces_uv


@checked
def cut_charts(vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"]) -> list[Int[Tensor, " P"]]:
    """Return the face numbers of each chart of the half x >= 0; every chart is a disc that flattens without folds or much stretch."""
    leg = _legs(vertices, faces)
    side = _smooth_over_faces(torch.nn.functional.normalize(face_normals(vertices, faces), dim=1)[:, 0], faces) < -0.1
    leg = _without_teeth(leg, faces)
    label = _without_teeth(torch.where(leg > 0, leg * 2 + side.long(), 0), faces)
    for number in (1, 2):
        label[_bridge(vertices, faces, leg == number)] = number * 2 + 1
        label[_pinched(faces, label == 0)] = number * 2 + 1
    label = _absorb_small(label, faces, least=max(24, len(faces) // 100))
    waiting = _pieces(label, faces)
    done: list[Tensor] = []
    while waiting:
        part = waiting.pop()
        bad = _faults(vertices, faces[part])
        if bad is None:
            done.append(part)
        else:
            waiting.extend(_cut(vertices, faces, part, bad))
    return sorted(done, key=lambda part: -float(face_areas(vertices, faces[part]).sum()))


def _legs(vertices: Tensor, faces: Tensor) -> Tensor:
    """1 for faces of the front leg, 2 for the hind leg, else 0: what hangs together below the height where a leg meets the mid plane."""
    result = torch.zeros(len(faces), dtype=torch.long)
    low, high = float(vertices[:, 1].min()), float(vertices[:, 1].max())
    plane = vertices[:, 0].abs() < 1e-6 * (high - low)
    for number, front in ((1, True), (2, False)):
        on_side = (vertices[:, 2] > vertices[:, 2].mean()) == front
        foot = int(torch.where(on_side, vertices[:, 1], high).argmin())
        if plane[foot]:
            continue
        for height in torch.linspace(low, high, 60)[1:-1].tolist():
            below = faces[(vertices[faces][:, :, 1] < height).all(1)]
            piece = vertex_components(below, len(vertices))
            mine = piece == piece[foot]
            share = float(vertices[mine, 2].max() - vertices[mine, 2].min()) / float(vertices[:, 2].max() - vertices[:, 2].min())
            if bool((mine & plane).any()) or share > 0.4:
                break
            chosen = mine[faces].all(1) & (vertices[faces][:, :, 1] < height).all(1)
            result[chosen] = number
    return result


def _bridge(vertices: Tensor, faces: Tensor, piece: Tensor) -> Tensor:
    """Faces along the shortest way from a piece (mask ``[F]``) to the border: without them the rest is a disc, not one with a hole."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import dijkstra

    rest = faces[~piece]
    start = np.intersect1d(faces[piece].unique().numpy(), rest.unique().numpy())
    pairs, _, counts = edges(faces)
    goal = np.intersect1d(pairs[counts == 1].unique().numpy(), rest.unique().numpy())
    if len(start) == 0 or len(goal) == 0 or len(np.intersect1d(start, goal)):
        return torch.zeros(len(faces), dtype=torch.bool)
    pairs, _, _ = edges(rest)
    lengths = (vertices[pairs[:, 0]] - vertices[pairs[:, 1]]).norm(dim=1).numpy()
    graph = coo_matrix((lengths, (pairs[:, 0].numpy(), pairs[:, 1].numpy())), (len(vertices),) * 2)
    distance, before, _ = dijkstra(graph.tocsr(), directed=False, indices=start, min_only=True, return_predecessors=True)
    way = [int(goal[distance[goal].argmin()])]
    while before[way[-1]] >= 0:
        way.append(int(before[way[-1]]))
    on_way = torch.zeros(len(vertices), dtype=torch.bool)
    on_way[way] = True
    return on_way[faces].any(1) & ~piece


def _neighbours(faces: Tensor) -> Tensor:
    """Pairs of faces that share an edge, ``[N, 2]``."""
    _, face_edges, counts = edges(faces)
    owner = torch.argsort(face_edges.reshape(-1), stable=True)
    sorted_edges = face_edges.reshape(-1)[owner]
    same = (sorted_edges[1:] == sorted_edges[:-1]) & (counts[sorted_edges[1:]] == 2)
    return torch.stack([owner[:-1][same] // 3, owner[1:][same] // 3], 1)


def _smooth_over_faces(values: Tensor, faces: Tensor, *, steps: int = 8) -> Tensor:
    pairs = _neighbours(faces)
    both = torch.cat([pairs, pairs.flip(1)])
    weight = 1 + torch.bincount(both[:, 0], minlength=len(values))
    for _ in range(steps):
        values = (values + torch.zeros_like(values).index_add(0, both[:, 0], values[both[:, 1]])) / weight
    return values


def _without_teeth(label: Tensor, faces: Tensor, *, passes: int = 4) -> Tensor:
    """Straighten borders: a face with two or three neighbours of one other label takes that label."""
    pairs = _neighbours(faces)
    both = torch.cat([pairs, pairs.flip(1)])
    values = torch.unique(label)
    for _ in range(passes):
        votes = torch.stack([torch.bincount(both[:, 0][label[both[:, 1]] == value], minlength=len(faces)) for value in values])
        label = torch.where(votes.amax(0) >= 2, values[votes.argmax(0)], label)
    return label


def _pieces(label: Tensor, faces: Tensor) -> list[Tensor]:
    """Face numbers of each connected set of equal labels."""
    pairs = _neighbours(faces)
    piece = connected_components(len(faces), pairs[label[pairs[:, 0]] == label[pairs[:, 1]]])
    return [(piece == k).nonzero()[:, 0] for k in range(int(piece.max()) + 1)]


def _absorb_small(label: Tensor, faces: Tensor, *, least: int) -> Tensor:
    """Give pieces of fewer than ``least`` faces the label of the neighbour they share most edges with, smallest first."""
    label = label.clone()
    pairs = _neighbours(faces)
    both = torch.cat([pairs, pairs.flip(1)])
    for _ in range(len(faces)):
        small = [part for part in _pieces(label, faces) if len(part) < least]
        for part in sorted(small, key=len):
            mine = torch.zeros(len(faces), dtype=torch.bool)
            mine[part] = True
            across = label[both[:, 1]][mine[both[:, 0]] & ~mine[both[:, 1]]]
            if len(across):
                label[part] = torch.bincount(across).argmax()
                break
        else:
            return label
    return label


def _faults(vertices: Tensor, faces: Tensor) -> Tensor | None:
    """None for a chart that may stay, else the faces that speak against it, ``[F]`` (none marked: cut it anywhere)."""
    if not _is_disc(faces):
        return torch.zeros(len(faces), dtype=torch.bool)
    uv, local = flatten_chart(vertices, faces)
    large, small, turned = stretches(vertices, faces, uv, local)
    bad = turned | (large > MAX_STRETCH) | (small < 1 / MAX_STRETCH)
    if len(faces) < 12:
        return None if not bool(turned.any()) else bad
    areas = face_areas(vertices, faces)
    share = float(areas[bad].sum()) / float(areas.sum())
    if len(faces) < 200:  # a small chart may bear a little more before it is cut into tiny ones
        return bad if bool(turned.any()) or share > 0.1 or _self_overlap(uv, local) > 0.001 else None
    return (
        bad if bool(turned.any()) or share > 0.02 or int(bad.sum()) > max(6, len(faces) // 50) or _self_overlap(uv, local) > 0.001 else None
    )


def _pinched(faces: Tensor, chosen: Tensor) -> Tensor:
    """Faces of ``chosen`` (mask ``[F]``) at vertices where they only meet in a point, ``[F]``."""
    found = torch.zeros(len(faces), dtype=torch.bool)
    for _ in range(5):
        pairs, _, counts = edges(faces[chosen & ~found])
        border = torch.bincount(pairs[counts == 1].reshape(-1), minlength=int(faces.max()) + 1)
        more = (border > 2)[faces].any(1) & chosen & ~found
        if not bool(more.any()):
            break
        found |= more
    return found


def _is_disc(faces: Tensor) -> bool:
    report = inspect_surface(faces)
    return report.manifold and not report.closed and report.euler == 1


def _cut(vertices: Tensor, faces: Tensor, part: Tensor, bad: Tensor) -> list[Tensor]:
    """Cut a chart in two or more: around what sticks out, if that is a small part of it, else across its longest axis."""
    own = faces[part]
    if 0 < int(bad.sum()) < len(part) // 4:
        grown = bad
        for _ in range(2):
            touched = torch.zeros(len(vertices), dtype=torch.bool)
            touched[own[grown].reshape(-1)] = True
            grown = touched[own].any(1)
        label = _absorb_small(_without_teeth(grown.long(), own), own, least=30)  # small spots stay: they cost less than a seam
        for piece in _pieces(label, own):
            if int(label[piece[0]]) == 1:
                mask = torch.zeros(len(own), dtype=torch.bool)
                mask[piece] = True
                label[_bridge(vertices, own, mask)] = 1
        label[_pinched(own, label == 0)] = 1
        pieces = _pieces(label, own)
        if len(pieces) > 1:
            return [part[piece] for piece in pieces]
    centres = vertices[own].mean(1)
    normals = torch.nn.functional.normalize(face_normals(vertices, own), dim=1)
    spread = torch.linalg.eigh(torch.cov(normals.T))  # across where the normals differ most: a horn's upper from its lower side
    height = _smooth_over_faces(normals @ spread.eigenvectors[:, -1], own, steps=3)
    label = _without_teeth((height > height.median()).long(), own)
    pieces = _pieces(_absorb_small(label, own, least=min(12, len(own) // 4)), own)
    if len(pieces) < 2:
        axis = torch.linalg.eigh(torch.cov(centres.T)).eigenvectors[:, -1]
        height = centres @ axis
        pieces = _pieces((height > height.median()).long(), own)
    return [part[piece] for piece in pieces]


def _self_overlap(uv: Tensor, faces: Tensor) -> float:
    low, high = uv.amin(0), uv.amax(0)
    size = 400
    counts = texel_coverage(((uv - low) / (high - low).max() * (size - 1)).numpy(), faces.numpy(), size, size)
    return float((counts > 1).sum()) / max(float((counts > 0).sum()), 1.0)
