"""Mask files and coverage maps: what the pixels mean, and which of the shapes is the animal."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from farm3d.core.errors import InputError
from farm3d.data.photo import open_picture, shown_path

__all__ = ["one_animal", "read_mask"]

_WORK_SIDE_PX = 1024  # components are counted on a copy no larger than this: the segmenter itself sees no more
_MIN_AREA_PX = 128  # a silhouette of fewer pixels shows no legs
_ANIMAL_SHARE = 0.1  # a piece of a tenth of the largest or more counts as an animal of its own …
_FRAGMENT_GAP = 0.1  # … a smaller one belongs to the largest when it is this near, in units of the square root of its area
_THREAD_RADIUS, _THREAD_REACH = 0.015, 0.15  # same units; on 49 hand-made masks the rule changes no outline by more than 0.3 %


def read_mask(path: Path | str, size_px: tuple[int, int]) -> np.ndarray:
    """Read a mask file as coverage ``[H, W]`` float32 in [0, 1] for a photo of ``size_px`` = (width, height).

    Any of these: 0/255, 0/1 or label numbers, grey (also JPEG), colours on black, palettes, transparency. A mask of other size is
    resized when its proportions are the photo's within 2 %.

    Raises:
        InputError: the file is unreadable (as :func:`farm3d.data.photo.load_photo`) or of another size.
    """
    path, where = Path(path), shown_path(path)
    image, _ = open_picture(path)
    width, height = size_px
    if abs(image.width * height / (image.height * width) - 1) > 0.02:
        turned = abs(image.height * height / (image.width * width) - 1) <= 0.02
        raise InputError(
            f"{where}: a mask of another size: {image.width}x{image.height} pixels, the photo has {width}x{height}",
            hint="turn the mask as the photo's EXIF orientation turns the photo"
            if turned
            else "the mask must have the photo's proportions",
        )
    coverage = _coverage(image, lossy=path.suffix.lower() not in (".png", ".webp"))
    return coverage if coverage.shape == (height, width) else _resized(coverage, size_px)


def _coverage(image: Image.Image, *, lossy: bool) -> np.ndarray:
    """Read a mask picture's meaning from its mode and levels (see :func:`read_mask`)."""
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image).astype(np.float32)
        return values / 65535 if values.max() > 255 else (values > 0).astype(np.float32)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        alpha = np.asarray(image.convert("RGBA"))[..., 3]
        if alpha.min() < 128 <= alpha.max():
            return alpha.astype(np.float32) / 255
    colours = np.asarray(image.convert("RGB"))
    values = colours.max(-1)
    peak = int(values.max())
    if lossy:  # JPEG rings around every edge: a little off black is black, a little off white is white
        return np.clip((values.astype(np.float32) - 16) / 223, 0, 1)
    two_levels = bool(((values == 0) | (values == peak)).all())
    if peak < 128 or two_levels or int(np.ptp(colours, axis=-1).max()) > 16:  # label numbers, label colours: what is not black is marked
        return (values > 0).astype(np.float32)
    return values.astype(np.float32) / 255


def one_animal(coverage: np.ndarray, *, drop_threads: bool = False) -> tuple[np.ndarray, tuple[str, ...]] | None:
    """Keep the largest animal of a coverage map ``[H, W]``; return it with warnings, or None when there is nothing.

    Pieces are the connected parts above one half. A piece smaller than a tenth of the largest that lies nearer to it than 10 % of the
    square root of its area (a leg behind a fence, the end of a tail) is kept with it; larger ones count as animals of their own and
    are dropped with a warning; other specks are dropped in silence.

    Args:
        coverage: ``[H, W]`` float32 in [0, 1].
        drop_threads: cut off what is thinner than 3 % of the square root of the area and reaches further than 15 % of it from the rest:
            a lead rope, not a leg. For the answers of a segmenter.
    """
    height, width = coverage.shape
    scale = max(1.0, max(height, width) / _WORK_SIDE_PX)
    small = coverage if scale == 1 else _resized(coverage, (max(1, round(width / scale)), max(1, round(height / scale))))
    solid = small > 0.5
    if solid.sum() * scale**2 < _MIN_AREA_PX:
        return None
    keep, count = _largest(_thick_parts(solid) if drop_threads else solid)
    if drop_threads:
        keep |= _short_bits(solid, keep)
    if keep.sum() * scale**2 < _MIN_AREA_PX:
        return None
    # The soft edge around the kept pieces belongs to them, unless it is the edge of a dropped piece.
    near = np.asarray(ndimage.binary_dilation(keep, iterations=3), bool) & ~(solid & ~keep)
    if scale > 1:
        near = np.asarray(Image.fromarray(near).resize((width, height), Image.Resampling.NEAREST))
    coverage = np.where(near, coverage, np.float32(0))
    notes = []
    if count > 1:
        notes.append(f"found {count} animals, kept the largest")
    sides = _cut_sides(coverage > 0.5)
    if sides:
        listed = sides[0] if len(sides) == 1 else f"{', '.join(sides[:-1])} and {sides[-1]}"
        notes.append(f"the animal is cut by the picture's {listed} border{'s' if len(sides) > 1 else ''}")
    return coverage, tuple(notes)


