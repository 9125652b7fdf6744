"""What the frozen backbone sees in pictures of animals: small maps, kept on disk, and their means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from farm3d.core.errors import InputError
from farm3d.core.files import whole_file
from farm3d.core.random import numpy_generator
from farm3d.core.shapes import Float, Tensor
from farm3d.model.caption_reader import GREY, pooled_map, pooled_mask
from farm3d.model.encoder import ImageEncoder

__all__ = ["Features", "cut_out", "features_of", "pooled"]

_AT_ONCE = 16
_SMALLEST_BLUR = 0.4


@dataclass(frozen=True, eq=False)
class Features:
    """Of N pictures.

    Attributes:
        maps: of the backbone, float16, ``[N, C, 8, 8]``.
        masks: coverage, float16, ``[N, 32, 32]``; zero where the model draws none.
    """

    maps: np.ndarray
    masks: np.ndarray

    def __len__(self) -> int:
        return len(self.maps)

    def pick(self, numbers: np.ndarray) -> Features:
        """Return those of some pictures."""
        return Features(self.maps[numbers], self.masks[numbers])


def cut_out(pixels: np.ndarray, *, masked: bool) -> tuple[Float[Tensor, "B 3 S S"], Float[Tensor, "B S S"]]:
    """Return pictures as float, with the animal on grey so that the background decides nothing; without masks, as they are.

    Args:
        pixels: sRGB and coverage, uint8, ``[B, 4, S, S]``.
    """
    values = torch.from_numpy(np.array(pixels)).float() / 255
    rgb, alpha = values[:, :3], values[:, 3]
    if not masked:
        return rgb, torch.zeros_like(alpha)
    return torch.lerp(torch.full_like(rgb, GREY), rgb, alpha[:, None]), alpha


@torch.no_grad()
def features_of(
    pixels: np.ndarray,
    encoder: ImageEncoder,
    *,
    masked: bool,
    path: Path | None = None,
    blur_seed: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Features:
    """Return the features of pictures, from ``path`` if they are there, else computed and kept there.

    Args:
        pixels: sRGB and coverage, uint8, ``[N, 4, S, S]``.
        masked: whether the pictures come with their masks; see :func:`cut_out`.
        path: ``NAME.npz``; None keeps nothing.
        blur_seed: blur every second picture (1, 3, …) by chance, so that a classifier does not hang on sharpness.
        on_progress: told how many pictures are done, and of how many.

    Raises:
        InputError: what lies at ``path`` is not of these pictures.
    """
    if path is not None and path.is_file():
        with np.load(path, allow_pickle=False) as kept:
            found = Features(kept["maps"], kept["masks"])
        if len(found) != len(pixels):
            raise InputError(f"{path}: features of {len(found)} pictures, but there are {len(pixels)}", hint="delete the file")
        return found
    maps, masks = [], []
    for begin in range(0, len(pixels), _AT_ONCE):
        rgb, alpha = cut_out(pixels[begin : begin + _AT_ONCE], masked=masked)
        if blur_seed is not None:
            rgb = torch.stack([_blurred(picture, begin + i, blur_seed) for i, picture in enumerate(rgb)])
        maps.append(pooled_map(encoder, rgb).half().numpy())
        masks.append(pooled_mask(alpha).half().numpy())
        if on_progress is not None:
            on_progress(begin + len(rgb), len(pixels))
    features = Features(np.concatenate(maps), np.concatenate(masks))
    if path is not None:
        with whole_file(path) as part, part.open("wb") as file:
            np.savez(file, maps=features.maps, masks=features.masks)
    return features


def pooled(features: Features) -> np.ndarray:
    """Return the mean of each channel over the map, float64, ``[N, C]``."""
    return features.maps.astype(np.float64).mean((2, 3))


def _blurred(picture: Tensor, number: int, seed: int) -> Tensor:
    if number % 2 == 0:
        return picture
    size = picture.shape[-1]
    small = max(int(size * float(numpy_generator(seed, "blur", number).uniform(_SMALLEST_BLUR, 1))), 8)
    less = functional.interpolate(picture[None], (small, small), mode="bilinear", align_corners=False, antialias=True)
    return functional.interpolate(less, (size, size), mode="bilinear", align_corners=False)[0]
