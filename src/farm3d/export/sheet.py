"""The contact sheet: what went in and what came out on one page, so that nobody has to trust a number; and the turntable's pictures."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont, ImageOps
from PIL.PngImagePlugin import PngInfo

from farm3d.core.color import srgb_from_linear
from farm3d.core.shapes import Float, Tensor
from farm3d.core.version import __version__
from farm3d.motion.animate import posed_vertices
from farm3d.motion.clips import Clip, input_pose_clip, make_clips
from farm3d.render.renderer import Texture, render
from farm3d.structures import Animal, Camera, Crop, Light

if TYPE_CHECKING:
    from farm3d.data.photo import Photo
    from farm3d.model.reconstructor import Reconstruction

__all__ = ["contact_sheet", "draw_animal", "turntable_frames"]

PANEL_PX = 320
COLUMNS = 4
_PAPER = 0.93  # grey level behind drawn animals, sRGB
_INK = (40, 40, 40)
_EVEN_LIGHT = (0.75, 0.45)  # ambient and diffuse of the views that are not about light


def draw_animal(
    animal: Animal, vertices: Float[Tensor, "V 3"], camera: Camera, light: Light, *, background: float = _PAPER, supersample: int = 2
) -> np.ndarray:
    """Draw posed vertices with the animal's texture; return uint8 sRGB ``[H, W, 3]`` on a grey background."""
    uv, faces_uv = animal.rest.uv, animal.rest.faces_uv
    if uv is None or faces_uv is None:
        raise ValueError("the animal's mesh has no UV atlas")
    paper = float(((background + 0.055) / 1.055) ** 2.4)
    with torch.no_grad():
        drawn = render(
            vertices[None],
            animal.rest.faces,
            camera,
            light,
            albedo=Texture(uv, faces_uv, animal.albedo),
            supersample=supersample,
            background=paper,
        )
    return _bytes(srgb_from_linear(drawn.rgb[0]))


def contact_sheet(result: Reconstruction, photo: Photo, *, clips: Sequence[Clip] | None = None) -> bytes:
    """Return a PNG: photograph, mask, overlay, the same view drawn; four other views; one relit; two moments of clips.

    Args:
        result: what the Reconstructor returned.
        photo: the upright photograph.
        clips: the animal's clips if they are made already.
    """
    animal, crop = result.animal, result.crop
    posed = posed_vertices(animal, input_pose_clip(animal.angles), 0.0)
    own = _crop_camera(animal, crop)
    same = draw_animal(animal, posed, own, animal.light)
    panels = [
        (f"photo: {crop.name}"[:44], _fitted(_on_paper(photo))),
        ("silhouette", _bytes(crop_image(crop.mask[None].expand(3, -1, -1)))),
        (f"outline over photo (agreement {result.iou:.2f})", _overlay(crop, animal, posed, own, cut_out=photo.alpha is not None)),
        ("same view", same),
    ]
    first = result.hypotheses[0].azimuth_deg
    light = _light((0.35, 0.75, 0.55), *_EVEN_LIGHT)
    # Views relative to the photograph's: the sides that it does not show are the ones worth looking at.
    for name, turn, elevation in (
        ("55° to the side", 55, 12),
        ("-55° to the side", -55, 12),
        ("the side not seen", 180, 12),
        ("from above", 35, 55),
    ):
        panels.append((name, draw_animal(animal, posed, _view(posed, first + turn, elevation), light)))
    panels.append(("relit from the right, low", draw_animal(animal, posed, own, _light((0.9, 0.25, 0.35), 0.12, 1.1))))
    by_name = {clip.name: clip for clip in clips or make_clips(animal)}
    side = 90 if math.sin(math.radians(first)) >= 0 else -90
    for name, share in (("walk", 0.35), ("gallop", 0.55), ("graze", 0.5)):
        clip = by_name[name]
        moment = share * clip.times_s[-1].item()
        vertices = posed_vertices(animal, clip, moment)
        panels.append((f"{name}, {moment:.2f} s", draw_animal(animal, vertices, _view(vertices, side * 0.75, 8), light)))
    return _page(panels)


def turntable_frames(animal: Animal, *, size_px: int = 512, count: int = 72) -> Iterator[np.ndarray]:
    """Yield pictures of one full turn around the animal as photographed, starting at its front left."""
    posed = posed_vertices(animal, input_pose_clip(animal.angles), 0.0)
    light = _light((0.35, 0.75, 0.55), *_EVEN_LIGHT)
    for step in range(count):
        yield draw_animal(animal, posed, _view(posed, 40 + 360 * step / count, 12, size_px=size_px), light, supersample=1)


