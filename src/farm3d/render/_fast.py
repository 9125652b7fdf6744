"""The compiled backend as autograd functions: CPU tensors in, one kernel call a picture, pictures spread over threads."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from farm3d.render import _edge_kernels as edge_kernels
from farm3d.render import _kernels as kernels
from farm3d.render.topology import EdgeTopology

__all__ = ["antialias", "interpolate", "rasterize", "render_attributes"]

_pool: tuple[int, ThreadPoolExecutor] | None = None


def _executor(workers: int) -> ThreadPoolExecutor:
    global _pool
    if _pool is None or _pool[0] < workers:
        _pool = (workers, ThreadPoolExecutor(workers, thread_name_prefix="farm3d-render"))
    return _pool[1]


def _forget_pool() -> None:
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):  # threads do not survive a fork: a child starts its own
    os.register_at_fork(after_in_child=_forget_pool)


def _each_picture(task: Callable[[int], Any], count: int) -> list[Any]:
    """Run ``task`` for every picture, on as many threads as torch may use; kernels release the interpreter lock."""
    results: list[Any] = [None] * count
    pending = iter(range(count))

    def work() -> None:
        for b in pending:  # whoever is free takes the next picture; what a picture gets does not depend on who draws it
            results[b] = task(b)

    helpers = min(torch.get_num_threads(), count) - 1
    futures = [_executor(helpers).submit(work) for _ in range(helpers)]
    work()
    for future in futures:
        future.result()
    return results


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().contiguous().numpy()


def _sum_pictures(gradient: np.ndarray) -> np.ndarray:
    """Add the pictures' gradients of a shared attribute one after the other: the order never changes."""
    total = gradient[0]
    for other in gradient[1:]:
        total += other
    return total[None]


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, clip: Tensor, faces: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
        clip_np, faces_np = _array(clip), faces.numpy()
        batch = clip_np.shape[0]
        face_id = np.empty((batch, height * width), np.int32)
        barycentric = np.empty((batch, height * width, 3), clip_np.dtype)
        depth = np.empty((batch, height * width), clip_np.dtype)

        def task(b: int) -> None:
            screen, nearest = np.empty((clip_np.shape[1], 3)), np.zeros(height * width)
            kernels.project(clip_np[b], height, width, screen)
            kernels.rasterize_forward(clip_np[b], screen, faces_np, height, width, nearest, face_id[b], barycentric[b], depth[b])

        _each_picture(task, batch)
        ids = torch.from_numpy(face_id).view(batch, height, width)
        ctx.save_for_backward(clip, faces, ids)
        ctx.mark_non_differentiable(ids)
        ctx.set_materialize_grads(False)
        return ids, torch.from_numpy(barycentric).view(batch, height, width, 3), torch.from_numpy(depth).view(batch, height, width)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, _ids: None, grad_barycentric: Tensor | None, grad_depth: Tensor | None) -> tuple[Tensor | None, ...]:
        clip, faces, ids = ctx.saved_tensors
        if grad_barycentric is None and grad_depth is None:
            return None, None, None, None
        batch, height, width = ids.shape
        clip_np, faces_np, ids_np = _array(clip), faces.numpy(), _array(ids).reshape(batch, -1)
        to_barycentric = _array(clip.new_zeros(batch, height, width, 3) if grad_barycentric is None else grad_barycentric)
        to_barycentric = to_barycentric.reshape(batch, -1, 3)
        to_depth = np.empty((batch, 0), clip_np.dtype) if grad_depth is None else _array(grad_depth).reshape(batch, -1)
        grad_clip = np.zeros_like(clip_np)

        def task(b: int) -> None:
            kernels.rasterize_backward(clip_np[b], faces_np, height, width, ids_np[b], to_barycentric[b], to_depth[b], grad_clip[b])

        _each_picture(task, batch)
        return torch.from_numpy(grad_clip), None, None, None


