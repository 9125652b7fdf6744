"""Writing generated data sets as shards: equal plan, equal bytes; stopped at any moment, and gone on with by any number of workers.

A folder holds for each data set ``NAME.plan.json`` (the recipe), and for each shard ``NAME-000000.tar`` (members ``KEY.EXT``, as
WebDataset has them) and ``NAME-000000.json`` (its manifest, which appears last). Reading is in :mod:`farm3d.core.shard_reader`, checking in
:mod:`farm3d.core.shard_check`, several processes in :mod:`farm3d.core.shard_workers`.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from farm3d.core.claims import Claim, claimed
from farm3d.core.errors import Farm3DError, InputError
from farm3d.core.files import sha256_of, whole_file, write_whole
from farm3d.core.shard_plan import ShardManifest, ShardPlan, ShardRow, read_manifest, read_plan
from farm3d.core.shard_tar import end_of_tar, sample_bytes

__all__ = [
    "Draw",
    "ShardPlan",
    "ShardReport",
    "make_shards",
    "remove_working_files",
    "shards_of_part",
    "unfinished_shards",
    "write_shards",
]

Draw = Callable[[int], tuple[str, Mapping[str, bytes]]]
"""Makes the sample of a number (from 0): its key and its members ``{extension: bytes}``. Equal number, equal answer; it must depend on
nothing else, above all not on the samples drawn before, since these may have been drawn by another process or last week."""


@dataclass(frozen=True)
class ShardReport:
    """What came of the shards asked for, as numbers of shards."""

    made: int
    """Made by this call."""

    kept: int
    """Finished before, or by other workers meanwhile."""

    elsewhere: int = 0
    """Not finished yet: other workers were at them when there was nothing else left to do."""


def write_shards(
    folder: Path,
    plan: ShardPlan,
    draw: Draw,
    *,
    part: str | None = None,
    on_start: Callable[[int], None] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> ShardReport:
    """Make the shards of ``plan`` that ``folder`` does not hold yet.

    A finished shard is verified (its tar's sha256) and kept; a damaged or half-written one is made anew. Any number of workers on any
    number of machines may do this in one folder at once: each shard is claimed by one of them. A worker that is killed loses the shard it
    was at and blocks nobody.

    A plan with a larger ``count`` extends what is there: full shards are kept, the last one is made anew if it was shorter. A smaller
    count or another recipe is refused.

    Args:
        folder: where the shards go; made if absent.
        plan: what to make.
        draw: makes one sample, see :data:`Draw`.
        part: ``"2/8"`` leaves to this call every eighth shard, beginning with the second, for jobs that share no locks.
        on_start: called once, before anything is drawn, with the number of samples found.
        on_progress: called after each sample with the number of samples there (found at the start or drawn here) and of all that this
            call has to see to. It may raise to stop: finished shards stay.

    Raises:
        InputError: the folder holds another data set of this name, or ``part`` is malformed.
        OutputError: the folder cannot be written or the disk is full. Nothing unfinished is left.
        ValueError: ``draw`` gave a key, an extension or a size that no shard may have, or a key twice in one shard.
    """
    folder = Path(folder)
    shards = shards_of_part(plan, part)
    todo = unfinished_shards(folder, plan, shards)
    total = sum(len(plan.samples(shard)) for shard in shards)
    done = total - sum(len(plan.samples(shard)) for shard in todo)
    if on_start is not None:
        on_start(done)

    def on_sample() -> None:
        nonlocal done
        done += 1
        if on_progress is not None:
            on_progress(done, total)

    made, elsewhere = make_shards(folder, plan, draw, todo, on_sample=on_sample)
    remove_working_files(folder, plan)
    return ShardReport(made=len(made), kept=len(shards) - len(made) - len(elsewhere), elsewhere=len(elsewhere))


def shards_of_part(plan: ShardPlan, part: str | None) -> range:
    """Return the shards of ``part`` (``"2/8"``: every eighth, beginning with the second; None: all).

    Raises:
        InputError: not of this form.
    """
    if part is None:
        return range(plan.shards)
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", part)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise InputError(f"part '{part}': expected K/N with K from 1 to N", hint="e.g. 2/8 for the second of eight jobs")
    return range(int(found[1]) - 1, plan.shards, int(found[2]))


def unfinished_shards(folder: Path, plan: ShardPlan, shards: Sequence[int]) -> list[int]:
    """Put the plan into the folder and return which of ``shards`` have to be made; damaged ones lose their manifest.

    What killed workers left is removed first: it may be what fills the disk.

    Raises:
        InputError: the folder holds another data set of this name.
        OutputError: the folder cannot be written.
    """
    _settle(folder, plan)
    remove_working_files(folder, plan)
    todo = []
    for shard in shards:
        if not _stands(folder, plan, shard):
            todo.append(shard)
        elif not _is_intact(folder, plan, shard):
            with claimed(_lock(folder, plan.stem(shard))) as claim:  # else somebody is making it anew this moment
                if claim is not None and not _is_intact(folder, plan, shard):
                    (folder / f"{plan.stem(shard)}.json").unlink(missing_ok=True)
            todo.append(shard)
    return todo


def make_shards(
    folder: Path, plan: ShardPlan, draw: Draw, todo: Sequence[int], *, on_sample: Callable[[], None]
) -> tuple[list[int], list[int]]:
    """Make those of ``todo`` that nobody else makes, and return the ones made and the ones that others were still at in the end.

    Raises:
        InputError, OutputError, ValueError: as :func:`write_shards`.
    """
    made: list[int] = []
    waiting = list(todo)
    while True:
        held = []
        for shard in waiting:
            with claimed(_lock(folder, plan.stem(shard))) as claim:
                if claim is None:
                    held.append(shard)
                elif not _stands(folder, plan, shard):
                    if not _is_settled(folder, plan):
                        raise InputError(f"{folder / plan.file_name}: was changed by another worker meanwhile", hint="start again")
                    _write_shard(folder, plan, shard, draw, claim, on_sample)
                    made.append(shard)
        if len(held) == len(waiting):
            return made, held
        waiting = held  # once more: a worker may have died since we passed its shard


def remove_working_files(folder: Path, plan: ShardPlan) -> None:
    """Remove what killed workers left in ``folder``, and nothing that a living one is using.

    That is known by its claim: process numbers, by which :func:`whole_file` goes, say little where several machines share a folder.
    """
    stems = {found[1] for entry in folder.iterdir() if (found := re.match(rf"\.({re.escape(plan.name)}(?:-\d{{6}}|\.plan))\.", entry.name))}
    for stem in sorted(stems):
        with claimed(_lock(folder, stem)) as claim:
            if claim is not None:
                for part in folder.glob(f".{stem}.*.part.*"):
                    part.unlink(missing_ok=True)


def _lock(folder: Path, stem: str) -> Path:
    return folder / f".{stem}.lock"


def _settle(folder: Path, plan: ShardPlan) -> None:
    """See to it that the folder holds this plan, or this plan with fewer samples, which is then extended."""
    path = folder / plan.file_name
    while not _is_settled(folder, plan):
        with claimed(_lock(folder, f"{plan.name}.plan")) as claim:
            if claim is None:
                time.sleep(0.02)
                continue
            if path.exists():
                _require_extends(plan, read_plan(path), path)
            write_whole(path, plan.to_text())


def _is_settled(folder: Path, plan: ShardPlan) -> bool:
    try:
        return (folder / plan.file_name).read_bytes() == plan.to_text().encode()
    except OSError:
        return False


def _require_extends(plan: ShardPlan, there: ShardPlan, path: Path) -> None:
    if differences := plan.differences(there):
        more = f" and {len(differences) - 3} more" if len(differences) > 3 else ""
        raise InputError(
            f"{path}: another data set of this name: {'; '.join(differences[:3])}{more}",
            hint="choose another folder or name, or delete the old data set",
        )
    if plan.count < there.count:
        raise InputError(
            f"{path}: count is {there.count} there and {plan.count} here: a data set can grow but not shrink",
            hint=f"ask for at least {there.count} samples, or choose another folder or name",
        )


def _stands(folder: Path, plan: ShardPlan, shard: int) -> bool:
    """Whether a shard of this plan is finished, going by its manifest and the size of its tar."""
    manifest = _manifest(folder, plan, shard)
    tar = folder / f"{plan.stem(shard)}.tar"
    return manifest is not None and tar.is_file() and tar.stat().st_size == manifest.size


def _is_intact(folder: Path, plan: ShardPlan, shard: int) -> bool:
    manifest = _manifest(folder, plan, shard)
    try:
        return manifest is not None and sha256_of(folder / f"{plan.stem(shard)}.tar") == manifest.sha256
    except OSError:
        return False


def _manifest(folder: Path, plan: ShardPlan, shard: int) -> ShardManifest | None:
    try:
        manifest = read_manifest(folder / f"{plan.stem(shard)}.json")
    except InputError:
        return None
    same = (manifest.plan, manifest.shard, len(manifest.rows)) == (plan.digest, shard, len(plan.samples(shard)))
    return manifest if same else None


def _write_shard(folder: Path, plan: ShardPlan, shard: int, draw: Draw, claim: Claim, on_sample: Callable[[], None]) -> None:
    tar_path, manifest_path = folder / f"{plan.stem(shard)}.tar", folder / f"{plan.stem(shard)}.json"
    replaced = False
    try:
        with whole_file(tar_path) as part:
            with part.open("wb") as file:
                manifest = _write_samples(file, plan, shard, _Guarded(draw), claim, _Guarded(on_sample))
            manifest_path.unlink(missing_ok=True)  # an earlier one vouches for the bytes that are now replaced
            replaced = True
        write_whole(manifest_path, manifest.to_text())
    except _Theirs as carrier:
        raise carrier.error from carrier.error.__cause__
    except BaseException:
        if replaced and not manifest_path.exists():  # a tar that nothing vouches for would look like one that lost its manifest
            tar_path.unlink(missing_ok=True)
        raise


def _write_samples(file: BinaryIO, plan: ShardPlan, shard: int, draw: Draw, claim: Claim, on_sample: Callable[[], None]) -> ShardManifest:
    rows: dict[str, ShardRow] = {}
    digest, offset = hashlib.sha256(), 0
    for number in plan.samples(shard):
        key, members = draw(number)
        if key in rows:
            raise ValueError(f"{plan.name}: sample {number} has the key '{key}' of another sample")
        data = sample_bytes(key, members, f"{plan.name}: sample {number}")
        claim.renew()
        file.write(data)
        digest.update(data)
        rows[key] = ShardRow(key=key, offset=offset, size=len(data), sha256=hashlib.sha256(data).hexdigest())
        offset += len(data)
        on_sample()
    end = end_of_tar(offset)
    file.write(end)
    digest.update(end)
    return ShardManifest(
        plan=plan.digest,
        name=plan.name,
        shard=shard,
        first=plan.samples(shard).start,
        size=offset + len(end),
        sha256=digest.hexdigest(),
        rows=tuple(rows.values()),
    )


class _Theirs(Farm3DError):
    """Carries an OSError of the caller's function past :func:`whole_file`, which would take it for a full disk."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


class _Guarded:
    def __init__(self, function: Callable) -> None:
        self._function = function

    def __call__(self, *arguments):
        try:
            return self._function(*arguments)
        except OSError as error:
            raise _Theirs(error) from error
