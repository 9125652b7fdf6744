"""Draw what was made of photographs that may not be shown: outlines compared, and the animal in clay from several sides and in motion.

    python tools/clay_sheets.py OUT… --truth MASKS… --names a,b,c --to docs/pictures/photographs.png

One row a photograph, from the exported files alone (NAME.glb, NAME.json): the hand-made silhouette against ours (grey: both, red: missed,
blue: too much), the same view, 55 degrees to either side, the far side, from above, `walk`, `gallop` and `graze`.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from farm3d.data.masks import read_mask
from farm3d.export.glb_reader import RiggedModel, read_glb
from farm3d.render.renderer import render
from farm3d.structures import Camera, Light

PANEL_PX = 200
HEADINGS = ("outline", "same view", "55° one way", "55° the other", "far side", "from above", "walk", "gallop", "graze")
LIGHT = Light(torch.nn.functional.normalize(torch.tensor([0.35, 0.75, 0.55]), dim=0), torch.tensor(0.35), torch.tensor(0.7))


def row_of(stem: Path, truth: Path) -> Image.Image:
    """Return the row of one photograph."""
    facts = json.loads(stem.with_suffix(".json").read_text())
    model = read_glb(stem.with_suffix(".glb"))
    view = facts["camera"]
    matrix = torch.tensor(view["T_camera_world"], dtype=torch.float32)
    intrinsics = torch.tensor([view[name] for name in ("fx", "fy", "cx", "cy")], dtype=torch.float32)
    camera = Camera(matrix, intrinsics, view["width"], view["height"])
    posed = torch.as_tensor(model.vertices_at(facts["pose"]["clip"], facts["pose"]["time_s"]), dtype=torch.float32)
    azimuth = math.atan2(float(matrix[2, 0]), float(matrix[2, 2]))
    panels = [_difference(model, posed, camera, read_mask(truth, (view["width"], view["height"])))]
    for turn, elevation in ((0, 8), (55, 12), (-55, 12), (180, 12), (35, 55)):
        panels.append(_clay(model, posed, azimuth + math.radians(turn), elevation))
    side = math.copysign(math.radians(68), math.sin(azimuth))
    for clip, share in (("walk", 0.35), ("gallop", 0.55), ("graze", 0.5)):
        moment = share * model.clip(clip).duration_s
        panels.append(_clay(model, torch.as_tensor(model.vertices_at(clip, moment), dtype=torch.float32), side, 8))
    page = Image.new("RGB", (PANEL_PX * len(panels), PANEL_PX), "white")
    for column, panel in enumerate(panels):
        page.paste(panel, (column * PANEL_PX, 0))
    return page


def _clay(model: RiggedModel, vertices: torch.Tensor, azimuth: float, elevation_deg: float) -> Image.Image:
    centre = (vertices.amin(0) + vertices.amax(0)) / 2
    distance = 1.04 * (vertices - centre).norm(dim=-1).max().item() / math.sin(math.radians(12.5))
    camera = Camera.orbit(azimuth, math.radians(elevation_deg), distance=distance, target=centre, size_px=PANEL_PX)
    clay = torch.full((1, len(vertices), 3), 0.75)
    drawn = render(vertices[None], torch.as_tensor(model.faces), camera, LIGHT, albedo=clay, supersample=2, background=0.93)
    return Image.fromarray((drawn.rgb[0].clamp(0, 1) * 255).byte().numpy())


def _difference(model: RiggedModel, vertices: torch.Tensor, camera: Camera, truth: np.ndarray) -> Image.Image:
    ones = torch.ones(1, len(vertices), 3)
    drawn = render(vertices[None], torch.as_tensor(model.faces), camera, LIGHT, albedo=ones).mask[0].numpy() > 0.5
    wanted = truth > 0.5
    colours = np.full((*drawn.shape, 3), 255, np.uint8)
    colours[drawn & wanted] = (190, 190, 190)
    colours[wanted & ~drawn] = (220, 60, 50)
    colours[drawn & ~wanted] = (60, 100, 220)
    picture = Image.fromarray(colours)
    picture.thumbnail((PANEL_PX, PANEL_PX), Image.Resampling.LANCZOS)
    page = Image.new("RGB", (PANEL_PX, PANEL_PX), "white")
    page.paste(picture, ((PANEL_PX - picture.width) // 2, (PANEL_PX - picture.height) // 2))
    return page


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, help="OUT folders of `farm3d reconstruct`")
    parser.add_argument("--truth", nargs="+", type=Path, required=True, help="folders with NAME_mask.*")
    parser.add_argument("--names", required=True)
    parser.add_argument("--to", type=Path, required=True)
    options = parser.parse_args()
    font = ImageFont.load_default(13)
    rows = []
    for name in options.names.split(","):
        folder = next(folder for folder in options.folders if (folder / f"{name}.glb").is_file())
        truth = next(path for place in options.truth for path in sorted(place.glob(f"{name}_mask.*")))
        rows.append((name, row_of(folder / name, truth)))
    caption = 20
    page = Image.new("RGB", (rows[0][1].width, caption + len(rows) * (PANEL_PX + caption)), "white")
    draw = ImageDraw.Draw(page)
    for column, heading in enumerate(HEADINGS):
        draw.text((column * PANEL_PX + 4, 2), heading, fill=(40, 40, 40), font=font)
    for index, (name, row) in enumerate(rows):
        top = caption + index * (PANEL_PX + caption)
        draw.text((4, top + 2), name, fill=(40, 40, 40), font=font)
        page.paste(row, (0, top + caption))
    page.quantize(128).save(options.to, optimize=True)


if __name__ == "__main__":
    main()
