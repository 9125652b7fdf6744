"""Draw examples/horse.png: a CC0 rig (not the mean animal of the prior: its own pose, coat, light and view), cut out by its alpha.

    python tools/make_example.py examples/horse.png

The rigs are fetched into the cache when they are not there (`farm3d.barn.rigs`).
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from farm3d.barn.rigs import fetch_rigs, load_rig
from farm3d.core.color import srgb_from_linear
from farm3d.core.files import cache_folder
from farm3d.core.random import numpy_generator
from farm3d.geometry.surface import loop_subdivide
from farm3d.render.renderer import render
from farm3d.structures import Camera, Light

SIZE_PX = 512
COLOURS = {"Hair": (0.03, 0.022, 0.02), "Hooves": (0.05, 0.045, 0.04), "Muzzle": (0.05, 0.035, 0.03)}
BAY = (0.26, 0.095, 0.035)


def main() -> None:
    """Run the command line."""
    rig = load_rig(fetch_rigs(cache_folder()) / "horse.glb")
    posed = rig.pose("Walk", 0.62)
    palette = [COLOURS.get(name, (0.01, 0.01, 0.01) if name.startswith("Eye") else BAY) for name in rig.material_names]
    albedo = torch.zeros(len(posed), 3)
    albedo[rig.faces.flatten()] = torch.tensor(palette)[rig.face_materials].repeat_interleave(3, 0)
    # Black points: legs darken toward the hoof, as on most bays.
    low = rig.vertices[:, 1:2] / rig.vertices[:, 1].max()
    albedo = albedo * (0.12 + 0.88 * ((low - 0.1) / 0.22).clamp(0, 1))
    values = torch.cat([posed, albedo, rig.vertices], 1)
    faces = rig.faces
    points, fine = loop_subdivide(posed, faces)
    points, fine = loop_subdivide(points, fine)
    extra = _subdivided(values[:, 3:], posed, faces)
    noise = numpy_generator(0, "example coat").standard_normal((1, 1, 9, 11, 7)).astype(np.float32)
    grid = (extra[:, 3:] / 1.2)[None, None, None]
    dapple = torch.nn.functional.grid_sample(torch.from_numpy(noise), grid, align_corners=True, padding_mode="reflection").flatten()
    colours = extra[:, :3] * (1 + 0.18 * dapple[:, None]).clamp(0.5, 1.5)
    middle = (points.amin(0) + points.amax(0)) / 2
    radius = (points - middle).norm(dim=1).max().item()
    camera = Camera.orbit(math.radians(62), math.radians(9), distance=radius / math.sin(math.radians(13)), target=middle, size_px=SIZE_PX)
    light = Light(torch.nn.functional.normalize(torch.tensor([-0.45, 0.75, 0.5]), dim=0), torch.tensor(0.65), torch.tensor(0.95))
    drawn = render(points[None], fine, camera, light, albedo=colours[None], supersample=3)
    mask = drawn.mask[0][..., None]
    picture = torch.cat([srgb_from_linear(drawn.rgb[0] / mask.clamp_min(1e-3)), mask], -1)
    data = (picture.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    Image.fromarray(data, "RGBA").save(Path(sys.argv[1]), optimize=True)


def _subdivided(values: torch.Tensor, posed: torch.Tensor, faces: torch.Tensor) -> torch.Tensor:
    """Attributes ``[V, 6]`` carried through the same two subdivisions, three at a time."""
    columns = []
    for start in (0, 3):
        points, fine = loop_subdivide(values[:, start : start + 3], faces)
        points, fine = loop_subdivide(points, fine)
        columns.append(points)
    del posed
    return torch.cat(columns, 1)


if __name__ == "__main__":
    main()
