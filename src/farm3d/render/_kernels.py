"""Compiled kernels of rasterize and interpolate, one picture a call (the specification is ``_reference.py``).

Arithmetic is float64 inside, whatever the dtype of the arrays: the sign of an edge function then decides coverage without cracks, and
the results agree with the reference bit by bit where it matters (which face is seen). Loops run in one fixed order and write into
one picture's arrays only, so results do not depend on the number of threads.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

__all__ = ["compiled", "interpolate_backward", "interpolate_forward", "project", "rasterize_backward", "rasterize_forward"]

MAX_PIXELS = 1e9  # a vertex farther out than this has left the range in which the arithmetic below is exact


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile on first use, keep the machine code on disk if any folder takes it, and work all the same if none does."""
    try:
        kernel = njit(nogil=True, cache=True, error_model="numpy")(function)
    except RuntimeError:  # numba found no folder that it may write to: compile anew in every process
        kernel = njit(nogil=True, error_model="numpy")(function)

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        try:
            return kernel(*arguments)
        except OSError:  # compiled, but the disk did not take it (full, quota): the second call finds it in memory
            return kernel(*arguments)

    return call


@compiled
def project(clip, height, width, screen):
    """Fill ``screen [V, 3]`` with pixel x, pixel y and 1/w; 1/w = 0 marks a vertex that cannot be drawn."""
    for v in range(clip.shape[0]):
        w = np.float64(clip[v, 3])
        screen[v, 2] = 0.0
        if w > 0.0 and np.float64(clip[v, 2]) >= -w:
            inverse = 1.0 / w
            x = (np.float64(clip[v, 0]) * inverse * 0.5 + 0.5) * width
            y = (np.float64(clip[v, 1]) * inverse * 0.5 + 0.5) * height
            if abs(x) < MAX_PIXELS and abs(y) < MAX_PIXELS:
                screen[v, 0] = x
                screen[v, 1] = y
                screen[v, 2] = inverse


@compiled
def rasterize_forward(clip, screen, faces, height, width, nearest, face_id, barycentric, depth):
    """Fill ``face_id [P]``, ``barycentric [P, 3]`` and ``depth [P]`` (P = height * width) for one picture; ``nearest [P]`` starts as 0."""
    for p in range(face_id.shape[0]):
        face_id[p] = -1
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        iwa, iwb, iwc = screen[a, 2], screen[b, 2], screen[c, 2]
        if iwa == 0.0 or iwb == 0.0 or iwc == 0.0:
            continue
        ax, bx, cx = screen[a, 0], screen[b, 0], screen[c, 0]
        left = max(math.ceil(min(ax, min(bx, cx)) - 0.5), 0)
        right = min(math.floor(max(ax, max(bx, cx)) - 0.5), width - 1)
        if left > right:
            continue
        ay, by, cy = screen[a, 1], screen[b, 1], screen[c, 1]
        top = max(math.ceil(min(ay, min(by, cy)) - 0.5), 0)
        bottom = min(math.floor(max(ay, max(by, cy)) - 0.5), height - 1)
        if top > bottom:
            continue
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0.0:
            continue
        sign = 1.0 if area > 0.0 else -1.0
        area = abs(area)
        za, zb, zc = iwa / area, iwb / area, iwc / area
        # Each edge is measured from its lower vertex, so both its faces see the same number with opposite signs: no cracks.
        if b < c:
            ox0, oy0, dx0, dy0 = bx, by, (cx - bx) * sign, (cy - by) * sign
        else:
            ox0, oy0, dx0, dy0 = cx, cy, (cx - bx) * sign, (cy - by) * sign
        if c < a:
            ox1, oy1, dx1, dy1 = cx, cy, (ax - cx) * sign, (ay - cy) * sign
        else:
            ox1, oy1, dx1, dy1 = ax, ay, (ax - cx) * sign, (ay - cy) * sign
        if a < b:
            ox2, oy2, dx2, dy2 = ax, ay, (bx - ax) * sign, (by - ay) * sign
        else:
            ox2, oy2, dx2, dy2 = bx, by, (bx - ax) * sign, (by - ay) * sign
        for j in range(top, bottom + 1):
            y = j + 0.5
            row0, row1, row2 = dx0 * (y - oy0), dx1 * (y - oy1), dx2 * (y - oy2)
            for i in range(left, right + 1):
                x = i + 0.5
                e0 = row0 - dy0 * (x - ox0)
                e1 = row1 - dy1 * (x - ox1)
                e2 = row2 - dy2 * (x - ox2)
                if e0 >= 0.0 and e1 >= 0.0 and e2 >= 0.0:
                    z = e0 * za + e1 * zb + e2 * zc
                    p = j * width + i
                    if z > nearest[p]:  # equal depths: the lower face number stays
                        nearest[p] = z
                        face_id[p] = f
    for j in range(height):
        y = (j + 0.5) * 2.0 / height - 1.0
        for i in range(width):
            p = j * width + i
            f = face_id[p]
            if f < 0:
                barycentric[p, 0] = 0.0
                barycentric[p, 1] = 0.0
                barycentric[p, 2] = 0.0
                depth[p] = 0.0
                continue
            x = (i + 0.5) * 2.0 / width - 1.0
            a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
            wa, wb, wc = np.float64(clip[a, 3]), np.float64(clip[b, 3]), np.float64(clip[c, 3])
            ax, ay = clip[a, 0] - x * wa, clip[a, 1] - y * wa
            bx, by = clip[b, 0] - x * wb, clip[b, 1] - y * wb
            cx, cy = clip[c, 0] - x * wc, clip[c, 1] - y * wc
            e0, e1, e2 = bx * cy - by * cx, cx * ay - cy * ax, ax * by - ay * bx
            total = e0 + e1 + e2
            e0, e1, e2 = e0 / total, e1 / total, e2 / total
            barycentric[p, 0] = e0
            barycentric[p, 1] = e1
            barycentric[p, 2] = e2
            depth[p] = e0 * wa + e1 * wb + e2 * wc


