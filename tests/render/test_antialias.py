"""Edge-driven antialiasing against exact areas, true area changes and finite differences; self-occlusion above all."""

from __future__ import annotations

import pytest
import torch
from tests.testing.animals import quadruped_mesh
from tests.testing.blobs import blob, silhouette_area, square, true_area_gradient, walking
from torch.autograd import gradcheck

from farm3d.core.errors import InputError
from farm3d.render.rasterize import antialias, edge_topology, interpolate, rasterize
from farm3d.render.renderer import render_attributes
from farm3d.structures import Camera

BACKENDS = ["numba", "torch"]
SQUARE = torch.tensor([[0, 1, 2], [0, 2, 3]])


def draw(clip: torch.Tensor, faces: torch.Tensor, colours: torch.Tensor, size: int, backend: str, width: int | None = None) -> torch.Tensor:
    """Return colours and a mask channel [B, H, W, C + 1], antialiased, on black."""
    fragments = rasterize(clip, faces, height_px=size, width_px=width or size, backend=backend)
    mask = (fragments.face_id >= 0)[..., None].to(clip.dtype)
    image = torch.cat([interpolate(colours, fragments, faces, backend=backend), mask], -1)
    return antialias(image, fragments, clip, faces, backend=backend)


def flat(*colours: float) -> torch.Tensor:
    """Return one colour for each square of four vertices, [1, 4 n, 1]."""
    return torch.tensor(colours, dtype=torch.float64).repeat_interleave(4)[None, :, None]


