"""Pictures in a row as a film: MP4 (H.264) through imageio-ffmpeg, animated GIF or WebP through Pillow. Whole or absent."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from farm3d.core.errors import InputError, MissingPartError, OutputError
from farm3d.core.files import whole_file
from farm3d.core.shapes import Tensor

__all__ = ["VIDEO_SUFFIXES", "encode_film", "require_ffmpeg", "write_turntable"]

VIDEO_SUFFIXES = (".mp4", ".gif", ".webp")
_OURS = ("-metadata", "comment=made by farm3d")  # by which a later run knows that it may replace the film


def write_turntable(frames: Iterable[np.ndarray | Tensor], path: Path, *, fps: float = 25.0) -> None:
    """Write pictures as a film that loops well, by the suffix of ``path``: ``.mp4``, ``.gif`` or ``.webp``.

    Args:
        frames: at least one picture, all of one size: uint8 ``[H, W, 3]`` sRGB, or floating sRGB in [0, 1]. May be a generator;
            it is asked for one frame at a time.
        path: appears only when the film is whole.
        fps: pictures a second.

    Raises:
        InputError: another suffix, no frames, frames of different sizes, or a rate that is not positive.
        MissingPartError: MP4 without the extra ``video``.
        OutputError: the file cannot be written.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind not in VIDEO_SUFFIXES:
        raise InputError(
            f"{path}: cannot write a film as {kind or 'a file without suffix'!r}", hint=f"use one of {', '.join(VIDEO_SUFFIXES)}"
        )
    if not 0 < fps <= 240:
        raise InputError(f"{fps:g} frames a second: expected more than 0, at most 240")
    if kind == ".mp4":
        require_ffmpeg()
    pictures = _checked(frames, path)
    first = next(pictures, None)
    if first is None:
        raise InputError(f"{path}: a film needs at least one frame")
    with whole_file(path) as part:
        encode_film(itertools.chain([first], pictures), part, fps=fps)


def encode_film(frames: Iterable[np.ndarray | Tensor], part: Path, *, fps: float) -> None:
    """Write pictures as :func:`write_turntable` does into a file that the caller keeps out of sight until it is whole.

    Raises:
        InputError: no frames, or frames of different sizes.
        OutputError: the file cannot be written.
    """
    pictures = _checked(frames, part)
    first = next(pictures, None)
    if first is None:
        raise InputError(f"{part}: a film needs at least one frame")
    if part.suffix.lower() == ".mp4":
        _write_mp4(first, pictures, part, fps)
    else:
        _write_animation(first, pictures, part, fps)


def require_ffmpeg() -> None:
    """Raise MissingPartError, with what to install, where no MP4 film can be written."""
    try:
        import imageio_ffmpeg

        imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:
        raise MissingPartError(
            "writing MP4 films needs imageio-ffmpeg", hint="pip install 'farm3d[video]', or name the film .gif or .webp"
        ) from error


def _checked(frames: Iterable[np.ndarray | Tensor], path: Path) -> Iterator[np.ndarray]:
    """Yield contiguous uint8 pictures of one size."""
    size: tuple[int, ...] | None = None
    for number, frame in enumerate(frames):
        picture = frame.detach().cpu().numpy() if isinstance(frame, torch.Tensor) else np.asarray(frame)
        if picture.dtype != np.uint8:
            picture = (np.nan_to_num(picture).clip(0, 1) * 255).round().astype(np.uint8)
        if picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape or (size is not None and picture.shape != size):
            raise InputError(f"{path}: frame {number} has shape {picture.shape}, expected {size or '[H, W, 3]'}")
        size = picture.shape
        yield np.ascontiguousarray(picture)


def _write_mp4(first: np.ndarray, rest: Iterator[np.ndarray], part: Path, fps: float) -> None:
    import imageio_ffmpeg

    # yuv420p halves the colour resolution, so both sides must be even: repeat the last row or column.
    def even(picture: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(np.pad(picture, ((0, picture.shape[0] % 2), (0, picture.shape[1] % 2), (0, 0)), mode="edge"))

    first = even(first)
    writer = imageio_ffmpeg.write_frames(
        str(part),
        (first.shape[1], first.shape[0]),
        fps=fps,  # pyright: ignore[reportArgumentType] -- ffmpeg takes fractions
        codec="libx264",
        pix_fmt_out="yuv420p",
        macro_block_size=1,
        quality=None,  # pyright: ignore[reportArgumentType] -- None leaves it to -crf
        output_params=["-crf", "18", "-preset", "medium", "-movflags", "+faststart", "-fflags", "+bitexact", "-map_metadata", "-1", *_OURS],
        ffmpeg_log_level="quiet",  # its own lines would stand beside our one
    )
    try:
        writer.send(None)
        writer.send(first)
        for picture in rest:
            writer.send(even(picture))
        writer.close()
    except OSError as error:
        raise OutputError(
            f"{part.parent}: ffmpeg could not write the film: {str(error).splitlines()[0]}",
            hint="free some space or choose another --out folder",
        ) from error
    finally:
        writer.close()
    if not _is_whole_mp4(part):  # ffmpeg's own failure to finish reaches nobody: the pipe closes all the same
        raise OutputError(
            f"{part.parent}: ffmpeg could not finish the film (is the disk full?)", hint="free some space or choose another --out folder"
        )


def _is_whole_mp4(path: Path) -> bool:
    """Whether the top-level boxes, index (moov) and pictures (mdat) among them, fill the file exactly."""
    size, place, kinds = path.stat().st_size, 0, set()
    with path.open("rb") as file:
        while place + 8 <= size:
            file.seek(place)
            length, kind = struct.unpack(">I4s", file.read(8))
            if length == 1:
                length = int.from_bytes(file.read(8), "big")
            if length < 8:
                return False
            kinds.add(kind)
            place += length
    return place == size and {b"moov", b"mdat"} <= kinds


def _write_animation(first: np.ndarray, rest: Iterator[np.ndarray], part: Path, fps: float) -> None:
    from PIL import Image

    options: dict[str, Any] = {"save_all": True, "duration": round(1000 / fps), "loop": 0}
    if part.suffix.lower() == ".webp":
        options |= {"quality": 85, "method": 4}
    Image.fromarray(first).save(part, append_images=(Image.fromarray(picture) for picture in rest), **options)
