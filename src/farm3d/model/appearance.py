"""Albedo and light from one picture: what is seen is taken from it, the far side by mirror symmetry, the rest by smooth filling.

The paper predicts albedo by a field and light by a network (section 2.9). From a single fitted picture both follow directly: the light
by regression of brightness on the surface normal, the albedo by dividing the shading out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt, grey_erosion
from scipy.sparse import coo_matrix, diags
from scipy.sparse.linalg import spsolve
from torch.nn import functional

from farm3d.core.color import linear_from_srgb
from farm3d.core.shapes import Float, Int, Tensor
from farm3d.geometry.surface import vertex_normals
from farm3d.render.rasterize import Fragments, interpolate, rasterize
from farm3d.structures import Camera, Crop, Light, Mesh

__all__ = ["Appearance", "TexelMap", "estimate_appearance", "estimate_light", "texel_map", "vertex_colours"]

_FACING = 0.15  # cosine below which a surface point is too oblique to take its colour from the picture
_BLEND = 0.12  # confidence at which a texel relies on its own observation alone
_LUMINANCE = torch.tensor([0.2126, 0.7152, 0.0722])  # of linear RGB
_DARK = 0.03  # linear; colours below it count as alike where two are compared by their ratio


class Appearance(NamedTuple):
    """``albedo [Ht, Wt, 3]`` linear, ``light``, and ``seen`` = share of the texture taken from the picture itself."""

    albedo: Tensor
    light: Light
    seen: float


def estimate_appearance(
    rest: Mesh,
    mirror: Int[Tensor, "V"],
    posed: Float[Tensor, "V 3"],
    camera: Camera,
    crop: Crop,
    *,
    texture_px: int = 1024,
    expected: Float[Tensor, "V 3"] | None = None,
    texels: TexelMap | None = None,
) -> Appearance:
    """Return the texture and the light of an animal that was fitted to ``crop``.

    Args:
        rest: shape with UV atlas.
        mirror: vertex at the mirrored place.
        posed: vertices as photographed, object frame.
        camera: of the crop, any resolution; the crop's own is used.
        crop: the picture, as large as the photograph allows.
        texture_px: side of the texture.
        expected: albedo that a network expects at each vertex, linear RGB. What the picture does not show follows it, as far off as
            the nearest places that the picture does show; None lets those colours themselves run on.
        texels: :func:`texel_map` of ``rest``, where it is there already.
    """
    size = crop.image.shape[-1]
    camera = camera.resized(size, size)
    fragments = rasterize(camera.clip(posed[None]), rest.faces, height_px=size, width_px=size)
    normals = vertex_normals(posed, rest.faces) @ camera.T_camera_world[:3, :3].T
    image = linear_from_srgb(crop.image).permute(1, 2, 0)
    trusted = _trusted(crop.mask)
    light = estimate_light(image, trusted, interpolate(normals[None], fragments, rest.faces)[0])

    sampler = _Sampler(image, trusted, fragments, light)
    view = functional.normalize(-camera.to_camera(posed), dim=-1)
    colours, confidence = sampler(camera.pixels(posed), -camera.to_camera(posed)[..., 2], normals, view)
    if expected is None:
        filled = _harmonic_fill(colours, confidence, mirror, rest.faces, nothing_seen=0.3)
    else:
        filled = _expected_fill(colours, expected, confidence, mirror, rest.faces)

    texels = texels or texel_map(rest, mirror, texture_px=texture_px)
    points, texel_normals, base = texels(torch.cat([posed, normals, filled], 1)).split(3, 1)
    texel_normals = functional.normalize(texel_normals, dim=-1)
    in_camera = camera.to_camera(points)
    own, own_confidence = sampler(camera.pixels(points), -in_camera[:, 2], texel_normals, functional.normalize(-in_camera, dim=-1))
    other, other_confidence = texels.mirrored(own, own_confidence)

    own_share = (own_confidence / _BLEND).clamp(0, 1)
    other_share = (1 - own_share) * (other_confidence / _BLEND).clamp(0, 1)
    rest_share = 1 - own_share - other_share
    albedo = own_share[:, None] * own + other_share[:, None] * other + rest_share[:, None] * base
    return Appearance(texels.spread(albedo.clamp(0, 1)), light, own_share.mean().item() if len(own_share) else 0.0)


@dataclass(frozen=True, eq=False)
class TexelMap:
    """What of a texture depends on the atlas alone, so that a category makes it once: the N texels inside of charts, and where they lie.

    Attributes:
        place: number of each texel in the picture, ``[N]``, rows first.
        corners: vertices of the face that it belongs to, ``[N, 3]``; barycentric: where in it, ``[N, 3]``.
        partner: atlas position of the mirrored surface point in [-1, 1], ``[N, 2]``; paired: whether there is one, ``[N]``.
        nearest: for every texel of the picture the nearest of the N, ``[Ht Wt]``.
        texture_px: side of the picture.
    """

    place: Int[Tensor, "N"]
    corners: Int[Tensor, "N 3"]
    barycentric: Float[Tensor, "N 3"]
    partner: Float[Tensor, "N 2"]
    paired: Tensor
    nearest: Int[Tensor, "T"]
    texture_px: int

    def __call__(self, values: Float[Tensor, "V C"]) -> Float[Tensor, "N C"]:
        """Return the texels' values of those of the vertices, interpolated."""
        return functional.embedding_bag(self.corners, values, per_sample_weights=self.barycentric, mode="sum")

    def mirrored(self, colour: Float[Tensor, "N 3"], confidence: Float[Tensor, "N"]) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "N"]]:
        """Return what the texels at the mirrored surface points have observed."""
        planes = colour.new_zeros(4, self.texture_px**2)
        planes[:, self.place] = torch.cat([colour * confidence[:, None], confidence[:, None]], 1).T
        picture = planes.view(1, 4, self.texture_px, self.texture_px)
        sampled = functional.grid_sample(picture, self.partner[None, None], align_corners=False)[0, :, 0]
        return (sampled[:3] / sampled[3].clamp_min(1e-4)).T, sampled[3] * self.paired

    def spread(self, values: Float[Tensor, "N C"]) -> Float[Tensor, "Ht Wt C"]:
        """Return the texture: texels outside of the charts are filled with the nearest inside, so that mipmaps do not bleed."""
        return values[self.nearest].view(self.texture_px, self.texture_px, values.shape[1])


