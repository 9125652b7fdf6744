"""Any model in Stable Diffusion's layout (1.5, 2.1-base and their kin) as a :class:`farm3d.diffusion.prior.PicturePrior`.

The networks and the schedulers are diffusers' and transformers' own; drawing gives what ``StableDiffusionPipeline`` gives for the same
seeds (a test compares). What is not theirs: prompts are embedded once, pictures are encoded with a gradient, and noise is predicted at
any level.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from farm3d.core.errors import Cancelled, InputError, ModelError
from farm3d.core.hub import digest_of, read_config
from farm3d.core.shapes import Float, Tensor, checked
from farm3d.diffusion.layout import check_parts, part_files
from farm3d.diffusion.loading import load_network, load_tokenizer, require_libraries
from farm3d.diffusion.prior import DrawCallback, Pictures, Prompts
from farm3d.diffusion.schedulers import build_scheduler, fresh_scheduler, noise_levels, step_arguments

__all__ = ["StableDiffusionPrior"]

_KEPT_PROMPTS = 1024  # a quarter of a megabyte each for Stable Diffusion 1.5
_TEXT = "text"


class StableDiffusionPrior:
    """U-Net, autoencoder, CLIP's text half and a scheduler; see :class:`farm3d.diffusion.prior.PicturePrior` for what it does.

    Not made for several threads at once: load one for each.

    Attributes:
        name: hub id or folder name.
        folder: where the files are.
        device, dtype: of the networks.
        latent_shape, size_px: as in the interface.
        draws_alpha: False.
    """

    draws_alpha = False

    def __init__(
        self, *, name: str, folder: Path, files: Sequence[Path], unet: Any, vae: Any, text_encoder: Any, tokenizer: Any, scheduler: Any
    ) -> None:
        self.name, self.folder = name, folder
        self.device, self.dtype = unet.device, unet.dtype
        side = unet.config.sample_size
        self.latent_shape: tuple[int, int, int] = (unet.config.in_channels, side, side)
        self.size_px: int = side * 2 ** (len(vae.config.block_out_channels) - 1)
        self._files = tuple(files)
        self._digest: str | None = None
        self._unet, self._vae, self._text_encoder, self._tokenizer, self._scheduler = unet, vae, text_encoder, tokenizer, scheduler
        self._scale, self._shift = vae.config.scaling_factor, vae.config.shift_factor or 0.0
        self._levels = noise_levels(scheduler, where=str(folder / "scheduler"))
        self._embedded: OrderedDict[str, Tensor] = OrderedDict()

    @classmethod
    def from_pretrained(
        cls, folder: Path, *, name: str, device: torch.device, dtype: torch.dtype = torch.float32, variant: str | None = None
    ) -> StableDiffusionPrior:
        """Load a folder; :func:`farm3d.diffusion.prior.load_prior` is the door.

        Raises:
            ModelError: parts are missing, damaged, pickled, do not fit together or are of classes that we do not know.
            MissingPartError: diffusers is not installed, or too old to be safe.
        """
        configs = check_parts(folder)
        files = part_files(folder, variant=variant)
        if (folder / "tokenizer" / "tokenizer_config.json").exists():
            read_config(folder / "tokenizer", "tokenizer_config.json")
        require_libraries("diffusers", "transformers")
        from diffusers import AutoencoderKL, UNet2DConditionModel
        from transformers import CLIPTextModel, CLIPTokenizer

        of_diffusers = {"device": device, "torch_dtype": dtype, "variant": variant, "low_cpu_mem_usage": False}
        tokenizer = load_tokenizer(CLIPTokenizer, folder / "tokenizer")
        text_encoder = load_network(
            CLIPTextModel, folder / "text_encoder", device=device, dtype=dtype, variant=variant, attn_implementation="sdpa"
        )
        if len(tokenizer) > text_encoder.config.vocab_size:
            raise ModelError(
                f"{folder / 'tokenizer'}: {len(tokenizer)} tokens, but text_encoder knows {text_encoder.config.vocab_size}",
                hint="the parts are of different models: fetch or copy it again",
            )
        return cls(
            name=name,
            folder=folder,
            files=files,
            unet=load_network(UNet2DConditionModel, folder / "unet", **of_diffusers),
            vae=load_network(AutoencoderKL, folder / "vae", **of_diffusers),
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            scheduler=build_scheduler(configs["scheduler"], where=str(folder / "scheduler")),
        )

    @property
    def digest(self) -> str:
        """sha256 over the model's files, which may be gigabytes: they are read when it is first asked for."""
        if self._digest is None:
            self._digest = digest_of(self.folder, self._files)
        return self._digest

    def embed(self, prompts: Sequence[str]) -> Prompts:
        """Return the text encoder's last hidden states ``[B, tokens, channels]``, each prompt embedded alone, once.

        Raises:
            InputError: a prompt has more tokens than the text encoder reads.
        """
        rows = []
        for prompt in prompts:
            if prompt not in self._embedded:
                self._embedded[prompt] = self._embed_one(prompt)
            self._embedded.move_to_end(prompt)
            rows.append(self._embedded[prompt])
        while len(self._embedded) > _KEPT_PROMPTS:
            self._embedded.popitem(last=False)
        tokens, channels = self._reads, self._text_encoder.config.hidden_size
        empty = torch.zeros(0, tokens, channels, device=self.device, dtype=self.dtype)
        return Prompts(tuple(prompts), {_TEXT: torch.stack(rows) if rows else empty})

    @property
    def _reads(self) -> int:
        """Tokens that the text encoder reads, with the two that mark start and end."""
        return min(self._tokenizer.model_max_length, self._text_encoder.config.max_position_embeddings)

    @torch.no_grad()
    def _embed_one(self, prompt: str) -> Tensor:
        count = len(self._tokenizer(prompt).input_ids)
        if count > self._reads:
            raise InputError(
                f"prompt '{prompt[:40]}…' has {count} tokens, and {self.name} reads {self._reads}", hint="say it in fewer words"
            )
        tokens = self._tokenizer(prompt, padding="max_length", max_length=self._reads, return_tensors="pt")
        masked = getattr(self._text_encoder.config, "use_attention_mask", False)
        mask = tokens.attention_mask.to(self.device) if masked else None
        return self._text_encoder(tokens.input_ids.to(self.device), attention_mask=mask)[0][0]

    @torch.no_grad()
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
        """Draw with the model's own scheduler; section 1.1. Seeds are as in diffusers: ``torch.Generator().manual_seed(seed)``.

        Raises:
            InputError: no prompt, another number of seeds or negatives, a negative seed, a prompt that is too long, fewer than one step.
            Cancelled: the callback returned False.
        """
        negatives = [negative] * len(prompts) if isinstance(negative, str) else list(negative)
        _check_drawing(len(prompts), seeds=seeds, negatives=len(negatives), steps=steps)
        words, without = self.embed(prompts), self.embed(negatives)
        scheduler = fresh_scheduler(self._scheduler, steps, self.device)
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        arguments = step_arguments(scheduler, generators)
        noise = torch.cat([torch.randn(1, *self.latent_shape, generator=generator) for generator in generators])
        z = noise.to(self.device, self.dtype) * getattr(scheduler, "init_noise_sigma", 1.0)
        scaled: Callable[..., Tensor] = getattr(scheduler, "scale_model_input", lambda sample, timestep: sample)
        for number, timestep in enumerate(scheduler.timesteps, start=1):
            output = self._output(scaled(z, timestep), timestep.expand(len(z)), words, without, guidance=guidance)
            z = scheduler.step(output, timestep, z, return_dict=False, **arguments)[0]
            if callback is not None and callback(number, len(scheduler.timesteps)) is False:
                raise Cancelled(f"stopped after step {number} of {len(scheduler.timesteps)}")
        return self.decode(z).replace(words=tuple(prompts), seeds=tuple(seeds))

    @checked
    def encode(
        self, rgb: Float[Tensor, "B 3 S S"], alpha: Float[Tensor, "B S S"] | None = None, *, generator: torch.Generator | None = None
    ) -> Float[Tensor, "B C h w"]:
        """Return latents in the dtype of ``rgb``: resized to ``size_px`` bilinearly, ``2 I - 1``, VAE, shift and scale; section 4.2.

        Args:
            rgb: sRGB in [0, 1]. The gradient goes through to it.
            alpha: passed over.
            generator: sample from the VAE's posterior; None takes its mode.

        Raises:
            ValueError: pictures that are not square.
        """
        if rgb.shape[-1] != rgb.shape[-2]:
            raise ValueError(f"pictures of {rgb.shape[-1]} x {rgb.shape[-2]} pixels; expected square ones")
        if rgb.shape[-1] != self.size_px:
            rgb = functional.interpolate(rgb, (self.size_px, self.size_px), mode="bilinear", align_corners=False, antialias=True)
        posterior = self._vae.encode((2 * rgb - 1).to(self.device, self.dtype)).latent_dist
        latents = posterior.mode() if generator is None else posterior.sample(generator)
        return ((latents - self._shift) * self._scale).to(rgb.dtype)

    @checked
    def decode(self, latents: Float[Tensor, "B C h w"]) -> Pictures:
        """Return the pictures of latents, clipped to [0, 1]; differentiable where they were not."""
        decoded = self._vae.decode(latents.to(self.device, self.dtype) / self._scale + self._shift, return_dict=False)[0]
        return Pictures((decoded.float() / 2 + 0.5).clamp(0, 1))

    @checked
    def levels(self, t: Float[Tensor, "B"]) -> tuple[Float[Tensor, "B"], Float[Tensor, "B"]]:
        """Return signal and noise at t in [0, 1], from the scheduler's own alphas."""
        return self._levels.at(t)

    @checked
    def timesteps(self, t: Float[Tensor, "B"]) -> Tensor:
        """Return the U-Net's timesteps ``[B]`` at t in [0, 1]."""
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
        """Return eps_hat(z_t | y), section 4.1, in the dtype of ``z_t``, whatever the U-Net was trained to predict.

        Raises:
            ValueError: sizes that do not fit together, or t outside [0, 1].
        """
        if tuple(z_t.shape[1:]) != self.latent_shape or len(t) != len(z_t):
            raise ValueError(
                f"latents {list(z_t.shape)} at {len(t)} noise levels; expected [B, {', '.join(map(str, self.latent_shape))}] and B levels"
            )
        words = prompts.for_batch(len(z_t))
        without = (negative if negative is not None else self.embed([""])).for_batch(len(z_t))
        t = t.to(z_t.device)
        with torch.set_grad_enabled(gradient and torch.is_grad_enabled()):
            timesteps = self._levels.timesteps(t).to(self.device)
            output = self._output(z_t.to(self.device, self.dtype), timesteps, words, without, guidance=guidance)
            return self._levels.noise_of(output.to(z_t.device, z_t.dtype), z_t, t)

    def _output(self, z: Tensor, timesteps: Tensor, words: Prompts, without: Prompts, *, guidance: float) -> Tensor:
        """Return what the U-Net gives, with classifier-free guidance in one call."""
        text = words.conditions[_TEXT]
        if guidance == 1.0:
            return self._unet(z, timesteps, encoder_hidden_states=text, return_dict=False)[0]
        text = torch.cat([without.conditions[_TEXT], text])
        both = self._unet(torch.cat([z, z]), torch.cat([timesteps, timesteps]), encoder_hidden_states=text, return_dict=False)[0]
        unguided, guided = both.chunk(2)
        return unguided + guidance * (guided - unguided)


def _check_drawing(count: int, *, seeds: Sequence[int], negatives: int, steps: int) -> None:
    if count < 1:
        raise InputError("no prompt to draw", hint="give at least one")
    if len(seeds) != count:
        raise InputError(f"{len(seeds)} seeds for {count} prompts", hint="give one seed for each prompt")
    if min(seeds) < 0:
        raise InputError(f"seed {min(seeds)}: expected 0 or more")
    if negatives != count:
        raise InputError(f"{negatives} negative prompts for {count} prompts", hint="give one for each prompt, or one for all")
    if steps < 1:
        raise InputError(f"{steps} denoising steps: expected at least 1")
