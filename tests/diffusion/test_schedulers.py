"""Schedulers of a model: our table, their alphas."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.testing.tiny_models import DDPM_TABLE

from farm3d.core.errors import ModelError
from farm3d.core.random import torch_generator
from farm3d.diffusion.layout import SCHEDULERS
from farm3d.diffusion.schedulers import build_scheduler, fresh_scheduler, noise_levels

pytest.importorskip("diffusers", reason="diffusers is not installed: pip install 'farm3d[diffusion]'")
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of diffusers with NumPy 2

# These write a noised latent as z + sigma * noise, whose size grows, and scale it before the network sees it.
_GROWING = ("EulerAncestralDiscreteScheduler", "EulerDiscreteScheduler", "HeunDiscreteScheduler", "LMSDiscreteScheduler")


def config_of(name: str, **more: Any) -> dict[str, Any]:
    return {"_class_name": name, **({} if name.startswith("FlowMatch") else DDPM_TABLE), **more}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_is_its_own_class_and_has_its_own_levels(name: str) -> None:
    """Noising by our levels is noising by the scheduler's ``add_noise``, or ``scale_noise`` of flow matching."""
    scheduler = build_scheduler(config_of(name), where="here")
    assert type(scheduler).__name__ == name
    levels = noise_levels(scheduler, where="here")
    z, noise = (torch.randn(3, 4, 8, 8, generator=torch_generator(0, name, word)) for word in ("z", "noise"))
    t = torch.tensor([20.0, 500.0, 979.0]) / (1000 if levels.alphabar is None else 999)
    s, n = (level[:, None, None, None] for level in levels.at(t))
    if name.startswith("FlowMatch"):
        theirs = scheduler.scale_noise(z, levels.timesteps(t), noise)
    else:
        if hasattr(scheduler, "sigmas"):  # these look levels up among the steps that they are set to
            scheduler.set_timesteps(1000)
        theirs = scheduler.add_noise(z, noise, levels.timesteps(t).to(torch.float32 if name in _GROWING else torch.int64))
    if name in _GROWING:
        theirs = theirs * s
    torch.testing.assert_close(s * z + n * noise, theirs, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("name", ["DPMSolverMultistepScheduler", "UniPCMultistepScheduler"])
def test_solvers_may_match_flows_too(name: str) -> None:
    levels = noise_levels(
        build_scheduler(config_of(name, prediction_type="flow_prediction", use_flow_sigmas=True), where="here"), where="here"
    )
    assert levels.alphabar is None and levels.prediction == "flow_prediction"


def test_old_configs_are_read_as_diffusers_pipeline_reads_them() -> None:
    scheduler = build_scheduler(config_of("DDIMScheduler", clip_sample=True, steps_offset=0), where="here")
    assert scheduler.config.clip_sample is False and scheduler.config.steps_offset == 1


def test_drawing_leaves_the_scheduler_as_it_was() -> None:
    scheduler = build_scheduler(config_of("DPMSolverMultistepScheduler"), where="here")
    fresh = fresh_scheduler(scheduler, 7, torch.device("cpu"))
    assert len(fresh.timesteps) == 7 and fresh is not scheduler and scheduler.num_inference_steps is None


@pytest.mark.parametrize(
    "config, message",
    [
        (config_of("DDIMScheduler", beta_schedule="cubic"), "not a DDIMScheduler's config"),
        (config_of("FlowMatchEulerDiscreteScheduler", use_dynamic_shifting=True), "use_dynamic_shifting"),
        (config_of("DPMSolverMultistepScheduler", prediction_type="flow_prediction"), "flow matching"),
        (config_of("EulerDiscreteScheduler", prediction_type="score"), "expected one of epsilon"),
    ],
)
def test_configs_that_make_no_sense_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=f"^here: .*{message}"):
        noise_levels(build_scheduler(config, where="here"), where="here")
