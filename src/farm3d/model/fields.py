"""Coordinate networks: a category's shape as a signed distance field, and what a backbone sees at each place (sections 2.1 and 2.2)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import torch
from torch import nn

from farm3d.core.errors import ModelError
from farm3d.core.shapes import Float, Tensor, checked
from farm3d.geometry.tetrahedra import ellipsoid_sdf

__all__ = ["HALF_BOX", "CoordMLP", "FeatureField", "ShapeField", "harmonic_embedding", "load_field"]

HALF_BOX = 3.5  # fields live in the cube [-3.5, 3.5]^3


@checked
def harmonic_embedding(
    points: Float[Tensor, "*batch C"], *, octaves: int, scalar: float = 0.9 * math.pi / HALF_BOX, fall: float = 0.0
) -> Float[Tensor, "*batch E"]:
    """Return the coordinates followed by sines and cosines of coordinate * scalar * 2^k, k = 0 .. octaves - 1 (section 2.1).

    ``E = C * (1 + 2 * octaves)``; three coordinates and 8 octaves give 51 numbers.

    Args:
        points: whatever they are of.
        octaves, scalar: see above.
        fall: octave k is multiplied by ``2 ** (-fall * k)``; the paper's is 0, where a step of Adam moves the surface by as much in every
            octave and its slope twice as much in each next one. Ours.
    """
    scales = scalar * 2.0 ** torch.arange(octaves, dtype=points.dtype, device=points.device)
    phases = (points[..., None] * scales).flatten(-2)
    waves = torch.cat([phases.sin(), phases.cos()], -1)
    if fall:
        strength = 2.0 ** (-fall * torch.arange(octaves, dtype=points.dtype, device=points.device))
        waves = waves * strength.repeat(2 * points.shape[-1])
    return torch.cat([points, waves], -1)


class CoordMLP(nn.Module):
    """Harmonic embedding, one layer with bias, then ``layers`` layers without, ReLU between, linear output (section 2.1).

    Args:
        outputs: channels of the result.
        octaves: of the embedding.
        hidden: units per layer.
        layers: number of layers after the first.
        fall: see :func:`harmonic_embedding`.
    """

    def __init__(self, outputs: int, *, octaves: int = 8, hidden: int = 256, layers: int = 5, fall: float = 0.0) -> None:
        super().__init__()
        self.octaves, self.fall = octaves, fall
        self.first = nn.Linear(3 * (1 + 2 * octaves), hidden)
        widths = [hidden] * layers + [outputs]
        self.rest = nn.ModuleList([nn.Linear(a, b, bias=False) for a, b in itertools.pairwise(widths)])

    def forward(self, points: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch C"]:
        """Evaluate at points of the object frame, canonical units."""
        signal = self.first(harmonic_embedding(points, octaves=self.octaves, fall=self.fall))
        for layer in self.rest:
            signal = layer(torch.relu(signal))
        return signal


class ShapeField(nn.Module):
    """Signed distance to a category's rest shape, positive inside: ``s(p) = MLP(|x|, y, z) + s0(p)`` (section 2.2).

    ``s0`` is the ellipsoid with semi-axes 1.05, 1.05, 2.1; a fresh field is exactly that ellipsoid. Units: canonical.
    """

    def __init__(self, *, octaves: int = 8, hidden: int = 256, layers: int = 5, fall: float = 0.0) -> None:
        super().__init__()
        self.mlp = CoordMLP(1, octaves=octaves, hidden=hidden, layers=layers, fall=fall)
        nn.init.zeros_(self.mlp.rest[-1].weight)  # pyright: ignore[reportArgumentType]

    def forward(self, points: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch"]:
        """Evaluate at points of the object frame."""
        return self.mlp(_mirrored(points))[..., 0] + ellipsoid_sdf(points)


class FeatureField(nn.Module):
    """Projected backbone features at places of the rest shape, equal on both sides of the mirror plane (section 2.9)."""

    def __init__(self, channels: int = 16, *, octaves: int = 6, hidden: int = 128, layers: int = 3) -> None:
        super().__init__()
        self.mlp = CoordMLP(channels, octaves=octaves, hidden=hidden, layers=layers)

    def forward(self, points: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch C"]:
        """Evaluate at points of the object frame, canonical units."""
        return self.mlp(_mirrored(points))


def load_field(field: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """Put weights into a field and return it, in evaluation mode, without gradients.

    Raises:
        ModelError: names or shapes do not fit the field.
    """
    try:
        field.load_state_dict({name: value.float() for name, value in weights.items()}, strict=True)
    except RuntimeError as error:
        raise ModelError(f"field weights do not fit: {str(error).splitlines()[-1].strip()}", hint="copy the model folder again") from error
    return field.requires_grad_(False).eval()


def _mirrored(points: Tensor) -> Tensor:
    return torch.cat([points[..., :1].abs(), points[..., 1:]], -1)
