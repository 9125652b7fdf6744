"""Pictures framed alike: the animal's box in the middle, its longer side four fifths of the picture, a little looser or tighter at random.

Where the animal stands says nothing about it, but a model has to spend itself on it: with the barn's own framing, the mean silhouette of a
species and view explained 4 % of the variance of silhouettes, framed 15 %. What asks the prior about a picture should frame it so too.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

__all__ = ["FILL", "framed"]

FILL = (0.74, 0.86)  # longer side of the animal's box, as a share of the picture
_SHIFT = 0.03
_SMOOTH = Image.Resampling.BICUBIC


def framed(rgb: np.ndarray, alpha: np.ndarray, *, size_px: int, rng: np.random.Generator) -> np.ndarray:
    """Cut a square around the animal, and beyond the picture's border go on with what is at the border.

    Args:
        rgb: sRGB bytes, ``[H, W, 3]``.
        alpha: coverage, bytes, ``[H, W]``.
        size_px: side of what is returned.
        rng: decides how tight and how far off the middle.

    Returns:
        uint8 ``[4, S, S]``, colours and coverage.

    Raises:
        ValueError: there is no animal in the picture.
    """
    rows, columns = np.flatnonzero((alpha > 127).any(1)), np.flatnonzero((alpha > 127).any(0))
    if not len(rows):
        raise ValueError("no animal in the picture")
    low, high = np.array([columns[0], rows[0]]), np.array([columns[-1], rows[-1]]) + 1
    side = float((high - low).max()) / rng.uniform(*FILL)
    middle = (low + high) / 2 + rng.uniform(-_SHIFT, _SHIFT, 2) * side
    pad = max(0, int(np.ceil(max(-(middle - side / 2).min(), (middle + side / 2 - alpha.shape[::-1]).max()))))
    left, top = middle - side / 2 + pad
    box = (left, top, left + side, top + side)
    around = np.pad(rgb, ((pad, pad), (pad, pad), (0, 0)), mode="edge"), np.pad(alpha, pad)
    colours, cover = (np.asarray(Image.fromarray(part).resize((size_px, size_px), _SMOOTH, box=box)) for part in around)
    return np.concatenate([colours.transpose(2, 0, 1), cover[None]])
