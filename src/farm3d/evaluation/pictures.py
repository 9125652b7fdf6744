"""How near pictures of a prediction come to pictures of the truth: from other sides, as plain colour, and under other lights.

All pictures are drawn by our renderer from the two meshes, over the same grey. Light and view are given to both alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.ndimage import correlate1d

from farm3d.core.color import srgb_from_linear
from farm3d.core.errors import InputError
from farm3d.core.shapes import Float, Tensor, checked
from farm3d.evaluation.drawing import GREY, draw, normalised, orbit, plain_light, seen
from farm3d.evaluation.predictions import Prediction
from farm3d.evaluation.truth import Truth
from farm3d.structures import Light

__all__ = ["Albedo", "NovelViews", "Relit", "albedo_error", "novel_pictures", "novel_views", "psnr_db", "relit", "ssim", "union_box"]

BEST_PSNR_DB = 100.0  # equal pictures would have infinitely many
_WINDOW, _SIGMA = 11, 1.5
_K1, _K2 = 0.01, 0.03


class NovelViews(NamedTuple):
    """PSNR (dB) and SSIM of each view, ``[B]``, in steps of 360 / B degrees, the first the photograph's own side; and the PSNR after the
    answer's colours were multiplied by one factor.
    """

    psnr_db: list[float]
    ssim: list[float]
    psnr_scaled_db: list[float]


class Relit(NamedTuple):
    """PSNR (dB) under each light, as given and after the answer's colours were multiplied by one factor."""

    psnr_db: list[float]
    psnr_scaled_db: list[float]


class Albedo(NamedTuple):
    """Mean absolute error in linear RGB: as given, after the one factor on all channels that fits best, and that factor."""

    raw: float
    scaled: float
    scale: float


@checked
def psnr_db(picture: Float[Tensor, "H W C"], truth: Float[Tensor, "H W C"]) -> float:
    """Return the peak signal-to-noise ratio of pictures in [0, 1], at most 100 dB (which equal pictures get)."""
    error = float((picture.double() - truth.double()).square().mean())
    return min(BEST_PSNR_DB, -10 * math.log10(error)) if error > 0 else BEST_PSNR_DB


@checked
def ssim(picture: Float[Tensor, "H W C"], truth: Float[Tensor, "H W C"]) -> float:
    """Return structural similarity (Wang et al. 2004) of pictures in [0, 1]: Gaussian window of 11 pixels, sigma 1.5, mean of channels.

    Averaged where the whole window fits.

    Raises:
        InputError: a picture smaller than the window.
    """
    if min(picture.shape[:2]) < _WINDOW:
        raise InputError(f"SSIM of a picture of {picture.shape[1]} x {picture.shape[0]} pixels; expected {_WINDOW} or more a side")
    offsets = np.arange(_WINDOW) - _WINDOW // 2
    window = np.exp(-(offsets**2) / (2 * _SIGMA**2))
    window /= window.sum()

    def local(values: np.ndarray) -> np.ndarray:
        blurred = correlate1d(correlate1d(values, window, axis=0), window, axis=1)
        margin = _WINDOW // 2
        return blurred[margin:-margin, margin:-margin]

    x, y = picture.double().numpy(), truth.double().numpy()
    mean_x, mean_y = local(x), local(y)
    variance_x, variance_y = local(x * x) - mean_x**2, local(y * y) - mean_y**2
    covariance = local(x * y) - mean_x * mean_y
    c1, c2 = _K1**2, _K2**2
    value = (2 * mean_x * mean_y + c1) * (2 * covariance + c2) / ((mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2))
    return float(value.mean())


