"""The folder layout, without diffusers: what is fetched, what counts, and that the door costs nothing until it is opened."""

from __future__ import annotations

import fnmatch
import subprocess
import sys
from pathlib import Path

import pytest

from farm3d.diffusion.layout import hub_files, part_files

# What the hub holds of Stable Diffusion 1.5, without the pictures.
HUB = (
    "model_index.json",
    "README.md",
    "v1-5-pruned.safetensors",
    "v1-5-pruned.ckpt",
    "scheduler/scheduler_config.json",
    "tokenizer/vocab.json",
    "tokenizer/merges.txt",
    "tokenizer/tokenizer_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "text_encoder/model.fp16.safetensors",
    "text_encoder/pytorch_model.bin",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "unet/diffusion_pytorch_model.non_ema.safetensors",
    "unet/diffusion_pytorch_model.bin",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
    "vae/diffusion_pytorch_model.fp16.safetensors",
    "safety_checker/model.safetensors",
    "safety_checker/config.json",
)


@pytest.mark.parametrize("variant, ending", [(None, ""), ("fp16", ".fp16")])
def test_one_variant_of_the_parts_is_fetched_and_nothing_else(variant: str | None, ending: str) -> None:
    fetched = {name for name in HUB if any(fnmatch.fnmatch(name, pattern) for pattern in hub_files(variant))}
    weights = {name for name in fetched if not name.endswith((".json", ".txt", ".md"))}
    assert weights == {
        f"text_encoder/model{ending}.safetensors",
        f"unet/diffusion_pytorch_model{ending}.safetensors",
        f"vae/diffusion_pytorch_model{ending}.safetensors",
    }
    assert {name for name in HUB if name.startswith("tokenizer/") or name.endswith("config.json")} <= fetched


def test_the_files_of_a_model(tiny_folder: Path) -> None:
    assert sorted(path.relative_to(tiny_folder).as_posix() for path in part_files(tiny_folder)) == [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "tokenizer/merges.txt",
        "tokenizer/tokenizer_config.json",
        "tokenizer/vocab.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    ]


def test_the_door_imports_nothing_heavy() -> None:
    program = (
        "import sys; import farm3d.diffusion.prior, farm3d.diffusion.distill, farm3d.diffusion.stable_diffusion, farm3d.model.vit;"
        "sys.exit(str(sorted({'diffusers', 'transformers', 'huggingface_hub', 'tokenizers'} & set(sys.modules)) or ''))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.stderr.strip() == ""
