"""Compiled kernels of the silhouette antialiasing, one picture a call (the specification is ``_reference.antialias``)."""

from __future__ import annotations

import math

import numpy as np

from farm3d.render._kernels import compiled

__all__ = ["antialias_backward", "antialias_forward"]

Array = np.ndarray
DEPTH_TOLERANCE = 1e-5  # relative; far above float32 rounding of a depth, far below the thickness of a leg


def antialias_forward(
    image: Array, depth: Array, screen: Array, mesh: tuple[Array, Array, Array, Array], height: int, width: int
) -> tuple[Array, Array, Array, Array, Array]:
    """Blend ``image [P, C]`` in place along visible silhouette edges.

    Returns per blended pixel pair: inside and outside pixel ``[n, 2]``, edge ``[n]``, position of the crossing from the inside (0) to
    the outside (1) pixel centre ``[n]``, direction ``[n]`` (0, 1: outside is at +x, -x; 2, 3: at +y, -y), inside minus outside colour
    before blending ``[n, C]``. ``depth [P]`` is 0 where nothing is seen. (Arrays are made here, not in the kernels: compiling that
    would take three seconds of a first run.) ``mesh`` is faces, edges, edge_faces, edge_sides of the topology.
    """
    faces, edges, edge_faces, edge_sides = mesh
    signs = np.empty(faces.shape[0], np.int8)
    _orientations(screen, faces, signs)
    best = np.full((height * width, 2), -1.0)  # per pixel: the pair with its right neighbour, the pair with its lower neighbour
    code = np.empty((height * width, 2), np.int64)
    touched = np.empty(2 * height * width, np.int64)
    count = _walk_edges(depth, screen, edges, edge_faces, edge_sides, signs, height, width, best, code, touched)
    pixels, edge, crossing = np.empty((count, 2), np.int32), np.empty(count, np.int32), np.empty(count)
    direction, difference = np.empty(count, np.int8), np.empty((count, image.shape[1]), image.dtype)
    _blend(image, width, best, code, touched, pixels, edge, crossing, direction, difference)
    return pixels, edge, crossing, direction, difference


@compiled
def _orientations(screen, faces, signs):
    """Fill ``signs [F]`` with the sign of each face's area on the screen; 2 for a face that is not drawn."""
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        if screen[a, 2] == 0.0 or screen[b, 2] == 0.0 or screen[c, 2] == 0.0:
            signs[f] = 2
            continue
        ax, ay = screen[a, 0], screen[a, 1]
        area = (screen[b, 0] - ax) * (screen[c, 1] - ay) - (screen[b, 1] - ay) * (screen[c, 0] - ax)
        signs[f] = 1 if area > 0.0 else (-1 if area < 0.0 else 0)


@compiled
def _walk_edges(depth, screen, edges, edge_faces, edge_sides, signs, height, width, best, code, touched):
    """Find the outermost visible crossing of every pixel pair; return how many of ``touched`` (2 * pixel + axis) move colour.

    ``best [P, 2]`` receives the crossing, ``code [P, 2]`` four times its edge, plus 2 if it moves colour, plus 1 if the pair's first
    pixel is the inside one.
    """
    count = 0
    for e in range(edges.shape[0]):
        f0, f1 = edge_faces[e, 0], edge_faces[e, 1]
        s0 = signs[f0]
        s1 = signs[f1] if f1 >= 0 else 2
        s0 = 2 if s0 == 2 else s0 * edge_sides[e, 0]
        s1 = 2 if s1 == 2 else s1 * edge_sides[e, 1]
        if s0 == 2:
            s0 = s1
        elif s1 == 2:
            s1 = s0
        if s0 == 2 or s0 * s1 < 0:  # not drawn, or a face on either side
            continue
        inside = s0 if s0 != 0 else s1
        if inside == 0:
            continue
        low, high = edges[e, 0], edges[e, 1]
        x0, y0, iw0 = screen[low, 0], screen[low, 1], screen[low, 2]
        dx, dy, diw = screen[high, 0] - x0, screen[high, 1] - y0, screen[high, 2] - iw0
        steep = abs(dy) >= abs(dx)
        for axis in range(2):
            if axis == 0:  # walk rows: crossings of pixel pairs side by side
                start, span, cross, slope, lines, length, to_next, to_line = y0, dy, x0, dx, height, width, 1, width
                first_is_inside = inside * dy > 0
            else:  # walk columns: crossings of pixel pairs one below the other
                start, span, cross, slope, lines, length, to_next, to_line = x0, dx, y0, dy, width, height, width, 1
                first_is_inside = inside * dx < 0
            if span == 0.0:
                continue
            # Every crossing takes part in the choice of the outermost; it moves colour only if the edge lies mostly across the pair.
            this = 4 * e + (2 if steep == (axis == 0) else 0) + (1 if first_is_inside else 0)
            end = start + span
            line0 = max(math.ceil(min(start, end) - 0.5), 0)
            line1 = min(math.ceil(max(start, end) - 0.5), lines)
            for line in range(line0, line1):
                t = (line + 0.5 - start) / span
                position = cross + t * slope - 0.5
                i = math.floor(position)
                if i < 0 or i + 1 >= length:
                    continue
                p = line * to_line + i * to_next
                if first_is_inside:
                    p_in, p_out, s = p, p + to_next, position - i
                else:
                    p_in, p_out, s = p + to_next, p, 1.0 - (position - i)
                z_in, z_out = depth[p_in], depth[p_out]
                if z_in == 0.0:
                    continue
                if z_out != 0.0 and (z_in >= z_out or z_out * (iw0 + t * diw) <= 1.0 + DEPTH_TOLERANCE):
                    continue  # the neighbour lies in front of this edge: the edge is hidden, or it is an inner fold
                if best[p, axis] < 0.0:
                    touched[count] = 2 * p + axis
                    count += 1
                if s > best[p, axis]:  # keep the outermost
                    best[p, axis] = s
                    code[p, axis] = this
    active = 0
    for n in range(count):
        p, axis = touched[n] // 2, touched[n] % 2
        if code[p, axis] & 2:
            touched[active] = touched[n]
            active += 1
    return active


