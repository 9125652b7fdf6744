"""Photographs and masks in folders: which files are photos, and which mask belongs to which."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from farm3d.core.errors import InputError
from farm3d.data.photo import shown_path

__all__ = ["find_masks", "list_photos", "masks_beside"]

_SUFFIXES = (".png", ".webp", ".jpg", ".jpeg")


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
        elsewhere = os.path.realpath(photo.parent) != os.path.realpath(mask)  # Path.resolve raises on a link that leads to itself
        pairs[photo] = by_stem.get(f"{photo.stem}_mask") or (by_stem.get(photo.stem) if elsewhere else None)
    if photos and not any(pairs.values()):
        raise InputError(
            f"{where}: no mask for any of the photos in this folder", hint=f"expected for example {shown_path(photos[0].stem)}_mask.png"
        )
    return pairs


def masks_beside(photos: Sequence[Path]) -> list[Path]:
    """Return the files ``NAME_mask.*`` that lie beside photos; they are used where their folder is named as the place of masks."""
    every = [photo.with_name(f"{photo.stem}_mask{suffix}") for photo in photos for suffix in _SUFFIXES]
    return [path for path in every if os.path.isfile(path)]


def _pictures_in(folder: Path) -> list[Path]:
    """Return the pictures of a folder by name; of equal stems the lossless format first."""
    try:
        names = [entry for entry in folder.iterdir() if entry.suffix.lower() in _SUFFIXES and not entry.name.startswith(".")]
        entries = [entry for entry in names if not os.path.isdir(entry)]
    except OSError as error:
        raise InputError(f"{shown_path(folder)}: this folder cannot be read: {error.strerror or error}") from error
    return sorted(entries, key=lambda entry: (entry.stem, _SUFFIXES.index(entry.suffix.lower())))
