"""How each bone is turned: from the whole picture, and from what is seen where the bone is (section 2.7)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from farm3d.core.shapes import Float, Tensor
from farm3d.model.category.config import CategoryConfig
from farm3d.model.fields import harmonic_embedding
from farm3d.model.joint_limits import joint_limits
from farm3d.model.parameters import bounded_angles
from farm3d.structures import Camera, Skeleton

__all__ = ["ArticulationNetwork"]

_OCTAVES = 4
_POSITION = 9  # midpoint in the picture, both ends in the camera frame, the bone's number


class ArticulationNetwork(nn.Module):
    """Per bone: the picture's code, the place's features, its position; two rounds in which each bone hears the mean of all.

    The paper lets the bones attend to each other in four transformer blocks; a mean is a third of the price here. Angles stay within
    the limits of real joints in place of the paper's 60 degrees. At the start every angle is zero.
    """

    def __init__(self, config: CategoryConfig) -> None:
        super().__init__()
        self.config = config
        inputs = config.code + config.bone_points * config.local + _POSITION * (1 + 2 * _OCTAVES)
        self.enter = nn.Linear(inputs, config.bone_width)
        self.rounds = nn.ModuleList([_Round(config.bone_width) for _ in range(2)])
        self.out = nn.Linear(config.bone_width, 3)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self, skeleton: Skeleton, camera: Camera, code: Float[Tensor, "N D"], places: Float[Tensor, "N L P P"]
    ) -> Float[Tensor, "N K 3"]:
        """Return the angles in radians of N pairs of a picture and a camera."""
        starts, ends = skeleton.starts, skeleton.ends
        bones, count, many = len(skeleton.names), len(code), self.config.bone_points

        def in_picture(points: Tensor) -> Tensor:
            return (camera.pixels(points.expand(count, -1, -1)) / (camera.width_px / 2) - 1).detach()

        middle = in_picture((starts + ends) / 2)
        spots = middle[:, :, None]
        if many > 1:
            along = torch.linspace(0, 1, many, device=starts.device)[:, None]
            spots = in_picture((starts[:, None] + along * (ends - starts)[:, None]).flatten(0, 1)).unflatten(1, (bones, many))
        seen = [camera.to_camera(points.expand(count, -1, -1)) for points in (starts, ends)]
        seen = [(points + points.new_tensor([0.0, 0.0, 10.0])) / 3.5 for points in seen]
        number = ((torch.arange(bones, device=code.device) + 0.5) / bones * 2 - 1).expand(count, bones)[..., None]
        position = torch.cat([middle, *seen, number], -1).detach()
        if self.config.parts.local_features:
            local = functional.grid_sample(places, spots, align_corners=False).permute(0, 2, 3, 1).flatten(2)
        else:
            local = code.new_zeros(count, bones, many * self.config.local)
        whole = code[:, None].expand(-1, bones, -1)
        x = self.enter(torch.cat([whole, local, harmonic_embedding(position, octaves=_OCTAVES, scalar=0.9 * torch.pi)], -1))
        for each in self.rounds:
            x = each(x)
        low, high = (limit.to(x) for limit in joint_limits(skeleton.names))
        return bounded_angles(0.5 * self.out(functional.silu(x)), low, high)


class _Round(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(2 * width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        own = self.norm(x)
        everyone = own.mean(1, keepdim=True).expand_as(own)
        return x + self.down(functional.silu(self.up(torch.cat([own, everyone], -1))))
