import numpy as np
import pytest
import torch
from tests.testing.animals import quadruped_mesh

from farm3d.barn.scenes import BACKDROPS, background, random_camera, random_light, shadow
from farm3d.structures import Camera, Light


def box_animal() -> tuple[torch.Tensor, torch.Tensor]:
    mesh = quadruped_mesh()
    vertices = mesh.vertices * 0.7
    return vertices - vertices.amin(0) * torch.tensor([0.0, 1.0, 0.0]), mesh.faces


def test_the_whole_animal_is_in_every_picture() -> None:
    vertices, _ = box_animal()
    for seed in range(60):
        rng = np.random.default_rng(seed)
        azimuth, elevation = rng.uniform(0, 360), rng.uniform(-10, 40)
        camera = random_camera(vertices, azimuth_deg=azimuth, elevation_deg=elevation, size_px=128, rng=rng)
        at = camera.pixels(vertices)
        extent = (at.amax(0) - at.amin(0)).amax()
        assert at.amin() > 0 and at.amax() < 128 and 0.5 * 128 < extent < 0.97 * 128
        assert float(camera.intrinsics[2]) == 64.0 and camera.to_camera(vertices)[:, 2].max() < 0
        x, _, z = camera.centre - vertices.mean(0)
        assert abs((np.degrees(np.arctan2(float(x), float(z))) - azimuth + 180) % 360 - 180) < 25  # up to the shift of the aim


def test_cut_puts_that_share_outside() -> None:
    vertices, _ = box_animal()
    for seed in range(20):
        camera = random_camera(vertices, azimuth_deg=80, elevation_deg=5, size_px=128, rng=np.random.default_rng(seed), cut=0.3)
        at = camera.pixels(vertices)
        outside = ((at < 0) | (at > 128)).any(1).float().mean()
        assert 0.02 < outside < 0.8


def test_lights_are_those_of_the_method() -> None:
    for seed in range(50):
        light = random_light(np.random.default_rng(seed))
        assert abs(float(light.direction.norm()) - 1) < 1e-5 and float(light.direction[1]) > 0
        assert 0 <= float(light.ambient) <= 1 and 0.5 <= float(light.diffuse) <= 1


@pytest.mark.parametrize("kind", sorted(set(BACKDROPS)))
def test_every_backdrop_is_a_picture(kind: str) -> None:
    camera = Camera.orbit(0.4, 0.2, distance=6.0, target=torch.tensor([0.0, 0.7, 0.0]), fov_deg=25, size_px=96)
    light = Light(torch.tensor([0.0, 0.8, 0.6]), torch.tensor(0.4), torch.tensor(0.8))
    pictures = [background(camera, light, np.random.default_rng(seed), backdrop=kind) for seed in (0, 0, 1)]
    for picture, scene in pictures:
        assert picture.shape == (96, 96, 3) and picture.isfinite().all() and float(picture.min()) >= 0 and float(picture.max()) <= 1.3
        assert scene.backdrop == kind and scene.ground == (kind not in ("plain", "gradient", "texture"))
    assert torch.equal(pictures[0][0], pictures[1][0]) and not torch.equal(pictures[0][0], pictures[2][0])


def test_a_camera_below_the_feet_sees_no_ground() -> None:
    camera = Camera.orbit(0.4, -0.15, distance=6.0, target=torch.tensor([0.0, 0.7, 0.0]), fov_deg=25, size_px=64)
    light = Light(torch.tensor([0.0, 0.8, 0.6]), torch.tensor(0.4), torch.tensor(0.8))
    assert not background(camera, light, np.random.default_rng(0), backdrop="field")[1].ground


def test_shadow_lies_on_the_ground_away_from_the_sun() -> None:
    vertices, faces = box_animal()
    camera = Camera.orbit(0.0, 0.5, distance=8.0, target=torch.tensor([0.0, 0.4, 0.0]), fov_deg=35, size_px=128)
    white = torch.ones(128, 128, 3)
    from_left = Light(torch.nn.functional.normalize(torch.tensor([-0.7, 0.6, 0.2]), dim=0), torch.tensor(0.3), torch.tensor(0.9))
    dark = 1 - shadow(white, vertices, faces, camera, from_left)[..., 0]
    columns = torch.arange(128) + 0.5
    assert float(dark.min()) >= 0 and 0.15 < float(dark.max()) < 1
    assert float((dark.sum(0) * columns).sum() / dark.sum()) > 66  # to the right of the middle
    assert float(dark[:20].max()) < 1e-6  # nothing above the animal
