"""The second pass: frozen features of each kept picture, projected on the principal components of the whole set (section 1.3).

The components are fitted once, on at most 2,000 pictures spread evenly over the set, and lie beside it as a model folder. Rows without a
picture and near copies of earlier ones hold their reason instead of features.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from farm3d.core.claims import claimed
from farm3d.core.errors import InputError
from farm3d.core.files import sha256_of
from farm3d.core.sealed import MANIFEST
from farm3d.core.shapes import Float, Tensor
from farm3d.core.shard_plan import read_plan
from farm3d.core.shard_reader import ShardIndex
from farm3d.core.shards import Draw, ShardPlan
from farm3d.core.tensor_bytes import bytes_from_tensors
from farm3d.model.encoder import Backbone, ImageEncoder, open_backbone
from farm3d.model.feature_pca import FeaturePca, PcaFit
from farm3d.training.dataset.cutting import LOOK_PX, decoded, json_bytes, resized
from farm3d.training.dataset.rows import FEATURES_BY

__all__ = ["MOST_FITTED", "FeatureSettings", "fitted_pca", "left_out_rows", "open_features", "plain_features"]

MOST_FITTED = 2000
"""Pictures that the components are fitted on, at most."""

_FORMAT = 1
_GREY = 0.5


@dataclass(frozen=True)
class FeatureSettings:
    """All that decides the bytes of a set of features, and where the pictures lie.

    Attributes:
        name: of the set of features.
        folder, pictures: where the pictures are and their plan.
        encoder: as :func:`load_encoder` takes it; encoder_name, encoder_digest: what it is.
        pca: the components; pca_digest: sha256 of their folder's manifest.
        left_out: reasons by key.
    """

    name: str
    folder: Path
    pictures: ShardPlan
    encoder: str | None
    encoder_name: str
    encoder_digest: str
    pca: FeaturePca
    pca_digest: str
    left_out: Mapping[str, str]

    def plan(self) -> ShardPlan:
        """Return the plan: shards of the same samples as the pictures'."""
        recipe: dict[str, Any] = {
            "made_by": FEATURES_BY,
            "format": _FORMAT,
            "pictures": {"name": self.pictures.name, "plan": self.pictures.digest},
            "encoder": {"name": self.encoder_name, "sha256": self.encoder_digest},
            "dims": self.pca.config.dims,
            "pca": self.pca_digest,
            "look_px": LOOK_PX,
            "background": _GREY,
        }
        return ShardPlan(self.name, recipe, self.pictures.count, self.pictures.per_shard)


def plain_features(encoder: ImageEncoder, image: Float[Tensor, "3 S S"], mask: Float[Tensor, "S S"]) -> Float[Tensor, "1 C G G"]:
    """Return backbone features of the animal on plain grey; the mean of the picture's and of its mirror image's, as in reconstruction."""
    plain = resized((image * mask + _GREY * (1 - mask))[None], LOOK_PX)
    with torch.no_grad():
        maps = encoder.features(torch.cat([plain, plain.flip(-1)]))
    return (maps[:1] + maps[1:].flip(-1)) / 2


def left_out_rows(facts: list[dict[str, Any]], copies: Mapping[str, str]) -> dict[str, str]:
    """Return why rows have no features: those without a picture, and near copies."""
    failed = {row["key"]: f"no picture: {row['failed']}" for row in facts if "failed" in row}
    return {**failed, **{key: f"a near copy of {earlier}" for key, earlier in copies.items()}}


def fitted_pca(
    folder: Path,
    name: str,
    pictures: ShardPlan,
    backbone: Backbone,
    *,
    dims: int,
    keys: list[str],
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[FeaturePca, str]:
    """Return the components of a set of features and the digest of their folder, ``NAME.pca``.

    A set that was begun keeps its components, also when it grows; else they are fitted, by one worker while others wait.

    Args:
        folder: of the data set.
        name: of the set of features.
        pictures: their plan.
        backbone: whose features.
        dims: components to keep.
        keys: of the pictures that may be fitted on, in order.
        on_progress: told the pictures done and in all.

    Raises:
        InputError: the set was begun with another backbone or number of components; no picture shows enough of an animal.
        OutputError: the folder cannot be written.
    """
    place = folder / f"{name}.pca"
    while True:
        with claimed(folder / f".{name}.pca.lock") as claim:
            if claim is None:
                time.sleep(0.2)
                continue
            if not _is_begun(folder, name, pictures) or not place.exists():
                fit = PcaFit(backbone.encoder.channels, encoder=backbone.name, encoder_digest=backbone.digest)
                index = _index(folder, pictures)
                chosen = _spread(keys, MOST_FITTED)
                for done, key in enumerate(chosen, start=1):
                    image, mask = decoded(index.read(key)[1])
                    fit.add(plain_features(backbone.encoder, image, mask), mask[None])
                    claim.renew()
                    if on_progress is not None:
                        on_progress(done, len(chosen))
                fit.result(dims).save(place)
            pca = FeaturePca.load(place)
            there = (pca.config.encoder, pca.config.encoder_digest, pca.config.dims)
            if there != (backbone.name, backbone.digest, dims):
                raise InputError(
                    f"{place}: has {pca.config.dims} components of {pca.config.encoder}, asked for are {dims} of {backbone.name}",
                    hint="`farm3d data features` with another --suffix keeps both",
                )
            return pca, sha256_of(place / MANIFEST)


def open_features(settings: FeatureSettings) -> Draw:
    """Load the backbone, in the process that works; one thread, since pictures are shared out between processes."""
    torch.set_num_threads(1)
    backbone = open_backbone(settings.encoder)
    if backbone.digest != settings.encoder_digest:
        raise InputError(f"{settings.encoder}: was changed meanwhile", hint="start again")
    index = _index(settings.folder, settings.pictures)

    def one(number: int) -> tuple[str, dict[str, bytes]]:
        key, members = index.read(number)
        if key in settings.left_out:
            return key, {"json": json_bytes({"key": key, "left_out": settings.left_out[key]})}
        components = settings.pca.project(plain_features(backbone.encoder, *decoded(members)))[0]
        facts = {"key": key, "shape": list(components.shape)}
        return key, {"json": json_bytes(facts), "features.safetensors": bytes_from_tensors({"components": components.half()}, where=key)}

    return one


def _index(folder: Path, plan: ShardPlan) -> ShardIndex:
    return ShardIndex([folder / f"{plan.stem(shard)}.tar" for shard in range(plan.shards)])


def _is_begun(folder: Path, name: str, pictures: ShardPlan) -> bool:
    """Whether a set of features of these very pictures was planned before."""
    try:
        return read_plan(folder / f"{name}.plan.json").fingerprint.get("pictures") == {"name": pictures.name, "plan": pictures.digest}
    except InputError:
        return False


def _spread(keys: list[str], most: int) -> list[str]:
    count = min(most, len(keys))
    return [keys[i * len(keys) // count] for i in range(count)]
