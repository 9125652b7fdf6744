"""The model folder of a learned category: what comes back is what went in, and damage is told."""

from pathlib import Path

import pytest
import torch

from farm3d.core.errors import ModelError
from farm3d.core.random import torch_generator
from farm3d.model.category.config import CategoryConfig
from farm3d.model.category.learned import FeatureBasis, LearnedCategory, load_category
from farm3d.model.category.model import CategoryModel
from farm3d.model.category.rest_shape import make_scaffold
from farm3d.model.prior import CategoryPrior
from farm3d.training.category.presets import PRESETS


@pytest.fixture
def learned() -> LearnedCategory:
    torch.manual_seed(0)
    model = CategoryModel(CategoryConfig("toy", channels=16, feature_channels=8, code=32, local=16))
    generator = torch_generator(0, "basis")
    basis = FeatureBasis(torch.randn(24, generator=generator), torch.randn(24, 16, generator=generator), torch.rand(16) + 0.5)
    scaffold = make_scaffold(model.shape, model.config, cell=0.3, centred=False)
    prior = CategoryPrior.from_pretrained("horse")  # a real template, though not this model's own
    return LearnedCategory.of(model, scaffold, basis, prior=prior, encoder="some_backbone", encoder_digest="abc")


def test_what_comes_back_is_what_went_in(learned: LearnedCategory, tmp_path: Path) -> None:
    learned.save_pretrained(tmp_path / "toy", card="# Toy\n")
    again = LearnedCategory.from_pretrained(tmp_path / "toy")
    assert torch.equal(again.rest.vertices, learned.rest.vertices) and torch.equal(again.rest.faces, learned.rest.faces)
    assert again.rest.skeleton.names == learned.rest.skeleton.names and torch.equal(again.rest.skin, learned.rest.skin)
    assert again.model.config == learned.model.config and again.encoder_digest == "abc"
    assert torch.equal(again.prior.template.vertices, learned.prior.template.vertices) and again.prior.config == learned.prior.config
    assert torch.equal(again.prior.sdf_weights["mlp.first.weight"], again.model.shape.mlp.first.weight)
    assert load_category(tmp_path / "toy")[1] is not None
    generator = torch_generator(0, "picture")
    features = torch.randn(2, 24, 16, 16, generator=generator)
    image, mask = torch.rand(2, 3, 64, 64, generator=generator), torch.rand(2, 64, 64, generator=generator)
    one, other = (each.read(features, image, mask) for each in (learned, again))
    assert torch.allclose(one.code, other.code, atol=0.02) and torch.allclose(one.viewpoints.azimuth, other.viewpoints.azimuth, atol=0.01)
    assert not any(parameter.requires_grad for parameter in again.model.parameters())


def test_a_folder_of_another_kind_or_with_a_flipped_bit_is_told(learned: LearnedCategory, tmp_path: Path) -> None:
    learned.save_pretrained(tmp_path / "toy", card="# Toy\n")
    path = tmp_path / "toy" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        LearnedCategory.from_pretrained(tmp_path / "toy")
    with pytest.raises(ModelError):
        LearnedCategory.from_pretrained(tmp_path / "none")


@pytest.mark.parametrize("preset", PRESETS.values())
def test_each_preset_can_be_kept_at_both_its_sizes(preset, learned: LearnedCategory, tmp_path: Path) -> None:
    run = preset("toy", channels=16)
    torch.manual_seed(0)
    model = CategoryModel(run.config)
    for cell in (run.schedule.cell_early, run.schedule.cell_late):
        scaffold = make_scaffold(model.shape, run.config, cell=max(cell, 0.12), centred=False)
        kept = LearnedCategory.of(model, scaffold, learned.basis, prior=learned.prior, encoder="none", encoder_digest="")
        kept.save_pretrained(tmp_path / "toy", card="# Toy\n")
        assert LearnedCategory.from_pretrained(tmp_path / "toy").scaffold.crossings.grid == scaffold.crossings.grid
