"""A quadruped's bones found from its rest mesh (section 2.5), with named bones, a tail, and joints moved onto the limbs' centre lines."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import coo_matrix, csr_array
from scipy.sparse.csgraph import dijkstra

from farm3d.core.shapes import Float, Int, Tensor, checked

__all__ = ["BODY_NAMES", "LEG_NAMES", "TRUNK_NAMES", "Bones", "find_quadruped_bones"]

FRONT_NAMES = ("spine_01", "neck_01", "neck_02", "head")
REAR_NAMES = ("lumbar_01", "lumbar_02", "pelvis_01", "pelvis_02")
BODY_NAMES = FRONT_NAMES + REAR_NAMES
TRUNK_NAMES = tuple(name for name in BODY_NAMES if name != "head")
LEG_NAMES = ("leg_front_L", "leg_rear_L", "leg_rear_R", "leg_front_R")  # the quadrants Q0 .. Q3 of section 2.5
TAIL_NAMES = ("tail_01", "tail_02", "tail_03")


class Bones(NamedTuple):
    """K bones, parents first: ``names``, ``parents`` (index or -1), ``starts``, ``ends`` ``[K, 3]``; the root joint ``centre`` ``[3]``."""

    names: tuple[str, ...]
    parents: tuple[int, ...]
    starts: Tensor
    ends: Tensor
    centre: Tensor


@checked
def find_quadruped_bones(
    vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"], *, tail: bool = True, centred: bool = True, lift: float = 0.5
) -> Bones:
    """Return 20 bones, or 23 with a tail, of a closed mesh in the object frame (y up, head at +z, canonical units).

    ``centred=False`` gives the joints of section 2.5: straight lines from the body centre to the head end, to the tail end, and from
    each foot to a body joint. ``centred=True`` (ours) moves them onto the middle of neck, trunk and legs: rings of equal geodesic
    distance from the limb's tip are averaged, so that the neck bends where the neck is and a hock lies inside the leg.

    ``tail=True`` adds three bones if the mesh has a thin part that ends behind the body; a mesh without one gets 20 bones.
    A quadrant without a foot copies the mirrored one, or takes a point below the body (the original stops in the debugger).
    ``lift`` raises the body centre above the vertices' mean height (section 2.5: 0.5).

    Raises:
        ValueError: fewer than 8 vertices.
    """
    if len(vertices) < 8:
        raise ValueError(f"expected a body with at least 8 vertices, got {len(vertices)}")
    points = vertices.detach().double().cpu().numpy()
    mean = points.mean(0)
    upper = points[:, 1] > mean[1] - lift
    graph = _edge_graph(points, faces.cpu().numpy())
    head_vertex = _extreme(points[:, 2], upper)
    rear_vertex = _extreme(-points[:, 2], upper)
    tail_line = _tail_line(points, graph, mean) if tail else None
    centre = np.array([0.0, mean[1] + lift, mean[2]])

    head_end = _on_plane(points[head_vertex])
    rear_end = _on_plane(points[rear_vertex])
    if tail_line is not None:
        rear_end = _on_plane(tail_line[0])
    feet = _feet(points)
    if centred:
        feet = [_sole(points, foot) for foot in feet]
        centre[1] = _trunk_height(points, mean, feet)
        front = _centre_line(points, graph, head_vertex, centre, upper)
        rear = np.stack([centre, rear_end])
    else:
        front, rear = np.stack([centre, head_end]), np.stack([centre, rear_end])
    front_joints, rear_joints = _resample(front, 5), _resample(rear, 5)

    names, parents = [*map(str, BODY_NAMES)], [-1, 0, 1, 2, -1, 4, 5, 6]
    starts = [*front_joints[:4], *rear_joints[:4]]
    ends = [*front_joints[1:], *rear_joints[1:]]
    body_ends = np.array(ends)
    # The right legs copy the left legs' choice of body bone (section 2.5, step 5).
    owners = {side: int(np.abs(body_ends[:, 2] - feet[side][2]).argmin()) for side in (0, 1)}
    if centred:
        owners[0] = 0  # forelegs hang on spine_01: on a neck bone they would swing with every nod, and no head could reach the ground
    for side, prefix in enumerate(LEG_NAMES):
        owner = owners[{0: 0, 1: 1, 2: 1, 3: 0}[side]]
        line = np.stack([feet[side], body_ends[owner]])
        if centred:
            line = _leg_line(points, graph, feet, side, centre[1])
        joints = _resample(line, 4)[::-1]  # hip or shoulder first
        for number in range(3):
            names.append(f"{prefix}_{number + 1:02d}")
            parents.append(owner if number == 0 else len(parents) - 1)
            starts.append(joints[number])
            ends.append(joints[number + 1])
    if tail_line is not None:
        joints = _resample(tail_line, 4)
        for number in range(3):
            names.append(TAIL_NAMES[number])
            parents.append(7 if number == 0 else len(parents) - 1)
            starts.append(_on_plane(joints[number]))
            ends.append(_on_plane(joints[number + 1]))

    def as_tensor(values: object) -> Tensor:
        return torch.as_tensor(np.array(values), dtype=vertices.dtype, device=vertices.device)

    return Bones(tuple(names), tuple(parents), as_tensor(starts), as_tensor(ends), as_tensor(centre))


def _extreme(values: np.ndarray, candidates: np.ndarray) -> int:
    return int(np.where(candidates, values, -np.inf).argmax())


def _on_plane(point: np.ndarray) -> np.ndarray:
    return np.array([0.0, point[1], point[2]])


def _edge_graph(points: np.ndarray, faces: np.ndarray) -> csr_array:
    ends = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    ends = np.unique(np.sort(ends, 1), axis=0)  # coo_matrix would add up the two copies of an edge
    lengths = np.linalg.norm(points[ends[:, 0]] - points[ends[:, 1]], axis=1) + 1e-9
    return coo_matrix((lengths, (ends[:, 0], ends[:, 1])), shape=(len(points), len(points))).tocsr()


def _geodesic(graph: csr_array, source: int) -> np.ndarray:
    return dijkstra(graph, directed=False, indices=source)


def _feet(points: np.ndarray) -> list[np.ndarray]:
    """Lowest vertex of each quadrant Q0 .. Q3; one without a leg mirrors the other side, else takes a point below the body."""
    x, y, z = points.T
    middle = 0.5 * (z.min() + z.max()) if (z > 0).all() or (z < 0).all() else 0.0
    margin = 0.2 * (np.quantile(x, 0.95) - np.quantile(x, 0.05))
    quadrants = [(x > margin) & (z > middle), (x > margin) & (z < middle), (x < -margin) & (z < middle), (x < -margin) & (z > middle)]
    found = [points[_extreme(-y, quadrant)] if quadrant.any() else None for quadrant in quadrants]
    # A quadrant that holds only belly has no foot, whatever its lowest vertex is.
    knee = y.min() + 0.35 * (y.max() - y.min())
    found = [foot if foot is not None and foot[1] < knee else None for foot in found]
    feet = []
    for side, foot in enumerate(found):
        mirrored = found[3 - side]
        if foot is None and mirrored is not None:
            foot = mirrored * np.array([-1.0, 1.0, 1.0])
        if foot is None:
            half_length = 0.5 * (z.max() - z.min())
            sign_x, sign_z = (1, 1, -1, -1)[side], (1, -1, -1, 1)[side]
            foot = np.array([sign_x * margin, y.min(), middle + sign_z * 0.5 * half_length])
        feet.append(foot)
    return feet


def _sole(points: np.ndarray, foot: np.ndarray) -> np.ndarray:
    """Middle of what stands on the ground around a foot's lowest vertex: a hoof's toe is not below its fetlock."""
    size = points[:, 1].max() - points[:, 1].min()
    near = (points[:, 1] < foot[1] + 0.03 * size) & (np.linalg.norm(points[:, [0, 2]] - foot[[0, 2]], axis=1) < 0.12 * size)
    if not near.any():
        return foot
    middle = 0.5 * (points[near].min(0) + points[near].max(0))
    return np.array([middle[0], foot[1], middle[2]])


def _trunk_height(points: np.ndarray, mean: np.ndarray, feet: list[np.ndarray]) -> float:
    """Height of the trunk's middle: between belly and back over the stretch between front and rear feet, near the mirror plane."""
    z_rear, z_front = feet[1][2], feet[0][2]
    if z_front <= z_rear:
        return float(mean[1])
    low, high = z_rear + 0.35 * (z_front - z_rear), z_rear + 0.65 * (z_front - z_rear)
    width = np.abs(points[:, 0]).max()
    slab = points[(points[:, 2] > low) & (points[:, 2] < high) & (np.abs(points[:, 0]) < 0.4 * width)]
    if len(slab) < 4:
        return float(mean[1])
    return float(0.5 * (slab[:, 1].min() + slab[:, 1].max()) + 0.1 * (slab[:, 1].max() - slab[:, 1].min()))


