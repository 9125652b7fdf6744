"""The renderer's kernels in plain torch: the specification, for any device and for autograd in float64.

Three facts carry everything. A pixel centre is inside a triangle when the three edge functions agree in sign. Seen from a pixel at
NDC (px, py), the clip-space vertices q = (x - px w, y - py w) span triangles with each other whose areas are, after division by
their sum, the perspective-correct barycentrics. A silhouette moves area from one pixel to its neighbour in proportion to where it
crosses the line between the two pixel centres.
"""

from __future__ import annotations

import torch
from torch import Tensor

from farm3d.render.topology import EdgeTopology

__all__ = ["antialias", "interpolate", "rasterize"]

DEPTH_TOLERANCE = 1e-5
MAX_PIXELS = 1e9


def rasterize(clip: Tensor, topology: EdgeTopology, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return face ids ``[B, H, W]`` (-1: none), perspective-correct barycentrics ``[B, H, W, 3]`` and depth ``[B, H, W]`` (0: none)."""
    faces = topology.faces.long()
    precise = clip.to(_precision(clip))
    screen = _project(precise.detach(), height, width)
    face_id = torch.stack([_nearest_face(picture, faces, height, width) for picture in screen])
    face_id = face_id.view(-1, height, width)
    if not len(faces):
        return face_id, clip.new_zeros(*face_id.shape, 3), clip.new_zeros(face_id.shape)
    ndc_y = ((torch.arange(height, device=clip.device, dtype=precise.dtype) + 0.5) * 2 / height - 1)[None, :, None]
    ndc_x = ((torch.arange(width, device=clip.device, dtype=precise.dtype) + 0.5) * 2 / width - 1)[None, None, :]
    batch = torch.arange(len(clip), device=clip.device)[:, None, None]
    corners = precise[batch[..., None], faces[face_id.clamp(min=0)]]  # [B, H, W, 3, 4]
    qx = corners[..., 0] - ndc_x[..., None] * corners[..., 3]
    qy = corners[..., 1] - ndc_y[..., None] * corners[..., 3]
    areas = qx.roll(-1, -1) * qy.roll(-2, -1) - qy.roll(-1, -1) * qx.roll(-2, -1)
    covered = face_id >= 0
    total = torch.where(covered, areas.sum(-1), 1.0)  # never divide by the areas of a face that is not there
    barycentric = torch.where(covered[..., None], areas, 0.0) / total[..., None]
    depth = (barycentric * corners[..., 3]).sum(-1)
    return face_id, barycentric.to(clip.dtype), depth.to(clip.dtype)


def interpolate(attributes: Tensor, face_id: Tensor, barycentric: Tensor, topology: EdgeTopology) -> Tensor:
    """Return ``[B, H, W, C]``: attributes of the seen face's corners weighted by the barycentrics, 0 where nothing is seen."""
    faces = topology.faces.long()
    if not len(faces):
        return attributes.new_zeros(*face_id.shape, attributes.shape[-1])
    batch = torch.arange(len(face_id), device=face_id.device)[:, None, None, None]
    corners = attributes.expand(len(face_id), -1, -1)[batch, faces[face_id.clamp(min=0)]]
    image = (corners * barycentric[..., None].to(attributes.dtype)).sum(-2)
    return torch.where((face_id >= 0)[..., None], image, 0.0)


def antialias(image: Tensor, depth: Tensor, clip: Tensor, topology: EdgeTopology) -> Tensor:
    """Return ``image [B, H, W, C]`` with neighbouring pixels blended where a visible silhouette edge passes between their centres."""
    height, width = image.shape[1:3]
    screen = _project(clip.to(_precision(clip)), height, width)
    return torch.stack([_antialias_picture(image[b], depth[b], screen[b], topology) for b in range(len(image))])


def _precision(tensor: Tensor) -> torch.dtype:
    return torch.float32 if tensor.device.type == "mps" else torch.float64  # that device has no float64


def _project(clip: Tensor, height: int, width: int) -> Tensor:
    """Return pixel x, pixel y, 1/w per vertex; 1/w = 0 marks a vertex nearer than the near plane, whose faces are dropped."""
    x, y, z, w = clip.unbind(-1)
    drawn = (w > 0) & (z >= -w)
    inverse = 1 / torch.where(drawn, w, 1.0)
    size = clip.new_tensor([width, height])
    pixels = (torch.stack([x, y], -1) * inverse[..., None] * 0.5 + 0.5) * size
    drawn = drawn & (pixels.abs() < MAX_PIXELS).all(-1)
    return torch.cat([torch.where(drawn[..., None], pixels, 0.0), torch.where(drawn, inverse, 0.0)[..., None]], -1)


def _edge(low: Tensor, high: Tensor, first_is_low: Tensor, sign: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Edge function, always measured from the vertex of lower index, so that both faces along an edge see the same number."""
    first, second = torch.where(first_is_low[:, None], low, high), torch.where(first_is_low[:, None], high, low)
    d = (second - first) * sign[:, None]
    return d[:, 0] * (y - low[:, 1]) - d[:, 1] * (x - low[:, 0])


def _expand(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Return, for item i repeated counts[i] times, the item of each repetition and its number within the item."""
    item = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
    return item, torch.arange(len(item), device=counts.device) - (counts.cumsum(0) - counts)[item]


def _nearest_face(screen: Tensor, faces: Tensor, height: int, width: int) -> Tensor:
    """List every pixel of every face's bounding box, keep those inside, and take the nearest per pixel (ties: the lowest face)."""
    nearest_face = torch.full((height * width,), len(faces), device=screen.device)
    corners = screen[faces]
    drawn = (corners[..., 2] > 0).all(-1)
    a, b, c = corners[..., :2].unbind(1)
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    limit = torch.tensor([width, height], device=screen.device)
    first = torch.ceil(corners[..., :2].amin(1) - 0.5).long().clamp(min=0)
    last = torch.minimum(torch.floor(corners[..., :2].amax(1) - 0.5).long(), limit - 1)
    size = (last - first + 1).clamp(min=0) * (drawn & (area != 0))[:, None]
    face, number = _expand(size[:, 0] * size[:, 1])
    column = first[face, 0] + number % size[face, 0].clamp(min=1)
    row = first[face, 1] + number // size[face, 0].clamp(min=1)
    x, y = column + 0.5, row + 0.5
    sign = torch.where(area > 0, 1.0, -1.0).to(screen.dtype)[face]
    weights = corners[..., 2] / area.abs()[:, None]
    inside, inverse_depth = torch.ones_like(face, dtype=torch.bool), torch.zeros_like(sign)
    for k in range(3):
        start, end = (k + 1) % 3, (k + 2) % 3
        start_is_low = (faces[:, start] < faces[:, end])[face]
        p, q = corners[face, start, :2], corners[face, end, :2]
        low, high = torch.where(start_is_low[:, None], p, q), torch.where(start_is_low[:, None], q, p)
        value = _edge(low, high, start_is_low, sign, x, y)
        inside &= value >= 0
        inverse_depth = inverse_depth + value * weights[face, k]
    face, pixel, inverse_depth = face[inside], (row * width + column)[inside], inverse_depth[inside]
    front = torch.zeros(height * width, dtype=screen.dtype, device=screen.device).scatter_reduce(0, pixel, inverse_depth, "amax")
    seen = (inverse_depth == front[pixel]) & (inverse_depth > 0)
    nearest_face = nearest_face.scatter_reduce(0, pixel[seen], face[seen], "amin")
    return torch.where(nearest_face == len(faces), -1, nearest_face).to(torch.int32)


def _silhouette_edges(screen: Tensor, topology: EdgeTopology) -> tuple[Tensor, Tensor]:
    """Return the edges whose faces lie on one side only, and which side: the sign of cross(high - low, p - low) for p inside."""
    corners = screen[topology.faces.long()]
    (ax, ay), (bx, by), (cx, cy) = (corners[:, k, :2].unbind(-1) for k in range(3))
    sign = torch.sign((bx - ax) * (cy - ay) - (by - ay) * (cx - ax))
    drawn = (corners[..., 2] > 0).all(-1)
    neighbours = topology.edge_faces.long()
    present = (neighbours >= 0) & drawn[neighbours.clamp(min=0)]
    side = torch.where(present, sign[neighbours.clamp(min=0)] * topology.edge_sides, 0.0)
    s0, s1 = side.unbind(-1)
    both = present.all(-1)
    inside = torch.where(both & (s0 != 0), s0, torch.where(present[:, 0] & ~both, s0, s1))
    silhouette = torch.nonzero(present.any(-1) & ~(both & (s0 * s1 < 0)) & (inside != 0))[:, 0]
    return silhouette, inside[silhouette]


def _antialias_picture(image: Tensor, depth: Tensor, screen: Tensor, topology: EdgeTopology) -> Tensor:
    height, width, channels = image.shape
    if not len(topology.faces):
        return image
    pixels, depths, blends = image.reshape(-1, channels), depth.detach().reshape(-1), []
    edge, inside = _silhouette_edges(screen.detach(), topology)
    ends = screen[topology.edges.long()[edge]]  # [S, 2, 3]: pixel x, pixel y, 1/w of the lower and higher vertex
    delta = (ends[:, 1] - ends[:, 0]).detach()
    steep = delta[:, 1].abs() >= delta[:, 0].abs()
    for axis in range(2):  # 0: edges cross pixel rows, between pixels side by side; 1: edges cross pixel columns
        low, high = ends.unbind(1)
        along, across = 1 - axis, axis
        lines, length, next_line, next_pixel = (height, width, width, 1) if axis == 0 else (width, height, 1, width)
        near, far = torch.minimum(low, high).detach()[:, along], torch.maximum(low, high).detach()[:, along]
        line0 = torch.ceil(near - 0.5).long().clamp(min=0)
        line1 = torch.ceil(far - 0.5).long().clamp(max=lines)
        item, number = _expand((line1 - line0).clamp(min=0))
        line = line0[item] + number
        low, high, side = low[item], high[item], inside[item]
        t = (line + 0.5 - low[:, along]) / (high - low)[:, along]
        position = low[:, across] + t * (high - low)[:, across] - 0.5
        first = torch.floor(position.detach()).long()
        forward = side * (high - low)[:, along] > 0 if axis == 0 else side * (high - low)[:, along] < 0  # the first pixel is inside
        fits = (first >= 0) & (first + 1 < length)
        p = line * next_line + first.clamp(0, max(length - 2, 0)) * next_pixel
        q = (p + next_pixel).clamp(max=height * width - 1)
        p_in, p_out = torch.where(forward, p, q), torch.where(forward, q, p)
        s = torch.where(forward, position - first, 1 - (position - first))
        z_in, z_out = depths[p_in], depths[p_out]
        inverse = (low[:, 2] + t * (high - low)[:, 2]).detach()
        behind = (z_out == 0) | ((z_in < z_out) & (z_out * inverse > 1 + DEPTH_TOLERANCE))
        kept = torch.nonzero(fits & (z_in > 0) & behind)[:, 0]
        kept = _outermost(s.detach(), p, item, kept, height * width)
        kept = kept[(steep if axis == 0 else ~steep)[item[kept]]]  # an edge that lies mostly along the pair moves no colour in it
        p_in, p_out, amount = p_in[kept], p_out[kept], (s[kept] - 0.5).to(image.dtype)
        target = torch.where(amount > 0, p_out, p_in)
        blends.append((target, amount[:, None] * (pixels[p_in] - pixels[p_out])))
    for target, change in blends:
        pixels = pixels.index_add(0, target, change)
    return pixels.view(height, width, channels)


def _outermost(s: Tensor, pair: Tensor, edge: Tensor, kept: Tensor, count: int) -> Tensor:
    """Of the crossings ``kept``, keep per pixel pair the one with the largest s (ties: the lowest edge)."""
    best = torch.full((count,), -1.0, dtype=s.dtype, device=s.device).scatter_reduce(0, pair[kept], s[kept], "amax")
    kept = kept[s[kept] == best[pair[kept]]]
    number = torch.iinfo(torch.int64).max
    lowest = torch.full((count,), number, device=s.device).scatter_reduce(0, pair[kept], edge[kept], "amin")
    return kept[edge[kept] == lowest[pair[kept]]]
