"""The category model: the right animal at the start, mirror images, where gradients go, what switches do."""

import dataclasses
import math

import pytest
import torch

from farm3d.core.random import torch_generator
from farm3d.model.category.config import CategoryConfig, Parts
from farm3d.model.category.model import CategoryModel
from farm3d.model.category.rest_shape import RestShape, grid_of, make_scaffold, rest_shape
from farm3d.model.joint_limits import joint_limits
from farm3d.model.parameters import bounded_angles

CONFIG = CategoryConfig("toy", channels=16, feature_channels=8, code=32, local=16)
FLIP = torch.tensor([-1.0, 1.0, 1.0])


@pytest.fixture
def model() -> CategoryModel:
    torch.manual_seed(0)
    model = CategoryModel(CONFIG)
    with torch.no_grad():  # the last layers begin at zero: nothing would be seen of the rest
        for last in (model.deformation.rest[-1].weight, model.albedo.rest[-1].weight, model.articulation.out.weight):
            last.normal_(generator=torch_generator(0, "last"))  # pyright: ignore[reportCallIssue]
    return model


def rest_of(model: CategoryModel, *, centred: bool = False) -> RestShape:
    return rest_shape(model.shape, make_scaffold(model.shape, model.config, cell=0.3, centred=centred))


def reading_of(model: CategoryModel, count: int = 3):
    generator = torch_generator(1, "pictures")
    features = torch.randn(count, 16, 16, 16, generator=generator)
    return model.reader(features, torch.rand(count, 3, 64, 64, generator=generator), torch.rand(count, 64, 64, generator=generator))


def test_the_start_is_the_ellipsoid_with_bones(model: CategoryModel) -> None:
    rest = rest_of(model)
    axes = rest.vertices.detach().abs().amax(0)
    assert axes.tolist() == pytest.approx([1.05, 1.05, 2.1], rel=0.06)
    assert rest.skeleton.names[-3:] == ("tail_01", "tail_02", "tail_03") and len(rest.skeleton.names) == 23
    assert torch.allclose(rest.skin.sum(1), torch.ones(len(rest.vertices)))
    assert torch.allclose(rest.vertices[rest.mirror], rest.vertices * FLIP, atol=1e-6)
    without = dataclasses.replace(CONFIG, parts=Parts(tail=False))
    assert len(make_scaffold(model.shape, without, cell=0.3, centred=False).skeleton.names) == 20


def test_hypotheses_keep_to_their_quarters_and_the_elevation_to_its_range(model: CategoryModel) -> None:
    views = reading_of(model).viewpoints
    middle = math.pi / 4 + math.pi / 2 * torch.arange(4)
    assert float((views.azimuth - middle).abs().max().detach()) < math.radians(CONFIG.azimuth_reach_deg)
    low, high = (math.radians(CONFIG.elevation_deg[0] + side * CONFIG.elevation_deg[1]) for side in (-1, 1))
    assert float(views.elevation.min().detach()) > low and float(views.elevation.max().detach()) < high
    flat = CategoryModel(dataclasses.replace(CONFIG, parts=Parts(elevation=False, hypotheses=False)))
    single = reading_of(flat).viewpoints
    assert single.azimuth.shape == (3, 1) and float(single.elevation.abs().max()) == 0


def test_left_and_right_of_the_rest_shape_are_mirror_images(model: CategoryModel) -> None:
    rest, reading = rest_of(model), reading_of(model)
    shifts = model.displacements(rest, reading.code)
    assert float(shifts.detach().abs().amax()) > 1e-3
    assert torch.allclose(shifts[:, rest.mirror], shifts * FLIP, atol=1e-6)
    colours = model.colours(rest, reading.look)
    assert torch.equal(colours[:, rest.mirror], colours)


def test_gradients_reach_everything_but_what_is_switched_off(model: CategoryModel) -> None:
    rest, reading = rest_of(model), reading_of(model)
    pictures, hypotheses = torch.arange(3), torch.tensor([0, 1, 3])
    camera = reading.viewpoints.cameras(pictures, hypotheses, size_px=64)
    for deform, articulate in ((False, False), (True, False), (False, True), (True, True)):
        model.zero_grad()
        animals = model.individuals(rest, reading, camera, pictures, deform=deform, articulate=articulate)
        animals.vertices.square().sum().backward(retain_graph=True)
        assert model.shape.mlp.first.weight.grad is not None
        assert (model.deformation.first.weight.grad is not None) == deform
        assert (model.articulation.enter.weight.grad is not None) == articulate
        assert model.reader.view_out.weight.grad is None  # the bones' places in the picture give the viewpoint no gradient
        assert torch.equal(animals.shifts.abs().amax() > 0, torch.tensor(deform))
        assert torch.equal(animals.angles.abs().amax() > 0, torch.tensor(articulate))


