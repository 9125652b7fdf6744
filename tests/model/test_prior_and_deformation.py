"""The shipped priors: what their parts promise, on the real files."""

import pytest
import torch

from farm3d.core.errors import ModelError
from farm3d.geometry.surface import is_closed_manifold
from farm3d.model.deformation import GIRTH_GROUPS, LENGTH_GROUPS, proportion_shape
from farm3d.model.joint_limits import joint_limits
from farm3d.model.prior import CategoryPrior

FLIP = torch.tensor([-1.0, 1.0, 1.0])


@pytest.fixture(scope="module", params=["horse", "cow", "sheep"])
def prior(request: pytest.FixtureRequest) -> CategoryPrior:
    return CategoryPrior.from_pretrained(request.param)


def test_template_is_closed_and_mirror_symmetric(prior: CategoryPrior) -> None:
    vertices, mirror = prior.template.vertices, prior.mirror
    assert is_closed_manifold(prior.template.faces)
    assert torch.equal(mirror[mirror], torch.arange(len(vertices)))
    assert torch.allclose(vertices[mirror], vertices * FLIP, atol=1e-6)
    images = torch.sort(mirror[prior.template.faces], 1).values
    own = torch.sort(prior.template.faces, 1).values
    assert {tuple(face) for face in images.tolist()} == {tuple(face) for face in own.tolist()}


def test_atlas_lies_in_the_unit_square(prior: CategoryPrior) -> None:
    uv = prior.template.uv
    assert uv is not None
    assert torch.isfinite(uv).all()
    assert uv.min() >= 0
    assert uv.max() <= 1


def test_skin_sums_to_one_with_four_bones_and_mirrors(prior: CategoryPrior) -> None:
    weights = prior.skin_weights
    assert torch.allclose(weights.sum(1), torch.ones(len(weights)), atol=1e-5)
    assert (weights >= 0).all()
    assert ((weights > 0).sum(1) <= 4).all()
    names = prior.skeleton.names
    left = weights[:, [k for k, name in enumerate(names) if "_L_" in name]].sum(1)
    right = weights[:, [k for k, name in enumerate(names) if "_R_" in name]].sum(1)
    assert torch.allclose(left[prior.mirror], right, atol=1e-4)


def test_head_ahead_of_tail_and_feet_below(prior: CategoryPrior) -> None:
    skeleton = prior.skeleton
    ends = {name: skeleton.ends[k] for k, name in enumerate(skeleton.names)}
    assert ends["head"][2] > 1 > -1 > ends.get("tail_03", ends["pelvis_02"])[2]  # the sheep's tail is short: no bones of its own
    for leg in ("leg_front_L", "leg_front_R", "leg_rear_L", "leg_rear_R"):
        foot = ends[f"{leg}_03"]
        assert foot[1] < prior.template.vertices[:, 1].min() + 0.1
        assert (foot[0] > 0) == ("_L" in leg)
        assert (foot[2] > 0) == ("front" in leg)


def test_modes_mirror_and_have_unit_size(prior: CategoryPrior) -> None:
    modes = prior.modes
    assert torch.allclose(modes.along_yz[prior.mirror], modes.along_yz, atol=2e-3)
    assert torch.allclose(modes.along_x[prior.mirror], -modes.along_x, atol=2e-3)
    assert torch.allclose(modes.along_yz.square().mean(0), torch.ones(modes.along_yz.shape[1]), atol=1e-2)
    assert (modes.stiffness_yz.diff() > -1e-3).all()


def test_zero_proportions_are_the_template(prior: CategoryPrior) -> None:
    zeros = torch.zeros(2, len(LENGTH_GROUPS)), torch.zeros(2, len(GIRTH_GROUPS))
    shape, skeleton = proportion_shape(
        prior.template.vertices, prior.skin_weights, prior.skeleton, log_lengths=zeros[0], log_girths=zeros[1]
    )
    assert torch.allclose(shape, prior.template.vertices.expand_as(shape), atol=1e-5)
    assert torch.allclose(skeleton.ends[1], prior.skeleton.ends, atol=1e-5)


def test_proportions_lengthen_legs_and_keep_symmetry(prior: CategoryPrior) -> None:
    lengths, girths = torch.zeros(1, len(LENGTH_GROUPS)), torch.zeros(1, len(GIRTH_GROUPS))
    for group, prefixes in enumerate(LENGTH_GROUPS):
        if prefixes[0].startswith("leg_"):
            lengths[0, group] = 0.2
    shape, skeleton = proportion_shape(prior.template.vertices, prior.skin_weights, prior.skeleton, log_lengths=lengths, log_girths=girths)
    assert shape[0, :, 1].min() < prior.template.vertices[:, 1].min() - 0.2
    assert torch.allclose(shape[0][prior.mirror], shape[0] * FLIP, atol=2e-3)
    k = prior.skeleton.index("leg_front_L_02")
    before = (prior.skeleton.ends[k] - prior.skeleton.starts[k]).norm()
    assert torch.allclose((skeleton.ends[0, k] - skeleton.starts[0, k]).norm(), before * torch.tensor(0.2).exp(), rtol=1e-4)
    parent = prior.skeleton.index("leg_front_L_01")
    assert torch.allclose(skeleton.starts[0, k], skeleton.ends[0, parent], atol=1e-4)  # the joint stays joined


def test_limits_allow_the_rest_pose(prior: CategoryPrior) -> None:
    low, high = joint_limits(prior.skeleton.names)
    assert (low < 0).all()
    assert (high > 0).all()
    assert high.max() < 1.8


def test_round_trip(prior: CategoryPrior, tmp_path) -> None:
    prior.save_pretrained(tmp_path / "copy", card="# copy\n")
    again = CategoryPrior.from_pretrained(tmp_path / "copy")
    assert again.config == prior.config
    assert torch.equal(again.template.vertices, prior.template.vertices)
    assert torch.equal(again.modes.along_x, prior.modes.along_x)
    assert torch.equal(again.skin_weights, prior.skin_weights)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ModelError, match="unicorn"):
        CategoryPrior.from_pretrained("unicorn")
