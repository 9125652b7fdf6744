"""Score distillation: the gradient is the one of section 4.1, and nothing is drawn but from the given generator."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from farm3d.core.errors import InputError, NotFiniteError
from farm3d.core.random import torch_generator
from farm3d.diffusion.distill import WEIGHTINGS, Distillation, DistillOptions, distill
from farm3d.diffusion.prior import load_prior
from farm3d.diffusion.stable_diffusion import StableDiffusionPrior

OPTIONS = DistillOptions(guidance=5.0)


def pictures(count: int = 2, *, dtype: torch.dtype = torch.float32, size: int = 16) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch_generator(0, "pictures"), dtype=dtype).requires_grad_()


def gradient_of(result: Distillation, rgb: torch.Tensor) -> torch.Tensor:
    return torch.autograd.grad(result.loss.sum(), rgb)[0]


@pytest.fixture(scope="module")
def exact(tiny_folder: Path) -> StableDiffusionPrior:
    """In float64, for finite differences."""
    opened = load_prior(tiny_folder, dtype=torch.float64)
    assert isinstance(opened, StableDiffusionPrior)
    return opened


@pytest.mark.parametrize("weighting", sorted(WEIGHTINGS))
def test_the_gradient_is_the_weighted_noise_difference_through_the_encoder(prior: StableDiffusionPrior, weighting: Any) -> None:
    """Written out: t and noise from the same generator, w (eps_hat - eps), pulled back through dz/dx. No Jacobian of the U-Net."""
    rgb, words, without = pictures(), prior.embed(["a horse", "a cow"]), prior.embed(["a drawing"])
    result = distill(
        prior,
        rgb,
        words,
        generator=torch_generator(3, "distill"),
        options=dataclasses.replace(OPTIONS, weighting=weighting),
        negative=without,
    )
    generator = torch_generator(3, "distill")
    t = 0.02 + 0.96 * torch.rand(2, generator=generator)
    noise = torch.randn(2, 4, 8, 8, generator=generator)
    signal_level, noise_level = prior.levels(t)
    z = prior.encode(rgb)
    z_t = (signal_level[:, None, None, None] * z + noise_level[:, None, None, None] * noise).detach()
    difference = prior.predict_noise(z_t, t, words, guidance=5.0, negative=without) - noise
    weight = {
        "1-alphabar": noise_level**2,
        "uniform": torch.ones(2),
        "signal": signal_level,
        "signal*(1-alphabar)": signal_level * noise_level**2,
    }[weighting]
    pull = weight[:, None, None, None] * difference
    (expected,) = torch.autograd.grad(z, rgb, pull)
    torch.testing.assert_close(gradient_of(result, rgb), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(result.t, t)
    torch.testing.assert_close(result.weight, weight)
    torch.testing.assert_close(result.error, difference.square().mean((1, 2, 3)))
    torch.testing.assert_close(result.gradient_norm, pull.flatten(1).norm(dim=1))
    torch.testing.assert_close(result.loss, 0.5 * pull.square().sum((1, 2, 3)), atol=1e-4, rtol=1e-4)


def test_the_gradient_is_that_of_finite_differences(exact: StableDiffusionPrior) -> None:
    """Of 0.5 |z(x) - target|^2, with the target held where it was."""
    rgb, words = pictures(dtype=torch.float64, size=12), exact.embed(["a horse"])
    result = distill(exact, rgb, words, generator=torch_generator(1, "differences"), options=OPTIONS)
    gradient = gradient_of(result, rgb)
    z = exact.encode(rgb).detach()
    generator = torch_generator(1, "differences")
    t = 0.02 + 0.96 * torch.rand(2, generator=generator).double()
    noise = torch.randn(2, 4, 8, 8, generator=generator).double()
    signal, level = (value[:, None, None, None] for value in exact.levels(t))
    target = z - level**2 * (exact.predict_noise(signal * z + level * noise, t, words, guidance=5.0) - noise)

    def loss(x: torch.Tensor) -> float:
        with torch.no_grad():
            return float(0.5 * (exact.encode(x) - target).square().sum())

    step = 1e-5
    for number in range(3):
        way = torch.randn(rgb.shape, generator=torch_generator(number, "way"), dtype=torch.float64)
        slope = (loss(rgb + step * way) - loss(rgb - step * way)) / (2 * step)
        assert slope == pytest.approx(float((gradient * way).sum()), rel=1e-5)


def test_equal_generators_give_equal_losses_and_nothing_else_is_drawn(prior: StableDiffusionPrior) -> None:
    rgb, words, before = pictures(), prior.embed(["a horse"]), torch.get_rng_state()
    options = dataclasses.replace(OPTIONS, sample_latents=True)
    first, same, other = (distill(prior, rgb, words, generator=torch_generator(seed, "g"), options=options) for seed in (0, 0, 1))
    torch.testing.assert_close(first.loss, same.loss, atol=0, rtol=0)
    assert float((first.loss - other.loss).detach().abs().min()) > 0
    assert torch.equal(torch.get_rng_state(), before)


def test_a_batch_may_share_level_and_noise(prior: StableDiffusionPrior) -> None:
    rgb, words = pictures(1).detach().expand(3, -1, -1, -1), prior.embed(["a horse"])
    shared = dataclasses.replace(OPTIONS, same_t=True, same_noise=True)
    loss = distill(prior, rgb, words, generator=torch_generator(0, "shared"), options=shared).loss
    torch.testing.assert_close(loss, loss[:1].expand(3), rtol=1e-4, atol=1e-4)
    levels = distill(prior, rgb, words, generator=torch_generator(0, "shared"), options=dataclasses.replace(OPTIONS, same_t=True))
    assert levels.t.unique().numel() == 1 and levels.loss.unique().numel() == 3
    apart = distill(prior, rgb, words, generator=torch_generator(0, "shared"), options=OPTIONS)
    assert apart.t.unique().numel() == 3


def test_levels_stay_in_their_range(prior: StableDiffusionPrior) -> None:
    options = dataclasses.replace(OPTIONS, t_min=0.3, t_max=0.5, guidance=1.0)
    t = distill(prior, pictures(32).detach(), prior.embed(["a horse"]), generator=torch_generator(0, "range"), options=options).t
    assert float(t.min()) >= 0.3 and float(t.max()) <= 0.5 and float(t.max() - t.min()) > 0.15


def test_long_gradients_can_be_clipped(prior: StableDiffusionPrior) -> None:
    words, options = prior.embed(["a horse"]), dataclasses.replace(OPTIONS, clip=0.5)
    clipped = distill(prior, pictures(), words, generator=torch_generator(0, "clip"), options=options)
    assert (clipped.gradient_norm > 0.5).all()
    torch.testing.assert_close(clipped.loss, torch.full((2,), 0.5 * 0.5**2), atol=1e-4, rtol=1e-4)


def test_numbers_for_the_log(prior: StableDiffusionPrior) -> None:
    numbers = distill(prior, pictures(), prior.embed(["a horse"]), generator=torch_generator(0, "log")).numbers()
    assert set(numbers) == {"loss", "t", "weight", "error", "gradient_norm"} and all(value > 0 for value in numbers.values())


def test_what_is_not_finite_is_said_where_it_arises(tiny_folder: Path) -> None:
    prior = load_prior(tiny_folder)
    assert isinstance(prior, StableDiffusionPrior)
    words, generator = prior.embed(["a horse"]), torch_generator(0, "nan")
    with pytest.raises(NotFiniteError, match="pictures to judge have values that are not finite"):
        distill(prior, torch.full((1, 3, 16, 16), float("nan")), words, generator=generator)
    prior._unet.conv_out.bias.data[0] = float("inf")
    with pytest.raises(NotFiniteError, match=r"predicted noise is not finite at noise level 0\.\d{3}"):
        distill(prior, pictures(), words, generator=generator)
    prior._vae.quant_conv.bias.data[0] = float("nan")
    with pytest.raises(NotFiniteError, match="latents of the pictures are not finite"):
        distill(prior, pictures(), words, generator=generator)


@pytest.mark.parametrize(
    "values, message",
    [
        ({"t_min": 0.6, "t_max": 0.4}, "t_min <= t_max"),
        ({"t_max": 1.2}, "t_max <= 1"),
        ({"weighting": "none"}, "weighting 'none' is not known"),
        ({"clip": 0.0}, "clip is 0.0"),
    ],
)
def test_options_that_make_no_sense_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        DistillOptions(**values)


def test_a_part_is_judged_as_it_would_be_in_its_batch(prior: StableDiffusionPrior) -> None:
    rgb, words = pictures(3), prior.embed(["a horse"])
    whole = distill(prior, rgb, words, generator=torch_generator(3, "distill"), options=OPTIONS)
    places = torch.tensor([0, 2])
    part = distill(prior, rgb[places], words, generator=torch_generator(3, "distill"), options=OPTIONS, part=(places, 3))
    assert torch.equal(part.t, whole.t[places]) and torch.allclose(part.loss, whole.loss[places], rtol=1e-4)
    sampled = dataclasses.replace(OPTIONS, sample_latents=True)
    with pytest.raises(ValueError, match="whole batches only"):
        distill(prior, rgb[places], words, generator=torch_generator(3, "distill"), options=sampled, part=(places, 3))
