"""Seal a model folder again after its card was edited: the manifest holds the checksum of README.md, and of nothing that was changed.

    python tools/reseal_card.py src/farm3d/weights/horse-learned [MODEL …]

Every other file must still be what the manifest says; a folder where one is not is left as it is.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path

from farm3d.core.errors import Farm3DError, InputError
from farm3d.core.files import write_whole
from farm3d.core.sealed import manifest_bytes

CARD, MANIFEST = "README.md", "manifest.json"


def reseal(folder: Path) -> bool:
    """Write the manifest anew if the card changed; return whether it did.

    Raises:
        InputError: no model folder, or a file other than the card is not what the manifest says.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        contents = {name: (folder / name).read_bytes() for name in manifest["files"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder}: not a model folder: {error}") from error
    changed = [name for name, data in contents.items() if hashlib.sha256(data).hexdigest() != manifest["files"][name]["sha256"]]
    others = [name for name in changed if name != CARD]
    if others:
        raise InputError(f"{folder}: not only the card was changed, but {', '.join(others)}", hint="fetch or copy the model folder again")
    if changed:
        form, version, kind = (manifest[name] for name in ("format", "format_version", "kind"))
        write_whole(folder / MANIFEST, manifest_bytes(contents, form=form, version=version, kind=kind))
    return bool(changed)


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
