"""What is known of a category before any picture is seen: shape, bones, skin, appearance features, modes of variation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch.nn import functional

from farm3d.core.errors import ModelError
from farm3d.core.shapes import Float, Int, Tensor
from farm3d.model.deformation import Modes
from farm3d.model.folder import load_model_folder, model_kind, model_path, save_model_folder
from farm3d.structures import Mesh, Skeleton
from farm3d.structures._value import Value

__all__ = ["CategoryPrior", "FieldConfig", "PriorConfig"]

_AGAIN = "fetch or copy the model folder again"


@dataclass(frozen=True)
class FieldConfig:
    """Size of a coordinate network (section 2.1): ``octaves`` of the embedding and their ``fall``, ``layers`` of ``hidden`` units."""

    octaves: int
    hidden: int
    layers: int
    outputs: int
    fall: float = 0.0


@dataclass(frozen=True)
class PriorConfig:
    """Everything about a category that is not a tensor.

    Attributes:
        category: species name, e.g. ``horse``.
        height_m: usual height of the rest shape from the ground to its highest vertex, metres.
        bone_names, bone_parents: the skeleton's topology.
        sdf: the shape field, positive inside, mirrored in x.
        features: the feature field.
        encoder: name of the shipped backbone whose features the field predicts.
        feature_channels: channels of the backbone that are projected.
        sources: what it was made from, with licences.
        normalize_features: whether the backbone's descriptors are scaled to length 1 before they are projected.
    """

    category: str
    height_m: float
    bone_names: tuple[str, ...]
    bone_parents: tuple[int, ...]
    sdf: FieldConfig
    features: FieldConfig
    encoder: str
    feature_channels: int
    sources: tuple[str, ...]
    normalize_features: bool = False


@dataclass(frozen=True, eq=False, repr=False)
class CategoryPrior(Value):
    """A category's rest animal and what varies about it, in the object frame and canonical units.

    Attributes:
        config: names and sizes.
        template: rest mesh with UV atlas, ``V`` vertices, extracted once from the shape field.
        mirror: vertex at the mirrored place, ``[V]``.
        skeleton: bones at rest.
        skin_weights: ``[V, K]``, at most four non-zero each.
        modes: mirror-symmetric displacement basis of the template.
        vertex_features: what the backbone sees at each vertex, projected to D channels, ``[V, D]``.
        feature_mean, feature_matrix: projection of the backbone's C channels, ``[C]``, ``[C, D]``.
        sdf_weights, feature_weights: parameters of the two fields by name.
    """

    config: PriorConfig
    template: Mesh
    mirror: Int[Tensor, "V"]
    skeleton: Skeleton
    skin_weights: Float[Tensor, "V K"]
    modes: Modes
    vertex_features: Float[Tensor, "V D"]
    feature_mean: Float[Tensor, "C"]
    feature_matrix: Float[Tensor, "C D"]
    sdf_weights: dict[str, Tensor]
    feature_weights: dict[str, Tensor]

    def project(self, features: Float[Tensor, "B C G G"]) -> Float[Tensor, "B D G G"]:
        """Return the backbone's features in the prior's D channels (zero mean, unit spread within a vertex)."""
        features = functional.normalize(features, dim=1) if self.config.normalize_features else features
        centred = features - self.feature_mean[:, None, None]
        return torch.einsum("bchw,cd->bdhw", centred, self.feature_matrix)

    @classmethod
    def from_pretrained(cls, folder: Path | str) -> CategoryPrior:
        """Load a category by folder, or by the name of a shipped one (``horse``, ``cow``); of a learned one the part that fits are made of.

        Raises:
            ModelError: the folder is damaged, incomplete or of another kind; the message names the file and the key.
        """
        path = model_path(folder)
        if model_kind(path) == "LearnedConfig":
            from farm3d.model.category.learned import LearnedCategory  # it is made of a prior itself

            return LearnedCategory.from_pretrained(path).prior
        config, tensors = load_model_folder(path, PriorConfig)
        return cls.from_tensors(config, tensors, where=str(path / "model.safetensors"))

    @classmethod
    def from_tensors(cls, config: PriorConfig, tensors: Mapping[str, Tensor], *, where: str) -> Self:
        """Put a category together from :meth:`to_tensors`; ``where`` is the file that messages name.

        Raises:
            ModelError: a tensor is missing or does not fit.
        """
        try:
            return cls._from_tensors(config, tensors)
        except KeyError as error:
            raise ModelError(f"{where}: tensor {error} is missing", hint=_AGAIN) from error

    @classmethod
    def _from_tensors(cls, config: PriorConfig, tensors: Mapping[str, Tensor]) -> Self:
        template = Mesh(
            tensors["template.vertices"],
            tensors["template.faces"].long(),
            tensors["template.uv"],
            tensors["template.faces_uv"].long(),
        )
        skeleton = Skeleton(
            config.bone_names,
            config.bone_parents,
            tensors["skeleton.starts"],
            tensors["skeleton.ends"],
            tensors["skeleton.centre"],
        )
        modes = Modes(*(tensors[f"modes.{name}"].float() for name in Modes._fields))
        prior = cls(
            config,
            template,
            tensors["template.mirror"].long(),
            skeleton,
            tensors["skin_weights"],
            modes,
            tensors["features.vertices"].float(),
            tensors["features.mean"],
            tensors["features.matrix"],
            _strip(tensors, "sdf."),
            _strip(tensors, "feature_field."),
        )
        prior._check()
        return prior

    def save_pretrained(self, folder: Path | str, *, card: str) -> None:
        """Write the model folder; ``card`` is the text of its README."""
        save_model_folder(folder, self.config, tensors=self.to_tensors(), card=card)

    def to_tensors(self) -> dict[str, Tensor]:
        """Return what a file keeps of it, by name: features and modes in float16, indices in int32."""
        half = torch.float16
        tensors = {
            "template.vertices": self.template.vertices,
            "template.faces": self.template.faces.int(),
            "template.uv": self.template.uv,
            "template.faces_uv": self.template.faces_uv.int() if self.template.faces_uv is not None else None,
            "template.mirror": self.mirror.int(),
            "skeleton.starts": self.skeleton.starts,
            "skeleton.ends": self.skeleton.ends,
            "skeleton.centre": self.skeleton.centre,
            "skin_weights": self.skin_weights,
            **{
                f"modes.{name}": getattr(self.modes, name).to(half if name.startswith("along") else torch.float32) for name in Modes._fields
            },
            "features.vertices": self.vertex_features.to(half),
            "features.mean": self.feature_mean,
            "features.matrix": self.feature_matrix,
            **{f"sdf.{name}": value for name, value in self.sdf_weights.items()},
            **{f"feature_field.{name}": value for name, value in self.feature_weights.items()},
        }
        return {name: value.contiguous() for name, value in tensors.items() if value is not None}

    def _check(self) -> None:
        count, bones = len(self.template.vertices), len(self.config.bone_names)
        expected = {
            "template.mirror": (self.mirror.shape, (count,)),
            "skeleton.starts": (self.skeleton.starts.shape, (bones, 3)),
            "skeleton.ends": (self.skeleton.ends.shape, (bones, 3)),
            "skin_weights": (self.skin_weights.shape, (count, bones)),
            "features.vertices": (self.vertex_features.shape[:1], (count,)),
            "features.mean": (self.feature_mean.shape, (self.config.feature_channels,)),
            "features.matrix": (self.feature_matrix.shape[:1], (self.config.feature_channels,)),
        }
        for name, (got, want) in expected.items():
            if tuple(got) != want:
                raise ModelError(f"model.safetensors: {name} has shape {list(got)}, expected {list(want)}")
        if len(self.config.bone_parents) != bones or any(not -1 <= parent < k for k, parent in enumerate(self.config.bone_parents)):
            raise ModelError("config.bone_parents: each parent must come before its child", hint=_AGAIN)
        corners = 0 if self.template.uv is None else len(self.template.uv)
        for name, faces, limit in (("faces", self.template.faces, count), ("faces_uv", self.template.faces_uv, corners)):
            if faces is not None and (faces.min() < 0 or faces.max() >= limit):
                raise ModelError(f"model.safetensors: template.{name} points outside its {limit} entries", hint=_AGAIN)


def _strip(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
