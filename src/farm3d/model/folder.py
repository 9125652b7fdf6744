"""One folder format for every model: strict config, tensors, model card, and a manifest that makes damage visible.

```
NAME/
  config.json         the fields of one frozen dataclass, nothing else
  model.safetensors   named tensors, all finite
  README.md           model card
  manifest.json       format version, kind of config, size and sha256 of the three files above
```

safetensors checks no values: a flipped bit loads silently. So every byte of every file is checked against the manifest before it is
used, and the manifest itself must be written exactly as we write it. Loading runs no code from the folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import torch

from farm3d.core.config import config_from_dict, config_to_dict
from farm3d.core.errors import ModelError, OutputError
from farm3d.core.shapes import Tensor

__all__ = ["FORMAT_VERSION", "expect_tensors", "load_model_folder", "save_model_folder", "weights_folder"]

FORMAT_VERSION = 1
_FORMAT = "farm3d-model"
_CONFIG, _TENSORS, _CARD, _MANIFEST = "config.json", "model.safetensors", "README.md", "manifest.json"
_TEXT_LIMIT_BYTES = 4 << 20
_REFETCH = "fetch or copy the model folder again"

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
    from safetensors.torch import save

    path = Path(path)
    _refuse_nonfinite(tensors, str(path))
    try:
        config_text = json.dumps(config_to_dict(config), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    except ValueError as error:
        raise ModelError(f"{path}: a value of the {type(config).__name__} is not finite: {error}") from error
    contents = {
        _CONFIG: config_text.encode(),
        _TENSORS: save({name: value.detach().cpu().contiguous() for name, value in sorted(tensors.items())}),
        _CARD: card.encode(),
    }
    contents[_MANIFEST] = _manifest_bytes(_manifest(type(config).__name__, contents))
    with _whole_folder(path) as part:
        for name, data in contents.items():
            with (part / name).open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())


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
    from safetensors import SafetensorError
    from safetensors.torch import load

    path = Path(path)
    if not path.is_dir():
        reason = "is not a folder" if path.exists() else "does not exist"
        raise ModelError(f"{path}: {reason}; expected a model folder with {_MANIFEST}", hint=_REFETCH)
    contents = {name: _read(path / name, limit=_TEXT_LIMIT_BYTES) for name in (_MANIFEST, _CONFIG)}
    files = _check_manifest(path / _MANIFEST, contents[_MANIFEST], kind.__name__)
    # The config comes before its checksum: after an edit by hand, "unknown key, did you mean …" helps more than "changed".
    config = config_from_dict(kind, _parse(path / _CONFIG, contents[_CONFIG]), where=f"{path / _CONFIG}: config")
    for name, facts in files.items():
        data = contents[name] if name in contents else _read(path / name, limit=facts["size_bytes"] + 1)
        if len(data) != facts["size_bytes"]:
            more = "more than " if len(data) > facts["size_bytes"] else ""
            size = min(len(data), facts["size_bytes"])
            raise ModelError(f"{path / name}: {more}{size} bytes, expected {facts['size_bytes']}", hint=_REFETCH)
        if hashlib.sha256(data).hexdigest() != facts["sha256"]:
            raise ModelError(f"{path / name}: changed since it was written (sha256 differs from {_MANIFEST})", hint=_REFETCH)
        contents[name] = data
    try:
        tensors = load(contents[_TENSORS])
    except (SafetensorError, ValueError, KeyError) as error:
        raise ModelError(f"{path / _TENSORS}: not a safetensors file: {error}", hint=_REFETCH) from error
    _refuse_nonfinite(tensors, str(path / _TENSORS))
    return config, tensors


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


def weights_folder(name: str) -> Path:
    """Return the folder of a model that is shipped inside the package, e.g. ``weights_folder("efficientnet_lite0")``.

    Raises:
        ModelError: no such model; the message lists those that there are.
    """
    root = Path(str(resources.files("farm3d").joinpath("weights")))
    folder = root / name
    if re.fullmatch(r"[A-Za-z0-9_-]+", name) and (folder / _MANIFEST).is_file():
        return folder
    there = sorted(entry.name for entry in root.iterdir() if (entry / _MANIFEST).is_file()) if root.is_dir() else []
    raise ModelError(f"no shipped model '{name}'; shipped: {', '.join(there) or 'none'}", hint="reinstall farm3d if one is missing")


def _manifest(kind: str, contents: Mapping[str, bytes]) -> dict[str, Any]:
    files = {name: {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)} for name, data in sorted(contents.items())}
    return {"format": _FORMAT, "format_version": FORMAT_VERSION, "kind": kind, "files": files}


def _manifest_bytes(manifest: Mapping[str, Any]) -> bytes:
    return (json.dumps(manifest, indent=2) + "\n").encode()


def _check_manifest(path: Path, data: bytes, kind: str) -> dict[str, dict[str, Any]]:
    """Return ``files`` of the manifest, after comparing it byte for byte with what we would have written for its own values."""
    manifest = _parse(path, data)
    if not isinstance(manifest, dict) or manifest.get("format") != _FORMAT:
        raise ModelError(f"{path}: not the manifest of a farm3d model", hint=_REFETCH)
    version = manifest.get("format_version")
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise ModelError(f"{path}: format version {version!r}, expected {FORMAT_VERSION}", hint="use the farm3d release it was made for")
    if manifest.get("kind") != kind:
        raise ModelError(f"{path}: holds a model of kind {manifest.get('kind')!r}, expected {kind!r}", hint="give another model folder")
    files = manifest.get("files")
    if not isinstance(files, dict):
        files = {}
    good = sorted(files) == sorted((_CARD, _CONFIG, _TENSORS)) and all(_is_entry(facts) for facts in files.values())
    if not good or data != _manifest_bytes({"format": _FORMAT, "format_version": version, "kind": kind, "files": files}):
        raise ModelError(f"{path}: damaged: not as farm3d writes it", hint=_REFETCH)
    return files


def _is_entry(facts: Any) -> bool:
    if not isinstance(facts, dict) or list(facts) != ["sha256", "size_bytes"]:
        return False
    digest, size = facts["sha256"], facts["size_bytes"]
    return isinstance(digest, str) and type(size) is int and size >= 0 and re.fullmatch("[0-9a-f]{64}", digest) is not None


def _parse(path: Path, data: bytes) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) != len(pairs):
            raise ValueError("the same key twice")
        return dict(pairs)

    try:
        return json.loads(data.decode(), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not readable as JSON: {error}", hint=_REFETCH) from error


def _read(path: Path, *, limit: int) -> bytes:
    """Return a regular file's bytes, at most ``limit`` of them. A pipe or device is refused before it is opened: it could block."""
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):
            raise ModelError(f"{path}: not a regular file", hint=_REFETCH)
        with path.open("rb") as file:
            return file.read(min(limit, facts.st_size + 1))  # read(n) reserves n bytes at once
    except FileNotFoundError as error:
        raise ModelError(f"{path}: missing", hint=_REFETCH) from error
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}", hint="check its permissions") from error


