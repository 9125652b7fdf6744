"""A mask is found in its order of preference, and the crop obeys section 1.2 to a fraction of a pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from farm3d.core.errors import InputError, NoAnimalError
from farm3d.core.random import numpy_generator
from farm3d.data.photo import Photo, photo_from_image
from farm3d.data.preprocess import Silhouette, find_mask, find_masks, list_photos, make_crop

WIDTH, HEIGHT = 120, 90


def ellipse(
    centre: tuple[float, float] = (60, 45), radii: tuple[float, float] = (30, 18), *, size: tuple[int, int] = (WIDTH, HEIGHT)
) -> np.ndarray:
    """A filled ellipse, True inside; pixel centres at +0.5."""
    y, x = np.mgrid[: size[1], : size[0]] + 0.5
    return ((x - centre[0]) / radii[0]) ** 2 + ((y - centre[1]) / radii[1]) ** 2 <= 1


def photo_of(size: tuple[int, int] = (WIDTH, HEIGHT), *, alpha: np.ndarray | None = None) -> Photo:
    rgb = numpy_generator(0, "photo").integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Photo(rgb, None if alpha is None else alpha.astype(np.float32), Path("mare.jpg"))


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_black_mask_marks_no_animal_and_a_white_one_is_no_mask(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"m.{suffix}"
    Image.new("L", (WIDTH, HEIGHT), 0 if suffix == "png" else 6).save(path)  # 6: what JPEG makes of black
    with pytest.raises(NoAnimalError, match=f"m.{suffix}: the mask is black"):
        find_mask(photo_of(), path)
    Image.new("L", (WIDTH, HEIGHT), 255).save(path)
    with pytest.raises(InputError, match="covers the whole picture"):
        find_mask(photo_of(), path)


def test_the_mask_file_goes_before_transparency_and_transparency_before_the_segmenter(tmp_path: Path) -> None:
    in_file, in_alpha, seen = ellipse((40, 45)), ellipse((60, 45)), ellipse((80, 45))
    Image.fromarray(in_file.astype(np.uint8) * 255).save(tmp_path / "m.png")

    def segmenter(rgb: np.ndarray) -> np.ndarray:
        assert rgb.shape == (HEIGHT, WIDTH, 3)
        return seen.astype(np.float32)

    for photo, mask, source, truth in [
        (photo_of(alpha=in_alpha), tmp_path / "m.png", "file", in_file),
        (photo_of(alpha=in_alpha), None, "alpha", in_alpha),
        (photo_of(), None, "segmenter", seen),
    ]:
        found = find_mask(photo, mask, segmenter=segmenter)
        assert found.source == source and np.array_equal(found.coverage > 0.5, truth)
    with pytest.raises(InputError, match="--mask"):
        find_mask(photo_of())


def test_a_segmenter_or_transparency_that_marks_nothing_is_no_animal() -> None:
    with pytest.raises(NoAnimalError, match=r"mare\.jpg: no animal found"):
        find_mask(photo_of(), segmenter=lambda rgb: np.full(rgb.shape[:2], 0.4, np.float32))
    with pytest.raises(NoAnimalError, match="transparent"):
        find_mask(photo_of(alpha=np.zeros((HEIGHT, WIDTH))))


@pytest.mark.parametrize(
    "answer",
    [
        None,
        torch.zeros(HEIGHT, WIDTH),
        np.zeros((HEIGHT, WIDTH, 1), np.float32),
        np.zeros((WIDTH, HEIGHT), np.float32),
        np.full((HEIGHT, WIDTH), 255, np.uint8),
        np.full((HEIGHT, WIDTH), np.nan, np.float32),
        np.full((HEIGHT, WIDTH), 255.0, np.float32),
    ],
    ids=["nothing", "tensor", "three axes", "turned", "bytes", "nan", "beyond 1"],
)
def test_a_segmenters_answer_is_looked_at(answer: object) -> None:
    with pytest.raises(InputError, match="segmenter: expected"):
        find_mask(photo_of(), segmenter=lambda rgb: answer)  # pyright: ignore[reportArgumentType]


def test_the_paper_rule_covers_a_quarter_with_the_animal_in_the_middle() -> None:
    solid = ellipse((62.3, 40.8), (24, 20), size=(WIDTH, HEIGHT))
    crop = make_crop(photo_of(), solid.astype(np.float32), enlarge=False)
    area = int(solid.sum())
    x0, y0, side = crop.box_px
    rows, columns = np.nonzero(solid)
    assert side == 2 * int(np.sqrt(area))
    assert x0 + side / 2 == pytest.approx(columns.mean() + 0.5) and y0 + side / 2 == pytest.approx(rows.mean() + 0.5)
    assert float(crop.mask.mean()) == pytest.approx(area / side**2, abs=0.002)
    assert crop.image.shape == (3, 256, 256) and crop.mask.shape == crop.valid.shape == (256, 256)
    assert crop.photo_size_px == (WIDTH, HEIGHT) and crop.name == "mare"
    ys, xs = torch.nonzero(crop.mask > 0.5, as_tuple=True)
    assert float(xs.double().mean()) == pytest.approx(127.5, abs=0.5) and float(ys.double().mean()) == pytest.approx(127.5, abs=0.5)


def test_enlarging_holds_a_long_animal_and_leaves_a_compact_one_alone() -> None:
    long = ellipse((60, 45), (55, 8))
    assert float(make_crop(photo_of(), long.astype(np.float32), enlarge=False).mask[:, [0, -1]].max()) > 0.5
    crop = make_crop(photo_of(), long.astype(np.float32))
    assert float(crop.mask[:, [0, -1]].max()) == 0 and float(crop.mask[[0, -1]].max()) == 0
    assert crop.box_px[2] == pytest.approx(2 * 1.04 * 55, abs=0.1)
    round_one = ellipse((60, 45), (20, 20)).astype(np.float32)
    assert make_crop(photo_of(), round_one).box_px == make_crop(photo_of(), round_one, enlarge=False).box_px


@settings(max_examples=40, deadline=None)
@given(
    x0=st.floats(-200, 300),
    y0=st.floats(-200, 300),
    side=st.floats(20, 900),
    size_px=st.sampled_from([16, 64, 100]),
)
def test_a_crop_shows_the_photo_where_its_box_says(x0: float, y0: float, side: float, size_px: int) -> None:
    """A linear ramp keeps its values under any resampling: inside the photo every crop pixel must read its own position."""
    width, height = 400, 300
    y, x = np.mgrid[:height, :width] + 0.5
    ramp = np.dstack([x * 255 / width, y * 255 / height, x * 0 + 200]).round().astype(np.uint8)
    photo = photo_from_image(ramp)
    mask = ellipse((200, 150), (80, 60), size=(width, height)).astype(np.float32)
    crop = make_crop(photo, mask, size_px=size_px, box_px=(x0, y0, side))
    pixel = side / size_px
    u = x0 + (np.arange(size_px) + 0.5) * pixel
    v = y0 + (np.arange(size_px) + 0.5) * pixel
    reach = 2 * max(1.0, pixel) + 1
    inside = ((v >= reach) & (v <= height - reach))[:, None] & ((u >= reach) & (u <= width - reach))[None, :]
    image = crop.image.numpy() * 255
    tolerance = 1.5 + pixel * 0.3  # rounding of the ramp and of the result, and sub-pixel error of a strongly reduced one
    assert np.abs(image[0] - (u * 255 / width)[None, :])[inside].max(initial=0) < tolerance
    assert np.abs(image[1] - (v * 255 / height)[:, None])[inside].max(initial=0) < tolerance
    outside = ((v < -reach) | (v > height + reach))[:, None] | ((u < -reach) | (u > width + reach))[None, :]
    assert image[:, outside].max(initial=0) == 0 and crop.mask.numpy()[outside].max(initial=0) == 0
    margin = 0.02 * side
    valid = ((v >= margin) & (v <= height - margin))[:, None] & ((u >= margin) & (u <= width - margin))[None, :]
    assert np.array_equal(crop.valid.numpy() > 0.5, valid)


def test_the_crop_of_a_large_photo_is_antialiased() -> None:
    """A checkerboard of single pixels, reduced 16 times, is an even grey; picking pixels would give black and white."""
    board = ((np.indices((2048, 2048)).sum(0) % 2) * 255).astype(np.uint8)
    crop = make_crop(photo_from_image(board), np.ones((2048, 2048), np.float32), size_px=64, box_px=(512.0, 512.0, 1024.0))
    assert float((crop.image - 0.5).abs().max()) < 0.02


def test_a_finer_crop_lies_over_the_first() -> None:
    solid = ellipse().astype(np.float32)
    first = make_crop(photo_of(), solid)
    fine = make_crop(photo_of(), solid, size_px=768, box_px=first.box_px)
    assert fine.box_px == first.box_px and fine.image.shape == (3, 768, 768)
    reduced = torch.nn.functional.avg_pool2d(fine.mask[None, None], 3)[0, 0]
    assert float((reduced - first.mask).abs().max()) < 0.06


def test_the_caller_may_refuse_what_does_not_look_like_an_animal() -> None:
    solid = ellipse().astype(np.float32)
    assert make_crop(photo_of(), solid, accept=lambda crop: float(crop.mask.mean()) > 0.2).name == "mare"
    with pytest.raises(NoAnimalError, match=r"mare\.jpg: this does not look like an animal"):
        make_crop(photo_of(), solid, accept=lambda crop: False)


def test_warnings_travel_and_a_mask_must_fit_the_photo() -> None:
    photo = Photo(photo_of().rgb, None, Path("a/mare.jpg"), ("first frame",))
    crop = make_crop(photo, Silhouette(ellipse().astype(np.float32), "file", ("cut",)))
    assert crop.warnings == ("first frame", "cut")
    with pytest.raises(InputError, match="another size"):
        make_crop(photo, np.ones((10, 10), np.float32))
    with pytest.raises(NoAnimalError, match=r"mare\.jpg"):
        make_crop(photo, np.zeros((HEIGHT, WIDTH), np.float32))


def test_real_silhouettes_cover_a_quarter(shared_photos: Path) -> None:
    folder = shared_photos / "horse"
    photos = list_photos(folder)[:6]
    from farm3d.data.photo import load_photo

    for path, mask in find_masks(photos, folder).items():
        photo = load_photo(path)
        crop = make_crop(photo, find_mask(photo, mask), enlarge=False)
        assert float(crop.mask.mean()) == pytest.approx(0.25, abs=0.02)
