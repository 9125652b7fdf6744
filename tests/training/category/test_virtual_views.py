"""Virtual views: framed as the prior's own pictures, their gradient reaches shape, pose and coat, and never viewpoint or light."""

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from tests.testing.animals import quadruped_mesh
from tests.testing.toy_category import toy_pictures
from tests.testing.toy_critic import toy_critic
from tests.training.category.test_trainer import run_of, same

from farm3d.core.errors import InputError, NotFiniteError
from farm3d.core.random import torch_generator
from farm3d.diffusion.embedded.pipeline import EmbeddedPrior
from farm3d.training.category.ranks import Share
from farm3d.training.category.step import reconstruction_step
from farm3d.training.category.trainer import CategoryTrainer, Progress
from farm3d.training.category.virtual_views import Critic, framed_cameras, random_lights
from farm3d.training.dataset.phrases import critic_prompts


@pytest.fixture(scope="module")
def critic() -> Critic:
    pytest.importorskip("diffusers", reason="diffusers is not installed: pip install 'farm3d[diffusion]'")
    return toy_critic()


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


def test_noise_comes_down_over_the_run(critic: Critic, tmp_path: Path) -> None:
    """The last virtual views of two trainings differ when the noise of one has come down; the first do not."""
    options = dataclasses.replace(critic.options, t_max_end=0.6)
    assert [round(options.distill_at(progress).t_max, 6) for progress in (0.0, 0.5, 1.0)] == [0.9, 0.75, 0.6]
    assert critic.options.distill_at(1.0) == critic.options.distill
    with pytest.raises(InputError, match=r"noise levels that end at 0.2: expected from 0.5 to 1"):
        dataclasses.replace(critic.options, t_max_end=0.2)
    run = run_of(steps=6, virtual_from=0.5, virtual_every=1, virtual_views=2)
    run = dataclasses.replace(run, weights=dataclasses.replace(run.weights, virtual=1e-9))
    errors = {}
    for name, own in (("as it is", critic), ("down", Critic(critic.prior, critic_prompts("horse", barn=True), options))):
        told: list[Progress] = []
        assert CategoryTrainer(run, toy_pictures(), tmp_path / name, critic=own, report=told.append).run()
        errors[name] = [at.figures["virtual_error"] for at in told[3:]]
    assert errors["as it is"][0] == errors["down"][0] and errors["as it is"][-1] != errors["down"][-1]


def test_a_critic_that_breaks_stops_the_training_and_says_where(critic: Critic, tmp_path: Path) -> None:
    broken = toy_critic()
    assert isinstance(broken.prior, EmbeddedPrior)
    with torch.no_grad():
        next(broken.prior.parts.denoiser.parameters()).fill_(float("nan"))
    run = run_of(steps=6, virtual_from=0.5, virtual_every=1, virtual_views=2)
    run = dataclasses.replace(run, weights=dataclasses.replace(run.weights, virtual=1e-3))
    trainer = CategoryTrainer(run, toy_pictures(), tmp_path, critic=broken)
    with pytest.raises(NotFiniteError, match=r"step 3: the critic: .*predicted noise is not finite.*; pictures toy-0000") as raised:
        trainer.run()
    assert raised.value.exit_code == 3 and trainer.step == 3


def test_shares_of_a_batch_add_up_to_it(critic: Critic, tmp_path: Path) -> None:
    """What processes that take a share each return, and their gradients, sum to those of the whole; one may have no view at all."""
    run = run_of(steps=20, batch_early=4, articulation_from=0.0, colour_from=0.0, deformation_from=0.0, virtual_from=0.0)
    trainer = CategoryTrainer(run, toy_pictures(), tmp_path)
    trainer.one_step()
    model, at, batch = trainer.model, run.schedule.at(2), toy_pictures().batch(1, seed=0, size=4)
    assert trainer.scaffold is not None

    def judged(begin: int, end: int, count: int) -> tuple[dict[str, float], torch.Tensor]:
        part, generator = batch.part(begin, end), torch_generator(0, "step")
        assert trainer.scaffold is not None
        result = reconstruction_step(model, trainer.scaffold, part, at, run.weights, chosen=None, generator=generator)
        values = critic.judge(model, part, result, at, generator=generator, count=count, share=Share(begin, end, 4))
        model.zero_grad()
        if values["virtual"].requires_grad:
            values["virtual"].backward()
        gradient = [torch.zeros(value.numel()) if value.grad is None else value.grad.flatten() for value in model.parameters()]
        return {name: float(value.detach()) for name, value in values.items()}, torch.cat(gradient)

    for count in (1, 3, 4):
        whole, parts = judged(0, 4, count), [judged(0, 1, count), judged(1, 4, count)]
        assert {name: sum(values[name] for values, _ in parts) for name in whole[0]} == pytest.approx(whole[0], rel=1e-5)
        assert torch.allclose(parts[0][1] + parts[1][1], whole[1], atol=1e-5 * float(whole[1].abs().max()))


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


def test_only_best_hypotheses_are_judged(critic: Critic, tmp_path: Path) -> None:
    run = run_of(steps=20, articulation_from=0.0, virtual_from=0.0, virtual_every=1)
    trainer = CategoryTrainer(run, toy_pictures(), tmp_path)
    trainer.one_step()
    at, batch = run.schedule.at(1), toy_pictures().batch(1, seed=0, size=3)
    assert trainer.scaffold is not None
    told = {"chosen": torch.tensor([0, 1, 2]), "generator": torch_generator(0, "step")}
    result = reconstruction_step(trainer.model, trainer.scaffold, batch, at, run.weights, **told)

    def judged(counted: list[bool] | None) -> float:
        how = {"generator": torch_generator(0, "judge"), "counted": None if counted is None else torch.tensor(counted)}
        return critic.judge(trainer.model, batch, result, at, count=3, **how)["virtual"].item()

    assert judged([True, True, True]) == judged(None) > 0
    assert judged([False, False, False]) == 0
    assert judged([True, False, False]) not in (0, judged(None))
