"""Silhouettes by hand, one for each reason; and copies told from pictures that only look alike."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from farm3d.training.dataset import filters
from farm3d.training.dataset.filters import RULES, near_copies, reason_against, thumbnail


def silhouette(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    """Return coverage of 100 x 100 with boxes (left, top, right, bottom)."""
    coverage = np.zeros((100, 100), np.float32)
    for left, top, right, bottom in boxes:
        coverage[top:bottom, left:right] = 1
    return coverage


@pytest.mark.parametrize(
    ("boxes", "reason"),
    [
        ([(30, 30, 70, 70)], None),
        ([(30, 30, 70, 70), (80, 50, 83, 53)], None),  # a speck is put aside by the door that follows
        ([], filters.NO_ANIMAL),
        ([(50, 50, 56, 58)], filters.NO_ANIMAL),
        ([(40, 40, 60, 64)], filters.TOO_SMALL),
        ([(5, 5, 95, 95)], filters.TOO_LARGE),
        ([(0, 30, 50, 70)], filters.BORDER),
        ([(30, 30, 70, 100)], filters.BORDER),
        ([(30, 30, 70, 70), (0, 99, 1, 100)], None),  # one pixel of the outline on the border is none
        ([(10, 30, 45, 60), (55, 30, 90, 60)], filters.SEVERAL),
        ([(30, 30, 70, 70), (5, 5, 13, 13), (80, 80, 88, 88)], filters.IN_PIECES),
    ],
)
def test_each_silhouette_has_its_reason(boxes: list, reason: str | None) -> None:
    assert reason_against(silhouette(*boxes)) == reason


def animal(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a picture and mask of 64 px: a patchy body on four legs, drawn from a seed."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((64, 64), np.uint8)
    left, top = int(rng.integers(12, 18)), int(rng.integers(16, 24))
    mask[top : top + 18, left : left + 32] = 255
    for leg in range(4):
        x = left + int(rng.integers(0, 6)) + 8 * leg
        mask[top + 18 : top + 34, x : x + 3] = 255
    coat = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize((64, 64), Image.Resampling.BICUBIC)
    rgb = np.asarray(coat).copy()
    rgb[mask == 0] = rng.integers(0, 256, 3)
    return rgb, mask


def jpeg(rgb: np.ndarray) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "JPEG", quality=92, subsampling=0)
    return np.asarray(Image.open(buffer))


def test_a_copy_is_found_though_darkened_and_compressed_and_others_are_not() -> None:
    pictures = [animal(seed) for seed in range(40)]
    darker = [(jpeg((rgb * 0.95).astype(np.uint8)), mask) for rgb, mask in pictures[:10]]
    thumbnails = [thumbnail(*picture) for picture in pictures + darker]
    assert near_copies(thumbnails) == {40 + i: i for i in range(10)}


def test_the_background_says_nothing() -> None:
    rgb, mask = animal(3)
    elsewhere = np.where(mask[..., None] > 0, rgb, 255 - rgb)
    assert thumbnail(rgb, mask) == thumbnail(elsewhere, mask)


def test_the_first_of_several_copies_stays_and_rows_without_a_picture_are_passed_over() -> None:
    one, other = thumbnail(*animal(0)), thumbnail(*animal(1))
    assert near_copies([None, one, other, one, None, one]) == {3: 1, 5: 1}
    assert near_copies([]) == {} and near_copies([None]) == {}


def test_what_is_compared_first_hides_no_copy() -> None:
    """The answers are those of comparing each with each."""
    rng = np.random.default_rng(5)
    pictures = [
        (np.clip(animal(seed % 30)[0].astype(int) + rng.normal(0, 25), 0, 255).astype(np.uint8), animal(seed % 30)[1]) for seed in range(90)
    ]
    cells = [np.frombuffer(base64.b64decode(thumbnail(*picture)), np.uint8).reshape(16, 16, 4).astype(int) for picture in pictures]
    kept: list[int] = []
    expected = {}
    for number, one in enumerate(cells):
        union = [np.maximum(one[..., 3], cells[other][..., 3]).sum() / 255 for other in kept]
        near = [o for o, u in zip(kept, union, strict=True) if np.abs(one - cells[o]).sum() / 4 / u <= RULES["copy_levels"]]
        if near:
            expected[number] = near[0]
        else:
            kept.append(number)
    assert near_copies([thumbnail(*picture) for picture in pictures]) == expected and 10 < len(expected) < 60


def test_a_set_that_grows_keeps_its_answers() -> None:
    thumbnails = [thumbnail(*animal(seed % 7)) for seed in range(20)]
    short, long = near_copies(thumbnails[:9]), near_copies(thumbnails)
    assert short == {later: earlier for later, earlier in long.items() if later < 9}
