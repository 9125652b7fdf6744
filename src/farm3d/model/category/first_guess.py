"""One pass of a learned category over a picture: an individual's shape, and for each viewpoint hypothesis a camera and a pose.

What comes out are starts for :func:`farm3d.model.fitting.fit`, which draws each of them before any is trusted: how well a hypothesis
explains the picture is a far better judge of the view than what the network expects (recipes, part B).
"""

from __future__ import annotations

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
    reading = learned.read(maps, shrunk[None, :3], shrunk[None, 3])
    views, count = reading.viewpoints, model.config.hypotheses
    zeros, each = maps.new_zeros(count, dtype=torch.long), torch.arange(count, device=maps.device)
    camera = views.cameras(zeros, each, size_px=64)
    angles = model.individuals(learned.rest, reading, camera, zeros, deform=False, articulate=True).angles
    template = _on_template(prior)
    colours = model.colours(template, reading.look)[0]
    own = prior
    if model.config.parts.deformation:
        shape = prior.template.vertices + model.displacements(template, reading.code)[0]
        own = prior.replace(template=prior.template.replace(vertices=shape))
    starts = Parameters.seen(
        own,
        views.azimuth[0],
        views.elevation[0],
        views.shift.expand(count, 2),
        views.log_distance.expand(count),
        angles,
        sagittal=sagittal,
    )
    return FirstGuess(own, starts, colours)


def _on_template(prior: CategoryPrior) -> RestShape:
    """The template in the form that the networks take: no mirror images among the first vertices."""
    template = prior.template
    half = int((template.vertices[:, 0] >= 0).sum())
    return RestShape(template.vertices, half, template.faces, prior.mirror, prior.skeleton, prior.skin_weights)
