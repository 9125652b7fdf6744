"""One photograph of an animal in; a rigged, textured, animated 3D animal out.

The public names below load on first use, so that ``import farm3d`` and ``farm3d --help`` stay quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from farm3d.core.errors import Farm3DError
from farm3d.core.version import __version__

if TYPE_CHECKING:
    from farm3d.apps.from_words import animal_from_words
    from farm3d.model.reconstructor import Reconstructor
    from farm3d.structures import Animal, Camera, Crop, Light, Mesh, Skeleton

__all__ = ["Animal", "Camera", "Crop", "Farm3DError", "Light", "Mesh", "Reconstructor", "Skeleton", "__version__", "animal_from_words"]

_HOMES = {"Reconstructor": "farm3d.model.reconstructor", "animal_from_words": "farm3d.apps.from_words"} | dict.fromkeys(
    ("Animal", "Camera", "Crop", "Light", "Mesh", "Skeleton"), "farm3d.structures"
)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'farm3d' has no attribute {name!r}; public names: {', '.join(__all__)}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
