"""The caption reader: what it says, that backgrounds do not matter to it, and that a folder of another backbone is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from farm3d.core.errors import InputError, ModelError
from farm3d.core.files import sha256_of
from farm3d.core.sealed import MANIFEST
from farm3d.model.caption_reader import (
    AttributeNetwork,
    CaptionReader,
    CaptionReaderConfig,
    certainty,
    posterior_azimuth,
    side_doubts,
    view_doubts,
)
from farm3d.model.encoder import Encoder
from farm3d.model.folder import save_model_folder, weights_folder
from farm3d.model.reconstructor import Reconstructor
from farm3d.structures import Crop

CONFIG = CaptionReaderConfig(
    species=("cow", "horse"),
    actions=("standing", "walking"),
    channels=304,
    encoder="efficientnet_lite0",
    encoder_digest=sha256_of(weights_folder("efficientnet_lite0") / MANIFEST),
)


def saved(folder: Path, config: CaptionReaderConfig = CONFIG) -> Path:
    torch.manual_seed(0)
    network = AttributeNetwork(config.channels, config.species, config.actions)
    save_model_folder(folder, config, tensors={name: value.half() for name, value in network.state_dict().items()}, card="# toy\n")
    return folder


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.from_pretrained()


def test_it_says_probabilities_and_backgrounds_do_not_matter(tmp_path: Path, encoder: Encoder) -> None:
    reader = CaptionReader.from_pretrained(saved(tmp_path / "toy"), encoder=encoder)
    generator = torch.Generator().manual_seed(0)
    image, mask = torch.rand(2, 3, 64, 64, generator=generator), torch.zeros(2, 64, 64)
    mask[:, 16:48, 8:56] = 1
    reading = reader.read(image, mask)
    for values, count in ((reading.species, 2), (reading.view, 8), (reading.action, 2)):
        assert values.shape == (2, count) and torch.allclose(values.sum(1), torch.ones(2))
    assert not torch.allclose(reading.view[0], reading.view[1])
    elsewhere = torch.where(mask[:, None] > 0, image, torch.rand(2, 3, 64, 64, generator=generator))
    assert torch.equal(reader.read(elsewhere, mask).view, reading.view)


def test_the_shipped_one_reads_the_barns_species() -> None:
    reader = CaptionReader.from_pretrained()
    assert {"horse", "cow", "sheep"} <= set(reader.config.species) and "galloping" in reader.config.actions
    assert reader.digest == sha256_of(weights_folder("caption_reader") / MANIFEST)


def test_a_reader_of_another_backbone_or_shape_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="another efficientnet_lite0"):
        CaptionReader.from_pretrained(saved(tmp_path / "other", replace(CONFIG, encoder_digest="0" * 64)))
    network = AttributeNetwork(CONFIG.channels, CONFIG.species, CONFIG.actions)
    tensors = {name: value for name, value in network.state_dict().items() if name != "hidden.bias"}
    save_model_folder(tmp_path / "less", CONFIG, tensors=tensors, card="# toy\n")
    with pytest.raises(ModelError, match=r"hidden\.bias"):
        CaptionReader.from_pretrained(tmp_path / "less")


def test_doubts_lie_between_those_of_the_two_nearest_views(encoder: Encoder) -> None:
    view = torch.tensor([0.4, 0.3, 0.0, 0.1, 0.1, 0.05, 0.0, 0.05])
    azimuth = torch.deg2rad(torch.tensor([0.0, 45.0, 22.5, 90.0, -45.0, 359.999]))
    doubts = view_doubts(view, azimuth)
    assert torch.allclose(doubts[:2], -view[:2].log()) and torch.isclose(doubts[2], doubts[:2].mean())
    assert torch.isclose(doubts[3], torch.tensor(100.0).log())  # nothing is impossible
    assert torch.isclose(doubts[4], -view[7].log(), atol=1e-4) and torch.isclose(doubts[5], doubts[0], atol=1e-3)


def test_neighbouring_views_are_left_to_the_outline_and_photographs_too() -> None:
    azimuth = torch.deg2rad(torch.tensor([90.0, 135.0, 270.0]))
    sure = side_doubts(torch.tensor([0.02, 0.02, 0.86, 0.02, 0.02, 0.02, 0.02, 0.02]), azimuth)
    assert torch.isclose(sure[0], torch.tensor(1.213), atol=1e-3) and sure[1] - sure[0] < 0.3 and sure[2] - sure[0] > 2.5
    unsure = side_doubts(torch.tensor([0.1, 0.15, 0.25, 0.15, 0.1, 0.08, 0.08, 0.09]), azimuth)
    assert 0 < unsure[2] - unsure[0] < 0.05
    assert side_doubts(torch.full((8,), 1 / 8), azimuth).abs().max() < 1e-5


def test_certainty_is_one_for_one_view_and_none_where_all_are_alike() -> None:
    assert certainty(torch.eye(8)[3]) == pytest.approx(1)
    assert certainty(torch.full((8,), 1 / 8)) == pytest.approx(0, abs=1e-6)
    assert certainty(torch.tensor([0.5, 0.5, 0, 0, 0, 0, 0, 0])) == pytest.approx(2 / 3)


def test_a_networks_view_moves_into_the_eighth_that_is_read_and_stays_if_nothing_is() -> None:
    azimuth = torch.deg2rad(torch.tensor([49.0, 90.0, 116.0, 359.0]))

    def moved(view: torch.Tensor) -> torch.Tensor:
        return torch.rad2deg(posterior_azimuth(view, azimuth) - azimuth)

    assert moved(torch.full((8,), 1 / 8)).abs().max() < 1e-3
    side = moved(torch.eye(8)[2])  # the animal's left side, 67.5 to 112.5 degrees
    assert 15 < side[0] < 30 and abs(side[1]) < 0.1 and -15 < side[2] < -5
    between = moved(torch.tensor([0, 0.5, 0.5, 0, 0, 0, 0, 0]))  # the border is at 67.5
    assert 2 < between[0] < 18.5 and -15 < between[1] < -4
    round_the_corner = moved(torch.eye(8)[1])  # 22.5 to 67.5, from -1
    assert 20 < round_the_corner[3] < 45


def test_maps_that_are_there_are_read_as_the_picture_is(tmp_path: Path, encoder: Encoder) -> None:
    reader = CaptionReader.from_pretrained(saved(tmp_path / "toy"), encoder=encoder)
    generator = torch.Generator().manual_seed(0)
    image, mask = torch.rand(1, 3, 256, 256, generator=generator), torch.zeros(1, 256, 256)
    mask[:, 64:192, 32:224] = 1
    maps = encoder.features(torch.lerp(torch.full_like(image, 0.5), image, mask[:, None]))
    assert torch.allclose(reader.read_maps(maps, mask).view, reader.read(image, mask).view, atol=1e-5)


def test_who_is_asked_about_views(tmp_path: Path) -> None:
    """Learned categories ask, those that are only fitted do not; a reader that was asked for has to be there and know the animal."""
    assert Reconstructor.from_pretrained("horse").reader is None
    learned = Reconstructor.from_pretrained("horse-learned")
    assert learned.reader is not None and learned.reader.digest == CaptionReader.from_pretrained().digest
    assert Reconstructor.from_pretrained("horse-learned", reader="none").reader is None
    pets = saved(tmp_path / "pets", replace(CONFIG, species=("cat", "dog")))
    for category in ("horse", "horse-learned"):
        with pytest.raises(InputError, match="does not know a horse"):
            Reconstructor.from_pretrained(category, reader=pets)
        with pytest.raises(ModelError, match="does not exist"):
            Reconstructor.from_pretrained(category, reader=tmp_path / "nothing")
    assert Reconstructor.from_pretrained("horse-learned", reader=saved(tmp_path / "toy")).reader is not None


def test_the_reader_turns_a_learned_animal_less_where_it_does_not_see_one(tmp_path: Path) -> None:
    """Its view counts to the power of the category's probability: nothing at 0, all of it at 1."""
    crop = Crop(torch.full((3, 256, 256), 0.5), torch.ones(256, 256), torch.ones(256, 256), (0.0, 0.0, 256.0), (256, 256))
    views = []
    for name, bias in (("sure", 30.0), ("lost", -30.0)):
        tensors = {
            key: torch.zeros_like(value) for key, value in AttributeNetwork(304, CONFIG.species, CONFIG.actions).state_dict().items()
        }
        tensors["spread"] += 1
        tensors["answers.0.bias"][1], tensors["answers.1.bias"][2] = bias, 3.0
        save_model_folder(tmp_path / name, CONFIG, tensors=tensors, card="# toy\n")
        reconstructor = Reconstructor.from_pretrained("horse-learned", reader=tmp_path / name)
        views.append(reconstructor._view(crop, reconstructor.maps(crop)))
    assert torch.allclose(views[0], torch.softmax(3.0 * torch.eye(8)[2], 0)) and torch.allclose(views[1], torch.full((8,), 1 / 8))
