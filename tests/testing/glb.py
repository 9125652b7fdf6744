"""A GLB with other JSON: what a reader must refuse."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

__all__ = ["rewritten"]


def rewritten(data: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    """Return a GLB whose JSON ``change`` has changed in place; lengths are right again."""
    length = struct.unpack_from("<I", data, 12)[0]
    gltf = json.loads(data[20 : 20 + length])
    change(gltf)
    text = json.dumps(gltf).encode()
    text += b" " * (-len(text) % 4)
    rest = data[20 + length :]
    return struct.pack("<IIIII", 0x46546C67, 2, 20 + len(text) + len(rest), len(text), 0x4E4F534A) + text + rest
