"""Mesh, camera and light to pictures: the deferred renderer of section 2.10."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch.nn import functional

from farm3d.core.errors import InputError
from farm3d.core.shapes import Float, Int, Tensor, checked
from farm3d.geometry.surface import face_normals, vertex_normals
from farm3d.render import _reference
from farm3d.render.rasterize import Fragments, antialias, interpolate, pick, prepare, rasterize
from farm3d.render.shade import shade
from farm3d.structures import Camera, Light
from farm3d.structures._value import Value

__all__ = ["Albedo", "RenderOutput", "Texture", "render", "render_attributes"]

GRAZING = 0.1  # cosine to the viewer below which a smooth normal gives way to the face's own


class Texture(NamedTuple):
    """A picture wrapped round a mesh: UV corners ``[U, 2]`` (origin top left), their indices ``[F, 3]``, colours ``[Ht, Wt, 3]``."""

    uv: Tensor
    faces_uv: Tensor
    image: Tensor


Albedo = Tensor | tuple[Tensor, Tensor, Tensor] | Callable[[Fragments], Tensor]


@dataclass(frozen=True, eq=False, repr=False)
class RenderOutput(Value):
    """Pictures of a batch of meshes.

    Attributes:
        rgb: shaded colour over the background, in the space of the albedo (linear for ours), ``[B, H, W, 3]``.
        mask: how much of each pixel the mesh covers, ``[B, H, W]`` in [0, 1].
        depth: distance along the view axis, ``[B, H, W]``; 0 where nothing is seen. Not antialiased.
        normals: unit normals that face the viewer, camera frame, ``[B, H, W, 3]``; 0 where nothing is seen. Not antialiased.
        features: interpolated features, ``[B, H, W, C]``, 0 behind the mesh; None unless asked for.
    """

    rgb: Float[Tensor, "B H W 3"]
    mask: Float[Tensor, "B H W"]
    depth: Float[Tensor, "B H W"]
    normals: Float[Tensor, "B H W 3"]
    features: Float[Tensor, "B H W C"] | None


@checked
def render_attributes(
    vertices: Float[Tensor, "B V 3"],
    faces: Int[Tensor, "F 3"],
    camera: Camera,
    attributes: Float[Tensor, "A V C"],
    *,
    antialiased: bool = True,
    background: Float[Tensor, "..."] | float = 0.0,
    backend: str | None = None,
) -> tuple[Float[Tensor, "P H W C"], Float[Tensor, "P H W"]]:
    """Draw per-vertex attributes over a background, and the mask: the inner loop of fitting, all channels in one pass.

    Differentiable with respect to vertices, camera, attributes and background. The mask's values may leave [0, 1] by a little
    where parts are thinner than a pixel (see :func:`farm3d.render.rasterize.antialias`); they are not clamped here, because that
    would stop their gradient.

    Args:
        vertices: object frame; B may be 1 with a batch of cameras.
        camera: one camera, or as many as meshes; its size in pixels is the picture's.
        attributes: one set for all pictures (A = 1) or one a picture.
        antialiased: False gives hard edges, whose mask has no gradient.
        background: a number, ``[C]``, ``[H, W, C]`` or ``[B, H, W, C]``.

    Returns:
        The picture ``[P, H, W, C]`` and the mask ``[P, H, W]``, P the number of pictures.

    Raises:
        InputError: sizes, dtypes, indices or backend that cannot be used.
    """
    clip = camera.clip(vertices)
    pictures, channels = len(clip), attributes.shape[-1]
    if attributes.shape[0] not in (1, pictures):
        raise InputError(f"{attributes.shape[0]} sets of attributes for {pictures} pictures", hint="give 1 or one for each picture")
    canvas = _canvas(background, (pictures, camera.height_px, camera.width_px, channels), attributes)
    module = pick(clip, backend)
    if module is not _reference:
        topology = prepare(clip, faces)
        prepare(attributes, faces)
        return module.render_attributes(clip, attributes, canvas, topology, antialiased)
    fragments = rasterize(clip, faces, height_px=camera.height_px, width_px=camera.width_px, backend=backend)
    covered = (fragments.face_id >= 0)[..., None]
    image = torch.where(covered, interpolate(attributes, fragments, faces, backend=backend), canvas)
    image = torch.cat([image, covered.to(image.dtype)], -1)
    if antialiased:
        image = antialias(image, fragments, clip, faces, backend=backend)
    return image[..., :channels], image[..., channels]


@checked
def render(
    vertices: Float[Tensor, "B V 3"],
    faces: Int[Tensor, "F 3"],
    camera: Camera,
    light: Light,
    *,
    albedo: Albedo,
    features: Float[Tensor, "A V C"] | None = None,
    supersample: int = 1,
    background: Float[Tensor, "..."] | float = 0.0,
    backend: str | None = None,
) -> RenderOutput:
    """Draw shaded pictures (section 2.10): rasterize, interpolate, bend normals to the viewer, shade each pixel, antialias, pool.

    Smooth normals are area weighted. Where the seen face turns its back, both it and the smooth normal are turned round; where the
    smooth normal is within ``GRAZING`` of the horizon or beyond it, the face's own takes over. Differentiable with respect to
    vertices, camera, light, albedo, features and background.

    Args:
        vertices: object frame; B may be 1 with a batch of cameras or lights.
        camera: one camera, or as many as meshes; its size in pixels is the picture's.
        light: one light, or as many as pictures; camera frame.
        albedo: per-vertex colours ``[1 or B, V, 3]``; or a :class:`Texture`, sampled bilinearly; or a function that is given the
            :class:`Fragments` and returns ``[B, H, W, 3]``, such as a field looked up at canonical positions (section 2.9).
        features: per-vertex values drawn beside the colour, ``[1 or B, V, C]``.
        supersample: pictures are drawn this many times larger and averaged.
        background: a number, ``[3]``, ``[H, W, 3]`` or ``[B, H, W, 3]``, behind the colour only.

    Raises:
        InputError: sizes, dtypes, indices or backend that cannot be used.
    """
    if supersample < 1:
        raise InputError(f"supersample = {supersample}", hint="1 draws the picture as it is, 2 averages 2 x 2, …")
    width, height = camera.width_px * supersample, camera.height_px * supersample
    large = camera.resized(width, height)
    clip, seen = large.clip(vertices), large.to_camera(vertices)
    pictures = len(clip)
    fragments = rasterize(clip, faces, height_px=height, width_px=width, backend=backend)
    covered = (fragments.face_id >= 0)[..., None]
    normals = _normals(seen, faces, fragments, backend)
    colour = shade(_albedo(albedo, fragments, faces, backend), normals, light)
    canvas = _canvas(background, (pictures, camera.height_px, camera.width_px, 3), colour)
    canvas = canvas.repeat_interleave(supersample, 1).repeat_interleave(supersample, 2) if supersample > 1 else canvas
    layers = [torch.where(covered, colour, canvas), covered.to(colour.dtype)]
    if features is not None:
        layers.append(interpolate(features, fragments, faces, backend=backend))
    image = _pool(antialias(torch.cat(layers, -1), fragments, clip, faces, backend=backend), supersample)
    share = _pool(covered.to(colour.dtype), supersample).clamp(min=0.5 / supersample**2)
    return RenderOutput(
        rgb=image[..., :3],
        mask=image[..., 3].clamp(0.0, 1.0),
        depth=(_pool(fragments.depth[..., None], supersample) / share)[..., 0],
        normals=functional.normalize(_pool(normals, supersample), dim=-1) if supersample > 1 else normals,
        features=image[..., 4:] if features is not None else None,
    )


def _canvas(background: Tensor | float, shape: tuple[int, int, int, int], like: Tensor) -> Tensor:
    background = torch.as_tensor(background, dtype=like.dtype, device=like.device)
    try:
        return background.expand(shape)
    except RuntimeError as error:
        raise InputError(f"a background of shape {list(background.shape)} does not fit pictures of shape {list(shape)}") from error


def _pool(image: Tensor, factor: int) -> Tensor:
    if factor == 1:
        return image
    batch, height, width, channels = image.shape
    return image.reshape(batch, height // factor, factor, width // factor, factor, channels).mean((2, 4))


def _albedo(albedo: Albedo, fragments: Fragments, faces: Tensor, backend: str | None) -> Tensor:
    if isinstance(albedo, Tensor):
        return interpolate(albedo, fragments, faces, backend=backend)
    if not isinstance(albedo, tuple):
        return albedo(fragments)
    uv, faces_uv, image = albedo
    if faces_uv.shape != faces.shape:
        raise InputError(f"{len(faces_uv)} texture faces for {len(faces)} faces", hint="give one row of UV corners for each face")
    at = interpolate(uv[None], fragments, faces_uv, backend=backend) * 2 - 1
    pixels = image.permute(2, 0, 1)[None].expand(len(at), -1, -1, -1)
    return functional.grid_sample(pixels, at, mode="bilinear", padding_mode="border", align_corners=False).permute(0, 2, 3, 1)


def _normals(seen: Tensor, faces: Tensor, fragments: Fragments, backend: str | None) -> Tensor:
    """Return unit normals ``[B, H, W, 3]`` toward the viewer, camera frame, from vertices in the camera frame."""
    covered = (fragments.face_id >= 0)[..., None]
    both = interpolate(torch.cat([seen, vertex_normals(seen, faces)], -1), fragments, faces, backend=backend)
    view = functional.normalize(-both[..., :3], dim=-1)
    smooth = functional.normalize(both[..., 3:], dim=-1)
    if not len(faces):
        return smooth
    batch = torch.arange(len(seen), device=seen.device)[:, None, None]
    flat = functional.normalize(face_normals(seen, faces), dim=-1)[batch, fragments.face_id.clamp(min=0).long()]
    turned = (flat * view).sum(-1, keepdim=True) < 0
    flat, smooth = torch.where(turned, -flat, flat), torch.where(turned, -smooth, smooth)
    share = ((smooth * view).sum(-1, keepdim=True) / GRAZING).clamp(0.0, 1.0)
    return torch.where(covered, functional.normalize(torch.lerp(flat, smooth, share), dim=-1), 0.0)
