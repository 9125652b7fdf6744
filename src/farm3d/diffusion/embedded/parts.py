"""The parts of an embedded prior together: made from a seed, written to a folder in diffusers' layout, read back after checking every byte.

```
NAME/
  model_index.json          {"_class_name": "Farm3DEmbeddedPipeline", "unet": ["farm3d", "Denoiser"], …}
  tokenizer/                tokenizer_config.json, vocab.json
  text_encoder/             config.json, model.safetensors
  unet/                     config.json, diffusion_pytorch_model.safetensors   (network and the statistics of the linear guess)
  vae/                      config.json, diffusion_pytorch_model.safetensors   (patch transform and learned decoder)
  scheduler/                scheduler_config.json                              (diffusers' FlowMatchEulerDiscreteScheduler)
  README.md                 model card
  manifest.json             size and sha256 of each (:mod:`farm3d.core.sealed`)
```

Class names in the files are compared with our own and used for nothing else. Weights are stored as bfloat16, statistics as float32.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from farm3d.core.config import config_from_dict, config_to_dict
from farm3d.core.errors import ModelError
from farm3d.core.sealed import SealedFolder, parse_json, require_replaceable, write_sealed
from farm3d.core.shapes import Tensor
from farm3d.core.tensor_bytes import bytes_from_tensors, expect_tensors, tensors_from_bytes
from farm3d.diffusion.embedded.config import EmbeddedConfig, LatentConfig, NetworkConfig, TextConfig
from farm3d.diffusion.embedded.decoder import PictureDecoder
from farm3d.diffusion.embedded.denoiser import Denoiser
from farm3d.diffusion.embedded.text import TextEncoder
from farm3d.diffusion.embedded.tokenizer import WordTokenizer
from farm3d.diffusion.layout import EMBEDDED_PIPELINE, INDEX

__all__ = ["EmbeddedParts", "build_parts", "copy_parts", "read_parts", "require_pipeline_place", "tensors_of", "write_parts"]

FORMAT_VERSION = 1
_FORMAT = "farm3d-pipeline"
_SCHEDULER = "FlowMatchEulerDiscreteScheduler"
_SCHEDULER_CONFIG = {"_class_name": _SCHEDULER, "num_train_timesteps": 1000, "shift": 1.0}
_CARD, _VOCABULARY, _TOKENIZER = "README.md", "tokenizer/vocab.json", "tokenizer/tokenizer_config.json"
_SCHEDULER_FILE = "scheduler/scheduler_config.json"
_WEIGHTS = {"text_encoder": "model", "unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model"}
_CLASSES = {"text_encoder": "TextEncoder", "unet": "Denoiser", "vae": "PictureDecoder"}
_PIPELINE = {
    "_class_name": EMBEDDED_PIPELINE,
    "scheduler": ["diffusers", _SCHEDULER],
    "tokenizer": ["farm3d", "WordTokenizer"],
    **{part: ["farm3d", name] for part, name in _CLASSES.items()},
}

_Config = TypeVar("_Config")


@dataclass(frozen=True, eq=False)
class EmbeddedParts:
    """Tokenizer and networks; ``decoder.transform`` is the fixed way between pictures and latents."""

    tokenizer: WordTokenizer
    text: TextEncoder
    denoiser: Denoiser
    decoder: PictureDecoder

    def modules(self) -> dict[str, nn.Module]:
        """Return the networks by the name of their folder."""
        return {"text_encoder": self.text, "unet": self.denoiser, "vae": self.decoder}


def build_parts(config: EmbeddedConfig, tokenizer: WordTokenizer, *, seed: int) -> EmbeddedParts:
    """Return untrained parts, float32, on the CPU; equal seed, equal weights. The global random stream stays as it is."""
    text = dataclasses.replace(
        config.text, words=len(tokenizer.words), buckets=tokenizer.buckets, max_words=tokenizer.max_words, vector=config.network.vector
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return EmbeddedParts(
            tokenizer, TextEncoder(text, latent_shape=config.latents.shape), Denoiser(config.network), PictureDecoder(config.latents)
        )


def copy_parts(parts: EmbeddedParts) -> EmbeddedParts:
    """Return parts of equal weights, float32, on the CPU, that share no memory with ``parts``."""
    config = EmbeddedConfig(parts.text.config, parts.decoder.transform.config, parts.denoiser.config)
    copy = build_parts(config, parts.tokenizer, seed=0)
    for part, module in copy.modules().items():
        module.load_state_dict(parts.modules()[part].state_dict())
    return copy


def write_parts(path: Path, parts: EmbeddedParts, *, card: str, scheduler: dict[str, Any] | None = None) -> None:
    """Write the folder, whole or not at all; an older pipeline there is replaced.

    Args:
        path: the folder.
        parts: in any dtype, on any device.
        card: model card, Markdown.
        scheduler: its config; None for the usual one.

    Raises:
        ModelError: a weight is not finite.
        OutputError: the folder is something else, or cannot be written.
    """
    configs = {"text_encoder": parts.text.config, "unet": parts.denoiser.config, "vae": parts.decoder.transform.config}
    tokenizer = {"_class_name": "WordTokenizer", "buckets": parts.tokenizer.buckets, "max_words": parts.tokenizer.max_words}
    contents = {
        INDEX: _json(_PIPELINE),
        _CARD: card.encode(),
        _VOCABULARY: _json(list(parts.tokenizer.words)),
        _TOKENIZER: _json(tokenizer),
        _SCHEDULER_FILE: _json(scheduler or _SCHEDULER_CONFIG),
    }
    for part, module in parts.modules().items():
        contents[f"{part}/config.json"] = _json({"_class_name": _CLASSES[part], **config_to_dict(configs[part])})
        trained = {name for name, _ in module.named_parameters()}
        tensors = {name: value.to(torch.bfloat16 if name in trained else torch.float32) for name, value in module.state_dict().items()}
        contents[f"{part}/{_WEIGHTS[part]}.safetensors"] = bytes_from_tensors(tensors, where=str(path / part))
    write_sealed(path, contents, form=_FORMAT, version=FORMAT_VERSION, kind=EMBEDDED_PIPELINE, what="pipeline folder")


def require_pipeline_place(path: Path) -> None:
    """Refuse a folder that :func:`write_parts` could not write, before the work: something else stands there.

    Raises:
        OutputError: saying what stands there.
    """
    require_replaceable(path, form=_FORMAT, kind=EMBEDDED_PIPELINE, what="pipeline folder")


def read_parts(path: Path) -> tuple[EmbeddedParts, dict[str, Any], str]:
    """Read a folder after checking every byte of it.

    Returns:
        The parts (float32, on the CPU), the scheduler's config, and the digest of all but the card.

    Raises:
        ModelError: naming the file: missing, changed, of another kind or version, or what does not fit together.
    """
    names = [INDEX, _CARD, _VOCABULARY, _TOKENIZER, _SCHEDULER_FILE]
    names += [f"{part}/{file}" for part, stem in _WEIGHTS.items() for file in ("config.json", f"{stem}.safetensors")]
    folder = SealedFolder(path, form=_FORMAT, version=FORMAT_VERSION, kind=EMBEDDED_PIPELINE, names=names, what="pipeline folder")
    contents = {name: folder.read(name) for name in names}
    if parse_json(path / INDEX, contents[INDEX]) != _PIPELINE:
        raise ModelError(f"{path / INDEX}: names other parts than an embedded prior has", hint="use the farm3d release it was made for")
    text = _config(path, contents, "text_encoder", TextConfig)
    network = _config(path, contents, "unet", NetworkConfig)
    latents = _config(path, contents, "vae", LatentConfig)
    if (network.channels, network.grid, network.vector) != (latents.channels, latents.grid, text.vector):
        raise ModelError(f"{path}: its parts do not fit together", hint="fetch or copy the pipeline folder again")
    words = parse_json(path / _VOCABULARY, contents[_VOCABULARY])
    if not (isinstance(words, list) and all(isinstance(word, str) for word in words) and len(words) == text.words):
        raise ModelError(f"{path / _VOCABULARY}: expected a list of {text.words} words")
    parts = build_parts(
        EmbeddedConfig(text, latents, network), WordTokenizer(words, buckets=text.buckets, max_words=text.max_words), seed=0
    )
    for part, module in parts.modules().items():
        file = f"{part}/{_WEIGHTS[part]}.safetensors"
        tensors = tensors_from_bytes(contents[file], where=str(path / file))
        expect_tensors(tensors, {name: tuple(value.shape) for name, value in module.state_dict().items()}, where=str(path / file))
        module.load_state_dict({name: value.float() for name, value in tensors.items()})
    scheduler = parse_json(path / _SCHEDULER_FILE, contents[_SCHEDULER_FILE])
    if not isinstance(scheduler, dict) or scheduler.get("_class_name") != _SCHEDULER:
        raise ModelError(f"{path / _SCHEDULER_FILE}: expected the config of a {_SCHEDULER}")
    own = {name: contents[name] for name in sorted(names) if name != _CARD}  # what is said of a model is not the model
    digest = hashlib.sha256("".join(f"{name} {hashlib.sha256(data).hexdigest()}\n" for name, data in own.items()).encode()).hexdigest()
    return parts, scheduler, digest


def tensors_of(parts: EmbeddedParts) -> dict[str, Tensor]:
    """Return every weight and statistic by ``part/name``."""
    return {f"{part}/{name}": value for part, module in parts.modules().items() for name, value in module.state_dict().items()}


def _config(path: Path, contents: dict[str, bytes], part: str, kind: type[_Config]) -> _Config:
    file = path / part / "config.json"
    values = parse_json(file, contents[f"{part}/config.json"])
    if not isinstance(values, dict) or values.pop("_class_name", None) != _CLASSES[part]:
        raise ModelError(f"{file}: expected the config of a {_CLASSES[part]}")
    return config_from_dict(kind, values, where=f"{file}: config")


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
