"""The backbone: its padding, its features, its opinion of animals, and the folder it is loaded from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.testing.tiny_models import tiny_vit

from farm3d.core.errors import InputError, ModelError
from farm3d.core.random import torch_generator
from farm3d.model.encoder import NO_ANIMAL_BELOW, QUADRUPED_CLASSES, Encoder, EncoderConfig, _SameConv, load_encoder, project
from farm3d.model.folder import load_model_folder, save_model_folder, weights_folder
from farm3d.model.vit import VitEncoder, VitOptions


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.from_pretrained()


def smooth_picture(*words: str, size: int = 256) -> torch.Tensor:
    coarse = torch.rand(1, 3, 12, 12, generator=torch_generator(0, *words))
    return torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic", align_corners=False).clamp(0, 1)


def photograph(path: Path) -> torch.Tensor:
    with Image.open(path) as picture:
        return torch.from_numpy(np.array(picture.convert("RGB").resize((256, 256)))).permute(2, 0, 1)[None] / 255


def test_padding_is_tensorflows(encoder: Encoder) -> None:
    """Stride 2 on an even size: kernel 3 starts at row 0 (no zero before), kernel 5 at row -1; stride 1 is centred."""
    for kernel, stride, hit in ((3, 2, [1, 1, 0, 0]), (5, 2, [1, 1, 0, 0]), (3, 1, [0, 1, 1, 1, 0, 0, 0, 0])):
        conv = _SameConv(1, 1, kernel=kernel, stride=stride, relu=False)
        conv.weight.fill_(1.0)
        impulse = torch.zeros(1, 1, 8, 8)
        impulse[0, 0, 2] = 1.0
        rows = (conv(impulse)[0, 0].sum(1) > 0).int().tolist()
        assert rows == hit, (kernel, stride, rows)


def test_features_have_the_configured_shape_and_do_not_mix_pictures(encoder: Encoder) -> None:
    assert encoder.channels == 304
    pictures = torch.cat([smooth_picture("a"), smooth_picture("b")])
    together = encoder.features(pictures)
    assert together.shape == (2, 304, 16, 16)
    assert torch.isfinite(together).all()
    torch.testing.assert_close(together[1:], encoder.features(pictures[1:]), atol=1e-4, rtol=1e-4)
    assert encoder.features(smooth_picture("a", size=200)).shape == (1, 304, 16, 16)


def test_other_blocks_are_a_matter_of_the_config(tmp_path: Path) -> None:
    _, tensors = load_model_folder(weights_folder("efficientnet_lite0"), EncoderConfig)
    save_model_folder(tmp_path / "other", EncoderConfig(blocks=(4, 10), grid=8), tensors=tensors, card="")
    other = Encoder.from_pretrained(tmp_path / "other")
    assert other.channels == 152
    assert other.features(smooth_picture("a")).shape == (1, 152, 8, 8)


def test_a_mirrored_picture_gives_mirrored_features(encoder: Encoder) -> None:
    picture = smooth_picture("a")
    straight, mirrored = encoder.features(picture), encoder.features(picture.flip(-1)).flip(-1)
    similarity = torch.nn.functional.cosine_similarity(straight.flatten(1), mirrored.flatten(1))
    assert similarity.item() > 0.8  # only nearly: stride and padding know left from right


def test_frozen_but_differentiable(encoder: Encoder) -> None:
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    picture = smooth_picture("a", size=64).requires_grad_()
    encoder.features(picture).square().mean().backward()
    assert picture.grad is not None
    assert picture.grad.abs().max() > 0


def test_probabilities(encoder: Encoder) -> None:
    probabilities = encoder.classify(torch.cat([smooth_picture("a"), smooth_picture("b")]))
    assert probabilities.shape == (2, 1000)
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(2))
    assert len(set(QUADRUPED_CLASSES)) == len(QUADRUPED_CLASSES)
    assert max(QUADRUPED_CLASSES) < 398  # ImageNet's animals end at 397


def test_what_is_plainly_no_animal(encoder: Encoder) -> None:
    noise = torch.rand(1, 3, 256, 256, generator=torch_generator(0, "noise"))
    ramp = torch.linspace(0, 1, 256).expand(1, 3, 256, 256)
    checks = ((torch.arange(256)[:, None] // 32 + torch.arange(256) // 32) % 2).float().expand(1, 3, 256, 256)
    blue = torch.tensor([0.1, 0.2, 0.9])[None, :, None, None].expand(1, 3, 256, 256)
    pictures = torch.cat([noise, ramp, checks, blue])
    assert (encoder.animal_probability(pictures) < NO_ANIMAL_BELOW).all()


def test_a_mask_can_only_help(encoder: Encoder) -> None:
    picture = smooth_picture("a")
    mask = torch.zeros(1, 256, 256)
    mask[:, 64:192, 40:200] = 1
    assert encoder.animal_probability(picture, mask) >= encoder.animal_probability(picture)
    assert torch.isfinite(encoder.animal_probability(picture, torch.zeros(1, 256, 256))).all()


def test_real_animals_are_known(encoder: Encoder, shared_photos: Path) -> None:
    """ImageNet's own names: 339 sorrel, 340 zebra, 345 ox, 348 ram, 352 impala; in the top five."""
    for name, number in (("sorrel", 339), ("zebra", 340), ("ox", 345), ("ram", 348), ("impala", 352)):
        picture = photograph(shared_photos / "other" / f"{name}.jpg")
        assert number in encoder.classify(picture)[0].topk(5).indices.tolist(), name
        assert encoder.animal_probability(picture) > 3 * NO_ANIMAL_BELOW, name


