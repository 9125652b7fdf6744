"""Features of one set of pictures as the networks of a category know them that was learned from another."""

import dataclasses

import numpy as np
import pytest
import torch
from tests.testing.toy_category import toy_pictures

from farm3d.core.errors import InputError
from farm3d.core.random import torch_generator
from farm3d.model.category.learned import FeatureBasis, LearnedCategory
from farm3d.training.category.load import LoadedPictures, in_components_of


def basis_of(seed: int, *, channels: int = 40, kept: int, normalize: bool = False) -> FeatureBasis:
    generator = torch_generator(seed, "basis")
    matrix = torch.linalg.qr(torch.randn(channels, kept, generator=generator))[0]
    mean, scale = torch.randn(channels, generator=generator), 0.5 + torch.rand(kept, generator=generator)
    return FeatureBasis(mean, matrix, scale, normalize)


def learned_of(basis: FeatureBasis, **changes: str) -> LearnedCategory:
    """The shipped horse, as one that was learned from features of another kind would be."""
    facts = {"encoder": "net", "encoder_digest": "1" * 64, **changes}
    return dataclasses.replace(LearnedCategory.from_pretrained("horse-learned"), basis=basis, **facts)


def loaded_of(seen: torch.Tensor, basis: FeatureBasis) -> LoadedPictures:
    """Pictures of which the backbone saw ``seen``."""
    maps = (basis.project(seen) * basis.scale[:, None, None]).half().numpy()
    toys = toy_pictures()
    pictures = dataclasses.replace(toys, features=maps[np.arange(len(toys)) % len(maps)], scale=basis.scale.numpy())
    return LoadedPictures(pictures, "toy", basis, "net", "1" * 64)


def test_features_are_turned_into_the_components_that_networks_know() -> None:
    here, there = basis_of(1, kept=40), basis_of(2, kept=24)  # all of what the backbone saw is known of the pictures
    seen = torch.randn(5, 40, 16, 16, generator=torch_generator(0, "seen"))
    turned = in_components_of(loaded_of(seen, here), learned_of(there))
    numbers = np.arange(5)
    got = turned.pictures.take(numbers, np.zeros(5, bool)).features
    assert turned.basis is there and got.shape == (5, 24, 16, 16)
    assert torch.allclose(got, there.project(seen), atol=0.02)  # float16
    same = in_components_of(loaded_of(seen, here), learned_of(here)).pictures
    assert np.abs(same.features - loaded_of(seen, here).pictures.features).max() < 0.01


@pytest.mark.parametrize(
    "learned",
    [
        learned_of(basis_of(2, kept=24), encoder="other", encoder_digest="2" * 64),
        learned_of(basis_of(2, kept=24, normalize=True)),
    ],
)
def test_features_of_another_backbone_are_refused(learned: LearnedCategory) -> None:
    loaded = loaded_of(torch.zeros(1, 40, 16, 16), basis_of(1, kept=40))
    with pytest.raises(InputError, match=f"features of net on a grid of 16; the learned category reads {learned.encoder} on a grid of 16"):
        in_components_of(loaded, learned)
