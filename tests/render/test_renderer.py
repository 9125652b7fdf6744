from __future__ import annotations

import pytest
import torch
from tests.testing.animals import quadruped
from tests.testing.blobs import blob
from torch.autograd import gradcheck

from farm3d.core.errors import InputError
from farm3d.render.renderer import RenderOutput, Texture, render, render_attributes
from farm3d.structures import Camera, Light

BACKENDS = ["numba", "torch"]
LAMP = Light(torch.tensor([0.0, 0.6, 0.8]), torch.tensor(0.3), torch.tensor(0.5))
# A square in the plane z = 0 that faces +z, its corners counter-clockwise from the lower left.
SHEET = torch.tensor([[[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]])
SHEET_FACES = torch.tensor([[0, 1, 2], [0, 2, 3]])
SHEET_UV = torch.tensor([[0.0, 1], [1, 1], [1, 0], [0, 0]])  # origin at the top left


def wide(*azimuth: float, size: int = 32) -> Camera:
    return Camera.orbit(torch.tensor(azimuth), 0.0, fov_deg=14.0, size_px=size)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("batched_camera", [False, True])
def test_shapes(backend, batch, batched_camera) -> None:
    animal = quadruped(sides=6)
    vertices = animal.rest.vertices.expand(batch, -1, -1)
    camera = Camera.orbit(torch.full((batch,), 0.5) if batched_camera else 0.5, distance=8.0, size_px=24).resized(30, 24)
    features = torch.rand(1, vertices.shape[1], 7)
    picture = render(vertices, animal.rest.faces, camera, animal.light, albedo=features[..., :3], features=features, backend=backend)
    assert picture.rgb.shape == picture.normals.shape == (batch, 24, 30, 3)
    assert picture.mask.shape == picture.depth.shape == (batch, 24, 30)
    assert picture.features is not None and picture.features.shape == (batch, 24, 30, 7)
    assert repr(picture).startswith("RenderOutput(rgb=float32[")
    image, mask = render_attributes(vertices, animal.rest.faces, camera, features, backend=backend)
    torch.testing.assert_close(image, picture.features)
    torch.testing.assert_close(mask.clamp(0, 1), picture.mask)


def test_one_mesh_serves_many_cameras() -> None:
    animal = quadruped(sides=6)
    cameras = Camera.orbit(torch.tensor([0.0, 1.0, 2.0]), distance=8.0, size_px=24)
    attributes = animal.rest.vertices[None]
    together, masks = render_attributes(attributes, animal.rest.faces, cameras, attributes)
    for i in range(3):
        alone, mask = render_attributes(attributes, animal.rest.faces, Camera.orbit(float(i), distance=8.0, size_px=24), attributes)
        torch.testing.assert_close(together[i], alone[0])
        torch.testing.assert_close(masks[i], mask[0])
    assert render(attributes, animal.rest.faces, cameras, LAMP, albedo=attributes).rgb.shape == (3, 24, 24, 3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_sheet_shows_its_front_and_its_back_lit(backend) -> None:
    camera = wide(0.0, torch.pi)
    picture = render(SHEET.expand(2, -1, -1), SHEET_FACES, camera, LAMP, albedo=torch.full((1, 4, 3), 0.5), background=0.1, backend=backend)
    # Both sides turn their normal to the viewer, +z of the camera: 0.5 * (0.3 + 0.5 * 0.8).
    assert picture.rgb[:, 16, 16].flatten().tolist() == pytest.approx([0.35] * 6, abs=1e-5)
    torch.testing.assert_close(picture.normals[:, 16, 16], torch.tensor([[0.0, 0, 1]] * 2), rtol=0, atol=1e-4)
    assert picture.rgb[:, 0, 0].flatten().tolist() == pytest.approx([0.1] * 6)
    assert picture.depth[:, 16, 16].tolist() == pytest.approx([10.0, 10.0], abs=1e-4) and (picture.depth[:, 0, 0] == 0).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_texture_stands_upright(backend) -> None:
    image = torch.tensor([[[1.0, 0, 0], [0, 1, 0]], [[0, 0, 1], [1, 1, 1]]])  # red, green; blue, white
    flat = Light(torch.tensor([0.0, 0.0, 1.0]), torch.tensor(1.0), torch.tensor(0.0))
    albedo = Texture(SHEET_UV, SHEET_FACES, image)
    rgb = render(SHEET, SHEET_FACES, wide(0.0), flat, albedo=albedo, backend=backend).rgb[0]
    corners = torch.stack([rgb[9, 9], rgb[9, 22], rgb[22, 9], rgb[22, 22]])
    torch.testing.assert_close(corners, image.reshape(4, 3), rtol=0, atol=0.02)
    assert rgb[15:17, 15:17].reshape(-1, 3).mean(0).tolist() == pytest.approx([0.5, 0.5, 0.5], abs=1e-4)  # bilinear in between


def test_a_field_may_colour_the_surface() -> None:
    vertices, faces = blob(6)
    from farm3d.render.rasterize import Fragments, interpolate

    def field(fragments: Fragments) -> torch.Tensor:
        return interpolate(vertices[None], fragments, faces).sin()

    camera = Camera.orbit(0.7, size_px=24)
    by_field = render(vertices[None], faces, camera, LAMP, albedo=field).rgb
    by_vertex = render(vertices[None], faces, camera, LAMP, albedo=vertices[None].sin()).rgb
    torch.testing.assert_close(by_field, by_vertex, rtol=0, atol=0.02)


def test_smooth_normals_point_out_of_a_ball_and_face_the_viewer() -> None:
    vertices, faces = blob(20)
    ball = torch.nn.functional.normalize(vertices, dim=-1)
    camera = Camera.orbit(torch.tensor([0.4]), 0.3, size_px=64)
    picture = render(
        ball[None], faces, camera, LAMP, albedo=ball[None], features=camera.to_camera(ball) - camera.to_camera(torch.zeros(1, 3))
    )
    inner = picture.normals[..., 2] > 0.3
    assert inner.sum() > 600 and picture.features is not None
    outward = torch.nn.functional.normalize(picture.features, dim=-1)
    assert (picture.normals * outward).sum(-1)[inner].min() > 0.999
    lengths = picture.normals.norm(dim=-1)
    torch.testing.assert_close(lengths[picture.depth > 0], torch.ones_like(lengths[picture.depth > 0]))
    assert (lengths[picture.depth == 0] == 0).all()


@pytest.mark.parametrize("background", [0.4, torch.tensor([0.1, 0.2, 0.3]), torch.rand(16, 16, 3), torch.rand(2, 16, 16, 3)])
@pytest.mark.parametrize("backend", BACKENDS)
def test_backgrounds(backend, background) -> None:
    vertices, faces = blob(4)
    camera = Camera.orbit(torch.tensor([0.0, 1.0]), size_px=16)
    image, mask = render_attributes(
        vertices.expand(2, -1, -1), faces, camera, torch.ones(1, len(vertices), 3), background=background, backend=backend
    )
    expected = torch.as_tensor(background).expand(2, 16, 16, 3)
    empty = mask == 0
    assert empty.any() and (mask == 1).any()
    assert torch.equal(image[empty], expected[empty])
    torch.testing.assert_close(image[mask == 1], torch.ones_like(image[mask == 1]))
    if not isinstance(background, float) and background.ndim == 4:
        lit = render(
            vertices.expand(2, -1, -1), faces, camera, LAMP, albedo=torch.ones(1, len(vertices), 3), background=background, supersample=2
        )
        away = torch.nn.functional.max_pool2d(lit.mask[:, None], 3, 1, 1)[:, 0] == 0
        torch.testing.assert_close(lit.rgb[away], expected[away])


@pytest.mark.parametrize("backend", BACKENDS)
def test_supersampling_is_the_mean_of_a_larger_picture(backend) -> None:
    animal = quadruped(sides=8)
    vertices = animal.rest.vertices[None]
    camera = Camera.orbit(1.0, 0.2, distance=8.0, size_px=20)
    assert animal.rest.uv is not None and animal.rest.faces_uv is not None
    albedo = Texture(animal.rest.uv, animal.rest.faces_uv, animal.albedo)
    small = render(vertices, animal.rest.faces, camera, LAMP, albedo=albedo, supersample=3, backend=backend)
    large = render(vertices, animal.rest.faces, camera.resized(60, 60), LAMP, albedo=albedo, backend=backend)
    torch.testing.assert_close(small.rgb, torch.nn.functional.avg_pool2d(large.rgb.permute(0, 3, 1, 2), 3).permute(0, 2, 3, 1))
    seen = small.depth > 0
    assert seen.any() and (small.depth[seen] - 8).abs().max() < 2  # uncovered samples do not pull the mean toward 0


def test_the_fused_pass_equals_the_stages_and_the_reference() -> None:
    animal = quadruped(sides=8)
    camera = Camera.orbit(torch.tensor([0.2, 2.0]), 0.1, distance=8.0, size_px=40)
    weight = torch.randn(2, 40, 40, 4, generator=torch.Generator().manual_seed(4))
    for antialiased in (True, False):
        results = []
        for backend in BACKENDS:
            x = animal.rest.vertices.expand(2, -1, -1).clone().requires_grad_()
            a = animal.rest.vertices.sin()[None].clone().requires_grad_()
            b = torch.full((40, 40, 3), 0.5, requires_grad=True)
            image, mask = render_attributes(x, animal.rest.faces, camera, a, background=b, antialiased=antialiased, backend=backend)
            (torch.cat([image, mask[..., None]], -1) * weight).sum().backward()
            assert x.grad is not None and a.grad is not None and b.grad is not None
            results.append((image.detach(), mask.detach(), x.grad, a.grad, b.grad))
        for fast, plain in zip(*results):
            torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-5 * plain.abs().max().item())


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_reach_vertices_camera_attributes_and_background(backend) -> None:
    vertices, faces = blob(1, dtype=torch.float64)
    camera = Camera.orbit(torch.tensor([0.3]), 0.2, size_px=8).to(torch.float64)
    matrix, lens = camera.T_camera_world.clone().requires_grad_(), camera.intrinsics.clone().requires_grad_()
    colours, background = (
        torch.rand(1, 8, 2, dtype=torch.float64, requires_grad=True),
        torch.rand(2, dtype=torch.float64, requires_grad=True),
    )

    def draw(vertices, matrix, lens, colours, background):
        view = Camera(matrix, lens, 8, 8)
        return render_attributes(vertices, faces, view, colours, background=background, backend=backend)

    assert gradcheck(draw, (vertices[None].requires_grad_(), matrix, lens, colours, background))


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_of_the_deferred_renderer(backend) -> None:
    vertices, faces = blob(1, dtype=torch.float64)
    camera = Camera.orbit(torch.tensor([0.3]), 0.2, size_px=6).to(torch.float64)
    direction = torch.tensor([0.1, 0.6, 0.7], dtype=torch.float64, requires_grad=True)
    strengths = torch.tensor([0.3, 0.5], dtype=torch.float64, requires_grad=True)
    texture = torch.rand(3, 3, 3, dtype=torch.float64, requires_grad=True)
    uv = torch.rand(len(vertices), 2, dtype=torch.float64)

    def draw(vertices, direction, strengths, texture):
        lamp = Light(direction, strengths[0], strengths[1])
        picture = render(vertices, faces, camera, lamp, albedo=Texture(uv, faces, texture), supersample=2, backend=backend)
        return picture.rgb, picture.normals, picture.depth

    assert gradcheck(draw, (vertices[None].requires_grad_(), direction, strengths, texture))


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    animal = quadruped(sides=8)
    camera = Camera.orbit(torch.linspace(0, 5, 5), distance=8.0, size_px=40)
    results = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            x, a = animal.rest.vertices.expand(5, -1, -1).clone().requires_grad_(), animal.rest.vertices[None].clone().requires_grad_()
            image, mask = render_attributes(x, animal.rest.faces, camera, a)
            torch.autograd.backward([image, mask], [image.detach(), mask.detach()])
            assert x.grad is not None and a.grad is not None
            results.append((image.detach(), mask.detach(), x.grad, a.grad))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(one, two) for one, two in zip(results[0], other))


