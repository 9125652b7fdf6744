"""Draw a GLB's clips as strips: one row a clip, six moments each.

python tools/filmstrip.py out/demo/horse.glb docs/pictures/clips.png
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont

from farm3d.core.color import srgb_from_linear
from farm3d.export.glb_reader import read_glb
from farm3d.render.renderer import Texture, render
from farm3d.structures import Camera, Light

CLIPS, MOMENTS, PANEL_PX, CAPTION_PX = ("walk", "trot", "gallop", "graze"), 6, 200, 18
LIGHT = Light(torch.nn.functional.normalize(torch.tensor([0.35, 0.75, 0.55]), dim=0), torch.tensor(0.75), torch.tensor(0.45))
PAPER = 0.85  # linear grey


def main() -> None:
    """Run the command line."""
    model = read_glb(Path(sys.argv[1]))
    rest = model.vertices_at("rest", 0.0)
    centre, radius = (rest.amin(0) + rest.amax(0)) / 2, (rest - rest.mean(0)).norm(dim=1).max().item()
    distance = 1.25 * radius / math.sin(math.radians(12.5))
    camera = Camera.orbit(math.radians(72), math.radians(8), distance=distance, target=centre, size_px=PANEL_PX)
    page = Image.new("RGB", (MOMENTS * PANEL_PX, len(CLIPS) * (PANEL_PX + CAPTION_PX)), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(13)
    for row, name in enumerate(CLIPS):
        for column in range(MOMENTS):
            moment = column / MOMENTS * model.clip(name).duration_s
            posed = model.vertices_at(name, moment)
            albedo = Texture(model.uv, model.faces, model.texture)
            drawn = render(posed[None], model.faces, camera, LIGHT, albedo=albedo, supersample=2, background=PAPER)
            picture = (srgb_from_linear(drawn.rgb[0]) * 255).round().byte().numpy()
            x, y = column * PANEL_PX, row * (PANEL_PX + CAPTION_PX)
            draw.text((x + 4, y + 1), f"{name}, {moment:.2f} s" if column == 0 else f"{moment:.2f} s", fill=(40, 40, 40), font=font)
            page.paste(Image.fromarray(picture), (x, y + CAPTION_PX))
    page.quantize(192).save(sys.argv[2], optimize=True)


if __name__ == "__main__":
    main()
