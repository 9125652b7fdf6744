"""The project's own text-to-image model as a :class:`farm3d.diffusion.prior.PicturePrior`: words in, animals with their silhouettes out."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from farm3d.core.errors import Cancelled, InputError
from farm3d.core.shapes import Float, Tensor, checked
from farm3d.diffusion.embedded.parts import EmbeddedParts, read_parts, write_parts
from farm3d.diffusion.levels import NoiseLevels
from farm3d.diffusion.loading import require_libraries
from farm3d.diffusion.prior import DrawCallback, Pictures, Prompts
from farm3d.diffusion.schedulers import build_scheduler, fresh_scheduler, step_arguments

__all__ = ["EmbeddedPrior"]

_KEPT_PROMPTS = 1024
_VECTOR, _MEAN = "vector", "mean"


class EmbeddedPrior:
    """Text encoder, denoiser and decoder in latents of principal components, by flow matching; see the interface for what it does.

    Unlike Stable Diffusion it draws the animal's coverage too, takes it in :meth:`encode`, and its latents are a fixed linear map of the
    picture, so that their gradient is exact. The denoiser runs in ``dtype``, everything else in float32.

    Args:
        parts: trained parts; their weights are frozen and moved.
        name, digest: as in the interface.
        scheduler: config of diffusers' scheduler; None for flow matching by Euler steps.

    Attributes:
        name, digest, device, dtype, latent_shape, size_px: as in the interface.
        draws_alpha: True.
        parts: the networks.
    """

    draws_alpha = True

    def __init__(
        self,
        parts: EmbeddedParts,
        *,
        name: str = "embedded",
        digest: str = "",
        scheduler: dict[str, Any] | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.parts = parts
        self.name, self.digest = name, digest
        self.device, self.dtype = torch.device(device), dtype
        for module in parts.modules().values():
            module.to(self.device).requires_grad_(False).eval()
        parts.denoiser.network.to(dtype)
        config = parts.decoder.transform.config
        self.latent_shape: tuple[int, int, int] = config.shape
        self.size_px: int = config.size_px
        self._scheduler_config = scheduler
        self._levels = NoiseLevels(steps=1000, prediction="flow_prediction")
        self._embedded: OrderedDict[str, tuple[Tensor, Tensor]] = OrderedDict()

    @classmethod
    def from_pretrained(
        cls, folder: Path | str, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> EmbeddedPrior:
        """Load a folder that :meth:`save_pretrained` wrote.

        Raises:
            ModelError: naming the file: missing, changed, of another kind, or of parts that do not fit together.
        """
        path = Path(folder)
        parts, scheduler, digest = read_parts(path)
        return cls(parts, name=path.resolve().name, digest=digest, scheduler=scheduler, device=device, dtype=dtype)

    def save_pretrained(self, folder: Path | str, *, card: str = "# An embedded prior of farm3d\n") -> None:
        """Write the folder, whole or not at all: diffusers' layout, bfloat16 weights, a manifest of checksums, the card as README.

        Raises:
            ModelError: a weight is not finite.
            OutputError: the folder is something else, or cannot be written.
        """
        write_parts(Path(folder), self.parts, card=card, scheduler=self._scheduler_config)

    @cached_property
    def scheduler(self) -> Any:
        """The scheduler, one of diffusers'.

        Raises:
            MissingPartError: diffusers is not installed, or too old to be safe.
            ModelError: a config that it does not take.
        """
        require_libraries("diffusers")
        config = self._scheduler_config or {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000}
        return build_scheduler(config, where=f"{self.name}/scheduler")

    @torch.no_grad()
    def embed(self, prompts: Sequence[str]) -> Prompts:
        """Return the prompts' vectors and mean pictures, each prompt embedded alone, once.

        Raises:
            InputError: a prompt has more words than the model reads.
        """
        rows = []
        for prompt in prompts:
            if prompt not in self._embedded:
                vector, mean = self.parts.text(self.parts.tokenizer([prompt]).to(self.device))
                self._embedded[prompt] = (vector[0], mean[0])
            self._embedded.move_to_end(prompt)
            rows.append(self._embedded[prompt])
        while len(self._embedded) > _KEPT_PROMPTS:
            self._embedded.popitem(last=False)
        if not rows:
            width = self.parts.text.config.vector
            empty = {_VECTOR: torch.zeros(0, width, device=self.device), _MEAN: torch.zeros(0, *self.latent_shape, device=self.device)}
            return Prompts((), empty)
        return Prompts(tuple(prompts), {_VECTOR: torch.stack([row[0] for row in rows]), _MEAN: torch.stack([row[1] for row in rows])})

    @torch.no_grad()
    def draw(
        self,
        prompts: Sequence[str],
        *,
        seeds: Sequence[int],
        negative: str | Sequence[str] = "",
        guidance: float = 4.0,
        steps: int = 24,
        callback: DrawCallback | None = None,
    ) -> Pictures:
        """Draw with diffusers' scheduler. A seed means what it means in diffusers: ``torch.Generator().manual_seed(seed)``.

        Raises:
            InputError: no prompt, another number of seeds or negatives, a negative seed, a prompt that is too long, fewer than one step.
            MissingPartError: diffusers is not installed.
            Cancelled: the callback returned False.
        """
        negatives = [negative] * len(prompts) if isinstance(negative, str) else list(negative)
        _check_drawing(len(prompts), seeds, len(negatives), steps)
        words, without = self.embed(prompts), self.embed(negatives)
        scheduler = fresh_scheduler(self.scheduler, steps, self.device)
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        arguments = step_arguments(scheduler, generators)
        z = torch.stack([torch.randn(self.latent_shape, generator=generator) for generator in generators]).to(self.device)
        for number, timestep in enumerate(scheduler.timesteps, start=1):
            t = (timestep / self._levels.steps).expand(len(z))
            velocity = self._velocity(z, t.float(), words, without, guidance)
            z = scheduler.step(velocity, timestep, z, return_dict=False, **arguments)[0]
            if callback is not None and callback(number, len(scheduler.timesteps)) is False:
                raise Cancelled(f"stopped after step {number} of {len(scheduler.timesteps)}")
        return self.decode(z).replace(words=tuple(prompts), seeds=tuple(seeds))

    @checked
    def encode(
        self, rgb: Float[Tensor, "B 3 S S"], alpha: Float[Tensor, "B S S"] | None = None, *, generator: torch.Generator | None = None
    ) -> Float[Tensor, "B C h w"]:
        """Return latents, float32: resized to ``size_px`` bilinearly, then the patch transform: linear, and so is its gradient.

        Args:
            rgb: sRGB in [0, 1].
            alpha: coverage in [0, 1]; without it, its channels are those of the average coverage.
            generator: passed over: the transform has no noise.
        """
        if rgb.shape[-1] != self.size_px:
            size = (self.size_px, self.size_px)
            rgb = functional.interpolate(rgb, size, mode="bilinear", align_corners=False, antialias=True)
            if alpha is not None:
                alpha = functional.interpolate(alpha[:, None], size, mode="bilinear", align_corners=False, antialias=True)[:, 0]
        move = {"device": self.device, "dtype": torch.float32}
        return self.parts.decoder.transform.encode(rgb.to(**move), None if alpha is None else alpha.to(**move))

    @checked
    def decode(self, latents: Float[Tensor, "B C h w"]) -> Pictures:
        """Return the pictures of latents and their coverage, clipped to [0, 1]; differentiable where they were not."""
        rgb, alpha = self.parts.decoder(latents.to(self.device, torch.float32))
        return Pictures(rgb.clamp(0, 1), alpha.clamp(0, 1))

    @checked
    def levels(self, t: Float[Tensor, "B"]) -> tuple[Float[Tensor, "B"], Float[Tensor, "B"]]:
        """Return signal ``1 - t`` and noise ``t``."""
        return self._levels.at(t)

    @checked
    def timesteps(self, t: Float[Tensor, "B"]) -> Tensor:
        """Return ``1000 t``, what diffusers' flow-matching schedulers call the timestep."""
        return self._levels.timesteps(t)

    @checked
    def predict_noise(
        self,
        z_t: Float[Tensor, "B C h w"],
        t: Float[Tensor, "B"],
        prompts: Prompts,
        *,
        guidance: float = 1.0,
        negative: Prompts | None = None,
        gradient: bool = False,
    ) -> Float[Tensor, "B C h w"]:
        """Return the noise that the model sees in noised latents: ``z_t + (1 - t) v`` for its velocity v; float32.

        Raises:
            ValueError: sizes that do not fit together, or t outside [0, 1].
        """
        if len(t) != len(z_t):
            raise ValueError(f"{len(t)} noise levels for {len(z_t)} latents")
        self._levels.timesteps(t)  # refuses what is outside [0, 1]
        without = self.embed([""]) if negative is None else negative
        with torch.set_grad_enabled(gradient and torch.is_grad_enabled()):
            z_t, t = z_t.to(self.device), t.to(self.device)
            velocity = self._velocity(z_t, t, prompts.for_batch(len(z_t)), without.for_batch(len(z_t)), guidance)
            return self._levels.noise_of(velocity, z_t.float(), t.float())

    def _velocity(self, z_t: Tensor, t: Tensor, prompts: Prompts, without: Prompts, guidance: float) -> Tensor:
        vector, mean = prompts.conditions[_VECTOR], prompts.conditions[_MEAN]
        if guidance == 1.0:
            return self.parts.denoiser(z_t, t, vector, mean)
        both = self.parts.denoiser(
            torch.cat([z_t, z_t]),
            torch.cat([t, t]),
            torch.cat([vector, without.conditions[_VECTOR]]),
            torch.cat([mean, without.conditions[_MEAN]]),
        )
        asked, plain = both.chunk(2)
        return plain + guidance * (asked - plain)


def _check_drawing(count: int, seeds: Sequence[int], negatives: int, steps: int) -> None:
    if count == 0:
        raise InputError("no prompt to draw", hint="give at least one")
    if len(seeds) != count or negatives != count:
        raise InputError(f"{count} prompts, {len(seeds)} seeds, {negatives} negative prompts", hint="give one of each for each picture")
    if any(seed < 0 for seed in seeds):
        raise InputError(f"seed {min(seeds)}: expected 0 or more")
    if steps < 1:
        raise InputError(f"{steps} denoising steps: expected at least 1")