def squares(*parts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Join squares of four clip-space vertices into one mesh."""
    return torch.cat(parts)[None], torch.cat([SQUARE + 4 * i for i in range(len(parts))])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("half", [0.5, 0.55, 0.6, 0.6249, 0.6251, 0.7])
def test_a_square_has_its_exact_coverage(backend, half) -> None:
    """On 16 pixels a side of 2 * half NDC is 16 * half pixels; pixels on a side get the share covered, corners too up to 1/4."""
    mask = draw(*squares(square(0, 0, half, 3.0)), flat(1.0), 16, backend)[0, ..., 1]
    outer = 8 + 8 * half  # where the right side is, in pixels
    row = mask[8]
    pixel = int(outer)
    assert row[pixel].item() == pytest.approx(outer - pixel, abs=1e-9)
    assert (row[pixel + 1 :] == 0).all() and (row[8:pixel] == 1).all()
    torch.testing.assert_close(mask, mask.flip(0))
    torch.testing.assert_close(mask, mask.T)


@pytest.mark.parametrize("backend", BACKENDS)
def test_in_front_of_another_part_colours_blend_and_the_mask_does_not(backend) -> None:
    """A leg before the body: a small square in the middle of a farther, larger one of the same mesh."""
    clip, faces = squares(square(0, 0, 0.9, 4.0), square(0, 0, 0.55, 3.0))
    image = draw(clip, faces, flat(0.2, 1.0), 16, backend)[0]
    outer = 8 + 8 * 0.55
    assert image[8, int(outer), 0].item() == pytest.approx(0.2 + 0.8 * (outer - int(outer)))
    torch.testing.assert_close(image[2:14, 2:14, 1], torch.ones(12, 12, dtype=torch.float64))


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_lies_behind_leaves_no_trace(backend) -> None:
    """A small square hidden by a nearer, larger one changes nothing, neither in the picture nor in the gradients."""
    front = square(0.03, -0.02, 0.7, 3.0)
    clip, faces = squares(front, square(0.1, 0.05, 0.37, 4.0))
    clip.requires_grad_()
    image = draw(clip, faces, flat(0.6, 0.1), 24, backend)
    torch.testing.assert_close(image, draw(*squares(front), flat(0.6), 24, backend))
    image.square().sum().backward()
    assert clip.grad is not None
    assert clip.grad[0, :4].abs().max() > 0.1 and (clip.grad[0, 4:] == 0).all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("seed", range(6))
def test_an_edge_that_ends_just_inside_a_slanted_outline_moves_no_area(backend, seed) -> None:
    """A hidden edge may pass between the last covered centre and the first uncovered one; only the outermost edge counts there.

    A turned square hides a slightly smaller, farther one: all of the latter's edges run a fraction of a pixel inside the outline.
    """
    generator = torch.Generator().manual_seed(seed)
    angle = torch.rand(1, generator=generator, dtype=torch.float64) * 6.3
    turn = torch.stack([torch.cat([angle.cos(), -angle.sin()]), torch.cat([angle.sin(), angle.cos()])])

    def turned(half: float, distance: float) -> torch.Tensor:
        part = square(0, 0, half, distance)
        return torch.cat([part[:, :2] @ turn.T, part[:, 2:]], -1)

    clip, faces = squares(turned(0.6, 3.0), turned(0.6 - 0.01, 3.2))
    clip.requires_grad_()
    mask = draw(clip, faces, flat(0.6, 0.6), 32, backend)[..., 1]
    alone = draw(*squares(turned(0.6, 3.0)), flat(0.6), 32, backend)[..., 1]
    torch.testing.assert_close(mask, alone)
    mask.sum().backward()
    assert clip.grad is not None and (clip.grad[0, 4:] == 0).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_moving_a_part_before_another_changes_the_colour_by_the_area_swept(backend) -> None:
    """d(sum of colour) / d(shift to the right) = height * ((front - behind at the right side) - (front - behind at the left side))."""
    clip, faces = squares(square(-0.4, 0, 0.9, 4.0), square(0.25, 0, 0.61, 3.0))  # over the body on its left, over nothing on its right
    shift = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    moved = clip + torch.cat([torch.zeros(4, dtype=torch.float64), 3.0 * shift.expand(4)])[None, :, None] * torch.tensor([1.0, 0, 0, 0])
    image = draw(moved, faces, flat(0.2, 1.0), 32, backend, width=48)
    (colour,) = torch.autograd.grad(image[..., 0].sum(), shift, retain_graph=True)
    (mask,) = torch.autograd.grad(image[..., 1].sum(), shift)
    rows, pixels = 20, 24  # pixel rows whose centres the part covers (0.61 of 32, rounded); pixels per unit of NDC across
    assert colour.item() == pytest.approx(rows * pixels * ((1.0 - 0.0) - (1.0 - 0.2)), rel=1e-6)
    assert mask.item() == pytest.approx(rows * pixels, rel=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("flip", [False, True])
def test_the_winding_does_not_matter(backend, flip) -> None:
    vertices, faces = blob(6, dtype=torch.float64)
    clip = Camera.orbit(torch.tensor([0.3]), 0.2, size_px=32).to(torch.float64).clip(vertices)
    turned = faces.flip(1) if flip else torch.cat([faces[::2].flip(1), faces[1::2]])  # all, or half of them
    colours = vertices[None]
    torch.testing.assert_close(draw(clip, turned, colours, 32, backend).sum(), draw(clip, faces, colours, 32, backend).sum())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_both_backends_agree_on_a_walking_animal(dtype) -> None:
    mesh = quadruped_mesh(sides=10)
    camera = Camera.orbit(torch.tensor([0.1, 1.4, 2.9]), 0.15, distance=8.0, size_px=72)
    clip = camera.clip(mesh.vertices).to(dtype)
    colours = torch.rand(3, clip.shape[1], 4, generator=torch.Generator().manual_seed(0)).to(dtype)
    weight = torch.randn(3, 64, 72, 5, generator=torch.Generator().manual_seed(1)).to(dtype)
    results = []
    for backend in BACKENDS:
        x, c = clip.clone().requires_grad_(), colours.clone().requires_grad_()
        image = draw(x, mesh.faces, c, 64, backend, width=72)
        (image * weight).sum().backward()
        assert x.grad is not None and c.grad is not None
        results.append((image.detach(), c.grad, x.grad))
    for fast, plain in zip(*results):
        torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-5 * plain.abs().max().item())


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_of_every_pixel(backend) -> None:
    """Finite differences in float64, of the picture with respect to positions and colours, on a mesh that hides parts of itself."""
    vertices, faces = blob(1, dtype=torch.float64)
    near = vertices * 0.45 + torch.tensor([0.4, 0.3, 1.5], dtype=torch.float64)
    vertices, faces = torch.cat([vertices, near]), torch.cat([faces, faces + len(vertices)])
    clip = Camera.orbit(torch.tensor([0.3]), 0.2, size_px=9).to(torch.float64).clip(vertices).requires_grad_()
    colours = torch.rand(1, len(vertices), 1, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).requires_grad_()
    assert gradcheck(lambda x, c: draw(x, faces, c, 9, backend), (clip, colours))


# --- silhouette gradients ---------------------------------------------------------------------------------------------------------

VIEWS = (torch.tensor([0.3, 1.4, 2.9, 4.4]), torch.tensor([0.2, -0.3, 0.5, 0.0]))


def area_gradient(vertices: torch.Tensor, faces: torch.Tensor, camera: Camera, backend: str | None = None) -> torch.Tensor:
    """Return d(sum of the mask) / d(scale) for every view."""
    scale = torch.ones(len(camera.intrinsics), requires_grad=True)
    _, mask = render_attributes(vertices * scale[:, None, None], faces, camera, vertices[None, :, :0], backend=backend)
    (gradient,) = torch.autograd.grad(mask.sum(), scale)
    return gradient


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("cells", "size"), [(4, 64), (16, 64), (29, 64), (29, 128), (58, 128)])
def test_the_mask_feels_its_whole_outline_however_small_the_triangles(backend, cells, size) -> None:
    """From 192 to 40 thousand triangles; the rule that looks at the triangle under the pixel centre finds 84 to 98 % less."""
    vertices, faces = blob(cells)
    camera = Camera.orbit(*VIEWS, size_px=size)
    ratio = area_gradient(vertices, faces, camera, backend) / true_area_gradient(vertices, faces, camera)
    assert 0.97 < ratio.mean() < 1.03
    assert (ratio - 1).abs().max() < 0.06


@pytest.mark.parametrize("cells", [4, 29])
def test_the_sum_of_the_mask_is_the_area(cells) -> None:
    vertices, faces = blob(cells)
    camera = Camera.orbit(*VIEWS, size_px=64)
    vertices = vertices.expand(4, -1, -1)
    _, mask = render_attributes(vertices, faces, camera, vertices[:1, :, :0])
    torch.testing.assert_close(mask.sum((1, 2)).double(), silhouette_area(vertices, faces, camera), rtol=2e-3, atol=0)


@pytest.mark.parametrize("size", [64, 128])
def test_the_mask_feels_the_outline_of_crossing_legs(size) -> None:
    """Twenty-four views of a walk: one view at 64 pixels scatters by a few percent, for its legs are three pixels wide."""
    camera = Camera.orbit(torch.tensor([1.57, 1.2, 0.6, 0.1, 2.4, 4.5, 5.3, 3.4]), 0.1, size_px=size)
    shares = []
    for time_s in (0.0, 0.3, 0.6):
        vertices, faces = walking(time_s=time_s)
        shares.append(area_gradient(vertices, faces, camera) / true_area_gradient(vertices, faces, camera))
    assert torch.stack(shares).mean().item() == pytest.approx(1.0, abs=0.03)
    assert (torch.stack(shares) - 1).abs().max() < 0.25


def test_colours_feel_the_outlines_of_legs_before_legs_and_body() -> None:
    """d(sum of colour) / d(scale) with one colour a part, against a fine picture: outlines inside the silhouette count as well.

    The parts are pulled apart first: the line where a leg grows out of the body is no edge of the mesh and has no gradient.
    """
    vertices, faces = walking()
    camera = Camera.orbit(torch.tensor([1.57, 1.2, 0.6, 0.1, 2.4, 4.5, 5.3, 3.4]), 0.1, size_px=128)
    edges = edge_topology(faces).edges.long()
    part = torch.arange(len(vertices))
    while True:  # connected parts: the lowest vertex number spreads along the edges
        lowest = part.scatter_reduce(0, edges[:, 0], part[edges[:, 1]], "amin").scatter_reduce(0, edges[:, 1], part[edges[:, 0]], "amin")
        if torch.equal(lowest, part):
            break
        part = lowest
    names, part = part.unique(return_inverse=True)
    assert len(names) == 6
    for number in range(6):
        x, _, z = vertices[part == number].mean(0).tolist()
        if abs(x) > 0.05:
            vertices[part == number, 0] += 0.4 if x > 0 else -0.4
        elif z < -0.5:
            vertices[part == number, 2] -= 0.4
    colours = torch.rand(6, 3, generator=torch.Generator().manual_seed(5))[part]

    def summed(scale: float, fine: int = 1024) -> torch.Tensor:
        clip = camera.resized(fine, fine).clip((vertices * scale).expand(8, -1, -1))
        fragments = rasterize(clip, faces, height_px=fine, width_px=fine)
        return interpolate(colours[None], fragments, faces).double().mean((0, 1, 2)) * 128 * 128 * 8

    scale = torch.ones(8, requires_grad=True)
    image, _ = render_attributes(vertices * scale[:, None, None], faces, camera, colours[None])
    gradient = torch.stack([torch.autograd.grad(image[..., k].sum(), scale, retain_graph=True)[0].sum() for k in range(3)])
    share = gradient / ((summed(1.015) - summed(0.985)) / 0.03)
    assert share.tolist() == pytest.approx([1.0, 1.0, 1.0], abs=0.04)


def test_what_does_not_fit_is_said() -> None:
    clip, faces = squares(square(0, 0, 0.5, 2.0))
    fragments = rasterize(clip, faces, height_px=8, width_px=8)
    with pytest.raises(InputError, match="differ in size"):
        antialias(torch.zeros(1, 8, 9, 1), fragments, clip, faces)
