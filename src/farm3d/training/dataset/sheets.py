"""Sheets to look at: a page for each view and action, a grid of any rows, and principal components as colours."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw

from farm3d.core.files import whole_file
from farm3d.core.shapes import Tensor
from farm3d.core.shard_plan import ShardPlan
from farm3d.core.shard_reader import ShardIndex
from farm3d.core.tensor_bytes import tensors_from_bytes
from farm3d.model.feature_pca import pca_picture
from farm3d.training.dataset.cutting import decoded

__all__ = ["PAGE", "components_of", "draw_grid", "feature_tiles", "grid_of", "index_of", "picture_tile", "text_tile", "write_pages"]

PAGE = 16
"""Pictures on a page of :func:`write_pages`, at most."""

_TILE_PX, _LABEL_PX, _LINES = 192, 30, 2


def index_of(folder: Path, plan: ShardPlan) -> ShardIndex:
    """Return the rows of a finished data set by number and key.

    Raises:
        InputError: a shard is missing or damaged.
    """
    return ShardIndex([folder / f"{plan.stem(shard)}.tar" for shard in range(plan.shards)])


def write_pages(folder: Path, plan: ShardPlan, facts: Sequence[dict[str, Any]]) -> list[Path]:
    """Write ``sheets/NAME-VIEW-ACTION.png``, a page for each prompt without its coat, and return the files.

    Raises:
        InputError: a shard cannot be read.
        OutputError: a page cannot be written.
    """
    index = index_of(folder, plan)
    pages: dict[str, list[dict[str, Any]]] = {}
    for row in facts:
        if "failed" not in row:
            pages.setdefault(_page_name(row), []).append(row)
    written = []
    for page, rows in sorted(pages.items()):
        chosen = [rows[i * len(rows) // min(PAGE, len(rows))] for i in range(min(PAGE, len(rows)))]
        tiles = [picture_tile(index.read(row["key"])[1], _label(row)) for row in chosen]
        written.append(draw_grid(folder / "sheets" / f"{plan.name}-{page}.png", tiles, columns=4))
    return written


def picture_tile(members: dict[str, bytes], label: str) -> Image.Image:
    """Return a row's crop with words under it."""
    picture = Image.open(io.BytesIO(members["rgb.png"])).convert("RGB").resize((_TILE_PX, _TILE_PX), Image.Resampling.BILINEAR)
    return _labelled(picture, label)


def text_tile(label: str) -> Image.Image:
    """Return a tile for a row without a picture: its reason in words."""
    tile = Image.new("RGB", (_TILE_PX, _TILE_PX + _LABEL_PX), "white")
    _write(tile, label, top=_TILE_PX // 3, lines=8)
    return tile


def feature_tiles(rows: Sequence[tuple[dict[str, bytes], Tensor, str]]) -> list[Image.Image]:
    """Return crops with their first three components as red, green and blue under them; the colours mean the same in all.

    Args:
        rows: members of the picture, components ``[D, G, G]`` and label of each.
    """
    masks = torch.stack([decoded(members)[1] for members, _, _ in rows])
    colours = pca_picture(torch.stack([components for _, components, _ in rows]).float(), masks, size_px=_TILE_PX)
    tiles = []
    for (members, _, label), colour in zip(rows, colours, strict=True):
        top = Image.open(io.BytesIO(members["rgb.png"])).convert("RGB").resize((_TILE_PX, _TILE_PX), Image.Resampling.BILINEAR)
        both = Image.new("RGB", (_TILE_PX, 2 * _TILE_PX))
        both.paste(top, (0, 0))
        both.paste(Image.fromarray((colour * 255).round().byte().permute(1, 2, 0).numpy()), (0, _TILE_PX))
        tiles.append(_labelled(both, label))
    return tiles


def components_of(key: str, members: dict[str, bytes]) -> Tensor:
    """Return a row's components ``[D, G, G]``.

    Raises:
        ModelError: they are no safetensors, or not finite.
    """
    return tensors_from_bytes(members["features.safetensors"], where=key)["components"]


def draw_grid(path: Path, tiles: Sequence[Image.Image], *, columns: int) -> Path:
    """Write tiles of one size as a grid, and return the file.

    Raises:
        OutputError: it cannot be written.
    """
    with whole_file(path) as part:
        grid_of(tiles, columns=columns).save(part, "PNG")
    return path


def grid_of(tiles: Sequence[Image.Image], *, columns: int) -> Image.Image:
    """Return tiles of one size as a grid; what is transparent in one is white."""
    width, height = tiles[0].size
    columns = min(columns, len(tiles))
    grid = Image.new("RGB", (columns * width, -(-len(tiles) // columns) * height), "white")
    for i, tile in enumerate(tiles):
        grid.paste(tile, (i % columns * width, i // columns * height), tile if tile.mode == "RGBA" else None)
    return grid


def _page_name(row: dict[str, Any]) -> str:
    known = [row["view_name"], row["action"]]
    words = " ".join(word for word in known if word) if any(known) else row.get("prompt", "photographs")
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")[:80] or "other"


def _label(row: dict[str, Any]) -> str:
    return f"{row['key'].rpartition('-')[2]} {row['coat'] or row.get('file') or row.get('prompt') or ''}"


def _labelled(picture: Image.Image, label: str) -> Image.Image:
    tile = Image.new("RGB", (picture.width, picture.height + _LABEL_PX), "white")
    tile.paste(picture, (0, 0))
    _write(tile, label, top=picture.height + 2, lines=_LINES)
    return tile


def _write(tile: Image.Image, text: str, *, top: int, lines: int) -> None:
    pen = ImageDraw.Draw(tile)
    rows = [""]
    for word in text.split():
        longer = f"{rows[-1]} {word}".strip()
        if rows[-1] and pen.textlength(longer) > tile.width - 4:
            rows.append(word)
        else:
            rows[-1] = longer
    for number, row in enumerate(rows[:lines]):
        pen.text((2, top + 13 * number), row, fill="black")
