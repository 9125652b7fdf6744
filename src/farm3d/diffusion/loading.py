"""Networks of diffusers and transformers out of a folder: safetensors only, offline, silently, and all or nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import nn

from farm3d.core.errors import MissingPartError, ModelError

__all__ = ["load_network", "load_tokenizer", "require_libraries"]

_OLDEST = {"diffusers": (0, 42, 1), "transformers": (5, 0, 0)}  # before 0.42.1 a model_index.json could choose what diffusers imports
_INSTALL = "pip install 'farm3d[diffusion]'"


def require_libraries(*names: str) -> None:
    """See to it that diffusers or transformers is there and new enough.

    Raises:
        MissingPartError: one is not installed, or too old to be safe.
    """
    for name in names:
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError as error:
            raise MissingPartError(f"{name} is not installed", hint=_INSTALL) from error
        numbers = tuple(int(part) if part.isdigit() else 0 for part in version.split(".")[:3])
        if numbers < _OLDEST[name]:
            oldest = ".".join(map(str, _OLDEST[name]))
            raise MissingPartError(f"{name} {version} is too old, {oldest} or newer is needed", hint=_INSTALL)


def load_network(kind: Any, folder: Path, *, device: torch.device, **keywords: Any) -> Any:
    """Return a frozen network in evaluation mode.

    Args:
        kind: a model class of diffusers or transformers.
        folder: its ``config.json`` and safetensors, checked before by :mod:`farm3d.core.hub`.
        device: where it goes.
        keywords: for ``kind.from_pretrained``, such as the dtype.

    Raises:
        ModelError: damaged, incomplete or ill-shaped weights, values that are not finite, a config that the class does not take.
    """
    try:
        with _quietly(), torch.random.fork_rng(devices=[]):  # what is missing is drawn at random, before we can refuse it
            network, report = kind.from_pretrained(
                str(folder), use_safetensors=True, local_files_only=True, output_loading_info=True, **keywords
            )
    except MemoryError:
        raise
    except Exception as error:  # what a library raises on a damaged file is anybody's guess
        raise ModelError(
            f"{folder}: not a {kind.__name__} that can be read: {_one_line(error)}", hint="fetch or copy the model again"
        ) from error
    for what in ("missing_keys", "mismatched_keys", "error_msgs"):
        if names := sorted(map(str, report.get(what) or ())):
            raise ModelError(
                f"{folder}: {len(names)} tensors of a {kind.__name__} are missing or ill-shaped, first {names[0]}",
                hint="fetch or copy the model again",
            )
    assert isinstance(network, nn.Module)
    for name, value in network.named_parameters():
        if not bool(torch.isfinite(value).all()):
            raise ModelError(f"{folder}: tensor '{name}' has values that are not finite", hint="fetch or copy the model again")
    return network.to(device).requires_grad_(False).eval()


def load_tokenizer(kind: Any, folder: Path) -> Any:
    """Return a transformers tokenizer out of a folder.

    Raises:
        ModelError: files that are missing, damaged or of another tokenizer.
    """
    try:
        with _quietly():
            return kind.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # as above
        raise ModelError(f"{folder}: not a {kind.__name__}: {_one_line(error)}", hint="fetch or copy the model again") from error


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return (text[:200] + " …" if len(text) > 200 else text) or type(error).__name__


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep the libraries' progress bars and warnings off the terminal: what matters becomes an error of ours."""
    with contextlib.ExitStack() as stack:
        for logging in _loggings():
            stack.callback(logging.set_verbosity, logging.get_verbosity())
            if logging.is_progress_bar_enabled():
                stack.callback(logging.enable_progress_bar)
            logging.set_verbosity(logging.CRITICAL)
            logging.disable_progress_bar()
        yield


def _loggings() -> list[Any]:
    found: list[Any] = []
    with contextlib.suppress(ImportError):
        from transformers.utils import logging as of_transformers

        found.append(of_transformers)
    with contextlib.suppress(ImportError):
        from diffusers.utils import logging as of_diffusers

        found.append(of_diffusers)
    return found
