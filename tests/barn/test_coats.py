from pathlib import Path

import pytest
import torch

from farm3d.barn.coats import paint
from farm3d.barn.individuals import CLASSES, make_individual
from farm3d.barn.species import SPECIES, species
from farm3d.core.color import srgb_from_linear


@pytest.mark.parametrize("name", SPECIES)
def test_every_coat_is_a_plausible_albedo(rig_folder: Path, name: str) -> None:
    kind = species(name)
    animal = make_individual(kind, 2, rigs=rig_folder)
    for coat in kind.coats:
        painted = paint(animal, coat=coat)
        assert painted.albedo.shape == animal.rest.shape and painted.coat is coat
        assert float(painted.albedo.min()) > 0 and float(painted.albedo.max()) < 0.801
        trunk = srgb_from_linear(painted.albedo[animal.build.group("Torso", "Back") > 0.9]) * 255
        near = min(float((trunk - torch.tensor(colour)).norm(dim=1).quantile(0.3)) for colour in (coat.body, coat.marks))
        assert near < 75  # much of the trunk is of one of the coat's two colours


def test_equal_numbers_equal_coats_and_others_differ(rig_folder: Path) -> None:
    kind = species("cow")
    coats = [paint(make_individual(kind, number, rigs=rig_folder)) for number in (5, 5, *range(6, 30))]
    assert torch.equal(coats[0].albedo, coats[1].albedo) and coats[0].coat is coats[1].coat
    assert len({painted.coat.name for painted in coats}) >= 6


def test_patches_cover_about_what_the_coat_says(rig_folder: Path) -> None:
    kind = species("cow")
    coat = next(coat for coat in kind.coats if coat.pattern == "patches")
    for number in range(4):
        animal = make_individual(kind, number, rigs=rig_folder)
        body = animal.build.classes[:, CLASSES.index("body")] > 0.9
        white = (paint(animal, coat=coat).albedo[body].mean(1) > 0.3).float().mean()
        assert 0.15 < float(white) < 0.9


def test_white_markings_only_on_dark_horses_and_told(rig_folder: Path) -> None:
    horse, cow = species("horse"), species("cow")
    black, white = horse.coats[2], horse.coats[3]
    marked = {words for n in range(12) for words in paint(make_individual(horse, n, rigs=rig_folder), coat=black).markings}
    assert marked & {"a white blaze", "white socks", "a white sock"}
    assert not any(paint(make_individual(horse, n, rigs=rig_folder), coat=white).markings for n in range(6))
    assert not any(paint(make_individual(cow, n, rigs=rig_folder)).markings for n in range(6))


def test_bay_has_black_points_and_mane(rig_folder: Path) -> None:
    kind = species("horse")
    bay = next(coat for coat in kind.coats if coat.name == "bay")
    animal = make_individual(kind, 1, rigs=rig_folder)
    albedo = paint(animal, coat=bay).albedo.mean(1)
    mane = animal.build.classes[:, CLASSES.index("hair")] > 0.9
    trunk = animal.build.group("Torso") > 0.9
    assert albedo[mane].mean() < 0.4 * albedo[trunk & ~mane].mean()
