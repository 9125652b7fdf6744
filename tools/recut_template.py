"""Cut a learned category's template anew from its own shape, with the blur that `farm3d train` uses now; no picture is needed.

    python tools/recut_template.py OLD/MODEL --out NEW/MODEL [--blur 0.03]

The card is kept; say in it what was done, then `python tools/reseal_card.py NEW/MODEL`.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from farm3d.core.errors import Farm3DError
from farm3d.model.category.learned import LearnedCategory
from farm3d.training.category.finish import FinishOptions, recut


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder of a learned category")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--blur", type=float, help="canonical units; leave out for the first of the usual ones that gives a template")
    options = parser.parse_args()
    how = FinishOptions() if options.blur is None else replace(FinishOptions(), blurs=(options.blur,))
    learned = LearnedCategory.from_pretrained(options.model)
    before, made = learned.prior.template.vertices, recut(learned, how)
    made.save_pretrained(options.out, card=(options.model / "README.md").read_text(encoding="utf-8"))
    trained, after = learned.rest.vertices, made.prior.template.vertices
    feet = ", ".join(f"{name} {-float(mesh[:, 1].min()):.2f}" for name, mesh in (("before", before), ("now", after), ("trained", trained)))
    print(f"{options.out}: lowest point below the root, canonical units: {feet}")
    return 0


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except Farm3DError as error:
        print(f"recut_template: {error}", file=sys.stderr)
        raise SystemExit(2) from None