def texel_map(rest: Mesh, mirror: Int[Tensor, "V"], *, texture_px: int) -> TexelMap:
    """Return the map of a mesh's atlas; vertices do not matter to it.

    Args:
        rest: mesh with UV atlas.
        mirror: vertex at the mirrored place.
        texture_px: side of the texture.
    """
    assert rest.uv is not None and rest.faces_uv is not None
    flat = torch.cat([rest.uv * 2 - 1, torch.zeros_like(rest.uv[:, :1]), torch.ones_like(rest.uv[:, :1])], -1)
    atlas = rasterize(flat[None], rest.faces_uv, height_px=texture_px, width_px=texture_px)
    inside = atlas.face_id[0] >= 0
    place = inside.flatten().nonzero()[:, 0]
    face, barycentric = atlas.face_id[0].flatten()[place], atlas.barycentric[0].flatten(0, 1)[place]
    partner, corner_of = _mirror_faces(rest.faces, mirror)
    uv_of_face = rest.uv[rest.faces_uv[partner]]  # [F, 3, 2] in the partner's corner order
    uv_of_face = torch.gather(uv_of_face, 1, corner_of[..., None].expand(-1, -1, 2))
    uv = (barycentric[..., None] * uv_of_face[face]).sum(1)
    rows, columns = np.asarray(distance_transform_edt(~inside.cpu().numpy(), return_distances=False, return_indices=True))
    number = torch.full((texture_px**2,), -1, dtype=torch.long, device=place.device)
    number[place] = torch.arange(len(place), device=place.device)
    nearest = number[torch.from_numpy(rows.astype(np.int64) * texture_px + columns).flatten().to(place.device)]
    return TexelMap(place, rest.faces[face], barycentric.contiguous(), uv * 2 - 1, partner[face] >= 0, nearest, texture_px)


