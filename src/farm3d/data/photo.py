"""Opens a photograph that may be anything: upright 8-bit colours and transparency, or one clear line that says why not."""

from __future__ import annotations

import io
import os
import stat
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms, ImageOps

from farm3d.core.errors import InputError

__all__ = ["Photo", "alpha_is_mask", "load_photo", "open_picture", "photo_from_image", "shown_path"]

MAX_FILE_BYTES = 64 * 2**20
MAX_PIXELS = 50_000_000
MAX_ASPECT = 20.0
MIN_SIDE_PX = 16

_FORMATS = ("JPEG", "PNG", "WEBP")
_EXPECTED = "give a JPEG, PNG or WebP picture"
_OTHER_KINDS = (
    (b"GIF8", 0, "a GIF"),
    (b"%PDF", 0, "a PDF document"),
    (b"BM", 0, "a BMP picture"),
    (b"II*\0", 0, "a TIFF or raw camera picture"),
    (b"MM\0*", 0, "a TIFF or raw camera picture"),
    (b"ftypavif", 4, "an AVIF picture"),
    (b"ftyp", 4, "a HEIC picture or a video"),
    (b"PK\3\4", 0, "a ZIP archive"),
)


@dataclass(frozen=True, eq=False, repr=False)
class Photo:
    """An upright photograph in memory (its arrays are read-only).

    Attributes:
        rgb: sRGB-encoded colours, ``[H, W, 3]`` uint8, rows from the top.
        alpha: coverage in [0, 1], ``[H, W]`` float32, or None when the file has no transparent pixel.
        path: where it came from, for messages; its stem names the outputs.
        warnings: plain sentences for the user (first frame of an animation, damaged EXIF data, …).
    """

    rgb: np.ndarray
    alpha: np.ndarray | None
    path: Path
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.rgb.setflags(write=False)
        if self.alpha is not None:
            self.alpha.setflags(write=False)

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.rgb.shape[1], self.rgb.shape[0]

    @property
    def name(self) -> str:
        """The file's stem."""
        return self.path.stem

    def __repr__(self) -> str:
        width, height = self.size_px
        return f"Photo({shown_path(self.path)!r}, {width}x{height}, alpha={self.alpha is not None}, warnings={self.warnings})"


def shown_path(path: Path | str) -> str:
    """Return ``path`` as one printable line: control characters and undecodable bytes of a hostile file name are escaped."""
    text = os.fspath(path).encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in text)


def load_photo(path: Path | str) -> Photo:
    """Read a JPEG, PNG or WebP photograph, told by its content, turned upright by its EXIF orientation and converted to sRGB.

    Limits, checked before a pixel is decoded: 64 MiB of file, 50 megapixels, 16 px a side, no longer than 20:1. CMYK, 16-bit, grey and
    palette pictures are converted; of an animation the first frame is taken, with a warning.

    Raises:
        InputError: the file cannot be read, is no such picture, is damaged, or is beyond a limit; one line that names the file.
    """
    image, notes = open_picture(Path(path))
    return _photo(image, Path(path), notes)


def photo_from_image(image: Image.Image | np.ndarray, *, name: str = "animal") -> Photo:
    """Make a :class:`Photo` of a PIL picture or of an array ``[H, W]``, ``[H, W, 3]`` or ``[H, W, 4]`` (uint8, or float in [0, 1]).

    Raises:
        InputError: the array is no picture, or it is beyond a limit of :func:`load_photo`.
    """
    if isinstance(image, np.ndarray):
        if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (3, 4)):
            raise InputError(f"{name}: expected an array [H, W], [H, W, 3] or [H, W, 4], got {list(image.shape)}")
        if np.issubdtype(image.dtype, np.floating):
            if image.size and not (np.isfinite(image).all() and image.min() >= 0 and image.max() <= 1):
                raise InputError(f"{name}: a picture of floats must lie in [0, 1]", hint="divide 8-bit values by 255")
            image = (image * 255 + 0.5).astype(np.uint8)
        if image.dtype != np.uint8:
            raise InputError(f"{name}: expected uint8 or floating pixels, got {image.dtype}")
        _check_size(image.shape[1], image.shape[0], name)
        picture = Image.fromarray(np.ascontiguousarray(image))
    elif not isinstance(image, Image.Image):
        raise InputError(f"{name}: expected a path, a PIL picture or a NumPy array, got {type(image).__name__}")
    else:
        _check_size(image.width, image.height, name)
        picture = _decoded(image.copy, name)  # it is turned upright in place
    notes: list[str] = []
    upright = _decoded(lambda: _upright(picture, notes), name)
    return _photo(upright, Path(name), notes)


def alpha_is_mask(photo: Photo) -> bool:
    """Whether the photo's transparency marks the animal: it hides at least 5 % of the picture (rounded corners hide less)."""
    return photo.alpha is not None and float((photo.alpha < 0.5).mean()) >= 0.05


