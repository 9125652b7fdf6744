"""One folder format for every model: strict config, tensors, model card, and a manifest that makes damage visible.

```
NAME/
  config.json         the fields of one frozen dataclass, nothing else
  model.safetensors   named tensors, all finite
  README.md           model card
  manifest.json       format version, kind of config, size and sha256 of the three files above
```

safetensors checks no values: a flipped bit loads silently. So the folder is a sealed one (:mod:`farm3d.core.sealed`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from farm3d.core.config import config_from_dict, config_to_dict
from farm3d.core.errors import ModelError
from farm3d.core.sealed import MANIFEST, SealedFolder, parse_json, require_replaceable, write_sealed
from farm3d.core.shapes import Tensor
from farm3d.core.tensor_bytes import bytes_from_tensors, expect_tensors, tensors_from_bytes

__all__ = [
    "FORMAT_VERSION",
    "expect_tensors",
    "load_model_folder",
    "model_kind",
    "model_path",
    "require_model_place",
    "save_model_folder",
    "weights_folder",
]

FORMAT_VERSION = 1
_FORMAT = "farm3d-model"
_CONFIG, _TENSORS, _CARD = "config.json", "model.safetensors", "README.md"

_Config = TypeVar("_Config")


def save_model_folder(path: Path | str, config: Any, *, tensors: Mapping[str, Tensor], card: str) -> None:
    """Write a model folder, whole or not at all; an older model folder at ``path`` is replaced.

    Args:
        path: the folder to create; its parent is created when missing.
        config: frozen dataclass of JSON-ready values; its class name is stored as the model's kind.
        tensors: named tensors of any dtype, moved to the CPU.
        card: model card, Markdown: what it is, trained on what, licence, known limits.

    Raises:
        ModelError: a value of the config or of a tensor is not finite.
        OutputError: ``path`` is something other than a model folder, or cannot be written.
    """
    path = Path(path)
    weights = bytes_from_tensors(tensors, where=str(path))
    try:
        config_text = json.dumps(config_to_dict(config), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    except ValueError as error:
        raise ModelError(f"{path}: a value of the {type(config).__name__} is not finite: {error}") from error
    contents = {_CONFIG: config_text.encode(), _TENSORS: weights, _CARD: card.encode()}
    write_sealed(path, contents, form=_FORMAT, version=FORMAT_VERSION, kind=type(config).__name__)


def require_model_place(path: Path, kind: str) -> None:
    """Refuse a folder that :func:`save_model_folder` could not write, before the work: something else stands there.

    Args:
        path: the folder.
        kind: class name of the config.

    Raises:
        OutputError: saying what stands there.
    """
    require_replaceable(path, form=_FORMAT, kind=kind)


def load_model_folder(path: Path | str, kind: type[_Config]) -> tuple[_Config, dict[str, Tensor]]:
    """Read a model folder after checking every byte of it.

    Args:
        path: folder written by :func:`save_model_folder`.
        kind: the config dataclass that the caller expects.

    Returns:
        The config and the named tensors, on the CPU, in the dtypes in which they were stored.

    Raises:
        ModelError: naming the file: missing, of another size, changed, of another kind or version, an unknown or ill-typed config
            value, a tensor that is not finite.
    """
    names = (_CARD, _CONFIG, _TENSORS)
    folder = SealedFolder(Path(path), form=_FORMAT, version=FORMAT_VERSION, kind=kind.__name__, names=names)
    config_path = folder.path / _CONFIG
    config = config_from_dict(kind, parse_json(config_path, folder.peek(_CONFIG)), where=f"{config_path}: config")
    contents = {name: folder.read(name) for name in folder.names}
    return config, tensors_from_bytes(contents[_TENSORS], where=str(folder.path / _TENSORS))


def weights_folder(name: str) -> Path:
    """Return the folder of a model that is shipped inside the package, e.g. ``weights_folder("efficientnet_lite0")``.

    Raises:
        ModelError: no such model; the message lists those that there are.
    """
    root = Path(str(resources.files("farm3d").joinpath("weights")))
    folder = root / name
    if re.fullmatch(r"[A-Za-z0-9_-]+", name) and (folder / MANIFEST).is_file():
        return folder
    there = sorted(entry.name for entry in root.iterdir() if (entry / MANIFEST).is_file()) if root.is_dir() else []
    raise ModelError(
        f"no shipped model '{name}'; shipped: {', '.join(there) or 'none'}",
        hint="`farm3d models list` says what they are; a folder of your own is given as a path with a slash in it",
    )


def model_path(folder: Path | str) -> Path:
    """Return the folder of a model given by path, or by the name of a shipped one.

    Raises:
        ModelError: a bare name that is neither a folder here nor shipped.
    """
    path = Path(folder)
    return weights_folder(str(folder)) if not path.is_dir() and path.name == str(folder) else path


def model_kind(folder: Path) -> str:
    """Return what a model folder says that it holds, the name of its config's class; empty if it says nothing. Checks nothing else."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return str(manifest.get("kind", "")) if isinstance(manifest, dict) else ""
