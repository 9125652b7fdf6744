"""One distant light on a matte surface."""

from __future__ import annotations

from farm3d.core.shapes import Float, Tensor, checked
from farm3d.structures import Light

__all__ = ["shade"]


@checked
def shade(albedo: Float[Tensor, "... 3"], normals_camera: Float[Tensor, "... 3"], light: Light) -> Float[Tensor, "... 3"]:
    """Return albedo * (ambient + diffuse * max(0, n . direction)) (section 2.9).

    No gamma and no clamp: colours come out in the space that they came in. The light's batch axes match the leading axes of
    ``albedo`` and ``normals_camera``; an unbatched light serves all.

    Args:
        albedo: base colours, ``[*batch, …, 3]``.
        normals_camera: unit normals in the camera frame, broadcastable with ``albedo``; (0, 0, 0) gives ambient light only.
        light: direction toward the light, camera frame, with its strengths.
    """
    extra = max(albedo.ndim, normals_camera.ndim) - light.direction.ndim
    direction = light.direction[(..., *[None] * extra, slice(None))]
    ambient, diffuse = (value[(..., *[None] * extra)] for value in (light.ambient, light.diffuse))
    cosine = (normals_camera * direction).sum(-1).clamp(min=0.0)
    return albedo * (ambient + diffuse * cosine)[..., None]
