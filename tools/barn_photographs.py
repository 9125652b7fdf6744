"""Write pictures of the barn as a user's photographs with masks and captions, for `farm3d prepare-data`; drawn ones beside them if asked.

    python tools/barn_photographs.py barn/horse OUT --count 1400 [--generated sets/horse]
    farm3d prepare-data OUT --category horse --dims 64 --size-px 128 --any-animal --out sets/barn-horse

This is how the benchmark's rows learned from the barn's own training pictures were made: picture, silhouette and the plain caption; no
camera and no 3D goes over. Pictures of split `test` and `val` are refused, because they are to judge with.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from farm3d.core.shard_reader import read_shards
from farm3d.training.dataset.rows import facts_of


def main() -> int:
    """Write the folder; return 0, or 2 if these pictures must train nothing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("barn", type=Path, help="folder of `farm3d barn make SPECIES --split train`")
    parser.add_argument("out", type=Path, help="new folder")
    parser.add_argument("--count", type=int, default=1400, help="pictures of the barn")
    parser.add_argument("--generated", type=Path, help="folder of `farm3d generate`: all of its pictures with their prompts as well")
    options = parser.parse_args()
    if options.out.exists():
        parser.error(f"{options.out}: is there already; choose a new folder")
    written = 0
    for key, members in read_shards(sorted(options.barn.glob("*.tar"))):
        facts = facts_of(key, members)
        if facts["split"] != "train":
            print(f"{key}: of split '{facts['split']}', which is to judge with", file=sys.stderr)
            return 2
        _write(options.out, key, members, facts["caption"])
        written += 1
        if written == options.count:
            break
    drawn = 0
    if options.generated is not None:
        pictures = [path for path in sorted(options.generated.glob("*.tar")) if "-features" not in path.name]
        for key, members in read_shards(pictures):
            if "rgb.png" in members:
                _write(options.out, key, members, facts_of(key, members)["prompt"])
                drawn += 1
    print(f"{options.out}: {written} pictures of the barn, {drawn} generated")
    return 0


def _write(out: Path, key: str, members: Mapping[str, bytes], caption: str) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{key}.png").write_bytes(members["rgb.png"])
    (out / f"{key}_mask.png").write_bytes(members["mask.png"])
    (out / f"{key}.txt").write_text(caption + "\n", encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
