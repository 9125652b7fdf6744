"""Skin weights from distances to bones, and linear blend skinning (section 2.6)."""

from __future__ import annotations

import torch

from farm3d.core.shapes import Float, Int, Tensor, checked

__all__ = ["distances_to_segments", "linear_blend_skinning", "prune_weights", "skin_weights", "smooth_weights"]


@checked
def distances_to_segments(points: Float[Tensor, "N 3"], starts: Float[Tensor, "K 3"], ends: Float[Tensor, "K 3"]) -> Float[Tensor, "N K"]:
    """Return sqrt(d^2 + 1e-6) for the distance d of each point to each segment."""
    along = ends - starts
    offset = points[:, None] - starts
    t = ((offset * along).sum(-1) / along.square().sum(-1).clamp_min(1e-12)).clamp(0, 1)
    return ((offset - t[..., None] * along).square().sum(-1) + 1e-6).sqrt()


@checked
def skin_weights(
    points: Float[Tensor, "N 3"], starts: Float[Tensor, "K 3"], ends: Float[Tensor, "K 3"], *, temperature: float = 0.05
) -> Float[Tensor, "N K"]:
    """Return softmax(-distance / temperature) over all bones, rest pose, no gradient (section 2.6). Rows sum to 1."""
    with torch.no_grad():
        return torch.softmax(-distances_to_segments(points, starts, ends) / temperature, -1)


@checked
def smooth_weights(weights: Float[Tensor, "V K"], edges: Int[Tensor, "E 2"], *, steps: int) -> Float[Tensor, "V K"]:
    """Average each vertex's weights with its neighbours' ``steps`` times, so that joints bend as skin and not as a hinge."""
    ends = torch.cat([edges, edges.flip(-1)])
    counts = torch.zeros(len(weights), dtype=weights.dtype, device=weights.device).index_add(0, ends[:, 0], weights.new_ones(len(ends)))
    for _ in range(steps):
        sums = torch.zeros_like(weights).index_add(0, ends[:, 0], weights[ends[:, 1]])
        weights = 0.5 * weights + 0.5 * sums / counts.clamp_min(1)[:, None]
    return weights / weights.sum(-1, keepdim=True)


@checked
def prune_weights(weights: Float[Tensor, "V K"], *, keep: int = 4) -> Float[Tensor, "V K"]:
    """Keep each vertex's ``keep`` largest weights and divide by their sum: what one glTF joint set can hold."""
    values, indices = weights.topk(min(keep, weights.shape[-1]), dim=-1)
    pruned = torch.zeros_like(weights).scatter(-1, indices, values)
    return pruned / pruned.sum(-1, keepdim=True)


@checked
def linear_blend_skinning(
    vertices: Float[Tensor, "*#batch V 3"], weights: Float[Tensor, "V K"], transforms: Float[Tensor, "*#batch K 4 4"]
) -> Float[Tensor, "*#batch V 3"]:
    """Return sum_k w_k T_k v; batch axes of vertices and transforms broadcast."""
    blended = (weights @ transforms[..., :3, :].flatten(-2)).unflatten(-1, (3, 4))
    return (blended[..., :3] @ vertices[..., None])[..., 0] + blended[..., 3]
