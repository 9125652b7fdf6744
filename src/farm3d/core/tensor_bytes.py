"""Named tensors as bytes in the safetensors format, all values finite both ways."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from farm3d.core.errors import ModelError
from farm3d.core.shapes import Tensor

__all__ = ["bytes_from_tensors", "expect_tensors", "tensors_from_bytes"]

_REFETCH = "fetch or copy the model folder again"


def bytes_from_tensors(tensors: Mapping[str, Tensor], *, where: str) -> bytes:
    """Return a safetensors file; equal tensors give equal bytes, whatever their order or device.

    Raises:
        ModelError: naming ``where`` and a tensor with values that are not finite.
    """
    from safetensors.torch import save

    _refuse_nonfinite(tensors, where)
    return save({name: value.detach().cpu().contiguous() for name, value in sorted(tensors.items())})


def tensors_from_bytes(data: bytes, *, where: str) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, on the CPU, in the dtypes in which they were stored.

    Raises:
        ModelError: naming ``where``: not such a file, or a tensor with values that are not finite.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ModelError(f"{where}: not a safetensors file: {error}", hint=_REFETCH) from error
    _refuse_nonfinite(tensors, where)
    return tensors


def expect_tensors(tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]], *, where: str) -> None:
    """Check that ``tensors`` has exactly the names and shapes of ``shapes``.

    Raises:
        ModelError: naming ``where`` and the first missing, unknown or ill-shaped tensor.
    """
    for name, shape in shapes.items():
        if name not in tensors:
            raise ModelError(f"{where}: tensor '{name}' is missing", hint=_REFETCH)
        if tuple(tensors[name].shape) != tuple(shape):
            raise ModelError(f"{where}: tensor '{name}' has shape {list(tensors[name].shape)}, expected {list(shape)}", hint=_REFETCH)
    unknown = sorted(set(tensors) - set(shapes))
    if unknown:
        raise ModelError(f"{where}: unknown tensor '{unknown[0]}'", hint=_REFETCH)


def _refuse_nonfinite(tensors: Mapping[str, Tensor], where: str) -> None:
    for name, value in tensors.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ModelError(f"{where}: tensor '{name}' has values that are not finite")
