"""Masks of every kind mean the same silhouette; of several shapes one animal is kept, with its legs and without its lead rope."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from farm3d.core.errors import InputError
from farm3d.data.masks import one_animal, read_mask

WIDTH, HEIGHT = 120, 90


def ellipse(
    centre: tuple[float, float] = (60, 45), radii: tuple[float, float] = (30, 18), *, size: tuple[int, int] = (WIDTH, HEIGHT)
) -> np.ndarray:
    """A filled ellipse, True inside; pixel centres at +0.5."""
    y, x = np.mgrid[: size[1], : size[0]] + 0.5
    return ((x - centre[0]) / radii[0]) ** 2 + ((y - centre[1]) / radii[1]) ** 2 <= 1


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float(((a > 0.5) & (b > 0.5)).sum() / ((a > 0.5) | (b > 0.5)).sum())


def masks_of_every_kind(solid: np.ndarray) -> dict[str, tuple[Image.Image, str]]:
    white = Image.fromarray(solid.astype(np.uint8) * 255)
    palette = Image.fromarray(solid.astype(np.uint8)).convert("P")
    palette.putpalette([0, 0, 0, 128, 0, 0])  # object 1 of the usual label colours is a dark red
    red = Image.fromarray(np.dstack([solid * 255, solid * 0, solid * 0]).astype(np.uint8))
    cutout = Image.fromarray(np.dstack([np.full((*solid.shape, 3), 30, np.uint8), solid.astype(np.uint8) * 255]))
    return {
        "0 and 255": (white, "png"),
        "0 and 1": (Image.fromarray(solid.astype(np.uint8)), "png"),
        "grey JPEG": (white, "jpg"),
        "WebP": (white.convert("RGB"), "webp"),
        "1 bit": (white.convert("1"), "png"),
        "RGB": (white.convert("RGB"), "png"),
        "red on black": (red, "png"),
        "palette": (palette, "png"),
        "RGBA, opaque": (white.convert("RGBA"), "png"),
        "cutout with transparency": (cutout, "png"),
        "16 bit": (Image.fromarray(solid.astype(np.uint16) * 65535), "png"),
        "label numbers": (Image.fromarray(solid.astype(np.uint8) * 7), "png"),
        "twice the size": (white.resize((2 * WIDTH, 2 * HEIGHT), Image.Resampling.NEAREST), "png"),
        "1 px larger": (white.resize((WIDTH + 1, HEIGHT + 1), Image.Resampling.NEAREST), "png"),
    }


@pytest.mark.parametrize("kind", masks_of_every_kind(ellipse()))
def test_masks_of_every_kind_mean_the_same(tmp_path: Path, kind: str) -> None:
    image, suffix = masks_of_every_kind(ellipse())[kind]
    path = tmp_path / f"mask.{suffix}"
    options: dict[str, Any] = {"lossless": True} if suffix == "webp" else {}
    image.save(path, **options)
    coverage = read_mask(path, (WIDTH, HEIGHT))
    assert coverage.shape == (HEIGHT, WIDTH) and coverage.dtype == np.float32
    assert coverage.min() == 0 and coverage.max() == 1
    assert iou(coverage, ellipse()) > (0.95 if "px" in kind else 0.985)


def test_soft_masks_stay_soft(tmp_path: Path) -> None:
    values = np.tile(np.linspace(0, 254, WIDTH).astype(np.uint8), (HEIGHT, 1))
    Image.fromarray(values).save(tmp_path / "m.png")
    assert np.allclose(read_mask(tmp_path / "m.png", (WIDTH, HEIGHT)), values / 255)


def test_masks_of_another_size_are_refused_with_both_sizes(tmp_path: Path) -> None:
    Image.fromarray(ellipse().astype(np.uint8) * 255).resize((130, 90)).save(tmp_path / "m.png")
    with pytest.raises(InputError, match=r"m\.png: a mask of another size: 130x90 pixels, the photo has 120x90"):
        read_mask(tmp_path / "m.png", (WIDTH, HEIGHT))
    Image.fromarray(ellipse().T.astype(np.uint8) * 255).save(tmp_path / "t.png")
    with pytest.raises(InputError, match="EXIF"):
        read_mask(tmp_path / "t.png", (WIDTH, HEIGHT))


def kept(coverage: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    found = one_animal(coverage.astype(np.float32))
    assert found is not None
    return found


def test_of_several_animals_the_largest_is_kept_and_the_number_said() -> None:
    large, middle, speck = ellipse((40, 30), (25, 15)), ellipse((95, 60), (15, 12)), ellipse((20, 80), (3, 3))
    coverage, warnings = kept(large | middle | speck)
    assert np.array_equal(coverage > 0.5, large)
    assert warnings == ("found 2 animals, kept the largest",)


def test_legs_cut_off_by_a_fence_stay_with_the_body() -> None:
    animal = ellipse((60, 30), (35, 15))
    for x in (35, 42, 78, 85):
        animal[40:80, x : x + 5] = True
    behind_fence = animal.copy()
    behind_fence[55:58] = False
    coverage, warnings = kept(behind_fence)
    assert np.array_equal(coverage > 0.5, behind_fence) and warnings == ()


def test_a_segmenters_lead_rope_is_cut_off_and_legs_are_not() -> None:
    animal = ellipse((200, 120), (110, 55), size=(400, 300))
    for x in (110, 140, 250, 280):
        animal[140:260, x : x + 14] = True  # 9 % of the square root of the area, as real legs are
    animal[57:77, 150:153] = True  # an ear: thin, but short
    roped = animal.copy()
    roped[100:103, :95] = True
    found = one_animal(roped.astype(np.float32), drop_threads=True)
    assert found is not None
    assert iou(found[0], animal) > 0.99 and found[1] == () and not found[0][:, :80].any()
    assert (found[0] > 0.5)[57:72, 150:153].mean() > 0.9
    assert np.array_equal(kept(roped)[0] > 0.5, roped), "a mask given by hand is left as it is"


def test_the_same_is_kept_in_a_large_picture() -> None:
    large, other = ellipse((40, 30), (25, 15)), ellipse((95, 60), (15, 12))
    big = np.kron((large | other), np.ones((25, 25), bool))
    coverage, warnings = kept(big)
    assert coverage.shape == (25 * HEIGHT, 25 * WIDTH)
    assert iou(coverage, np.kron(large, np.ones((25, 25)))) > 0.999 and len(warnings) == 1


@pytest.mark.parametrize(
    ("centre", "words"),
    [
        ((60, 45), None),
        ((25, 45), "left border"),
        ((100, 45), "right border"),
        ((60, 10), "top border"),
        ((60, 80), "bottom border"),
        ((10, 85), "left and bottom borders"),
    ],
)
def test_a_cut_animal_is_named_with_the_side(centre: tuple[float, float], words: str | None) -> None:
    _, warnings = kept(ellipse(centre))
    assert warnings == (() if words is None else (f"the animal is cut by the picture's {words}",))
