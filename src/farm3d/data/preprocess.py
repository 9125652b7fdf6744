"""From a photograph to a Crop: find the animal's silhouette, keep one animal, cut the square around it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from farm3d.core.errors import InputError, NoAnimalError
from farm3d.data.folders import find_masks, list_photos, masks_beside
from farm3d.data.masks import one_animal, read_mask
from farm3d.data.photo import Photo, alpha_is_mask, shown_path
from farm3d.data.segment import Segmenter
from farm3d.structures import Crop

__all__ = ["Silhouette", "find_mask", "find_masks", "list_photos", "make_crop", "masks_beside", "one_animal", "read_mask"]


@dataclass(frozen=True, eq=False)
class Silhouette:
    """Where one animal is in a photograph.

    Attributes:
        coverage: ``[H, W]`` float32 in [0, 1] at the photograph's size.
        source: ``"file"``, ``"alpha"`` or ``"segmenter"``.
        warnings: plain sentences for the user (several animals, cut by the border).
    """

    coverage: np.ndarray
    source: str
    warnings: tuple[str, ...] = ()


def find_mask(photo: Photo, mask_path: Path | None = None, *, segmenter: Segmenter | None = None) -> Silhouette:
    """Return the silhouette of the largest animal: from the mask file if given, else the photo's transparency, else the segmenter.

    Transparency counts as a mask when :func:`farm3d.data.photo.alpha_is_mask` says so.

    Raises:
        InputError: the mask file cannot be used (see :func:`read_mask`), there is neither mask, transparency nor segmenter, or the
            segmenter's answer is no coverage.
        NoAnimalError: the mask is black, or the segmenter finds nothing.
        MissingPartError: passed on from the segmenter (onnxruntime or the model file is missing).
    """
    where = shown_path(photo.path)
    if mask_path is not None:
        shown = shown_path(mask_path)
        coverage, source = read_mask(mask_path, photo.size_px), "file"
        empty = NoAnimalError(f"{shown}: the mask is black: it marks no animal", hint="white or any colour where the animal is")
        if (coverage > 0.5).mean() > 0.98:
            raise InputError(f"{shown}: the mask covers the whole picture", hint="white where the animal is, black elsewhere")
    elif photo.alpha is not None and alpha_is_mask(photo):
        coverage, source = photo.alpha, "alpha"
        empty = NoAnimalError(f"{where}: the whole picture is transparent", hint="give a picture without transparency, or --mask FILE")
    elif segmenter is not None:
        coverage, source = _segmented(photo, segmenter), "segmenter"
        empty = NoAnimalError(f"{where}: no animal found", hint="if there is one, mark it yourself with --mask FILE")
    else:
        raise InputError(f"{where}: no mask, no transparency and no segmenter", hint="give --mask FILE")
    found = one_animal(coverage, drop_threads=source == "segmenter")
    if found is None:
        raise empty
    coverage, notes = found
    return Silhouette(coverage, source, notes)


def _segmented(photo: Photo, segmenter: Segmenter) -> np.ndarray:
    """Return a segmenter's answer after a look at it: anyone may bring one."""
    answer = segmenter(photo.rgb)
    height, width = photo.rgb.shape[:2]
    if not isinstance(answer, np.ndarray) or answer.shape != (height, width) or answer.dtype.kind not in "bf":
        got = f"{answer.dtype} {list(answer.shape)}" if isinstance(answer, np.ndarray) else type(answer).__name__
        raise InputError(f"segmenter: expected an array of floats in [0, 1], [{height}, {width}] as the picture, got {got}")
    if not (np.isfinite(answer).all() and answer.min() >= 0 and answer.max() <= 1):
        raise InputError("segmenter: expected coverage in [0, 1], got values beyond it")
    return answer.astype(np.float32, copy=False)


