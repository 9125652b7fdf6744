"""From a picture and its silhouette to what a row of a training set holds: crop, mask, and the facts about them."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from farm3d.core.shapes import Float, Tensor
from farm3d.data.photo import Photo
from farm3d.data.preprocess import Silhouette, make_crop
from farm3d.model.encoder import Encoder
from farm3d.structures import Crop
from farm3d.training.dataset.filters import thumbnail

__all__ = ["LOOK_PX", "cut_out", "decoded", "json_bytes", "resized"]

LOOK_PX = 256
"""Side at which the backbone looks at crops, whatever their own: it was fitted and its threshold measured at this size."""


def cut_out(
    photo: Photo, silhouette: Silhouette, *, size_px: int, encoder: Encoder, crop: Crop | None = None
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Return the members ``rgb.png`` and ``mask.png`` of a row, and the facts about them.

    The crop is the one that ``farm3d reconstruct`` makes (section 1.2, grown where the outline sticks out); give it where it is there.

    Raises:
        NoAnimalError: the silhouette is empty.
    """
    crop = crop or make_crop(photo, silhouette, size_px=size_px)
    rgb, mask = _bytes_of(crop.image.permute(1, 2, 0)), _bytes_of(crop.mask)
    with torch.no_grad():
        look = resized(torch.cat([crop.image, crop.mask[None]])[None], LOOK_PX)
        probability = encoder.animal_probability(look[:, :3], look[:, 3])[0].item()
    facts = {
        "mask_source": silhouette.source,
        "box_px": list(crop.box_px),
        "source_size_px": list(photo.size_px),
        "size_px": size_px,
        "animal_probability": round(probability, 4),
        "thumbnail": thumbnail(rgb, mask),
        "warnings": list(crop.warnings),
    }
    return {"rgb.png": _png(rgb), "mask.png": _png(mask)}, facts


def decoded(members: Mapping[str, bytes]) -> tuple[Float[Tensor, "3 S S"], Float[Tensor, "S S"]]:
    """Return crop and mask of a row, in [0, 1].

    Raises:
        OSError, ValueError: they are no pictures.
    """
    rgb, mask = (np.asarray(Image.open(io.BytesIO(members[name])).convert(mode)) for name, mode in (("rgb.png", "RGB"), ("mask.png", "L")))
    return torch.from_numpy(rgb.transpose(2, 0, 1).astype(np.float32) / 255), torch.from_numpy(mask.astype(np.float32) / 255)


def json_bytes(values: Mapping[str, Any]) -> bytes:
    """Return a row's facts as they are stored."""
    return (json.dumps(values, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()


def resized(pictures: Float[Tensor, "B C H W"], size_px: int) -> Float[Tensor, "B C S S"]:
    """Return pictures of another side, bilinear and antialiased."""
    if pictures.shape[-1] == size_px:
        return pictures
    return functional.interpolate(pictures, (size_px, size_px), mode="bilinear", align_corners=False, antialias=True)


def _bytes_of(values: Tensor) -> np.ndarray:
    return np.ascontiguousarray((values * 255).round().byte().numpy())


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
