"""Vision transformers as backbones: a tiny one of transformers' own classes, and its forward pass written out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.testing.tiny_models import read_json, tiny_vit, write_json
from torch.nn import functional

from farm3d.core.errors import InputError, ModelError
from farm3d.core.random import torch_generator
from farm3d.model.vit import VitEncoder, VitOptions

pytest.importorskip("transformers", reason="transformers is not installed: pip install 'farm3d[diffusion]'")

MEAN, STD = (torch.tensor(values)[:, None, None] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
KINDS = ("vit", "deit", "dinov2", "dinov2_with_registers", "dinov3_vit")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("vit")
    return {kind: tiny_vit(root / kind, kind=kind) for kind in KINDS}


def encoder_of(folder: Path, **options: Any) -> VitEncoder:
    return VitEncoder.from_pretrained(folder, options=VitOptions(**{"size_px": 32, **options}), local_files_only=True)


def picture(size: int = 32, count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch_generator(0, "picture", size))


def written_out(network: Any, pixels: torch.Tensor, *, stride: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys of the last block and last hidden state of a ViT, from its weights: patches, positions, blocks."""
    weights = network.embeddings.patch_embeddings.projection
    patches = functional.unfold(pixels, 8, stride=stride).transpose(1, 2) @ weights.weight.reshape(32, -1).T + weights.bias
    side = round(patches.shape[1] ** 0.5)
    learned = network.embeddings.position_embeddings
    grid = functional.interpolate(
        learned[:, 1:].reshape(1, 4, 4, 32).permute(0, 3, 1, 2), (side, side), mode="bicubic", align_corners=False
    )
    first = (network.embeddings.cls_token + learned[:, :1]).expand(len(pixels), -1, -1)
    x = torch.cat([first, patches + grid.flatten(2).transpose(1, 2)], 1)
    keys = torch.empty(0)
    for block in network.layers:
        normed = block.layernorm_before(x)
        attention = block.attention
        query, keys, value = attention.q_proj(normed), attention.k_proj(normed), attention.v_proj(normed)
        heads = [part.unflatten(-1, (4, 8)).transpose(1, 2) for part in (query, keys, value)]
        mixed = (heads[0] @ heads[1].transpose(-1, -2) / 8**0.5).softmax(-1) @ heads[2]
        x = x + attention.o_proj(mixed.transpose(1, 2).flatten(2))
        x = x + block.mlp(block.layernorm_after(x))
    return keys[:, 1:], network.layernorm(x)[:, 1:]


@pytest.mark.parametrize("stride", [8, 4, 2])
@pytest.mark.parametrize("size", [32, 64])
def test_features_are_the_last_keys_and_the_last_state(folders: dict[str, Path], size: int, stride: int) -> None:
    """Also with patches that overlap, and at other sizes than it was trained at: a grid of size / stride, and one more if they overlap."""
    image = picture(size)
    pixels = (image - MEAN) / STD
    pixels = functional.pad(pixels, (4, 4, 4, 4), mode="reflect") if stride < 8 else pixels
    for facet in ("key", "out"):
        encoder = encoder_of(folders["vit"], facet=facet, size_px=size, stride_px=stride)
        expected = written_out(encoder.network, pixels, stride=stride)[facet == "out"]
        features = encoder.features(image)
        assert encoder.grid == size // stride + (stride < 8)
        assert features.shape == (2, 32, encoder.grid, encoder.grid) == (2, encoder.channels, encoder.grid, encoder.grid)
        torch.testing.assert_close(features.flatten(2).transpose(1, 2), expected, atol=1e-4, rtol=1e-4)


