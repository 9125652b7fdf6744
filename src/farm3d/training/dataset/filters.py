"""Which drawn pictures are of use: one whole animal of a sensible size; and which of those kept are copies of each other.

Section 1.1's rules on silhouettes, each with a name that the row and the report carry. A silhouette is judged as it was drawn or found,
before pieces are put aside.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence

import numpy as np
from PIL import Image
from scipy import ndimage

__all__ = [
    "BORDER",
    "IN_PIECES",
    "NOT_QUADRUPED",
    "NOT_FINITE",
    "NOT_THE_ANIMAL",
    "NOT_THE_VIEW",
    "NO_ANIMAL",
    "READ_RULES",
    "RULES",
    "SEVERAL",
    "TOO_LARGE",
    "TOO_SMALL",
    "near_copies",
    "reason_against",
    "thumbnail",
]

NO_ANIMAL = "no animal"
SEVERAL = "several animals"
BORDER = "touches the border"
TOO_SMALL = "too small"
TOO_LARGE = "too large"
IN_PIECES = "in pieces"
NOT_QUADRUPED = "not a four-legged animal"
NOT_FINITE = "not finite"
NOT_THE_ANIMAL = "another animal than asked"
NOT_THE_VIEW = "another view than asked"

_CELLS = 16

RULES: dict[str, float] = {
    "least_share": 0.05,
    "most_share": 0.60,
    "border_of_perimeter": 0.01,
    "apart_of_largest": 0.10,
    "largest_piece": 0.95,
    "copy_levels": 21,
}
"""The numbers behind the reasons; they are part of a data set's recipe.

Shares are of the picture's area. ``border_of_perimeter``: of the outline that may lie on the picture's border. ``apart_of_largest``: a
piece of this share of the largest is an animal of its own. ``largest_piece``: share of the silhouette that its largest piece must have.
``copy_levels``: so many of 255 levels may thumbnails of copies differ, over the cells where either animal is. Pictures of the barn at
128 px that were shifted by three pixels, darkened by 8 % and saved as JPEG differ from themselves by 19.1 at most (240 of them); the
nearest two of 800 that differ, often of one individual, by 23.5. A hash of brightness differences was tried first: it takes all animals
seen from the front for copies, since a narrow one sets few of its bits.
"""


READ_RULES: dict[str, float] = {"species_from": 0.4, "view_from": 0.4}
"""What the caption reader must find, part of a recipe where it is asked: the probabilities of the asked species and of the asked view.

A donkey that may be a horse passes. Of the views, the next one is .1 to .3 where a picture lies near a border of two, and the one behind
nearly all or nothing.
"""


def reason_against(coverage: np.ndarray) -> str | None:
    """Return why a silhouette is of no use, or None.

    Args:
        coverage: ``[H, W]`` in [0, 1], of the whole picture.
    """
    solid = coverage > 0.5
    share = float(solid.mean())
    if share < 0.1 * RULES["least_share"]:
        return NO_ANIMAL
    if share > RULES["most_share"]:
        return TOO_LARGE
    if _on_border(solid) > RULES["border_of_perimeter"] * _perimeter(solid):
        return BORDER
    labels = np.zeros(solid.shape, np.int32)
    ndimage.label(solid, np.ones((3, 3), int), output=labels)
    areas = np.sort(np.bincount(labels.ravel())[1:])[::-1]
    if len(areas) > 1 and areas[1] >= RULES["apart_of_largest"] * areas[0]:
        return SEVERAL
    if areas[0] < RULES["largest_piece"] * areas.sum():
        return IN_PIECES
    return TOO_SMALL if share < RULES["least_share"] else None


def thumbnail(rgb: np.ndarray, mask: np.ndarray) -> str:
    """Return colours and coverage of a crop on 16 x 16 cells, in base64: what :func:`near_copies` compares.

    Behind the animal lies grey: a plain background, which many pictures share, says nothing.

    Args:
        rgb: ``[S, S, 3]`` uint8.
        mask: coverage, ``[S, S]`` uint8.
    """
    cover = mask[..., None].astype(np.float32) / 255
    animal = (rgb * cover + 128 * (1 - cover)).round().astype(np.uint8)
    small = Image.fromarray(np.dstack([animal, mask])).resize((_CELLS, _CELLS), Image.Resampling.BOX)
    return base64.b64encode(small.tobytes()).decode()


def near_copies(thumbnails: Sequence[str | None]) -> dict[int, int]:
    """Return, for each number whose thumbnail is nearly that of an earlier kept one, that one's number.

    In the order given, so that the first of several copies stays and what comes later changes nothing before it. None is passed over.
    """
    numbers = [number for number, text in enumerate(thumbnails) if text]
    data = b"".join(base64.b64decode(text) for text in thumbnails if text)
    cells = np.frombuffer(data, np.uint8).astype(np.int16).reshape(len(numbers), _CELLS, _CELLS, 4)
    # Sums over many cells, and over 4 x 4 of them, differ by no more than the cells do: what they tell apart needs no closer look.
    whole = cells.sum((1, 2), dtype=np.int32)
    coarse = cells.reshape(len(numbers), 4, _CELLS // 4, 4, _CELLS // 4, 4).sum((2, 4), dtype=np.int32).reshape(len(numbers), 64)
    areas = cells[..., 3].sum((1, 2), dtype=np.int64)
    kept, count = np.empty(len(numbers), np.int64), 0
    copies: dict[int, int] = {}
    for row, number in enumerate(numbers):
        earlier = kept[:count]
        bound = RULES["copy_levels"] * 4 / 255
        near = earlier[np.abs(whole[earlier] - whole[row]).sum(1) <= bound * (areas[earlier] + areas[row])]
        near = near[np.abs(coarse[near] - coarse[row]).sum(1) <= bound * (areas[near] + areas[row])]
        union = np.maximum(cells[near, ..., 3], cells[row, ..., 3]).sum((1, 2))
        found = near[np.abs(cells[near] - cells[row]).sum((1, 2, 3)) <= bound * union]
        if len(found):
            copies[number] = numbers[int(found[0])]
        else:
            kept[count] = row
            count += 1
    return copies


def _on_border(solid: np.ndarray) -> int:
    ring = np.ones(solid.shape, bool)
    ring[1:-1, 1:-1] = False
    return int((solid & ring).sum())


def _perimeter(solid: np.ndarray) -> int:
    """Count the pixels of a silhouette that have a neighbour outside of it, or lie on the border."""
    return int((solid & ~np.asarray(ndimage.binary_erosion(solid), bool)).sum())
