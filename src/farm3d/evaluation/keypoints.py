"""Keypoint transfer: how well vertex i of one answer shows the same point of the animal as vertex i of another.

The protocol of section 6.1. Of 10,000 pairs of pictures, each keypoint of the source is carried to the nearest visible vertex of the
source's mesh, and with that vertex's number to the target. What is counted is how near it lands to the target's own keypoint.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from farm3d.core.errors import InputError
from farm3d.core.random import numpy_generator
from farm3d.evaluation.predictions import Prediction
from farm3d.render.rasterize import rasterize
from farm3d.structures import Camera

__all__ = ["Annotation", "Shadow", "Transfer", "shadow", "transfer"]

PAIRS = 10_000
THRESHOLD = 0.1
BOX_PADDING = 0.05
_VISIBILITY_PX = 256
_MARGIN = 1.1
_RESAMPLES = 1000


@dataclass(frozen=True)
class Annotation:
    """Where keypoints are in one picture.

    Attributes:
        key: name of the picture, which its prediction carries too.
        names: of the keypoints, K of them.
        points_px: ``[K, 2]`` float64, x right, y down.
        visible: ``[K]`` bool.
        box_px: width and height of the animal's box: the yardstick of errors.
        group: pictures of one group (individual, film) are not independent.
    """

    key: str
    names: tuple[str, ...]
    points_px: np.ndarray
    visible: np.ndarray
    box_px: tuple[float, float]
    group: str


@dataclass(frozen=True)
class Shadow:
    """A prediction as this protocol sees it.

    Attributes:
        points_px: projected vertices in the picture's pixels, ``[V, 2]`` float32.
        visible: vertices with a face that owns a pixel, ``[V]`` bool.
        topology: see :attr:`farm3d.evaluation.predictions.Prediction.topology`.
    """

    points_px: np.ndarray
    visible: np.ndarray
    topology: str


@dataclass(frozen=True)
class Transfer:
    """What the pairs gave. Shares in [0, 1].

    Attributes:
        pck: share of keypoints that land within the threshold, for each type, then the mean over types; nan if nothing could be counted.
        low, high: 95 % bootstrap interval of ``pck``: groups of pictures are drawn anew, and with them the pairs between them.
        by_type: PCK of each keypoint type that was counted at all.
        counts: how many transfers of each type were counted.
        pairs: how many pairs were drawn.
        untransferable: pairs of two answers with different topologies, which have no common vertex numbers: left out, not failures.
        unanswered: pairs with a missing answer: every keypoint visible in both pictures counts as wrong.
        by_source: for each picture, the share of right transfers over the pairs that it is the source of.
    """

    pck: float
    low: float
    high: float
    by_type: dict[str, float]
    counts: dict[str, int]
    pairs: int
    untransferable: int
    unanswered: int
    by_source: dict[str, float] = field(repr=False)


def shadow(prediction: Prediction, *, width_px: int, height_px: int) -> Shadow:
    """Project the vertices into a picture of the given size, and find those that show.

    Visibility is decided by rasterising at 256 px the square round the projected animal (the published code does it in its own crop,
    which is about as tight): a vertex shows if one of its faces owns a pixel.
    """
    camera = prediction.camera.resized(width_px, height_px)
    points = camera.pixels(prediction.vertices)
    used = torch.zeros(len(points), dtype=torch.bool)
    used[prediction.faces.reshape(-1)] = True
    usable = torch.isfinite(points).all(-1) & (camera.to_camera(prediction.vertices)[:, 2] < 0)
    visible = torch.zeros(len(points), dtype=torch.bool)
    if bool((usable & used).any()):
        low, high = points[usable & used].amin(0), points[usable & used].amax(0)
        crop = _square(camera, (low + high) / 2, float((high - low).max().clamp_min(1e-3)) * _MARGIN)
        depth = float(-camera.to_camera(prediction.vertices)[usable & used][:, 2].mean())
        clip = crop.clip(prediction.vertices[None], near=depth * 1e-4, far=depth * 1e4)
        seen = rasterize(clip, prediction.faces, height_px=_VISIBILITY_PX, width_px=_VISIBILITY_PX).face_id
        visible[prediction.faces[seen[seen >= 0].long().unique()].reshape(-1)] = True
    return Shadow(points.float().numpy(), (visible & usable).numpy(), prediction.topology)


def _square(camera: Camera, centre: torch.Tensor, side: float) -> Camera:
    """Return the camera of a square cut out of a picture, 256 px wide."""
    fx, fy, cx, cy = camera.intrinsics.unbind(-1)
    corner, scale = centre - side / 2, _VISIBILITY_PX / side
    intrinsics = torch.stack([fx, fy, cx - corner[0], cy - corner[1]]) * scale
    return Camera(camera.T_camera_world, intrinsics, _VISIBILITY_PX, _VISIBILITY_PX)


def transfer(
    annotations: Sequence[Annotation],
    shadows: Mapping[str, Shadow],
    *,
    pairs: int = PAIRS,
    threshold: float = THRESHOLD,
    padding: float = BOX_PADDING,
    seed: int = 0,
) -> Transfer:
    """Run the protocol of section 6.1; the order of ``annotations`` decides, with the seed, which pairs are drawn.

    Args:
        annotations: in the order of the published file; their names may differ, equal names are one type.
        shadows: by key; a key that is not there is a missing answer.
        pairs: how many are drawn, each ``random.Random(seed).sample(names, 2)`` of one generator.
        threshold: on the distance divided by max(box width, box height) * (1 + 2 * padding) of the target.
        padding: what A-CSM's boxes lack.

    Raises:
        InputError: fewer than two pictures, or two of one name.
    """
    if len(annotations) < 2 or len({annotation.key for annotation in annotations}) != len(annotations):
        raise InputError(f"keypoint transfer needs two or more pictures of different names, got {len(annotations)}")
    draw = random.Random(seed)
    drawn = np.array([draw.sample(range(len(annotations)), 2) for _ in range(pairs)])
    types = list(dict.fromkeys(name for annotation in annotations for name in annotation.names))
    points, visible = _by_type(annotations, types)
    given = [shadows.get(annotation.key) for annotation in annotations]
    nearest = np.stack([_nearest(mine, points[i], visible[i]) for i, mine in enumerate(given)])
    error = np.full((pairs, len(types)), np.inf)
    same = np.ones(pairs, dtype=bool)
    answered = np.ones(pairs, dtype=bool)
    for target, target_shadow in enumerate(given):
        rows = np.flatnonzero(drawn[:, 1] == target)
        there = [given[source] for source in drawn[rows, 0]]
        answered[rows] = [target_shadow is not None and mine is not None for mine in there]
        if target_shadow is None:
            continue
        same[rows] = [mine is None or mine.topology == target_shadow.topology for mine in there]
        rows = rows[same[rows] & answered[rows]]
        vertex = nearest[drawn[rows, 0]]
        landed = target_shadow.points_px[vertex.clip(min=0)].astype(np.float64)
        size = max(annotations[target].box_px) * (1 + 2 * padding)
        distance = np.linalg.norm(landed - points[target], axis=-1) / size
        error[rows] = np.where((vertex >= 0) & np.isfinite(distance), distance, np.inf)
    counted = visible[drawn[:, 0]] & visible[drawn[:, 1]] & same[:, None]
    right = counted & (error < threshold)
    return _summary(annotations, types, drawn, counted, right, same, answered)


def _by_type(annotations: Sequence[Annotation], types: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return places ``[N, T, 2]`` and visibility ``[N, T]`` with one column for each type."""
    column = {name: index for index, name in enumerate(types)}
    points, visible = np.zeros((len(annotations), len(types), 2)), np.zeros((len(annotations), len(types)), dtype=bool)
    for row, annotation in enumerate(annotations):
        columns = [column[name] for name in annotation.names]
        finite = np.asarray(np.isfinite(annotation.points_px).all(1))
        points[row, columns] = np.where(finite[:, None], annotation.points_px, 0)
        visible[row, columns] = annotation.visible & finite
    return points, visible


