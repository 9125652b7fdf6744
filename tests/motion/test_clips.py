"""Clips loop, stay on the ground and have the footfalls of their gaits; checked on posed skin, not on the curves."""

import functools

import pytest
import torch
from tests.testing.animals import GROUND, quadruped, quadruped_skeleton

from farm3d.core.errors import InputError
from farm3d.export.glb import glb_transform
from farm3d.motion.animate import posed_vertices
from farm3d.motion.clips import CLIP_NAMES, Clip, ground, input_pose_clip, make_clip, make_clips
from farm3d.motion.gaits import GALLOP, TROT, WALK
from farm3d.structures import Animal, Skeleton

_SAMPLES = 96


@functools.cache
def _animal(tail: bool = True) -> Animal:
    return quadruped(tail=tail)


@functools.cache
def _clips(tail: bool = True) -> dict[str, Clip]:
    return {clip.name: clip for clip in make_clips(_animal(tail))}


@functools.cache
def _heights(name: str) -> torch.Tensor:
    """Height of the lowest skin of each foot above the ground in metres, [samples, 4] in the order front_L, front_R, rear_L, rear_R."""
    animal, clip = _animal(), _clips()[name]
    scale = float(glb_transform(animal)[0, 0])
    feet = [animal.skin_weights[:, animal.skeleton.index(f"leg_{leg}_03")] > 0.5 for leg in ("front_L", "front_R", "rear_L", "rear_R")]
    rows = []
    for i in range(_SAMPLES):
        y = posed_vertices(animal, clip, clip.duration_s * i / _SAMPLES)[:, 1] - GROUND
        rows.append(torch.stack([y[foot].min() for foot in feet]) * scale)
    return torch.stack(rows)


def _on_ground(name: str) -> torch.Tensor:
    return _heights(name) < 0.008


def _landings(name: str) -> list[float]:
    """Phase at which each foot comes down."""
    down = _on_ground(name)
    lands = down & ~down.roll(1, 0)
    assert lands.sum(0).tolist() == [1, 1, 1, 1], f"each foot lands once in a stride of {name}"
    return [int(lands[:, leg].nonzero()[0]) / _SAMPLES for leg in range(4)]


def _apart(a: float, b: float) -> float:
    return abs((a - b + 0.5) % 1 - 0.5)


@pytest.mark.parametrize("tail", [True, False])
@pytest.mark.parametrize("name", CLIP_NAMES)
def test_loops_and_times(name: str, tail: bool) -> None:
    clip = _clips(tail)[name]
    assert float(clip.times_s[0]) == 0 and bool((clip.times_s.diff() > 0).all())
    assert torch.equal(clip.angles[0], clip.angles[-1]) and torch.equal(clip.root_offset[0], clip.root_offset[-1])
    assert all(bool(torch.isfinite(x).all()) for x in (clip.times_s, clip.angles, clip.root_offset))
    assert clip.angles.shape[1] == len(_animal(tail).skeleton.names)


def test_order_is_the_products() -> None:
    assert tuple(_clips()) == CLIP_NAMES


@pytest.mark.parametrize("name", ["idle", "walk", "trot", "gallop", "graze"])
def test_feet_neither_sink_nor_float(name: str) -> None:
    lowest = _heights(name).amin(1)
    assert float(lowest.min()) > -0.01
    if name != "gallop":
        assert float(lowest.max()) < 0.02


@pytest.mark.parametrize("name", ["idle", "graze"])
def test_standing_clips_keep_every_foot_planted(name: str) -> None:
    assert bool(_on_ground(name).all())
    animal, clip = _animal(), _clips()[name]
    foot = animal.skin_weights[:, animal.skeleton.index("leg_rear_L_03")] > 0.9
    path = torch.stack([posed_vertices(animal, clip, clip.duration_s * i / 12)[foot].mean(0) for i in range(12)])
    assert float((path - path.mean(0)).norm(dim=-1).max()) < 0.01


def test_walk_is_lateral_four_beat() -> None:
    front_L, front_R, rear_L, rear_R = _landings("walk")
    beats = [(phase - rear_L) % 1 for phase in (rear_L, front_L, rear_R, front_R)]
    assert beats == sorted(beats)
    assert all(abs(beat - i / 4) < 0.07 for i, beat in enumerate(beats))
    duty = _on_ground("walk").float().mean(0)
    assert bool(((duty > 0.55) & (duty < 0.75)).all())
    assert int(_on_ground("walk").sum(1).min()) >= 2


def test_trot_goes_on_diagonal_pairs() -> None:
    front_L, front_R, rear_L, rear_R = _landings("trot")
    assert _apart(front_L, rear_R) < 0.1 and _apart(front_R, rear_L) < 0.1
    assert abs(_apart(front_L, front_R) - 0.5) < 0.04


