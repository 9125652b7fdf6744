"""Finding the data sets in a folder and reading their rows: which were kept, which failed, which are copies."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farm3d.core.errors import InputError
from farm3d.core.shard_plan import ShardPlan, read_manifest, read_plan
from farm3d.core.shard_reader import EXTENSIONS, read_shards
from farm3d.training.dataset.drawing import GENERATED_BY
from farm3d.training.dataset.filters import near_copies
from farm3d.training.dataset.photographs import PREPARED_BY

__all__ = [
    "FEATURES_BY",
    "Tally",
    "copies_in",
    "facts_of",
    "feature_sets",
    "is_finished",
    "picture_sets",
    "read_facts",
    "tally",
    "the_picture_set",
]

FEATURES_BY = "farm3d data features"


def picture_sets(folder: Path) -> list[ShardPlan]:
    """Return the plans of the data sets of pictures in a folder, by name.

    Raises:
        InputError: there is no such folder, or a plan is damaged.
    """
    return [plan for plan in _plans(folder) if plan.fingerprint.get("made_by") in (GENERATED_BY, PREPARED_BY)]


def feature_sets(folder: Path, pictures: str) -> list[ShardPlan]:
    """Return the plans of the features of a data set of pictures.

    Raises:
        InputError: as :func:`picture_sets`.
    """
    ours = (plan for plan in _plans(folder) if plan.fingerprint.get("made_by") == FEATURES_BY)
    return [plan for plan in ours if plan.fingerprint["pictures"]["name"] == pictures]


def the_picture_set(folder: Path, name: str | None = None) -> ShardPlan:
    """Return the data set of pictures in a folder that is meant.

    Raises:
        InputError: there is none, none of that name, or several and no name was given.
    """
    there = picture_sets(folder)
    if not there:
        raise InputError(f"{folder}: no data set of pictures", hint="`farm3d generate` and `farm3d prepare-data` make them")
    names = ", ".join(plan.name for plan in there)
    if name is None:
        if len(there) > 1:
            raise InputError(f"{folder}: holds {len(there)} data sets of pictures", hint=f"say which: --name of {names}")
        return there[0]
    chosen = [plan for plan in there if plan.name == name]
    if not chosen:
        raise InputError(f"{folder}: no data set of pictures called '{name}'", hint=f"there: {names}")
    return chosen[0]


def is_finished(folder: Path, plan: ShardPlan) -> bool:
    """Whether every shard of a plan stands, going by the manifests."""
    for shard in range(plan.shards):
        try:
            manifest = read_manifest(folder / f"{plan.stem(shard)}.json")
        except InputError:
            return False
        if manifest.plan != plan.digest or len(manifest.rows) != len(plan.samples(shard)):
            return False
    return True


def read_facts(folder: Path, plan: ShardPlan) -> Iterator[dict[str, Any]]:
    """Yield what each row's JSON says, in order.

    Raises:
        InputError: a shard is missing or damaged, or a row has no facts.
    """
    tars = [folder / f"{plan.stem(shard)}.tar" for shard in range(plan.shards)]
    for key, members in read_shards(tars, extensions=EXTENSIONS & {"json"}, strict=False):
        yield facts_of(key, members)


def facts_of(key: str, members: dict[str, bytes]) -> dict[str, Any]:
    """Return the facts among a row's members.

    Raises:
        InputError: it has none, or they are no JSON object.
    """
    try:
        facts = json.loads(members["json"])
    except (KeyError, ValueError) as error:
        raise InputError(f"{key}: has no readable facts", hint="`farm3d data check` says what is wrong") from error
    if not isinstance(facts, dict):
        raise InputError(f"{key}: its facts are no object", hint="`farm3d data check` says what is wrong")
    return facts


def copies_in(facts: list[dict[str, Any]]) -> dict[str, str]:
    """Return, for each row that is a near copy of an earlier kept one, the key of that one."""
    copies = near_copies([row.get("thumbnail") for row in facts])
    return {facts[later]["key"]: facts[earlier]["key"] for later, earlier in copies.items()}


@dataclass(frozen=True)
class Tally:
    """What came of a data set: rows, those without a picture, attempts, those refused by reason, and near copies."""

    rows: int
    failed: int
    attempts: int
    rejected: dict[str, int]
    copies: int

    def as_json(self) -> dict[str, Any]:
        """Return the figures for a report."""
        refused = sum(self.rejected.values())
        return {**vars(self), "share_rejected": round(refused / max(self.attempts, 1), 4)}


def tally(facts: list[dict[str, Any]], copies: dict[str, str]) -> Tally:
    """Count rows by what became of them."""
    reasons = Counter(attempt["reason"] for row in facts for attempt in row["rejected"])
    kept = sum("failed" not in row for row in facts)
    attempts = kept + sum(reasons.values())
    return Tally(len(facts), len(facts) - kept, attempts, dict(reasons.most_common()), len(copies))


def _plans(folder: Path) -> list[ShardPlan]:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    return [read_plan(path) for path in sorted(folder.glob("[!.]*.plan.json"))]
