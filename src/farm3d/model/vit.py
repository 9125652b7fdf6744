"""Vision transformers as feature backbones: DINO ViT-S/8 and any kin that transformers knows, by hub id or folder.

Sections 1.3 and 2.3: the papers take the keys of DINO's last block, from a picture that is padded so that patches half overlap. The network
is transformers' own, its weights are safetensors, and no code of the folder is run.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional

from farm3d.core.errors import InputError, ModelError
from farm3d.core.hub import digest_of, read_config, read_json, resolve_model, weight_files
from farm3d.core.shapes import Float, Tensor, checked
from farm3d.diffusion.loading import load_network, require_libraries

__all__ = ["VitEncoder", "VitOptions"]

_HUB_FILES = ("config.json", "preprocessor_config.json", "model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json")
_KINDS = ("deit", "dinov2", "dinov2_with_registers", "dinov3_vit", "vit", "vit_msn")
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_USUAL_PX = 256


@dataclass(frozen=True)
class VitOptions:
    """How a vision transformer looks at a picture.

    Attributes:
        facet: ``key``: what the last block's keys say, heads side by side (the papers' part feature); ``out``: the last hidden state.
        size_px: the picture is resized to this square; None is the multiple of the patch's size nearest to 256.
        stride_px: distance of neighbouring patches; None is their size. 4 with DINO's patches of 8, at 256 px, is section 1.3: the picture
            is reflected by half a patch on each side and gives a grid of 65 x 65.
    """

    facet: Literal["key", "out"] = "key"
    size_px: int | None = None
    stride_px: int | None = None


class VitEncoder(nn.Module):
    """A frozen vision transformer: no parameter asks for a gradient, but gradients flow through to the picture.

    Attributes:
        name: hub id or folder name.
        digest: sha256 over its config and weights: equal digest, equal model.
        channels: C of its features.
        grid: rows and columns G of its feature map.
        size_px, stride_px, facet: as chosen (:class:`VitOptions`).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, *, name: str, digest: str, options: VitOptions, statistics: tuple[Any, Any] = _IMAGENET) -> None:
        super().__init__()
        config: Any = network.config
        patch = config.patch_size
        if type(patch) is not int or patch < 1:
            raise ModelError(f"{name}: patch_size is {patch!r}, expected one whole number: the patches are square")
        self.name, self.digest, self.facet = name, digest, options.facet
        self.size_px = options.size_px or max(round(_USUAL_PX / patch), 1) * patch
        self.stride_px = options.stride_px or patch
        self.channels: int = config.hidden_size
        self.network = network
        self._kind: str = config.model_type
        _check_sizes(self.size_px, self.stride_px, patch, kind=self._kind, name=name)
        self._margin = patch // 2 if self.stride_px < patch else 0
        self.grid = (self.size_px + 2 * self._margin - patch) // self.stride_px + 1
        if self.stride_px < patch:
            _let_patches_overlap(network, self.stride_px)
        _last_keys(network, name)
        mean, std = (torch.tensor(values, dtype=torch.float32)[:, None, None] for values in statistics)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    @classmethod
    def from_pretrained(
        cls,
        source: Path | str,
        *,
        options: VitOptions | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        revision: str | None = None,
        local_files_only: bool = False,
    ) -> VitEncoder:
        """Load a folder or a hub id such as ``facebook/dino-vits8``.

        Colours are normalised as its ``preprocessor_config.json`` says, or else with ImageNet's mean and deviation.

        Raises:
            InputError: no such folder or hub id; a size or stride that does not go with the patches.
            ModelError: not a vision transformer that we know, pickled, damaged or incomplete.
            MissingPartError: transformers is not installed, or the model is not here and cannot be fetched.
        """
        folder, name = resolve_model(source, files=_HUB_FILES, revision=revision, local_files_only=local_files_only)
        kind = read_config(folder).get("model_type")
        if kind not in _KINDS:
            raise ModelError(f"{folder / 'config.json'}: model_type is {kind!r}, expected one of {', '.join(_KINDS)}")
        weights = weight_files(folder, stem="model")
        require_libraries("transformers")
        extra = {"add_pooling_layer": False} if kind in ("vit", "deit") else {}
        network = load_network(_class_of(kind), folder, device=torch.device(device), dtype=dtype, attn_implementation="sdpa", **extra)
        return cls(
            network,
            name=name,
            digest=digest_of(folder, [folder / "config.json", *weights]),
            options=options or VitOptions(),
            statistics=_statistics(folder),
        ).to(device)

    @checked
    def features(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C G G"]:
        """Return the chosen facet of each patch, float32, as the network gives it (before any projection); section 1.3.

        Args:
            image: sRGB-encoded colours in [0, 1]; stretched to ``size_px``.
        """
        if image.shape[-2:] != (self.size_px, self.size_px):
            image = functional.interpolate(image, (self.size_px, self.size_px), mode="bilinear", align_corners=False, antialias=True)
        if self._margin:
            image = functional.pad(image, (self._margin,) * 4, mode="reflect")
        pixels = ((image - self.mean) / self.std).to(next(self.network.parameters()).dtype)
        keys: list[Any] = []
        hook = _last_keys(self.network, self.name).register_forward_hook(lambda module, inputs, output: keys.append(output))
        try:
            asked = {"interpolate_pos_encoding": True} if self._kind in ("vit", "deit", "vit_msn") else {}
            last = self.network(pixels, **asked).last_hidden_state
        finally:
            hook.remove()
        tokens = keys[-1] if self.facet == "key" else last
        patches = tokens[:, -(self.grid**2) :]  # class and register tokens come first
        return patches.float().transpose(1, 2).reshape(len(image), -1, self.grid, self.grid)


def _class_of(kind: str) -> Any:
    import transformers

    return {
        "deit": transformers.DeiTModel,
        "dinov2": transformers.Dinov2Model,
        "dinov2_with_registers": transformers.Dinov2WithRegistersModel,
        "dinov3_vit": transformers.DINOv3ViTModel,
        "vit": transformers.ViTModel,
        "vit_msn": transformers.ViTMSNModel,
    }[kind]


def _check_sizes(size: int, stride: int, patch: int, *, kind: str, name: str) -> None:
    if size < patch or size % patch:
        raise InputError(
            f"{name}: size_px {size} is no multiple of its patches of {patch} px", hint=f"e.g. {round(size / patch) * patch or patch}"
        )
    if stride < 1 or stride > patch or patch % stride or size % stride:
        raise InputError(f"{name}: stride_px {stride} must divide its patches of {patch} px")
    if stride < patch and kind == "dinov3_vit":
        raise InputError(f"{name}: patches of a {kind} cannot overlap: it takes positions from the size", hint="leave out stride_px")


def _last_keys(network: nn.Module, name: str) -> nn.Module:
    """Return the layer that gives the last block's keys: heads side by side."""
    found = [module for path, module in network.named_modules() if path.split(".")[-1] in ("k_proj", "key")]
    if not found:
        raise ModelError(f"{name}: this version of transformers shows no keys in a {type(network).__name__}", hint="update farm3d")
    return found[-1]


def _let_patches_overlap(network: Any, stride: int) -> None:
    """Cut patches at a smaller distance, and give each the position embedding of where it lies (Amir et al. 2021)."""
    embeddings = network.embeddings
    embeddings.patch_embeddings.projection.stride = (stride, stride)
    embeddings.interpolate_pos_encoding = lambda tokens, height, width: _positions(embeddings.position_embeddings, tokens.shape[1])


def _positions(learned: Tensor, tokens: int) -> Tensor:
    """Return position embeddings ``[1, tokens, C]``: those of the special tokens, and the square of the others resized."""
    old = int((learned.shape[1]) ** 0.5)
    special = learned.shape[1] - old**2
    new = round((tokens - special) ** 0.5)
    square = learned[:, special:].reshape(1, old, old, -1).permute(0, 3, 1, 2)
    square = functional.interpolate(square.float(), (new, new), mode="bicubic", align_corners=False).to(learned.dtype)
    return torch.cat([learned[:, :special], square.flatten(2).transpose(1, 2)], 1)


def _statistics(folder: Path) -> tuple[Any, Any]:
    path = folder / "preprocessor_config.json"
    if not path.exists():
        return _IMAGENET
    values = read_json(path)
    mean, std = values.get("image_mean", _IMAGENET[0]), values.get("image_std", _IMAGENET[1])
    good = all(
        isinstance(three, list | tuple) and len(three) == 3 and all(isinstance(x, int | float) for x in three) for three in (mean, std)
    )
    if not good or min(std) <= 0:
        raise ModelError(f"{path}: image_mean and image_std are {mean!r} and {std!r}, expected three numbers each, deviations above 0")
    return mean, std
