"""How well outlines agree: intersection over union, and the boundary F-measure of the DAVIS benchmark."""

from __future__ import annotations

import math

import numpy as np
from scipy.ndimage import distance_transform_edt

from farm3d.core.errors import InputError
from farm3d.core.shapes import Float, Tensor, checked
from farm3d.evaluation.drawing import draw, plain_light, seen
from farm3d.evaluation.predictions import Prediction

__all__ = ["boundary_f", "boundary_of", "iou", "silhouette"]

_SHAPE_TOLERANCE = 0.01


@checked
def silhouette(prediction: Prediction, *, width_px: int, height_px: int) -> Float[Tensor, "H W"]:
    """Draw the coverage of a prediction through its own camera at a size in pixels, 2 x 2 samples each.

    Raises:
        InputError: the camera's picture has other proportions than the size asked for: it is of another picture.
    """
    camera = prediction.camera
    if abs(camera.width_px * height_px / (camera.height_px * width_px) - 1) > _SHAPE_TOLERANCE:
        raise InputError(f"its camera is of a picture of {camera.width_px} x {camera.height_px}, the truth has {width_px} x {height_px}")
    view = seen(prediction, width_px=width_px, height_px=height_px)
    return draw(view, view.camera, plain_light(), supersample=2).mask[0]


@checked
def iou(drawn: Float[Tensor, "H W"], truth: Float[Tensor, "H W"]) -> float:
    """Return intersection over union of two coverages at one half; 1 if both are empty."""
    a, b = drawn > 0.5, truth > 0.5
    union = int((a | b).sum())
    return float((a & b).sum()) / union if union else 1.0


def boundary_of(mask: np.ndarray) -> np.ndarray:
    """Return the pixels ``[H, W]`` whose right, lower or lower right neighbour differs: the boundary map of DAVIS, one pixel wide.

    At the picture's right and lower edges only the neighbour that exists counts: the edge itself is no boundary.
    """
    inside = np.pad(mask.astype(bool), ((0, 1), (0, 1)), mode="edge")
    here = inside[:-1, :-1]
    return (here != inside[:-1, 1:]) | (here != inside[1:, :-1]) | (here != inside[1:, 1:])


@checked
def boundary_f(drawn: Float[Tensor, "H W"], truth: Float[Tensor, "H W"], *, tolerance: float = 0.008) -> float:
    """Return the boundary F-measure of Perazzi et al. (CVPR 2016), in its published morphological form.

    A boundary pixel is matched if one of the other outline lies within ``ceil(tolerance * diagonal)`` pixels; dilation with a disc,
    here by distance transform, which is the same set. F is the harmonic mean of precision and recall; 1 if both outlines are empty.
    """
    ours, theirs = boundary_of((drawn > 0.5).numpy()), boundary_of((truth > 0.5).numpy())
    if not ours.any() or not theirs.any():
        return float(not ours.any() and not theirs.any())
    reach = math.ceil(tolerance * math.hypot(*drawn.shape))
    precision = float((np.asarray(distance_transform_edt(~theirs))[ours] <= reach).mean())
    recall = float((np.asarray(distance_transform_edt(~ours))[theirs] <= reach).mean())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
