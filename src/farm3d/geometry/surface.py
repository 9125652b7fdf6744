"""Triangle surfaces: normals, edges, predicates of a sound surface, sampling, smoothing, subdivision, welding."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from farm3d.core.shapes import Bool, Float, Int, Tensor, checked

__all__ = [
    "SurfaceReport",
    "connected_components",
    "edges",
    "enclosed_volume",
    "face_areas",
    "face_normals",
    "fill_holes",
    "inspect_surface",
    "is_closed_manifold",
    "keep_components",
    "loop_subdivide",
    "midpoint_subdivide",
    "sample_surface",
    "taubin_smooth",
    "vertex_components",
    "vertex_normals",
    "weld",
]


@checked
def face_normals(vertices: Float[Tensor, "*batch V 3"], faces: Int[Tensor, "F 3"]) -> Float[Tensor, "*batch F 3"]:
    """Return normals of counter-clockwise faces; their length is twice the face's area."""
    a, b, c = (vertices[..., faces[:, i], :] for i in range(3))
    return torch.linalg.cross(b - a, c - a)


@checked
def vertex_normals(vertices: Float[Tensor, "*batch V 3"], faces: Int[Tensor, "F 3"]) -> Float[Tensor, "*batch V 3"]:
    """Return unit area-weighted vertex normals (section 2.10)."""
    normals = face_normals(vertices, faces)
    sums = torch.zeros_like(vertices)
    for corner in range(3):
        sums = sums.index_add(-2, faces[:, corner], normals)
    return torch.nn.functional.normalize(sums, dim=-1, eps=1e-12)


@checked
def face_areas(vertices: Float[Tensor, "*batch V 3"], faces: Int[Tensor, "F 3"]) -> Float[Tensor, "*batch F"]:
    """Return the area of each face."""
    return face_normals(vertices, faces).norm(dim=-1) / 2


@checked
def enclosed_volume(vertices: Float[Tensor, "*batch V 3"], faces: Int[Tensor, "F 3"]) -> Float[Tensor, "*batch"]:
    """Return the volume inside a closed surface (divergence theorem); positive when faces are counter-clockwise from outside."""
    a, b, c = (vertices[..., faces[:, i], :] for i in range(3))
    return (a * torch.linalg.cross(b, c)).sum((-2, -1)) / 6


