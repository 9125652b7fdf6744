"""A strip of several animals side by side on one ground at one scale: standing above, walking below."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from farm3d.core.version import __version__
from farm3d.export.glb import glb_transform
from farm3d.export.sheet import draw_animal
from farm3d.motion.animate import posed_vertices
from farm3d.motion.clips import Clip
from farm3d.structures import Animal, Camera, Light

__all__ = ["ROWS", "draw_strip_panels", "filmstrip", "strip_frame"]

PANEL_PX = 256
ROWS = (("standing", 40.0, "rest", 0.0), ("walking", 70.0, "walk", 0.35))
"""Of the strip, from the top: name, azimuth in degrees, clip, and share of its duration."""
_CAPTION_PX, _GAP_PX, _INK = 20, 3, (40, 40, 40)
_MOST_IN_A_ROW = 6
_FOV_DEG = 25.0


def strip_frame(animals: Sequence[Animal]) -> tuple[float, float, float]:
    """Return height and depth (z) of the point to look at, and the radius to hold, in metres, so that each of the animals is whole."""
    places = torch.cat([_metres(animal, animal.rest.vertices) for animal in animals])
    centre = (places.amin(0) + places.amax(0)) / 2
    return float(centre[1]), float(centre[2]), 1.04 * float((places - centre).norm(dim=-1).max())


def draw_strip_panels(animal: Animal, clips: Sequence[Clip], frame: tuple[float, float, float]) -> list[np.ndarray]:
    """Draw one animal for each of :data:`ROWS`, uint8 sRGB ``[P, P, 3]``, in the frame of :func:`strip_frame`."""
    y, z, radius = frame
    by_name = {clip.name: clip for clip in clips}
    light = Light(torch.nn.functional.normalize(torch.tensor([0.35, 0.75, 0.55]), dim=-1), torch.tensor(0.75), torch.tensor(0.45))
    panels = []
    for _, azimuth, name, share in ROWS:
        vertices = _metres(animal, posed_vertices(animal, by_name[name], share * by_name[name].duration_s)) / radius
        target = torch.tensor([0.0, y, z]) / radius
        distance = 1 / math.sin(math.radians(_FOV_DEG / 2))
        camera = Camera.orbit(math.radians(azimuth), math.radians(8), distance=distance, target=target, fov_deg=_FOV_DEG, size_px=PANEL_PX)
        panels.append(draw_animal(animal, vertices, camera, light))
    return panels


def filmstrip(columns: Sequence[tuple[str, Sequence[np.ndarray]]]) -> bytes:
    """Return a PNG of captioned columns, each of equally many square panels; after six of them the strip goes on below."""
    rows = len(columns[0][1])
    width = min(len(columns), _MOST_IN_A_ROW)
    lines = math.ceil(len(columns) / width)
    step, line = PANEL_PX + _GAP_PX, _CAPTION_PX + rows * (PANEL_PX + _GAP_PX)
    page = Image.new("RGB", (width * step + _GAP_PX, lines * line + _GAP_PX), "white")
    draw = ImageDraw.Draw(page)
    font = ImageFont.load_default(14)
    for number, (caption, panels) in enumerate(columns):
        x, y = _GAP_PX + number % width * step, number // width * line
        draw.text((x + 4, y + 2), caption, fill=_INK, font=font)
        for row, panel in enumerate(panels):
            page.paste(Image.fromarray(panel), (x, y + _CAPTION_PX + row * (PANEL_PX + _GAP_PX)))
    buffer = io.BytesIO()
    ours = PngInfo()  # by which a later run knows that it may replace the file
    ours.add_text("Software", f"farm3d {__version__}")
    page.save(buffer, "PNG", compress_level=6, pnginfo=ours)
    return buffer.getvalue()


def _metres(animal: Animal, vertices: torch.Tensor) -> torch.Tensor:
    T_glb_object = glb_transform(animal).to(vertices)
    return vertices @ T_glb_object[:3, :3].T + T_glb_object[:3, 3]
