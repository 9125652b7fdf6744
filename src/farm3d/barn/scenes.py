"""Where the animal stands and who looks: camera, light, ground, sky and shadow of one picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from farm3d.core.color import linear_from_srgb
from farm3d.core.shapes import Float, Int, Tensor
from farm3d.render.rasterize import rasterize
from farm3d.structures import Camera, Light

__all__ = ["Scene", "background", "random_camera", "random_light", "shadow"]

FOV_DEG = 25.0  # of the method's camera, section 0.3
ELEVATION_DEG = (-10.0, 40.0)
BACKDROPS = ("plain", "gradient", "texture", "field", "field", "field", "dry field", "snow", "floor")


@dataclass(frozen=True)
class Scene:
    """What surrounds the animal. ``ground`` says whether there is one (then the animal throws a shadow on it)."""

    backdrop: str
    ground: bool


def random_camera(
    vertices: Float[Tensor, "V 3"], *, azimuth_deg: float, elevation_deg: float, size_px: int, rng: np.random.Generator, cut: float = 0.0
) -> Camera:
    """Return a camera whose square picture holds the animal, 62 to 88 % of it wide or high, somewhere near its middle.

    Args:
        azimuth_deg, elevation_deg: from where (orbit of section 0.3: 0 sees the face, 90 the animal's left side).
        cut: share of the animal's box to lie outside the picture, 0 for none.
    """
    fill = float(rng.uniform(0.62, 0.88))
    shift = rng.uniform(-1, 1, 2)
    azimuth, elevation = np.radians(azimuth_deg), np.radians(elevation_deg)
    low, high = vertices.amin(0), vertices.amax(0)
    target, distance = (low + high) / 2, float((high - low).norm()) / 0.44
    for _ in range(4):  # the box's size and middle in the picture settle at once
        camera = Camera.orbit(azimuth, elevation, distance=distance, target=target, fov_deg=FOV_DEG, size_px=size_px)
        at = camera.pixels(vertices)
        box_low, box_high = at.amin(0), at.amax(0)
        extent = float((box_high - box_low).amax())
        off = (box_low + box_high) / 2 - size_px / 2
        metres_a_pixel = distance / float(camera.intrinsics[0])
        right, up = camera.T_camera_world[0, :3], camera.T_camera_world[1, :3]
        target = target + (right * off[0] - up * off[1]) * metres_a_pixel
        distance = distance * extent / (fill * size_px)
    camera = Camera.orbit(azimuth, elevation, distance=distance, target=target, fov_deg=FOV_DEG, size_px=size_px)
    at = camera.pixels(vertices)
    box = at.amax(0) - at.amin(0)
    move = torch.from_numpy(shift.astype(np.float32)) * (size_px * 0.95 - box).clamp(min=0) / 2
    if cut:
        side = int(rng.integers(2))
        sign = 1.0 if rng.random() < 0.5 else -1.0
        move[side] = sign * ((size_px - box[side]) / 2 + cut * box[side])
    # The principal point stays in the middle: the camera moves sideways instead. That turns the animal a little, so look again.
    right, up = camera.T_camera_world[0, :3], camera.T_camera_world[1, :3]
    for _ in range(8):
        aim = target + (-right * move[0] + up * move[1]) * (distance / float(camera.intrinsics[0]))
        camera = Camera.orbit(azimuth, elevation, distance=distance, target=aim, fov_deg=FOV_DEG, size_px=size_px)
        at = camera.pixels(vertices)
        if cut or (float(at.amin()) > 1.5 and float(at.amax()) < size_px - 1.5):
            break
        move, distance = move * 0.8, distance * 1.02
    return camera


def random_light(rng: np.random.Generator) -> Light:
    """Return a light over the ranges of section 2.9: direction from the upper half before the camera, ambient, diffuse."""
    a, b = rng.uniform(0, 1, 2)
    direction = np.array([2 * a - 1, 0.5, 2 * b - 1])
    direction = direction / np.linalg.norm(direction)
    ambient = float(rng.uniform(0.15, 0.6))
    diffuse = float(rng.uniform(0.5, min(1.0, 1.3 - ambient)))  # together at most 1.3: white coats keep their shading
    return Light(torch.tensor(direction, dtype=torch.float32), torch.tensor(ambient), torch.tensor(diffuse))


def background(
    camera: Camera, light: Light, rng: np.random.Generator, *, backdrop: str | None = None
) -> tuple[Float[Tensor, "H W 3"], Scene]:
    """Return a linear picture of the surroundings without the animal, and what it is.

    Grounds are planes at y = 0 seen in perspective, textured in metres, with a sky and a distant tree line; a camera below the
    animal's feet sees none.
    """
    kind = backdrop or BACKDROPS[int(rng.integers(len(BACKDROPS)))]
    height, width = camera.height_px, camera.width_px
    colours = torch.from_numpy(rng.uniform(0.12, 0.95, (2, 3)).astype(np.float32))
    grey = colours.mean(1, keepdim=True)
    colours = torch.lerp(grey, colours, float(rng.uniform(0.1, 0.6)))  # few backdrops are of a bright colour
    if float(camera.centre[1]) < 0.25 and kind not in ("plain", "gradient", "texture"):
        kind = "gradient"
    if kind == "plain":
        return linear_from_srgb(colours[0]).expand(height, width, 3).clone(), Scene(kind, False)
    if kind == "gradient":
        ramp = torch.linspace(0, 1, height)[:, None, None].expand(height, width, 1)
        return linear_from_srgb(torch.lerp(colours[0], colours[1], ramp)), Scene(kind, False)
    if kind == "texture":
        picture = colours[0] + sum(_noise_picture(rng, n, (height, width)) * a for n, a in ((4, 0.1), (11, 0.07), (32, 0.05), (80, 0.04)))
        return linear_from_srgb(picture.clamp(0, 1)), Scene(kind, False)
    return _landscape(kind, camera, light, colours, rng), Scene(kind, True)


def _landscape(kind: str, camera: Camera, light: Light, colours: Tensor, rng: np.random.Generator) -> Tensor:
    rays = _rays(camera)
    eye = camera.centre
    depth = -eye[1] / rays[..., 1].clamp(max=-1e-4)
    ground = rays[..., 1] < -1e-3
    where = eye + rays * depth[..., None]
    base = {
        "field": ((96, 118, 58), (126, 138, 74), (70, 92, 46)),
        "dry field": ((168, 148, 98), (150, 126, 82), (186, 168, 120)),
        "snow": ((226, 230, 236), (206, 212, 222), (240, 242, 246)),
        "floor": None,
    }[kind]
    if base is None:
        low, other = colours
    else:
        low = torch.tensor(base[int(rng.integers(3))]) / 255 * (1 + 0.08 * torch.from_numpy(rng.normal(size=3).astype(np.float32)))
        other = low * float(rng.uniform(0.7, 1.25))
    distance = (where - eye).norm(dim=-1)
    tone = torch.zeros_like(distance)
    for scale, size in ((0.35, 0.5), (1.6, 0.35), (7.0, 0.45), (30.0, 0.6)):  # cells to a metre
        fade = (1 - distance * scale / (0.18 * camera.height_px * 4)).clamp(0, 1)  # finer than a pixel: gone
        tone = tone + _noise_ground(where, rng, scale) * size * fade
    picture = torch.lerp(low, other, (0.5 + 0.5 * tone).clamp(0, 1)[..., None]) * (1 + (0.05 if kind == "snow" else 0.14) * tone)[..., None]
    shading = (light.ambient + light.diffuse * _up_in_camera(camera, light)).clamp(0.35, 1.15)
    picture = linear_from_srgb(picture.clamp(0, 1)) * shading
    sky_top, sky_low = torch.tensor([0.42, 0.60, 0.86]), torch.tensor([0.80, 0.87, 0.94])
    cloudy = float(rng.uniform(0, 0.8))
    up = (rays[..., 1:2] * 4).clamp(0, 1)
    clouds = _noise_picture(rng, 6, rays.shape[:2]) * 0.12 + _noise_picture(rng, 17, rays.shape[:2]) * 0.05
    sky = torch.lerp(torch.lerp(sky_low, sky_top, up), torch.full((3,), 0.84), cloudy) + clouds * (0.4 + 0.6 * cloudy)
    sky = linear_from_srgb(sky.clamp(0, 1))
    if kind == "floor":
        sky = linear_from_srgb(colours[1]).expand_as(sky) * (0.9 + 0.1 * up)
    elif rng.random() < 0.7:  # trees or hills on the horizon
        columns = np.cumsum(rng.normal(size=64)) * 0.010 + rng.uniform(0.02, 0.07)
        line = functional.interpolate(torch.from_numpy(columns.astype(np.float32))[None, None], rays.shape[1], mode="linear")[0, 0].abs()
        tips = functional.interpolate(torch.from_numpy(rng.normal(size=(1, 1, 40)).astype(np.float32)), rays.shape[1], mode="linear")
        line = line + 0.008 * tips[0, 0].abs()
        far = torch.lerp(linear_from_srgb(torch.tensor([0.24, 0.32, 0.20])), linear_from_srgb(sky_low), float(rng.uniform(0.15, 0.75)))
        sky = torch.where((rays[..., 1] < line)[..., None], far.expand_as(sky), sky)
    haze = (distance / 120).clamp(0, 0.7)[..., None] if kind != "floor" else torch.zeros_like(distance)[..., None]
    picture = torch.lerp(picture, linear_from_srgb(sky_low if kind != "floor" else colours[1]).expand_as(picture), haze)
    return torch.where(ground[..., None], picture, sky)


def shadow(
    picture: Float[Tensor, "H W 3"], vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"], camera: Camera, light: Light
) -> Float[Tensor, "H W 3"]:
    """Darken the ground where the animal keeps the sun and the sky from it: its outline laid on y = 0 along the light, softened."""
    to_sun = light.direction @ camera.T_camera_world[:3, :3]
    ground = (_rays(camera)[..., 1] < -1e-3).float()
    lit = float(light.diffuse) * max(float(to_sun[1]), 0.0)
    size = camera.height_px
    if float(to_sun[1]) > 0.2:
        flat = vertices - to_sun * (vertices[:, 1:2] / to_sun[1])
        cover = _laid(flat, faces, camera) * ground
        share = lit / (float(light.ambient) + lit)
        picture = picture * (1 - 0.85 * share * _blurred(cover, max(size // 100, 1)))[..., None]
    low = vertices * torch.tensor([1.0, 0.0, 1.0])
    cover = _blurred(_laid(low, faces, camera), max(size // 24, 1)) * ground
    feet = faces[(vertices[faces][..., 1].amax(1) < 0.16 * float(vertices[:, 1].amax()))]
    near = _blurred(_laid(low, feet, camera), max(size // 64, 1)) * ground if len(feet) else torch.zeros_like(cover)
    return picture * ((1 - 0.30 * cover) * (1 - 0.45 * near))[..., None]


def _laid(flat: Tensor, faces: Tensor, camera: Camera) -> Tensor:
    fragments = rasterize(camera.clip(flat[None]), faces, height_px=camera.height_px, width_px=camera.width_px)
    return (fragments.face_id[0] >= 0).float()


def _blurred(cover: Tensor, radius: int) -> Tensor:
    image = cover[None, None]
    for _ in range(2):  # two boxes make a tent
        image = functional.avg_pool2d(functional.pad(image, [radius] * 4, mode="replicate"), 2 * radius + 1, 1)
    return image[0, 0]


def _up_in_camera(camera: Camera, light: Light) -> Tensor:
    return (camera.T_camera_world[:3, 1] @ light.direction).clamp(min=0)


def _rays(camera: Camera) -> Tensor:
    """Unit directions through the pixel centres, world frame, ``[H, W, 3]``."""
    fx, fy, cx, cy = camera.intrinsics.tolist()
    x = (torch.arange(camera.width_px) + 0.5 - cx) / fx
    y = -(torch.arange(camera.height_px) + 0.5 - cy) / fy
    rays = torch.stack([x[None].expand(len(y), -1), y[:, None].expand(-1, len(x)), -torch.ones(len(y), len(x))], -1)
    return functional.normalize(rays @ camera.T_camera_world[:3, :3], dim=-1)


def _noise_picture(rng: np.random.Generator, cells: int, size: tuple[int, int] | torch.Size) -> Tensor:
    grid = torch.from_numpy(rng.normal(size=(1, 1, cells, cells)).astype(np.float32))
    return functional.interpolate(grid, tuple(size), mode="bicubic", align_corners=False)[0, 0][..., None]


def _noise_ground(where: Tensor, rng: np.random.Generator, scale: float) -> Tensor:
    """Smooth noise on the ground plane, ``scale`` cells to a metre; it repeats, mirrored, every 48 cells."""
    grid = torch.from_numpy(rng.normal(size=(1, 1, 48, 48)).astype(np.float32))
    phase = torch.from_numpy(rng.uniform(-1, 1, 2).astype(np.float32))
    at = where[..., [0, 2]] * scale / 24 + phase
    return functional.grid_sample(grid, at[None].clamp(-1e4, 1e4), align_corners=True, padding_mode="reflection")[0, 0]