def _centre_line(points: np.ndarray, graph: csr_array, tip: int, centre: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """Polyline from ``centre`` to the vertex ``tip``: means of geodesic rings around the tip, on the mirror plane."""
    distance = _geodesic(graph, tip)
    ahead = upper & (points[:, 2] > centre[2])
    shoulders = distance[ahead & (points[:, 2] < centre[2] + 0.25 * (points[tip, 2] - centre[2]))]
    shoulders = shoulders[np.isfinite(shoulders)]
    if not len(shoulders):  # while it is learned, a surface may fall to pieces, and the head be one of them
        return np.stack([centre, _on_plane(points[tip])])
    reach = np.quantile(shoulders, 0.1)
    width = reach / 24
    line = [_on_plane(points[tip])]
    for r in np.linspace(2 * width, reach, 24):
        ring = points[ahead & (np.abs(distance - r) < width)]
        if len(ring) < 3:
            continue
        point = _on_plane(0.5 * (ring.min(0) + ring.max(0)))
        # Rings that have reached the trunk spread along it; the line to the centre takes over where they stop moving back.
        if point[2] < line[-1][2] - 1e-6 and point[2] > centre[2]:
            line.append(point)
    trunk = 0.45 * (points[tip, 2] - centre[2]) + centre[2]
    line = [point for i, point in enumerate(line) if i == 0 or point[2] > trunk]
    smooth = np.array([*line, centre])
    for _ in range(3):
        smooth[1:-1] = 0.25 * smooth[:-2] + 0.5 * smooth[1:-1] + 0.25 * smooth[2:]
    return smooth[::-1]


def _leg_line(points: np.ndarray, graph: csr_array, feet: list[np.ndarray], side: int, trunk_y: float) -> np.ndarray:
    """Polyline from a foot up the middle of its leg to the hip or shoulder inside the trunk."""
    foot = feet[side]
    source = int(np.square(points - foot).sum(1).argmin())
    distance = _geodesic(graph, source)
    same_side = points[:, 0] * foot[0] > 0
    height = trunk_y - foot[1]
    line = [foot]
    for r in np.linspace(0.08, 0.62, 14) * height:
        ring = points[same_side & (np.abs(distance - r) < 0.05 * height)]
        if len(ring) < 3:
            continue
        low, high = ring.min(0), ring.max(0)
        if high[2] - low[2] > 0.45 * height:
            break  # the ring runs along the belly: the leg ends here
        point = 0.5 * (low + high)
        if point[1] > line[-1][1]:
            line.append(point)
    top = line[-1]
    hip = np.array([0.75 * top[0], trunk_y - 0.05 * height, top[2]])
    if top[1] < hip[1]:
        line.append(hip)
    return np.array(line)


def _tail_line(points: np.ndarray, graph: csr_array, mean: np.ndarray) -> np.ndarray | None:
    """Polyline root -> tip of the tail: the thin part that ends behind the body near the mirror plane; None without one."""
    z = points[:, 2]
    length = z.max() - z.min()
    seed = int(np.square(points - mean).sum(1).argmin())
    from_body = _geodesic(graph, seed)
    width = np.abs(points[:, 0]).max()
    behind = (np.abs(points[:, 0]) < 0.3 * width) & (z < np.quantile(z, 0.12))
    if not behind.any():
        return None
    tip = _extreme(from_body, behind)
    distance = _geodesic(graph, tip)
    step = 0.02 * length
    line, radii = [points[tip]], []
    for r in np.arange(step, 0.6 * length, step):
        ring = points[(np.abs(distance - r) < 0.75 * step) & (z < mean[2])]
        if len(ring) < 3:
            continue
        middle = 0.5 * (ring.min(0) + ring.max(0))
        radius = np.linalg.norm(ring - middle, axis=1).max()
        usual = np.median(radii) if len(radii) >= 3 else 0.0
        if radius > min(max(1.8 * usual, 0.045 * length), 0.08 * length):
            break  # the rump
        line.append(middle)
        radii.append(radius)
    tail = np.array(line[::-1])
    long_enough = len(tail) >= 4 and np.linalg.norm(np.diff(tail, axis=0), axis=1).sum() > 0.1 * length
    return tail if long_enough else None


def _resample(line: np.ndarray, count: int) -> np.ndarray:
    """``count`` points at equal arc length along a polyline, ends included."""
    lengths = np.concatenate([[0.0], np.linalg.norm(np.diff(line, axis=0), axis=1).cumsum()])
    stops = np.linspace(0, lengths[-1], count)
    return np.stack([np.interp(stops, lengths, line[:, axis]) for axis in range(3)], 1)
