"""A model's own scheduler: the class by our own table, its noise levels, and fresh copies to draw with."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from farm3d.core.errors import ModelError
from farm3d.core.shapes import Tensor
from farm3d.diffusion.levels import NoiseLevels

__all__ = ["build_scheduler", "fresh_scheduler", "noise_levels", "step_arguments"]


def build_scheduler(config: Mapping[str, Any], *, where: str) -> Any:
    """Return the diffusers scheduler of a config whose ``_class_name`` is one of ``layout.SCHEDULERS``.

    As in StableDiffusionPipeline, ``clip_sample`` is off and ``steps_offset`` 1, whatever an old config says: latents are not pictures.

    Raises:
        ModelError: values that diffusers does not take, or a schedule that depends on the size of the picture.
    """
    kind = _classes()[config["_class_name"]]
    values = {key: value for key, value in config.items() if not key.startswith("_")}
    taken = inspect.signature(kind.__init__).parameters
    values.update({key: value for key, value in (("clip_sample", False), ("steps_offset", 1)) if key in taken})
    if values.get("use_dynamic_shifting"):
        raise ModelError(f"{where}: use_dynamic_shifting is on, which Stable Diffusion's layout does not define")
    try:
        return kind.from_config(values)
    except (ValueError, TypeError, NotImplementedError, ImportError, RuntimeError) as error:
        raise ModelError(f"{where}: not a {config['_class_name']}'s config: {error}", hint="fetch or copy the model again") from error


def fresh_scheduler(scheduler: Any, steps: int, device: torch.device) -> Any:
    """Return a scheduler of the same config, set to ``steps`` denoising steps. They remember where they are: none is used twice."""
    fresh = type(scheduler).from_config(scheduler.config)
    fresh.set_timesteps(steps, device=device)
    return fresh


def step_arguments(scheduler: Any, generators: Sequence[torch.Generator]) -> dict[str, Any]:
    """Return the keywords for ``scheduler.step``: one generator for each picture, where the scheduler draws noise on the way."""
    return {"generator": list(generators)} if "generator" in inspect.signature(scheduler.step).parameters else {}


def noise_levels(scheduler: Any, *, where: str) -> NoiseLevels:
    """Return the levels that a scheduler's model was trained at.

    Raises:
        ModelError: a prediction type that we do not know, or that does not go with the schedule.
    """
    config = scheduler.config
    matched = type(scheduler).__name__.startswith("FlowMatch")
    prediction = "flow_prediction" if matched else config.prediction_type
    table: Tensor | None = None
    if not (matched or config.get("use_flow_sigmas", False)):
        table = scheduler.alphas_cumprod.double().cpu()
    try:
        return NoiseLevels(steps=int(config.num_train_timesteps), prediction=prediction, alphabar=table)
    except ValueError as error:
        raise ModelError(f"{where}: {error}", hint="give a model whose scheduler says what it predicts") from error


def _classes() -> dict[str, Any]:
    import diffusers

    return {
        "DDIMScheduler": diffusers.DDIMScheduler,
        "DDPMScheduler": diffusers.DDPMScheduler,
        "DEISMultistepScheduler": diffusers.DEISMultistepScheduler,
        "DPMSolverMultistepScheduler": diffusers.DPMSolverMultistepScheduler,
        "DPMSolverSinglestepScheduler": diffusers.DPMSolverSinglestepScheduler,
        "EulerAncestralDiscreteScheduler": diffusers.EulerAncestralDiscreteScheduler,
        "EulerDiscreteScheduler": diffusers.EulerDiscreteScheduler,
        "FlowMatchEulerDiscreteScheduler": diffusers.FlowMatchEulerDiscreteScheduler,
        "HeunDiscreteScheduler": diffusers.HeunDiscreteScheduler,
        "LCMScheduler": diffusers.LCMScheduler,
        "LMSDiscreteScheduler": diffusers.LMSDiscreteScheduler,
        "PNDMScheduler": diffusers.PNDMScheduler,
        "UniPCMultistepScheduler": diffusers.UniPCMultistepScheduler,
    }