def _largest(solid: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the largest piece with the fragments that belong to it, and how many pieces are animals of their own (it included)."""
    labels, areas = _pieces(solid)
    if len(areas) == 0:
        return solid, 0
    largest = int(areas.argmax())
    distance = _distance_to(labels == largest + 1) if len(areas) > 1 else np.zeros(solid.shape)
    nearest = np.asarray(ndimage.minimum(distance, labels, np.arange(1, len(areas) + 1)))
    apart = areas >= _ANIMAL_SHARE * areas[largest]
    kept = ~apart & (nearest <= _FRAGMENT_GAP * math.sqrt(areas[largest]))
    kept[largest] = True
    return np.concatenate([[False], kept])[labels], int(apart.sum())


def _thick_parts(solid: np.ndarray) -> np.ndarray:
    """Morphological opening with a disc of 3 % of the square root of the area across."""
    radius = _THREAD_RADIUS * math.sqrt(solid.sum())
    core = np.asarray(ndimage.distance_transform_edt(solid)) > radius
    return (_distance_to(core) <= radius) & solid if core.any() else solid


def _short_bits(solid: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Return the thin bits that touch what is kept and do not reach far from it: ears, fetlocks, wisps of a tail."""
    labels, areas = _pieces(solid & ~keep)
    if len(areas) == 0:
        return np.zeros_like(solid)
    distance = _distance_to(keep)
    numbers = np.arange(1, len(areas) + 1)
    touching = np.asarray(ndimage.minimum(distance, labels, numbers)) < 2
    short = np.asarray(ndimage.maximum(distance, labels, numbers)) <= _THREAD_REACH * math.sqrt(keep.sum())
    return np.concatenate([[False], touching & short])[labels]


def _pieces(solid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of the connected pieces (from 1; diagonal neighbours connect) and the area of each."""
    labels = np.zeros(solid.shape, np.int32)
    count = int(ndimage.label(solid, np.ones((3, 3), int), output=labels))  # pyright: ignore[reportArgumentType]
    return labels, np.bincount(labels.ravel(), minlength=count + 1)[1:]


def _distance_to(solid: np.ndarray) -> np.ndarray:
    """Return each pixel's distance to the nearest pixel of ``solid``."""
    return np.asarray(ndimage.distance_transform_edt(~solid))


def _cut_sides(solid: np.ndarray) -> list[str]:
    """Name the picture borders that a silhouette touches with more than a stray pixel (2 % of the square root of its area)."""
    height, width = solid.shape
    band = 1 + max(height, width) // 500  # segmenters often leave out the last row or two
    enough = max(2.0, 0.02 * math.sqrt(solid.sum()))
    lines = {
        "left": solid[:, :band].any(1),
        "top": solid[:band].any(0),
        "right": solid[:, -band:].any(1),
        "bottom": solid[-band:].any(0),
    }
    return [side for side, line in lines.items() if line.sum() >= enough]


def _resized(coverage: np.ndarray, size_px: tuple[int, int]) -> np.ndarray:
    image = Image.fromarray(np.ascontiguousarray(coverage, np.float32))
    return np.asarray(image.resize(size_px, Image.Resampling.BILINEAR)).clip(0, 1)