@compiled
def _blend(image, width, best, code, touched, pixels, edge, crossing, direction, difference):
    """Fill the five lists from the pairs ``touched``, all before any pixel changes; then blend ``image [P, C]``."""
    count, channels = difference.shape
    for n in range(count):
        p, axis = touched[n] // 2, touched[n] % 2
        forward = code[p, axis] & 1
        q = p + (1 if axis == 0 else width)
        p_in, p_out = (p, q) if forward else (q, p)
        pixels[n, 0] = p_in
        pixels[n, 1] = p_out
        edge[n] = code[p, axis] // 4
        crossing[n] = best[p, axis]
        direction[n] = 2 * axis + (0 if forward else 1)
        for k in range(channels):
            difference[n, k] = image[p_in, k] - image[p_out, k]
    for n in range(count):
        amount = crossing[n] - 0.5
        target = pixels[n, 1] if amount > 0.0 else pixels[n, 0]
        for k in range(channels):
            image[target, k] += amount * difference[n, k]


def antialias_backward(
    grad_image: Array,
    pairs: tuple[Array, Array, Array, Array, Array],
    screen: Array,
    edges: Array,
    height: int,
    width: int,
    grad_clip: Array,
) -> None:
    """Turn ``grad_image [P, C]`` in place into the gradient before blending; add to ``grad_clip [V, 4]`` if it is not empty.

    ``pairs`` is what :func:`antialias_forward` returned.
    """
    pixels, edge, crossing, direction, difference = pairs
    target = np.where(crossing > 0.5, pixels[:, 1], pixels[:, 0])
    blended = grad_image[target]  # the gradients as they arrived, before any is changed
    _unblend(grad_image, blended, pixels, edge, crossing, direction, difference, screen, edges, height, width, grad_clip)


@compiled
def _unblend(grad_image, blended, pixels, edge, crossing, direction, difference, screen, edges, height, width, grad_clip):
    count, channels = difference.shape
    to_clip = grad_clip.shape[0] > 0
    for n in range(count):
        amount = crossing[n] - 0.5
        p_in, p_out = pixels[n, 0], pixels[n, 1]
        grad_crossing = 0.0
        for k in range(channels):
            g = blended[n, k]
            grad_image[p_in, k] += amount * g
            grad_image[p_out, k] -= amount * g
            grad_crossing += np.float64(g) * difference[n, k]
        if not to_clip or grad_crossing == 0.0:
            continue
        low, high = edges[edge[n], 0], edges[edge[n], 1]
        x0, y0, x1, y1 = screen[low, 0], screen[low, 1], screen[high, 0], screen[high, 1]
        if direction[n] % 2 == 1:
            grad_crossing = -grad_crossing
        if direction[n] < 2:
            t = (p_in // width + 0.5 - y0) / (y1 - y0)
            gx, gy = grad_crossing, -grad_crossing * (x1 - x0) / (y1 - y0)
        else:
            t = (p_in % width + 0.5 - x0) / (x1 - x0)
            gx, gy = -grad_crossing * (y1 - y0) / (x1 - x0), grad_crossing
        for end in range(2):
            v, share = (low, 1.0 - t) if end == 0 else (high, t)
            iw = screen[v, 2]
            nx, ny = 2.0 * screen[v, 0] / width - 1.0, 2.0 * screen[v, 1] / height - 1.0
            hx, hy = gx * share * 0.5 * width * iw, gy * share * 0.5 * height * iw
            grad_clip[v, 0] += hx
            grad_clip[v, 1] += hy
            grad_clip[v, 3] -= hx * nx + hy * ny