@compiled
def rasterize_backward(clip, faces, height, width, face_id, grad_barycentric, grad_depth, grad_clip):
    """Add to ``grad_clip [V, 4]`` the gradient through barycentrics and depth (``grad_depth`` may have length 0)."""
    with_depth = grad_depth.shape[0] > 0
    for j in range(height):
        y = (j + 0.5) * 2.0 / height - 1.0
        for i in range(width):
            p = j * width + i
            f = face_id[p]
            if f < 0:
                continue
            x = (i + 0.5) * 2.0 / width - 1.0
            a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
            wa, wb, wc = np.float64(clip[a, 3]), np.float64(clip[b, 3]), np.float64(clip[c, 3])
            ax, ay = clip[a, 0] - x * wa, clip[a, 1] - y * wa
            bx, by = clip[b, 0] - x * wb, clip[b, 1] - y * wb
            cx, cy = clip[c, 0] - x * wc, clip[c, 1] - y * wc
            e0, e1, e2 = bx * cy - by * cx, cx * ay - cy * ax, ax * by - ay * bx
            total = e0 + e1 + e2
            u0, u1, u2 = e0 / total, e1 / total, e2 / total
            g0, g1, g2 = np.float64(grad_barycentric[p, 0]), np.float64(grad_barycentric[p, 1]), np.float64(grad_barycentric[p, 2])
            if with_depth:
                gd = np.float64(grad_depth[p])
                g0, g1, g2 = g0 + gd * wa, g1 + gd * wb, g2 + gd * wc
                grad_clip[a, 3] += gd * u0
                grad_clip[b, 3] += gd * u1
                grad_clip[c, 3] += gd * u2
            mean = g0 * u0 + g1 * u1 + g2 * u2
            h0, h1, h2 = (g0 - mean) / total, (g1 - mean) / total, (g2 - mean) / total
            gax, gay = h2 * by - h1 * cy, h1 * cx - h2 * bx
            gbx, gby = h0 * cy - h2 * ay, h2 * ax - h0 * cx
            gcx, gcy = h1 * ay - h0 * by, h0 * bx - h1 * ax
            grad_clip[a, 0] += gax
            grad_clip[a, 1] += gay
            grad_clip[a, 3] -= x * gax + y * gay
            grad_clip[b, 0] += gbx
            grad_clip[b, 1] += gby
            grad_clip[b, 3] -= x * gbx + y * gby
            grad_clip[c, 0] += gcx
            grad_clip[c, 1] += gcy
            grad_clip[c, 3] -= x * gcx + y * gcy


@compiled
def interpolate_forward(attributes, faces, face_id, barycentric, fill, image):
    """Write interpolated ``attributes [V, C]`` into covered pixels of ``image [P, C or C + 1]``; a last extra channel becomes 1 there.

    ``fill``, of the image's channels, goes into the uncovered pixels; with length 0 they stay as they are.
    """
    channels = attributes.shape[1]
    with_mask = image.shape[1] > channels
    for p in range(face_id.shape[0]):
        f = face_id[p]
        if f < 0:
            for k in range(fill.shape[0]):
                image[p, k] = fill[k]
            continue
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        u0, u1, u2 = barycentric[p, 0], barycentric[p, 1], barycentric[p, 2]
        for k in range(channels):
            image[p, k] = u0 * attributes[a, k] + u1 * attributes[b, k] + u2 * attributes[c, k]
        if with_mask:
            image[p, channels] = 1.0


@compiled
def interpolate_backward(attributes, faces, face_id, barycentric, grad_image, grad_attributes, grad_barycentric):
    """Add to ``grad_attributes [V, C]`` and fill ``grad_barycentric [P, 3]``; either may have length 0 when not wanted."""
    channels = attributes.shape[1]
    to_attributes = grad_attributes.shape[0] > 0
    to_barycentric = grad_barycentric.shape[0] > 0
    for p in range(face_id.shape[0]):
        f = face_id[p]
        if f < 0:
            if to_barycentric:
                grad_barycentric[p, 0] = 0.0
                grad_barycentric[p, 1] = 0.0
                grad_barycentric[p, 2] = 0.0
            continue
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        if to_attributes:
            u0, u1, u2 = barycentric[p, 0], barycentric[p, 1], barycentric[p, 2]
            for k in range(channels):
                g = grad_image[p, k]
                grad_attributes[a, k] += u0 * g
                grad_attributes[b, k] += u1 * g
                grad_attributes[c, k] += u2 * g
        if to_barycentric:
            g0, g1, g2 = 0.0, 0.0, 0.0
            for k in range(channels):
                g = np.float64(grad_image[p, k])
                g0 += g * attributes[a, k]
                g1 += g * attributes[b, k]
                g2 += g * attributes[c, k]
            grad_barycentric[p, 0] = g0
            grad_barycentric[p, 1] = g1
            grad_barycentric[p, 2] = g2
