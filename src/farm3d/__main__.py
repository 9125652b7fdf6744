"""``python -m farm3d`` is the command ``farm3d``."""

from __future__ import annotations

import sys

from farm3d.apps.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
