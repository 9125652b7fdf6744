"""Any file at all gives a photo or one clear line: good pictures of every kind, bad ones made by hand, and a sweep of damaged ones."""

from __future__ import annotations

import io
import os
import struct
import sys
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from farm3d.core.errors import Farm3DError, InputError
from farm3d.core.random import numpy_generator
from farm3d.data.photo import alpha_is_mask, load_photo, photo_from_image, shown_path


def colours(width: int = 60, height: int = 40) -> np.ndarray:
    """A picture whose every corner differs: red grows to the right, green downwards; blue where x < 20 and y < 10."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[..., 0] = np.linspace(0, 255, width)[None, :]
    picture[..., 1] = np.linspace(0, 255, height)[:, None]
    picture[: height // 4, : width // 3, 2] = 255
    return picture


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def close(picture: np.ndarray, expected: np.ndarray, *, within: float) -> bool:
    return picture.shape == expected.shape and float(np.abs(picture.astype(float) - expected).mean()) < within


@pytest.mark.parametrize(
    ("kind", "options", "within"),
    [
        ("PNG", {}, 1e-9),
        ("JPEG", {"quality": 95}, 6),
        ("JPEG", {"quality": 95, "progressive": True}, 6),
        ("WEBP", {"lossless": True}, 1e-9),
    ],
)
def test_reads_the_three_formats_by_content_whatever_the_suffix(tmp_path: Path, kind: str, options: dict, within: float) -> None:
    path = tmp_path / "horse.picture"
    path.write_bytes(encoded(Image.fromarray(colours()), kind, **options))
    photo = load_photo(path)
    assert photo.size_px == (60, 40) and photo.name == "horse" and photo.alpha is None and photo.warnings == ()
    assert photo.rgb.dtype == np.uint8 and close(photo.rgb, colours(), within=within)
    assert "60x40" in repr(photo)
    with pytest.raises(ValueError, match="read-only"):
        photo.rgb[0, 0] = 0


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turns_the_picture_upright(tmp_path: Path, orientation: int) -> None:
    upright = Image.fromarray(colours())
    # What a camera stores so that the tag, applied, gives the upright picture back.
    undo = {2: [0], 3: [3], 4: [1], 5: [5], 6: [2], 7: [6], 8: [4]}  # Pillow's Transpose numbers: 90 and 270 undo each other
    stored = upright
    for step in undo.get(orientation, []):
        stored = stored.transpose(Image.Transpose(step))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.png"
    path.write_bytes(encoded(stored, "PNG", exif=exif.tobytes()))
    photo = load_photo(path)
    assert np.array_equal(photo.rgb, colours())


def test_damaged_exif_data_do_not_cost_the_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(Image.fromarray(colours()), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f garbage"))
    assert load_photo(path).size_px == (60, 40)


def test_converts_every_mode(tmp_path: Path) -> None:
    base = Image.fromarray(colours())
    grey = np.asarray(base.convert("L"))
    wide = Image.fromarray(grey.astype(np.uint16) * 257)
    for name, data, expected, within in [
        ("grey", encoded(base.convert("L"), "PNG"), grey[..., None].repeat(3, -1), 0.01),
        ("16-bit grey", encoded(wide, "PNG"), grey[..., None].repeat(3, -1), 0.01),
        ("1-bit", encoded(base.convert("1"), "PNG"), np.asarray(base.convert("1").convert("RGB")), 0.01),
        ("palette", encoded(base.quantize(256), "PNG"), colours(), 8),
        ("CMYK", encoded(base.convert("CMYK"), "JPEG", quality=95), colours(), 12),
        ("16-bit colour", png_16_bit(colours()), colours(), 1.01),
    ]:
        path = tmp_path / "a"
        path.write_bytes(data)
        photo = load_photo(path)
        assert photo.alpha is None, name
        assert close(photo.rgb, expected, within=within), name


def png_16_bit(picture: np.ndarray) -> bytes:
    """Pillow cannot write 16-bit colours: put the PNG together by hand."""
    rows = (picture.astype(">u2") * 257).reshape(len(picture), -1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", picture.shape[1], picture.shape[0], 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


def test_keeps_transparency_of_rgba_and_of_palettes(tmp_path: Path) -> None:
    alpha = np.zeros((40, 60), np.uint8)
    alpha[10:30, 20:50] = 255
    rgba = Image.fromarray(np.dstack([colours(), alpha]))
    palette = Image.fromarray((alpha > 0).astype(np.uint8)).convert("P")
    palette.putpalette([255, 0, 0, 0, 255, 0])
    grey_alpha = Image.merge("LA", (Image.fromarray(colours()[..., 0]), Image.fromarray(alpha)))
    for name, data in [
        ("RGBA", encoded(rgba, "PNG")),
        ("WebP", encoded(rgba, "WEBP", lossless=True)),
        ("palette", encoded(palette, "PNG", transparency=0)),
        ("grey and alpha", encoded(grey_alpha, "PNG")),
    ]:
        (tmp_path / "a").write_bytes(data)
        photo = load_photo(tmp_path / "a")
        assert photo.alpha is not None and np.array_equal(photo.alpha > 0.5, alpha > 0), name
        assert photo.alpha.dtype == np.float32 and alpha_is_mask(photo), name


def test_opaque_alpha_is_none_and_rounded_corners_are_no_mask(tmp_path: Path) -> None:
    alpha = np.full((40, 60), 255, np.uint8)
    opaque = encoded(Image.fromarray(np.dstack([colours(), alpha])), "PNG")
    alpha[:3, :3] = 0
    rounded = encoded(Image.fromarray(np.dstack([colours(), alpha])), "PNG")
    (tmp_path / "a").write_bytes(opaque)
    assert load_photo(tmp_path / "a").alpha is None
    (tmp_path / "a").write_bytes(rounded)
    photo = load_photo(tmp_path / "a")
    assert photo.alpha is not None and not alpha_is_mask(photo)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_takes_the_first_frame_of_an_animation_and_says_so(tmp_path: Path, kind: str) -> None:
    first = Image.fromarray(colours())
    second = Image.fromarray(255 - colours())
    options = {"lossless": True} if kind == "WEBP" else {}
    (tmp_path / "a").write_bytes(encoded(first, kind, save_all=True, append_images=[second], duration=100, **options))
    photo = load_photo(tmp_path / "a")
    assert close(photo.rgb, colours(), within=1)
    assert any("animated" in warning for warning in photo.warnings)


def test_wide_gamut_colours_become_srgb_and_a_useless_profile_is_only_a_warning(tmp_path: Path) -> None:
    picture = Image.fromarray(colours())
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    (tmp_path / "a").write_bytes(encoded(picture, "PNG", icc_profile=srgb))
    assert np.array_equal(load_photo(tmp_path / "a").rgb, colours())
    (tmp_path / "a").write_bytes(encoded(picture, "PNG", icc_profile=b"no profile at all" * 20))
    photo = load_photo(tmp_path / "a")
    assert np.array_equal(photo.rgb, colours()) and any("profile" in warning for warning in photo.warnings)


def test_arrays_and_pillow_pictures_become_photos() -> None:
    for image in (colours(), colours() / 255, Image.fromarray(colours())):
        photo = photo_from_image(image, name="mare")
        assert photo.name == "mare" and np.array_equal(photo.rgb, colours())
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = Image.open(io.BytesIO(encoded(Image.fromarray(colours()).transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif.tobytes())))
    assert np.array_equal(photo_from_image(turned).rgb, colours()) and turned.size == (40, 60), "the caller's picture is left alone"
    grey = photo_from_image(colours()[..., 0])
    assert grey.rgb.shape == (40, 60, 3)
    for bad in (np.zeros((4, 40, 60)), np.zeros((40, 60, 3)) + 7.0, np.zeros((40, 60, 3), np.int32), np.full((40, 60, 3), np.nan)):
        with pytest.raises(InputError):
            photo_from_image(bad)
    with pytest.raises(InputError, match="too small"):
        photo_from_image(colours(60, 8))


def png_of_size(width: int, height: int) -> bytes:
    """A PNG whose header claims any size, followed by hardly any pixels: a decompression bomb without the bomb."""
    data = bytearray(encoded(Image.fromarray(colours()), "PNG"))
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    return bytes(data)


def bad_files(good: bytes) -> dict[str, tuple[bytes, str]]:
    """File contents that are no photograph, with a word that the message must contain."""
    small = Image.fromarray(colours()).resize((1, 1))
    text = b"This is a letter, not a picture.\n" * 20
    return {
        "empty": (b"", "empty"),
        "text": (text, "text"),
        "html": (b"<!DOCTYPE html><html><body>404</body></html>" * 9, "web page"),
        "svg": (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="60"/>', "SVG"),
        "gif": (encoded(Image.fromarray(colours()).quantize(), "GIF"), "GIF"),
        "bmp": (encoded(Image.fromarray(colours()), "BMP"), "BMP"),
        "tiff": (encoded(Image.fromarray(colours()), "TIFF"), "TIFF"),
        "pdf": (encoded(Image.fromarray(colours()), "PDF"), "PDF"),
        "heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200), "HEIC"),
        "zip": (b"PK\3\4" + bytes(100), "ZIP"),
        "zeros": (bytes(1000), "not a picture"),
        "truncated": (good[: len(good) // 2], "truncated"),
        "head only": (good[:20], "truncated"),
        "1x1": (encoded(small, "PNG"), "too small"),
        "20000x1": (encoded(small.resize((20000, 1)), "PNG"), "too small"),
        "20000x20": (encoded(small.resize((20000, 20)), "PNG"), "narrow"),
        "bomb": (png_of_size(65000, 65000), "megapixels"),
        "large": (png_of_size(9000, 9000), "megapixels"),
        "polyglot": (b"GIF89a" + good, "GIF"),
    }


BAD = bad_files(encoded(Image.fromarray(colours(200, 200)), "JPEG"))


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_in_one_line_that_names_the_file(tmp_path: Path, name: str, capfd: pytest.CaptureFixture) -> None:
    data, word = BAD[name]
    path = tmp_path / "photo.jpg"
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError) as caught:
            load_photo(path)
    assert word in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_bad_paths_are_refused_without_waiting(tmp_path: Path) -> None:
    missing, folder = tmp_path / "no.jpg", tmp_path / "folder.jpg"
    folder.mkdir()
    cases = {missing: "no such file", folder: "folder", tmp_path / ("x" * 300): "cannot be read", Path("a\0b"): "cannot be read"}
    loop = tmp_path / "loop.jpg"
    loop.symlink_to(loop)
    cases[loop] = "cannot be read"
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.jpg")
        cases[tmp_path / "pipe.jpg"] = "not an ordinary file"
        cases[Path("/dev/zero")] = "not an ordinary file"
    for path, words in cases.items():
        began = time.monotonic()
        with pytest.raises(InputError) as caught:
            load_photo(path)
        assert words in str(caught.value) and "\n" not in str(caught.value) and "\0" not in str(caught.value)
        assert time.monotonic() - began < 5


def test_no_permission_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(Image.fromarray(colours()), "PNG"))
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user (root?) may read any file: a refusal cannot be provoked")
    with pytest.raises(InputError, match="no permission"):
        load_photo(path)


def test_a_file_beyond_the_limit_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    with path.open("wb") as file:
        file.truncate(10 << 30)  # sparse: 10 GiB that take no room
    with pytest.raises(InputError, match="MiB"):
        load_photo(path)


def test_hostile_names_stay_one_printable_line() -> None:
    assert shown_path("a\nb\x1b[31m.jpg") == "a\\nb\\x1b[31m.jpg"
    assert shown_path("Pferd ü 馬.jpg") == "Pferd ü 馬.jpg"
    shown_path(os.fsdecode(b"\xff.jpg")).encode("utf-8")


def sweep_samples() -> dict[str, bytes]:
    """One good picture of each format with everything a file may carry: EXIF data, a colour profile, transparency where there is any."""
    picture = Image.fromarray(colours(80, 60))
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "camera"
    extras = {"exif": exif.tobytes(), "icc_profile": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()}
    rgba = picture.copy()
    rgba.putalpha(Image.fromarray(colours(80, 60)[..., 0]))
    return {
        "JPEG": encoded(picture, "JPEG", quality=80, **extras),
        "PNG": encoded(rgba, "PNG", **extras),
        "WEBP": encoded(rgba, "WEBP", quality=80, **extras),
    }


def mutated(data: bytes, draw: np.random.Generator) -> bytes:
    """Damage a file in one of six ways, half the time near its start, where the headers are."""
    result = bytearray(data)
    reach = len(data) if draw.random() < 0.5 else min(len(data), 200)
    start = int(draw.integers(0, reach))
    length = int(draw.integers(1, 64))
    match int(draw.integers(0, 6)):
        case 0:
            for _ in range(int(draw.integers(1, 16))):
                result[int(draw.integers(0, reach))] ^= 1 << int(draw.integers(0, 8))
        case 1:
            del result[start:]
        case 2:
            del result[start : start + length]
        case 3:
            result[start:start] = draw.bytes(length)
        case 4:
            result[start : start + length] = draw.bytes(min(length, len(data) - start))
        case _:
            value = int(draw.choice([0, 1, 0x7F, 0x80, 0xFF]))
            result[start : start + 4] = bytes([value]) * min(4, len(data) - start)
    return bytes(result)


def sweep(kind: str, count: int, path: Path) -> dict[str, int]:
    """Load ``count`` damaged files; count the outcomes. Anything but a photo or our error is raised."""
    good = sweep_samples()[kind]
    outcomes = {"photo": 0, "refused": 0}
    for number in range(count):
        path.write_bytes(mutated(good, numpy_generator(number, kind)))
        try:
            photo = load_photo(path)
        except Farm3DError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            outcomes["refused"] += 1
        else:
            assert photo.rgb.dtype == np.uint8 and photo.rgb.ndim == 3 and photo.rgb.shape[2] == 3
            assert photo.alpha is None or (photo.alpha.shape == photo.rgb.shape[:2] and np.isfinite(photo.alpha).all())
            outcomes["photo"] += 1
    return outcomes


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_damaged_files_give_a_photo_or_our_error(tmp_path: Path, kind: str, capfd: pytest.CaptureFixture) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        outcomes = sweep(kind, 150, tmp_path / "a.jpg")
    assert min(outcomes.values()) > 0, "the sweep must reach both outcomes"
    assert capfd.readouterr() == ("", "")


if __name__ == "__main__":  # the long sweep: python tests/data/test_photo.py 2000
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        for one in ("JPEG", "PNG", "WEBP"):
            print(one, sweep(one, int(sys.argv[1]), Path(folder) / "a.jpg"))
