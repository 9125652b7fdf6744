"""Put pictures of one size side by side, in rows: what `farm3d render` draws, for the gallery.

    python tools/side_by_side.py PICTURE… --columns 8 --to docs/pictures/gallery/learned.jpg
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image


def side_by_side(pictures: list[Path], *, columns: int, size_px: int) -> Image.Image:
    """Return the pictures, each made ``size_px`` square, in rows of ``columns``."""
    rows = -(-len(pictures) // columns)
    page = Image.new("RGB", (columns * size_px, rows * size_px), "white")
    for number, path in enumerate(pictures):
        with Image.open(path) as picture:
            tile = picture.convert("RGBA").resize((size_px, size_px), Image.Resampling.LANCZOS)
        page.paste(tile, (number % columns * size_px, number // columns * size_px), tile)
    return page


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--size-px", type=int, default=200)
    parser.add_argument("--to", type=Path, required=True)
    options = parser.parse_args()
    side_by_side(options.pictures, columns=options.columns, size_px=options.size_px).save(options.to, quality=88)


if __name__ == "__main__":
    main()
