"""Other renderers doing the rasteriser's work: from new vertices to face, barycentrics and depth at every pixel centre.

Each peer is a function that takes a :class:`Job` and returns its forward and its forward + backward step, or raises ``Absent`` with the
reason why it cannot run here. The backward step is that of  sum(weights * (u, v, depth))  with respect to the vertices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from farm3d.render.rasterize import rasterize
from farm3d.structures import Camera

__all__ = ["PEERS", "Absent", "Job", "Seen"]

Seen = tuple[
    np.ndarray, np.ndarray, np.ndarray
]  # face id [B, H, W] (-1: none), barycentrics of corners 1 and 2 [B, H, W, 2], depth [B, H, W]
Steps = tuple[Callable[[], Seen], Callable[[], np.ndarray] | None]  # the second returns the gradient [B, V, 3]


class Absent(Exception):
    """Why a peer cannot run here."""


@dataclass(frozen=True)
class Job:
    """Eight meshes of one topology, each with its camera; weights of the loss, [B, H, W, 3]."""

    vertices: torch.Tensor
    faces: torch.Tensor
    camera: Camera
    weights: torch.Tensor

    @property
    def size(self) -> int:
        return self.camera.width_px


def farm3d_backend(backend: str) -> Callable[[Job], Steps]:
    def prepare(job: Job) -> Steps:
        def forward() -> Seen:
            with torch.no_grad():
                clip = job.camera.clip(job.vertices)
                seen = rasterize(clip, job.faces, height_px=job.size, width_px=job.size, backend=backend)
            return seen.face_id.numpy(), seen.barycentric[..., 1:].numpy(), seen.depth.numpy()

        def backward() -> np.ndarray:
            vertices = job.vertices.clone().requires_grad_()
            clip = job.camera.clip(vertices)
            seen = rasterize(clip, job.faces, height_px=job.size, width_px=job.size, backend=backend)
            loss = (seen.barycentric[..., 1:] * job.weights[..., :2]).sum() + (seen.depth * job.weights[..., 2]).sum()
            (gradient,) = torch.autograd.grad(loss, vertices)
            return gradient.numpy()

        return forward, backward

    return prepare


def mitsuba_still(job: Job) -> Steps:
    """Mitsuba 3 without its larger half: the tree is kept, as if the vertices had not moved."""
    return mitsuba_llvm(job, moving=False)[0], None


def mitsuba_llvm(job: Job, *, moving: bool = True) -> Steps:
    """Mitsuba 3: one scene a mesh, rays through the pixel centres made once; every step moves the vertices and rebuilds the tree."""
    try:
        import drjit as dr
        import mitsuba as mi

        mi.set_variant("llvm_ad_rgb")
        dr.eval(dr.arange(mi.Float, 2) + 1)
    except Exception as error:
        raise Absent(f"mitsuba: {str(error).splitlines()[0][:120] if str(error) else type(error).__name__}") from error
    dr.set_thread_count(torch.get_num_threads())
    pictures, count = len(job.vertices), job.vertices.shape[1]
    scenes, rays = [], []
    for b in range(pictures):
        mesh = mi.Mesh("mesh", count, len(job.faces))
        values = mi.traverse(mesh)
        values["vertex_positions"] = mi.Float(job.vertices[b].flatten().numpy())
        values["faces"] = mi.UInt32(job.faces.flatten().numpy().astype(np.uint32))
        values.update()
        scene = mi.load_dict({"type": "scene", "mesh": mesh})
        scenes.append((scene, mi.traverse(scene)))
        rays.append(_rays(job.camera, b, mi))
    names = [next(name for name in values.keys() if name.endswith("vertex_positions")) for _, values in scenes]  # noqa: SIM118 - no iterator
    weights = [[mi.Float(job.weights[b, ..., k].flatten().numpy()) for k in range(3)] for b in range(pictures)]

    def forward() -> Seen:
        results = []
        for b, (scene, values) in enumerate(scenes):
            if moving:
                values[names[b]] = mi.Float(job.vertices[b].flatten().numpy())
                values.update()
            hit = scene.ray_intersect_preliminary(rays[b], coherent=True)
            seen = hit.is_valid()
            results.append((dr.select(seen, mi.Int32(hit.prim_index), -1), hit.prim_uv.x, hit.prim_uv.y, dr.select(seen, hit.t, 0)))
            dr.eval(*results[-1])
        shape = (pictures, job.size, job.size)
        ids, u, v, t = (np.stack([np.asarray(result[k]) for result in results]).reshape(shape) for k in range(4))
        return ids, np.stack([u, v], -1), t

    def backward() -> np.ndarray:
        gradients = []
        for b, (scene, values) in enumerate(scenes):
            positions = mi.Float(job.vertices[b].flatten().numpy())
            dr.enable_grad(positions)
            values[names[b]] = positions
            values.update()
            hit = scene.ray_intersect(rays[b], ray_flags=mi.RayFlags.Minimal | mi.RayFlags.UV, coherent=True)
            seen = hit.is_valid()
            loss = sum(dr.sum(dr.select(seen, w * value, 0)) for w, value in zip(weights[b], (hit.uv.x, hit.uv.y, hit.t), strict=True))
            dr.backward(loss)  # pyright: ignore[reportArgumentType]
            gradients.append(np.array(dr.grad(positions)))
            dr.disable_grad(positions)
        return np.stack(gradients).reshape(pictures, count, 3)

    return forward, backward


def _rays(camera: Camera, picture: int, mi):
    """Rays whose parameter is the depth along the view axis."""
    import drjit as dr

    size = camera.width_px
    matrix = camera.T_camera_world[picture].double()
    fx, fy, cx, cy = camera.intrinsics[picture].double()
    y, x = torch.meshgrid(*[torch.arange(size, dtype=torch.float64) + 0.5] * 2, indexing="ij")
    directions = torch.stack([(x - cx) / fx, -(y - cy) / fy, -torch.ones_like(x)], -1).reshape(-1, 3) @ matrix[:3, :3]
    centre = -matrix[:3, :3].T @ matrix[:3, 3]
    d = mi.Vector3f(*(mi.Float(directions[:, k].float().numpy()) for k in range(3)))
    o = mi.Point3f(*(dr.full(mi.Float, float(centre[k]), size * size) for k in range(3)))
    return mi.Ray3f(o, d)


def warp_cpu(job: Job) -> Steps:
    """NVIDIA Warp on the CPU (one thread): a kernel over faces with an atomic maximum, a differentiable one over pixels."""
    try:
        import warp as wp

        wp.config.quiet = True  # pyright: ignore[reportAttributeAccessIssue]
        wp.init()
        from benchmarks import render_warp_kernels as kernels
    except Exception as error:
        raise Absent(f"warp: {error}") from error
    pictures, size = len(job.vertices), job.size
    faces = wp.from_numpy(job.faces.numpy().astype(np.int32), dtype=wp.vec3i, device="cpu")
    keys = wp.zeros((pictures, size * size), dtype=wp.uint64, device="cpu")
    ids = wp.zeros((pictures, size * size), dtype=wp.int32, device="cpu")
    out = wp.zeros((pictures, size * size), dtype=wp.vec3, device="cpu", requires_grad=True)

    def launch(clip: torch.Tensor):
        clip_wp = wp.from_torch(clip, dtype=wp.vec4, requires_grad=clip.requires_grad)
        keys.zero_()
        wp.launch(kernels.nearest, dim=(pictures, len(job.faces)), inputs=[clip_wp, faces, size, keys], device="cpu", record_tape=False)
        wp.launch(kernels.resolve, dim=(pictures, size * size), inputs=[clip_wp, faces, size, keys], outputs=[ids, out], device="cpu")
        return clip_wp

    def forward() -> Seen:
        with torch.no_grad():
            launch(job.camera.clip(job.vertices).contiguous())
        values = out.numpy().reshape(pictures, size, size, 3)
        return ids.numpy().reshape(pictures, size, size), values[..., :2], values[..., 2]

    seeds = wp.from_torch(job.weights.reshape(pictures, -1, 3).contiguous(), dtype=wp.vec3)

    def backward() -> np.ndarray:
        vertices = job.vertices.clone().requires_grad_()
        clip = job.camera.clip(vertices)
        leaf = clip.detach().contiguous().requires_grad_()
        with wp.Tape() as tape:
            clip_wp = launch(leaf)
        tape.backward(grads={out: seeds})
        (gradient,) = torch.autograd.grad(clip, vertices, wp.to_torch(clip_wp.grad))  # pyright: ignore[reportArgumentType]
        tape.zero()
        return gradient.numpy()

    return forward, backward


PEERS: dict[str, Callable[[Job], Steps]] = {
    "farm3d numba": farm3d_backend("numba"),
    "farm3d torch (specification)": farm3d_backend("torch"),
    "Mitsuba 3 (llvm, Embree)": mitsuba_llvm,
    "  the same, tracing only": mitsuba_still,
    "warp-lang (CPU)": warp_cpu,
}
