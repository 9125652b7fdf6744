"""``farm3d render``: a GLB of ours drawn from any side, relit, or moving."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from farm3d.apps.options import RenderOptions
from farm3d.core.errors import InputError
from farm3d.core.files import write_whole

if TYPE_CHECKING:
    import numpy as np

    from farm3d.export.glb_reader import RiggedModel
    from farm3d.structures import Light

__all__ = ["render"]

_VIEWS = {"front": (0, 0), "left": (90, 0), "side": (90, 0), "right": (-90, 0), "back": (180, 0), "top": (90, 90)}
_FILMS = (".mp4", ".gif", ".webp")
_FPS = 25
_TURN_S = 4.0
_LONGEST_FILM_S = 120.0
_FOV_DEG = 25.0
_EVEN_LIGHT = ((0.35, 0.75, 0.55), 0.75, 0.45)  # over the viewer's right shoulder


def render(options: RenderOptions) -> int:
    """Draw the file of ``options`` into a picture or a film; return 0.

    Raises:
        InputError: an option that cannot be used, or a file that is no GLB of ours.
        MissingPartError: an MP4 film without the extra ``video``.
        OutputError: the result cannot be written.
    """
    view = _view(options.view)
    film = options.out.suffix.lower() in _FILMS
    if not film and options.out.suffix.lower() != ".png":
        raise InputError(f"--out {options.out}: expected a .png picture or a film ({', '.join(_FILMS)})")
    moving = options.clip != "rest" and options.time is None
    if options.turntable and not film:
        raise InputError(f"--turntable makes a film, but --out is {options.out.name}", hint=f"name it {options.out.stem}.mp4")
    if film and not (options.turntable or moving):
        raise InputError(f"--out {options.out.name} is a film of what?", hint="add --turntable, or --clip NAME without --time")
    if not 16 <= options.size_px <= 4096:
        raise InputError(f"--size-px: expected 16 to 4096, got {options.size_px}")
    if options.time is not None and not math.isfinite(options.time):
        raise InputError(f"--time: the time {options.time} s is not a finite number")

    from farm3d.export.glb_reader import read_glb

    light, paper = _light(options.light), _colour(options.background)
    model = read_glb(options.file)
    duration_s = 0.0 if options.clip == "rest" else model.clip(options.clip).duration_s
    if film and moving and duration_s > _LONGEST_FILM_S:
        raise InputError(f"{options.file}: clip {options.clip!r} lasts {duration_s:g} s, too long for a film", hint="give --time")
    stage = _Stage(model, light=light, size_px=options.size_px, clip=options.clip, times_s=[duration_s * i / 12 for i in range(13)])
    if not 0 < stage.radius < math.inf:
        raise InputError(f"{options.file}: clip {options.clip!r} puts the animal into one point or beyond all bounds")
    if not film:
        write_whole(options.out, _png(stage.draw(options.time or 0.0, view, paper), transparent=paper is None))
    else:
        from farm3d.export.video import write_turntable

        # A film of a clip shows it whole, at least twice, for about one turn's time.
        whole = max(2, round(_TURN_S / duration_s)) * duration_s if moving else _TURN_S
        count = round(whole * _FPS)

        def frames() -> Iterator[np.ndarray]:
            for step in range(count):
                turn = 360 * step / count if options.turntable else 0.0
                seconds = whole * step / count if moving else options.time or 0.0
                yield stage.draw(seconds, (view[0] + turn, view[1]), paper or (1.0, 1.0, 1.0))[..., :3]

        write_turntable(frames(), options.out, fps=_FPS)
    print(options.out)
    return 0


class _Stage:
    """A model under one light, framed so that it stays in the picture all through a clip."""

    def __init__(self, model: RiggedModel, *, light: Light, size_px: int, clip: str, times_s: list[float]) -> None:
        import torch

        self.model, self.light, self.size_px = model, light, size_px
        self.clip = None if clip == "rest" else clip
        # The file repeats vertices along texture seams; an outline needs them as one.
        _, welded = torch.unique((model.vertices.double() * 1e6).round().long(), dim=0, return_inverse=True)
        self.source = torch.empty(int(welded.max()) + 1, dtype=torch.int64).scatter_(0, welded, torch.arange(len(welded)))
        self.faces = welded[model.faces]
        places = torch.cat([model.vertices_at(self.clip, time) for time in times_s])
        low, high = places.amin(0), places.amax(0)
        self.centre = (low + high) / 2
        self.radius = float((places - self.centre).norm(dim=-1).max())

    def draw(self, time_s: float, view: tuple[float, float], paper: tuple[float, float, float] | None) -> np.ndarray:
        """Return a picture, uint8 sRGB ``[S, S, 4]``, at a moment of the clip, from azimuth and elevation in degrees."""
        import torch

        from farm3d.core.color import srgb_from_linear
        from farm3d.render.renderer import Texture
        from farm3d.render.renderer import render as draw
        from farm3d.structures import Camera

        # In units of the model's own radius: the near plane must not cut a mouse.
        vertices = (self.model.vertices_at(self.clip, time_s)[self.source] - self.centre) / self.radius
        azimuth, elevation = (math.radians(angle) for angle in view)
        distance = 1.04 / math.sin(math.radians(_FOV_DEG / 2))
        camera = Camera.orbit(azimuth, elevation, distance=distance, fov_deg=_FOV_DEG, size_px=self.size_px)
        albedo = Texture(self.model.uv, self.model.faces, self.model.texture)
        with torch.no_grad():
            drawn = draw(vertices[None], self.faces, camera, self.light, albedo=albedo, supersample=2, background=0.0)
        rgb, mask = drawn.rgb[0], drawn.mask[0, ..., None].clamp(0, 1)
        rgb = rgb / mask.clamp_min(1e-3) if paper is None else rgb + (1 - mask) * torch.tensor(paper)
        picture = torch.cat([srgb_from_linear(rgb), mask if paper is None else torch.ones_like(mask)], -1)
        return (picture.clamp(0, 1) * 255).round().to(torch.uint8).numpy()


def _numbers(text: str, option: str, *, counts: tuple[int, ...], example: str) -> list[float]:
    parts = re.split(r"\s*[,;\s]\s*", text.strip())
    try:
        values = [float(part) for part in parts]
    except ValueError:
        values = []
    if len(values) not in counts or not all(map(math.isfinite, values)):
        raise InputError(f"{option} {text!r}: expected numbers such as {example}")
    return values


def _view(text: str) -> tuple[float, float]:
    """Return azimuth and elevation in degrees of a named view or of ``AZ,EL``."""
    if text in _VIEWS:
        return _VIEWS[text]
    if re.fullmatch(r"[a-z]+", text):
        raise InputError(f"--view {text}: no such view", hint=f"choose {', '.join(_VIEWS)}, or azimuth,elevation in degrees such as 45,10")
    azimuth, elevation = _numbers(text, "--view", counts=(2,), example="45,10")
    if not -90 <= elevation <= 90:
        raise InputError(f"--view {text}: expected an elevation of -90 to 90 degrees, got {elevation:g}")
    return azimuth, elevation


def _light(text: str | None) -> Light:
    """Return the light of ``AZ,EL[,AMBIENT,DIFFUSE]`` in the camera frame: 0,0 shines from the viewer, 90,0 from the viewer's right."""
    import torch

    from farm3d.structures import Light

    direction, ambient, diffuse = _EVEN_LIGHT
    if text is not None:
        azimuth, elevation, *strengths = _numbers(text, "--light", counts=(2, 4), example="60,40 or 60,40,0.3,0.9")
        ambient, diffuse = strengths or (0.25, 0.9)
        if min(ambient, diffuse) < 0 or max(ambient, diffuse) > 10:
            raise InputError(f"--light {text}: expected strengths of 0 to 10")
        a, e = math.radians(azimuth), math.radians(elevation)
        direction = (math.cos(e) * math.sin(a), math.sin(e), math.cos(e) * math.cos(a))
    toward = torch.nn.functional.normalize(torch.tensor(direction), dim=-1)
    return Light(toward, torch.tensor(float(ambient)), torch.tensor(float(diffuse)))


def _colour(text: str) -> tuple[float, float, float] | None:
    """Return a colour as linear RGB, or None for a transparent background."""
    import torch
    from PIL import ImageColor

    from farm3d.core.color import linear_from_srgb

    if text == "none":
        return None
    try:
        encoded = ImageColor.getrgb(text)[:3]
    except ValueError as error:
        raise InputError(f"--background {text!r}: no such colour", hint="give a name such as white, #rrggbb, or none") from error
    red, green, blue = linear_from_srgb(torch.tensor(encoded) / 255).tolist()
    return red, green, blue


def _png(picture: np.ndarray, *, transparent: bool) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture if transparent else picture[..., :3]).save(buffer, "PNG")
    return buffer.getvalue()