def open_picture(path: Path) -> tuple[Image.Image, list[str]]:
    """Open, check, decode and turn upright one picture file; return it in Pillow's mode as stored, and warnings.

    Raises:
        InputError: as :func:`load_photo`.
    """
    where = shown_path(path)
    data = _read(path, where)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns about damaged EXIF data and about size; our own checks below speak instead
        try:
            image = Image.open(io.BytesIO(data), formats=_FORMATS)
        except Image.DecompressionBombError as error:
            raise InputError(f"{where}: more than {MAX_PIXELS // 10**6} megapixels", hint="make the picture smaller") from error
        except Exception as error:  # decoders of damaged bytes raise nearly every kind of error; all mean the same here
            raise InputError(f"{where}: {_what_it_is(data)}", hint=_EXPECTED) from error
        _check_size(image.width, image.height, where)
        notes: list[str] = []
        if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
            notes.append("the picture is animated: only its first frame is used")
        return _decoded(lambda: _upright(image, notes), where), notes


def _read(path: Path, where: str) -> bytes:
    """Read a regular file of allowed size; a pipe or a device is refused before it is opened, since opening it may wait for ever."""
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise InputError(f"{where}: a folder, not a picture", hint=_EXPECTED)
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{where}: not an ordinary file", hint=_EXPECTED)
        if status.st_size > MAX_FILE_BYTES:
            size = f"{status.st_size >> 20} MiB, more than the {MAX_FILE_BYTES >> 20} MiB allowed"
            raise InputError(f"{where}: {size}", hint="make the picture smaller")
        with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise InputError(f"{where}: no such file", hint="check the spelling of the path") from error
    except PermissionError as error:
        raise InputError(f"{where}: no permission to read it", hint="change the file's permissions") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the path
        raise InputError(f"{where}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not data:
        raise InputError(f"{where}: the file is empty", hint=_EXPECTED)
    return data


def _what_it_is(data: bytes) -> str:
    """Say in words what the bytes of an unreadable picture are."""
    for magic, offset, words in _OTHER_KINDS:
        if data[offset : offset + len(magic)] == magic:
            return f"{words}, not a photograph farm3d can read"
    if data[:3] == b"\xff\xd8\xff" or data[:8] == b"\x89PNG\r\n\x1a\n" or (data[:4] == b"RIFF" and data[8:12] == b"WEBP"):
        return "a damaged or truncated picture"
    start = data[:4096].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in start:
        return "an SVG drawing, not a photograph"
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page or XML file, not a photograph"
    if all(byte >= 32 or byte in b"\t\r\n\f" for byte in data[:512]):
        return "a text file, not a photograph"
    return "not a picture farm3d can read"


def _check_size(width: int, height: int, where: str) -> None:
    size = f"{width}x{height} pixels"
    if min(width, height) < MIN_SIDE_PX:
        raise InputError(f"{where}: {size}, too small to show an animal", hint=f"at least {MIN_SIDE_PX} px a side")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise InputError(f"{where}: {size}, too long and narrow", hint=f"at most {MAX_ASPECT:g}:1")
    if width * height > MAX_PIXELS:
        raise InputError(f"{where}: {size}, more than {MAX_PIXELS // 10**6} megapixels", hint="make the picture smaller")


def _decoded(decode: Callable[[], Image.Image], where: str) -> Image.Image:
    try:
        return decode()
    except Exception as error:  # as in open_picture
        raise InputError(f"{where}: a damaged or truncated picture", hint="export or download it again") from error


def _upright(image: Image.Image, notes: list[str]) -> Image.Image:
    image.load()
    try:
        ImageOps.exif_transpose(image, in_place=True)  # a copy of a 50-megapixel picture takes 200 MB
    except Exception:  # damaged EXIF data say nothing about the pixels, which decoded well
        notes.append("the EXIF data are damaged: the picture is used as stored, it may lie on its side")
    return image


def _photo(image: Image.Image, path: Path, notes: list[str]) -> Photo:
    image = _decoded(lambda: _to_colours(image, notes), shown_path(path))
    pixels = np.asarray(image)
    alpha = None
    if image.mode == "RGBA":
        if pixels[..., 3].min() < 255:
            alpha = pixels[..., 3].astype(np.float32) / 255
        pixels = pixels[..., :3].copy()
    return Photo(pixels, alpha, path, tuple(notes))


def _to_colours(image: Image.Image, notes: list[str]) -> Image.Image:
    """Convert any mode to RGB, or to RGBA when the file has transparency, honouring an embedded colour profile."""
    if image.mode.startswith("I"):  # 16-bit grey: Pillow's own conversion clips at 255 instead of scaling
        image = Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
    profile = image.info.get("icc_profile")
    transparent = image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
    wanted = "RGBA" if transparent else "RGB"
    if image.mode not in (wanted, "CMYK"):  # converting to the same mode would copy
        image = image.convert(wanted)
    if profile:
        image = _to_srgb(image, profile, notes)
    return image if image.mode == wanted else image.convert(wanted)


def _to_srgb(image: Image.Image, profile: bytes, notes: list[str]) -> Image.Image:
    """Convert wide-gamut and CMYK pictures to sRGB; a profile that cannot be used leaves the colours as they are."""
    try:
        source: Any = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in (ImageCms.getProfileDescription(source) or "").lower():
            return image
        mode = image.mode if image.mode == "RGBA" else "RGB"
        if str(source.profile.xcolor_space).strip() != ("CMYK" if image.mode == "CMYK" else "RGB"):
            return image
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode=mode)
    except Exception:  # an unusable profile costs a shade of colour, not the picture
        notes.append("the embedded colour profile cannot be used: colours may look slightly different")
        return image
    return converted if converted is not None else image