def _nearest(mine: Shadow | None, points: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Return the number of the visible vertex nearest to each visible keypoint, ``[T]``; -1 where there is none."""
    found = np.full(len(points), -1)
    if mine is not None and mine.visible.any() and visible.any():
        from scipy.spatial import KDTree

        numbers = np.flatnonzero(mine.visible)
        found[visible] = numbers[KDTree(mine.points_px[numbers]).query(points[visible])[1]]
    return found


def _summary(
    annotations: Sequence[Annotation],
    types: list[str],
    drawn: np.ndarray,
    counted: np.ndarray,
    right: np.ndarray,
    same: np.ndarray,
    answered: np.ndarray,
) -> Transfer:
    counts, rights = counted.sum(0), right.sum(0)
    by_type = {name: rights[i] / counts[i] for i, name in enumerate(types) if counts[i]}
    by_source = {}
    for source, annotation in enumerate(annotations):
        rows = drawn[:, 0] == source
        if counted[rows].any():
            by_source[annotation.key] = float(right[rows].sum() / counted[rows].sum())
    groups = {name: number for number, name in enumerate(dict.fromkeys(annotation.group for annotation in annotations))}
    group = np.array([groups[annotation.group] for annotation in annotations])
    low, high = _interval(group[drawn], counted, right) if by_type else (math.nan, math.nan)
    return Transfer(
        pck=float(np.mean(list(by_type.values()))) if by_type else math.nan,
        low=low,
        high=high,
        by_type={name: float(value) for name, value in by_type.items()},
        counts={name: int(counts[i]) for i, name in enumerate(types)},
        pairs=len(drawn),
        untransferable=int((~same).sum()),
        unanswered=int((~answered).sum()),
        by_source=by_source,
    )


def _interval(groups: np.ndarray, counted: np.ndarray, right: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of the mean over types when groups are drawn with replacement; a pair weighs as both its groups do."""
    number = int(groups.max()) + 1
    draws = numpy_generator(0, "keypoint transfer").multinomial(number, np.full(number, 1 / number), size=_RESAMPLES)
    weights = (draws[:, groups[:, 0]] * draws[:, groups[:, 1]]).astype(np.float32)
    counts, rights = weights @ counted.astype(np.float32), weights @ right.astype(np.float32)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = np.where(counts > 0, rights / counts, np.nan)
    known = np.isfinite(shares).any(1)
    if not known.any():
        return math.nan, math.nan
    low, high = np.quantile(np.nanmean(shares[known], axis=1), [0.025, 0.975])
    return float(low), float(high)
