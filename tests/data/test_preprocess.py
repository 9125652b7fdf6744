"""Masks of every kind mean the same silhouette; one animal is kept; the crop obeys section 1.2 to a fraction of a pixel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from farm3d.core.errors import InputError, NoAnimalError
from farm3d.core.random import numpy_generator
from farm3d.data.photo import Photo, photo_from_image
from farm3d.data.preprocess import Silhouette, find_mask, find_masks, list_photos, make_crop, one_animal, read_mask

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
    found = find_mask(photo_of(), path)
    assert found.source == "file" and found.warnings == () and iou(found.coverage, ellipse()) > 0.95


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


def touch(folder: Path, *names: str) -> list[Path]:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"x")
    return [folder / name for name in names]


def test_folders_are_listed_without_masks_and_in_order(tmp_path: Path) -> None:
    touch(tmp_path, "b.JPG", "a.png", "a_mask.png", "c_mask.jpg", "notes.txt", ".hidden.jpg", "d.WebP")
    (tmp_path / "sub.jpg").mkdir()
    names = [path.name for path in list_photos(tmp_path)]
    assert names == ["a.png", "b.JPG", "c_mask.jpg", "d.WebP"]
    single = tmp_path / "b.JPG"
    assert list_photos([single, tmp_path, tmp_path / "missing.jpg"])[0] == single
    assert list_photos(tmp_path / "missing.jpg") == [tmp_path / "missing.jpg"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no picture in this folder"):
        list_photos(tmp_path / "empty")


def test_masks_are_paired_by_name(tmp_path: Path) -> None:
    photos = touch(tmp_path / "photos", "a.jpg", "b.jpg", "c.jpg", "d.jpg")
    touch(tmp_path / "masks", "a_mask.PNG", "a.png", "b.jpg", "b.png", "x.png", "c_mask.txt")
    pairs = find_masks(photos, tmp_path / "masks")
    assert [path and path.name for path in pairs.values()] == ["a_mask.PNG", "b.png", None, None]
    assert find_masks(photos, None) == dict.fromkeys(photos)
    assert find_masks(photos[:1], tmp_path / "masks" / "x.png") == {photos[0]: tmp_path / "masks" / "x.png"}
    with pytest.raises(InputError, match="one mask file for 4 photos"):
        find_masks(photos, tmp_path / "masks" / "x.png")


def test_a_photo_is_never_its_own_mask(tmp_path: Path) -> None:
    photos = touch(tmp_path / "p", "a.jpg", "b.jpg")
    touch(tmp_path / "p", "a_mask.png")
    assert find_masks(photos, tmp_path / "p") == {photos[0]: tmp_path / "p" / "a_mask.png", photos[1]: None}
    (tmp_path / "p" / "a_mask.png").unlink()
    with pytest.raises(InputError, match="no mask for any"):
        find_masks(photos, tmp_path / "p")


def test_real_silhouettes_cover_a_quarter(shared_photos: Path) -> None:
    folder = shared_photos / "horse"
    photos = list_photos(folder)[:6]
    from farm3d.data.photo import load_photo

    for path, mask in find_masks(photos, folder).items():
        photo = load_photo(path)
        crop = make_crop(photo, find_mask(photo, mask), enlarge=False)
        assert float(crop.mask.mean()) == pytest.approx(0.25, abs=0.02)
