"""A learned category as a model folder, and one pass of it over a picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch.nn import functional

from farm3d.core.errors import ModelError
from farm3d.core.shapes import Float, Tensor
from farm3d.geometry.tetrahedra import Crossings
from farm3d.model.category.config import CategoryConfig
from farm3d.model.category.model import CategoryModel
from farm3d.model.category.networks import Reading
from farm3d.model.category.rest_shape import RestShape, Scaffold, grid_of, rest_shape
from farm3d.model.folder import load_model_folder, model_kind, model_path, save_model_folder
from farm3d.model.prior import CategoryPrior, PriorConfig
from farm3d.structures import Skeleton

__all__ = ["FeatureBasis", "LearnedCategory", "LearnedConfig", "load_category"]

_AGAIN = "fetch or copy the model folder again"


@dataclass(frozen=True)
class LearnedConfig:
    """What a learned category is, but its tensors.

    Attributes:
        model: sizes and switches.
        cell: of the grid whose topology is stored.
        bone_names, bone_parents: of the skeleton.
        encoder: name of the backbone; encoder_digest: and its sha256.
        normalize: whether the backbone's descriptors are scaled to length 1 first.
        prior: of the finished category: template, bones, skin and features that fitting uses.
    """

    model: CategoryConfig
    cell: float
    bone_names: tuple[str, ...]
    bone_parents: tuple[int, ...]
    encoder: str
    encoder_digest: str
    normalize: bool
    prior: PriorConfig


@dataclass(frozen=True, eq=False)
class FeatureBasis:
    """How the backbone's channels become the model's: ``(f - mean) @ matrix / scale``; ``[C]``, ``[C, D]``, ``[D]``.

    ``normalize``: descriptors are scaled to length 1 first.
    """

    mean: Float[Tensor, "C"]
    matrix: Float[Tensor, "C D"]
    scale: Float[Tensor, "D"]
    normalize: bool = False

    def project(self, features: Float[Tensor, "B C G G"]) -> Float[Tensor, "B D G G"]:
        """Return the components that the model reads, about unit spread."""
        features = functional.normalize(features, dim=1) if self.normalize else features
        moved = torch.einsum("bchw,cd->bdhw", features - self.mean[:, None, None], self.matrix)
        return moved / self.scale[:, None, None]


@dataclass(frozen=True, eq=False)
class LearnedCategory:
    """A category model ready for use.

    Attributes:
        model: without gradients.
        scaffold: topology and bones.
        rest: the rest shape on it.
        basis: from the backbone's features to the model's.
        prior: template mesh with atlas, bones, skin, modes and features: what an answer is made of.
        encoder, encoder_digest: the backbone.
    """

    model: CategoryModel
    scaffold: Scaffold
    rest: RestShape
    basis: FeatureBasis
    prior: CategoryPrior
    encoder: str
    encoder_digest: str

    @classmethod
    def of(
        cls,
        model: CategoryModel,
        scaffold: Scaffold,
        basis: FeatureBasis,
        *,
        prior: CategoryPrior,
        encoder: str,
        encoder_digest: str,
    ) -> Self:
        """Put the parts together; the model is taken as it is now and loses its gradients."""
        model.requires_grad_(False).eval()
        return cls(model, scaffold, rest_shape(model.shape, scaffold), basis, prior, encoder, encoder_digest)

    def to(self, device: torch.device | str) -> Self:
        """Return it on a device."""
        model, scaffold = self.model.to(device), self.scaffold.to(device)
        mean, matrix, scale = (values.to(device) for values in (self.basis.mean, self.basis.matrix, self.basis.scale))
        basis = FeatureBasis(mean, matrix, scale, self.basis.normalize)
        return type(self).of(model, scaffold, basis, prior=self.prior.to(device), encoder=self.encoder, encoder_digest=self.encoder_digest)

    def read(self, features: Float[Tensor, "B C G G"], image: Float[Tensor, "B 3 S S"], mask: Float[Tensor, "B S S"]) -> Reading:
        """Read pictures: the backbone's features of the animals on grey, colours and coverage of the crops."""
        return self.model.reader(self.basis.project(features), image, mask)

    @classmethod
    def from_pretrained(cls, folder: Path | str) -> Self:
        """Load a model folder, by path or by the name of a shipped one.

        Raises:
            ModelError: damaged, incomplete or of another kind.
        """
        folder = model_path(folder)
        config, tensors = load_model_folder(folder, LearnedConfig)
        model = CategoryModel(config.model)
        try:
            model.load_state_dict({name[6:]: value.float() for name, value in tensors.items() if name.startswith("model.")})
            grid = grid_of(config.model, cell=config.cell)
            ends, faces, mirror = (tensors[f"scaffold.{name}"].long() for name in ("ends", "faces", "mirror"))
            joints = (tensors[f"scaffold.{name}"] for name in ("starts", "tips", "centre"))
            crossings = Crossings(grid, (0.0, 0.0, 0.0), ends, faces, mirror)
            scaffold = Scaffold(crossings, Skeleton(config.bone_names, config.bone_parents, *joints), config.cell)
            mean, matrix, scale = (tensors[f"basis.{name}"] for name in ("mean", "matrix", "scale"))
            basis = FeatureBasis(mean, matrix, scale, config.normalize)
        except KeyError as error:
            raise ModelError(f"{folder}: tensor {error} is missing", hint=_AGAIN) from error
        except RuntimeError as error:
            raise ModelError(f"{folder}: its tensors do not fit: {str(error).splitlines()[-1].strip()}", hint=_AGAIN) from error
        own = {name[6:]: value for name, value in tensors.items() if name.startswith("prior.")}
        own |= {f"sdf.{name}": value for name, value in model.shape.state_dict().items()}
        prior = CategoryPrior.from_tensors(config.prior, own, where=f"{folder / 'model.safetensors'}: prior")
        return cls.of(model, scaffold, basis, prior=prior, encoder=config.encoder, encoder_digest=config.encoder_digest)

    def save_pretrained(self, folder: Path | str, *, card: str) -> None:
        """Write the model folder; ``card`` is the text of its README. Weights are kept in float16 but the shape's, which is exact."""
        crossings, skeleton = self.scaffold.crossings, self.scaffold.skeleton
        assert crossings.mirror is not None
        tensors = {f"model.{name}": value if name.startswith("shape.") else value.half() for name, value in self.model.state_dict().items()}
        tensors |= {
            "scaffold.ends": crossings.ends.int(),
            "scaffold.faces": crossings.faces.int(),
            "scaffold.mirror": crossings.mirror.int(),
        }
        tensors |= {"scaffold.starts": skeleton.starts, "scaffold.tips": skeleton.ends, "scaffold.centre": skeleton.centre}
        tensors |= {"basis.mean": self.basis.mean, "basis.matrix": self.basis.matrix, "basis.scale": self.basis.scale}
        # The shape field is the model's own, and needs no second copy.
        tensors |= {f"prior.{name}": value.clone() for name, value in self.prior.to_tensors().items() if not name.startswith("sdf.")}
        bones = skeleton.names, skeleton.parents
        config = LearnedConfig(
            self.model.config, self.scaffold.cell, *bones, self.encoder, self.encoder_digest, self.basis.normalize, self.prior.config
        )
        save_model_folder(folder, config, tensors=tensors, card=card)


def load_category(folder: Path | str) -> tuple[CategoryPrior, LearnedCategory | None]:
    """Load a category of either kind by folder, or by the name of a shipped one: its prior, and its networks if it was learned.

    Raises:
        ModelError: damaged, incomplete, or no category.
    """
    path = model_path(folder)
    if model_kind(path) == LearnedConfig.__name__:
        learned = LearnedCategory.from_pretrained(path)
        return learned.prior, learned
    return CategoryPrior.from_pretrained(path), None
