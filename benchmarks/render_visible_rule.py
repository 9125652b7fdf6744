"""The usual silhouette rule, for comparison only: between two neighbouring pixels, look at the edges of the triangle that is seen.

Written from its description: of two neighbouring pixel centres that see different triangles, the nearer one's triangle is asked whether
one of its own silhouette edges passes between the centres. On a dense mesh that triangle is rarely the one that owns the outline.
"""

from __future__ import annotations

import torch

from farm3d.render.rasterize import EdgeTopology, rasterize
from farm3d.structures import Camera

__all__ = ["visible_rule_gradient"]


def visible_rule_gradient(vertices: torch.Tensor, topology: EdgeTopology, camera: Camera) -> torch.Tensor:
    """Return d(sum of the mask) / d(scale) under the rule, ``[B]``: the sum over pixel pairs of d(crossing) / d(scale)."""
    faces, size = topology.faces.long(), camera.width_px
    scale = torch.ones(len(camera.intrinsics), dtype=torch.float64, requires_grad=True)
    clip = camera.to(torch.float64).clip(vertices.double() * scale[:, None, None])
    ids = rasterize(clip.detach(), topology.faces, height_px=size, width_px=size).face_id.long()
    screen = (clip[..., :2] / clip[..., 3:] + 1) * size / 2
    total = screen.new_zeros(())
    for b in range(len(clip)):
        silhouette = _silhouette_edges(screen[b].detach(), topology)
        for axis in range(2):  # 0: pixels side by side, 1: one below the other
            first, second = (ids[b, :, :-1], ids[b, :, 1:]) if axis == 0 else (ids[b, :-1], ids[b, 1:])
            row, column = torch.nonzero((first >= 0) != (second >= 0), as_tuple=True)  # only the mask's border moves the mask
            a, other = first[row, column], second[row, column]
            inside_first = a >= 0
            corners = faces[torch.where(inside_first, a, other)]
            found = torch.zeros(len(row), dtype=torch.bool)
            for k in range(3):
                start, end = corners[:, k], corners[:, (k + 1) % 3]
                p, q = screen[b][start], screen[b][end]
                along, across = 1 - axis, axis
                line = (row if axis == 0 else column) + 0.5
                left = (column if axis == 0 else row) + 0.5
                steep = (q - p).abs()[:, along] >= (q - p).abs()[:, across]
                span = (q - p)[:, along]
                t = (line - p[:, along]) / torch.where(span == 0, 1.0, span)
                crossing = p[:, across] + t * (q - p)[:, across]
                key = torch.minimum(start, end) * (topology.max_vertex + 1) + torch.maximum(start, end)
                hit = (
                    torch.isin(key, silhouette)
                    & steep
                    & (span != 0)
                    & (t >= 0)
                    & (t < 1)
                    & (crossing >= left)
                    & (crossing < left + 1)
                    & ~found
                )
                sign = torch.where(inside_first, 1.0, -1.0)
                total = total + (crossing[hit] * sign[hit]).sum()
                found |= hit
    (gradient,) = torch.autograd.grad(total, scale)
    return gradient


def _silhouette_edges(screen: torch.Tensor, topology: EdgeTopology) -> torch.Tensor:
    """Return keys (lower * vertices + higher vertex) of the edges whose two faces do not lie on either side of them."""
    a, b, c = (screen[topology.faces[:, k].long()] for k in range(3))
    sign = torch.sign((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0])
    neighbours = topology.edge_faces.long()
    side = sign[neighbours.clamp(min=0)] * topology.edge_sides
    chosen = topology.edges[(neighbours[:, 1] < 0) | (side[:, 0] * side[:, 1] >= 0)].long()
    return chosen[:, 0] * (topology.max_vertex + 1) + chosen[:, 1]
