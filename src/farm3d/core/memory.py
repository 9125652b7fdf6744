"""Keeping freed memory: for programs that allocate the same large tensors over and over."""

from __future__ import annotations

import ctypes

__all__ = ["keep_freed_memory"]

# Parameters of mallopt, from malloc.h of glibc.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -2, -3, -8
_ALWAYS, _MARGIN = 1 << 30, 1 << 28


def keep_freed_memory() -> bool:
    """Ask the C library to keep freed memory for the next tensors, and return whether it will.

    glibc gives large blocks back to the system when they are freed, and the system hands out the next ones page by page, each a fault and
    4 kB of zeros to write. A training step asks for hundreds of them, and on a virtual machine faults are dear. The process then stays
    as large as it ever was, so this is for programs, not for libraries: `farm3d prior train` calls it. Other C libraries are
    left as they are.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    wanted = {_MMAP_THRESHOLD: _ALWAYS, _TRIM_THRESHOLD: _ALWAYS, _TOP_PAD: _MARGIN, _ARENA_MAX: 1}
    return min(mallopt(name, value) for name, value in wanted.items()) == 1
