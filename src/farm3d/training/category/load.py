"""A data set of ``farm3d generate`` or ``prepare-data`` in memory, as training wants it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from farm3d.core.errors import InputError
from farm3d.model.category.learned import FeatureBasis, LearnedCategory
from farm3d.model.encoder import to_reading_grid
from farm3d.model.feature_pca import FeaturePca
from farm3d.training.category.pictures import PictureSet
from farm3d.training.category.trainer import digest_of
from farm3d.training.dataset.cutting import decoded
from farm3d.training.dataset.rows import facts_of, feature_sets, is_finished, the_picture_set
from farm3d.training.dataset.sheets import components_of, index_of

__all__ = ["LoadedPictures", "in_components_of", "load_pictures"]

_LEAST = 16


@dataclass(frozen=True, eq=False)
class LoadedPictures:
    """Pictures, how the backbone's features became theirs, and which backbone that was."""

    pictures: PictureSet
    category: str
    basis: FeatureBasis
    encoder: str
    encoder_digest: str


def load_pictures(
    folder: Path, *, features: str | None = None, size_px: int = 128, on_progress: Callable[[int, int], None] = lambda done, total: None
) -> LoadedPictures:
    """Read every row that has features, on a grid that the model reads (:data:`farm3d.model.encoder.READING_GRIDS`).

    Args:
        folder: with one data set of pictures, finished, and its features.
        features: name of the set of features, where there are several.
        size_px: side that pictures are kept at; about 50 kB each at 128.
        on_progress: told rows read and in all.

    Raises:
        InputError: no data set, not finished, no features, several of them, or too few pictures.
        ModelError: the components or a row's features are damaged.
    """
    plan = the_picture_set(folder)
    found = feature_sets(folder, plan.name)
    names = ", ".join(each.name for each in found)
    chosen = [each for each in found if features is None or each.name == features]
    if len(chosen) != 1:
        asked = "" if features is None else f" named {features}"
        what = f"{folder}: features{asked} for {plan.name}: found {names or 'none'}"
        raise InputError(what, hint="make them with `farm3d data features`" if not found else "say which with --features")
    for each in (plan, chosen[0]):
        if not is_finished(folder, each):
            raise InputError(f"{folder}: {each.name} is not finished", hint="run what makes it again")
    pca = FeaturePca.load(folder / f"{chosen[0].name}.pca")
    pictures, seen = index_of(folder, plan), index_of(folder, chosen[0])
    rgb, mask, maps, views, standing, kept = [], [], [], [], [], []
    category = ""
    for number, key in enumerate(seen.keys, start=1):
        _, members = seen.read(key)
        if "features.safetensors" in members:
            _, own = pictures.read(key)
            facts = facts_of(key, own)
            category = str(facts.get("category") or category)
            image, cover = decoded(own)
            small = functional.interpolate(torch.cat([image, cover[None]])[None], (size_px, size_px), mode="area")[0]
            planes = (small * 255).round().byte().numpy()
            rgb.append(planes[:3])
            mask.append(planes[3])
            maps.append(to_reading_grid(components_of(key, members)[None].float())[0].half().numpy())
            views.append(-1 if facts.get("view") is None else int(facts["view"]))
            standing.append("standing" in re.findall(r"\w+", str(facts.get("prompt", "")).lower()))
            kept.append(key)
        on_progress(number, len(seen.keys))
    if len(kept) < _LEAST:
        raise InputError(f"{folder}: {len(kept)} pictures with features; at least {_LEAST} are needed", hint="generate more")
    if not category:
        raise InputError(f"{folder}: {plan.name} does not say what it shows", hint="make it again with --category NAME")
    scale = pca.variance.clamp_min(1e-12).sqrt()
    arrays = np.stack(rgb), np.stack(mask), np.stack(maps)
    digest = digest_of(*arrays, np.array(views), np.array(standing))
    loaded = PictureSet(*arrays, scale.numpy(), np.array(views), tuple(kept), digest, np.array(standing))
    basis = FeatureBasis(pca.mean, pca.matrix, scale, pca.config.normalize)
    return LoadedPictures(loaded, category, basis, pca.config.encoder, pca.config.encoder_digest)


def in_components_of(loaded: LoadedPictures, learned: LearnedCategory) -> LoadedPictures:
    """Return the pictures with their features as a learned category's networks know them.

    Each set of pictures has principal components of its own; what lies outside of these is not known of it any more.

    Raises:
        InputError: the features are another backbone's, or on another grid.
    """
    here, there, pictures = loaded.basis, learned.basis, loaded.pictures
    grid, wanted = pictures.features.shape[-1], learned.model.config.grid
    same = (loaded.encoder_digest, here.normalize, grid) == (learned.encoder_digest, there.normalize, wanted)
    if not same:
        what = f"features of {loaded.encoder} on a grid of {grid}; the learned category reads {learned.encoder} on a grid of {wanted}"
        raise InputError(what, hint="make the pictures' features anew with `farm3d data features`, or begin with another category")
    turn = here.matrix.T @ there.matrix
    moved = (here.mean - there.mean) @ there.matrix
    parts = np.array_split(pictures.features, max(len(pictures) // 64, 1))
    maps = [torch.einsum("bchw,cd->bdhw", torch.from_numpy(part).float(), turn) + moved[:, None, None] for part in parts]
    turned = replace(pictures, features=torch.cat(maps).half().numpy(), scale=there.scale.numpy())
    return replace(loaded, pictures=turned, basis=there)
