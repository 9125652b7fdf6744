"""One pass of a learned category over a picture: an individual's shape, and for each viewpoint hypothesis a camera and a pose.

The picture and its mirror image are both read, and what is said of the two is averaged: an animal seen in a mirror is the same animal
mirrored, which networks obey only nearly, so that their errors differ. Of readings that are of different views the picture's own stands.

What comes out are starts for :func:`farm3d.model.fitting.fit`, which draws each of them before any is trusted: how well a hypothesis
explains the picture is a far better judge of the view than what the network expects (recipes, part B).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch

from farm3d.core.shapes import Float, Tensor
from farm3d.model.category.learned import LearnedCategory
from farm3d.model.category.rest_shape import RestShape
from farm3d.model.parameters import Parameters
from farm3d.model.prior import CategoryPrior
from farm3d.structures import Crop

__all__ = ["FirstGuess", "first_guess"]

_READ_PX = 128  # of the crops that training reads


class FirstGuess(NamedTuple):
    """What ``f`` says of one picture.

    Attributes:
        prior: the category with the individual's own rest shape.
        starts: camera and pose of each hypothesis (B = hypotheses).
        colours: albedo at the template's vertices, linear RGB, ``[V, 3]``.
    """

    prior: CategoryPrior
    starts: Parameters
    colours: Float[Tensor, "V 3"]


@torch.no_grad()
def first_guess(learned: LearnedCategory, crop: Crop, maps: Float[Tensor, "1 C G G"], *, sagittal: float) -> FirstGuess:
    """Return ``(s, a, v) = f(I)`` for one crop (section 2). The light is solved from the picture later, as for any fit.

    Args:
        learned: the category.
        crop: the picture, square.
        maps: the backbone's features of the animal on plain grey, as in training.
        sagittal: of the first round of fitting, whose joint limits the poses must keep to.
    """
    model, prior = learned.model, learned.prior
    shrunk = torch.nn.functional.interpolate(torch.cat([crop.image, crop.mask[None]])[None], (_READ_PX, _READ_PX), mode="area")[0]
    image, mask = shrunk[None, :3], shrunk[None, 3]
    said = _said(learned, maps, image, mask)
    said = _between(said, _mirrored(_said(learned, maps.flip(-1), image.flip(-1), mask.flip(-1)), learned.rest.skeleton.names))
    template, count = _on_template(prior), model.config.hypotheses
    colours = model.colours(template, said.look)[0]
    own = prior
    if model.config.parts.deformation:
        shape = prior.template.vertices + model.displacements(template, said.code)[0]
        own = prior.replace(template=prior.template.replace(vertices=shape))
    starts = Parameters.seen(
        own,
        said.azimuth,
        said.elevation,
        said.shift.expand(count, 2),
        said.log_distance.expand(count),
        said.angles,
        sagittal=sagittal,
    )
    return FirstGuess(own, starts, colours)


class _Said(NamedTuple):
    """What the networks say of one picture: ``[H]``, ``[H]``, ``[1, 2]``, ``[1]``, ``[H, K, 3]``, ``[1, D]`` twice."""

    azimuth: Tensor
    elevation: Tensor
    shift: Tensor
    log_distance: Tensor
    angles: Tensor
    code: Tensor
    look: Tensor


def _said(learned: LearnedCategory, maps: Tensor, image: Tensor, mask: Tensor) -> _Said:
    reading = learned.read(maps, image, mask)
    views, count = reading.viewpoints, learned.model.config.hypotheses
    zeros, each = maps.new_zeros(count, dtype=torch.long), torch.arange(count, device=maps.device)
    camera = views.cameras(zeros, each, size_px=64)
    angles = learned.model.individuals(learned.rest, reading, camera, zeros, deform=False, articulate=True).angles
    return _Said(views.azimuth[0], views.elevation[0], views.shift, views.log_distance, angles, reading.code, reading.look)


def _mirrored(said: _Said, names: Sequence[str]) -> _Said:
    """Return what was said of a mirrored picture as it holds for the picture: sectors of the circle change sides, and so do legs.

    Flexion stays; bends to the side and twists change their sign (section 2.6). Shape and coat are alike on both sides.
    """
    swapped = [names.index(_other_side(name)) for name in names]
    angles = said.angles.flip(0)[:, swapped] * said.angles.new_tensor([1.0, -1.0, -1.0])
    shift = said.shift * said.shift.new_tensor([-1.0, 1.0])
    return said._replace(azimuth=-said.azimuth.flip(0), elevation=said.elevation.flip(0), shift=shift, angles=angles)


def _other_side(name: str) -> str:
    sides = {"_L_": "_R_", "_R_": "_L_"}
    return next((name.replace(here, there) for here, there in sides.items() if here in name), name)


def _between(one: _Said, other: _Said) -> _Said:
    gap = torch.remainder(other.azimuth - one.azimuth + math.pi, 2 * math.pi) - math.pi
    middle = _Said(*((a + b) / 2 for a, b in zip(one, other, strict=True)))._replace(azimuth=one.azimuth + gap / 2)
    # Further apart than a right angle they are of two views, as a model of one hypothesis may well say, and between these lies none:
    # the picture's own stands.
    apart = gap.abs() > math.pi / 2
    return middle._replace(
        azimuth=torch.where(apart, one.azimuth, middle.azimuth),
        elevation=torch.where(apart, one.elevation, middle.elevation),
        angles=torch.where(apart[:, None, None], one.angles, middle.angles),
    )


def _on_template(prior: CategoryPrior) -> RestShape:
    """The template in the form that the networks take: no mirror images among the first vertices."""
    template = prior.template
    half = int((template.vertices[:, 0] >= 0).sum())
    return RestShape(template.vertices, half, template.faces, prior.mirror, prior.skeleton, prior.skin_weights)
