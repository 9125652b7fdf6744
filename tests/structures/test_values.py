"""The frozen values: they cannot be changed, print shapes, move, cast, and look up bones by name."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from farm3d.structures import Animal, Camera, Crop, Light, Mesh, Skeleton


@pytest.fixture
def animal() -> Animal:
    mesh = Mesh(torch.zeros(4, 3), torch.tensor([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]]))
    skeleton = Skeleton(("spine_01", "head"), (-1, 0), torch.zeros(2, 3), torch.ones(2, 3), torch.zeros(3))
    light = Light(torch.tensor([0.0, 0.0, 1.0]), torch.tensor(0.5), torch.tensor(0.5))
    return Animal(
        category="horse",
        rest=mesh,
        skeleton=skeleton,
        skin_weights=torch.full((4, 2), 0.5),
        angles=torch.zeros(2, 3),
        albedo=torch.zeros(8, 8, 3),
        light=light,
        camera=Camera.orbit(0.0),
        height_m=1.6,
    )


def test_values_are_frozen(animal: Animal) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        animal.height_m = 2.0  # pyright: ignore[reportAttributeAccessIssue]


def test_replace_leaves_the_original(animal: Animal) -> None:
    taller = animal.replace(height_m=2.0)
    assert (animal.height_m, taller.height_m) == (1.6, 2.0) and taller.rest is animal.rest


def test_replace_refuses_unknown_fields(animal: Animal) -> None:
    with pytest.raises(TypeError, match="heigth_m"):
        animal.replace(heigth_m=2.0)


def test_printing_shows_shapes_not_numbers(animal: Animal) -> None:
    text = repr(animal)
    assert "skin_weights=float32[4, 2]" in text and "rest=Mesh(vertices=float32[4, 3], faces=int64[4, 3]" in text and "tensor(" not in text


def test_casting_reaches_nested_floats_and_leaves_indices(animal: Animal) -> None:
    double = animal.to(torch.float64)
    assert double.rest.vertices.dtype == double.camera.intrinsics.dtype == double.light.ambient.dtype == torch.float64
    assert double.rest.faces.dtype == torch.int64 and animal.rest.vertices.dtype == torch.float32


def test_moving_reaches_everything(animal: Animal) -> None:
    there = animal.to("meta")
    assert {
        there.rest.faces.device.type,
        there.skeleton.starts.device.type,
        there.light.direction.device.type,
        there.albedo.device.type,
    } == {"meta"}


def test_bones_by_name(animal: Animal) -> None:
    assert animal.skeleton.index("head") == 1
    with pytest.raises(KeyError, match="no bone 'tail'; bones: spine_01, head"):
        animal.skeleton.index("tail")


def test_a_crop_prints_its_box() -> None:
    crop = Crop(torch.zeros(3, 8, 8), torch.zeros(8, 8), torch.ones(8, 8), (-1.0, 2.0, 9.0), (20, 10), warnings=("cut by the border",))
    assert "box_px=(-1.0, 2.0, 9.0)" in repr(crop) and "cut by the border" in repr(crop)
