"""What happens to files: flipped bits, cuts, insertions, exchanges. For tests that none of it goes unnoticed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

__all__ = ["Damage", "damages"]

_ACTIONS = ("flip", "flip", "flip", "cut", "insert", "append", "byte", "swap")


class Damage(NamedTuple):
    """One file, what happened to it and where, and its bytes after that."""

    name: str
    action: str
    place: int
    data: bytes


def damages(good: Mapping[str, bytes], count: int, *, seed: int) -> list[Damage]:
    """Return ``count`` damages, of each file in turn; those that by chance changed nothing are left out."""
    rng = np.random.default_rng(seed)
    names, found = list(good), []
    for trial in range(count):
        name = names[trial % len(names)]
        data = bytearray(good[name])
        action, place = _ACTIONS[int(rng.integers(len(_ACTIONS)))], int(rng.integers(len(data)))
        if action == "flip":
            data[place] ^= 1 << int(rng.integers(8))
        elif action == "cut":
            del data[place:]
        elif action == "insert":
            data.insert(place, int(rng.integers(256)))
        elif action == "append":
            data += bytes(rng.integers(0, 256, int(rng.integers(1, 40)), dtype=np.uint8))
        elif action == "byte":
            data[place] = (data[place] + int(rng.integers(1, 256))) % 256
        else:
            data = bytearray(good[names[(trial + 1 + int(rng.integers(len(names) - 1))) % len(names)]])
        if bytes(data) != good[name]:
            found.append(Damage(name, action, place, bytes(data)))
    return found
