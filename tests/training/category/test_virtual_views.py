"""Virtual views: framed as the prior's own pictures, their gradient reaches shape, pose and coat, and never viewpoint or light."""

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from tests.testing.animals import quadruped_mesh
from tests.testing.toy_category import toy_pictures
from tests.training.category.test_trainer import run_of, same

from farm3d.barn.captions import VIEWS
from farm3d.core.random import torch_generator
from farm3d.diffusion.distill import DistillOptions
from farm3d.diffusion.embedded.config import PRESETS
from farm3d.diffusion.embedded.parts import build_parts
from farm3d.diffusion.embedded.pipeline import EmbeddedPrior
from farm3d.diffusion.embedded.tokenizer import WordTokenizer
from farm3d.training.category.trainer import CategoryTrainer
from farm3d.training.category.virtual_views import Critic, CriticOptions, framed_cameras, random_lights

PHRASES = tuple(view[0] for view in VIEWS)


@pytest.fixture(scope="module")
def critic() -> Critic:
    pytest.importorskip("diffusers", reason="diffusers is not installed: pip install 'farm3d[diffusion]'")
    config = PRESETS["tiny"]
    tokenizer = WordTokenizer.of_captions([f"a horse, {phrase}" for phrase in PHRASES], buckets=64, max_words=48)
    parts = build_parts(config, tokenizer, seed=0)
    generator = torch_generator(0, "transform")
    parts.decoder.transform.fit(torch.rand(64, 3, 32, 32, generator=generator), torch.rand(64, 32, 32, generator=generator))
    for parameter in parts.denoiser.parameters():  # what begins at zero would have no opinion
        torch.nn.init.normal_(parameter, std=0.05, generator=generator)
    return Critic(EmbeddedPrior(parts), "horse", PHRASES, CriticOptions(DistillOptions(t_min=0.5, t_max=0.9, guidance=3.0), grey=0.0))


def test_pictures_hold_the_animal_as_the_prior_knows_it() -> None:
    vertices = quadruped_mesh().vertices[None].expand(5, -1, -1)
    azimuth, fill = torch.linspace(0, 6, 5), torch.linspace(0.74, 0.86, 5)
    camera = framed_cameras(vertices, azimuth, torch.full((5,), 0.2), fill=fill, size_px=100)
    at = camera.pixels(vertices)
    low, high = at.amin(1), at.amax(1)
    assert torch.allclose((high - low).amax(1) / 100, fill, atol=2e-3)
    assert torch.allclose((low + high) / 2, torch.full((5, 2), 50.0), atol=0.3)
    back = camera.T_camera_world[:, 2, :3]
    assert torch.allclose(torch.atan2(back[:, 0], back[:, 2]), torch.remainder(azimuth + math.pi, 2 * math.pi) - math.pi, atol=1e-5)


def test_lights_are_those_of_section_2_9() -> None:
    light = random_lights(200, torch_generator(0, "lights"))
    assert bool((light.direction[:, 1] > 0).all()) and bool((light.ambient + light.diffuse < 1.4).all())
    assert bool((light.diffuse >= 0.5).all()) and bool((light.ambient >= 0.2).all())


def test_the_gradient_reaches_shape_pose_and_coat_alone(critic: Critic, tmp_path: Path) -> None:
    run = run_of(steps=20, articulation_from=0.0, colour_from=0.0, deformation_from=0.0, virtual_from=0.0, virtual_every=1)
    trainer = CategoryTrainer(run, toy_pictures(), tmp_path)
    trainer.one_step()
    model, at, batch = trainer.model, run.schedule.at(1), toy_pictures().batch(1, seed=0, size=2)
    from farm3d.training.category.step import reconstruction_step

    assert trainer.scaffold is not None
    with torch.no_grad():  # the last layers begin at zero: nothing would reach what lies before them
        for last in (model.deformation.rest[-1].weight, model.albedo.rest[-1].weight, model.articulation.out.weight):
            last.normal_(std=0.1, generator=torch_generator(0, "last"))  # pyright: ignore[reportCallIssue]
    result = reconstruction_step(model, trainer.scaffold, batch, at, run.weights, chosen=None, generator=torch_generator(0, "step"))
    model.zero_grad()
    judged = critic.judge(model, batch, result, at, generator=torch_generator(0, "judge"), count=2)
    judged["virtual"].backward()

    def moved(part: torch.nn.Module) -> bool:
        return any(parameter.grad is not None and bool(parameter.grad.abs().max() > 0) for parameter in part.parameters())

    assert all(map(moved, (model.shape, model.deformation, model.articulation, model.albedo, model.reader.code, model.reader.look)))
    assert not any(map(moved, (model.light, model.reader.view_in, model.reader.view_out, model.features)))
    assert set(judged) == {"virtual", "virtual_error", "virtual_norm"}


def test_training_with_a_critic_goes_on_exactly(critic: Critic, tmp_path: Path) -> None:
    run = run_of(virtual_from=0.3, virtual_every=2, virtual_views=2)
    run = dataclasses.replace(run, weights=dataclasses.replace(run.weights, virtual=1e-3))
    whole = CategoryTrainer(run, toy_pictures(), tmp_path / "whole", critic=critic)
    assert whole.run()
    first = CategoryTrainer(run, toy_pictures(), tmp_path / "cut", critic=critic, should_stop=lambda: first.step == 7)
    assert not first.run()
    second = CategoryTrainer(run, toy_pictures(), tmp_path / "cut", critic=critic)
    assert second.run() and same(second, whole)
    without = CategoryTrainer(run, toy_pictures(), tmp_path / "without")
    with pytest.raises(AssertionError):
        assert without.run() and same(without, whole)
