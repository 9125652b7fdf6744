"""Sheets of a score: samples by view with their masks, samples beside their nearest training pictures, and all of them numbered."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from farm3d.barn.captions import VIEWS
from farm3d.core.files import whole_file
from farm3d.training.prior.score.classifier import VIEW_COUNT
from farm3d.training.prior.score.copies import Neighbours
from farm3d.training.prior.score.samples import Samples

__all__ = ["PICTURE_PX", "write_neighbours", "write_numbered", "write_views"]

PICTURE_PX = 128
_LABEL_PX, _SIDE_PX = 12, 14
_A_PAGE = 64


def write_views(path: Path, samples: Samples, *, masked: bool) -> None:
    """Write eight rows, one for each view that was asked for, of eight samples; with ``masked`` a sheet of the masks beside it."""
    rows = [[i for i, fact in enumerate(samples.asked) if fact.view == view][:8] for view in range(VIEW_COUNT)]
    halves = 2 if masked else 1
    cell = PICTURE_PX + _LABEL_PX
    sheet = Image.new("RGB", (halves * 8 * PICTURE_PX, VIEW_COUNT * (cell + _SIDE_PX)), "white")
    pen = ImageDraw.Draw(sheet)
    for view, numbers in enumerate(rows):
        top = view * (cell + _SIDE_PX)
        pen.text((2, top + 1), f"asked: {VIEWS[view][0]}", fill="black")
        for column, number in enumerate(numbers):
            fact = samples.asked[number]
            left = column * PICTURE_PX
            pen.text((left + 2, top + _SIDE_PX), f"{fact.coat}, {fact.action}"[:24], fill=(90, 90, 90))
            place = top + _SIDE_PX + _LABEL_PX
            sheet.paste(_picture(samples.pixels[number, :3]), (left, place))
            if masked:
                sheet.paste(_picture(samples.pixels[number, 3:]), (8 * PICTURE_PX + left, place))
    _save(sheet, path)


def write_numbered(folder: Path, samples: Samples, *, start: str) -> list[Path]:
    """Write every sample with its number, 64 a page, for counting by eye; return the paths."""
    paths = []
    for first in range(0, len(samples), _A_PAGE):
        numbers = range(first, min(first + _A_PAGE, len(samples)))
        sheet = Image.new("RGB", (8 * PICTURE_PX, -(-len(numbers) // 8) * (PICTURE_PX + _LABEL_PX)), "white")
        pen = ImageDraw.Draw(sheet)
        for place, number in enumerate(numbers):
            left, top = place % 8 * PICTURE_PX, place // 8 * (PICTURE_PX + _LABEL_PX)
            fact = samples.asked[number]
            pen.text((left + 2, top), f"{number}: {VIEWS[fact.view][0][10:]}, {fact.action}"[:28], fill="black")
            sheet.paste(_picture(samples.pixels[number, :3]), (left, top + _LABEL_PX))
        paths.append(folder / f"{start}-{first // _A_PAGE + 1}.png")
        _save(sheet, paths[-1])
    return paths


def write_neighbours(path: Path, samples: Samples, training: Sequence[tuple[str, np.ndarray, Neighbours]], *, most: int = 12) -> None:
    """Write the samples that are nearest to a training picture, each above its nearest ones.

    Args:
        path: to write to.
        samples: N of them.
        training: what each search was in, its training pictures ``[M, 4, S, S]``, and what it found. The first one's distances choose.
        most: samples shown.
    """
    chosen = training[0][2].samples.argsort()[:most]
    cell = PICTURE_PX + _LABEL_PX
    sheet = Image.new("RGB", (len(chosen) * PICTURE_PX, (1 + len(training)) * cell), "white")
    pen = ImageDraw.Draw(sheet)
    for column, number in enumerate(chosen):
        left = column * PICTURE_PX
        pen.text((left + 2, 0), f"sample {number}", fill="black")
        sheet.paste(_picture(samples.pixels[number, :3]), (left, _LABEL_PX))
        for row, (where, pictures, found) in enumerate(training, start=1):
            picture = pictures[found.numbers[number], :3]
            pen.text((left + 2, row * cell), f"{where} {found.samples[number]:.3f}", fill="black")
            sheet.paste(_picture(picture[..., ::-1] if found.flipped[number] else picture), (left, row * cell + _LABEL_PX))
    _save(sheet, path)


def _picture(planes: np.ndarray) -> Image.Image:
    planes = np.ascontiguousarray(planes)
    picture = Image.fromarray(planes[0]) if len(planes) == 1 else Image.fromarray(np.ascontiguousarray(planes.transpose(1, 2, 0)))
    return picture if picture.width == PICTURE_PX else picture.resize((PICTURE_PX, PICTURE_PX), Image.Resampling.BICUBIC)


def _save(sheet: Image.Image, path: Path) -> None:
    with whole_file(path) as part:
        sheet.save(part, "PNG")