def test_gallop_has_a_suspension_and_lands_hind_feet_first() -> None:
    in_air = (_heights("gallop") > 0.03).all(1)
    assert 0.08 < float(in_air.float().mean()) < 0.4
    assert int((in_air & ~in_air.roll(1)).sum()) == 1
    start = int((in_air & ~in_air.roll(-1)).nonzero()[0]) / _SAMPLES
    order = sorted(zip([(phase - start) % 1 for phase in _landings("gallop")], ["front_L", "front_R", "rear_L", "rear_R"], strict=True))
    assert [name for _, name in order] == ["rear_L", "rear_R", "front_L", "front_R"]


@pytest.mark.parametrize("name", ["walk", "trot"])
def test_left_and_right_are_half_a_stride_apart(name: str) -> None:
    clip, skeleton = _clips()[name], _animal().skeleton
    half = (len(clip.times_s) - 1) // 2
    for leg in ("front", "rear"):
        for bone in (1, 2, 3):
            left, right = (clip.angles[:-1, skeleton.index(f"leg_{leg}_{side}_{bone:02d}"), 0] for side in "LR")
            assert torch.allclose(left, right.roll(half), atol=0.02), (leg, bone)


@pytest.mark.parametrize("name", ["walk", "trot", "gallop"])
def test_carpus_folds_back_and_hock_forward(name: str) -> None:
    clip, skeleton = _clips()[name], _animal().skeleton
    assert float(clip.angles[:, skeleton.index("leg_front_L_03"), 0].max()) > 0.5
    assert float(clip.angles[:, skeleton.index("leg_rear_L_03"), 0].min()) < -0.3


@pytest.mark.parametrize("name", ["walk", "trot", "gallop"])
def test_a_planted_foot_travels_back_at_one_speed(name: str) -> None:
    """In place, the ground runs backward under the animal: a foot that slips on it would change speed."""
    animal, clip = _animal(), _clips()[name]
    leg = animal.skeleton.index("leg_rear_L_03")
    foot = animal.skin_weights[:, leg] > 0.9
    z = torch.stack([posed_vertices(animal, clip, float(t))[foot, 2].min() for t in clip.times_s[:-1]])
    gait = {"walk": WALK, "trot": TROT, "gallop": GALLOP}[name]
    phase = (clip.times_s[:-1] / clip.duration_s - gait.touchdown["rear_L"]) % 1
    order = phase.argsort()
    inside = order[phase[order] < 0.85 * gait.duty]
    speed = z[inside].diff() / phase[inside].diff()
    assert bool((speed < 0).all())
    assert float((speed / speed.mean() - 1).abs().max()) < 0.35


def test_grazing_muzzle_is_at_the_ground_and_in_front() -> None:
    animal, clip = _animal(), _clips()["graze"]
    head = animal.skin_weights[:, animal.skeleton.index("head")] > 0.5
    for i in range(12):
        posed = posed_vertices(animal, clip, clip.duration_s * i / 12)
        assert 0 < float(posed[head, 1].min()) - GROUND < 0.06
        assert float(posed[head, 2].mean()) > float(animal.skeleton.starts[animal.skeleton.index("leg_front_L_03"), 2])


def _straight_chain() -> Skeleton:
    """What the heuristic of section 2.5 gives: a straight line from the muzzle to the centre, straight legs."""
    whole = quadruped_skeleton(tail=False)
    starts, ends = whole.starts.clone(), whole.ends.clone()
    tip = ends[whole.index("head")]
    for i in range(4):
        starts[i], ends[i] = (torch.lerp(whole.centre, tip, torch.tensor(share)) for share in (i / 4, (i + 1) / 4))
    for k, name in enumerate(whole.names):
        if name.endswith("_01") and name.startswith("leg_"):
            hip, foot = starts[k].clone(), ends[k + 2].clone()
            for i in range(3):
                starts[k + i], ends[k + i] = (torch.lerp(hip, foot, torch.tensor(share)) for share in (i / 3, (i + 1) / 3))
    return Skeleton(whole.names, whole.parents, starts, ends, whole.centre)


@pytest.mark.parametrize("name", ["idle", "walk", "trot", "gallop", "graze"])
def test_works_on_a_straight_heuristic_skeleton(name: str) -> None:
    skeleton = _straight_chain()
    clip = make_clip(name, skeleton)
    assert bool(torch.isfinite(clip.angles).all()) and float(clip.angles.abs().max()) < 2.2
    transforms = skeleton.transforms(clip.angles)
    if name == "graze":
        head = skeleton.index("head")
        muzzle = (transforms[:, head, :3, :3] @ skeleton.ends[head]) + transforms[:, head, :3, 3]
        assert float(muzzle[:, 1].min()) < GROUND + 0.45  # from 0.72 above; its neck is too short for more
    if name in ("walk", "trot"):
        foot = skeleton.index("leg_front_L_03")
        path = (transforms[:, foot, :3, :3] @ skeleton.ends[foot]) + transforms[:, foot, :3, 3]
        assert float(path[:, 2].max() - path[:, 2].min()) > 0.4