def test_projection() -> None:
    features = torch.randn(2, 6, 4, 4, generator=torch_generator(0, "projection"))
    mean, matrix = torch.arange(6.0), torch.eye(6)[:, [5, 0]]
    projected = project(features, mean=mean, matrix=matrix)
    torch.testing.assert_close(projected[:, 0], features[:, 5] - 5)
    torch.testing.assert_close(projected[:, 1], features[:, 0])


def test_weights_of_other_names_or_shapes_are_refused(tmp_path: Path) -> None:
    config, tensors = load_model_folder(weights_folder("efficientnet_lite0"), EncoderConfig)
    short = {name: value for name, value in tensors.items() if name != "stem.bias"}
    save_model_folder(tmp_path / "short", config, tensors=short, card="")
    with pytest.raises(ModelError, match=r"short: tensor 'stem\.bias' is missing"):
        Encoder.from_pretrained(tmp_path / "short")
    save_model_folder(tmp_path / "shape", config, tensors={**tensors, "stem.bias": torch.zeros(7)}, card="")
    with pytest.raises(ModelError, match=r"'stem\.bias' has shape \[7\], expected \[32\]"):
        Encoder.from_pretrained(tmp_path / "shape")


def test_one_door_for_every_backbone(tmp_path: Path, encoder: Encoder) -> None:
    picture = smooth_picture("a", size=64)
    torch.testing.assert_close(load_encoder().features(picture), encoder.features(picture))
    assert isinstance(load_encoder(weights_folder("efficientnet_lite0")), Encoder)
    with pytest.raises(InputError, match="no such folder"):
        load_encoder(tmp_path / "nothing")
    pytest.importorskip("transformers", reason="transformers is not installed: pip install 'farm3d[diffusion]'")
    transformer = load_encoder(tiny_vit(tmp_path / "vit"), options=VitOptions(size_px=64))
    assert isinstance(transformer, VitEncoder)
    assert transformer.features(picture).shape == (1, transformer.channels, 8, 8)
    with pytest.raises(InputError, match="options of vision transformers"):
        load_encoder(options=VitOptions())


@pytest.mark.gpu
def test_the_device_is_a_parameter(encoder: Encoder) -> None:
    picture = smooth_picture("a")
    on_gpu = Encoder.from_pretrained(device="cuda").features(picture.cuda())
    torch.testing.assert_close(on_gpu.cpu(), encoder.features(picture), atol=2e-2, rtol=2e-2)
