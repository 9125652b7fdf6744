"""Seal a model folder again after its card was edited: the manifest holds the checksum of README.md, and of nothing that was changed.

    python tools/reseal_card.py src/farm3d/weights/horse-learned [MODEL …]

Every other file must still be what the manifest says; a folder where one is not is left as it is.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from farm3d.core.errors import Farm3DError, InputError
from farm3d.core.files import write_whole
from farm3d.core.sealed import MANIFEST, SealedFolder, manifest_bytes

CARD = "README.md"


def reseal(folder: Path) -> bool:
    """Write the manifest anew if the card changed; return whether it did.

    Raises:
        InputError: no model folder with a card.
        ModelError: a file other than the card is not what the manifest says.
    """
    try:
        before = (folder / MANIFEST).read_bytes()
        manifest = json.loads(before)
        what = {"form": manifest["format"], "version": manifest["format_version"], "kind": manifest["kind"]}
        card = (folder / CARD).read_bytes()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder}: not a model folder with a card: {error}") from error
    sealed = SealedFolder(folder, **what)
    after = manifest_bytes({name: card if name == CARD else sealed.read(name) for name in sealed.names}, **what)
    if after != before:
        write_whole(folder / MANIFEST, after)
    return after != before


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    for folder in parser.parse_args().folders:
        print(f"{folder}: {'sealed again' if reseal(folder) else 'as it was'}")
    return 0


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except Farm3DError as error:
        print(f"reseal_card: {error}", file=sys.stderr)
        raise SystemExit(2) from None
