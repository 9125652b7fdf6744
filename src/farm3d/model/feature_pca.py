"""Principal components of backbone features, fitted on foreground only, in one pass over any number of pictures (section 1.3)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional

from farm3d.core.errors import InputError
from farm3d.core.shapes import Float, Tensor, checked
from farm3d.model.encoder import project
from farm3d.model.folder import expect_tensors, load_model_folder, save_model_folder
from farm3d.structures._value import Value

__all__ = ["FeaturePca", "PcaConfig", "PcaFit", "pca_picture"]

_MIN_COVERAGE = 0.5  # of a cell: else it shows more background than animal


@dataclass(frozen=True)
class PcaConfig:
    """What a fitted PCA is of.

    Attributes:
        channels: C of the backbone.
        dims: D components kept.
        normalize: whether descriptors are scaled to length 1 first, as the papers do.
        encoder: name of the backbone.
        encoder_digest: and its sha256, empty if unknown.
        samples: foreground cells it was fitted on.
    """

    channels: int
    dims: int
    normalize: bool
    encoder: str
    encoder_digest: str
    samples: int


@dataclass(frozen=True, eq=False, repr=False)
class FeaturePca(Value):
    """Backbone channels to a few decorrelated ones: ``(f - mean) @ matrix``.

    Attributes:
        config: what it is of.
        mean: ``[C]``.
        matrix: orthonormal columns, by falling variance; each points where its largest entry is positive. ``[C, D]``.
        variance: along each, ``[D]``.
        explained: the share of all variance that each has, ``[D]``.
    """

    config: PcaConfig
    mean: Float[Tensor, "C"]
    matrix: Float[Tensor, "C D"]
    variance: Float[Tensor, "D"]
    explained: Float[Tensor, "D"]

    @checked
    def project(self, features: Float[Tensor, "B C G G"]) -> Float[Tensor, "B D G G"]:
        """Return the components of backbone features, differentiable."""
        features = functional.normalize(features, dim=1) if self.config.normalize else features
        return project(features, mean=self.mean, matrix=self.matrix)

    def save(self, folder: Path | str) -> None:
        """Write a model folder (safetensors with checksums; :mod:`farm3d.model.folder`).

        Raises:
            OutputError: it is something else, or cannot be written.
        """
        config = self.config
        card = (
            f"# PCA of the features of {config.encoder}\n\n{config.channels} channels to {config.dims}, fitted on {config.samples} cells "
            f"that show the animal; {100 * float(self.explained.sum()):.1f} % of their variance. Written by `farm3d.model.feature_pca`.\n"
        )
        save_model_folder(folder, config, tensors={name: getattr(self, name) for name in _shapes(config)}, card=card)

    @classmethod
    def load(cls, folder: Path | str, *, device: torch.device | str = "cpu") -> FeaturePca:
        """Read what :meth:`save` wrote.

        Raises:
            ModelError: missing, damaged or of another kind.
        """
        config, tensors = load_model_folder(folder, PcaConfig)
        expect_tensors(tensors, _shapes(config), where=str(folder))
        return cls(config, **tensors).to(device)


class PcaFit:
    """Gathers count, sum and sum of outer products (float64): any number of pictures, in any order, in several workers.

    Args:
        channels: C of the backbone.
        encoder, encoder_digest: which backbone, for the record.
        normalize: scale descriptors to length 1 first, as the papers do.
    """

    def __init__(self, channels: int, *, encoder: str, encoder_digest: str = "", normalize: bool = True) -> None:
        self.channels, self.encoder, self.encoder_digest, self.normalize = channels, encoder, encoder_digest, normalize
        self.count = 0
        self.total = torch.zeros(channels, dtype=torch.float64)
        self.outer = torch.zeros(channels, channels, dtype=torch.float64)

    @checked
    def add(self, features: Float[Tensor, "B C G G"], mask: Float[Tensor, "B H W"]) -> None:
        """Take in the cells of pictures that the animal covers by half or more.

        Args:
            features: the backbone's.
            mask: the animal's coverage in [0, 1], of any size: averaged over each cell.

        Raises:
            ValueError: features of another number of channels.
        """
        if features.shape[1] != self.channels:
            raise ValueError(f"features of {features.shape[1]} channels, expected {self.channels}")
        coverage = functional.adaptive_avg_pool2d(mask[:, None], features.shape[-1])[:, 0]
        chosen = features.detach().permute(0, 2, 3, 1)[coverage >= _MIN_COVERAGE].double().cpu()
        chosen = functional.normalize(chosen, dim=1) if self.normalize else chosen
        self.count += len(chosen)
        self.total += chosen.sum(0)
        self.outer += chosen.T @ chosen

    def merge(self, other: PcaFit) -> None:
        """Take in what another worker gathered.

        Raises:
            ValueError: it gathered something else.
        """
        ours, theirs = ((fit.channels, fit.encoder, fit.encoder_digest, fit.normalize) for fit in (self, other))
        if ours != theirs:
            raise ValueError(f"features of {theirs} cannot be added to those of {ours}")
        self.count += other.count
        self.total += other.total
        self.outer += other.outer

    def result(self, dims: int = 16) -> FeaturePca:
        """Return the ``dims`` directions of largest variance about the mean.

        Raises:
            InputError: too few foreground cells were seen, or more directions are wanted than there are channels.
        """
        if not 1 <= dims <= self.channels:
            raise InputError(f"{dims} components of {self.channels} channels: expected 1 to {self.channels}")
        if self.count <= dims:
            raise InputError(
                f"{self.count} cells that show the animal are too few for {dims} components", hint="give more pictures, or masks"
            )
        mean = self.total / self.count
        covariance = self.outer / self.count - torch.outer(mean, mean)
        values, vectors = torch.linalg.eigh(covariance)  # ascending
        vectors = vectors.flip(1)[:, :dims]
        largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
        variance = values.flip(0)[:dims].clamp_min(0)
        return FeaturePca(
            PcaConfig(self.channels, dims, self.normalize, self.encoder, self.encoder_digest, self.count),
            mean=mean.float(),
            matrix=(vectors * largest.sign()).float(),
            variance=variance.float(),
            explained=(variance / covariance.trace().clamp_min(1e-30)).float(),
        )


@checked
def pca_picture(
    components: Float[Tensor, "B D G G"], mask: Float[Tensor, "B H W"], *, size_px: int = 256, background: float = 1.0
) -> Float[Tensor, "B 3 S S"]:
    """Return the first three components as red, green and blue, as the papers show them: like colours, like parts.

    The colours mean the same in all B pictures: each component is stretched so that the middle 98 % of the foreground fill [0, 1].

    Args:
        components: from :meth:`FeaturePca.project`; D is 3 or more.
        mask: the animal's coverage in [0, 1].
        size_px: side S of the pictures.
        background: grey value in [0, 1] where the animal is not.

    Raises:
        InputError: fewer than three components.
    """
    if components.shape[1] < 3:
        raise InputError(f"{components.shape[1]} components: three are needed for a picture")
    coverage = functional.adaptive_avg_pool2d(mask[:, None], components.shape[-1])[:, 0]
    seen = coverage >= min(_MIN_COVERAGE, float(coverage.max()))
    values = components[:, :3].permute(0, 2, 3, 1)[seen].sort(0).values
    low, high = (values[round(share * (len(values) - 1))][:, None, None] for share in (0.01, 0.99))
    size = (size_px, size_px)
    rgb = functional.interpolate((components[:, :3] - low) / (high - low).clamp_min(1e-12), size, mode="bilinear", align_corners=False)
    alpha = functional.interpolate(mask[:, None], size, mode="bilinear", align_corners=False, antialias=True)
    return rgb.clamp(0, 1) * alpha + background * (1 - alpha)


def _shapes(config: PcaConfig) -> dict[str, tuple[int, ...]]:
    channels, dims = config.channels, config.dims
    return {"mean": (channels,), "matrix": (channels, dims), "variance": (dims,), "explained": (dims,)}
