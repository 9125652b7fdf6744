"""Poses between keys are what a glTF player shows."""

import itertools
import math

import pytest
import torch
from tests.testing.animals import quadruped

from farm3d.geometry.rotations import euler_to_matrix
from farm3d.geometry.skinning import linear_blend_skinning
from farm3d.motion.animate import pose_at, posed_vertices
from farm3d.motion.clips import Clip, make_clip


def _two_key_clip(start: torch.Tensor, end: torch.Tensor) -> Clip:
    angles = torch.stack([start, end, start])[:, None]
    return Clip("x", torch.tensor([0.0, 1.0, 2.0]), angles, torch.tensor([[0.0, 0, 0], [0, 1, 0], [0, 0, 0]]), torch.zeros(3))


def test_keys_are_hit_exactly() -> None:
    animal = quadruped()
    clip = make_clip("walk", animal.skeleton)
    for i in (0, 5, 17, len(clip.times_s) - 1):
        angles, offset = pose_at(clip, float(clip.times_s[i]))
        assert torch.allclose(angles, clip.angles[i], atol=1e-5)
        assert torch.allclose(offset, clip.root_offset[i], atol=1e-6)


def test_turns_at_even_speed_along_the_shorter_arc() -> None:
    clip = _two_key_clip(torch.tensor([0.3, -0.2, 0.1]), torch.tensor([-0.9, 0.5, 1.3]))
    turns = [euler_to_matrix(pose_at(clip, t)[0])[0] for t in torch.linspace(0, 1, 9).tolist()]
    steps = [torch.acos(((torch.trace(b @ a.T) - 1) / 2).clamp(-1, 1)) for a, b in itertools.pairwise(turns)]
    whole = torch.acos((torch.trace(turns[-1] @ turns[0].T) - 1) / 2)
    assert torch.allclose(torch.stack(steps), whole / 8, atol=1e-3)
    assert float(pose_at(clip, 0.25)[1][1]) == pytest.approx(0.25)


def test_times_wrap_round() -> None:
    clip = _two_key_clip(torch.tensor([0.0, 0.0, 0.0]), torch.tensor([1.0, 0.0, 0.0]))
    for time, same in ((2.5, 0.5), (-0.5, 1.5), (1e3 + 0.25, 0.25)):
        assert torch.allclose(pose_at(clip, time)[0], pose_at(clip, same)[0], atol=1e-5)
    assert float(pose_at(clip, 2.0)[0].abs().max()) == pytest.approx(0, abs=1e-6)


def test_posed_vertices_are_skinned_and_shifted() -> None:
    animal = quadruped()
    clip = make_clip("gallop", animal.skeleton)
    time = 0.3 * clip.duration_s
    angles, offset = pose_at(clip, time)
    expected = linear_blend_skinning(animal.rest.vertices, animal.skin_weights, animal.skeleton.transforms(angles)) + offset
    assert torch.equal(posed_vertices(animal, clip, time), expected)
    assert not math.isclose(float(expected[:, 1].max()), float(animal.rest.vertices[:, 1].max()), abs_tol=1e-4)
