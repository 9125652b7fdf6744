"""Tiny, seeded models of diffusers' and transformers' own classes, saved as their users would save them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

PART_CLASSES = {
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
}
PROMPT_TOKENS = 24
_WORDS = ("horse", "cow", "walking", "view")
_START, _END = "<|startoftext|>", "<|endoftext|>"
DDPM_TABLE = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let torch's global stream, from which the libraries draw their weights, start at ``seed`` inside, and be as before after."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def tiny_stable_diffusion(
    folder: Path, *, seed: int = 0, scheduler: str = "DDIMScheduler", prompt_tokens: int = PROMPT_TOKENS, **scheduler_config: Any
) -> Path:
    """Write a Stable Diffusion folder of 0.4 M parameters: pictures of 16 px, latents of 4 x 8 x 8."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    vocabulary = tiny_tokenizer(folder / "tokenizer", prompt_tokens=prompt_tokens)
    with seeded(seed), quiet():
        unet = UNet2DConditionModel(
            sample_size=8,
            in_channels=4,
            out_channels=4,
            layers_per_block=1,
            block_out_channels=(32, 64),
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=32,
            attention_head_dim=8,
            norm_num_groups=8,
        )
        blocks: dict[str, Any] = {
            "block_out_channels": (16, 32),
            "down_block_types": ("DownEncoderBlock2D",) * 2,
            "up_block_types": ("UpDecoderBlock2D",) * 2,
        }
        vae = AutoencoderKL(**blocks, latent_channels=4, norm_num_groups=8, sample_size=16)
        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=vocabulary,
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=4,
                max_position_embeddings=prompt_tokens,
                bos_token_id=vocabulary - 2,
                eos_token_id=vocabulary - 1,
                pad_token_id=vocabulary - 1,
            )
        )
        for name, part in (("unet", unet), ("vae", vae), ("text_encoder", text_encoder)):
            part.save_pretrained(str(folder / name), safe_serialization=True)
    write_json(folder / "scheduler" / "scheduler_config.json", {"_class_name": scheduler, **(scheduler_config or DDPM_TABLE)})
    write_json(
        folder / "model_index.json", {"_class_name": "StableDiffusionPipeline", **PART_CLASSES, "scheduler": ["diffusers", scheduler]}
    )
    return folder


def tiny_tokenizer(folder: Path, *, prompt_tokens: int = PROMPT_TOKENS) -> int:
    """Write ``vocab.json`` and ``merges.txt`` of a byte-level tokenizer that knows a few words whole; return its number of tokens."""
    letters = [chr(code) for code in range(33, 127)]
    tokens, merges = [*letters, *(f"{letter}</w>" for letter in letters)], []
    for word in _WORDS:
        pieces = [*word[:-1], f"{word[-1]}</w>"]
        while len(pieces) > 1:
            if (pieces[0], pieces[1]) not in merges:
                merges.append((pieces[0], pieces[1]))
                tokens.append(pieces[0] + pieces[1])
            pieces = [pieces[0] + pieces[1], *pieces[2:]]
    tokens = [*dict.fromkeys(tokens), _START, _END]
    write_json(folder / "vocab.json", {token: number for number, token in enumerate(tokens)})
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges), encoding="utf-8")
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "CLIPTokenizer", "model_max_length": prompt_tokens})
    return len(tokens)


def tiny_vit(folder: Path, *, seed: int = 0, kind: str = "vit") -> Path:
    """Write a vision transformer with 2 layers, 4 heads and 32 channels for pictures of 32 px in patches of 8."""
    import transformers

    sizes: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 32, "patch_size": 8}
    with seeded(seed), quiet():
        if kind == "vit":
            model = transformers.ViTModel(transformers.ViTConfig(**sizes, intermediate_size=64), add_pooling_layer=False)
        elif kind == "deit":
            model = transformers.DeiTModel(transformers.DeiTConfig(**sizes, intermediate_size=64), add_pooling_layer=False)
        elif kind == "dinov2":
            model = transformers.Dinov2Model(transformers.Dinov2Config(**sizes, mlp_ratio=2))
        elif kind == "dinov2_with_registers":
            model = transformers.Dinov2WithRegistersModel(
                transformers.Dinov2WithRegistersConfig(**sizes, mlp_ratio=2, num_register_tokens=3)
            )
        else:
            model = transformers.DINOv3ViTModel(transformers.DINOv3ViTConfig(**sizes, intermediate_size=64, num_register_tokens=3))
        model.save_pretrained(str(folder))
    return folder


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a file."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write an object, and the folder around it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values), encoding="utf-8")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the progress bars of saving out of the test report."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    yield
    if shown:
        logging.enable_progress_bar()


def shape_segmenter(path: Path, *, side: int = 320) -> Path:
    """Write an ONNX network of U2-Net's signature that sees a body on two legs in the middle of any picture."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper

    logits = np.full((1, 1, side, side), -8, np.float32)
    unit = side // 16
    for left, top, width, height in ((4, 5, 8, 4), (4, 9, 2, 4), (10, 9, 2, 4)):
        logits[..., top * unit : (top + height) * unit, left * unit : (left + width) * unit] = 8
    nodes = [
        helper.make_node("Conv", ["input", "w"], ["nothing"]),
        helper.make_node("Add", ["nothing", "shape"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes,
        "shape",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, side, side])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 1, side, side])],
        [
            helper.make_tensor("w", TensorProto.FLOAT, [1, 3, 1, 1], [0.0, 0.0, 0.0]),
            helper.make_tensor("shape", TensorProto.FLOAT, logits.shape, logits.tobytes(), raw=True),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    return path
