"""The strip: every animal whole, on one ground, at one scale."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image
from tests.testing.animals import quadruped

from farm3d.export.filmstrip import ROWS, draw_strip_panels, filmstrip, strip_frame
from farm3d.motion.clips import make_clips


def test_animals_are_whole_and_to_scale() -> None:
    tall, small = quadruped(texture_px=16), quadruped(texture_px=16).replace(height_m=0.95)  # half as tall
    frame = strip_frame([small, tall])
    shown = []
    for animal in (tall, small):
        panels = draw_strip_panels(animal, make_clips(animal), frame)
        assert len(panels) == len(ROWS)
        for panel in panels:
            inside = np.abs(panel.astype(int) - panel[2, 2]).max(-1) > 6
            assert not inside[[0, -1]].any() and not inside[:, [0, -1]].any()  # nothing is cut
        rows = np.nonzero(inside.any(1))[0]
        shown.append((len(rows), rows[-1]))
    (tall_px, tall_foot), (small_px, small_foot) = shown
    assert abs(tall_px / small_px - 2) < 0.15 and tall_foot - small_foot < 0.1 * tall_px and tall_px > 100


def test_a_long_strip_goes_on_below() -> None:
    panels = [np.full((256, 256, 3), 90, np.uint8)] * 2
    sizes = []
    for count in (2, 6, 7):
        with Image.open(io.BytesIO(filmstrip([("a", panels)] * count))) as page:
            assert "farm3d" in page.info["Software"]
            sizes.append(page.size)
    assert sizes[0][0] < sizes[1][0] == sizes[2][0] and sizes[0][1] == sizes[1][1] < sizes[2][1]
