"""Individuals: the rig itself when nothing is changed, and plausible animals when it is."""

from pathlib import Path

import pytest
import torch

from farm3d.barn.individuals import CLASSES, TRAITS, Individual, build_of, make_individual
from farm3d.barn.species import ACTIONS, SPECIES, species
from farm3d.geometry.surface import enclosed_volume


@pytest.fixture(scope="module")
def horse(rig_folder: Path) -> Individual:
    return make_individual(species("horse"), 0, rigs=rig_folder, rig="horse", varied=False)


def test_an_unchanged_individual_moves_as_its_rig_does(horse: Individual) -> None:
    rig, build = horse.build.rig, horse.build
    scale = float((horse.joints[9] - horse.joints[5]).norm() / (rig.joints[9] - rig.joints[5]).norm())
    frames = rig.joint_matrices(rig.local_transforms("Gallop", 0.3))
    blended = torch.einsum("vj,jab->vab", build.weights, frames @ rig.inverse_binds)
    expected = ((blended[:, :3, :3] @ build.fine[:, :, None])[..., 0] + blended[:, :3, 3]) * scale
    posed = horse.pose("Gallop", 0.3)
    shift = (posed - expected).mean(0)
    assert abs(float(shift[0])) < 1e-3 and (posed - expected - shift).norm(dim=1).max() < 2e-3


def test_fine_surface_keeps_volume_and_place(horse: Individual) -> None:
    rig, build = horse.build.rig, horse.build
    assert len(build.faces) == 16 * len(rig.faces)
    assert torch.allclose(build.weights.sum(1), torch.ones(len(build.fine)), atol=1e-5)
    assert torch.allclose(build.classes.sum(1), torch.ones(len(build.fine)), atol=1e-5) and build.classes.shape[1] == len(CLASSES)
    ratio = float(enclosed_volume(build.fine, build.faces) / enclosed_volume(rig.vertices, rig.faces))
    assert 0.98 < ratio < 1.02


@pytest.mark.parametrize("clip", ["Idle", "Walk", "Eating"])
def test_feet_stand_on_the_ground(rig_folder: Path, clip: str) -> None:
    for number in range(3):
        animal = make_individual(species("cow"), number, rigs=rig_folder)
        posed = animal.pose(clip, 0.4)
        feet = animal.build.group("FF", "IK") > 0.5
        assert abs(float(posed[feet, 1].min())) < 1e-5
        left, right = (posed[animal.build.group(f"FF.{side}") > 0.5, 1].min() for side in "LR")
        assert min(float(left), float(right)) < 0.06  # a forefoot too, not only a hind one


def test_a_leap_leaves_the_ground(horse: Individual) -> None:
    rig = horse.build.rig
    heights = [float(horse.pose("Gallop_Jump", t * rig.clip("Gallop_Jump").duration_s)[:, 1].min()) for t in (0.0, 0.3, 0.45, 0.6)]
    assert max(heights) > 0.1


def test_legs_stretch_what_they_stand_on(rig_folder: Path, horse: Individual) -> None:
    kind = species("horse")
    taller = make_individual(
        kind.__class__(**{**kind.__dict__, "traits": {"leg_length": 1.2}}), 0, rigs=rig_folder, rig="horse", varied=False
    )

    def share(animal: Individual) -> float:
        elbow = animal.joints[animal.build.rig.joint_names.index("FrontUpperLeg.L"), 1]
        return float(elbow / animal.rest[animal.build.group("Torso", "Back") > 0.6, 1].max())

    assert share(taller) > share(horse) + 0.03
    for clip in ("Idle", "Walk"):  # standing on them too, on all four
        posed = taller.pose(clip, 0.2)
        for foot in ("FF.L", "FF.R", "FFB.L", "FFB.R"):
            assert float(posed[taller.build.group(foot) > 0.5, 1].min()) < (0.05 if clip == "Idle" else 0.35)


def test_individuals_differ_and_are_always_the_same(rig_folder: Path) -> None:
    kind = species("horse")
    first, again, second = (make_individual(kind, n, rigs=rig_folder, rig="horse") for n in (3, 3, 4))
    assert torch.equal(first.rest, again.rest) and first.traits == again.traits
    assert not torch.allclose(first.rest, second.rest, atol=1e-3)
    assert set(first.traits) == set(TRAITS)


def test_mirror_symmetric_at_rest(horse: Individual) -> None:
    flipped = horse.rest * torch.tensor([-1.0, 1.0, 1.0])
    gap = torch.cdist(flipped[::40], horse.rest).min(1).values
    assert gap.max() < 0.02


def test_turns_move_only_what_hangs_on_the_joint(horse: Individual) -> None:
    turn = torch.tensor([[0.8, 0.0, 0.6], [0.0, 1.0, 0.0], [-0.6, 0.0, 0.8]])
    still, turned = horse.pose("Idle", 0.0), horse.pose("Idle", 0.0, turns={"Head": turn})
    moved = (still - turned).norm(dim=1)
    free = horse.build.group("Head", "Ear") == 0
    assert moved[free].max() < 1e-4 and moved.max() > 0.2


def test_sheep_is_low_round_and_woolly(rig_folder: Path) -> None:
    sheep = make_individual(species("sheep"), 1, rigs=rig_folder)
    alpaca = make_individual(species("alpaca"), 1, rigs=rig_folder)
    high = [float(a.rest[:, 1].max() / (a.rest[:, 2].max() - a.rest[:, 2].min())) for a in (sheep, alpaca)]
    wide = [float((a.rest[:, 0].max() - a.rest[:, 0].min()) / a.rest[:, 1].max()) for a in (sheep, alpaca)]
    assert high[0] < 0.85 < 1.05 < high[1] and wide[0] > 1.5 * wide[1]


@pytest.mark.parametrize("name", SPECIES)
def test_every_species_stands_and_acts(rig_folder: Path, name: str) -> None:
    kind = species(name)
    animal = make_individual(kind, 7, rigs=rig_folder)
    assert 0.6 * kind.height_m < float(animal.rest[:, 1].max()) < 2.6 * kind.height_m
    assert animal.rest.isfinite().all() and abs(float(animal.rest[:, 1].min())) < 1e-5
    there = {clip.name for clip in animal.build.rig.clips}
    for clips in ACTIONS.values():
        assert there & set(clips)
    assert build_of(rig_folder / f"{animal.build.rig.name}.glb") is animal.build  # read once