class _Interpolate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, attributes: Tensor, barycentric: Tensor, ids: Tensor, faces: Tensor) -> Tensor:
        batch, height, width = ids.shape
        values, u, ids_np, faces_np = _array(attributes), _array(barycentric), _array(ids).reshape(batch, -1), faces.numpy()
        image = np.empty((batch, height * width, values.shape[2]), values.dtype)
        fill = np.zeros(values.shape[2], values.dtype)

        def task(b: int) -> None:
            kernels.interpolate_forward(values[b % len(values)], faces_np, ids_np[b], u[b].reshape(-1, 3), fill, image[b])

        _each_picture(task, batch)
        ctx.save_for_backward(attributes, barycentric, ids, faces)
        return torch.from_numpy(image).view(batch, height, width, -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_image: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        attributes, barycentric, ids, faces = ctx.saved_tensors
        batch, height, width = ids.shape
        values, u, ids_np, faces_np = _array(attributes), _array(barycentric), _array(ids).reshape(batch, -1), faces.numpy()
        grad_np = _array(grad_image).reshape(batch, height * width, -1)
        to_values = np.zeros((batch, *values.shape[1:]) if ctx.needs_input_grad[0] else (batch, 0, 0), values.dtype)
        to_u = np.empty((batch, height * width, 3) if ctx.needs_input_grad[1] else (batch, 0, 3), u.dtype)

        def task(b: int) -> None:
            kernels.interpolate_backward(
                values[b % len(values)], faces_np, ids_np[b], u[b].reshape(-1, 3), grad_np[b], to_values[b], to_u[b]
            )

        _each_picture(task, batch)
        grad_attributes = grad_barycentric = None
        if ctx.needs_input_grad[0]:
            grad_attributes = torch.from_numpy(_sum_pictures(to_values) if len(values) < batch else to_values)
        if ctx.needs_input_grad[1]:
            grad_barycentric = torch.from_numpy(to_u).view(batch, height, width, 3)
        return grad_attributes, grad_barycentric, None, None


class _Antialias(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, image: Tensor, clip: Tensor, depth: Tensor, topology: EdgeTopology) -> Tensor:
        batch, height, width, channels = image.shape
        clip_np, depth_np = _array(clip), _array(depth).reshape(batch, -1)
        output = image.detach().clone(memory_format=torch.contiguous_format)
        output_np = output.numpy().reshape(batch, -1, channels)
        mesh = _mesh(topology)

        def task(b: int) -> Any:
            screen = np.empty((clip_np.shape[1], 3))
            kernels.project(clip_np[b], height, width, screen)
            return edge_kernels.antialias_forward(output_np[b], depth_np[b], screen, mesh, height, width)

        ctx.pairs = _each_picture(task, batch)
        ctx.topology = topology
        ctx.save_for_backward(clip)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (clip,) = ctx.saved_tensors
        batch, height, width, channels = grad_output.shape
        clip_np, edges = _array(clip), ctx.topology.edges.numpy()
        grad_image = grad_output.detach().clone(memory_format=torch.contiguous_format)
        grad_np = grad_image.numpy().reshape(batch, -1, channels)
        grad_clip = np.zeros(clip_np.shape if ctx.needs_input_grad[1] else (batch, 0, 4), clip_np.dtype)

        def task(b: int) -> None:
            screen = np.empty((clip_np.shape[1], 3))
            kernels.project(clip_np[b], height, width, screen)
            edge_kernels.antialias_backward(grad_np[b], ctx.pairs[b], screen, edges, height, width, grad_clip[b])

        _each_picture(task, batch)
        return grad_image, torch.from_numpy(grad_clip) if ctx.needs_input_grad[1] else None, None, None


class _RenderAttributes(torch.autograd.Function):
    """Rasterize, interpolate, composite and antialias in one visit to each picture, all channels and the mask together."""

    @staticmethod
    def forward(
        ctx: Any, clip: Tensor, attributes: Tensor, canvas: Tensor, topology: EdgeTopology, antialiased: bool
    ) -> tuple[Tensor, Tensor]:
        batch, height, width, channels = canvas.shape
        clip_np, values, faces_np, mesh = _array(clip), _array(attributes), topology.faces.numpy(), _mesh(topology)
        image = torch.empty(batch, height, width, channels + 1, dtype=canvas.dtype)
        if channels and canvas.stride()[:3] == (0, 0, 0):  # one colour everywhere: the kernel writes it on its way
            fill = np.append(canvas[0, 0, 0].detach().numpy(), values.dtype.type(0))
        else:
            fill = np.empty(0, values.dtype)
            image[..., :channels], image[..., channels] = canvas, 0
        image_np = image.numpy().reshape(batch, -1, channels + 1)
        face_id = np.empty((batch, height * width), np.int32)
        barycentric = np.empty((batch, height * width, 3), clip_np.dtype)

        def task(b: int) -> Any:
            screen, nearest = np.empty((clip_np.shape[1], 3)), np.zeros(height * width)
            depth = np.empty(height * width, clip_np.dtype)
            kernels.project(clip_np[b], height, width, screen)
            kernels.rasterize_forward(clip_np[b], screen, faces_np, height, width, nearest, face_id[b], barycentric[b], depth)
            kernels.interpolate_forward(values[b % len(values)], faces_np, face_id[b], barycentric[b], fill, image_np[b])
            return edge_kernels.antialias_forward(image_np[b], depth, screen, mesh, height, width) if antialiased else None

        ctx.pairs = _each_picture(task, batch)
        ctx.topology = topology
        ctx.save_for_backward(clip, attributes, torch.from_numpy(face_id), torch.from_numpy(barycentric))
        return image[..., :channels], image[..., channels]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_image: Tensor, grad_mask: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        clip, attributes, ids, u = ctx.saved_tensors
        batch, height, width, channels = grad_image.shape
        clip_np, values, faces_np, edges = _array(clip), _array(attributes), ctx.topology.faces.numpy(), ctx.topology.edges.numpy()
        ids_np, u_np = ids.numpy(), u.numpy()
        gradient = torch.cat([grad_image, grad_mask[..., None]], -1)
        grad_np = gradient.numpy().reshape(batch, -1, channels + 1)
        to_clip, to_attributes, to_canvas = ctx.needs_input_grad[:3]
        grad_clip = np.zeros(clip_np.shape if to_clip else (batch, 0, 4), clip_np.dtype)
        grad_values = np.zeros((batch, *values.shape[1:]) if to_attributes else (batch, 0, 0), values.dtype)

        def task(b: int) -> None:
            if ctx.pairs[b] is not None:
                screen = np.empty((clip_np.shape[1], 3))
                kernels.project(clip_np[b], height, width, screen)
                edge_kernels.antialias_backward(grad_np[b], ctx.pairs[b], screen, edges, height, width, grad_clip[b])
            grad_u = np.empty((height * width if to_clip else 0, 3), clip_np.dtype)
            kernels.interpolate_backward(values[b % len(values)], faces_np, ids_np[b], u_np[b], grad_np[b], grad_values[b], grad_u)
            if to_clip:
                kernels.rasterize_backward(clip_np[b], faces_np, height, width, ids_np[b], grad_u, grad_u[:0, 0].copy(), grad_clip[b])

        _each_picture(task, batch)
        grad_attributes = grad_canvas = None
        if to_attributes:
            grad_attributes = torch.from_numpy(_sum_pictures(grad_values) if len(values) < batch else grad_values)
        if to_canvas:
            grad_canvas = gradient[..., :channels] * (ids.view(batch, height, width, 1) < 0)
        return torch.from_numpy(grad_clip) if to_clip else None, grad_attributes, grad_canvas, None, None


def _mesh(topology: EdgeTopology) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    return topology.faces.numpy(), topology.edges.numpy(), topology.edge_faces.numpy(), topology.edge_sides.numpy()


def rasterize(clip: Tensor, topology: EdgeTopology, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return face ids, barycentrics and depth, as ``_reference.rasterize``."""
    return _Rasterize.apply(clip, topology.faces, height, width)  # pyright: ignore[reportReturnType]


def interpolate(attributes: Tensor, ids: Tensor, barycentric: Tensor, topology: EdgeTopology) -> Tensor:
    """Return interpolated attributes, as ``_reference.interpolate``."""
    return _Interpolate.apply(attributes, barycentric, ids, topology.faces)  # pyright: ignore[reportReturnType]


def antialias(image: Tensor, depth: Tensor, clip: Tensor, topology: EdgeTopology) -> Tensor:
    """Return the image blended along silhouettes, as ``_reference.antialias``."""
    return _Antialias.apply(image, clip, depth, topology)  # pyright: ignore[reportReturnType]


def render_attributes(clip: Tensor, attributes: Tensor, canvas: Tensor, topology: EdgeTopology, antialiased: bool) -> tuple[Tensor, Tensor]:
    """Return the attribute picture over ``canvas [B, H, W, C]`` and the mask, all stages in one pass."""
    return _RenderAttributes.apply(clip, attributes, canvas, topology, antialiased)  # pyright: ignore[reportReturnType]
