"""Put pictures of one size side by side, in rows: what `farm3d render` draws, for the gallery.

python tools/side_by_side.py PICTURE… --columns 8 --to docs/pictures/gallery/learned.jpg
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

from farm3d.training.dataset.sheets import grid_of


def tile_of(path: Path, *, size_px: int) -> Image.Image:
    """Return a picture, made ``size_px`` square."""
    with Image.open(path) as picture:
        return picture.convert("RGBA").resize((size_px, size_px), Image.Resampling.LANCZOS)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--size-px", type=int, default=200)
    parser.add_argument("--to", type=Path, required=True)
    options = parser.parse_args()
    tiles = [tile_of(path, size_px=options.size_px) for path in options.pictures]
    grid_of(tiles, columns=options.columns).save(options.to, quality=88)


if __name__ == "__main__":
    main()
