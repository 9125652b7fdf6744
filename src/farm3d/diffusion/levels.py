"""How much picture and how much noise is in a latent at each level, and the noise that a network's output stands for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch

from farm3d.core.shapes import Float, Tensor, checked
from farm3d.structures._value import Value

__all__ = ["NoiseLevels", "Prediction"]

Prediction = Literal["epsilon", "v_prediction", "sample", "flow_prediction"]
"""What a network was trained to give: the noise; ``signal * eps - noise * z``; the clean latent z; or ``eps - z``."""


@dataclass(frozen=True, eq=False, repr=False)
class NoiseLevels(Value):
    """A noise schedule: ``z_t = signal * z + noise * eps`` for t in [0, 1].

    Attributes:
        steps: number T of noise levels that the network was trained at.
        prediction: what the network gives.
        alphabar: cumulative products of the alphas, float64, ``[T]``: then ``signal^2 = alphabar`` and ``noise^2 = 1 - alphabar`` at the
            timestep nearest to ``t * (T - 1)``. None is flow matching: signal ``1 - t``, noise ``t``, timestep ``t * T``.
    """

    steps: int
    prediction: Prediction
    alphabar: Float[Tensor, "T"] | None = None

    def __post_init__(self) -> None:
        if self.prediction not in get_args(Prediction):
            raise ValueError(f"prediction '{self.prediction}': expected one of {', '.join(get_args(Prediction))}")
        if (self.alphabar is None) != (self.prediction == "flow_prediction"):
            raise ValueError("flow prediction goes with flow matching, everything else with a table of alphas")
        if self.alphabar is not None and len(self.alphabar) != self.steps:
            raise ValueError(f"{len(self.alphabar)} alphas for {self.steps} steps")

    @checked
    def timesteps(self, t: Float[Tensor, "B"]) -> Tensor:
        """Return ``[B]`` what the network is told: int64 in [0, T - 1], or ``t * T`` for flow matching.

        Raises:
            ValueError: a t outside [0, 1].
        """
        if not bool(((t >= 0) & (t <= 1)).all()):
            raise ValueError(f"noise levels are from 0 (picture) to 1 (noise), got {t.min().item():.3g} to {t.max().item():.3g}")
        return t * self.steps if self.alphabar is None else (t * (self.steps - 1)).round().long()

    @checked
    def at(self, t: Float[Tensor, "B"]) -> tuple[Float[Tensor, "B"], Float[Tensor, "B"]]:
        """Return signal and noise at t, in the dtype of ``t``.

        Raises:
            ValueError: a t outside [0, 1].
        """
        timesteps = self.timesteps(t)
        if self.alphabar is None:
            return 1 - t, t
        alphabar = self.alphabar.to(t.device)[timesteps]
        return alphabar.sqrt().to(t.dtype), (1 - alphabar).sqrt().to(t.dtype)

    @checked
    def noise_of(self, output: Float[Tensor, "B C h w"], z_t: Float[Tensor, "B C h w"], t: Float[Tensor, "B"]) -> Float[Tensor, "B C h w"]:
        """Return the noise that a network's output at ``z_t`` stands for.

        From ``z_t = s z + n eps``: for ``v = s eps - n z`` it is ``s v + n z_t`` (s^2 + n^2 = 1); for the flow ``u = eps - z`` it is
        ``z_t + s u`` (s + n = 1); for a clean latent ``(z_t - s z) / n``.

        Raises:
            ValueError: a t outside [0, 1].
        """
        if self.prediction == "epsilon":
            return output
        signal, noise = (level.to(z_t.dtype)[:, None, None, None] for level in self.at(t))
        if self.prediction == "v_prediction":
            return signal * output + noise * z_t
        if self.prediction == "flow_prediction":
            return z_t + signal * output
        return (z_t - signal * output) / noise.clamp_min(torch.finfo(z_t.dtype).tiny)
