"""Random draws come from explicit generators; nothing touches the global stream."""

from __future__ import annotations

import hashlib

import numpy as np
import torch

__all__ = ["numpy_generator", "torch_generator"]


def _mix(seed: int, words: tuple[str | int, ...]) -> int:
    text = "/".join([str(seed), *map(str, words)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def numpy_generator(seed: int, *words: str | int) -> np.random.Generator:
    """Return a NumPy generator for a seed and a purpose, e.g. ``numpy_generator(0, "coat", 7)``: equal words, equal stream."""
    return np.random.default_rng(_mix(seed, words))


def torch_generator(seed: int, *words: str | int, device: str = "cpu") -> torch.Generator:
    """Return a torch generator for a seed and a purpose, as :func:`numpy_generator`."""
    return torch.Generator(device).manual_seed(_mix(seed, words) & 0x7FFF_FFFF_FFFF_FFFF)