def _refuse_nonfinite(tensors: Mapping[str, Tensor], where: str) -> None:
    for name, value in tensors.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ModelError(f"{where}: tensor '{name}' has values that are not finite")


@contextlib.contextmanager
def _whole_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; put it in the place of ``path`` when the block ends well, else remove it."""
    if path.exists() and not (path / _MANIFEST).is_file():
        raise OutputError(f"{path}: exists and is not a model folder", hint="choose another folder")
    part = old = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{path.name[:60]}.", suffix=".part", dir=path.parent))
        yield part
        umask = os.umask(0)
        os.umask(umask)
        part.chmod(0o777 & ~umask)
        _sync(part)
        if path.exists():  # a folder cannot be renamed onto a full one: step aside first, so that a reader finds old, nothing, or new
            old = Path(tempfile.mkdtemp(prefix=f".{path.name[:60]}.", suffix=".old", dir=path.parent))
            os.rename(path, old / path.name)
        try:
            os.rename(part, path)
        except OSError:
            if old is not None:
                os.rename(old / path.name, path)
            raise
        _sync(path.parent)
    except OSError as error:
        raise OutputError(f"{path}: cannot write: {error.strerror or error}", hint="free some space or choose another folder") from error
    finally:
        for left in (part, old):
            if left is not None:
                shutil.rmtree(left, ignore_errors=True)


def _sync(folder: Path) -> None:
    """Make a folder's entries durable, where the system allows a folder to be opened."""
    with contextlib.suppress(PermissionError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
