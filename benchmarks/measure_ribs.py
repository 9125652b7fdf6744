"""How ribbed the trunk of learned categories is: what outlines and distances between surfaces hardly see.

    python benchmarks/measure_ribs.py horse-learned state/models/zebra …

Half widths of the rest shape are read off the field every .02 canonical units from the rump to the shoulders, at heights from 0 to .5. A
rib is what differs from the mean over one unit of length around it: given is its root mean square over the mean half width, and that width.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
import torch

from farm3d.core.errors import Farm3DError
from farm3d.model.category.learned import LearnedCategory

STEP = 0.02
WINDOW = 50  # slices, one unit of length
WIDEST = 1.3


def main() -> int:
    """Print a line for each model; return 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL", help="folder that `farm3d train` wrote, or the name of a shipped one")
    print("| model | ribs | mean half width |\n|---|---|---|")
    for name in parser.parse_args().models:
        widths = half_widths(LearnedCategory.from_pretrained(name))
        print(f"| {name} | {ribs(widths):.3f} | {widths.mean():.2f} |")
    return 0


def half_widths(learned: LearnedCategory) -> np.ndarray:
    """Return the largest x within the rest shape, ``[slices, heights]``, canonical units."""
    names, skeleton = learned.scaffold.skeleton.names, learned.scaffold.skeleton
    rump, shoulders = float(skeleton.starts[names.index("pelvis_02")][2]), float(skeleton.ends[names.index("spine_01")][2])
    z = torch.linspace(rump, shoulders, int((shoulders - rump) / STEP) + 1)
    y, x = torch.linspace(0, 0.5, 11), torch.linspace(0, WIDEST, 131)
    grid = torch.stack(torch.meshgrid(z, y, x, indexing="ij"), -1).flip(-1)
    with torch.no_grad():
        inside = torch.cat([learned.model.shape(points) for points in grid.reshape(-1, 3).split(65536)]) > 0
    return (inside.reshape(grid.shape[:3]) * x).amax(-1).numpy()


def ribs(widths: np.ndarray) -> float:
    """Return the root mean square of what is faster than a unit of length, over the mean."""
    padded = np.pad(widths, ((WINDOW // 2, WINDOW // 2), (0, 0)), mode="edge")
    smooth = np.stack([padded[i : i + WINDOW + 1].mean(0) for i in range(len(widths))])
    return float(np.sqrt(np.square(widths - smooth).mean()) / widths.mean())


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except Farm3DError as error:
        print(f"measure_ribs: {error}", file=sys.stderr)
        raise SystemExit(2) from None
