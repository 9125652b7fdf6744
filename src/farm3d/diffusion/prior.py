"""The door to text-to-image models: what the rest of the program sees of one, and how one is opened.

Sections 1.1 and 4 ask three things of a model: draw pictures from words; encode pictures to latents, with a gradient; predict the noise in
a noised latent. :class:`PicturePrior` is that and no more. Two kinds lie behind it: any model in Stable Diffusion's layout
(:mod:`farm3d.diffusion.stable_diffusion`) and the project's own small one (:mod:`farm3d.diffusion.embedded`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch

from farm3d.core.errors import ModelError
from farm3d.core.hub import resolve_model
from farm3d.core.shapes import Float, Tensor
from farm3d.diffusion.layout import EMBEDDED_PIPELINE, INDEX, hub_files, pipeline_class
from farm3d.structures._value import Value

__all__ = ["DrawCallback", "Pictures", "PicturePrior", "Prompts", "is_embedded", "load_prior"]

DrawCallback = Callable[[int, int], bool | None]
"""Told the denoising steps done and those in all, after each of them; returning False stops the drawing."""


@dataclass(frozen=True, eq=False, repr=False)
class Prompts(Value):
    """Embedded prompts: what a model is conditioned on, and the words that it came from.

    Attributes:
        words: the B prompts.
        conditions: the model's own tensors by name, each ``[B, ...]``, on its device.
    """

    words: tuple[str, ...]
    conditions: dict[str, Tensor]

    def __len__(self) -> int:
        return len(self.words)

    def pick(self, rows: Sequence[int]) -> Prompts:
        """Return the prompts of these numbers, in this order; a number may come more than once."""
        chosen = list(rows)
        return Prompts(tuple(self.words[i] for i in chosen), {name: value[chosen] for name, value in self.conditions.items()})

    def for_batch(self, count: int) -> Prompts:
        """Return ``count`` prompts: these, or the only one repeated.

        Raises:
            ValueError: there are neither ``count`` of them nor one.
        """
        if len(self) == count:
            return self
        if len(self) != 1:
            raise ValueError(f"{len(self)} prompts for a batch of {count}; expected {count}, or one for all")
        return self.pick([0] * count)


@dataclass(frozen=True, eq=False, repr=False)
class Pictures(Value):
    """Drawn or decoded pictures.

    Attributes:
        rgb: sRGB-encoded colours in [0, 1], float32, ``[B, 3, S, S]``. Where there is an alpha, they are those over the background that the
            model drew: nothing is cut out or multiplied.
        alpha: coverage of the animal in [0, 1], ``[B, S, S]``, of a model that draws it; else None.
        words: the B prompts; empty for decoded pictures.
        seeds: the B seeds; empty for decoded pictures.
    """

    rgb: Float[Tensor, "B 3 S S"]
    alpha: Float[Tensor, "B S S"] | None = None
    words: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()


@runtime_checkable
class PicturePrior(Protocol):
    """A frozen text-to-image diffusion model: no parameter asks for a gradient; :meth:`encode` lets one through to the pictures.

    Noise levels run from t = 0 (a picture) to t = 1 (noise): ``z_t = signal(t) * z + noise(t) * eps``, section 4.1.

    Attributes:
        name: hub id, or the folder's name.
        digest: sha256, as lower-case hex, over the names and sha256 of the files the model was made of: equal digest, equal model.
        size_px: side S of the square pictures it draws.
        latent_shape: C, h, w of its latents.
        draws_alpha: whether its pictures come with the animal's coverage.
        device, dtype: where and in what its networks run.
    """

    @property
    def name(self) -> str: ...  # noqa: D102  (described above, like those that follow)

    @property
    def digest(self) -> str: ...  # noqa: D102

    @property
    def size_px(self) -> int: ...  # noqa: D102

    @property
    def latent_shape(self) -> tuple[int, int, int]: ...  # noqa: D102

    @property
    def draws_alpha(self) -> bool: ...  # noqa: D102

    @property
    def device(self) -> torch.device: ...  # noqa: D102

    @property
    def dtype(self) -> torch.dtype: ...  # noqa: D102

    def embed(self, prompts: Sequence[str]) -> Prompts:
        """Return the prompts as the networks take them; ``""`` is the prompt that says nothing. Each is embedded once and kept.

        Raises:
            InputError: a prompt has more words than the model reads.
        """
        ...

    def draw(
        self,
        prompts: Sequence[str],
        *,
        seeds: Sequence[int],
        negative: str | Sequence[str] = "",
        guidance: float = 7.5,
        steps: int = 50,
        callback: DrawCallback | None = None,
    ) -> Pictures:
        """Draw one picture for each prompt, from noise that depends on its seed only: not on its place in the batch, nor on the others.

        Args:
            prompts: B of them.
            seeds: B of them, 0 or more.
            negative: what the pictures must not look like; one for all, or B of them.
            guidance: scale of classifier-free guidance; 1 is none (and ``negative`` is not used).
            steps: denoising steps.
            callback: see :data:`DrawCallback`.

        Raises:
            InputError: no prompt, another number of seeds or negatives, a negative seed, a prompt that is too long, fewer than one step.
            Cancelled: the callback returned False.
        """
        ...

    def encode(
        self, rgb: Float[Tensor, "B 3 S S"], alpha: Float[Tensor, "B S S"] | None = None, *, generator: torch.Generator | None = None
    ) -> Float[Tensor, "B C h w"]:
        """Return the latents of pictures, differentiable with respect to them.

        Args:
            rgb: sRGB-encoded colours in [0, 1], square, of any size, over whatever background they have.
            alpha: coverage of the animal, used by models that draw it; others pass it over.
            generator: draw the latent from the encoder's distribution, if it has one; None takes the most likely.
        """
        ...

    def decode(self, latents: Float[Tensor, "B C h w"]) -> Pictures:
        """Return the pictures of latents, of side ``size_px``, without words and seeds."""
        ...

    def levels(self, t: Float[Tensor, "B"]) -> tuple[Float[Tensor, "B"], Float[Tensor, "B"]]:
        """Return signal and noise of ``z_t = signal * z + noise * eps`` by the model's own schedule, for t in [0, 1]."""
        ...

    def timesteps(self, t: Float[Tensor, "B"]) -> Tensor:
        """Return ``[B]`` what the network is told of the noise level t: whole numbers for a discrete schedule."""
        ...

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
        """Return the noise that the model sees in noised latents, eps_hat(z_t | y) of section 4.1, whatever it was trained to predict.

        Args:
            z_t: noised latents.
            t: their noise levels in [0, 1].
            prompts: B of them, or one for all.
            guidance: ``eps(negative) + guidance * (eps(prompts) - eps(negative))``, in one call; 1 asks for the prompts alone.
            negative: B of them, or one for all; None is the prompt that says nothing.
            gradient: keep the way back to ``z_t``; score distillation leaves it out.

        Raises:
            ValueError: sizes that do not fit together, or t outside [0, 1].
        """
        ...


