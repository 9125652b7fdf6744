"""Toy animals of a few pixels, with captions as the barn's are, for models that must learn in seconds; and shards of them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from farm3d.core.shard_plan import ShardPlan
from farm3d.core.shards import write_shards
from farm3d.training.prior.picture_cache import Caption, PictureCache

COATS = {"red": (200, 40, 30), "blue": (40, 60, 200), "green": (40, 160, 60), "white": (230, 230, 225)}
SIDES = {"left": 0, "right": 1}
SIZE_PX = 32


def draw_toy(coat: str, side: str, *, shift: int = 0, size_px: int = SIZE_PX) -> np.ndarray:
    """Return sRGB and coverage, uint8 ``[4, S, S]``: a body on four legs with a black head at the named side of the picture."""
    unit = size_px // 16
    picture = np.full((4, size_px, size_px), 120, np.uint8)
    picture[3] = 0

    def box(left: int, top: int, width: int, height: int, colour: tuple[int, int, int]) -> None:
        rows, columns = slice(top * unit, (top + height) * unit), slice((left + shift) * unit, (left + shift + width) * unit)
        picture[:3, rows, columns] = np.array(colour, np.uint8)[:, None, None]
        picture[3, rows, columns] = 255

    box(4, 6, 8, 4, COATS[coat])
    box(4, 10, 2, 4, COATS[coat])
    box(10, 10, 2, 4, COATS[coat])
    box(2, 4, 3, 3, (15, 15, 15))
    return picture if side == "left" else picture[:, :, ::-1].copy()


def toy_caption(coat: str, side: str) -> tuple[str, ...]:
    return (f"a {coat} horse, standing, seen from its {side} side", f"{coat} horse, seen from its {side} side")


def toy_cache(*, copies: int = 4) -> PictureCache:
    """Return eight kinds of toys, each ``copies`` times to train on and once to validate on, as an opened cache."""
    pixels, captions = [], []
    for held_out in (False, True):
        for _ in range(1 if held_out else copies):
            for coat in COATS:
                for side in SIDES:
                    pixels.append(draw_toy(coat, side))
                    captions.append(Caption(toy_caption(coat, side), "horse", "plain", held_out))
    return PictureCache(np.stack(pixels), tuple(captions), "toys", ("toys: drawn in a test",))


def write_toy_barn(folder: Path, *, count: int = 96, split: str = "train", size_px: int = SIZE_PX) -> Path:
    """Write toys as a data set of shards, with the facts that training reads."""

    def draw(number: int) -> tuple[str, dict[str, bytes]]:
        coat, side = list(COATS)[number % 4], list(SIDES)[number // 4 % 2]
        picture = draw_toy(coat, side, shift=number % 3 - 1, size_px=size_px)
        facts = {"captions": toy_caption(coat, side), "category": "horse", "backdrop": "plain", "individual": number // 2}
        members = {"rgb.png": _png(picture[:3].transpose(1, 2, 0)), "mask.png": _png(picture[3]), "json": json.dumps(facts).encode()}
        return f"horse-{split}-{number:06d}", members

    write_shards(folder, ShardPlan(f"horse-{split}", {"split": split, "seed": 0}, count, 50), draw)
    return folder


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG")
    return buffer.getvalue()