def test_missing_bones_are_left_out() -> None:
    whole = quadruped_skeleton(tail=False)
    trunk = [k for k, name in enumerate(whole.names) if not name.startswith("leg_")]
    bare = Skeleton(
        tuple(whole.names[k] for k in trunk), tuple(whole.parents[k] for k in trunk), whole.starts[trunk], whole.ends[trunk], whole.centre
    )
    for name in ("rest", "idle", "walk", "gallop", "graze"):
        assert make_clip(name, bare).angles.shape[1] == len(trunk)


def test_input_pose_holds_the_pose_and_does_not_move() -> None:
    clip = input_pose_clip(_animal().angles)
    assert torch.equal(clip.angles, _animal().angles.expand_as(clip.angles))
    assert not clip.root_offset.any()


def test_ground_puts_a_sunken_clip_back() -> None:
    animal = _animal()
    clip = _clips()["walk"]
    sunk = clip.replace(root_offset=clip.root_offset - torch.tensor([0.0, 0.3, 0.0]))
    back = ground(sunk, animal.rest, skin_weights=animal.skin_weights, skeleton=animal.skeleton)
    assert torch.allclose(back.root_offset, clip.root_offset, atol=1e-5)


def test_unknown_clip_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(InputError, match=r"'walc'.*did you mean 'walk'"):
        make_clip("walc", quadruped_skeleton())


@functools.cache
def _ill_fitted() -> tuple[Animal, dict[str, Clip]]:
    """What one view can do to a shape: forefeet crossed, hind feet higher than the forefeet, the bones as they were."""
    animal = _animal()
    moved = animal.rest.vertices.clone()
    for leg, sideways, up in (("front_L", -0.24, 0.0), ("front_R", 0.24, 0.0), ("rear_L", 0.0, 0.12), ("rear_R", 0.0, 0.12)):
        bones = animal.skeleton
        top, foot = bones.starts[bones.index(f"leg_{leg}_01"), 1], bones.ends[bones.index(f"leg_{leg}_03"), 1]
        down = ((top - moved[:, 1]) / (top - foot)).clamp(0, 1)
        own = animal.skin_weights[:, [bones.index(f"leg_{leg}_{i:02d}") for i in (1, 2, 3)]].sum(-1) * down
        moved += own[:, None] * torch.tensor([sideways, up, 0.0])
    ill = animal.replace(rest=animal.rest.replace(vertices=moved))
    return ill, {clip.name: clip for clip in make_clips(ill)}


def _foot_boxes(animal: Animal, clip: Clip, moment: float) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    posed = posed_vertices(animal, clip, moment * clip.duration_s)
    feet = {}
    for leg in ("front_L", "front_R", "rear_L", "rear_R"):
        own = posed[animal.skin_weights[:, animal.skeleton.index(f"leg_{leg}_03")] > 0.5]
        low = own[own[:, 1] < own[:, 1].min() + 0.1]
        feet[leg] = low.amin(0), low.amax(0)
    return feet


@pytest.mark.parametrize("name", ["idle", "walk", "trot", "gallop", "graze"])
def test_an_ill_fitted_shape_does_not_cross_its_legs(name: str) -> None:
    animal, clips = _ill_fitted()
    at_rest = _foot_boxes(animal, clips["rest"], 0)
    assert at_rest["front_L"][0][0] < at_rest["front_R"][1][0], "the test's shape has its forefeet crossed"
    for i in range(16):
        feet = _foot_boxes(animal, clips[name], i / 16)
        for end in ("front", "rear"):
            assert float(feet[f"{end}_L"][0][0] - feet[f"{end}_R"][1][0]) > 0.03, (i, end)


@pytest.mark.parametrize("name", ["idle", "graze"])
def test_an_ill_fitted_shape_stands_on_all_four_feet(name: str) -> None:
    animal, clips = _ill_fitted()
    for i in range(8):
        heights = [float(low[1]) - GROUND for low, _ in _foot_boxes(animal, clips[name], i / 8).values()]
        assert min(heights) > -0.005 and max(heights) < 0.02


@pytest.mark.parametrize("ill", [False, True])
def test_grazing_stands_on_straight_forelegs_a_stride_apart(ill: bool) -> None:
    """No kneeling: carpus and elbow stay nearly as they stand, the shoulders come down because the feet are apart."""
    animal, clips = _ill_fitted() if ill else (_animal(), _clips())
    clip, skeleton = clips["graze"], animal.skeleton
    for side in "LR":
        assert float(clip.angles[:, skeleton.index(f"leg_front_{side}_02"), 0].abs().max()) < 0.45
        assert float(clip.angles[:, skeleton.index(f"leg_front_{side}_03"), 0].abs().max()) < 0.25
    feet = _foot_boxes(animal, clip, 0.3)
    length = float(skeleton.starts[skeleton.index("leg_front_L_01"), 1] - GROUND)
    assert 0.2 * length < float(feet["front_L"][0][2] - feet["front_R"][0][2]) < 0.8 * length
