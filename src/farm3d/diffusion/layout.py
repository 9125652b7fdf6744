"""diffusers' folder layout, read as data: which pipeline a ``model_index.json`` names, and whether each part is what it must be.

```
model_index.json             {"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"], …}
unet/, vae/                  config.json, diffusion_pytorch_model.safetensors
text_encoder/                config.json, model.safetensors
tokenizer/                   vocab.json and merges.txt, or tokenizer.json
scheduler/                   scheduler_config.json
```

Library and class names are compared with the lists here and used for nothing else. (In diffusers' own loader they once chose what was
imported: GHSA-4prv-5hj7-c2xr.) This module needs neither diffusers nor torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from farm3d.core.errors import ModelError
from farm3d.core.hub import read_config, read_json, weight_files

__all__ = ["EMBEDDED_PIPELINE", "INDEX", "SCHEDULERS", "STABLE_DIFFUSION", "check_parts", "hub_files", "part_files", "pipeline_class"]

INDEX = "model_index.json"
STABLE_DIFFUSION = "StableDiffusionPipeline"
EMBEDDED_PIPELINE = "Farm3DEmbeddedPipeline"

SCHEDULERS: tuple[str, ...] = (
    "DDIMScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "FlowMatchEulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "LCMScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "UniPCMultistepScheduler",
)
"""The schedulers that a model may come with; what draws with them is in :mod:`farm3d.diffusion.schedulers`."""

_PARTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "unet": (("diffusers",), ("UNet2DConditionModel",)),
    "vae": (("diffusers",), ("AutoencoderKL",)),
    "text_encoder": (("transformers",), ("CLIPTextModel",)),
    "tokenizer": (("transformers",), ("CLIPTokenizer", "CLIPTokenizerFast")),
    "scheduler": (("diffusers",), SCHEDULERS),
}
_UNUSED = {"safety_checker", "feature_extractor", "image_encoder"}  # may be there; none of them is opened
_STEMS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}


def pipeline_class(folder: Path) -> str:
    """Return which of the pipelines we know a folder holds.

    Raises:
        ModelError: there is no readable index, or it names another class.
    """
    name = read_json(folder / INDEX).get("_class_name")
    if name not in (STABLE_DIFFUSION, EMBEDDED_PIPELINE):
        own_code = " (code of its own is never run)" if not isinstance(name, str) else ""
        raise ModelError(
            f"{folder / INDEX}: holds a {name!r}, expected {STABLE_DIFFUSION} or {EMBEDDED_PIPELINE}{own_code}",
            hint="give a model in Stable Diffusion's layout, such as 1.5 or 2.1-base",
        )
    return name


def hub_files(variant: str | None = None) -> list[str]:
    """Return patterns of what is worth fetching of a hub model: the parts in one variant, not the single-file checkpoints beside them."""
    weights = [f"*/{_wanted('diffusion_pytorch_model', variant)}", f"text_encoder/{_wanted('model', variant)}"]
    return [
        INDEX,
        "manifest.json",
        "README.md",
        "*/*.json",
        "*/merges.txt",
        *(f"{start}{end}" for start in weights for end in (".safetensors", "-*-of-*.safetensors")),
    ]


def check_parts(folder: Path) -> dict[str, dict[str, Any]]:
    """Check that a Stable Diffusion folder has the parts it must have, of the classes it must have, and that they fit together.

    Returns:
        The config of ``unet``, ``vae``, ``text_encoder`` and ``scheduler``; the last one's ``_class_name`` is one of :data:`SCHEDULERS`.

    Raises:
        ModelError: naming the first part that is missing, of another class, from another library, or does not fit the others.
    """
    index = read_json(folder / INDEX)
    for part, value in index.items():
        if part not in _PARTS and part not in _UNUSED and isinstance(value, list) and value != [None, None]:
            raise ModelError(f"{folder / INDEX}: '{part}' is no part of Stable Diffusion", hint="give a model such as 1.5 or 2.1-base")
    for part, (libraries, classes) in _PARTS.items():
        named = index.get(part)
        if named is None:
            raise ModelError(f"{folder / INDEX}: part '{part}' is missing", hint="fetch or copy the model again")
        if not (isinstance(named, list) and len(named) == 2 and named[0] in libraries and named[1] in classes):
            raise ModelError(
                f"{folder / INDEX}: '{part}' is {named!r}, expected {libraries[0]}'s {' or '.join(classes)}",
                hint="code that a model brings or names is never run",
            )
        if not (folder / part).is_dir():
            raise ModelError(f"{folder / part}: missing", hint="fetch or copy the model again")
    configs = {part: read_config(folder / part) for part in _STEMS}
    configs["scheduler"] = read_config(folder / "scheduler", "scheduler_config.json")
    configs["scheduler"]["_class_name"] = index["scheduler"][1]
    _check_fit(folder, configs["unet"], configs["vae"], configs["text_encoder"])
    return configs


def part_files(folder: Path, *, variant: str | None = None) -> list[Path]:
    """Return the files that a Stable Diffusion model is made of: index, configs, weights, vocabulary.

    Raises:
        ModelError: a part has no safetensors (of this variant).
    """
    files = [folder / INDEX, folder / "scheduler" / "scheduler_config.json"]
    for part, stem in _STEMS.items():
        files += [folder / part / "config.json", *weight_files(folder / part, stem=stem, variant=variant)]
    tokenizer = folder / "tokenizer"
    files += sorted(path for path in tokenizer.iterdir() if path.suffix == ".json" or path.name == "merges.txt")
    return files


def _wanted(stem: str, variant: str | None) -> str:
    return f"{stem}.{variant}" if variant else stem


def _check_fit(folder: Path, unet: dict[str, Any], vae: dict[str, Any], text: dict[str, Any]) -> None:
    latent = vae.get("latent_channels", 4)
    for name, channels in (("in_channels", unet.get("in_channels", 4)), ("out_channels", unet.get("out_channels", 4))):
        if channels != latent:
            raise ModelError(
                f"{folder / 'unet' / 'config.json'}: {name} is {channels}, but the latents of vae have {latent} channels",
                hint="inpainting, depth and upscaling models are of another kind; give a text-to-image model",
            )
    words, read = text.get("hidden_size", 512), unet.get("cross_attention_dim", 1280)
    if read != words:
        raise ModelError(
            f"{folder / 'unet' / 'config.json'}: cross_attention_dim is {read}, but text_encoder gives {words} channels",
            hint="the parts are of different models: fetch or copy it again",
        )
    for name in ("addition_embed_type", "class_embed_type", "time_cond_proj_dim", "encoder_hid_dim_type", "num_class_embeds"):
        if unet.get(name) is not None:
            raise ModelError(
                f"{folder / 'unet' / 'config.json'}: {name} is {unet[name]!r}: this network wants more than a prompt",
                hint="give a text-to-image model such as Stable Diffusion 1.5 or 2.1-base",
            )
    size = unet.get("sample_size")
    if not (type(size) is int and size > 0):
        raise ModelError(f"{folder / 'unet' / 'config.json'}: sample_size is {size!r}, expected one whole number: the pictures are square")
