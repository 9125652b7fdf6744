"""Bones and skin: identities, signs of the specification's check e, gradients."""

import pytest
import torch

from farm3d.geometry.kinematics import bone_transforms, rest_frames, rigid_inverse
from farm3d.geometry.skinning import linear_blend_skinning, prune_weights, skin_weights, smooth_weights

STARTS = torch.tensor([[0.0, 1.0, 0.5], [0.0, 0.5, 0.5], [0.0, 1.0, 0.5], [0.0, 1.0, -0.5]])
ENDS = torch.tensor([[0.0, 0.5, 0.5], [0.0, 0.0, 0.55], [0.0, 1.2, 1.2], [0.0, 1.0, -1.2]])
PARENTS = (-1, 0, -1, -1)  # upper leg, lower leg, a bone toward the head, a bone toward the tail


def test_rest_frames_are_right_handed_with_z_along_the_bone() -> None:
    frames = rest_frames(STARTS, ENDS)
    assert torch.allclose(torch.linalg.det(frames[:, :3, :3]), torch.ones(4))
    assert torch.allclose(frames[:, :3, 2], torch.nn.functional.normalize(ENDS - STARTS, dim=-1))
    assert torch.allclose(frames[:, :3, 3], STARTS)
    assert torch.allclose(rigid_inverse(frames) @ frames, torch.eye(4).expand(4, 4, 4), atol=1e-6)


def test_a_bone_along_x_has_a_frame() -> None:
    frame = rest_frames(torch.zeros(1, 3), torch.tensor([[1.0, 0.0, 0.0]]))
    assert torch.isfinite(frame).all()
    assert torch.allclose(torch.linalg.det(frame[:, :3, :3]), torch.ones(1))


def test_zero_angles_change_nothing() -> None:
    transforms = bone_transforms(rest_frames(STARTS, ENDS), PARENTS, torch.zeros(4, 3))
    assert torch.allclose(transforms, torch.eye(4).expand(4, 4, 4), atol=1e-6)


def test_signs_of_flexion() -> None:
    """Positive x moves a leg's foot to -z, lowers a bone toward the head, raises one toward the tail (section 2.6, check e)."""
    angles = torch.zeros(4, 3)
    angles[:, 0] = 0.5
    angles[1] = 0
    moved = (bone_transforms(rest_frames(STARTS, ENDS), PARENTS, angles) @ torch.cat([ENDS, torch.ones(4, 1)], 1)[..., None])[:, :3, 0]
    assert moved[0, 2] < ENDS[0, 2] - 0.1
    assert moved[1, 2] < ENDS[1, 2] - 0.2  # carried along by its parent
    assert moved[2, 1] < ENDS[2, 1] - 0.1
    assert moved[3, 1] > ENDS[3, 1] + 0.1


def test_the_parent_acts_on_the_child_and_bones_stay_joined() -> None:
    angles = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    transforms = bone_transforms(rest_frames(STARTS, ENDS), PARENTS, angles)
    joint = torch.tensor([0.0, 0.5, 0.5, 1.0])
    assert torch.allclose(transforms[0] @ joint, transforms[1] @ joint, atol=1e-6)
    assert torch.allclose(torch.linalg.det(transforms[:, :3, :3]), torch.ones(4), atol=1e-5)


@pytest.mark.parametrize("batch", [(), (2,), (1, 2)])
def test_batches(batch: tuple[int, ...]) -> None:
    vertices = torch.randn(*batch, 7, 3)
    weights = skin_weights(torch.randn(7, 3), STARTS, ENDS)
    transforms = bone_transforms(rest_frames(STARTS, ENDS), PARENTS, torch.zeros(*batch, 4, 3))
    assert torch.allclose(linear_blend_skinning(vertices, weights, transforms), vertices, atol=1e-5)


def test_weights_sum_to_one_and_the_nearest_bone_leads() -> None:
    points = torch.tensor([[0.0, 0.8, 0.5], [0.0, 0.1, 0.54], [0.0, 1.1, 1.0], [0.0, 1.0, -1.0]])
    weights = skin_weights(points, STARTS, ENDS)
    assert torch.allclose(weights.sum(1), torch.ones(4))
    assert weights.argmax(1).tolist() == [0, 1, 2, 3]
    many = torch.softmax(torch.randn(50, 9, generator=torch.Generator().manual_seed(0)), -1)
    pruned = prune_weights(many)
    assert ((pruned > 0).sum(1) <= 4).all()
    assert torch.allclose(pruned.sum(1), torch.ones(50))
    assert torch.equal(pruned.argmax(1), many.argmax(1))


def test_smoothing_spreads_weights_and_keeps_their_sum() -> None:
    weights = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    edges = torch.tensor([[0, 1], [1, 2], [2, 3]])
    smooth = smooth_weights(weights, edges, steps=1)
    assert torch.allclose(smooth.sum(1), torch.ones(4))
    assert torch.allclose(smooth[1], torch.tensor([0.75, 0.25]))
    assert torch.allclose(smooth[0], weights[0])


def test_gradients() -> None:
    generator = torch.Generator().manual_seed(0)
    frames = rest_frames(STARTS.double(), ENDS.double())
    angles = torch.randn(4, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    vertices = torch.randn(5, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    weights = torch.softmax(torch.randn(5, 4, generator=generator, dtype=torch.float64), -1)
    assert torch.autograd.gradcheck(lambda v, a: linear_blend_skinning(v, weights, bone_transforms(frames, PARENTS, a)), (vertices, angles))
    assert torch.autograd.gradcheck(lambda s: rest_frames(s, ENDS.double()), (STARTS.double().requires_grad_(),))
