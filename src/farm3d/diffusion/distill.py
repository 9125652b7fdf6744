"""Score distillation: how pictures would have to change to please a text-to-image model, as a loss (section 4.1).

``grad L(x) = w(t) (eps_hat(z_t | y) - eps) dz/dx`` with ``z = encode(x)`` and ``z_t = signal(t) z + noise(t) eps``. The Jacobian of the
network that predicts the noise is left out, and so is the factor ``signal(t) = dz_t/dz``, which belongs to the weighting (all public
implementations do so).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

from farm3d.core.errors import InputError, NotFiniteError
from farm3d.core.shapes import Float, Tensor, checked
from farm3d.diffusion.prior import PicturePrior, Prompts
from farm3d.structures._value import Value

__all__ = ["FOR_EMBEDDED", "WEIGHTINGS", "DistillOptions", "Distillation", "distill"]

WEIGHTINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "1-alphabar": lambda signal, noise: noise**2,
    "uniform": lambda signal, noise: torch.ones_like(noise),
    "signal": lambda signal, noise: signal,
    "signal*(1-alphabar)": lambda signal, noise: signal * noise**2,
}
"""w(t) of signal and noise. ``1-alphabar`` is what DreamFusion and its public descendants use; ``signal`` puts dz_t/dz back in."""


@dataclass(frozen=True)
class DistillOptions:
    """How the model is asked. The defaults are those of section 4.2, where the paper's own values are not known.

    Attributes:
        t_min, t_max: noise levels are drawn evenly from this range of [0, 1].
        guidance: scale of classifier-free guidance.
        weighting: a name in :data:`WEIGHTINGS`.
        same_t: one noise level for the whole batch.
        same_noise: one noise for the whole batch.
        sample_latents: draw latents from the encoder's distribution instead of taking the most likely.
        clip: largest norm of one picture's gradient with respect to its latent; None lets it be.
    """

    t_min: float = 0.02
    t_max: float = 0.98
    guidance: float = 50.0
    weighting: Literal["1-alphabar", "uniform", "signal", "signal*(1-alphabar)"] = "1-alphabar"
    same_t: bool = False
    same_noise: bool = False
    sample_latents: bool = False
    clip: float | None = None

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InputError: naming the option that cannot be used.
        """
        if not 0 <= self.t_min <= self.t_max <= 1:
            raise InputError(f"noise levels from {self.t_min} to {self.t_max}: expected 0 <= t_min <= t_max <= 1")
        if self.weighting not in WEIGHTINGS:
            raise InputError(f"weighting '{self.weighting}' is not known", hint=f"known: {', '.join(WEIGHTINGS)}")
        if self.clip is not None and not self.clip > 0:
            raise InputError(f"clip is {self.clip}: expected a number above 0, or none")


FOR_EMBEDDED = DistillOptions(t_min=0.7, t_max=0.85, guidance=5.0)
"""How an embedded model is asked: what ``farm3d prior judge`` found best (docs/prior.md)."""


@dataclass(frozen=True, eq=False, repr=False)
class Distillation(Value):
    """What the model thinks of B pictures.

    Attributes:
        loss: ``0.5 |w (eps_hat - eps)|^2``, ``[B]``. Only its gradient means something: take ``loss.mean().backward()``.
        t: noise levels, ``[B]``.
        weight: w(t), ``[B]``.
        error: mean square of ``eps_hat - eps`` over a latent, ``[B]``: 1 is as bad as predicting nothing. Guidance raises it.
        gradient_norm: of ``w (eps_hat - eps)`` over a latent, ``[B]``, before clipping.
    """

    loss: Float[Tensor, "B"]
    t: Float[Tensor, "B"]
    weight: Float[Tensor, "B"]
    error: Float[Tensor, "B"]
    gradient_norm: Float[Tensor, "B"]

    def numbers(self) -> dict[str, float]:
        """Return the batch's means, for a log."""
        names = ("loss", "t", "weight", "error", "gradient_norm")
        return {name: float(getattr(self, name).detach().mean()) for name in names}