def is_embedded(source: str | Path, *, revision: str | None = None, local_files_only: bool = False) -> bool:
    """Return whether a model is an embedded one of ours, by its index alone: no weights are read or downloaded.

    Args:
        source, revision, local_files_only: as in :func:`load_prior`.

    Raises:
        InputError, ModelError, MissingPartError: as :func:`load_prior`.
    """
    folder, _ = resolve_model(source, files=[INDEX], revision=revision, local_files_only=local_files_only)
    return pipeline_class(folder) == EMBEDDED_PIPELINE


def load_prior(
    source: str | Path,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    variant: str | None = None,
    revision: str | None = None,
    local_files_only: bool = False,
) -> PicturePrior:
    """Open a text-to-image model.

    Which kind it is says the class name in its ``model_index.json``, which is compared with those we know. Nothing named by a file is
    imported, no code from the folder is run, and only safetensors are read.

    Args:
        source: a folder in diffusers' layout, or a hub id such as ``stabilityai/stable-diffusion-2-1-base``.
        device, dtype: where and in what the networks run; half precision is for GPUs.
        variant: of the weight files, e.g. ``fp16`` for ``model.fp16.safetensors``.
        revision: branch, tag or commit of a hub id.
        local_files_only: never ask the hub; what was downloaded before is found.

    Raises:
        InputError: no such folder, and no hub id either; or the hub does not have it.
        ModelError: parts are missing, damaged, pickled, do not fit together or are of a kind that we do not know.
        MissingPartError: diffusers is not installed, or the model is not here and the hub may not or cannot be asked.
    """
    folder, name = resolve_model(source, files=hub_files(variant), revision=revision, local_files_only=local_files_only)
    device = torch.device(device)
    if pipeline_class(folder) == EMBEDDED_PIPELINE:
        if variant is not None:
            raise ModelError(f"{folder / INDEX}: a {EMBEDDED_PIPELINE} has no variants, but '{variant}' was asked for")
        from farm3d.diffusion.embedded.pipeline import EmbeddedPrior

        return EmbeddedPrior.from_pretrained(folder, device=device, dtype=dtype)
    from farm3d.diffusion.stable_diffusion import StableDiffusionPrior

    return StableDiffusionPrior.from_pretrained(folder, name=name, device=device, dtype=dtype, variant=variant)
