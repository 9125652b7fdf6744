"""From a photograph to a Crop: find the animal's silhouette, keep one animal, cut the square around it."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy import ndimage

from farm3d.core.errors import InputError, NoAnimalError
from farm3d.data.photo import Photo, alpha_is_mask, open_picture, shown_path
from farm3d.structures import Crop

__all__ = ["Silhouette", "find_mask", "find_masks", "list_photos", "make_crop", "one_animal", "read_mask"]

PICTURE_SUFFIXES = (".png", ".webp", ".jpg", ".jpeg")

_WORK_SIDE_PX = 1024  # components are counted on a copy no larger than this: the segmenter itself sees no more
_MIN_AREA_PX = 128  # a silhouette of fewer pixels shows no legs
_ANIMAL_SHARE = 0.1  # a piece of a tenth of the largest or more counts as an animal of its own …
_FRAGMENT_GAP = 0.1  # … a smaller one belongs to the largest when it is this near, in units of the square root of its area
_THREAD_RADIUS, _THREAD_REACH = 0.015, 0.15  # same units; on 49 hand-made masks the rule changes no outline by more than 0.3 %

Segmenter = Callable[[np.ndarray], np.ndarray]
"""Colours ``[H, W, 3]`` uint8 to the coverage of whatever stands out, ``[H, W]`` float32 in [0, 1]."""


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
        InputError: the mask file cannot be used (see :func:`read_mask`), or there is neither mask, transparency nor segmenter.
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
        coverage, source = segmenter(photo.rgb), "segmenter"
        empty = NoAnimalError(f"{where}: no animal found", hint="if there is one, mark it yourself with --mask FILE")
    else:
        raise InputError(f"{where}: no mask, no transparency and no segmenter", hint="give --mask FILE")
    found = one_animal(coverage, drop_threads=source == "segmenter")
    if found is None:
        raise empty
    coverage, notes = found
    return Silhouette(coverage, source, notes)


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


def _resized(coverage: np.ndarray, size_px: tuple[int, int]) -> np.ndarray:
    image = Image.fromarray(np.ascontiguousarray(coverage, np.float32))
    return np.asarray(image.resize(size_px, Image.Resampling.BILINEAR)).clip(0, 1)


def list_photos(paths: Path | str | Sequence[Path | str]) -> list[Path]:
    """List the photographs of files and folders, in the order given, those of a folder sorted by name (sub-folders are not searched).

    In a folder, hidden files are left out, and so are files named ``NAME_mask.*`` beside a photo NAME. A path that is no folder is
    returned as it is: whether it can be read shows when it is loaded.

    Raises:
        InputError: a folder cannot be read or holds no JPEG, PNG or WebP file.
    """
    found: list[Path] = []
    for path in [paths] if isinstance(paths, (str, Path)) else paths:
        folder = Path(path)
        if not os.path.isdir(folder):  # Path.is_dir raises where a parent may not be searched
            found.append(folder)
            continue
        pictures = _pictures_in(folder)
        stems = {picture.stem for picture in pictures}
        photos = [picture for picture in pictures if not (picture.stem.endswith("_mask") and picture.stem.removesuffix("_mask") in stems)]
        if not photos:
            raise InputError(f"{shown_path(folder)}: no picture in this folder", hint="JPEG, PNG and WebP files are read")
        found += photos
    return list(dict.fromkeys(found))


def find_masks(photos: Sequence[Path], mask: Path | str | None) -> dict[Path, Path | None]:
    """Pair photos with masks: ``mask`` is one file (for one photo), or a folder with ``NAME_mask.*`` or ``NAME.*`` for photo NAME.

    A photo without a mask in the folder is paired with None. In the photos' own folder only ``NAME_mask.*`` counts.

    Raises:
        InputError: one mask file for several photos, or a folder with no mask for any of them.
    """
    if mask is None:
        return dict.fromkeys(photos)
    mask = Path(mask)
    where = shown_path(mask)
    if not os.path.isdir(mask):
        if len(photos) > 1:
            raise InputError(
                f"{where}: one mask file for {len(photos)} photos", hint="give a folder that holds NAME_mask.png for each photo"
            )
        return dict.fromkeys(photos, mask)
    by_stem: dict[str, Path] = {}
    for picture in reversed(_pictures_in(mask)):
        by_stem[picture.stem] = picture
    pairs: dict[Path, Path | None] = {}
    for photo in photos:
        elsewhere = photo.parent.resolve() != mask.resolve()
        pairs[photo] = by_stem.get(f"{photo.stem}_mask") or (by_stem.get(photo.stem) if elsewhere else None)
    if photos and not any(pairs.values()):
        raise InputError(
            f"{where}: no mask for any of the photos in this folder", hint=f"expected for example {shown_path(photos[0].stem)}_mask.png"
        )
    return pairs


def _pictures_in(folder: Path) -> list[Path]:
    """Return the pictures of a folder by name; of equal stems the lossless format first."""
    try:
        names = [entry for entry in folder.iterdir() if entry.suffix.lower() in PICTURE_SUFFIXES and not entry.name.startswith(".")]
        entries = [entry for entry in names if not os.path.isdir(entry)]
    except OSError as error:
        raise InputError(f"{shown_path(folder)}: this folder cannot be read: {error.strerror or error}") from error
    return sorted(entries, key=lambda entry: (entry.stem, PICTURE_SUFFIXES.index(entry.suffix.lower())))
