"""A training set from the user's own photographs: the same rows as drawn ones; a photograph of no use becomes a row that says why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from farm3d.core.errors import InputError, NoAnimalError
from farm3d.core.files import sha256_of
from farm3d.core.shards import Draw, ShardPlan
from farm3d.data.folders import find_masks, list_photos
from farm3d.data.photo import load_photo, shown_path
from farm3d.data.preprocess import find_mask
from farm3d.data.segment import OnnxSegmenter
from farm3d.model.encoder import NO_ANIMAL_BELOW, Encoder
from farm3d.training.dataset.captions import find_captions, view_of_caption
from farm3d.training.dataset.cutting import cut_out, json_bytes
from farm3d.training.dataset.drawing import FORMAT
from farm3d.training.dataset.filters import NOT_QUADRUPED
from farm3d.training.dataset.phrases import VIEW_NAMES

__all__ = ["PREPARED_BY", "PhotoSettings", "open_photographs", "photo_settings"]

PREPARED_BY = "farm3d prepare-data"


@dataclass(frozen=True)
class PhotoSettings:
    """All that decides the bytes, and where the photographs lie.

    Attributes:
        name: of the data set; starts every key.
        category: what they show, if it was said.
        photos: by file name; masks: those that have one.
        photo_digests, mask_digests: sha256 of each; empty for a file that cannot be read.
        captions: what the photographs that have a caption show.
        size_px: side of the crops.
        any_animal: keep what the backbone does not take for a four-legged animal.
        mask_model: ONNX segmenter for photographs without mask and transparency; mask_digest: its sha256, None if there is none.
    """

    name: str
    category: str | None
    photos: tuple[Path, ...]
    masks: Mapping[Path, Path | None]
    photo_digests: Mapping[str, str]
    mask_digests: Mapping[str, str]
    captions: Mapping[Path, str] = field(default_factory=dict)
    size_px: int = 256
    any_animal: bool = False
    mask_model: Path | None = None
    mask_digest: str | None = None

    def plan(self, per_shard: int) -> ShardPlan:
        """Return the plan: the content of every file is part of the recipe, so that a changed photograph is noticed."""
        recipe: dict[str, Any] = {
            "made_by": PREPARED_BY,
            "format": FORMAT,
            "category": self.category,
            "size_px": self.size_px,
            "animal_from": None if self.any_animal else NO_ANIMAL_BELOW,
            "mask_model": self.mask_digest,
            "photos": dict(self.photo_digests),
            "masks": dict(self.mask_digests),
        }
        if self.captions:  # without any, a plan is what it was before there were captions
            recipe["captions"] = {shown_path(photo.name): caption for photo, caption in self.captions.items()}
        return ShardPlan(self.name, recipe, len(self.photos), per_shard)


def photo_settings(folder: Path, masks: Path | None, **others: Any) -> PhotoSettings:
    """Find the photographs of a folder and their masks, and read every byte of them once.

    Raises:
        InputError: no such folder, no picture in it, no mask for any of them, or a caption that cannot be read.
    """
    if not folder.is_dir():
        raise InputError(f"{shown_path(folder)}: no such folder", hint="give a folder of JPEG, PNG or WebP pictures")
    photos = list_photos(folder)
    pairs = find_masks(photos, masks if masks is not None else _beside(folder, photos))
    return PhotoSettings(
        photos=tuple(photos),
        masks=pairs,
        photo_digests={shown_path(photo.name): _digest(photo) for photo in photos},
        mask_digests={shown_path(photo.name): _digest(mask) for photo, mask in pairs.items() if mask is not None},
        captions=find_captions(photos),
        **others,
    )


def open_photographs(settings: PhotoSettings) -> Draw:
    """Load what is needed, in the process that works; one thread, since photographs are shared out between processes."""
    torch.set_num_threads(1)
    encoder = Encoder.from_pretrained()
    segmenter = None if settings.mask_digest is None else OnnxSegmenter(settings.mask_model, threads=1)

    def one(number: int) -> tuple[str, dict[str, bytes]]:
        path = settings.photos[number]
        key = f"{settings.name}-{number:06d}"
        caption = settings.captions.get(path)
        view = None if caption is None else view_of_caption(caption)
        row: dict[str, Any] = {
            "key": key,
            "category": settings.category,
            "file": shown_path(path.name),
            "view": view,
            "view_name": None if view is None else VIEW_NAMES[view],
            "action": None,
            "coat": None,
            "rejected": [],
        }
        if caption is not None:
            row["prompt"] = caption
        try:
            photo = load_photo(path)
            silhouette = find_mask(photo, settings.masks[path], segmenter=segmenter)
            members, facts = cut_out(photo, silhouette, size_px=settings.size_px, encoder=encoder)
        except (InputError, NoAnimalError) as error:
            return key, {"json": json_bytes({**row, "failed": _placeless(error.message, settings, path)})}
        # As `reconstruct`: who marks the animal knows better than the backbone.
        doubted = silhouette.source == "segmenter" and facts["animal_probability"] < NO_ANIMAL_BELOW
        if doubted and not settings.any_animal:
            return key, {"json": json_bytes({**row, "failed": NOT_QUADRUPED, "animal_probability": facts["animal_probability"]})}
        return key, {**members, "json": json_bytes({**row, **facts})}

    return one


def _beside(folder: Path, photos: list[Path]) -> Path | None:
    """Return the photographs' own folder where it holds a ``NAME_mask.*`` for one of them."""
    stems = {photo.stem for photo in photos}
    masks = (entry for entry in folder.iterdir() if entry.stem.endswith("_mask"))
    return folder if any(entry.stem.removesuffix("_mask") in stems for entry in masks) else None


def _digest(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError:
        return ""  # its row will say why it cannot be read


def _placeless(message: str, settings: PhotoSettings, path: Path) -> str:
    """Leave out the folder: equal photographs give equal bytes wherever they lie."""
    for file in (path, settings.masks[path]):
        if file is not None:
            message = message.replace(shown_path(file), shown_path(file.name))
    return message
