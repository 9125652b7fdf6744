from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.testing.animals import quadruped_mesh
from tests.testing.blobs import blob, square
from torch.autograd import gradcheck

from farm3d.core.errors import InputError
from farm3d.render.rasterize import Fragments, interpolate, rasterize
from farm3d.structures import Camera

BACKENDS = ["numba", "torch"]
SQUARE = torch.tensor([[0, 1, 2], [0, 2, 3]])


def animal_clip(pictures: int = 3, size: int = 64, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    mesh = quadruped_mesh(sides=10)
    camera = Camera.orbit(torch.linspace(0.3, 5, pictures), 0.2, size_px=size)
    return camera.clip(mesh.vertices).to(dtype), mesh.faces


def random_triangles(count: int, seed: int) -> torch.Tensor:
    """Return clip coordinates [1, 3 * count, 4] of triangles at random depths, some beside the picture, some behind the viewer."""
    generator = torch.Generator().manual_seed(seed)
    w = torch.rand(count * 3, generator=generator, dtype=torch.float64) * 4 + 0.5
    w[::17] *= -1
    xy = (torch.rand(count * 3, 2, generator=generator, dtype=torch.float64) * 3 - 1.5) * w[:, None]
    return torch.cat([xy, w[:, None] * 0.5, w[:, None]], -1)[None]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_square_covers_the_pixel_centres_inside(backend) -> None:
    # From NDC -0.5 to 0.5 on 8 pixels: from 2.0 to 6.0, centres 2.5 … 5.5.
    fragments = rasterize(square(0, 0, 0.5, 3.0)[None], SQUARE, height_px=8, width_px=8, backend=backend)
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[2:6, 2:6] = True
    assert ((fragments.face_id[0] >= 0) == expected).all()
    assert fragments.depth[0, expected].tolist() == pytest.approx([3.0] * 16)
    assert (fragments.depth[0, ~expected] == 0).all() and (fragments.barycentric[0, ~expected] == 0).all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("azimuth", "point", "ndc", "depth"),
    [
        (0.0, (0.0, 0.0, 2.0), (0.0, 0.0), 8.0),
        (-torch.pi / 2, (0.0, 0.0, 2.0), (0.902, 0.0), 10.0),
        (0.0, (0.0, 1.0, 0.0), (0.0, -0.451), 10.0),
    ],
)
def test_a_speck_is_seen_where_the_specification_says(backend, azimuth, point, ndc, depth) -> None:
    """Section 9, check a, in pixels: the head at a depth of 8 or at the right border, up toward the top row."""
    camera = Camera.orbit(azimuth, distance=10.0, fov_deg=25.0, size_px=200)
    offsets = 0.02 * torch.tensor([[1.0, 1, 1], [-1, -1, 1], [-1, 1, -1], [1, -1, -1]])
    faces = torch.tensor([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]])
    clip = camera.clip((torch.tensor(point) + offsets)[None])
    fragments = rasterize(clip, faces, height_px=200, width_px=200, backend=backend)
    rows, columns = torch.nonzero(fragments.face_id[0] >= 0, as_tuple=True)
    centre = (torch.stack([columns, rows], -1).double().mean(0) + 0.5) / 100 - 1
    assert centre.tolist() == pytest.approx(ndc, abs=0.01)
    assert fragments.depth[0, rows, columns].mean().item() == pytest.approx(depth, abs=0.03)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shapes_and_types(backend, batch, dtype) -> None:
    clip, faces = animal_clip(batch, dtype=dtype)
    fragments = rasterize(clip, faces.int(), height_px=20, width_px=30, backend=backend)
    assert fragments.face_id.shape == (batch, 20, 30) and fragments.face_id.dtype == torch.int32
    assert fragments.barycentric.shape == (batch, 20, 30, 3) and fragments.barycentric.dtype == dtype
    assert fragments.depth.dtype == dtype
    image = interpolate(torch.ones(1, clip.shape[1], 5, dtype=dtype), fragments, faces, backend=backend)
    assert image.shape == (batch, 20, 30, 5)
    assert repr(fragments).startswith("Fragments(face_id=int32[")


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_faces_and_no_channels(backend) -> None:
    faces = torch.zeros(0, 3, dtype=torch.int64)
    fragments = rasterize(torch.zeros(2, 0, 4), faces, height_px=4, width_px=4, backend=backend)
    assert (fragments.face_id == -1).all() and (fragments.depth == 0).all()
    assert interpolate(torch.zeros(1, 0, 3), fragments, faces, backend=backend).shape == (2, 4, 4, 3)
    clip, faces = animal_clip(1)
    fragments = rasterize(clip, faces, height_px=4, width_px=4, backend=backend)
    assert interpolate(torch.zeros(1, clip.shape[1], 0), fragments, faces, backend=backend).shape == (1, 4, 4, 0)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_barycentrics_place_the_corners_on_the_pixel_centre(backend, dtype) -> None:
    clip, faces = animal_clip(dtype=dtype)
    fragments = rasterize(clip, faces, height_px=64, width_px=64, backend=backend)
    covered = fragments.face_id >= 0
    assert 0.05 < covered.double().mean() < 0.5
    b = fragments.barycentric[covered]
    assert (b >= -1e-5).all()
    torch.testing.assert_close(b.sum(-1), torch.ones_like(b[:, 0]))
    # The weighted corners project onto the centre of the pixel, and their w is the depth.
    hit = interpolate(clip, fragments, faces, backend=backend)
    y, x = torch.meshgrid(torch.arange(64) + 0.5, torch.arange(64) + 0.5, indexing="ij")
    pixels = (hit[..., :2] / hit[..., 3:] + 1) * 32
    torch.testing.assert_close(pixels[covered], torch.stack([x, y], -1).expand(3, -1, -1, -1)[covered].to(dtype), rtol=0, atol=1e-3)
    torch.testing.assert_close(hit[..., 3], fragments.depth)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("seed", range(4))
