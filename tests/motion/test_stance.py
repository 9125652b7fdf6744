"""Where feet belong when an animal stands."""

import pytest
import torch
from tests.testing.animals import GROUND, quadruped_skeleton

from farm3d.motion.legs import LEGS, find_legs
from farm3d.motion.stance import Soles, stance_of

_NOWHERE = dict.fromkeys(LEGS, 0.0)


def _soles(side: dict[str, float], rise: dict[str, float]) -> Soles:
    return Soles(lambda angles, root: {}, {**_NOWHERE, **side}, {**_NOWHERE, **rise})


def test_a_well_made_animal_stands_as_at_rest() -> None:
    skeleton = quadruped_skeleton()
    for soles in (None, _soles({}, {})):
        stance = stance_of(skeleton, soles)
        assert stance.pitch == 0 and stance.shift == 0
        for leg in find_legs(skeleton):
            assert torch.allclose(stance.places[leg.name], skeleton.ends[leg.bones[2]].double())


def test_crossed_feet_are_put_on_their_own_sides() -> None:
    skeleton = quadruped_skeleton()
    stance = stance_of(skeleton, _soles({"front_L": -0.3, "front_R": 0.3}, {}))
    assert float(stance.places["front_L"][0]) - 0.3 >= 0.1
    assert float(stance.places["front_R"][0]) + 0.3 <= -0.1
    assert float(stance.places["rear_L"][0]) == pytest.approx(0.17)


@pytest.mark.parametrize("rise", [0.1, -0.1])
def test_the_body_follows_feet_at_unequal_heights(rise: float) -> None:
    """After the pitch and the shift each hip is as far above its foot's place as at rest."""
    skeleton = quadruped_skeleton()
    high = "rear" if rise > 0 else "front"
    stance = stance_of(skeleton, _soles({}, {f"{high}_L": abs(rise), f"{high}_R": abs(rise)}))
    assert (stance.pitch < 0) == (rise > 0), "nose up where the hind feet are high"
    angles = torch.zeros(1, len(skeleton.names), 3, dtype=torch.float64)
    stance.lean(skeleton, angles)
    transforms = skeleton.to(torch.float64).transforms(angles)[0]
    for leg in find_legs(skeleton):
        parent, hip = transforms[skeleton.parents[leg.bones[0]]], skeleton.starts[leg.bones[0]].double()
        posed = float((parent[:3, :3] @ hip + parent[:3, 3])[1]) + stance.shift
        place = float(stance.places[leg.name][1])
        assert posed - place == pytest.approx(float(hip[1] - skeleton.ends[leg.bones[2], 1]), abs=0.01)
        assert place == pytest.approx(GROUND + 0.02 - (abs(rise) if leg.name.startswith(high) else 0))


def test_an_unlikely_slope_is_followed_only_so_far() -> None:
    stance = stance_of(quadruped_skeleton(), _soles({}, {"rear_L": 1.0, "rear_R": 1.0}))
    assert -0.2 < stance.pitch < -0.1
