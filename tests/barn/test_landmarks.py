from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from farm3d.barn.individuals import Individual, make_individual
from farm3d.barn.landmarks import LANDMARKS, angles_between, landmarks_of, matrix_to_euler, skeleton_of
from farm3d.barn.species import SPECIES, species
from farm3d.geometry.rotations import euler_to_matrix
from farm3d.geometry.skinning import linear_blend_skinning


@pytest.mark.parametrize("name", SPECIES)
def test_landmarks_lie_where_their_names_say(rig_folder: Path, name: str) -> None:
    for rig in species(name).rigs:
        animal = make_individual(species(name), 0, rigs=rig_folder, rig=rig, varied=False)
        vertex = landmarks_of(animal.build)
        assert (vertex >= 0).all(), [landmark for landmark, v in zip(LANDMARKS, vertex) if v < 0]
        at = dict(zip(LANDMARKS, animal.build.fine[vertex]))  # the rig itself: a sheep's ears hang, its landmarks are the same vertices
        size = float(animal.build.fine[:, 2].max() - animal.build.fine[:, 2].min())
        for left in (landmark for landmark in LANDMARKS if landmark.endswith("_L")):
            a, b = at[left], at[left[:-1] + "R"]
            assert a[0] > 0 > b[0], left
            assert (a * torch.tensor([-1.0, 1.0, 1.0]) - b).norm() < 0.04 * size, left
        assert at["nose"][2] > at["eye_L"][2] > at["withers"][2] > at["back"][2] - 0.05 * size > at["tail_base"][2]
        assert at["back"][1] > at["belly"][1] > at["front_knee_L"][1] > at["front_hoof_L"][1]
        assert at["elbow_L"][1] > at["front_knee_L"][1] and at["stifle_L"][1] > at["hock_L"][1] > at["hind_hoof_L"][1]
        assert at["front_hoof_L"][2] > at["hind_hoof_L"][2] and float(at["front_hoof_L"][1]) < 0.06 * size
        assert (at["ear_tip_L"] - at["ear_base_L"]).norm() > 0.005 * size


@pytest.fixture(scope="module")
def horse(rig_folder: Path) -> Individual:
    return make_individual(species("horse"), 12, rigs=rig_folder)


def test_bones_lie_inside_and_follow_the_individual(horse: Individual, rig_folder: Path) -> None:
    skeleton, weights = skeleton_of(horse, rigs=rig_folder)
    assert len(skeleton.names) == 23 and torch.allclose(weights.sum(1), torch.ones(len(horse.rest)), atol=1e-5)
    low, high = horse.rest.amin(0) - 0.05, horse.rest.amax(0) + 0.05
    for joints in (skeleton.starts, skeleton.ends):
        assert ((joints > low) & (joints < high)).all()
    foot = skeleton.ends[skeleton.index("leg_front_L_03")]
    assert foot[0] > 0 and float(foot[1]) < 0.2 * float(high[1])


def test_known_angles_are_found_again(horse: Individual, rig_folder: Path) -> None:
    skeleton, weights = skeleton_of(horse, rigs=rig_folder)
    hard = torch.nn.functional.one_hot(weights.argmax(1), weights.shape[1]).float()
    generator = torch.Generator().manual_seed(0)
    angles = 0.4 * (torch.rand(len(skeleton.names), 3, generator=generator) - 0.5)
    angles[[k for k, parent in enumerate(skeleton.parents) if parent < 0]] = 0.0
    posed = linear_blend_skinning(horse.rest, hard, skeleton.transforms(angles))
    turn = euler_to_matrix(torch.tensor([0.1, 0.9, -0.2]))  # the whole animal turned: not part of the pose
    found, left = angles_between(skeleton, hard, horse.rest, posed @ turn.T + torch.tensor([0.3, 0.0, -1.0]))
    assert (found - angles).abs().max() < 0.02 and left < 0.01


def test_a_real_pose_is_mostly_explained(horse: Individual, rig_folder: Path) -> None:
    skeleton, weights = skeleton_of(horse, rigs=rig_folder)
    posed = horse.pose("Walk", 0.3)
    angles, left = angles_between(skeleton, weights, horse.rest, posed)
    still = (horse.rest - horse.rest.mean(0) - posed + posed.mean(0)).square().sum(1).mean().sqrt()
    assert left < 0.6 * float(still) and angles.abs().max() < 1.6


@given(st.tuples(*[st.floats(-1.5, 1.5)] * 3))
def test_euler_angles_of_their_matrix(angles: tuple[float, float, float]) -> None:
    given_angles = torch.tensor(angles, dtype=torch.float64)
    assert torch.allclose(matrix_to_euler(euler_to_matrix(given_angles)).double(), given_angles, atol=1e-4)
