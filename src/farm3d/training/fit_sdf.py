"""The mean individual of a category, from the CC0 rigs, as a signed distance field in canonical units (issue: first category prior)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from farm3d.barn.individuals import Individual
from farm3d.barn.rigs import Rig
from farm3d.core.random import torch_generator
from farm3d.core.shapes import Float, Int, Tensor
from farm3d.geometry.signed_distance import distance_to_surface, signed_distance
from farm3d.geometry.surface import (
    edges,
    enclosed_volume,
    face_areas,
    fill_holes,
    keep_components,
    loop_subdivide,
    sample_surface,
    taubin_smooth,
    vertex_normals,
)
from farm3d.geometry.tetrahedra import Grid, extract_surface
from farm3d.model.fields import ShapeField

__all__ = ["FitReport", "RestShape", "fit_shape_field", "measure_fit", "rest_shape", "sample_distances", "species_rest_shape"]

LENGTH = 4.2  # extent along z in canonical units: section 0.3's default camera sees 2 * 2.217
CATEGORY_RIGS = {"horse": ("horse", "horse_white"), "cow": ("cow", "bull")}


@dataclass(frozen=True, eq=False)
class RestShape:
    """A category's mean individual at rest.

    Attributes:
        vertices, faces: closed, mirror-symmetric surface in canonical units, object frame.
        scale: canonical units per armature unit of the rigs.
        offset: origin of the canonical frame in armature units, ``[3]``.
        joints: the rigs' mean joint positions in canonical units by name.
        joint_parents: name of each joint's parent, "" for none.
        metres_per_unit: mean size of the rigs as their makers set it.
    """

    vertices: Float[Tensor, "V 3"]
    faces: Int[Tensor, "F 3"]
    scale: float
    offset: Float[Tensor, "3"]
    joints: dict[str, Float[Tensor, "3"]]
    joint_parents: dict[str, str]
    metres_per_unit: float

    def from_rig(self, rig: Rig, points: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
        """Map points on a rig in its bind pose (metres) to canonical units."""
        return (points / float(rig.root[0, 0]) - self.offset) * self.scale


def rest_shape(rigs: Sequence[Rig], *, spacing: float = 0.02) -> RestShape:
    """Average rigs of one category in their bind pose, which is a natural stand with straight legs and the tail hanging free.

    The rigs of a category share one armature (joints agree to 1e-3 of the length; this is checked), so that their signed distances,
    taken in the armature's units, average to the mean of surfaces that already correspond. Facets are smoothed by two steps of Loop
    subdivision that keep the volume, left and right are averaged, and the result is scaled to a length of 4.2 and placed with its
    surface centroid at x = z = 0 and its height centred on y = 0.

    Args:
        spacing: of the averaging grid, canonical units.

    Raises:
        ValueError: the rigs' joints differ.
    """
    first = rigs[0]
    if any(rig.joint_names != first.joint_names for rig in rigs):
        raise ValueError(f"the joints of {[rig.name for rig in rigs]} differ in name")
    joints = torch.stack([rig.joints / rig.root[0, 0] for rig in rigs])
    surfaces = [_smooth_surface(rig) for rig in rigs]
    length = max(float(vertices[:, 2].max() - vertices[:, 2].min()) for vertices, _ in surfaces)
    if float((joints - joints[0]).norm(dim=-1).max()) > 1e-3 * length:
        raise ValueError(f"the joints of {[rig.name for rig in rigs]} differ; align them before averaging")
    metres = sum(float(rig.root[0, 0]) for rig in rigs) / len(rigs)
    parents = {name: first.joint_names[p] if p >= 0 else "" for name, p in zip(first.joint_names, first.joint_parents, strict=True)}
    return _averaged(surfaces, dict(zip(first.joint_names, joints.mean(0), strict=True)), parents, metres, spacing)


def species_rest_shape(individual: Individual, *, spacing: float = 0.02) -> RestShape:
    """The same for a species of the barn that no rig was made for, from its mean individual (``make_individual(varied=False)``)."""
    rig = individual.build.rig
    names, above = rig.joint_names, individual.build.parents
    parents = {name: names[p] if p >= 0 else "" for name, p in zip(names, above, strict=True)}
    joints = dict(zip(names, individual.joints, strict=True))
    return _averaged([(individual.rest, individual.faces)], joints, parents, 1.0, spacing)


def _averaged(
    surfaces: Sequence[tuple[Tensor, Tensor]], joints: dict[str, Tensor], parents: dict[str, str], metres: float, spacing: float
) -> RestShape:
    low = torch.stack([vertices.amin(0) for vertices, _ in surfaces]).amin(0)
    high = torch.stack([vertices.amax(0) for vertices, _ in surfaces]).amax(0)
    length = float(high[2] - low[2])

    def mean_distance(points: Tensor) -> Tensor:
        mirrored = points * points.new_tensor([-1.0, 1.0, 1.0])
        parts = [signed_distance(where, *surface) for surface in surfaces for where in (points, mirrored)]
        return torch.stack(parts).mean(0)

    margin = 0.03 * length
    step = spacing * length / LENGTH
    reach = [max(float(high[0]), -float(low[0])) + margin, *(float(high[k] - low[k]) + 2 * margin for k in (1, 2))]
    cells = [8 * math.ceil(extent / step / 8) for extent in reach]
    corner = (0.0, float(low[1]) - margin, float(low[2]) - margin)
    top = tuple(c + n * step for c, n in zip(corner, cells, strict=True))
    with torch.no_grad():
        surface = extract_surface(mean_distance, Grid(corner, top, tuple(cells), mirrored=True), lipschitz=1.1)  # pyright: ignore[reportArgumentType]
    vertices, faces = keep_components(surface.vertices, surface.faces, min_faces=len(surface.faces) // 2)
    vertices = taubin_smooth(vertices, faces, steps=4)
    areas = face_areas(vertices, faces)
    centroid = (vertices[faces].mean(1) * areas[:, None]).sum(0) / areas.sum()
    scale = LENGTH / float(vertices[:, 2].max() - vertices[:, 2].min())
    offset = torch.stack([torch.zeros(()), (vertices[:, 1].max() + vertices[:, 1].min()) / 2, centroid[2]])
    placed = {name: (joint - offset) * scale for name, joint in joints.items()}
    return RestShape((vertices - offset) * scale, faces, scale, offset, placed, parents, metres / scale)


def _smooth_surface(rig: Rig) -> tuple[Tensor, Tensor]:
    vertices, faces = fill_holes(rig.vertices / rig.root[0, 0], rig.faces)
    for keep in (0.6, 0.3):  # chosen so that the volume of the facetted rig stays within 0.2 %
        vertices, faces = loop_subdivide(vertices, faces, keep=keep)
    return vertices, faces


def sample_distances(
    vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"], *, count: int, generator: torch.Generator, half_box: float = 3.0
) -> tuple[Float[Tensor, "N 3"], Float[Tensor, " N"]]:
    """Draw points and their signed distances to a surface: three quarters near it (Gaussian, 0.01 to 0.15), the rest in the cube.

    Strongly curved places get up to six times as many: ears, horns and hooves are a few thousandths of the area.
    """
    near = [int(count * share) for share in (0.3, 0.25, 0.2)]
    density = 1 + _curvature(vertices, faces)[faces].mean(1).clamp(max=40.0) / 8
    points, _, _ = sample_surface(vertices, faces, count=sum(near), generator=generator, density=density)
    spread = torch.cat([torch.full((n, 1), sigma) for n, sigma in zip(near, (0.01, 0.04, 0.15), strict=True)])
    points = points + spread * torch.randn(points.shape, generator=generator)
    far = (torch.rand(count - sum(near), 3, generator=generator) * 2 - 1) * half_box
    points = torch.cat([points, far])
    points[:, 0] = points[:, 0].abs()  # the field sees |x| only
    return points, signed_distance(points, vertices, faces)


def _curvature(vertices: Tensor, faces: Tensor) -> Tensor:
    """Size of the normal's change per length around each vertex, ``[V]``, averaged over its edges."""
    pairs, _, _ = edges(faces)
    normals = vertex_normals(vertices, faces)
    turn = (normals[pairs[:, 0]] - normals[pairs[:, 1]]).norm(dim=1) / (vertices[pairs[:, 0]] - vertices[pairs[:, 1]]).norm(dim=1).clamp(
        min=1e-4
    )
    ends = pairs.reshape(-1)
    sums = torch.zeros(len(vertices), dtype=vertices.dtype).index_add(0, ends, turn.repeat_interleave(2))
    return sums / torch.bincount(ends, minlength=len(vertices)).clamp(min=1)