def test_both_backends_see_the_same_faces(dtype, seed) -> None:
    clip = random_triangles(300, seed).to(dtype)
    faces = torch.arange(clip.shape[1]).view(-1, 3)
    fast, plain = (rasterize(clip, faces, height_px=37, width_px=53, backend=backend) for backend in BACKENDS)
    assert (fast.face_id >= 0).any() and (fast.face_id == plain.face_id).all()
    torch.testing.assert_close(fast.barycentric, plain.barycentric)
    torch.testing.assert_close(fast.depth, plain.depth)


@pytest.mark.parametrize("backend", BACKENDS)
def test_equally_near_faces_show_the_lower_number(backend) -> None:
    seen = rasterize(square(0, 0, 0.7, 2.0)[None], torch.cat([SQUARE, SQUARE]), height_px=16, width_px=16, backend=backend).face_id
    assert set(seen.unique().tolist()) == {-1, 0, 1}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("angle", [0.0, 0.1, 0.7853981, 1.234])
def test_there_are_no_cracks(dtype, angle) -> None:
    """A turned lattice, many of whose vertices and edges hit pixel centres exactly, covers everything between its borders."""
    n = 33
    step = torch.linspace(-2, 2, n, dtype=torch.float64)
    x, y = torch.meshgrid(step, step, indexing="ij")
    turned = torch.stack(
        [
            x * torch.cos(torch.tensor(angle)) - y * torch.sin(torch.tensor(angle)),
            x * torch.sin(torch.tensor(angle)) + y * torch.cos(torch.tensor(angle)),
        ],
        -1,
    )
    w = 2 + 0.3 * torch.sin(3 * x)
    clip = torch.cat([turned * w[..., None], w[..., None] * 0.2, w[..., None]], -1).reshape(1, -1, 4).to(dtype)
    corner = torch.arange(n * n).view(n, n)
    a, b, c, d = (corner[i : n - 1 + i, j : n - 1 + j].reshape(-1) for i, j in ((0, 0), (1, 0), (1, 1), (0, 1)))
    faces = torch.cat([torch.stack([a, b, c], -1), torch.stack([a, c, d], -1)])
    assert (rasterize(clip, faces, height_px=64, width_px=64).face_id >= 0).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_nearest_of_all_rays_is_seen(backend) -> None:
    """Against brute force: intersect every pixel's ray with every triangle."""
    clip = random_triangles(40, 7)
    corners = clip[0].view(-1, 3, 4)
    fragments = rasterize(clip, torch.arange(clip.shape[1]).view(-1, 3), height_px=24, width_px=24, backend=backend)
    y, x = torch.meshgrid(*[(torch.arange(24, dtype=torch.float64) + 0.5) / 12 - 1] * 2, indexing="ij")
    direction = torch.stack([x, y, torch.ones_like(x)], -1).view(-1, 1, 3)
    solution = torch.linalg.solve(corners[None, ..., [0, 1, 3]].transpose(-1, -2), direction.expand(-1, len(corners), -1)[..., None])[
        ..., 0
    ]
    distance = 1 / solution.sum(-1)
    drawn = (corners[..., 3] > 0).all(-1)
    distance = torch.where((solution >= 0).all(-1) & drawn, distance, torch.inf)
    nearest, face = distance.min(-1)
    expected = torch.where(nearest.isinf(), -1, face).view(24, 24)
    assert (fragments.face_id[0] == expected).double().mean() > 0.995  # but for centres within rounding of an edge
    same = (fragments.face_id[0] == expected) & (expected >= 0)
    torch.testing.assert_close(fragments.depth[0][same], nearest.view(24, 24)[same])


