"""Cubes against shapes with a formula, against trimesh, and the surface made again from them."""

import importlib.metadata
import itertools
import math
import sys
from typing import Any

import numpy as np
import pytest
import trimesh
from tests.testing.surfaces import ball, box, square_surface, toy

from farm3d.core.errors import InputError, MissingPartError
from farm3d.evaluation.meshes import Surface, make_surface
from farm3d.evaluation.voxels import remesh, voxelize


def merged(*surfaces: Surface) -> Surface:
    """One surface of several."""
    starts = np.cumsum([0] + [len(surface.vertices) for surface in surfaces])
    faces = [surface.faces + start for surface, start in zip(surfaces, starts[:-1], strict=True)]
    return make_surface("merged", np.concatenate([surface.vertices for surface in surfaces]), np.concatenate(faces))


def peer(surface: Surface) -> Any:
    return trimesh.Trimesh(surface.vertices, surface.faces)


def test_a_box_is_filled_to_the_cubes_its_faces_run_through() -> None:
    cubes = voxelize(box((1.0, 2.0, 3.0)), min_cubes=40)  # faces run through the middles of cubes, so half a cube is added all round
    assert cubes.filled.shape == (41, 81, 121) and cubes.filled.all()
    assert cubes.volume == pytest.approx(41 * 81 * 121 / 40**3)
    assert np.allclose((cubes.first - 0.5) * cubes.pitch, [-0.5125, -1.0125, -1.5125])


def test_the_volume_of_a_ball_tends_to_the_formula() -> None:
    errors = [voxelize(ball(cells=64), min_cubes=count).volume / (4 / 3 * math.pi) - 1 for count in (25, 50, 100)]
    assert all(0 < fine < 0.65 * coarse for coarse, fine in itertools.pairwise(errors))
    assert errors[-1] < 0.05


@pytest.mark.parametrize("surface", [ball(cells=9), toy(), box((1, 2, 0.3), centre=(0.7, -3.1, 0.05))], ids=["ball", "toy", "box"])
@pytest.mark.parametrize("min_cubes", [7, 30])
def test_cubes_and_surface_are_those_of_trimesh(surface: Surface, min_cubes: int) -> None:
    if int(importlib.metadata.version("trimesh").split(".")[0]) < 5:
        pytest.skip("trimesh before 5 subdivided triangles in another way: a few cubes differ")
    ours = voxelize(surface, min_cubes=min_cubes)
    theirs = peer(surface).voxelized(surface.sides.min() / min_cubes).fill()
    assert np.array_equal(ours.filled, theirs.matrix)
    assert ours.volume == pytest.approx(theirs.volume) and np.allclose(ours.first * ours.pitch, theirs.transform[:3, 3])
    (made, _), expected = remesh(surface, ours), theirs.marching_cubes
    expected.apply_scale((peer(surface).extents / expected.extents).mean())
    expected.apply_translation(peer(surface).centroid - expected.centroid)
    assert np.allclose(made.vertices[made.faces], expected.vertices[expected.faces], atol=1e-9)


def test_inner_faces_do_not_count_and_holes_are_not_filled() -> None:
    outer = box((1, 1, 1))
    assert voxelize(merged(outer, box((0.4, 0.4, 0.4))), min_cubes=20).volume == voxelize(outer, min_cubes=20).volume
    open_box = Surface("open", outer.vertices, outer.faces[2:])
    shell = voxelize(open_box, min_cubes=20)
    assert shell.volume < 0.5 * voxelize(outer, min_cubes=20).volume and not shell.filled[10, 10, 10]


def test_a_spiral_is_flooded_to_its_end() -> None:
    """A corridor that winds inward between walls, open at its mouth: the outside must find its way round every corner."""
    corners, step = [(0.0, 0.0)], 9.0
    for turn, (dx, dz) in enumerate([(1, 0), (0, 1), (-1, 0), (0, -1)] * 2):
        corners.append((corners[-1][0] + dx * step, corners[-1][1] + dz * step))
        step -= 1.0 if turn % 2 else 0.0
    floor = np.array([[x, 0.0, z] for x, z in corners])
    first = np.arange(len(corners) - 1)
    walls = [
        np.stack([first, first + 1, first + 1 + len(corners)], 1),
        np.stack([first, first + 1 + len(corners), first + len(corners)], 1),
    ]
    spiral = make_surface("spiral", np.concatenate([floor, floor + [0, 4.0, 0]]), np.concatenate(walls))
    lids = [box((12, 0.01, 12), centre=(4.5, height, 4.5)) for height in (0.0, 4.0)]
    cubes = voxelize(merged(spiral, *lids), min_cubes=16)
    middle = (cubes.filled.shape[1] - 1) // 2
    wall_cells = np.count_nonzero(voxelize(spiral, min_cubes=16).filled.any(1))
    assert np.count_nonzero(cubes.filled[:, middle]) <= 1.2 * wall_cells


def test_remeshing_unites_overlapping_parts_in_place() -> None:
    surface = merged(box((1, 1, 1)), box((1, 1, 1), centre=(0.5, 0.25, 0.1)))
    cubes = voxelize(surface, min_cubes=50)
    made, matrix = remesh(surface, cubes)
    mesh: Any = peer(made)
    assert mesh.is_watertight and len(mesh.split()) == 1
    assert np.allclose(made.centroid, surface.centroid) and (surface.sides / made.sides).mean() == pytest.approx(1)
    union = 2 - 0.5 * 0.75 * 0.9
    assert abs(mesh.volume) == pytest.approx(union, rel=0.04)
    # The map that comes with it says where the old surface went: half a cube or so from the new one, overlap and shift or not.
    assert np.abs(surface.transformed(matrix).sides / made.sides - 1).max() < 0.03
    assert np.abs(surface.transformed(matrix).vertices.min(0) - made.vertices.min(0)).max() < 0.8 * cubes.pitch


@pytest.mark.parametrize("surface", [square_surface(), box((1, 1, 1e-5))], ids=["flat", "thin"])
def test_surfaces_too_thin_for_cubes_are_errors(surface: Surface) -> None:
    with pytest.raises(InputError, match="too flat to be filled with cubes"):
        voxelize(surface)


def test_without_scikit_image_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage.measure", None)
    with pytest.raises(MissingPartError, match="pip install"):
        remesh(box(), voxelize(box(), min_cubes=10))
