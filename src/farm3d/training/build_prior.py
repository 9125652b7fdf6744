"""Put a category prior together: template, bones, skin, modes, fields; the last step of `python -m farm3d.training.build_prior`."""

from __future__ import annotations

import torch

from farm3d.core.shapes import Float, Int, Tensor
from farm3d.geometry.quadruped import find_quadruped_bones
from farm3d.geometry.skinning import distances_to_segments, prune_weights, smooth_weights
from farm3d.model.deformation import mirror_modes
from farm3d.model.prior import CategoryPrior, PriorConfig
from farm3d.structures import Mesh, Skeleton

__all__ = ["assemble_prior", "symmetric_skeleton", "template_skin"]


def symmetric_skeleton(vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"], *, tail: bool = True) -> Skeleton:
    """Return the bones found from a mesh, left and right made exact mirror images (the search picks vertices, which come in pairs)."""
    bones = find_quadruped_bones(vertices, faces, tail=tail)
    starts, ends = bones.starts.clone(), bones.ends.clone()
    flip = starts.new_tensor([-1.0, 1.0, 1.0])
    for k, name in enumerate(bones.names):
        if "_L_" in name:
            other = bones.names.index(name.replace("_L_", "_R_"))
            for joints in (starts, ends):
                mean = (joints[k] + flip * joints[other]) / 2
                joints[k], joints[other] = mean, flip * mean
    return Skeleton(bones.names, bones.parents, starts, ends, bones.centre)


def template_skin(
    vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"], mirror: Int[Tensor, "V"], skeleton: Skeleton, *, temperature: float = 0.05
) -> Float[Tensor, "V K"]:
    """Return mirror-symmetric skin weights: section 2.6's softmax, smoothed over the surface, at most four bones a vertex.

    Bones of the other side's legs are shut out: between the thighs the nearest bone may be the wrong leg's.
    """
    distances = distances_to_segments(vertices, skeleton.starts, skeleton.ends)
    side = torch.tensor([1.0 if "_L_" in name else -1.0 if "_R_" in name else 0.0 for name in skeleton.names])
    wrong = (vertices[:, :1] * side) < -1e-4
    weights = torch.softmax((-distances / temperature).masked_fill(wrong, -torch.inf), -1)
    edges = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = torch.unique(edges.sort(1).values, dim=0)
    weights = smooth_weights(weights, edges, steps=6)
    partner = torch.tensor([skeleton.names.index(_other_side(name)) for name in skeleton.names])
    weights = (weights + weights[mirror][:, partner]) / 2
    return prune_weights(weights)


def _other_side(name: str) -> str:
    if "_L_" in name:
        return name.replace("_L_", "_R_")
    return name.replace("_R_", "_L_")


def assemble_prior(
    config: PriorConfig,
    template: Mesh,
    mirror: Int[Tensor, "V"],
    skeleton: Skeleton,
    *,
    vertex_features: Float[Tensor, "V D"],
    projection: tuple[Float[Tensor, "C"], Float[Tensor, "C D"]],
    sdf_weights: dict[str, Tensor],
    feature_weights: dict[str, Tensor],
) -> CategoryPrior:
    """Return the prior of a template; skin and modes are computed here."""
    return CategoryPrior(
        config,
        template,
        mirror,
        skeleton,
        template_skin(template.vertices, template.faces, mirror, skeleton),
        mirror_modes(template.vertices, template.faces, mirror),
        vertex_features,
        *projection,
        sdf_weights,
        feature_weights,
    )