def estimate_light(image: Float[Tensor, "H W 3"], trusted: Float[Tensor, "H W"], normals: Float[Tensor, "H W 3"]) -> Light:
    """Regress brightness on camera-frame normals: brightness ~ b0 + b . n, so light comes along b (section 2.9's model, solved directly).

    The mean shading over what is seen is set to 1, because one picture cannot tell a bright animal from a bright light.
    """
    facing = (normals[..., 2] > 0.1) & (trusted > 0.5)
    default = Light(torch.tensor([0.0, 0.8, 0.6]).to(image), torch.tensor(0.6).to(image), torch.tensor(0.5).to(image))
    if facing.sum() < 50:
        return default
    n = functional.normalize(normals[facing], dim=-1).double()
    brightness = image[facing].double() @ _LUMINANCE.to(n)
    brightness = brightness / brightness.mean().clamp_min(1e-6)
    # Markings and a dark belly look like shading too: the ridge keeps the slope modest unless all of the surface agrees.
    ridge = torch.diag(torch.tensor([0.0, 0.02, 0.02, 0.02], dtype=torch.float64)).to(n.device)
    lit = torch.ones_like(n[:, :1])
    for _ in range(4):  # the surface that turns away from the light gets none of it: max(0, n . direction)
        design = torch.cat([torch.ones_like(lit), n * lit], -1)
        solution = torch.linalg.solve(design.T @ design / len(n) + ridge, design.T @ brightness / len(n))
        slope = torch.stack([solution[1], solution[2].clamp_min(0.05), solution[3].clamp_min(0.02)])
        direction = functional.normalize(slope, dim=-1)
        lit = (n @ direction > 0).double()[:, None]
    ratio = (slope.norm() / solution[0].clamp_min(0.2)).clamp(0.1, 1.5)
    mean_cosine = (n @ direction).clamp_min(0).mean()
    ambient = 1 / (1 + ratio * mean_cosine)
    return Light(direction.to(image), ambient.to(image), (ratio * ambient).to(image))


def vertex_colours(
    posed: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"], mirror: Int[Tensor, "V"], camera: Camera, crop: tuple[Tensor, Tensor]
) -> Float[Tensor, "V 3"]:
    """Return what each vertex looks like in the picture, shading included, averaged with its mirrored vertex where both are seen.

    ``crop`` is the linear picture ``[S, S, 3]`` and its mask ``[S, S]``, at the camera's size. Used by the fit's colour term.
    """
    image, mask = crop
    size = image.shape[0]
    fragments = rasterize(camera.clip(posed[None]), faces, height_px=size, width_px=size)
    white = Light(posed.new_tensor([0.0, 0.0, 1.0]), posed.new_tensor(1.0), posed.new_tensor(0.0))
    normals = vertex_normals(posed, faces) @ camera.T_camera_world[:3, :3].T
    in_camera = camera.to_camera(posed)
    sampler = _Sampler(image, _trusted(mask), fragments, white)
    colours, confidence = sampler(camera.pixels(posed), -in_camera[:, 2], normals, functional.normalize(-in_camera, dim=-1))
    weight = (confidence + confidence[mirror])[:, None]
    blended = (colours * confidence[:, None] + colours[mirror] * confidence[mirror][:, None]) / weight.clamp_min(1e-6)
    mean = (colours * confidence[:, None]).sum(0) / confidence.sum().clamp_min(1e-6)
    return torch.where(weight > 0.02, blended, mean)


