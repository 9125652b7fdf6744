"""Is a folder of shards what was written? Every byte of every tar, manifest and plan is compared with the sha256 that vouches for it."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from farm3d.core.errors import InputError
from farm3d.core.shard_plan import ShardManifest, ShardPlan, read_manifest, read_plan
from farm3d.core.shard_tar import end_of_tar, samples_in

__all__ = ["check_shards"]

_MOST_LINES = 5
_BLOCK = 1 << 20


def check_shards(folder: Path) -> list[str]:
    """Return what is wrong with the data sets in a folder, one line each, beginning with the file's name; none when all is well.

    Found are: any changed byte (told by sample where it lies in one), missing, truncated, swapped, renamed and superfluous shards,
    missing or edited manifests and plans, keys that occur twice, and files that belong to no data set. Each byte is read once.

    Raises:
        InputError: there is no such folder, or no data set in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    names = sorted(entry.name for entry in folder.iterdir())
    shard_files = {name: found for name in names if (found := re.fullmatch(r"([a-z0-9_-]+)-(\d{6})\.(?:tar|json)", name))}
    plan_files = [name for name in names if name.endswith(".plan.json") and not name.startswith(".")]
    sets = sorted({name.removesuffix(".plan.json") for name in plan_files} | {found[1] for found in shard_files.values()})
    if not sets:
        raise InputError(f"{folder}: no data set in this folder", hint="expected NAME.plan.json and NAME-000000.tar")
    problems = [line for name in sets for line in _check_set(folder, name, [int(f[2]) for f in shard_files.values() if f[1] == name])]
    for name in names:
        if name in shard_files or name in plan_files:
            continue
        ours = name.startswith(tuple(f".{data_set}{mark}" for data_set in sets for mark in ("-", ".plan.")))
        problems.append(f"{name}: {'left by a writer that still runs or was killed' if ours else 'belongs to no data set'}")
    return problems


def _check_set(folder: Path, name: str, there: list[int]) -> Iterator[str]:
    plan: ShardPlan | None = None
    try:
        plan = read_plan(folder / f"{name}.plan.json")
    except InputError as error:
        yield _told(error, folder)
    manifests: dict[int, ShardManifest] = {}
    for number in sorted({*there, *range(plan.shards if plan else 0)}):
        stem = folder / f"{name}-{number:06d}"
        if not stem.with_suffix(".json").exists() and not stem.with_suffix(".tar").exists():
            yield f"{stem.name}.tar: missing, and so is its manifest: not made yet, or lost"
            continue
        try:
            manifests[number] = read_manifest(stem.with_suffix(".json"))
        except InputError as error:
            yield _told(error, folder)
    written_as = {manifest.sha256: f"{name}-{number:06d}" for number, manifest in manifests.items()}
    seen: dict[str, str] = {}
    for number, manifest in manifests.items():
        stem = f"{name}-{number:06d}"
        yield from _check_manifest(stem, number, manifest, plan)
        yield from _check_tar(folder / f"{stem}.tar", manifest, written_as)
        for sample, row in enumerate(manifest.rows, manifest.first):
            if row.key in seen:
                yield f"{stem}.json: sample {sample} ({row.key}): this key is also in {seen[row.key]}"
            seen[row.key] = stem


def _check_manifest(stem: str, number: int, manifest: ShardManifest, plan: ShardPlan | None) -> Iterator[str]:
    written_as = f"{manifest.name}-{manifest.shard:06d}"
    if written_as != stem:
        yield f"{stem}.json: is the manifest of {written_as}: swapped or renamed"
    elif plan and manifest.plan != plan.digest:
        yield f"{stem}.json: made by another recipe than {plan.file_name} holds"
    elif plan and number >= plan.shards:
        yield f"{stem}.json: beyond the {plan.shards} shards of the plan"
    elif plan:
        expected = plan.samples(number)
        if (manifest.first, len(manifest.rows)) != (expected.start, len(expected)):
            last = manifest.first + len(manifest.rows) - 1
            yield f"{stem}.json: samples {manifest.first} to {last}, expected {expected.start} to {expected.stop - 1}"


def _check_tar(tar: Path, manifest: ShardManifest, written_as: dict[str, str]) -> Iterator[str]:
    if not tar.is_file():
        yield f"{tar.name}: missing"
        return
    try:
        digest, changed = _compared(tar, manifest)
    except OSError as error:
        yield f"{tar.name}: cannot be read: {error.strerror or error}"
        return
    if digest != manifest.sha256 and digest in written_as:
        yield f"{tar.name}: holds the bytes of {written_as[digest]}.tar: swapped or renamed"
        return
    size = tar.stat().st_size
    if size != manifest.size:
        yield f"{tar.name}: {size} bytes, expected {manifest.size}: {'truncated' if size < manifest.size else 'something was added'}"
    yield from (f"{tar.name}: {where}: not the bytes that were written" for where in changed[:_MOST_LINES])
    if len(changed) > _MOST_LINES:
        yield f"{tar.name}: and {len(changed) - _MOST_LINES} more places with other bytes than were written"
    if digest != manifest.sha256 and not changed:
        yield f"{tar.name}: its sha256 is not the manifest's, though that of each sample is"
    try:
        with tar.open("rb") as file:
            keys = [key for key, *_ in samples_in(file, tar)]
    except InputError as error:
        yield _told(error, tar.parent)
    else:
        if keys != [row.key for row in manifest.rows]:
            yield f"{tar.name}: its keys are not those of its manifest"


def _compared(tar: Path, manifest: ShardManifest) -> tuple[str, list[str]]:
    """Return the sha256 of a tar and the places where it is not what the manifest says."""
    whole, changed, offset = hashlib.sha256(), [], 0
    with tar.open("rb") as file:
        for number, row in enumerate(manifest.rows, manifest.first):
            if row.offset != offset or _digest(file, row.size, whole) != row.sha256:
                changed.append(f"sample {number} ({row.key})")
            offset += row.size
        end = end_of_tar(offset)
        if _digest(file, max(manifest.size - offset, 0), whole) != hashlib.sha256(end).hexdigest():
            changed.append("the end behind the last sample")
        while block := file.read(_BLOCK):
            whole.update(block)
    return whole.hexdigest(), changed


def _digest(file: BinaryIO, size: int, whole: hashlib._Hash) -> str:
    """Return the sha256 of the next ``size`` bytes, or of what there is, and add them to ``whole``."""
    digest = hashlib.sha256()
    while size and (block := file.read(min(size, _BLOCK))):
        digest.update(block)
        whole.update(block)
        size -= len(block)
    return digest.hexdigest()


def _told(error: InputError, folder: Path) -> str:
    return error.message.removeprefix(f"{folder}{os.sep}")
