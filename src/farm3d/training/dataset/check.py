"""What is wrong with a training set: every byte against its checksum first, then every row against what rows must be."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from farm3d.core.errors import Farm3DError, InputError
from farm3d.core.shard_check import check_shards
from farm3d.core.shard_plan import ShardPlan
from farm3d.core.shard_reader import read_shards
from farm3d.model.feature_pca import FeaturePca
from farm3d.training.dataset.rows import facts_of, feature_sets, picture_sets
from farm3d.training.dataset.sheets import components_of

__all__ = ["check_data"]

_FIELDS: dict[str, type | tuple[type, ...]] = {
    "key": str,
    "category": (str, type(None)),
    "view": (int, type(None)),
    "action": (str, type(None)),
    "coat": (str, type(None)),
    "rejected": list,
}
_PICTURE_FIELDS: dict[str, type | tuple[type, ...]] = {
    "mask_source": str,
    "box_px": list,
    "source_size_px": list,
    "size_px": int,
    "animal_probability": (int, float),
    "thumbnail": str,
}


def check_data(folder: Path) -> Iterator[str]:
    """Yield what is wrong with the training sets of a folder, a line each; rows are looked at only where every byte is right.

    Raises:
        InputError: there is no such folder, or no data set in it.
    """
    lines = [line for line in check_shards(folder) if not _is_ours(line)]
    yield from lines
    if lines:
        return
    pictures = picture_sets(folder)
    if not pictures:
        yield f"{folder.name}: no data set of pictures in this folder"
    for plan in pictures:
        kept: set[str] = set()
        keys: set[str] = set()
        for key, members in _rows(folder, plan):
            keys.add(key)
            problems = list(_wrong_picture(key, members))
            if not problems and "rgb.png" in members:
                kept.add(key)
            yield from (f"{plan.name}: {key}: {problem}" for problem in problems)
        for features in feature_sets(folder, plan.name):
            yield from _wrong_features(folder, features, plan, keys, kept)


def _is_ours(line: str) -> bool:
    """Whether a line of :func:`check_shards` is about a file that belongs beside the shards: reports, sheets and components."""
    name, _, said = line.partition(": ")
    beside = name == "sheets" or re.fullmatch(r"[a-z0-9_-]+(\.report\.json|-features(-[a-z0-9_-]+)?\.(png|pca))", name) is not None
    return said == "belongs to no data set" and beside


def _rows(folder: Path, plan: ShardPlan) -> Iterator[tuple[str, dict[str, bytes]]]:
    yield from read_shards([folder / f"{plan.stem(shard)}.tar" for shard in range(plan.shards)])


def _wrong_picture(key: str, members: dict[str, bytes]) -> Iterator[str]:
    try:
        facts = facts_of(key, members)
    except InputError as error:
        yield error.message.removeprefix(f"{key}: ")
        return
    yield from _wrong_fields(facts, _FIELDS)
    if facts.get("key") != key:
        yield f"its facts are of {facts.get('key')!r}"
    there = {"rgb.png", "mask.png"} & members.keys()
    if "failed" in facts:
        if there:
            yield "is said to have failed, but has a picture"
        return
    if len(there) < 2:
        yield f"has no {'rgb.png' if 'rgb.png' not in there else 'mask.png'}, and does not say why"
        return
    yield from _wrong_fields(facts, _PICTURE_FIELDS)
    try:
        rgb, mask = (Image.open(io.BytesIO(members[name])) for name in ("rgb.png", "mask.png"))
        pixels = np.asarray(mask)
        rgb.load()
    except (OSError, UnidentifiedImageError, ValueError) as error:
        yield f"a picture cannot be read: {error}"
        return
    if rgb.mode != "RGB" or mask.mode != "L":
        yield f"picture and mask are {rgb.mode} and {mask.mode}, expected RGB and L"
        return
    side = facts.get("size_px")
    if rgb.size != mask.size or rgb.size != (side, side):
        yield f"the picture is {rgb.width}x{rgb.height}, the mask {mask.width}x{mask.height}, the facts say {side}x{side}"
    elif (pixels > 127).mean() < 0.01:
        yield "the mask is empty"


def _wrong_fields(facts: dict[str, Any], fields: dict[str, type | tuple[type, ...]]) -> Iterator[str]:
    for name, kind in fields.items():
        if name not in facts:
            yield f"its facts have no {name}"
        elif not isinstance(facts[name], kind) or isinstance(facts[name], bool):
            yield f"{name} is {facts[name]!r:.40}"


def _wrong_features(folder: Path, plan: ShardPlan, pictures: ShardPlan, keys: set[str], kept: set[str]) -> Iterator[str]:
    if plan.fingerprint["pictures"]["plan"] != pictures.digest:
        yield f"{plan.name}: features of other pictures than {pictures.name} holds now"
        return
    if plan.count != pictures.count:
        yield f"{plan.name}: {plan.count} rows for {pictures.count} pictures: run `farm3d data features` again"
    try:
        pca = FeaturePca.load(folder / f"{plan.name}.pca")
    except Farm3DError as error:
        yield f"{plan.name}: {error.message}"
        return
    for key, members in _rows(folder, plan):
        for problem in _wrong_row(key, members, pca.config.dims, keys, kept):
            yield f"{plan.name}: {key}: {problem}"


def _wrong_row(key: str, members: dict[str, bytes], dims: int, keys: set[str], kept: set[str]) -> Iterator[str]:
    try:
        facts = facts_of(key, members)
        if key not in keys:
            yield "is no picture's key"
        if "left_out" in facts:
            return
        if key not in kept:
            yield "has features, but no picture"
        components = components_of(key, members)
    except KeyError:
        yield "has no features, and does not say why"
        return
    except Farm3DError as error:
        yield error.message.removeprefix(f"{key}: ")
        return
    shape = tuple(components.shape)
    if components.dtype != torch.float16 or len(shape) != 3 or shape[0] != dims or shape[1] != shape[2]:
        yield f"components are {components.dtype} {list(shape)}, expected float16 [{dims}, G, G]"
    elif list(shape) != facts.get("shape"):
        yield f"components are {list(shape)}, the facts say {facts.get('shape')}"
