"""Noise levels: the schedulers' own, and what each kind of output stands for."""

from __future__ import annotations

import pytest
import torch

from farm3d.core.random import torch_generator
from farm3d.diffusion.levels import NoiseLevels, Prediction


def table(steps: int = 1000) -> torch.Tensor:
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, steps, dtype=torch.float64) ** 2
    return (1 - betas).cumprod(0)


def levels_of(prediction: Prediction) -> NoiseLevels:
    return NoiseLevels(1000, prediction, None if prediction == "flow_prediction" else table())


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample", "flow_prediction"])
def test_a_perfect_output_stands_for_the_noise_that_was_added(prediction: Prediction) -> None:
    levels, generator = levels_of(prediction), torch_generator(0, "levels")
    z, noise = (torch.randn(5, 4, 8, 8, generator=generator, dtype=torch.float64) for _ in range(2))
    t = torch.tensor([0.02, 0.2, 0.5, 0.8, 0.98], dtype=torch.float64)
    s, n = (level[:, None, None, None] for level in levels.at(t))
    z_t = s * z + n * noise
    perfect = {"epsilon": noise, "v_prediction": s * noise - n * z, "sample": z, "flow_prediction": noise - z}[prediction]
    torch.testing.assert_close(levels.noise_of(perfect, z_t, t), noise)


@pytest.mark.parametrize("prediction", ["v_prediction", "flow_prediction"])
def test_levels_go_from_picture_to_noise(prediction: Prediction) -> None:
    signal, noise = levels_of(prediction).at(torch.linspace(0, 1, 50))
    assert (signal.diff() < 0).all() and (noise.diff() > 0).all()
    if prediction == "flow_prediction":
        torch.testing.assert_close(signal + noise, torch.ones(50))
    else:
        torch.testing.assert_close(signal**2 + noise**2, torch.ones(50))


def test_timesteps_are_whole_numbers_of_a_table_and_all_are_reached() -> None:
    timesteps = levels_of("epsilon").timesteps(torch.linspace(0, 1, 1000))
    assert timesteps.dtype == torch.int64 and timesteps.tolist() == list(range(1000))
    torch.testing.assert_close(levels_of("flow_prediction").timesteps(torch.tensor([0.0, 0.5, 1.0])), torch.tensor([0.0, 500.0, 1000.0]))


def test_a_schedule_that_ends_in_pure_noise() -> None:
    """Zero terminal signal: v still tells the noise, which is then all of z_t."""
    ends = torch.cat([table(999), torch.zeros(1, dtype=torch.float64)])
    levels = NoiseLevels(1000, "v_prediction", ends)
    z_t = torch.randn(1, 4, 8, 8, generator=torch_generator(0, "end"))
    torch.testing.assert_close(levels.noise_of(torch.ones_like(z_t), z_t, torch.ones(1)), z_t)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="from 0 .* to 1"):
        levels_of("epsilon").at(torch.tensor([0.5, 1.01]))
    with pytest.raises(ValueError, match="from 0 .* to 1"):
        levels_of("flow_prediction").timesteps(torch.tensor([float("nan")]))
    with pytest.raises(ValueError, match="expected one of epsilon"):
        NoiseLevels(1000, "noise", table())  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="flow matching"):
        NoiseLevels(1000, "flow_prediction", table())
    with pytest.raises(ValueError, match="1000 alphas for 999 steps"):
        NoiseLevels(999, "epsilon", table())
