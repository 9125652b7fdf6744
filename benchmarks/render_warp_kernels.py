"""The rasteriser written for NVIDIA Warp, the other candidate for the fast backend; imported by render_peers.py only."""

import warp as wp


@wp.func
def edge(a: wp.vec2, b: wp.vec2, x: float, y: float) -> float:
    return (b[0] - a[0]) * (y - a[1]) - (b[1] - a[1]) * (x - a[0])


@wp.kernel
def nearest(clip: wp.array2d(dtype=wp.vec4), faces: wp.array(dtype=wp.vec3i), size: int, keys: wp.array2d(dtype=wp.uint64)):
    picture, f = wp.tid()
    face = faces[f]
    p = clip[picture, face[0]]
    q = clip[picture, face[1]]
    r = clip[picture, face[2]]
    if p[3] <= 0.0 or q[3] <= 0.0 or r[3] <= 0.0:
        return
    half = 0.5 * float(size)
    a = wp.vec2((p[0] / p[3] + 1.0) * half, (p[1] / p[3] + 1.0) * half)
    b = wp.vec2((q[0] / q[3] + 1.0) * half, (q[1] / q[3] + 1.0) * half)
    c = wp.vec2((r[0] / r[3] + 1.0) * half, (r[1] / r[3] + 1.0) * half)
    left = wp.max(int(wp.ceil(wp.min(a[0], wp.min(b[0], c[0])) - 0.5)), 0)
    right = wp.min(int(wp.floor(wp.max(a[0], wp.max(b[0], c[0])) - 0.5)), size - 1)
    top = wp.max(int(wp.ceil(wp.min(a[1], wp.min(b[1], c[1])) - 0.5)), 0)
    bottom = wp.min(int(wp.floor(wp.max(a[1], wp.max(b[1], c[1])) - 0.5)), size - 1)
    area = edge(a, b, c[0], c[1])
    if area == 0.0 or left > right or top > bottom:
        return
    for j in range(top, bottom + 1):
        y = float(j) + 0.5
        for i in range(left, right + 1):
            x = float(i) + 0.5
            e0 = edge(b, c, x, y) / area
            e1 = edge(c, a, x, y) / area
            e2 = edge(a, b, x, y) / area
            if e0 >= 0.0 and e1 >= 0.0 and e2 >= 0.0:
                inverse = e0 / p[3] + e1 / q[3] + e2 / r[3]
                bits = wp.uint64(wp.cast(inverse, wp.uint32))
                key = (bits << wp.uint64(32)) | wp.uint64(wp.uint32(2147483647 - f))
                wp.atomic_max(keys, picture, j * size + i, key)


@wp.kernel
def resolve(
    clip: wp.array2d(dtype=wp.vec4),
    faces: wp.array(dtype=wp.vec3i),
    size: int,
    keys: wp.array2d(dtype=wp.uint64),
    ids: wp.array2d(dtype=wp.int32),
    out: wp.array2d(dtype=wp.vec3),
):
    picture, pixel = wp.tid()
    key = keys[picture, pixel]
    if key == wp.uint64(0):
        ids[picture, pixel] = -1
        out[picture, pixel] = wp.vec3(0.0, 0.0, 0.0)
        return
    f = 2147483647 - int(key & wp.uint64(4294967295))
    face = faces[f]
    p = clip[picture, face[0]]
    q = clip[picture, face[1]]
    r = clip[picture, face[2]]
    x = (float(pixel % size) + 0.5) * 2.0 / float(size) - 1.0
    y = (float(pixel / size) + 0.5) * 2.0 / float(size) - 1.0
    ax = p[0] - x * p[3]
    ay = p[1] - y * p[3]
    bx = q[0] - x * q[3]
    by = q[1] - y * q[3]
    cx = r[0] - x * r[3]
    cy = r[1] - y * r[3]
    e0 = bx * cy - by * cx
    e1 = cx * ay - cy * ax
    e2 = ax * by - ay * bx
    total = e0 + e1 + e2
    ids[picture, pixel] = f
    out[picture, pixel] = wp.vec3(e1 / total, e2 / total, (e0 * p[3] + e1 * q[3] + e2 * r[3]) / total)
