"""Legend of the tensor shapes used in signatures.

Letters in jaxtyping strings mean the same thing everywhere:

``*batch`` any leading batch axes, ``B`` pictures, ``V`` vertices, ``F`` faces, ``K`` bones, ``U`` UV corners,
``C`` channels, ``H W`` picture rows and columns, ``N`` points, ``T`` key times.

Annotations are checked at run time when the environment variable ``FARM3D_CHECK_SHAPES=1`` is set before the first import (the
test suite does so); otherwise they cost nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar, cast

from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["Bool", "Float", "Int", "Tensor", "checked"]

_Callable = TypeVar("_Callable", bound=Callable[..., object])


def checked(function: _Callable) -> _Callable:
    """Check the jaxtyping annotations of ``function`` on every call if ``FARM3D_CHECK_SHAPES=1``; otherwise return it unchanged."""
    if os.environ.get("FARM3D_CHECK_SHAPES") != "1":
        return function
    from beartype import beartype
    from jaxtyping import jaxtyped

    return cast(_Callable, jaxtyped(function, typechecker=beartype))