def fit_shape_field(
    vertices: Float[Tensor, "V 3"],
    faces: Int[Tensor, "F 3"],
    *,
    field: ShapeField,
    steps: int = 2000,
    batch: int = 6144,
    samples: int = 400_000,
    seed: int = 0,
    progress: Callable[[int, float], None] | None = None,
) -> ShapeField:
    """Fit a shape field to a closed surface by regression on signed distances, with an eikonal term on a part of each batch.

    Distances are compared by |error| / (|distance| + 0.03): a millimetre counts most where the surface is. ``progress(step, loss)`` is
    called now and then.
    """
    generator = torch_generator(seed, "fit shape field")
    points, distances = sample_distances(vertices, faces, count=samples, generator=generator)
    weights = 0.03 / (distances.abs() + 0.03)
    optimizer = torch.optim.Adam(field.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps, pct_start=0.05, final_div_factor=1000)
    order, taken = torch.randperm(samples, generator=generator), 0
    for step in range(steps):
        if taken + batch > samples:
            order, taken = torch.randperm(samples, generator=generator), 0
        chosen = order[taken : taken + batch]
        taken += batch
        loss = ((field(points[chosen]) - distances[chosen]).abs() * weights[chosen]).mean()
        if step % 4 == 0:
            where = points[chosen[: batch // 8]].clone().requires_grad_()
            slope = torch.autograd.grad(field(where).sum(), where, create_graph=True)[0]
            loss = loss + 0.002 * (slope.norm(dim=-1) - 1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if progress is not None and (step % 100 == 99 or step == steps - 1):
            progress(step + 1, float(loss.detach()))
    return field


@dataclass(frozen=True)
class FitReport:
    """How close an extracted surface is to its target; distances in % of the length, both ways from points drawn by area.

    Attributes:
        to_target_mean, to_target_max: from the fitted surface to the target.
        from_target_mean, from_target_max: from the target to the fitted surface; large where a thin part was lost.
        volume_ratio: fitted over target.
    """

    to_target_mean: float
    to_target_max: float
    from_target_mean: float
    from_target_max: float
    volume_ratio: float


def measure_fit(
    fitted: tuple[Float[Tensor, "V 3"], Int[Tensor, "F 3"]], target: tuple[Float[Tensor, "W 3"], Int[Tensor, "G 3"]], *, count: int = 20_000
) -> FitReport:
    """Compare two closed surfaces."""
    generator = torch_generator(0, "measure fit")
    length = float(target[0][:, 2].max() - target[0][:, 2].min())
    there = distance_to_surface(sample_surface(*fitted, count=count, generator=generator)[0], *target) / length * 100
    back = distance_to_surface(sample_surface(*target, count=count, generator=generator)[0], *fitted) / length * 100
    ratio = float(enclosed_volume(fitted[0].double(), fitted[1]) / enclosed_volume(target[0].double(), target[1]))
    return FitReport(float(there.mean()), float(there.max()), float(back.mean()), float(back.max()), ratio)
