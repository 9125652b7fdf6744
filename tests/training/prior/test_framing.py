"""The animal ends up in the middle, as large as said, whatever the picture; nothing of it is invented beyond the border."""

from __future__ import annotations

import numpy as np
import pytest

from farm3d.training.prior.framing import FILL, framed


def picture(size: int, box: tuple[int, int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """An orange box (left, top, right, bottom) on a grey ramp."""
    rgb = np.repeat(np.linspace(40, 200, size).astype(np.uint8)[None, :, None], size, 0).repeat(3, 2)
    alpha = np.zeros((size, size), np.uint8)
    left, top, right, bottom = box
    rgb[top:bottom, left:right] = (230, 120, 20)
    alpha[top:bottom, left:right] = 255
    return rgb, alpha


@pytest.mark.parametrize("size, box", [(128, (50, 40, 100, 70)), (128, (2, 3, 20, 60)), (200, (20, 60, 190, 198)), (64, (0, 0, 64, 64))])
def test_the_box_is_where_and_as_large_as_it_should(size: int, box: tuple[int, int, int, int]) -> None:
    rgb, alpha = picture(size, box)
    for seed in range(8):
        out = framed(rgb, alpha, size_px=96, rng=np.random.default_rng(seed))
        assert out.shape == (4, 96, 96) and out.dtype == np.uint8
        rows, columns = np.flatnonzero((out[3] > 127).any(1)), np.flatnonzero((out[3] > 127).any(0))
        height, width = rows[-1] + 1 - rows[0], columns[-1] + 1 - columns[0]
        assert FILL[0] * 96 - 1.5 <= max(height, width) <= FILL[1] * 96 + 1.5
        assert width / height == pytest.approx((box[2] - box[0]) / (box[3] - box[1]), rel=0.12)
        for found in (rows, columns):
            assert abs((found[0] + found[-1] + 1) / 2 - 48) <= 0.03 * 96 + 1
        inside = out[:3, rows[0] + 2 : rows[-1] - 1, columns[0] + 2 : columns[-1] - 1]
        assert np.abs(inside.astype(int) - np.array([230, 120, 20])[:, None, None]).max() <= 3


def test_beyond_the_border_there_is_background_only() -> None:
    rgb, alpha = picture(128, (2, 3, 60, 40))
    out = framed(rgb, alpha, size_px=128, rng=np.random.default_rng(0))
    orange = (out[0].astype(int) - out[2] > 100) & (out[3] < 10)
    assert not orange.any()


def test_equal_streams_frame_alike_and_an_empty_picture_is_refused() -> None:
    rgb, alpha = picture(64, (20, 20, 40, 50))
    one, other, third = (framed(rgb, alpha, size_px=32, rng=np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, other) and not np.array_equal(one, third)
    with pytest.raises(ValueError, match="no animal"):
        framed(rgb, np.zeros_like(alpha), size_px=32, rng=np.random.default_rng(0))