def test_an_outline_is_fitted_by_gradient() -> None:
    """What it is for: a ball finds the size and place of another from its mask alone."""
    vertices, faces = blob(12)
    camera = Camera.orbit(0.4, size_px=48)
    _, target = render_attributes((vertices * 1.2 + torch.tensor([0.2, -0.1, 0.1]))[None], faces, camera, vertices[None, :, :0])
    scale, shift = torch.tensor(0.8, requires_grad=True), torch.zeros(3, requires_grad=True)
    optimiser = torch.optim.Adam([scale, shift], lr=0.03)
    for _ in range(60):
        optimiser.zero_grad()
        _, mask = render_attributes((vertices * scale + shift)[None], faces, camera, vertices[None, :, :0])
        loss = (mask - target).square().mean()
        loss.backward()
        optimiser.step()
    assert loss.item() < 1e-3
    overlap = torch.minimum(mask, target).sum() / torch.maximum(mask, target).sum()
    assert overlap > 0.97


def test_what_cannot_be_drawn_is_said() -> None:
    vertices, faces = blob(2)
    camera = Camera.orbit(torch.tensor([0.0, 1.0]), size_px=8)
    with pytest.raises(InputError, match="background of shape \\[3, 8, 8, 3\\]"):
        render_attributes(vertices[None], faces, camera, vertices[None], background=torch.zeros(3, 8, 8, 3))
    with pytest.raises(InputError, match="3 sets of attributes for 2 pictures"):
        render_attributes(vertices[None], faces, camera, vertices.expand(3, -1, -1))
    with pytest.raises(InputError, match="there are 26 vertices"):
        render_attributes(vertices[None], faces + 1, camera, vertices[None])
    with pytest.raises(Exception, match="attributes"):  # the shape check, where it is on
        render_attributes(vertices[None], faces, camera, vertices[None, :7])
    with pytest.raises(InputError, match="supersample = 0"):
        render(vertices[None], faces, camera, LAMP, albedo=vertices[None], supersample=0)
    with pytest.raises(InputError, match="texture faces"):
        render(vertices[None], faces, camera, LAMP, albedo=Texture(SHEET_UV, SHEET_FACES, torch.zeros(2, 2, 3)))


@pytest.mark.gpu
def test_the_renderer_runs_on_a_gpu() -> None:
    animal = quadruped(sides=8)
    camera = Camera.orbit(torch.tensor([0.2, 2.0]), distance=8.0, size_px=40)
    vertices, faces = animal.rest.vertices.expand(2, -1, -1), animal.rest.faces
    here: RenderOutput = render(vertices, faces, camera, LAMP, albedo=vertices.sin())
    there = render(vertices.cuda(), faces.cuda(), camera.to("cuda"), LAMP.to("cuda"), albedo=vertices.sin().cuda())
    assert (here.rgb - there.rgb.cpu()).abs().mean() < 1e-3