@pytest.mark.parametrize("backend", BACKENDS)
def test_faces_through_the_near_plane_are_dropped_and_harm_nothing(backend) -> None:
    clip = torch.cat([square(0, 0, 0.6, 2.0), square(0, 0, 0.9, 1.0)])[None]
    clip[0, 4:, 2:] = torch.tensor([[0.0, 1.0], [0, 1], [-2, 1], [0, -1]])  # one corner nearer than the near plane, one behind
    clip.requires_grad_()
    fragments = rasterize(clip, torch.cat([SQUARE, SQUARE + 4]), height_px=16, width_px=16, backend=backend)
    assert set(fragments.face_id.unique().tolist()) == {-1, 0, 1}
    (fragments.barycentric.square().sum() + fragments.depth.sum()).backward()
    assert clip.grad is not None and clip.grad.isfinite().all() and (clip.grad[0, 4:] == 0).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_senseless_vertices_harm_nothing(backend) -> None:
    clip = square(0, 0, 0.6, 2.0)[None]
    for value in (float("nan"), float("inf"), -float("inf"), 1e300):
        for column in range(4):
            broken = torch.cat([clip, clip], 1)
            broken[0, 6, column] = value
            fragments = rasterize(broken, torch.cat([SQUARE, SQUARE + 4]), height_px=16, width_px=16, backend=backend)
            # Nothing senseless is drawn; an infinite z is merely far away, and the faces stay those of the whole square.
            assert fragments.barycentric.isfinite().all() and set(fragments.face_id.unique().tolist()) == {-1, 0, 1}


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_of_barycentrics_depth_and_attributes(backend) -> None:
    """Finite differences in float64: d(interpolated attribute) / d(position), as the fit uses it."""
    generator = torch.Generator().manual_seed(3)
    vertices, faces = blob(2, dtype=torch.float64)
    camera = Camera.orbit(torch.tensor([0.4]), 0.3, size_px=7).to(torch.float64)
    clip = camera.clip(vertices).requires_grad_()
    attributes = torch.randn(1, len(vertices), 2, generator=generator, dtype=torch.float64, requires_grad=True)

    def draw(clip: torch.Tensor, attributes: torch.Tensor) -> tuple[torch.Tensor, ...]:
        fragments = rasterize(clip, faces, height_px=7, width_px=7, backend=backend)
        return fragments.barycentric, fragments.depth, interpolate(attributes, fragments, faces, backend=backend)

    assert gradcheck(draw, (clip, attributes), fast_mode=False)


