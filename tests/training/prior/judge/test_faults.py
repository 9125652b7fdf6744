"""Faults: what is wrong is wrong by as much as is said, and everything else is as it was."""

from pathlib import Path

import pytest
import torch

from farm3d.barn.landmarks import LANDMARKS, landmarks_of
from farm3d.core.errors import InputError
from farm3d.training.prior.judge.faults import FAULTS, Case, case_of


@pytest.fixture(scope="module")
def cases(rig_folder: Path) -> dict[str, Case]:
    return {fault: case_of(fault, "horse", number=3, rigs=rig_folder) for fault in FAULTS}


def group(case: Case, *starts: str) -> torch.Tensor:
    return case.individual.build.group(*starts)


def test_the_trunk_is_the_same(cases: dict[str, Case]) -> None:
    for fault in ("short-legs", "head-turned", "leg-missing"):
        for stance in cases[fault].stances:
            trunk = group(cases[fault], "Torso") > 0.8
            off = (stance.right - stance.wrong)[trunk].norm(dim=1)
            assert float(off.median()) < 0.03, fault


def test_short_legs_are_seven_tenths(cases: dict[str, Case]) -> None:
    case = cases["short-legs"]
    build = case.individual.build
    vertex = landmarks_of(build)
    heights = []
    for surface in (case.stances[0].right, case.stances[0].wrong):
        back = surface[vertex[LANDMARKS.index("withers")], 1]
        heights.append(float(back - surface[build.group("FF.L") > 0.5, 1].min()))
    assert 0.7 < heights[1] / heights[0] < 0.9  # the trunk above the legs stays


def test_a_thin_body_is_thin_across_only(cases: dict[str, Case]) -> None:
    case = cases["thin-body"]
    trunk = group(case, "Torso") > 0.8
    right, wrong = (surface[trunk].amax(0) - surface[trunk].amin(0) for surface in (case.stances[0].right, case.stances[0].wrong))
    assert float(wrong[0] / right[0]) == pytest.approx(0.7, abs=0.06) and float(wrong[2] / right[2]) == pytest.approx(1, abs=0.05)


def test_a_turned_head_is_turned_and_a_missing_leg_is_gone(cases: dict[str, Case]) -> None:
    case = cases["head-turned"]
    head = group(case, "Head") > 0.9
    assert float((case.stances[0].right - case.stances[0].wrong)[head].norm(dim=1).mean()) > 0.2
    legs = group(case, "FrontLowerLeg", "BackLowerLeg", "FF") > 0.9
    assert float((case.stances[0].right - case.stances[0].wrong)[legs].norm(dim=1).max()) < 0.02
    missing = cases["leg-missing"]
    gone = []
    for part, foot in (("Front", "FF"), ("Back", "FFB")):
        for side in "LR":
            leg = group(missing, f"{part}LowerLeg.{side}", f"{foot}.{side}") > 0.95
            size = [
                float((surface[leg].amax(0) - surface[leg].amin(0)).max())
                for surface in (missing.stances[0].right, missing.stances[0].wrong)
            ]
            gone.append(size[1] < 0.15 * size[0])
    assert sum(gone) == 1


def test_a_wrong_coat_is_dark_where_light_is_said(cases: dict[str, Case]) -> None:
    case = cases["wrong-coat"]
    assert case.is_coat and case.words == "a white horse" and float(case.right_albedo.mean()) > 2 * float(case.wrong_albedo.mean())
    assert all(torch.equal(stance.right, stance.wrong) for stance in case.stances)
    assert not cases["thin-body"].is_coat and torch.equal(cases["thin-body"].right_albedo, cases["thin-body"].wrong_albedo)
    assert case.caption(case.stances[0], "seen from behind") == "a white horse, standing, seen from behind"


def test_other_species_and_unknown_faults(rig_folder: Path) -> None:
    case = case_of("leg-missing", "sheep", number=1, rigs=rig_folder)
    assert torch.isfinite(case.stances[0].wrong).all() and "sheep" in case.words
    with pytest.raises(InputError, match="no fault 'two heads'"):
        case_of("two heads", "horse", number=0, rigs=rig_folder)
