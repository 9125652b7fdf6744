"""UV atlas of one half of a mirror-symmetric animal: few charts with little stretch, packed so that the other half is their mirror image.

Charts are the outer side of the body, the outer and inner sides of the legs, and whatever sticks out too far to be flattened with
them (ears, horns). Each is flattened as rigidly as possible (Liu et al. 2008, "A local/global approach to mesh parameterization"),
so a texel covers the same area everywhere. General unwrappers cut an animal into a hundred charts, hang on infinite vertices and
are slow (product notes, section 4.3); this one is plain linear algebra, refuses what is not finite, and always ends.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import torch

from farm3d.core.errors import InputError
from farm3d.core.shapes import Float, Int, Tensor, checked
from farm3d.geometry.surface import edges, face_areas, face_normals, inspect_surface

__all__ = ["AtlasReport", "cut_charts", "flatten_chart", "inspect_atlas", "pack_charts", "unwrap_half"]

MAX_STRETCH = 2.0  # a chart whose triangles are stretched more than this, in area or in one direction, is cut


@dataclass(frozen=True)
class AtlasReport:
    """What :func:`inspect_atlas` found.

    Attributes:
        in_range: every corner is finite and in [0, 1].
        overlap_texels: texel centres covered by more than one face.
        coverage: share of the texels whose centre is covered.
        charts: connected pieces of the atlas.
        stretch_median, stretch_99: per face, the larger of its two length scales relative to the atlas's mean, or the inverse of the smaller.
    """

    in_range: bool
    overlap_texels: int
    coverage: float
    charts: int
    stretch_median: float
    stretch_99: float


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
            piece = _vertex_pieces(below, len(vertices))
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


def _vertex_pieces(faces: Tensor, count: int) -> Tensor:
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    links = torch.cat([faces[:, :2], faces[:, 1:]]).numpy()
    graph = coo_matrix((np.ones(len(links)), (links[:, 0], links[:, 1])), (count, count))
    return torch.from_numpy(connected_components(graph, directed=False)[1]).long()


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
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    pairs = _neighbours(faces)
    pairs = pairs[label[pairs[:, 0]] == label[pairs[:, 1]]].numpy()
    graph = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), (len(faces), len(faces)))
    piece = torch.from_numpy(connected_components(graph, directed=False)[1]).long()
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
    large, small, turned = _stretches(vertices, faces, uv, local)
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
            folds = int(_stretches(vertices, faces, torch.from_numpy(uv), local)[2].sum())
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
    from scipy.sparse import coo_matrix, diags
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
        system = diags(np.asarray(graph.sum(1)).ravel()) - graph
        uv[inner] = spsolve(system[inner][:, inner].tocsc(), (graph @ uv)[inner]).reshape(-1, 2)
    return uv


def _stretches(vertices: Tensor, faces: Tensor, uv: Tensor, faces_uv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Largest and smallest length scale of each face from the surface to the atlas (y-down), and whether it is turned over."""
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


def _self_overlap(uv: Tensor, faces: Tensor) -> float:
    low, high = uv.amin(0), uv.amax(0)
    size = 400
    counts = _coverage(((uv - low) / (high - low).max() * (size - 1)).numpy(), faces.numpy(), size, size)
    return float((counts > 1).sum()) / max(float((counts > 0).sum()), 1.0)


def pack_charts(charts: list[Tensor], faces: list[Tensor], *, size_px: int = 1024, padding_px: int = 4) -> list[Tensor]:
    """Turn and place charts of equal scale in the upper half [0, 1] x [0, 1/2] of the atlas, as large as they fit.

    Args:
        charts: corners ``[U_i, 2]`` of each chart in common units, largest area first.
        faces: triangles of each chart, ``[P_i, 3]``.

    Returns:
        corners of each chart in atlas coordinates.
    """
    straight = [_upright(uv.numpy()) for uv in charts]
    triangles = [part.numpy() for part in faces]
    area = sum(float(_coverage_area(uv, part)) for uv, part in zip(straight, triangles, strict=True))
    scale = np.sqrt(0.5 / area)  # atlas widths per unit if the half were filled completely
    coarse = 4  # places are tried on a grid of 4 texels; the margin below is rounded up to it
    rows, columns = size_px // 2 // coarse, size_px // coarse
    best: list[np.ndarray] | None = None
    placed: list[np.ndarray] | None = None
    low, high = 0.3 * scale, scale
    for _ in range(9):
        middle = (low + high) / 2
        scaled = [uv * middle * columns for uv in straight]
        for lean in (0.5, 2.0, 0.1):  # fill from the left, from the top, strictly from the left
            placed = _try_pack(scaled, triangles, rows=rows, columns=columns, margin=padding_px / coarse, lean=lean)
            if placed is not None:
                break
        if placed is None:
            high = middle
        else:
            low, best = middle, placed
    if best is None:
        raise InputError("unwrap: the charts do not fit the atlas", hint="use fewer or rounder charts")
    return [torch.from_numpy(uv / columns) for uv in best]