@checked
def edges(faces: Int[Tensor, "F 3"]) -> tuple[Int[Tensor, "E 2"], Int[Tensor, "F 3"], Int[Tensor, " E"]]:
    """Find the undirected edges.

    Returns:
        edges ``[E, 2]`` (smaller index first), the edge number of each face's sides (0-1, 1-2, 2-0) ``[F, 3]``, and how many
        faces share each edge ``[E]``.
    """
    sides = torch.stack([faces, faces.roll(-1, 1)], -1).reshape(-1, 2)
    low, high = sides.amin(1), sides.amax(1)
    stride = int(faces.max()) + 1 if faces.numel() else 1
    keys, inverse, counts = torch.unique(low * stride + high, return_inverse=True, return_counts=True)
    return torch.stack([keys // stride, keys % stride], 1), inverse.reshape(-1, 3), counts


@dataclass(frozen=True)
class SurfaceReport:
    """What :func:`inspect_surface` found.

    Attributes:
        closed: every edge has exactly two faces.
        oriented: no two faces run along an edge in the same direction.
        manifold: no edge has more than two faces and the faces around each vertex form one fan.
        components: number of connected pieces.
        euler: vertices used - edges + faces; 2 per closed piece without a handle.
    """

    closed: bool
    oriented: bool
    manifold: bool
    components: int
    euler: int


@checked
def inspect_surface(faces: Int[Tensor, "F 3"]) -> SurfaceReport:
    """Check the connectivity of a surface; vertex positions do not matter."""
    if faces.numel() == 0:
        return SurfaceReport(closed=True, oriented=True, manifold=True, components=0, euler=0)
    pairs, face_edges, counts = edges(faces)
    stride = int(faces.max()) + 1
    directed = (faces * stride + faces.roll(-1, 1)).reshape(-1)
    oriented = bool(torch.unique(directed).numel() == directed.numel())
    used = torch.unique(faces)
    # Corners of one vertex joined across shared edges: one fan per vertex means as many corner groups as vertices.
    corner = torch.arange(faces.numel(), device=faces.device).reshape(-1, 3)
    by_edge = torch.argsort(face_edges.reshape(-1), stable=True)
    sorted_edges = face_edges.reshape(-1)[by_edge]
    joined = sorted_edges[1:] == sorted_edges[:-1]
    one, two = by_edge[:-1][joined], by_edge[1:][joined]
    start, end = corner.reshape(-1), corner.roll(-1, 1).reshape(-1)
    flat = faces.reshape(-1)
    same = flat[start[one]] == flat[start[two]]
    links = torch.cat(
        [
            torch.stack([start[one], torch.where(same, start[two], end[two])], 1),
            torch.stack([end[one], torch.where(same, end[two], start[two])], 1),
        ]
    )
    fans = int(connected_components(faces.numel(), links).max()) + 1
    pieces = torch.unique(vertex_components(faces, stride)[used]).numel()
    return SurfaceReport(
        closed=bool((counts == 2).all()),
        oriented=oriented,
        manifold=bool((counts <= 2).all()) and fans == used.numel(),
        components=pieces,
        euler=used.numel() - pairs.shape[0] + faces.shape[0],
    )


@checked
def is_closed_manifold(faces: Int[Tensor, "F 3"]) -> bool:
    """True for a surface without holes, consistently oriented, and a disc around every vertex."""
    report = inspect_surface(faces)
    return report.closed and report.oriented and report.manifold


@checked
def vertex_components(faces: Int[Tensor, "F 3"], count: int) -> Int[Tensor, " V"]:
    """Return the number of the connected piece each of ``count`` vertices belongs to; lonely vertices are pieces of their own."""
    return connected_components(count, torch.cat([faces[:, :2], faces[:, 1:]]))


@checked
def connected_components(count: int, links: Int[Tensor, "N 2"]) -> Int[Tensor, " M"]:
    """Number the connected pieces of ``count`` nodes joined by links, ``[count]``."""
    # Label propagation with pointer jumping: a few passes even for large surfaces, on any device.
    label = torch.arange(count, device=links.device)
    while True:
        low = torch.minimum(label[links[:, 0]], label[links[:, 1]])
        new = label.scatter_reduce(0, links[:, 0], low, "amin").scatter_reduce(0, links[:, 1], low, "amin")
        new = new.scatter_reduce(0, label[links[:, 0]], low, "amin").scatter_reduce(0, label[links[:, 1]], low, "amin")
        new = new[new]
        if torch.equal(new, label):
            return torch.unique(label, return_inverse=True)[1]
        label = new


@checked
def keep_components(
    vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"], *, min_faces: int
) -> tuple[Float[Tensor, "V2 3"], Int[Tensor, "F2 3"]]:
    """Drop connected pieces with fewer than ``min_faces`` faces, and unused vertices."""
    piece = vertex_components(faces, vertices.shape[0])[faces[:, 0]]
    faces = faces[torch.bincount(piece)[piece] >= min_faces]
    used, inverse = torch.unique(faces, return_inverse=True)
    return vertices[used], inverse.reshape(-1, 3)


@checked
def weld(
    vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"], *, decimals: int = 6
) -> tuple[Float[Tensor, "V2 3"], Int[Tensor, "F2 3"], Int[Tensor, " V"]]:
    """Merge vertices that agree to ``decimals`` places and drop faces that collapse.

    Returns:
        vertices, faces, and the new index of each old vertex.
    """
    rounded = torch.round(vertices.detach().double() * 10.0**decimals).long()
    _, inverse = torch.unique(rounded, dim=0, return_inverse=True)
    order = torch.argsort(inverse, stable=True)
    first = order[torch.cat([inverse.new_ones(1, dtype=torch.bool), inverse[order][1:] != inverse[order][:-1]])]
    merged = inverse[faces]
    whole = (merged[:, 0] != merged[:, 1]) & (merged[:, 1] != merged[:, 2]) & (merged[:, 2] != merged[:, 0])
    return vertices[first], merged[whole], inverse


@checked
def fill_holes(vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"]) -> tuple[Float[Tensor, "V2 3"], Int[Tensor, "F2 3"]]:
    """Close every boundary loop of an oriented surface with a fan around the loop's mean point."""
    _, face_edges, counts = edges(faces)
    lone = (counts[face_edges] == 1).reshape(-1)
    sides = torch.stack([faces, faces.roll(-1, 1)], -1).reshape(-1, 2)[lone]
    if sides.shape[0] == 0:
        return vertices, faces
    _, local = torch.unique(sides, return_inverse=True)
    loop = connected_components(int(local.max()) + 1, local)[local[:, 0]]
    loops = int(loop.max()) + 1
    sums = vertices.new_zeros(loops, 3).index_add(0, loop, vertices[sides[:, 0]])
    centres = sums / torch.bincount(loop, minlength=loops)[:, None]
    fans = torch.stack([sides[:, 1], sides[:, 0], loop + vertices.shape[0]], 1)
    return torch.cat([vertices, centres]), torch.cat([faces, fans])


@checked
def sample_surface(
    vertices: Float[Tensor, "V 3"],
    faces: Int[Tensor, "F 3"],
    *,
    count: int,
    generator: torch.Generator,
    density: Float[Tensor, " F"] | None = None,
) -> tuple[Float[Tensor, "N 3"], Int[Tensor, " N"], Float[Tensor, "N 3"]]:
    """Draw points uniformly by area, or by area times a ``density`` per face.

    Returns:
        points ``[N, 3]`` (differentiable in the vertices), the face of each ``[N]`` and its barycentric weights ``[N, 3]``.
    """
    chances = face_areas(vertices.detach(), faces)
    # Cumulative sums instead of torch.multinomial, which is limited to 2^24 faces and needs normalised float32 weights.
    reach = (chances if density is None else chances * density).double().cumsum(0)
    draws = torch.rand(count, generator=generator, device=vertices.device, dtype=torch.float64) * reach[-1]
    chosen = torch.searchsorted(reach, draws).clamp(max=len(faces) - 1)
    root, second = torch.rand(2, count, generator=generator, device=vertices.device, dtype=vertices.dtype)
    root = root.sqrt()
    weights = torch.stack([1 - root, root * (1 - second), root * second], 1)
    return (vertices[faces[chosen]] * weights[..., None]).sum(1), chosen, weights


@checked
def taubin_smooth(
    vertices: Float[Tensor, "V 3"],
    faces: Int[Tensor, "F 3"],
    *,
    steps: int = 10,
    shrink: float = 0.5,
    grow: float = -0.53,
    fixed: Bool[Tensor, " V"] | None = None,
) -> Float[Tensor, "V 3"]:
    """Smooth without much shrinking: alternate a shrinking and a growing step of the uniform Laplacian (Taubin 1995)."""
    pairs, _, _ = edges(faces)
    degree = torch.bincount(pairs.reshape(-1), minlength=vertices.shape[0]).clamp(min=1).to(vertices.dtype)[:, None]
    for _ in range(steps):
        for factor in (shrink, grow):
            sums = torch.zeros_like(vertices).index_add(0, pairs[:, 0], vertices[pairs[:, 1]])
            sums = sums.index_add(0, pairs[:, 1], vertices[pairs[:, 0]])
            move = factor * (sums / degree - vertices)
            vertices = vertices + (move if fixed is None else move.masked_fill(fixed[:, None], 0.0))
    return vertices


@checked
def midpoint_subdivide(vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"]) -> tuple[Float[Tensor, "V2 3"], Int[Tensor, "F2 3"]]:
    """Cut each face in four at the middle of its sides; the shape stays. Faces 4i to 4i+3 come from face i."""
    pairs, face_edges, _ = edges(faces)
    return torch.cat([vertices, vertices[pairs].mean(1)]), _split(faces, face_edges + vertices.shape[0])


@checked
def loop_subdivide(
    vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"], *, keep: float = 0.0
) -> tuple[Float[Tensor, "V2 3"], Int[Tensor, "F2 3"]]:
    """One step of Loop subdivision (Loop 1987) of a manifold surface, with or without boundary.

    Args:
        keep: 0 is Loop's rule, which thins narrow parts; 1 moves the old vertices out first so that their smoothed positions come
            back near where they were (one step of the inverse), which keeps volume. Faces 4i to 4i+3 come from face i.
    """
    pairs, face_edges, counts = edges(faces)
    if keep:
        vertices = vertices + keep * (vertices - _loop_even(vertices, pairs, counts))
    inner = counts == 2
    opposite = vertices.new_zeros(pairs.shape[0], 3)
    for side, corner in ((0, 2), (1, 0), (2, 1)):
        opposite = opposite.index_add(0, face_edges[:, side], vertices[faces[:, corner]])
    middle = vertices[pairs].mean(1)
    odd = torch.where(inner[:, None], 0.75 * middle + 0.125 * opposite, middle)
    return torch.cat([_loop_even(vertices, pairs, counts), odd]), _split(faces, face_edges + vertices.shape[0])


def _loop_even(vertices: Tensor, pairs: Tensor, counts: Tensor) -> Tensor:
    def neighbours(which: Tensor) -> tuple[Tensor, Tensor]:
        sums = torch.zeros_like(vertices).index_add(0, which[:, 0], vertices[which[:, 1]]).index_add(0, which[:, 1], vertices[which[:, 0]])
        return sums, torch.bincount(which.reshape(-1), minlength=vertices.shape[0]).to(vertices.dtype)[:, None]

    sums, degree = neighbours(pairs)
    degree = degree.clamp(min=1)
    beta = (0.625 - (0.375 + 0.25 * torch.cos(2 * torch.pi / degree)) ** 2) / degree
    inside = (1 - degree * beta) * vertices + beta * sums
    border_sums, border_degree = neighbours(pairs[counts == 1])
    return torch.where(border_degree > 0, 0.75 * vertices + 0.125 * border_sums, inside)


def _split(faces: Tensor, middle: Tensor) -> Tensor:
    a, b, c = faces.unbind(1)
    ab, bc, ca = middle.unbind(1)
    parts = [torch.stack(corners, 1) for corners in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))]
    return torch.stack(parts, 1).reshape(-1, 3)