def make_crop(
    photo: Photo,
    mask: Silhouette | np.ndarray,
    *,
    size_px: int = 256,
    enlarge: bool = True,
    box_px: tuple[float, float, float] | None = None,
    accept: Callable[[Crop], bool] | None = None,
) -> Crop:
    """Cut the square around a silhouette and resample it to ``size_px`` (section 1.2).

    With A the silhouette's pixel count, the square is centred at its mean pixel and 2*floor(sqrt(A)) wide, so that the animal covers
    about a quarter of it; what lies outside the photo is 0. Colours and mask are averaged over the area of a new pixel (bilinear when
    enlarging), colours in sRGB encoding.

    Args:
        photo: the photograph; it is kept in memory, so that a second call with another ``size_px`` gives a finer crop for texture.
        mask: the silhouette, or its coverage ``[H, W]`` in [0, 1].
        size_px: pixels a side of the crop.
        enlarge: let the square grow (same centre) where the silhouette's bounding box plus 4 % sticks out: fitting needs the whole
            outline. False is exactly the rule of the paper.
        box_px: take this square (x0, y0, side, in photo pixels) instead: for a second crop that lies exactly over the first.
        accept: a look at the crop that says whether it shows an animal (an image encoder can tell; a segmenter finds anything).

    Raises:
        NoAnimalError: the silhouette is empty, or ``accept`` says no.
        InputError: the mask is of another size than the photo.
    """
    silhouette = mask if isinstance(mask, Silhouette) else Silhouette(np.asarray(mask, np.float32), "file")
    height, width = silhouette.coverage.shape
    if (width, height) != photo.size_px:
        size = f"{photo.size_px[0]}x{photo.size_px[1]}"
        raise InputError(f"{shown_path(photo.path)}: a mask of another size: {width}x{height} pixels, the photo has {size}")
    x0, y0, side = box_px if box_px is not None else _square(silhouette.coverage > 0.5, enlarge, photo)
    image = _resample(photo.rgb, (x0, y0, side), size_px)
    coverage = _resample(silhouette.coverage, (x0, y0, side), size_px).clip(0, 1)
    centres = (np.arange(size_px) + 0.5) / size_px * side
    margin = 0.02 * side
    inside_x = (x0 + centres >= margin) & (x0 + centres <= width - margin)
    inside_y = (y0 + centres >= margin) & (y0 + centres <= height - margin)
    crop = Crop(
        image=torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1), np.float32)) / 255,
        mask=torch.from_numpy(np.ascontiguousarray(coverage, np.float32)),
        valid=torch.from_numpy((inside_y[:, None] & inside_x[None, :]).astype(np.float32)),
        box_px=(x0, y0, side),
        photo_size_px=photo.size_px,
        name=photo.name,
        warnings=photo.warnings + silhouette.warnings,
    )
    if accept is not None and not accept(crop):
        raise NoAnimalError(
            f"{shown_path(photo.path)}: this does not look like an animal", hint="if there is one, mark it with --mask FILE"
        )
    return crop


def _square(solid: np.ndarray, enlarge: bool, photo: Photo) -> tuple[float, float, float]:
    rows, columns = np.nonzero(solid.any(1))[0], np.nonzero(solid.any(0))[0]
    if len(rows) == 0:
        raise NoAnimalError(f"{shown_path(photo.path)}: no animal found: the silhouette is empty")
    per_row, per_column = solid.sum(1, dtype=np.int64), solid.sum(0, dtype=np.int64)
    area = int(per_row.sum())
    half = float(max(1, math.isqrt(area)))
    # Pixel centres are at +0.5, edges at whole numbers.
    centre_x = float((per_column * (np.arange(len(per_column)) + 0.5)).sum() / area)
    centre_y = float((per_row * (np.arange(len(per_row)) + 0.5)).sum() / area)
    if enlarge:
        reach = max(centre_x - columns[0], columns[-1] + 1 - centre_x, centre_y - rows[0], rows[-1] + 1 - centre_y)
        half = max(half, 1.04 * float(reach))
    return centre_x - half, centre_y - half, 2 * half


def _resample(pixels: np.ndarray, box: tuple[float, float, float], size_px: int) -> np.ndarray:
    """Resample the square ``box`` of uint8 ``[H, W, 3]`` or float ``[H, W]`` pixels, 0 outside; antialiased, at sub-pixel positions."""
    x0, y0, side = box
    reach = side / size_px + 1  # the filter of the outermost pixels looks this far beyond the square
    left, top = math.floor(x0 - reach), math.floor(y0 - reach)
    right, bottom = math.ceil(x0 + side + reach), math.ceil(y0 + side + reach)
    inside = pixels[max(0, top) : max(0, bottom), max(0, left) : max(0, right)]
    if inside.size == 0:
        return np.zeros((size_px, size_px, *pixels.shape[2:]), pixels.dtype)
    image = Image.fromarray(np.ascontiguousarray(inside))
    step = max(1, int(side / size_px / 3))  # very large photos: whole-pixel averages first, which saves padding at full size
    if step > 1:
        image = image.reduce(step)
    canvas_size = (math.ceil((right - left) / step) + 2, math.ceil((bottom - top) / step) + 2)
    canvas = Image.new(image.mode, canvas_size)
    # The photo's part starts at a whole pixel of the canvas; the box moves with it.
    paste_x, paste_y = math.ceil((max(0, left) - left) / step), math.ceil((max(0, top) - top) / step)
    canvas.paste(image, (paste_x, paste_y))
    box_x, box_y = (x0 - max(0, left)) / step + paste_x, (y0 - max(0, top)) / step + paste_y
    square = (box_x, box_y, box_x + side / step, box_y + side / step)
    return np.asarray(canvas.resize((size_px, size_px), Image.Resampling.BILINEAR, box=square))
