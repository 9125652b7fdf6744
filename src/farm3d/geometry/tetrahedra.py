"""Marching tetrahedra on an implicit Kuhn grid, with a coarse-to-fine sweep of the signed distance field (section 2.2).

Each cell of a regular grid is cut into six tetrahedra along its main diagonal (Kuhn 1960; Freudenthal). Nothing of the grid is
stored: a tetrahedron is a cell and one of six paths from its lowest to its highest corner, an edge is a grid point and one of seven
directions. On such a conforming grid the surface is closed and manifold whatever the values are.

Signed distances are positive inside. Only the two ends of crossing edges enter the vertices, so only they need gradients.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numba
import numpy as np
import torch

from farm3d.core.errors import InputError, NotFiniteError
from farm3d.core.shapes import Bool, Float, Int, Tensor, checked

__all__ = [
    "START_RADIUS",
    "START_STRETCH",
    "Crossings",
    "Grid",
    "IsoSurface",
    "crossing_points",
    "ellipsoid_sdf",
    "extract_surface",
    "find_crossings",
    "marching_tetrahedra",
]

Field = Callable[[Tensor], Tensor]

START_RADIUS, START_STRETCH = 1.05, (1.0, 1.0, 2.0)
"""Of the ellipsoid that shapes begin as, canonical units (section 2.2)."""


@dataclass(frozen=True)
class Grid:
    """A box of cells in the object frame.

    Attributes:
        low, high: opposite corners.
        cells: number of cells along x, y and z.
        mirrored: the box is the half x >= 0 (``low[0] == 0``) of a shape that is mirror-symmetric in x; the other half is its mirror image.
    """

    low: tuple[float, float, float]
    high: tuple[float, float, float]
    cells: tuple[int, int, int]
    mirrored: bool = False

    def __post_init__(self) -> None:
        if any(n < 1 for n in self.cells) or any(not a < b for a, b in zip(self.low, self.high, strict=True)):
            raise InputError(f"grid from {self.low} to {self.high} with {self.cells} cells: expected low < high and at least one cell")
        if self.mirrored and self.low[0] != 0:
            raise InputError(f"a mirrored grid starts at x = 0, got {self.low[0]}")

    @classmethod
    def cube(cls, resolution: int, *, half: float = 3.5) -> Grid:
        """The cube [-half, half]^3 of section 2.2."""
        return cls((-half, -half, -half), (half, half, half), (resolution, resolution, resolution))

    @property
    def step(self) -> tuple[float, float, float]:
        """Size of a cell."""
        return tuple((b - a) / n for a, b, n in zip(self.low, self.high, self.cells, strict=True))  # pyright: ignore[reportReturnType]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of grid points along x, y and z."""
        return self.cells[0] + 1, self.cells[1] + 1, self.cells[2] + 1

    def unravel(self, index: Int[Tensor, "*batch"]) -> Int[Tensor, "*batch 3"]:
        """Split flat grid point numbers into i, j, k."""
        _, ny, nz = self.shape
        return torch.stack([index // (ny * nz), index // nz % ny, index % nz], -1)

    def points(self, index: Int[Tensor, "*batch"], *, dtype: torch.dtype = torch.float32) -> Float[Tensor, "*batch 3"]:
        """Positions of grid points by flat number."""
        low, step = (torch.tensor(value, dtype=torch.float64, device=index.device) for value in (self.low, self.step))
        return (low + self.unravel(index) * step).to(dtype)


@dataclass(frozen=True, eq=False)
class IsoSurface:
    """The zero level of a field.

    Attributes:
        vertices: ``[V, 3]``, differentiable in the field's parameters when gradients are on.
        faces: ``[F, 3]`` int64, counter-clockwise from outside.
        mirror: vertex at the mirrored place, ``[V]``, for a mirrored grid, else None.
        evaluated: number of grid points where the field was evaluated.
    """

    vertices: Float[Tensor, "V 3"]
    faces: Int[Tensor, "F 3"]
    mirror: Int[Tensor, " V"] | None
    evaluated: int


@checked
def ellipsoid_sdf(
    points: Float[Tensor, "*batch 3"], *, radius: float = START_RADIUS, stretch: tuple[float, float, float] = START_STRETCH
) -> Float[Tensor, "*batch"]:
    """Return s0 of section 2.2, ``radius - |p / stretch|``: zero on an ellipsoid with semi-axes radius * stretch, positive inside."""
    return radius - (points / points.new_tensor(stretch)).norm(dim=-1)


def extract_surface(
    field: Field,
    grid: Grid,
    *,
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0),
    coarsen: int | None = None,
    lipschitz: float = 1.5,
    chunk: int = 16384,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> IsoSurface:
    """Return the zero surface of a field (``[N, 3]`` points to ``[N]`` signed distances, positive inside).

    The sweep starts on every ``coarsen``-th grid point and halves the spacing only in cells which the surface may cross: those with a
    change of sign, or whose corners are all nearer to it than a field of slope ``lipschitz`` allows to exclude. In the end the
    surface is followed over the rim of what was refined until nothing is left open, so a steeper field costs time, not holes; only a
    separate piece that falls entirely between the coarse points of a too steep field can be missed: ``coarsen=1`` is the dense sweep
    to check against. The surface is closed along the walls of the box if it would leave it.

    Args:
        shift: added to all grid points, for jitter in training (section 2.2: up to 0.35 along (1, 1, 1)); on a mirrored grid x must be 0.
        coarsen: a power of two; None picks the largest up to 8 that divides the cells, as long as coarse cells stay below 1/12 of the box.
    """
    if grid.mirrored and shift[0] != 0:
        raise InputError(f"a mirrored grid cannot be shifted in x, got {shift[0]}", hint="shift y and z only")
    coarsen = _default_coarsening(grid) if coarsen is None else coarsen
    if coarsen < 1 or coarsen & (coarsen - 1) or any(n % coarsen for n in grid.cells):
        raise InputError(f"coarsen={coarsen}: expected a power of two that divides the cells {grid.cells}")
    evaluate = _evaluator(field, grid, shift, chunk=chunk, device=device, dtype=dtype)
    crossings, values = _crossings(evaluate, grid, shift, coarsen=coarsen, lipschitz=lipschitz, device=device, dtype=dtype)
    if torch.is_grad_enabled():
        vertices = crossings.vertices(field, chunk=chunk, dtype=dtype)
    else:
        vertices = crossings.completed(crossing_points(crossings.points(dtype=dtype), values[crossings.ends]))
    return IsoSurface(vertices, crossings.faces, crossings.mirror, int((~values.isnan()).sum()))


@dataclass(frozen=True, eq=False)
class Crossings:
    """Which edges of a grid a surface crosses, and its triangles between them: a topology that outlives small changes of the field.

    Attributes:
        grid, shift: of the field's evaluation.
        ends: flat grid point numbers of the crossed edges, ``[H, 2]``; of a mirrored grid those of its half.
        faces: ``[F, 3]`` of all vertices.
        mirror: vertex at the mirrored place ``[V]``, or None.
    """

    grid: Grid
    shift: tuple[float, float, float]
    ends: Int[Tensor, "H 2"]
    faces: Int[Tensor, "F 3"]
    mirror: Int[Tensor, " V"] | None

    def points(self, *, dtype: torch.dtype = torch.float32) -> Float[Tensor, "H 2 3"]:
        """Return the two ends of each crossed edge."""
        return self.grid.points(self.ends, dtype=dtype) + torch.tensor(self.shift, dtype=dtype, device=self.ends.device)

    def vertices(self, field: Field, *, chunk: int = 16384, dtype: torch.dtype = torch.float32) -> Float[Tensor, "V 3"]:
        """Return the vertices of the field as it is now, differentiable in its parameters; each grid point is evaluated once.

        Where the field has come to agree in sign at the ends of an edge, its vertex stays at the end that is nearer to the surface.
        """
        used, inverse = torch.unique(self.ends, return_inverse=True)
        evaluate = _evaluator(field, self.grid, self.shift, chunk=chunk, device=self.ends.device, dtype=dtype)
        values = evaluate(used)[inverse]
        agree = (values[:, :1] > 0) == (values[:, 1:] > 0)
        if bool(agree.any()):
            nearer = values.detach().abs().argmin(1, keepdim=True) == torch.arange(2, device=values.device)
            stay = torch.where(nearer, torch.zeros_like(values), torch.ones_like(values))
            values = torch.where(agree, stay, values)
        return self.completed(crossing_points(self.points(dtype=dtype), values))

    def completed(self, half: Float[Tensor, "H 3"]) -> Float[Tensor, "V 3"]:
        """Add the mirrored vertices of a mirrored grid."""
        if self.mirror is None:
            return half
        return torch.cat([half, half[self.mirror[len(half) :]] * half.new_tensor([-1.0, 1.0, 1.0])])


def find_crossings(
    field: Field,
    grid: Grid,
    *,
    coarsen: int | None = None,
    lipschitz: float = 1.5,
    chunk: int = 16384,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Crossings:
    """Return where a field's zero surface crosses the grid's edges; arguments as in :func:`extract_surface`. No gradient."""
    coarsen = _default_coarsening(grid) if coarsen is None else coarsen
    shift = (0.0, 0.0, 0.0)
    evaluate = _evaluator(field, grid, shift, chunk=chunk, device=device, dtype=dtype)
    return _crossings(evaluate, grid, shift, coarsen=coarsen, lipschitz=lipschitz, device=device, dtype=dtype)[0]


def _evaluator(
    field: Field, grid: Grid, shift: tuple[float, float, float], *, chunk: int, device: torch.device | str, dtype: torch.dtype
) -> Callable[[Tensor], Tensor]:
    """Return what evaluates the field at grid points by flat number, closed along the walls of the box."""
    offset = torch.tensor(shift, dtype=dtype, device=device)
    least = 1e-4 * min(grid.step)

    def evaluate(index: Tensor) -> Tensor:
        parts = [field(grid.points(part, dtype=dtype) + offset) for part in index.split(chunk)]
        values = torch.cat(parts) if parts else torch.zeros(0, dtype=dtype, device=device)
        # Values of almost nothing grow to a ten-thousandth of a cell: no two vertices then fall together on a grid point.
        grown = torch.where(values > 0, values.clamp(min=least), values.clamp(max=-least))
        values = values + (grown - values).detach()
        return torch.where(_on_wall(grid, index), values.clamp(max=-least), values)

    return evaluate


@torch.no_grad()
def _crossings(
    evaluate: Callable[[Tensor], Tensor],
    grid: Grid,
    shift: tuple[float, float, float],
    *,
    coarsen: int,
    lipschitz: float,
    device: torch.device | str,
    dtype: torch.dtype,
) -> tuple[Crossings, Tensor]:
    values = torch.full((math.prod(grid.shape),), torch.nan, dtype=dtype, device=device)
    cells = _sweep(evaluate, grid, values, coarsen=coarsen, lipschitz=lipschitz)
    ends, faces = marching_tetrahedra(values.reshape(grid.shape), cells=cells)
    mirror = None
    if grid.mirrored:
        on_plane = (grid.unravel(ends)[..., 0] == 0).all(-1)
        faces, mirror = _mirror_half(faces, on_plane)
    return Crossings(grid, shift, ends, faces, mirror), values


@checked
def crossing_points(points: Float[Tensor, "V 2 3"], values: Float[Tensor, "V 2"]) -> Float[Tensor, "V 3"]:
    """Return where the linear interpolation of signed values along an edge is zero; the values have opposite signs."""
    share = values[:, 0] / (values[:, 0] - values[:, 1])
    return torch.lerp(points[:, 0], points[:, 1], share[:, None])


@checked
def marching_tetrahedra(
    values: Float[Tensor, "X Y Z"], *, cells: Int[Tensor, "A 3"] | None = None, backend: Literal["numba", "torch"] | None = None
) -> tuple[Int[Tensor, "V 2"], Int[Tensor, "F 3"]]:
    """Find the triangles between grid points of positive (inside) and other values.

    Args:
        values: at the grid points. Points of cells that are not visited may hold anything.
        cells: the cells to visit by their lowest corner, in lexicographic order; None visits all.
        backend: ``torch`` is the readable one and runs on any device; ``numba`` (CPU) needs a tenth of the time. None picks by device.

    Returns:
        for each vertex the flat numbers of the two grid points of its edge, and the faces, counter-clockwise from outside.
    """
    if cells is None:
        nx, ny, nz = (n - 1 for n in values.shape)
        cells = torch.cartesian_prod(*(torch.arange(n, device=values.device) for n in (nx, ny, nz)))
    if backend is None:
        backend = "numba" if values.device.type == "cpu" else "torch"
    if backend == "torch":
        return _march_torch(values, cells)
    signs = (values.detach() > 0).numpy()
    ends, faces = _march_numba(signs, cells.numpy(), _TRIANGLES, _COUNTS, _EDGE_BASE, _EDGE_WAY, _PATHS)
    return torch.from_numpy(ends), torch.from_numpy(faces)


def _tables() -> tuple[np.ndarray, ...]:
    # A corner is three bits (x 4, y 2, z 1). The path of a tetrahedron sets the bits one after another.
    paths, base, way = np.zeros((6, 4), np.int64), np.zeros((6, 6), np.int64), np.zeros((6, 6), np.int64)
    triangles, counts = np.zeros((6, 16, 2, 3), np.int64), np.zeros((6, 16), np.int64)
    pairs = list(itertools.combinations(range(4), 2))
    for number, axes in enumerate(itertools.permutations((4, 2, 1))):
        paths[number] = np.cumsum((0, *axes))
        right = _even(tuple((4, 2, 1).index(axis) for axis in axes))
        for edge, (p, q) in enumerate(pairs):
            base[number, edge], way[number, edge] = paths[number, p], paths[number, q] - paths[number, p] - 1
        for code in range(1, 15):
            inside = [k for k in range(4) if code >> k & 1]
            outside = [k for k in range(4) if not code >> k & 1]
            if len(inside) == 2:
                (a, b), (c, d) = inside, outside
                loops = [((a, c), (a, d), (b, d)), ((a, c), (b, d), (b, c))]
                turned = not _even((a, b, c, d))
            else:
                lone, rest = (inside[0], outside) if len(inside) == 1 else (outside[0], inside)
                loops = [tuple((lone, other) for other in rest)]
                turned = _even((lone, *rest)) != (len(inside) == 1)
            if turned == right:  # the loops above are for a right-handed tetrahedron
                loops = [(one, three, two) for one, two, three in loops]
            counts[number, code] = len(loops)
            for k, loop in enumerate(loops):
                triangles[number, code, k] = [pairs.index((min(pair), max(pair))) for pair in loop]
    return triangles, counts, base, way, paths


def _even(order: tuple[int, ...]) -> bool:
    return sum(order[i] > order[j] for i, j in itertools.combinations(range(len(order)), 2)) % 2 == 0


_TRIANGLES, _COUNTS, _EDGE_BASE, _EDGE_WAY, _PATHS = _tables()


def _march_torch(values: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
    device = values.device
    triangles, counts, base, way, paths = (
        torch.from_numpy(table).to(device) for table in (_TRIANGLES, _COUNTS, _EDGE_BASE, _EDGE_WAY, _PATHS)
    )
    _, ny, nz = values.shape
    bits = torch.arange(8, device=device)
    corner_step = (bits >> 2 & 1) * ny * nz + (bits >> 1 & 1) * nz + (bits & 1)
    origin = (cells[:, 0] * ny + cells[:, 1]) * nz + cells[:, 2]
    signs = (values.reshape(-1)[origin[:, None] + corner_step] > 0).long()  # [A, 8]
    code = (signs[:, paths] << torch.arange(4, device=device)).sum(-1)  # [A, 6]
    cell, tet = ((code > 0) & (code < 15)).nonzero(as_tuple=True)
    case = code[cell, tet]
    local = triangles[tet, case]  # [T, 2, 3] edges of the tetrahedron
    first = origin[cell, None, None] + corner_step[base[tet[:, None, None], local]]
    keys = first * 7 + way[tet[:, None, None], local]
    real = torch.arange(2, device=device) < counts[tet, case][:, None]
    unique, faces = torch.unique(keys[real], return_inverse=True)
    start = unique // 7
    return torch.stack([start, start + corner_step[unique % 7 + 1]], 1), faces


@numba.njit(cache=True)
def _march_numba(signs, cells, triangles, counts, edge_base, edge_way, paths):  # pragma: no cover - compiled
    _, ny, nz = signs.shape
    plane = ny * nz
    known = np.full((2, plane, 7), -1, np.int64)  # vertex numbers of the edges that start in two neighbouring planes of constant x
    ends, faces = np.empty((1024, 2), np.int64), np.empty((1024, 3), np.int64)
    vertex_count, face_count, current = 0, 0, -2
    inside = np.empty(8, np.bool_)
    for n in range(len(cells)):
        i, j, k = cells[n]
        if i != current:
            if i != current + 1:
                known[i & 1] = -1
            known[(i + 1) & 1] = -1
            current = i
        total = 0
        for corner in range(8):
            inside[corner] = signs[i + (corner >> 2), j + (corner >> 1 & 1), k + (corner & 1)]
            total += inside[corner]
        if total == 0 or total == 8:
            continue
        if vertex_count + 19 > len(ends):
            grown = np.empty((2 * len(ends), 2), np.int64)
            grown[:vertex_count] = ends[:vertex_count]
            ends = grown
        if face_count + 12 > len(faces):
            grown = np.empty((2 * len(faces), 3), np.int64)
            grown[:face_count] = faces[:face_count]
            faces = grown
        for tet in range(6):
            code = 0
            for step in range(4):
                if inside[paths[tet, step]]:
                    code |= 1 << step
            for number in range(counts[tet, code]):
                for side in range(3):
                    edge = triangles[tet, code, number, side]
                    corner, way = edge_base[tet, edge], edge_way[tet, edge]
                    x = i + (corner >> 2)
                    local = (j + (corner >> 1 & 1)) * nz + k + (corner & 1)
                    vertex = known[x & 1, local, way]
                    if vertex < 0:
                        vertex = vertex_count
                        known[x & 1, local, way] = vertex
                        start, d = x * plane + local, way + 1
                        ends[vertex, 0], ends[vertex, 1] = start, start + (d >> 2) * plane + (d >> 1 & 1) * nz + (d & 1)
                        vertex_count += 1
                    faces[face_count, side] = vertex
                face_count += 1
    return ends[:vertex_count].copy(), faces[:face_count].copy()


def _default_coarsening(grid: Grid) -> int:
    coarsen = 1
    while coarsen < 8 and all(n % (2 * coarsen) == 0 for n in grid.cells) and max(grid.cells) // (2 * coarsen) >= 12:
        coarsen *= 2
    return coarsen


def _on_wall(grid: Grid, index: Tensor) -> Bool[Tensor, " N"]:
    place = grid.unravel(index)
    last = torch.tensor(grid.cells, device=index.device)
    low = place == 0
    if grid.mirrored:
        low[..., 0] = False
    return (low | (place == last)).any(-1)


def _sweep(evaluate: Field, grid: Grid, values: Tensor, *, coarsen: int, lipschitz: float) -> Tensor:
    """Fill in ``values`` near the surface and return the finest cells that may hold it, in lexicographic order."""
    device = values.device
    bits = torch.arange(8, device=device)
    corners = torch.stack([bits >> 2 & 1, bits >> 1 & 1, bits & 1], 1)
    diagonal = math.hypot(*grid.step)
    size = coarsen
    cells = torch.cartesian_prod(*(torch.arange(0, n, size, device=device) for n in grid.cells))
    while True:
        numbers = _flat(grid, cells[:, None] + corners * size)
        _fill(evaluate, values, numbers)
        found = values[numbers]
        if size == 1:
            break
        reach = lipschitz * diagonal * size
        gap = found.abs()
        near = (gap.amax(1) <= reach) & (gap.amin(1) <= reach / 2) | ((found > 0).any(1) & (found <= 0).any(1))
        size //= 2
        cells = (cells[near][:, None] + corners * size).reshape(-1, 3)
    signs = found > 0
    crossed = signs.any(1) & ~signs.all(1)
    return _follow(evaluate, grid, values, cells[crossed], signs[crossed], corners)


def _follow(evaluate: Field, grid: Grid, values: Tensor, cells: Tensor, signs: Tensor, corners: Tensor) -> Tensor:
    """Add cells until every crossed cell face has a cell on both sides."""
    limits = torch.tensor(grid.cells, device=values.device)
    number = torch.sort(_cell_number(grid, cells)).values
    rim, rim_signs = cells, signs
    while len(rim):
        steps = []
        for axis in range(3):
            for side in (0, 1):
                face = rim_signs[:, corners[:, axis] == side]
                step = torch.zeros(3, dtype=torch.long, device=values.device)
                step[axis] = 2 * side - 1
                steps.append(rim[face.any(1) & ~face.all(1)] + step)
        candidates = torch.cat(steps)
        candidates = candidates[((candidates >= 0) & (candidates < limits)).all(1)]
        fresh = torch.unique(_cell_number(grid, candidates))
        if len(number):
            fresh = fresh[number[torch.searchsorted(number, fresh).clamp(max=len(number) - 1)] != fresh]
        number = torch.sort(torch.cat([number, fresh])).values
        rim = _cell_place(grid, fresh)
        points = _flat(grid, rim[:, None] + corners)
        _fill(evaluate, values, points)
        rim_signs = values[points] > 0
    return _cell_place(grid, number)


def _fill(evaluate: Field, values: Tensor, numbers: Tensor) -> None:
    wanted = torch.zeros(len(values), dtype=torch.bool, device=values.device)
    wanted[numbers.reshape(-1)] = True
    index = (wanted & values.isnan()).nonzero()[:, 0]
    if len(index):
        values[index] = evaluate(index)
        if not torch.isfinite(values[index]).all():
            raise NotFiniteError("the field returned a value that is not finite", hint="the weights are damaged or training diverged")


def _flat(grid: Grid, place: Tensor) -> Tensor:
    _, ny, nz = grid.shape
    return (place[..., 0] * ny + place[..., 1]) * nz + place[..., 2]


def _cell_number(grid: Grid, cells: Tensor) -> Tensor:
    return (cells[:, 0] * grid.cells[1] + cells[:, 1]) * grid.cells[2] + cells[:, 2]


def _cell_place(grid: Grid, number: Tensor) -> Tensor:
    _, ny, nz = grid.cells
    return torch.stack([number // (ny * nz), number // nz % ny, number % nz], 1)


def _mirror_half(faces: Tensor, on_plane: Tensor) -> tuple[Tensor, Tensor]:
    """Return the faces of both halves, and for each vertex the one at the mirrored place; those off the plane get a partner behind all."""
    count = len(on_plane)
    off = (~on_plane).nonzero()[:, 0]
    partner = torch.arange(count, device=faces.device)
    partner[off] = count + torch.arange(len(off), device=faces.device)
    return torch.cat([faces, partner[faces].flip(1)]), torch.cat([partner, off])