def test_both_backends_have_the_same_gradients() -> None:
    clip, faces = animal_clip()
    results = []
    for backend in BACKENDS:
        x = clip.clone().requires_grad_()
        a = clip[:1, :, :3].clone().requires_grad_()
        fragments = rasterize(x, faces, height_px=64, width_px=64, backend=backend)
        (interpolate(a, fragments, faces, backend=backend).square().sum() + fragments.depth.square().sum()).backward()
        assert x.grad is not None and a.grad is not None
        results.append((x.grad, a.grad))
    for fast, plain in zip(*results):
        torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-4 * plain.abs().max().item())


def test_what_cannot_be_drawn_is_said() -> None:
    clip, faces = square(0, 0, 0.5, 1.0)[None], SQUARE
    with pytest.raises(InputError, match="0 x 4 pixels"):
        rasterize(clip, faces, height_px=4, width_px=0)
    with pytest.raises(InputError, match="vertex 9, but there are 4"):
        rasterize(clip, torch.tensor([[0, 1, 9]]), height_px=4, width_px=4)
    with pytest.raises(InputError, match="float16"):
        rasterize(clip.half(), faces, height_px=4, width_px=4)
    with pytest.raises(InputError, match="'numba', 'torch' or None"):
        rasterize(clip, faces, height_px=4, width_px=4, backend="cuda")
    fragments = rasterize(clip, faces, height_px=4, width_px=4)
    with pytest.raises(InputError, match="3 sets of attributes for 1 pictures"):
        interpolate(torch.zeros(3, 4, 1), fragments, faces)


def test_a_wrong_shape_is_found() -> None:
    with pytest.raises(Exception, match="clip"):
        rasterize(torch.zeros(4, 4), SQUARE, height_px=4, width_px=4)


def _draw_with(threads: int) -> list[torch.Tensor]:
    clip, faces = animal_clip(5)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        x = clip.clone().requires_grad_()
        a = clip[:1].clone().requires_grad_()
        fragments = rasterize(x, faces, height_px=48, width_px=48, backend="numba")
        image = interpolate(a, fragments, faces, backend="numba")
        image.backward(torch.ones_like(image))
        assert x.grad is not None and a.grad is not None
        return [fragments.face_id, fragments.barycentric, fragments.depth, image.detach(), x.grad, a.grad]
    finally:
        torch.set_num_threads(before)


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    first = _draw_with(1)
    for threads in (2, 3, 2):
        assert all(torch.equal(a, b) for a, b in zip(first, _draw_with(threads)))


def test_kernels_work_where_nothing_can_be_written(tmp_path: Path) -> None:
    """A full disk, and a function that no folder could hold: compiled all the same."""
    program = """
import resource, signal, sys
import numpy as np
from farm3d.render import _kernels
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (16, 16))
screen = np.empty((1, 3))
_kernels.project(np.array([[0.0, 0.0, 0.0, 2.0]]), 10, 20, screen)
assert screen.tolist() == [[10.0, 5.0, 0.5]], screen
space = {}
exec("def plus(x): return x + 1", space)
assert _kernels.compiled(space["plus"])(1) == 2
"""
    pytest.importorskip("resource", reason="no resource limits on this system: cannot simulate a full disk")
    import os

    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr


@pytest.mark.gpu
def test_the_reference_draws_the_same_on_a_gpu() -> None:
    clip, faces = animal_clip()
    here = rasterize(clip, faces, height_px=64, width_px=64)
    there: Fragments = rasterize(clip.cuda(), faces.cuda(), height_px=64, width_px=64)
    assert (here.face_id == there.face_id.cpu()).double().mean() > 0.9999  # a GPU may contract a * b + c
    torch.testing.assert_close(here.depth, there.depth.cpu(), rtol=1e-4, atol=1e-4)