@pytest.mark.parametrize("points", [1, 2, 3])
def test_bones_look_at_the_picture_where_they_are(points: int) -> None:
    """Which places of the picture matter: those of the bones' middles, or also of their ends, such as the hooves."""
    torch.manual_seed(0)
    model = CategoryModel(dataclasses.replace(CONFIG, bone_points=points, local_scale=2))
    torch.nn.init.normal_(model.articulation.out.weight)
    rest, reading = rest_of(model), reading_of(model, 1)
    assert reading.places.shape == (1, CONFIG.local, 32, 32)
    places = reading.places.detach().requires_grad_()
    camera = reading.viewpoints.cameras(torch.tensor([0]), torch.tensor([1]), size_px=64)
    angles = model.articulation(rest.skeleton, camera, reading.code, places)
    (gradient,) = torch.autograd.grad(angles.square().sum(), places)

    def matters(where: torch.Tensor) -> bool:
        column, row = (camera.pixels(where[None, None]).detach() / 2).long()[0, 0].tolist()  # of the 32 x 32 places
        return bool(gradient[0, :, row, column].abs().sum() > 0)

    skeleton = rest.skeleton
    hoof, tip = (skeleton.index(name) for name in ("leg_front_L_03", "tail_03"))
    assert matters(skeleton.ends[hoof]) == matters(skeleton.ends[tip]) == (points > 1)
    if points != 2:
        assert matters((skeleton.starts[hoof] + skeleton.ends[hoof]) / 2)


def test_bones_look_again_where_they_were_turned_to() -> None:
    """A second look changes nothing as it begins; then it sees the picture under the posed hoof, and is told how the bone was turned."""
    torch.manual_seed(0)
    once = CategoryModel(CONFIG)
    torch.nn.init.normal_(once.articulation.out.weight)
    twice = CategoryModel(dataclasses.replace(CONFIG, looks=2))
    twice.load_state_dict({**twice.state_dict(), **once.state_dict()})
    rest, reading = rest_of(once), reading_of(once, 2)
    places = reading.places.detach().requires_grad_()
    camera = reading.viewpoints.cameras(torch.tensor([0, 1]), torch.tensor([1, 1]), size_px=64)
    before = once.articulation(rest.skeleton, camera, reading.code, places).detach()
    assert torch.equal(twice.articulation(rest.skeleton, camera, reading.code, places).detach(), before)
    torch.nn.init.normal_(twice.get_parameter("articulation.again.0.out.weight"))
    after = twice.articulation(rest.skeleton, camera, reading.code, places)
    low, high = joint_limits(rest.skeleton.names)
    assert float((after - before).abs().max().detach()) > 0.05 and bool(((after >= low) & (after <= high)).all())
    with torch.no_grad():  # what the first look says depends on the places too: silence it, and bend the leg by its bias
        twice.articulation.out.weight.zero_()
        twice.articulation.out.bias.copy_(torch.tensor([0.6, 0.0, 0.0]))
    (gradient,) = torch.autograd.grad(twice.articulation(rest.skeleton, camera, reading.code, places).square().sum(), places)
    bent = bounded_angles(torch.tensor([0.3, 0.0, 0.0]).expand_as(before), low, high)
    turns = rest.skeleton.transforms(bent)
    hoof = rest.skeleton.index("leg_front_L_03")
    tip = (turns[:, hoof, :3, :3] @ rest.skeleton.ends[hoof]) + turns[:, hoof, :3, 3]
    columns, rows = (camera.pixels(tip[:, None]).detach()[:, 0] / 4).long().unbind(-1)  # of the 16 x 16 places
    assert all(bool(gradient[n, :, rows[n], columns[n]].abs().sum() > 0) for n in range(2))


def test_cameras_are_those_of_pairs(model: CategoryModel) -> None:
    views = reading_of(model).viewpoints
    pictures, hypotheses = torch.tensor([0, 0, 2]), torch.tensor([1, 3, 0])
    camera = views.cameras(pictures, hypotheses, size_px=64)
    centre = torch.nn.functional.normalize(camera.centre.detach() + 0, dim=-1)
    assert camera.T_camera_world.shape == (3, 4, 4)
    azimuth = torch.atan2(centre[:, 0], centre[:, 2])
    wanted = views.azimuth[pictures, hypotheses].detach()
    assert float((torch.remainder(azimuth - wanted + math.pi, 2 * math.pi) - math.pi).abs().max()) < 0.15  # the shift moves the centre


def test_lights_are_in_range(model: CategoryModel) -> None:
    torch.nn.init.normal_(model.light.weight)
    light = model.lights(reading_of(model).look)
    assert torch.allclose(light.direction.norm(dim=1), torch.ones(3)) and bool((light.direction[:, 1] > 0).all())
    assert bool(((light.ambient >= 0) & (light.ambient <= 1) & (light.diffuse >= 0.5) & (light.diffuse <= 1)).all())


def test_the_grid_fits_the_box() -> None:
    grid = grid_of(CONFIG, cell=0.165)
    assert grid.mirrored and all(cells % 4 == 0 for cells in grid.cells)
    assert max(grid.step) < 0.2 and grid.high == CONFIG.box
