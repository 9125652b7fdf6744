"""Texture and light: what was painted on comes back."""

import dataclasses
import math

import pytest
import torch

from farm3d.core.color import srgb_from_linear
from farm3d.model.appearance import estimate_appearance, estimate_light
from farm3d.model.parameters import Parameters, pose
from farm3d.model.prior import CategoryPrior
from farm3d.render.renderer import Texture, render
from farm3d.structures import Crop, Light

SIZE = 256


def test_light_of_a_lit_sphere_is_found() -> None:
    grid = torch.linspace(-1, 1, 128)
    y, x = torch.meshgrid(-grid, grid, indexing="ij")
    inside = (x * x + y * y) < 0.95
    normals = torch.stack([x, y, (1 - x * x - y * y).clamp_min(0).sqrt()], -1) * inside[..., None]
    truth = torch.nn.functional.normalize(torch.tensor([-0.5, 0.7, 0.6]), dim=0)
    shading = 0.5 + 0.7 * (normals @ truth).clamp_min(0)
    light = estimate_light(0.4 * shading[..., None].expand(-1, -1, 3), inside.float(), normals)
    assert light.direction @ truth > math.cos(math.radians(15))
    assert light.direction[1] > 0
    seen = (light.ambient + light.diffuse * (normals[inside] @ light.direction).clamp_min(0)).mean()
    assert abs(seen - 1) < 0.05  # the mean shading is one by definition


def test_a_dark_picture_gets_an_ordinary_light() -> None:
    light = estimate_light(torch.zeros(32, 32, 3), torch.zeros(32, 32), torch.zeros(32, 32, 3))
    assert torch.allclose(light.direction.norm(), torch.tensor(1.0))
    assert light.ambient > 0


@pytest.fixture(scope="module")
def painted() -> tuple[CategoryPrior, Crop, object]:
    """The shipped horse, painted red in front and blue behind, drawn under even light from its left."""
    prior = CategoryPrior.from_pretrained("horse")
    posed = pose(prior, Parameters.start(prior, torch.tensor([math.radians(90.0)])), size_px=SIZE)
    front = (prior.template.vertices[:, 2:] > 0.3).float()
    colours = front * torch.tensor([0.6, 0.1, 0.1]) + (1 - front) * torch.tensor([0.1, 0.1, 0.6])
    even = Light(torch.tensor([0.0, 1.0, 0.0]), torch.tensor(1.0), torch.tensor(0.0))
    with torch.no_grad():
        drawn = render(posed.vertices, prior.template.faces, posed.camera, even, albedo=colours[None])
    image = srgb_from_linear(drawn.rgb[0]).permute(2, 0, 1).contiguous()
    crop = Crop(image, drawn.mask[0].contiguous(), torch.ones(SIZE, SIZE), (0.0, 0.0, float(SIZE)), (SIZE, SIZE))
    return prior, crop, posed


def test_seen_and_mirrored_sides_get_their_colours(painted) -> None:
    prior, crop, posed = painted
    camera = posed.camera.replace(T_camera_world=posed.camera.T_camera_world[0], intrinsics=posed.camera.intrinsics[0])
    look = estimate_appearance(prior.template, prior.mirror, posed.vertices[0].detach(), camera, crop, texture_px=256)
    assert look.albedo.shape == (256, 256, 3)
    assert torch.isfinite(look.albedo).all()
    assert 0.1 < look.seen < 0.9
    # Drawn from the other side, where the picture saw nothing, front is red and back is blue too.
    other = Parameters.start(prior, torch.tensor([math.radians(-90.0)]))
    from_right = pose(prior, other, size_px=SIZE)
    texture = Texture(prior.template.uv, prior.template.faces_uv, look.albedo)
    even = Light(torch.tensor([0.0, 1.0, 0.0]), torch.tensor(1.0), torch.tensor(0.0))
    for view, own_side in ((posed, True), (from_right, False)):
        drawn = render(view.vertices.detach(), prior.template.faces, view.camera, even, albedo=texture)
        z = render(view.vertices.detach(), prior.template.faces, view.camera, even, albedo=prior.template.vertices[None]).rgb[0, ..., 2]
        solid = drawn.mask[0] > 0.99
        red, blue = drawn.rgb[0, ..., 0], drawn.rgb[0, ..., 2]
        ahead, behind = solid & (z > 0.6), solid & (z < 0.0)
        right = ((red > 2 * blue) & ahead).sum() + ((blue > 2 * red) & behind).sum()
        assert right / (ahead.sum() + behind.sum()) > (0.97 if own_side else 0.93)


def test_what_is_not_seen_keeps_the_hue_that_is_expected_of_it(painted) -> None:
    prior, crop, posed = painted
    camera = posed.camera.replace(T_camera_world=posed.camera.T_camera_world[0], intrinsics=posed.camera.intrinsics[0])
    black = dataclasses.replace(crop, image=torch.full_like(crop.image, 0.02))
    brown, pale = torch.tensor([0.6, 0.25, 0.1]), torch.tensor([0.5, 0.5, 0.5])
    expected = torch.where(posed.vertices[0, :, :1].detach() > 0, pale, brown)  # pale on the side that is seen, black though it turns out
    vertices = posed.vertices[0].detach()
    look = estimate_appearance(prior.template, prior.mirror, vertices, camera, black, texture_px=256, expected=expected)
    red, green, blue = look.albedo.clamp_min(0.01).unbind(-1)
    assert (green / red).min() > 0.9 * 0.25 / 0.6  # as differences .5 less everywhere: brown .1, 0, 0
    assert (blue / red).min() > 0.9 * 0.1 / 0.6
