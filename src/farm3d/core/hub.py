"""Model folders that others made: where they are (a path or a hub id), what their JSON says, which weight files may be read.

What comes from strangers is read as data only: JSON and safetensors. A folder that offers weights as pickles, or asks for code of its own
to be run, is refused in one line. Our own model folders have a manifest and are stricter still: :mod:`farm3d.model.folder`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from farm3d.core.errors import InputError, MissingPartError, ModelError
from farm3d.core.files import sha256_of

__all__ = ["digest_of", "read_config", "read_json", "resolve_model", "weight_files"]

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_JSON_LIMIT_BYTES = 16 << 20
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_REFETCH = "fetch or copy the model again"


def resolve_model(
    source: str | Path, *, files: Sequence[str], revision: str | None = None, local_files_only: bool = False
) -> tuple[Path, str]:
    """Return the folder of a model, downloaded if need be, and its name: the hub id, or the folder's own.

    Args:
        source: an existing folder, or a hub id ``owner/name``. A folder of that name comes first.
        files: patterns of the files worth downloading, such as ``*/config.json``. Nothing else is fetched.
        revision: branch, tag or commit on the hub.
        local_files_only: take what was downloaded before, and ask nobody.

    Raises:
        InputError: neither a folder nor of a hub id's form; or the hub has no such model for us.
        MissingPartError: not downloaded yet, and the hub may not or cannot be asked; or huggingface_hub is not installed.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder, folder.resolve().name
    if isinstance(source, Path) or not _HUB_ID.fullmatch(source):
        raise InputError(f"{source}: no such folder", hint="give a model folder, or a hub id such as owner/name")
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError
        from huggingface_hub.errors import RevisionNotFoundError as NoRevision
    except ImportError as error:
        raise MissingPartError(f"{source}: huggingface_hub is not installed", hint="pip install 'farm3d[diffusion]'") from error
    try:
        fetched = snapshot_download(source, allow_patterns=list(files), revision=revision, local_files_only=local_files_only)
    except (RepositoryNotFoundError, NoRevision, HFValidationError) as error:
        raise InputError(
            f"{source}: no such folder here, and the hub has no such model, or not for you", hint="check the name; log in if it is gated"
        ) from error
    except LocalEntryNotFoundError as error:
        raise MissingPartError(
            f"{source}: no such folder, and not among the models downloaded before",
            hint="download it where there is a network, or give a folder",
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise MissingPartError(f"{source}: cannot be downloaded: {_first_line(error)}", hint="try again, or give a folder") from error
    return Path(fetched), source


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        ModelError: missing, unreadable, too large to be a description, not JSON, or not an object.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_JSON_LIMIT_BYTES + 1)
    except FileNotFoundError as error:
        raise ModelError(f"{path}: missing", hint=_REFETCH) from error
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}", hint="check its permissions") from error
    if len(data) > _JSON_LIMIT_BYTES:
        raise ModelError(f"{path}: larger than {_JSON_LIMIT_BYTES >> 20} MiB, too large for a description", hint=_REFETCH)
    try:
        values = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not readable as JSON: {error}", hint=_REFETCH) from error
    if not isinstance(values, dict):
        raise ModelError(f"{path}: expected an object with named values, got {type(values).__name__}", hint=_REFETCH)
    return values


def read_config(folder: Path, name: str = "config.json") -> dict[str, Any]:
    """Return the config of a network, after making sure that it is only a description.

    Libraries act on some of its keys: ``auto_map`` imports code from the folder, ``quantization_config`` a backend by name, and an
    adapter's config fetches another model.

    Raises:
        ModelError: as :func:`read_json`, or one of those is there.
    """
    config = read_json(folder / name)
    if "auto_map" in config:
        raise ModelError(
            f"{folder / name}: asks for code of its own (auto_map), which is never run", hint="give a model of a standard class"
        )
    if "quantization_config" in config:
        raise ModelError(f"{folder / name}: quantized weights are not read", hint="give the model in full or half precision")
    if (folder / "adapter_config.json").exists():
        raise ModelError(f"{folder}: holds an adapter to another model, not a whole one", hint="merge the adapter into its model first")
    return config


def weight_files(folder: Path, *, stem: str, variant: str | None = None) -> list[Path]:
    """Return the safetensors files that hold a network: ``STEM[.VARIANT].safetensors``, or its numbered shards.

    Raises:
        ModelError: there are none; the message says whether there are pickles or other variants instead.
    """
    wanted = f"{stem}.{variant}" if variant else stem
    whole = folder / f"{wanted}.safetensors"
    shards = sorted(folder.glob(f"{wanted}-*-of-*.safetensors"))
    if whole.is_file() or shards:
        return [whole] if whole.is_file() else shards
    there = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if other := [name for name in there if name.startswith(stem) and name.endswith(".safetensors")]:
        raise ModelError(f"{folder}: has no {whole.name}, but {', '.join(other[:3])}", hint="ask for another variant")
    if pickled := [name for name in there if name.endswith(_PICKLED)]:
        raise ModelError(
            f"{folder}: only pickled weights ({pickled[0]}), which can run code when opened and are never read",
            hint="give the model as safetensors",
        )
    raise ModelError(f"{whole}: missing, and only safetensors are read", hint=_REFETCH)


def digest_of(folder: Path, files: Iterable[Path]) -> str:
    """Return one sha256 (hex) over the names, relative to ``folder``, and the sha256 of files: equal digest, equal files."""
    lines = sorted(f"{path.relative_to(folder).as_posix()} {sha256_of(path)}\n" for path in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
