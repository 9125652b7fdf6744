"""Bones found from meshes whose limbs are known."""

import numpy as np
import pytest
import torch
from skimage.measure import marching_cubes

from farm3d.geometry.quadruped import BODY_NAMES, LEG_NAMES, find_quadruped_bones

SEGMENTS = {
    "trunk": ((0, 0.5, -1.2), (0, 0.5, 1.0), 0.5),
    "neck": ((0, 0.7, 1.0), (0, 1.5, 1.6), 0.25),
    "head": ((0, 1.5, 1.6), (0, 1.25, 2.2), 0.18),
    "tail": ((0, 0.7, -1.5), (0, -0.5, -2.0), 0.1),
    **{f"leg{x:+d}{z:+d}": ((0.35 * x, 0.3, z * 1.0), (0.35 * x, -1.7, z * 1.0), 0.16) for x in (-1, 1) for z in (-1, 1)},
}


def toy(without: tuple[str, ...] = ()) -> tuple[torch.Tensor, torch.Tensor]:
    """A union of capsules as one closed mesh."""
    step = 0.06
    axes = [np.arange(low, high, step) for low, high in ((-0.81, 0.84), (-2.1, 2.1), (-2.4, 2.7))]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    field = np.full(points.shape[:3], -9.0)
    for name, (start, end, radius) in SEGMENTS.items():
        if name in without:
            continue
        a, b = np.array(start, float), np.array(end, float)
        t = np.clip((points - a) @ (b - a) / ((b - a) @ (b - a)), 0, 1)
        field = np.maximum(field, radius - np.linalg.norm(points - a - t[..., None] * (b - a), axis=-1))
    vertices, faces, _, _ = marching_cubes(field, 0.0, spacing=(step,) * 3, gradient_direction="ascent")
    vertices = vertices + [axis[0] for axis in axes]
    return torch.from_numpy(vertices).float(), torch.from_numpy(faces.astype(np.int64))


@pytest.fixture(scope="module")
def mesh() -> tuple[torch.Tensor, torch.Tensor]:
    return toy()


def test_the_papers_skeleton(mesh) -> None:
    """Acceptance check d: feet in four quadrants, chains toward head and tail, mirrored legs on the same body bone."""
    bones = find_quadruped_bones(*mesh, tail=False, centred=False)
    assert len(bones.names) == 20
    ends = dict(zip(bones.names, bones.ends, strict=True))
    starts = dict(zip(bones.names, bones.starts, strict=True))
    for leg, signs in zip(LEG_NAMES, ((1, 1), (1, -1), (-1, -1), (-1, 1)), strict=True):
        foot = ends[f"{leg}_03"]
        assert torch.sign(foot[0]) == signs[0]
        assert torch.sign(foot[2]) == signs[1]
        assert foot[1] < -1.7
    for chain, sign in ((BODY_NAMES[:4], 1), (BODY_NAMES[4:], -1)):
        for name in chain:
            assert torch.sign(ends[name][2] - starts[name][2]) == sign
            assert ends[name][0] == 0
    # Straight thirds and quarters, as section 2.5 says.
    lengths = torch.stack([(ends[name] - starts[name]).norm() for name in BODY_NAMES[:4]])
    assert torch.allclose(lengths, lengths[:1].expand(4), rtol=1e-5)
    mean_y = mesh[0][:, 1].mean()
    assert torch.allclose(bones.centre, torch.tensor([0.0, mean_y + 0.5, mesh[0][:, 2].mean()]), atol=1e-5)
    parents = dict(zip(bones.names, bones.parents, strict=True))
    assert parents["leg_front_L_01"] == parents["leg_front_R_01"]
    assert parents["leg_rear_L_01"] == parents["leg_rear_R_01"]
    assert parents["spine_01"] == parents["lumbar_01"] == -1
    assert all(parent < k for k, parent in enumerate(bones.parents))


def test_centred_joints_lie_inside_the_limbs(mesh) -> None:
    bones = find_quadruped_bones(*mesh)
    ends = dict(zip(bones.names, bones.ends, strict=True))
    for leg in LEG_NAMES:
        x = 0.35 if "_L" in leg else -0.35
        z = 1.0 if "front" in leg else -1.0
        for number in ("01", "02"):
            joint = ends[f"{leg}_{number}"]
            assert torch.hypot(joint[0] - x, joint[2] - z) < 0.1
    poll = ends["neck_02"]
    neck = torch.tensor([0.0, 1.5, 1.6])
    assert (poll - neck).norm() < 0.35
    straight = dict(zip(*(find_quadruped_bones(*mesh, centred=False)[i] for i in (0, 3)), strict=True))
    assert (straight["neck_02"] - neck).norm() > 0.4  # what the centre line mends


def test_tail_is_found_followed_and_switchable(mesh) -> None:
    bones = find_quadruped_bones(*mesh)
    assert len(bones.names) == 23
    starts = dict(zip(bones.names, bones.starts, strict=True))
    ends = dict(zip(bones.names, bones.ends, strict=True))
    assert (ends["tail_03"] - torch.tensor([0.0, -0.5, -2.0])).norm() < 0.3
    assert starts["tail_01"][1] > 0.2
    assert bones.parents[bones.names.index("tail_01")] == bones.names.index("pelvis_02")
    assert len(find_quadruped_bones(*mesh, tail=False).names) == 20
    assert len(find_quadruped_bones(*toy(without=("tail",))).names) == 20


def test_an_empty_quadrant_mirrors_the_other_side() -> None:
    whole = find_quadruped_bones(*toy(), centred=False)
    lame = find_quadruped_bones(*toy(without=("leg+1+1",)), centred=False)
    k = whole.names.index("leg_front_L_03")
    assert (lame.ends[k] - whole.ends[k]).norm() < 0.25
    for bone in lame.starts, lame.ends:
        assert torch.isfinite(bone).all()


def test_a_body_without_legs_still_gets_bones() -> None:
    bones = find_quadruped_bones(*toy(without=tuple(name for name in SEGMENTS if name.startswith("leg"))))
    assert torch.isfinite(bones.ends).all()
    assert ((bones.ends - bones.starts).norm(dim=1) > 1e-4).all()


def test_too_few_vertices_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 8"):
        find_quadruped_bones(torch.zeros(4, 3), torch.tensor([[0, 1, 2]]))


@pytest.mark.filterwarnings("error")
def test_a_head_that_has_come_off_still_has_its_bones() -> None:
    """Surfaces fall to pieces while they are learned: the neck is then a straight line to it."""
    bones = find_quadruped_bones(*toy(without=("neck",)))
    starts, ends = (dict(zip(bones.names, values, strict=True)) for values in (bones.starts, bones.ends))
    assert torch.isfinite(bones.starts).all() and torch.isfinite(bones.ends).all()
    neck = torch.stack([ends[name] - starts[name] for name in BODY_NAMES[:4]])
    assert torch.nn.functional.cosine_similarity(neck, neck[:1]).min() > 0.999
    assert ends["head"][2] > 2