def crop_image(planes: Float[Tensor, "3 S S"]) -> Float[Tensor, "P P 3"]:
    """Return a crop's planes at panel size."""
    resized = torch.nn.functional.interpolate(planes[None], size=(PANEL_PX, PANEL_PX), mode="bilinear", antialias=True)[0]
    return resized.permute(1, 2, 0)


def _crop_camera(animal: Animal, crop: Crop) -> Camera:
    x0, y0, side = crop.box_px
    scale = PANEL_PX / side
    fx, fy, cx, cy = animal.camera.intrinsics.unbind(-1)
    intrinsics = torch.stack([fx * scale, fy * scale, (cx - x0) * scale, (cy - y0) * scale], -1)
    return Camera(animal.camera.T_camera_world, intrinsics, PANEL_PX, PANEL_PX)


def _on_paper(photo: Photo) -> np.ndarray:
    """The photograph; what is transparent in it shows the page's grey instead of whatever colour the file hides there."""
    if photo.alpha is None:
        return photo.rgb
    alpha = photo.alpha[..., None]
    return (photo.rgb * alpha + 255 * _PAPER * (1 - alpha)).round().astype(np.uint8)


def _overlay(crop: Crop, animal: Animal, posed: Tensor, camera: Camera, *, cut_out: bool) -> np.ndarray:
    """The crop with the fitted outline in orange."""
    with torch.no_grad():
        ones = torch.ones(1, len(posed), 3)
        mask = render(posed[None], animal.rest.faces, camera, animal.light, albedo=ones).mask[0]
    picture = crop_image(crop.image * crop.mask + _PAPER * (1 - crop.mask) if cut_out else crop.image)
    inside = torch.nn.functional.max_pool2d(mask[None, None], 5, 1, 2)[0, 0]
    rim = (inside + torch.nn.functional.max_pool2d(-mask[None, None], 5, 1, 2)[0, 0]).clamp(0, 1)[..., None]
    return _bytes(picture * (1 - rim) + rim * torch.tensor([1.0, 0.5, 0.0]))


def _view(vertices: Tensor, azimuth_deg: float, elevation_deg: float, *, size_px: int = PANEL_PX) -> Camera:
    """A camera from a direction that holds all the vertices."""
    centre = (vertices.amin(0) + vertices.amax(0)) / 2
    radius = (vertices - centre).norm(dim=-1).max().item()
    distance = 1.04 * radius / math.sin(math.radians(12.5))
    return Camera.orbit(math.radians(azimuth_deg), math.radians(elevation_deg), distance=distance, target=centre, size_px=size_px)


def _light(direction: tuple[float, float, float], ambient: float, diffuse: float) -> Light:
    return Light(torch.nn.functional.normalize(torch.tensor(direction), dim=-1), torch.tensor(ambient), torch.tensor(diffuse))


def _bytes(picture: Float[Tensor, "H W 3"]) -> np.ndarray:
    return (picture.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()


def _fitted(photo_rgb: np.ndarray) -> np.ndarray:
    picture = ImageOps.contain(Image.fromarray(photo_rgb), (PANEL_PX, PANEL_PX), Image.Resampling.LANCZOS)
    page = Image.new("RGB", (PANEL_PX, PANEL_PX), (237, 237, 237))
    page.paste(picture, ((PANEL_PX - picture.width) // 2, (PANEL_PX - picture.height) // 2))
    return np.asarray(page)


def _page(panels: list[tuple[str, np.ndarray]]) -> bytes:
    rows = math.ceil(len(panels) / COLUMNS)
    caption = 22
    page = Image.new("RGB", (COLUMNS * (PANEL_PX + 4) + 4, rows * (PANEL_PX + caption + 4) + 4), "white")
    draw = ImageDraw.Draw(page)
    font = ImageFont.load_default(14)
    for index, (name, picture) in enumerate(panels):
        x = 4 + (index % COLUMNS) * (PANEL_PX + 4)
        y = 4 + (index // COLUMNS) * (PANEL_PX + caption + 4)
        draw.text((x + 4, y + 2), name, fill=_INK, font=font)
        page.paste(Image.fromarray(picture), (x, y + caption))
    buffer = io.BytesIO()
    ours = PngInfo()  # by which a later run knows that it may replace the file
    ours.add_text("Software", f"farm3d {__version__}")
    page.save(buffer, "PNG", compress_level=6, pnginfo=ours)
    return buffer.getvalue()
