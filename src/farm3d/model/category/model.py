"""``(s, a, v, l) = f(I)``: one category, its rest shape, and the networks that read an individual from a picture (section 2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from farm3d.core.shapes import Float, Tensor
from farm3d.geometry.skinning import linear_blend_skinning
from farm3d.model.category.articulation import ArticulationNetwork
from farm3d.model.category.config import CategoryConfig
from farm3d.model.category.networks import CodedField, PictureReader, Reading
from farm3d.model.category.rest_shape import RestShape
from farm3d.model.fields import FeatureField, ShapeField
from farm3d.structures import Camera, Light
from farm3d.structures._value import Value

__all__ = ["CategoryModel", "Individuals"]


@dataclass(frozen=True, eq=False, repr=False)
class Individuals(Value):
    """N animals: pairs of a picture and a viewpoint hypothesis.

    Attributes:
        shifts: displacement of the rest shape, canonical units, ``[N, V, 3]``; 0 where deformation is off.
        angles: of the bones, radians, ``[N, K, 3]``; 0 where articulation is off.
        vertices: posed, object frame, ``[N, V, 3]``.
    """

    shifts: Float[Tensor, "N V 3"]
    angles: Float[Tensor, "N K 3"]
    vertices: Float[Tensor, "N V 3"]


class CategoryModel(nn.Module):
    """Fields of the category, shared by all pictures, and networks for what differs.

    ``shape`` and ``features`` are the prior; ``reader`` looks at a picture; ``deformation``, ``articulation``, ``albedo`` and ``light``
    turn what it read into an individual.
    """

    def __init__(self, config: CategoryConfig) -> None:
        super().__init__()
        self.config = config
        self.shape = ShapeField(octaves=config.sdf_octaves, hidden=config.sdf_hidden, layers=config.sdf_layers, fall=config.sdf_fall)
        self.features = FeatureField(config.feature_channels)
        self.reader = PictureReader(config)
        self.deformation = CodedField(3, code=config.code, octaves=4, hidden=config.deform_hidden, layers=3)
        self.articulation = ArticulationNetwork(config)
        self.albedo = CodedField(
            3, code=config.code, octaves=config.albedo_octaves, hidden=config.albedo_hidden, layers=config.albedo_layers
        )
        self.light = nn.Linear(config.code, 4)
        nn.init.zeros_(self.light.weight)
        nn.init.zeros_(self.light.bias)

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return self.light.weight.device

    def individuals(
        self, rest: RestShape, reading: Reading, camera: Camera, pictures: Tensor, *, deform: bool, articulate: bool
    ) -> Individuals:
        """Return the animals of N pairs of a picture and its camera.

        Args:
            rest: the prior shape.
            reading: of B pictures.
            camera: N of them; the bones' places in the picture depend on it.
            pictures: which picture each is of, ``[N]``.
            deform, articulate: leave either out, as at the beginning of training.
        """
        count, size = len(pictures), len(rest.vertices)
        if deform and self.config.parts.deformation:
            shifts = self.displacements(rest, reading.code)[pictures]
            placed = rest.vertices + shifts
        else:
            shifts = rest.vertices.new_zeros(count, size, 3)
            placed = rest.vertices.expand(count, size, 3)
        if articulate and self.config.parts.articulation:
            angles = self.articulation(rest.skeleton, camera, reading.code[pictures], reading.places[pictures])
            vertices = linear_blend_skinning(placed, rest.skin, rest.skeleton.transforms(angles))
        else:
            angles = rest.vertices.new_zeros(count, len(rest.skeleton.names), 3)
            vertices = placed
        return Individuals(shifts, angles, vertices)

    def displacements(self, rest: RestShape, code: Float[Tensor, "B D"]) -> Float[Tensor, "B V 3"]:
        """Return how B individuals differ from the rest shape: mirror images of each other left and right.

        The original mirrors the place alone, so that both sides move the same way along x (section 2.4); here x changes its sign.
        """
        half = self.config.deform_scale * self.deformation(rest.vertices[: rest.half].detach(), code)
        on_plane = rest.mirror[: rest.half] == torch.arange(rest.half, device=half.device)
        half = torch.cat([half[..., :1] * (~on_plane)[:, None], half[..., 1:]], -1)
        other = half[:, rest.mirror[rest.half :]] * half.new_tensor([-1.0, 1.0, 1.0])
        return torch.cat([half, other], 1)

    def colours(self, rest: RestShape, look: Float[Tensor, "B D"]) -> Float[Tensor, "B V 3"]:
        """Return the albedo at the rest shape's vertices, linear RGB in [0, 1]."""
        half = torch.sigmoid(self.albedo(rest.vertices[: rest.half].detach(), look))
        return torch.cat([half, half[:, rest.mirror[rest.half :]]], 1)

    def lights(self, look: Float[Tensor, "B D"]) -> Light:
        """Return the light of each picture (section 2.9): from above in the camera frame, ambient in [0, 1], diffuse in [0.5, 1]."""
        a, b, c, d = torch.sigmoid(self.light(look)).unbind(-1)
        direction = torch.stack([2 * a - 1, torch.full_like(a, 0.5), 2 * b - 1], -1)
        return Light(nn.functional.normalize(direction, dim=-1), c, 0.5 + 0.5 * d)