@checked
def distill(
    prior: PicturePrior,
    rgb: Float[Tensor, "B 3 S S"],
    prompts: Prompts,
    *,
    generator: torch.Generator,
    options: DistillOptions | None = None,
    alpha: Float[Tensor, "B S S"] | None = None,
    negative: Prompts | None = None,
    part: tuple[Tensor, int] | None = None,
) -> Distillation:
    """Return the loss whose gradient with respect to the pictures is ``w(t) (eps_hat - eps) dz/dx`` (section 4.1), and numbers to log.

    ``loss = 0.5 |z - stop(z - w (eps_hat - eps))|^2``: its value is 0.5 |w (eps_hat - eps)|^2, its gradient with respect to z the bracket's
    second term.

    Args:
        prior: the frozen model.
        rgb: rendered pictures, sRGB in [0, 1], over a background, with their gradient.
        prompts: B of them, or one for all.
        generator: every draw (t, noise, latent) comes from it, on its own device, so that equal seeds mean the same on all devices.
        options: see :class:`DistillOptions`.
        alpha: coverage of the animal, with its gradient, for models that draw it.
        negative: what the pictures must not look like; B of them, or one for all; None is the prompt that says nothing.
        part: the pictures' places in a larger batch, ``[B]``, and its size: t and noise are those that they would have in it. Latents
            cannot be sampled then.

    Raises:
        NotFiniteError: the pictures have values that are not finite; or the model's latents or its prediction, as happens in half
            precision.
        ValueError: sizes that do not fit together.
    """
    options = options or DistillOptions()
    if part is not None and options.sample_latents:
        raise ValueError("latents are sampled for whole batches only")
    if not bool(torch.isfinite(rgb).all()):
        raise NotFiniteError("the pictures to judge have values that are not finite", hint="look at what was rendered")
    z = prior.encode(rgb, alpha, generator=generator if options.sample_latents else None)
    if not bool(torch.isfinite(z).all()):
        raise NotFiniteError(f"{prior.name}: the latents of the pictures are not finite", hint="use float32 in place of half precision")
    t, noise = _draws(z, options, generator, part)
    with torch.no_grad():
        signal_level, noise_level = prior.levels(t)
        z_t = _each(signal_level) * z + _each(noise_level) * noise
        predicted = prior.predict_noise(z_t, t, prompts, guidance=options.guidance, negative=negative)
        if not bool(torch.isfinite(predicted).all()):
            worst = float(t[~torch.isfinite(predicted).flatten(1).all(1)][0])
            raise NotFiniteError(
                f"{prior.name}: the predicted noise is not finite at noise level {worst:.3f}", hint="use float32 in place of half precision"
            )
        weight = WEIGHTINGS[options.weighting](signal_level, noise_level)
        difference = predicted - noise
        gradient = _each(weight) * difference
        norm = gradient.flatten(1).norm(dim=1)
        if options.clip is not None:
            gradient = gradient * _each((options.clip / norm.clamp_min(1e-12)).clamp(max=1))
        target = z - gradient
    return Distillation(
        loss=0.5 * (z - target).square().sum((1, 2, 3)),
        t=t,
        weight=weight,
        error=difference.square().mean((1, 2, 3)),
        gradient_norm=norm,
    )


def _draws(z: Tensor, options: DistillOptions, generator: torch.Generator, part: tuple[Tensor, int] | None) -> tuple[Tensor, Tensor]:
    """Return noise levels ``[B]`` and noise ``[B, C, h, w]`` for latents; the batch's share one where the options say so."""
    places, count = (slice(None), len(z)) if part is None else part
    device = generator.device
    t = torch.rand(1 if options.same_t else count, generator=generator, device=device)
    noise = torch.randn(1 if options.same_noise else count, *z.shape[1:], generator=generator, device=device)
    t = options.t_min + (options.t_max - options.t_min) * t
    return t.to(z.device, z.dtype).expand(count)[places], noise.to(z.device, z.dtype).expand(count, *z.shape[1:])[places]


def _each(value: Tensor) -> Tensor:
    return value[:, None, None, None]
