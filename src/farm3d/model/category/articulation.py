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
_POINTS_AGAIN = 3  # along a bone, when it looks again


class _Look(nn.Module):
    """Per bone: the picture's code, the features of where it lies, its position; two rounds in which each bone hears the mean of all.

    The paper lets the bones attend to each other in four transformer blocks; a mean is a third of the price here. The answer begins at
    zero.
    """

    def __init__(self, config: CategoryConfig, *, points: int, told: int) -> None:
        super().__init__()
        self.config, self.points = config, points
        self.enter = nn.Linear(config.code + points * config.local + _POSITION * (1 + 2 * _OCTAVES) + told, config.bone_width)
        self.rounds = nn.ModuleList([_Round(config.bone_width) for _ in range(2)])
        self.out = nn.Linear(config.bone_width, 3)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def look(
        self,
        starts: Float[Tensor, "N K 3"],
        ends: Float[Tensor, "N K 3"],
        camera: Camera,
        code: Float[Tensor, "N D"],
        places: Float[Tensor, "N L P P"],
        *told: Float[Tensor, "N K T"],
    ) -> Float[Tensor, "N K 3"]:
        """Return three numbers for each bone of N animals whose bones lie there, object frame; no gradient goes to where."""
        count, bones = starts.shape[:2]

        def in_picture(points: Tensor) -> Tensor:
            return (camera.pixels(points) / (camera.width_px / 2) - 1).detach()

        middle = in_picture((starts + ends) / 2)
        spots = middle[:, :, None]
        if self.points > 1:
            along = torch.linspace(0, 1, self.points, device=starts.device)[:, None]
            spots = in_picture((starts[:, :, None] + along * (ends - starts)[:, :, None]).flatten(1, 2)).unflatten(1, (bones, self.points))
        seen = [(camera.to_camera(points) + points.new_tensor([0.0, 0.0, 10.0])) / 3.5 for points in (starts, ends)]
        number = ((torch.arange(bones, device=code.device) + 0.5) / bones * 2 - 1).expand(count, bones)[..., None]
        position = torch.cat([middle, *seen, number], -1).detach()
        if self.config.parts.local_features:
            local = functional.grid_sample(places, spots, align_corners=False).permute(0, 2, 3, 1).flatten(2)
        else:
            local = code.new_zeros(count, bones, self.points * self.config.local)
        whole = code[:, None].expand(-1, bones, -1)
        embedded = harmonic_embedding(position, octaves=_OCTAVES, scalar=0.9 * torch.pi)
        x = self.enter(torch.cat([whole, local, embedded, *(each.detach() for each in told)], -1))
        for each in self.rounds:
            x = each(x)
        return 0.5 * self.out(functional.silu(x))


class ArticulationNetwork(_Look):
    """How each bone is turned, from where it lies at rest; then again, if asked, from where that turned it.

    Angles stay within the limits of real joints in place of the paper's 60 degrees. At the start every angle is zero. Looking again
    (``CategoryConfig.looks``) is ours: at rest a hoof looks at the ground that it stands on in few pictures, and only where it was turned
    to can it see whether it is there.
    """

    def __init__(self, config: CategoryConfig) -> None:
        super().__init__(config, points=config.bone_points, told=0)
        self.again = nn.ModuleList([_Look(config, points=_POINTS_AGAIN, told=3) for _ in range(config.looks - 1)])

    def forward(
        self, skeleton: Skeleton, camera: Camera, code: Float[Tensor, "N D"], places: Float[Tensor, "N L P P"]
    ) -> Float[Tensor, "N K 3"]:
        """Return the angles in radians of N pairs of a picture and a camera."""
        starts, ends = (joints.expand(len(code), -1, -1) for joints in (skeleton.starts, skeleton.ends))
        raw = self.look(starts, ends, camera, code, places)
        low, high = (limit.to(raw) for limit in joint_limits(skeleton.names))
        angles = bounded_angles(raw, low, high)
        for again in self.again:
            assert isinstance(again, _Look)
            turns = skeleton.transforms(angles.detach())
            here = [(turns[..., :3, :3] @ joints[..., None])[..., 0] + turns[..., :3, 3] for joints in (starts, ends)]
            raw = raw + again.look(here[0], here[1], camera, code, places, angles)
            angles = bounded_angles(raw, low, high)
        return angles


class _Round(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(2 * width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        own = self.norm(x)
        everyone = own.mean(1, keepdim=True).expand_as(own)
        return x + self.down(functional.silu(self.up(torch.cat([own, everyone], -1))))
