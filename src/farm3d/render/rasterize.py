"""Triangles to pixels: rasterize, interpolate, antialias. The public face of the kernels; it checks, and picks the backend.

Pixel centres lie at +0.5; clip coordinates are those of ``Camera.clip``: NDC (-1, -1) is the top-left corner of the picture.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from types import ModuleType

import torch

from farm3d.core.errors import InputError, MissingPartError
from farm3d.core.shapes import Float, Int, Tensor, checked
from farm3d.render import _reference
from farm3d.render.topology import EdgeTopology, edge_topology
from farm3d.structures._value import Value

__all__ = ["EdgeTopology", "Fragments", "antialias", "edge_topology", "interpolate", "rasterize"]


@dataclass(frozen=True, eq=False, repr=False)
class Fragments(Value):
    """What each pixel centre sees.

    Attributes:
        face_id: the nearest face, ``[B, H, W]`` int32; -1 where nothing is seen.
        barycentric: perspective-correct weights of that face's corners, ``[B, H, W, 3]``, sum 1; 0 where nothing is seen.
            With q_i = (x_i - px w_i, y_i - py w_i) for the pixel's NDC (px, py): b_i = (q_j x q_k) / (sum of the three).
        depth: distance along the view axis = sum of b_i w_i, ``[B, H, W]``; 0 where nothing is seen.
    """

    face_id: Int[Tensor, "B H W"]
    barycentric: Float[Tensor, "B H W 3"]
    depth: Float[Tensor, "B H W"]


@checked
def rasterize(
    clip: Float[Tensor, "B V 4"], faces: Int[Tensor, "F 3"], *, height_px: int, width_px: int, backend: str | None = None
) -> Fragments:
    """Return, for every pixel centre, the nearest face, its barycentrics and depth (first step of section 2.10).

    Both sides of a face are drawn. Of faces at the same computed depth the one with the lower number is seen. A face with a vertex
    nearer than the near plane (clip z < -w) is dropped whole, not cut: animals stand in front of the camera. Barycentrics and
    depth are differentiable with respect to ``clip`` (x, y, w; clip z only decides about the near plane). Results do not depend
    on the number of threads.

    Args:
        clip: float32 or float64 clip coordinates.
        backend: ``"numba"`` (compiled, CPU), ``"torch"`` (the specification, any device), or None: the fast one where it runs.

    Raises:
        InputError: sizes, dtypes, indices or backend that cannot be used.
        MissingPartError: ``backend="numba"`` without numba.
    """
    if height_px < 1 or width_px < 1:
        raise InputError(f"a picture of {width_px} x {height_px} pixels cannot be drawn", hint="width_px and height_px start at 1")
    topology = prepare(clip, faces)
    return Fragments(*pick(clip, backend).rasterize(clip, topology, height_px, width_px))


@checked
def interpolate(
    attributes: Float[Tensor, "A V C"], fragments: Fragments, faces: Int[Tensor, "F 3"], *, backend: str | None = None
) -> Float[Tensor, "B H W C"]:
    """Return per-vertex attributes at the seen surface points, 0 where nothing is seen.

    Differentiable with respect to the attributes and, through the barycentrics, the vertices.

    Args:
        attributes: one set for all pictures (A = 1) or one a picture (A = B). ``faces`` may be another index list over the same
            faces, such as a mesh's ``faces_uv`` with UV corners as attributes.

    Raises:
        InputError: another number of attribute sets, or indices that do not fit.
    """
    pictures = fragments.face_id.shape[0]
    if attributes.shape[0] not in (1, pictures):
        raise InputError(f"{attributes.shape[0]} sets of attributes for {pictures} pictures", hint="give 1 or one for each picture")
    topology = prepare(attributes, faces)
    return pick(attributes, backend).interpolate(attributes, fragments.face_id, fragments.barycentric, topology)


@checked
def antialias(
    image: Float[Tensor, "B H W C"],
    fragments: Fragments,
    clip: Float[Tensor, "B V 4"],
    faces: Int[Tensor, "F 3"],
    *,
    backend: str | None = None,
) -> Float[Tensor, "B H W C"]:
    """Blend neighbouring pixels where a visible silhouette edge passes between their centres.

    Every silhouette edge of the mesh (its faces lie on one side of it on the screen, or it is a boundary) is walked over the
    pixel-centre lines that it crosses. A crossing counts only if the inside pixel shows the nearer surface and the outside pixel
    shows something behind the edge, background or a farther part of the same mesh; and of all crossings between the same two
    centres only the outermost, whatever its slope, for an edge may end hidden just inside another's outline. If the outermost
    edge is mostly vertical between pixels side by side, or mostly horizontal between pixels one below the other, it moves colour:
    at s in [0, 1] from the inside to the outside centre it gives the outside pixel s - 1/2 of the inside colour, or for s < 1/2
    the inside pixel 1/2 - s of the outside colour. So d(sum of a mask) equals the area that the silhouette sweeps however small
    the triangles are, which the rule that looks only at the triangle seen at the pixel centre loses on dense meshes
    (docs/decisions/0001-renderer-backend.md).

    Gradients flow to both colours and to the two vertices of each counted edge. Blends of one pixel with several neighbours add
    up, so a value may leave the range of its neighbours by a little where a tip is thinner than a pixel. Parts, and gaps between
    parts, thinner than a pixel that hit no centre are not seen. Where two parts run through each other there is no edge, so that
    line stays hard and has no gradient. Faces must share their vertices: along a split seam the mesh has boundary edges.

    Raises:
        InputError: sizes or indices that do not fit.
    """
    if fragments.face_id.shape != image.shape[:3] or len(clip) != len(image):
        raise InputError(f"image {list(image.shape)}, fragments {list(fragments.face_id.shape)} and clip {list(clip.shape)} differ in size")
    topology = prepare(clip, faces)
    return pick(clip, backend).antialias(image, fragments.depth, clip, topology)


def prepare(values: Tensor, faces: Tensor) -> EdgeTopology:
    """Check a per-vertex tensor ``[…, V, …]`` against faces and return their topology. A wrong index must never reach a kernel."""
    if values.dtype not in (torch.float32, torch.float64):
        raise InputError(f"expected float32 or float64 values per vertex, got {str(values.dtype).removeprefix('torch.')}")
    if values.device != faces.device:
        raise InputError(f"vertices are on {values.device} and faces on {faces.device}", hint="move both to one device")
    topology = edge_topology(faces)
    if topology.max_vertex >= values.shape[1]:
        raise InputError(f"faces use vertex {topology.max_vertex}, but there are {values.shape[1]} vertices")
    return topology


def pick(values: Tensor, backend: str | None) -> ModuleType:
    """Return the module that implements ``backend`` for the tensor's device; None prefers the compiled one."""
    if backend not in (None, "numba", "torch"):
        raise InputError(f"unknown renderer backend {backend!r}", hint="choose 'numba', 'torch' or None")
    if backend == "torch" or (backend is None and (values.device.type != "cpu" or not _have_numba())):
        return _reference
    if values.device.type != "cpu":
        raise InputError(f"backend 'numba' draws on the CPU only, the vertices are on {values.device}", hint="use backend='torch'")
    if not _have_numba():
        raise MissingPartError("backend 'numba' needs the numba package", hint="pip install numba, or use backend='torch'")
    from farm3d.render import _fast  # imports numba: only when pictures are really drawn

    return _fast


def _have_numba() -> bool:
    return importlib.util.find_spec("numba") is not None