class _Sampler:
    """Colour without shading, and confidence, of surface points given by pixel, depth and normal."""

    def __init__(self, image: Tensor, trusted: Tensor, fragments: Fragments, light: Light) -> None:
        self.size = image.shape[0]
        self.planes = torch.cat([image, trusted[..., None]], -1).permute(2, 0, 1)[None]
        depth = fragments.depth[0]
        far = depth.max() + 1
        # The nearest surface within a pixel's neighbourhood hides what lies behind it.
        nearest = -functional.max_pool2d(-torch.where(depth > 0, depth, far)[None, None], 3, 1, 1)
        self.depth = nearest
        self.tolerance = 0.012 * depth.max().item()
        self.light = light

    def __call__(self, pixels: Tensor, depth: Tensor, normals: Tensor, view: Tensor) -> tuple[Tensor, Tensor]:
        grid = (pixels / (self.size / 2) - 1)[None, None]
        sampled = functional.grid_sample(self.planes, grid, align_corners=False)[0, :, 0].T
        surface = functional.grid_sample(self.depth, grid, mode="nearest", align_corners=False)[0, 0, 0]
        cosine = (normals * view).sum(-1)
        visible = (depth <= surface + self.tolerance) & (grid[0, 0].abs().amax(-1) < 1)
        confidence = visible * ((cosine - _FACING) / (1 - _FACING)).clamp(0, 1) * sampled[:, 3]
        shading = self.light.ambient + self.light.diffuse * (normals @ self.light.direction).clamp_min(0)
        return sampled[:, :3] / shading.clamp_min(0.25)[:, None], confidence


def _trusted(mask: Float[Tensor, "S S"]) -> Float[Tensor, "S S"]:
    """The silhouette without its rim, where the background shines in."""
    width = max(3, 2 * round(mask.shape[0] * 0.006) + 1)
    return torch.from_numpy(np.ascontiguousarray(grey_erosion(mask.cpu().numpy(), size=(width, width)))).to(mask)


def _harmonic_fill(colours: Tensor, confidence: Tensor, mirror: Tensor, faces: Tensor, *, nothing_seen: float) -> Tensor:
    """Values at vertices: observed ones kept by confidence, mirrored ones next, the rest as smooth as the mesh allows (a sparse solve)."""
    own, other = confidence, 0.3 * confidence[mirror]
    weight = (own + other).double()
    data = (own[:, None] * colours + other[:, None] * colours[mirror]).double()
    if weight.sum() < 1e-6:
        return torch.full_like(colours, nothing_seen)
    triangles = faces.cpu().numpy()
    ends = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    ends = np.concatenate([ends, ends[:, ::-1]])
    count = len(colours)
    adjacency = coo_matrix((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(count, count)).tocsr()
    laplacian = diags(np.asarray(adjacency.sum(1)).ravel()) - adjacency
    mean = (data.sum(0) / weight.sum()).cpu().numpy()
    system = (diags(20 * weight.cpu().numpy() + 1e-4) + 0.05 * laplacian).tocsc()
    solution = spsolve(system, 20 * data.cpu().numpy() + 1e-4 * mean)
    return torch.from_numpy(np.ascontiguousarray(solution)).to(colours)


def _expected_fill(colours: Tensor, expected: Tensor, confidence: Tensor, mirror: Tensor, faces: Tensor) -> Tensor:
    """What is expected of each vertex, led over into what is observed: brightness by the difference, hue by the ratio.

    By differences alone a dark tail would take green and blue below zero on a brown rump beside it, and leave red; by ratios alone
    unseen sides come out too bright.
    """
    ratio = ((colours.clamp_min(0) + _DARK) / (expected + _DARK)).log()
    brightness = torch.stack([colours @ _LUMINANCE.to(colours), expected @ _LUMINANCE.to(colours)], 1)
    change = torch.cat([ratio, brightness[:, :1] - brightness[:, 1:]], 1)
    change = _harmonic_fill(change, confidence, mirror, faces, nothing_seen=0.0)
    hue = ((expected + _DARK) * change[:, :3].exp() - _DARK).clamp_min(0.01 * _DARK)
    return (hue * ((brightness[:, 1] + change[:, 3]).clamp_min(0) / (hue @ _LUMINANCE.to(hue)))[:, None]).clamp(0, 1)


def _mirror_faces(faces: Tensor, mirror: Tensor) -> tuple[Tensor, Tensor]:
    """For each face its mirrored face (-1 if there is none) and which of that face's corners answers to each of its own."""
    images = mirror[faces]
    table = {tuple(sorted(face)): index for index, face in enumerate(faces.tolist())}
    partner = torch.tensor([table.get(tuple(sorted(image)), -1) for image in images.tolist()], device=faces.device)
    matches = faces[partner.clamp_min(0)][:, None, :] == images[:, :, None]  # [F, own corner, partner corner]
    return partner, matches.int().argmax(-1)