def _upright(uv: np.ndarray) -> np.ndarray:
    """Turn a chart so that its bounding rectangle is smallest, long side along u."""
    best, smallest = uv, np.inf
    for angle in np.radians(np.arange(0, 90, 3)):
        turned = uv @ np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]).T
        extent = np.ptp(turned, axis=0)
        if extent.prod() < smallest - 1e-12:
            best, smallest = (turned if extent[0] >= extent[1] else turned @ np.array([[0.0, 1.0], [-1.0, 0.0]])), extent.prod()
    return best - best.min(0)


def _coverage_area(uv: np.ndarray, faces: np.ndarray) -> float:
    a, b, c = (uv[faces[:, k]] for k in range(3))
    return float(np.abs((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]).sum() / 2)


def _try_pack(
    charts: list[np.ndarray], faces: list[np.ndarray], *, rows: int, columns: int, margin: float, lean: float
) -> list[np.ndarray] | None:
    from scipy.ndimage import binary_dilation
    from scipy.signal import fftconvolve

    taken = np.zeros((rows, columns), bool)
    placed: list[np.ndarray] = []
    for uv, part in zip(charts, faces, strict=True):
        choice: tuple[float, np.ndarray, np.ndarray, int, int] | None = None
        for turn in range(4):
            cosine, sine = ((1, 0), (0, 1), (-1, 0), (0, -1))[turn]
            turned = uv @ np.array([[cosine, -sine], [sine, cosine]]).T
            turned = turned - turned.min(0) + margin
            width, height = (np.ceil(turned.max(0) + margin).astype(int)).tolist()
            if width > columns or height > rows:
                continue
            mask = _touched(turned, part, height, width)
            mask = binary_dilation(mask, iterations=max(1, round(margin)))
            clash = fftconvolve(taken.astype(np.float32), mask[::-1, ::-1].astype(np.float32), mode="valid")
            free = np.argwhere(clash < 0.5)
            if len(free) == 0:
                continue
            cost = free[:, 1] + width + lean * (free[:, 0] + height)
            row, column = free[int(cost.argmin())]
            if choice is None or float(cost.min()) < choice[0]:
                choice = (float(cost.min()), turned, mask, int(row), int(column))
        if choice is None:
            return None
        _, turned, mask, row, column = choice
        taken[row : row + mask.shape[0], column : column + mask.shape[1]] |= mask
        placed.append(turned + [column, row])
    return placed


@checked
def inspect_atlas(
    vertices: Float[Tensor, "V 3"],
    faces: Int[Tensor, "F 3"],
    uv: Float[Tensor, "U 2"],
    faces_uv: Int[Tensor, "F 3"],
    *,
    size_px: int = 1024,
) -> AtlasReport:
    """Check an atlas: range, overlap at ``size_px``, use, number of charts, stretch."""
    in_range = bool(torch.isfinite(uv).all()) and float(uv.min()) >= 0 and float(uv.max()) <= 1
    if not in_range:
        return AtlasReport(False, 0, 0.0, 0, float("inf"), float("inf"))
    counts = _coverage((uv.double() * size_px).cpu().numpy(), faces_uv.cpu().numpy(), size_px, size_px)
    large, small, _ = _stretches(vertices.double(), faces, uv.double(), faces_uv)
    mean = float((large * small).mean().sqrt())
    worst = torch.maximum(large / mean, mean / small.clamp(min=1e-12))
    charts = torch.unique(_vertex_pieces(faces_uv, len(uv))[faces_uv[:, 0]]).numel()
    quantiles = torch.quantile(worst, worst.new_tensor([0.5, 0.99])).tolist()
    return AtlasReport(True, int((counts > 1).sum()), float((counts > 0).mean()), charts, *quantiles)


@numba.njit(cache=True)
def _coverage(corners, faces, rows, columns):  # pragma: no cover - compiled
    """How many faces cover each texel centre; a centre on a shared edge counts once (half-open rule)."""
    counts = np.zeros((rows, columns), np.int32)
    for f in range(len(faces)):
        a, b, c = corners[faces[f, 0]], corners[faces[f, 1]], corners[faces[f, 2]]
        top, bottom = max(0, int(min(a[1], b[1], c[1]) - 1)), min(rows - 1, int(max(a[1], b[1], c[1]) + 1))
        left, right = max(0, int(min(a[0], b[0], c[0]) - 1)), min(columns - 1, int(max(a[0], b[0], c[0]) + 1))
        for row in range(top, bottom + 1):
            for column in range(left, right + 1):
                x, y, hits = column + 0.5, row + 0.5, 0
                for start, end in ((a, b), (b, c), (c, a)):
                    if (start[1] > y) != (end[1] > y):
                        lower, upper = (start, end) if start[1] < end[1] else (end, start)
                        if x < lower[0] + (y - lower[1]) * (upper[0] - lower[0]) / (upper[1] - lower[1]):
                            hits += 1
                if hits % 2 == 1:
                    counts[row, column] += 1
    return counts


def _touched(corners: np.ndarray, faces: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Cells that a chart touches at all: its cover, its corners and points along its edges."""
    mask = _coverage(corners, faces, rows, columns) > 0
    for a, b in ((0, 1), (1, 2), (2, 0)):
        for share in np.linspace(0, 1, 9):
            points = corners[faces[:, a]] * (1 - share) + corners[faces[:, b]] * share
            cells = np.clip(points.astype(int), 0, [columns - 1, rows - 1])
            mask[cells[:, 1], cells[:, 0]] = True
    return mask