def test_the_papers_grid(tmp_path: Path) -> None:
    """Section 1.3: 256 px, patches of 8, stride 4 give 65 x 65."""
    assert encoder_of(tiny_vit(tmp_path / "vit"), size_px=256, stride_px=4).grid == 65


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_a_grid_without_its_special_tokens(folders: dict[str, Path], kind: str) -> None:
    """Where the picture changes, the map changes most: rows and columns are the picture's."""
    encoder = encoder_of(folders[kind], size_px=64)
    image = picture(64, count=1)
    changed = image.clone()
    changed[:, :, 8:16, 48:56] = 1 - changed[:, :, 8:16, 48:56]
    difference = (encoder.features(image) - encoder.features(changed)).norm(dim=1)[0]
    assert difference.shape == (8, 8) and divmod(int(difference.argmax()), 8) == (1, 6)


@pytest.mark.parametrize("kind", ["vit", "deit", "dinov2", "dinov2_with_registers"])
def test_overlapping_patches_see_every_other_one_of_the_plain_grid(folders: dict[str, Path], kind: str) -> None:
    plain, dense = encoder_of(folders[kind], size_px=64), encoder_of(folders[kind], size_px=64, stride_px=4)
    assert (plain.grid, dense.grid) == (8, 17)
    image = functional.interpolate(picture(8, count=1), (64, 64), mode="bilinear")
    similarity = functional.cosine_similarity(plain.features(image), dense.features(image)[:, :, 1::2, 1::2], dim=1)
    assert float(similarity.mean()) > 0.8


def test_frozen_but_differentiable(folders: dict[str, Path]) -> None:
    encoder = encoder_of(folders["vit"])
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    image = picture(48).requires_grad_()
    encoder.features(image).square().mean().backward()
    assert image.grad is not None and float(image.grad.abs().max()) > 0


def test_colours_are_normalised_as_the_folder_says(tmp_path: Path) -> None:
    folder = tiny_vit(tmp_path / "vit")
    write_json(folder / "preprocessor_config.json", {"image_mean": [0.5] * 3, "image_std": [0.5] * 3})
    encoder = encoder_of(folder)
    expected = written_out(encoder.network, picture() * 2 - 1, stride=8)[0]
    torch.testing.assert_close(encoder.features(picture()).flatten(2).transpose(1, 2), expected, atol=1e-4, rtol=1e-4)
    write_json(folder / "preprocessor_config.json", {"image_mean": [0.5] * 3, "image_std": [0.5, 0, 0.5]})
    with pytest.raises(ModelError, match="deviations above 0"):
        encoder_of(folder)


def test_names_digest_and_size_by_default(folders: dict[str, Path]) -> None:
    encoder = VitEncoder.from_pretrained(folders["vit"])
    assert (encoder.name, encoder.size_px, encoder.grid, encoder.facet) == ("vit", 256, 32, "key")
    assert encoder.digest != encoder_of(folders["deit"]).digest and len(encoder.digest) == 64


@pytest.mark.parametrize(
    "options, message",
    [({"size_px": 100}, "size_px 100 is no multiple"), ({"stride_px": 3}, "stride_px 3 must divide"), ({"stride_px": 16}, "stride_px 16")],
)
def test_sizes_that_do_not_go_with_the_patches(folders: dict[str, Path], options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        encoder_of(folders["vit"], **options)
    with pytest.raises(InputError, match="cannot overlap"):
        encoder_of(folders["dinov3_vit"], stride_px=4)


def test_models_that_are_refused(tmp_path: Path) -> None:
    folder = tiny_vit(tmp_path / "vit")
    config = read_json(folder / "config.json")
    for change, message in (
        ({"model_type": "bert"}, "model_type is 'bert', expected one of"),
        ({"auto_map": {"AutoModel": "code.Vit"}}, "asks for code of its own"),
        ({"num_hidden_layers": 3}, "tensors of a ViTModel are missing"),
        ({"hidden_size": 48}, "vit: "),
    ):
        write_json(folder / "config.json", {**config, **change})
        with pytest.raises(ModelError, match=message) as caught:
            encoder_of(folder)
        assert "\n" not in str(caught.value)
    write_json(folder / "config.json", config)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="only pickled weights"):
        encoder_of(folder)
