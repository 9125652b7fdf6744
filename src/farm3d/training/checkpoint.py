"""Checkpoints: sealed folders written aside and renamed, the newest good one read back, the last two kept."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farm3d.core.errors import ForeignModelError, ModelError
from farm3d.core.sealed import SealedFolder, parse_json, write_sealed
from farm3d.core.shapes import Tensor
from farm3d.core.tensor_bytes import bytes_from_tensors, tensors_from_bytes

__all__ = ["Checkpoint", "newest_checkpoint", "remove_leftovers", "save_checkpoint"]

_FORM, _VERSION = "farm3d-checkpoint", 1
_PRIOR = "PriorTraining"
_STATE, _TENSORS = "state.json", "tensors.safetensors"
_NAME = re.compile(r"step-(\d{8})")
_KEPT = 2
_SEAL = {"form": _FORM, "version": _VERSION, "what": "checkpoint"}


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Where training stood.

    Attributes:
        step: steps taken, over all phases.
        facts: JSON-ready values.
        tensors: by name.
    """

    step: int
    facts: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


def save_checkpoint(folder: Path, checkpoint: Checkpoint, *, kind: str = _PRIOR) -> Path:
    """Write a checkpoint, whole or not at all, then remove all but the last two. Returns its path. ``kind`` is of training.

    Raises:
        ModelError: a tensor is not finite: such a state is never written.
        OutputError: the folder cannot be written, or the disk is full; the earlier checkpoints stay.
    """
    path = folder / f"step-{checkpoint.step:08d}"
    facts = json.dumps({"step": checkpoint.step, **checkpoint.facts}, indent=2, sort_keys=True, allow_nan=False) + "\n"
    contents = {_STATE: facts.encode(), _TENSORS: bytes_from_tensors(checkpoint.tensors, where=str(path))}
    write_sealed(path, contents, kind=kind, replace_damaged=True, **_SEAL)
    for old in _found(folder)[_KEPT:]:
        shutil.rmtree(old, ignore_errors=True)
    return path


def newest_checkpoint(folder: Path, *, warn: Callable[[str], None], kind: str = _PRIOR) -> Checkpoint | None:
    """Return the newest checkpoint that is whole, or None where there is none at all.

    Args:
        folder: of checkpoints.
        warn: told, a line each, of newer ones that are damaged.
        kind: of training that is expected.

    Raises:
        ForeignModelError: none is good, and one is of another training or version, or may not be read: nothing to delete.
        ModelError: there are checkpoints, and every one is damaged.
    """
    found, foreign = _found(folder), None
    for path in found:
        try:
            return _read(path, kind)
        except ModelError as error:
            warn(f"{error.message}; trying the one before")
            foreign = foreign or (error if isinstance(error, ForeignModelError) else None)
    if foreign is not None:
        raise ForeignModelError(foreign.message, hint="choose another --state folder, or mend what is named") from foreign
    if found:
        raise ModelError(f"{folder}: all {len(found)} checkpoints are damaged", hint="delete the folder to start from the beginning")
    return None


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed process left of a checkpoint that it was writing or removing."""
    for path in folder.glob(".step-*"):
        shutil.rmtree(path, ignore_errors=True)


def _read(path: Path, kind: str) -> Checkpoint:
    sealed = SealedFolder(path, names=(_STATE, _TENSORS), kind=kind, **_SEAL)
    facts = parse_json(path / _STATE, sealed.read(_STATE))
    tensors = tensors_from_bytes(sealed.read(_TENSORS), where=str(path / _TENSORS))
    return Checkpoint(int(facts.pop("step")), facts, tensors)


def _found(folder: Path) -> list[Path]:
    return sorted((path for path in folder.glob("step-*") if _NAME.fullmatch(path.name)), reverse=True)
