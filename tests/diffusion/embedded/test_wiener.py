"""The linear guess is the optimum for Gaussian latents, in theory and against numbers."""

from __future__ import annotations

import torch

from farm3d.core.random import torch_generator
from farm3d.diffusion.embedded.wiener import Wiener, cosine_basis

SHAPE = (3, 4, 4)


def gaussian() -> tuple[Wiener, torch.Tensor]:
    """A guess fitted on many draws of Gaussian latents with a known covariance, and their mean."""
    generator = torch_generator(0, "gaussian")
    wiener = Wiener(SHAPE)
    variance = torch.rand(SHAPE, generator=generator) * torch.tensor([4.0, 1.0, 0.1])[:, None, None] + 0.01
    mean = torch.randn(SHAPE, generator=generator)
    wiener.variance.copy_(variance)
    return wiener, mean


def draws(wiener: Wiener, mean: torch.Tensor, count: int, seed: int) -> torch.Tensor:
    white = torch.randn(count, *SHAPE, generator=torch_generator(seed, "draws"))
    return mean + wiener.from_frequencies(white * wiener.variance.sqrt())


def test_the_basis_is_orthonormal_and_its_first_row_constant() -> None:
    basis = cosine_basis(16)
    torch.testing.assert_close(basis @ basis.T, torch.eye(16), atol=1e-6, rtol=0)
    torch.testing.assert_close(basis[0], torch.full((16,), 0.25))


def test_fit_finds_the_variances() -> None:
    wiener, mean = gaussian()
    fitted = Wiener(SHAPE)
    fitted.fit(draws(wiener, mean, 20_000, 1) - mean)
    torch.testing.assert_close(fitted.variance, wiener.variance, rtol=0.06, atol=0)


def test_it_is_the_conditional_mean() -> None:
    """Against the formula for jointly Gaussian vectors with the full covariance matrix."""
    wiener, mean = gaussian()
    size = mean.numel()
    spread = torch.stack([wiener.from_frequencies(unit.reshape(SHAPE) * wiener.variance.sqrt()).flatten() for unit in torch.eye(size)], 1)
    covariance = (spread @ spread.T).double()
    x = draws(wiener, mean, 5, 2)
    noise = torch.randn(x.shape, generator=torch_generator(3, "noise"))
    for level in (0.1, 0.5, 0.9):
        z = (1 - level) * x + level * noise
        total = (1 - level) ** 2 * covariance + level**2 * torch.eye(size)
        off = (z - (1 - level) * mean).flatten(1).double()
        picture = mean.flatten() + (1 - level) * off @ torch.linalg.solve(total, covariance)
        guess = wiener.guess(z, torch.full((5,), level), mean.expand(5, *SHAPE))
        torch.testing.assert_close(guess.picture.flatten(1).double(), picture, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(guess.velocity, (z - guess.picture) / level, atol=1e-3, rtol=1e-3)


def test_nothing_linear_does_better_and_the_spread_is_what_is_left() -> None:
    wiener, mean = gaussian()
    x = draws(wiener, mean, 20_000, 4)
    noise = torch.randn(x.shape, generator=torch_generator(5, "noise"))
    for level in (0.2, 0.6, 0.95):
        t = torch.full((len(x),), level)
        guess = wiener.guess((1 - level) * x + level * noise, t, mean.expand_as(x))
        left = wiener.to_frequencies(noise - x - guess.velocity)
        torch.testing.assert_close(left.square().mean(0).sqrt(), guess.spread[0], rtol=0.05, atol=0)
        best = left.square().mean()
        for factor in (0.9, 1.1):
            assert (noise - x - (mean.neg() + factor * (guess.velocity + mean))).square().mean() > best


def test_the_ends_are_finite() -> None:
    wiener, mean = gaussian()
    for level in (0.0, 1.0):
        guess = wiener.guess(torch.randn(1, *SHAPE), torch.tensor([level]), mean[None])
        assert all(bool(torch.isfinite(part).all()) for part in guess)
    pure = wiener.guess(torch.zeros(1, *SHAPE), torch.ones(1), mean[None])
    torch.testing.assert_close(pure.picture, mean[None])  # all noise: nothing is known but the mean
