"""Reading shards: one sample after another, or any sample by its number; nothing is unpacked to the disk and nothing is decoded."""

from __future__ import annotations

import os
from array import array
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from farm3d.core.errors import InputError
from farm3d.core.shard_plan import read_plan
from farm3d.core.shard_tar import EXTENSIONS, contents_of, samples_in

__all__ = ["EXTENSIONS", "ShardIndex", "read_shards"]

Source = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


def read_shards(source: Source, *, extensions: Collection[str] = EXTENSIONS, strict: bool = True) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield the key and the members ``{extension: bytes}`` of every sample, shard by shard.

    Args:
        source: a folder with one data set, its ``NAME.plan.json``, one tar, or several tars in the order wanted.
        extensions: the members to give.
        strict: whether a member of another extension is an error; else it is passed over.

    Raises:
        InputError: a shard is missing or not finished, cannot be read, is truncated, or holds what no shard holds: links, folders,
            devices, other names than ``KEY.EXT``, a member above 256 MiB or of another extension, a key twice or with other keys between
            its members. The message names the shard and the member.
    """
    seen: set[str] = set()
    for path in _tars(source):
        with _opened(path) as file:
            for key, members, _, _ in samples_in(file, path, extensions=extensions, strict=strict, seen=seen):
                yield key, contents_of(file, members, path)


class ShardIndex:
    """Every sample of some shards by number or key: the headers are read once, the members when they are asked for.

    A few dozen bytes a sample. Holds no open file, so it may be handed to other processes and used by several threads at once. Arguments
    and errors as in :func:`read_shards`.
    """

    def __init__(self, source: Source, *, extensions: Collection[str] = EXTENSIONS, strict: bool = True) -> None:
        self._paths = _tars(source)
        self._extensions, self._strict = frozenset(extensions), strict
        self._numbers: dict[str, int] = {}
        self._shard, self._begin, self._end = array("L"), array("Q"), array("Q")
        seen: set[str] = set()
        for shard, path in enumerate(self._paths):
            with _opened(path) as file:
                for key, _, begin, end in samples_in(file, path, extensions=self._extensions, strict=strict, seen=seen):
                    self._numbers[key] = len(self._shard)
                    self._shard.append(shard)
                    self._begin.append(begin)
                    self._end.append(end)
        self.keys: tuple[str, ...] = tuple(self._numbers)
        """The keys in the order of the samples."""

    def __len__(self) -> int:
        return len(self.keys)

    def read(self, sample: int | str) -> tuple[str, dict[str, bytes]]:
        """Return the key and the members of the sample with this number (from 0) or key.

        Raises:
            LookupError: there is no such sample.
            InputError: the shard has changed since it was indexed, or cannot be read.
        """
        number = self._numbers.get(sample, -1) if isinstance(sample, str) else sample
        if not 0 <= number < len(self):
            raise LookupError(f"no sample {sample!r} among {len(self)}")
        path = self._paths[self._shard[number]]
        # Opened for each sample: an open file would share its position with every process and thread that inherits it.
        with _opened(path) as file:
            end = self._end[number]
            for key, members, _, _ in samples_in(
                file, path, extensions=self._extensions, strict=self._strict, begin=self._begin[number], end=end
            ):
                if key == self.keys[number]:
                    return key, contents_of(file, members, path)
        raise InputError(f"{path}: sample '{self.keys[number]}' is not where it was: the shard was changed", hint="index the shards anew")


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error


def _tars(source: Source) -> list[Path]:
    if not isinstance(source, str | os.PathLike):
        return [Path(path) for path in source]
    path = Path(source)
    if path.is_dir():
        plans = sorted(path.glob("[!.]*.plan.json"))
        if len(plans) > 1:
            names = ", ".join(plan.name for plan in plans)
            raise InputError(f"{path}: holds {len(plans)} data sets", hint=f"name the one to read: {names}")
        if plans:
            return _finished(plans[0])
        tars = sorted(path.glob("[!.]*.tar"))
        if not tars:
            raise InputError(f"{path}: no shards (*.tar) in this folder")
        return tars
    return _finished(path) if path.name.endswith(".plan.json") else [path]


def _finished(plan_path: Path) -> list[Path]:
    plan = read_plan(plan_path)
    stems = [plan_path.parent / plan.stem(shard) for shard in range(plan.shards)]
    missing = [stem for stem in stems if not (stem.with_suffix(".tar").is_file() and stem.with_suffix(".json").is_file())]
    if missing:
        raise InputError(
            f"{missing[0]}.tar: not finished, as {len(missing)} of {plan.shards} shards of {plan.name}",
            hint="run what makes the data set again, or name the shards to read",
        )
    return [stem.with_suffix(".tar") for stem in stems]
