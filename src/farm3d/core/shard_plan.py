"""What a data set is before its bytes: the plan that decides them, and the manifest that vouches for each shard.

Both are JSON files that carry a sha256 of themselves and are compared letter for letter, so that no edit goes unseen.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farm3d.core.errors import InputError

__all__ = ["ShardManifest", "ShardPlan", "ShardRow", "read_manifest", "read_plan"]

_FORMAT = 1
# Short enough that temporary names, which whole_file cuts at 60 bytes, stay different from shard to shard.
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,47}")
_MOST_SHARDS = 1_000_000
_MEND = "delete it and run what makes the data set again: shards that are whole are kept"


@dataclass(frozen=True)
class ShardPlan:
    """A data set: ``count`` samples in tar files ("shards") of ``per_shard`` samples, the last one perhaps shorter.

    Raises:
        InputError: a name with other letters than a-z, 0-9, ``_`` and ``-`` or longer than 48, a count or shard size below one, or more
            than a million shards.
        ValueError: a fingerprint that is no JSON.
    """

    name: str
    """Starts every file name of the data set."""

    fingerprint: Mapping[str, Any]
    """The recipe: everything that decides the bytes, such as category, split, seed, size in pixels and version of the code. JSON."""

    count: int
    """Samples in all; not part of the recipe, so that a data set can grow."""

    per_shard: int = 1000
    """Samples in a shard."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise InputError(f"'{self.name}': not a name for a data set", hint="up to 48 of a-z, 0-9, - and _, e.g. horse-train")
        for what, number in (("count", self.count), ("per_shard", self.per_shard)):
            if not isinstance(number, int) or isinstance(number, bool) or number < 1:
                raise InputError(f"{self.name}: {what} must be a whole number of at least 1, got {number!r}")
        if self.shards > _MOST_SHARDS:
            raise InputError(f"{self.name}: {self.shards} shards are more than {_MOST_SHARDS}", hint="put more samples into a shard")
        try:
            recipe = json.loads(json.dumps(dict(self.fingerprint), sort_keys=True, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{self.name}: the fingerprint is no JSON: {error}") from error
        object.__setattr__(self, "fingerprint", recipe)  # as it will be read back: tuples as lists, and nobody else's object

    @property
    def shards(self) -> int:
        """Number of shards."""
        return -(-self.count // self.per_shard)

    @functools.cached_property
    def digest(self) -> str:
        """The sha256 of what decides the bytes of a full shard: all but ``count``."""
        return _sha256(_render({"name": self.name, "fingerprint": self.fingerprint, "per_shard": self.per_shard}))

    @property
    def file_name(self) -> str:
        """Name of the file that holds this plan."""
        return f"{self.name}.plan.json"

    def samples(self, shard: int) -> range:
        """Return the numbers of the samples in a shard."""
        return range(shard * self.per_shard, min((shard + 1) * self.per_shard, self.count))

    def stem(self, shard: int) -> str:
        """Return the name of a shard's files without ``.tar`` or ``.json``."""
        return f"{self.name}-{shard:06d}"

    def to_text(self) -> str:
        """Return the text of the plan's file."""
        return _sealed({"name": self.name, "fingerprint": self.fingerprint, "count": self.count, "per_shard": self.per_shard})

    def differences(self, there: ShardPlan) -> list[str]:
        """Return one phrase for each part of the recipe that is another one in ``there``."""
        here_parts, there_parts = (
            dict(_leaves({"per_shard": plan.per_shard, "fingerprint": plan.fingerprint}, "")) for plan in (self, there)
        )
        keys = [key for key in {**there_parts, **here_parts} if here_parts.get(key) != there_parts.get(key)]
        return [f"{key} is {there_parts.get(key, 'absent')} there and {here_parts.get(key, 'absent')} here" for key in sorted(keys)]


@dataclass(frozen=True)
class ShardRow:
    """Where a sample lies in its tar (in bytes), and the sha256 of all that is there: headers, members and the padding between them."""

    key: str
    offset: int
    size: int
    sha256: str


@dataclass(frozen=True)
class ShardManifest:
    """What a finished shard holds. It appears after its tar: where it stands the tar stands."""

    plan: str
    """:attr:`ShardPlan.digest` of its plan."""

    name: str
    shard: int
    first: int
    """Number of the first sample."""

    size: int
    sha256: str
    """Size in bytes and sha256 of the tar."""

    rows: tuple[ShardRow, ...]

    def to_text(self) -> str:
        """Return the text of the manifest's file."""
        return _sealed({**vars(self), "rows": [vars(row) for row in self.rows]})


def read_plan(path: Path) -> ShardPlan:
    """Read a plan's file.

    Raises:
        InputError: the file is missing, damaged, edited, or has another name than its data set.
    """
    values = _unsealed(path, {"name": str, "fingerprint": dict, "count": int, "per_shard": int})
    plan = ShardPlan(**values)
    if plan.file_name != Path(path).name:
        raise InputError(f"{path}: is the plan of {plan.name}: the file was renamed", hint=f"its name was {plan.file_name}")
    return plan


def read_manifest(path: Path) -> ShardManifest:
    """Read a shard's manifest.

    Raises:
        InputError: the file is missing, damaged or edited.
    """
    kinds = {"plan": str, "name": str, "shard": int, "first": int, "size": int, "sha256": str, "rows": list}
    values = _unsealed(path, kinds)
    row_kinds = {"key": str, "offset": int, "size": int, "sha256": str}
    for number, row in enumerate(values["rows"]):
        _require(row, row_kinds, f"{path}: row {number}")
    return ShardManifest(**{**values, "rows": tuple(ShardRow(**row) for row in values["rows"])})


def _sealed(values: Mapping[str, Any]) -> str:
    body = {"format": _FORMAT, **values}
    return _render({**body, "digest": _sha256(_render(body))})


def _unsealed(path: Path, kinds: Mapping[str, type]) -> dict[str, Any]:
    try:
        data = Path(path).read_bytes()
        values = json.loads(data, parse_constant=_refuse)
        same = _render(values).encode() == data
    except FileNotFoundError as error:
        raise InputError(f"{path}: missing") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: damaged: no JSON", hint=_MEND) from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: damaged: expected an object with named values")
    body = {key: value for key, value in values.items() if key != "digest"}
    if values.get("digest") != _sha256(_render(body)):
        raise InputError(f"{path}: damaged or edited: its digest does not fit its contents", hint=_MEND)
    if not same:
        raise InputError(f"{path}: damaged or edited: not written as farm3d writes it", hint=_MEND)
    if body.pop("format", None) != _FORMAT:
        raise InputError(f"{path}: another format than {_FORMAT}, which this version reads", hint="make the data set again")
    _require(body, kinds, str(path))
    return body


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def _require(values: object, kinds: Mapping[str, type], where: str) -> None:
    """Check that ``values`` has these keys and no others, each of its kind and no number negative."""
    if not isinstance(values, dict) or values.keys() != kinds.keys():
        raise InputError(f"{where}: expected the values {', '.join(kinds)}")
    for key, kind in kinds.items():
        value = values[key]
        if type(value) is not kind or (kind is int and value < 0):
            raise InputError(f"{where}: {key}: expected {kind.__name__}{' of 0 or more' if kind is int else ''}, got {str(value)[:40]!r}")


def _render(values: Any) -> str:
    return json.dumps(values, indent=1, sort_keys=True) + "\n"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _leaves(value: Any, where: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{where}.{key}" if where else key)
    else:
        yield where, json.dumps(value)
