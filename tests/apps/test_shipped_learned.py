"""The learned models that are shipped: small, with a card that says how they were made, and of use on the example as they are."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from farm3d.apps.cli import parse
from farm3d.apps.generate_options import GenerateOptions
from farm3d.apps.train_options import TrainOptions
from farm3d.geometry.surface import inspect_surface, vertex_components
from farm3d.model.category.learned import LearnedCategory
from farm3d.model.folder import weights_folder
from farm3d.model.reconstructor import Reconstruction, Reconstructor
from farm3d.motion.animate import posed_vertices
from farm3d.motion.clips import input_pose_clip
from farm3d.render.renderer import render
from farm3d.structures import Light

EXAMPLE = Path(__file__).parents[2] / "examples" / "horse.png"
SHIPPED = ("cow-learned", "horse-learned", "sheep-learned")


@pytest.mark.parametrize("name", SHIPPED)
def test_it_loads_and_is_small(name: str) -> None:
    learned = LearnedCategory.from_pretrained(name)
    assert learned.model.config.category == name.removesuffix("-learned") == learned.prior.config.category
    assert learned.encoder == "efficientnet_lite0"
    assert sum(path.stat().st_size for path in weights_folder(name).rglob("*") if path.is_file()) <= 25e6


@pytest.mark.parametrize("name", SHIPPED)
def test_its_card_names_pictures_command_seed_and_hours(name: str) -> None:
    card = (weights_folder(name) / "README.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (.+?) \| (.+?) \|$", card, re.M))
    assert re.fullmatch(r"[1-9]\d*, digest [0-9a-f]{16}", rows["pictures"])
    made, drawn = (shlex.split(words) for words in (rows["command"].strip("`"), re.findall(r"`(farm3d generate [^`]+)`", card)[0]))
    trained = parse(made[1:])
    assert isinstance(trained, TrainOptions) and isinstance(parse([*drawn[1:], "--out", "OUT"]), GenerateOptions)
    assert "--seed" in made and "--seed" in drawn
    steps, hours = re.fullmatch(r"(\d+) steps, (\d+\.\d+) hours", rows["training"]).groups()  # pyright: ignore[reportOptionalMemberAccess]
    assert int(steps) == trained.steps and 0 < float(hours) < 2


@pytest.fixture(scope="module")
def found() -> Reconstruction:
    """The example, one pass of the learned horse."""
    return Reconstructor.from_pretrained("horse-learned")(EXAMPLE, refine=False, texture_px=128)


def test_one_pass_covers_the_example_with_its_head_on_the_right_side(found: Reconstruction) -> None:
    """Drawn through the camera that the user gets, against the picture's own transparency; the horse looks to the left."""
    animal = found.animal
    vertices = posed_vertices(animal, input_pose_clip(animal.angles), 0.0)
    light = Light(torch.tensor([0.0, 1.0, 0.0]), torch.tensor(1.0), torch.tensor(0.0))
    drawn = render(vertices[None], animal.rest.faces, animal.camera, light, albedo=torch.ones(1, len(vertices), 3)).mask[0].numpy() > 0.5
    with Image.open(EXAMPLE) as picture:
        true = np.asarray(picture)[..., 3] > 127
    assert (drawn & true).sum() / (drawn | true).sum() > 0.6 and found.iou > 0.6
    clip = animal.camera.clip(vertices)
    x = clip[:, 0] / clip[:, 3]
    owner, names = animal.skin_weights.argmax(1), animal.skeleton.names
    head, rear = (x[owner == names.index(name)].mean() for name in ("head", "pelvis_02"))
    assert head < rear - 0.5  # a quarter of the picture


def test_one_pass_gives_a_closed_animal_on_four_feet(found: Reconstruction) -> None:
    rest = found.animal.rest
    report = inspect_surface(rest.faces)
    assert report.closed and report.oriented and report.manifold and report.components == 1
    height = rest.vertices[:, 1] - rest.vertices[:, 1].min()
    low = height < 0.1 * height.max()
    pieces = vertex_components(rest.faces[low[rest.faces].all(1)], len(rest.vertices))
    feet = [rest.vertices[pieces == piece].mean(0) for piece in torch.unique(pieces[low])]
    assert len(feet) == 4
    assert {(bool(foot[0] > 0), bool(foot[2] > 0)) for foot in feet} == {(left, front) for left in (True, False) for front in (True, False)}
