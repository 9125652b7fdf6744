"""What a figure depends on besides the method: command, date, versions and machine."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from farm3d.core.version import __version__

__all__ = ["circumstances"]


def circumstances(command: str) -> dict[str, Any]:
    """Return command, date (UTC), versions and machine, in words and without paths."""
    import numpy
    import scipy
    import torch

    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30 if hasattr(os, "sysconf") else None
    return {
        "command": command,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {
            "farm3d": __version__,
            "python": platform.python_version(),
            **{module.__name__: str(module.__version__) for module in (torch, numpy, scipy)},
        },
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "processor": _processor(),
            "cores": os.cpu_count(),
            "memory_gib": round(memory_gib, 1) if memory_gib else None,
        },
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"