@checked
def union_box(first: Float[Tensor, "H W"], second: Float[Tensor, "H W"], *, least_px: int = _WINDOW) -> tuple[slice, slice]:
    """Return rows and columns of the smallest box round both coverages, widened to ``least_px`` where the picture allows."""
    either = (first > 0) | (second > 0)
    slices = []
    for axis in (1, 0):
        hits = either.any(axis).nonzero()[:, 0]
        size = either.shape[1 - axis]
        low, high = (int(hits[0]), int(hits[-1]) + 1) if len(hits) else (0, size)
        more = max(0, least_px - (high - low))
        low = max(0, min(low - more // 2, size - least_px))
        slices.append(slice(low, min(size, max(high, low + least_px))))
    return slices[0], slices[1]


def novel_pictures(
    prediction: Prediction, truth: Truth, *, turns_deg: Sequence[float], size_px: int = 256
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draw both from the same sides: linear pictures ``[B, H, W, 3]`` and masks ``[B, H, W]`` of the prediction, then of the truth.

    Both meshes are brought to centroid 0 and RMS radius 1 in their own object frames (:func:`farm3d.evaluation.drawing.normalised`).
    The cameras stand at the truth's elevation and at its azimuth plus each of ``turns_deg``: 0 is the photograph's own side, 180 the one
    that it does not show. One light for all, from above the viewer's right shoulder. The truth's pictures do not depend on the answer.
    """
    ours, theirs = normalised(prediction), normalised(truth.animal)
    reach = float(theirs.vertices[theirs.faces].norm(dim=-1).max())
    azimuths = truth.azimuth_deg + torch.tensor(turns_deg, dtype=torch.float32)
    cameras = orbit(azimuths, truth.elevation_deg, size_px=size_px, reach=1.1 * reach)
    light = _light((0.35, 0.75, 0.55), 0.5, 0.5)
    mine, true = draw(ours, cameras, light), draw(theirs, cameras, light)
    return mine.rgb, mine.mask, true.rgb, true.mask


def novel_views(prediction: Prediction, truth: Truth, *, views: int = 8, size_px: int = 256, scale: float = 1.0) -> NovelViews:
    """Compare :func:`novel_pictures` after sRGB encoding, each within the box round both silhouettes.

    ``scale`` is the factor on the answer's colours that the photograph's own view asks for (:class:`Albedo`): without it, the figures are
    mostly about how bright an animal was taken to be, which one picture cannot tell.
    """
    turns = [360 / views * index for index in range(views)]
    ours, our_masks, theirs, their_masks = novel_pictures(prediction, truth, turns_deg=turns, size_px=size_px)
    ours, scaled, theirs = (srgb_from_linear(picture) for picture in (ours, _brightened(ours, our_masks, scale), theirs))
    found = NovelViews([], [], [])
    for index in range(views):
        rows, columns = union_box(our_masks[index], their_masks[index])
        mine, brightened, true = (pictures[index, rows, columns] for pictures in (ours, scaled, theirs))
        found.psnr_db.append(psnr_db(mine, true))
        found.ssim.append(ssim(mine, true))
        found.psnr_scaled_db.append(psnr_db(brightened, true))
    return found


def albedo_error(prediction: Prediction, truth: Truth) -> Albedo | None:
    """Compare unlit colours where both silhouettes cover a pixel whole, in the photograph's view; None if there is no such pixel.

    One picture cannot tell a bright animal from a bright light, so the error is also given after one common factor on the
    prediction's colours: the least-squares one, over all pixels and channels.
    """
    ours, theirs = (_own_view(animal, truth, [plain_light()]) for animal in (prediction, truth.animal))
    both = (ours.mask[0] > 0.9999) & (theirs.mask[0] > 0.9999)
    if not bool(both.any()):
        return None
    mine, true = ours.rgb[0][both].double(), theirs.rgb[0][both].double()
    scale = float((mine * true).sum() / mine.square().sum().clamp_min(1e-12))
    return Albedo(float((mine - true).abs().mean()), float((scale * mine - true).abs().mean()), scale)


def relit(prediction: Prediction, truth: Truth, *, scale: float = 1.0) -> Relit:
    """Compare both in the photograph's view under four new lights: from the left, the right, above and behind.

    sRGB-encoded, over the pixels that either silhouette touches, each seen through its own camera. ``scale`` as in :func:`novel_views`.
    """
    lights = [_light(direction, 0.2, 0.8) for direction in ((-0.9, 0.3, 0.3), (0.9, 0.3, 0.3), (0.0, 1.0, 0.1), (0.2, 0.6, -0.75))]
    ours, theirs = (_own_view(animal, truth, lights) for animal in (prediction, truth.animal))
    either = (ours.mask > 0) | (theirs.mask > 0)
    pictures = (ours.rgb, _brightened(ours.rgb, ours.mask, scale), theirs.rgb)
    mine, brightened, true = (srgb_from_linear(picture) for picture in pictures)
    found = Relit([], [])
    for index, pixels in enumerate(either):
        if bool(pixels.any()):
            found.psnr_db.append(psnr_db(mine[index][pixels][None], true[index][pixels][None]))
            found.psnr_scaled_db.append(psnr_db(brightened[index][pixels][None], true[index][pixels][None]))
    return found


def _brightened(pictures: Float[Tensor, "B H W 3"], masks: Float[Tensor, "B H W"], scale: float) -> Float[Tensor, "B H W 3"]:
    """Multiply what covers the background, linear colours, by a factor, and leave the background."""
    behind = GREY * (1 - masks[..., None])
    return pictures if scale == 1 else scale * (pictures - behind) + behind


def _own_view(animal: Prediction, truth: Truth, lights: list[Light]):
    height, width = truth.mask.shape
    view = seen(animal, width_px=width, height_px=height)
    together = Light(*(torch.stack([getattr(light, name) for light in lights]) for name in ("direction", "ambient", "diffuse")))
    return draw(view, view.camera, together)


def _light(direction: tuple[float, float, float], ambient: float, diffuse: float) -> Light:
    toward = torch.nn.functional.normalize(torch.tensor(direction), dim=0)
    return Light(toward, torch.tensor(ambient), torch.tensor(diffuse))
