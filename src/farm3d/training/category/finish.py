"""From a trained model to a category that can be used: template mesh, atlas, bones, skin, and features that tell places apart.

The template is cut once, finely, from the learned field. What the backbone sees at each of its vertices is read off the training
pictures themselves, through the model's own reconstructions of them: nobody labelled a place.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace

import numpy as np
import torch

from farm3d.core.errors import ModelError
from farm3d.core.shapes import Float, Tensor
from farm3d.model.category.learned import FeatureBasis, LearnedCategory
from farm3d.model.category.model import CategoryModel
from farm3d.model.category.rest_shape import Scaffold, rest_shape
from farm3d.model.fields import ShapeField
from farm3d.model.prior import CategoryPrior, FieldConfig, PriorConfig
from farm3d.render.rasterize import interpolate, rasterize
from farm3d.structures import Mesh
from farm3d.training.build_prior import FEATURES, HEIGHT_M, assemble_prior, mirrored_joints
from farm3d.training.category.pictures import PictureSet
from farm3d.training.category.schedule import Moment, Weights
from farm3d.training.category.sheets import best_hypotheses
from farm3d.training.category.step import compare
from farm3d.training.fit_features import cell_places, fit_features, fit_field
from farm3d.training.template import Template, blurred_field, extract_template

__all__ = ["FinishOptions", "cut_template", "finished_prior", "recut", "usual_height_m"]

_CELLS_A_REGION = 60  # a region of the surface needs cells that show it, or its mean is none


# Ground to the highest point of an adult that stands, metres: ears for horses, antlers left out.
_HEIGHT_M = {
    **HEIGHT_M,
    "sheep": 0.95,
    "donkey": 1.5,
    "zebra": 1.7,
    "deer": 1.3,
    "dog": 0.7,
    "fox": 0.55,
    "wolf": 0.95,
    "alpaca": 1.5,
}


def usual_height_m(category: str) -> float:
    """Return how tall an animal of this name usually is; 1 m where that is not known."""
    return _HEIGHT_M.get(category, 1.0)


@dataclass(frozen=True)
class FinishOptions:
    """How a category is finished.

    Attributes:
        height_m: usual height of the animal, ground to highest point.
        faces: of the template.
        spacing: of the fine grid that it is cut from, canonical units.
        blurs: of the field before, canonical units, the first that gives a template. A blur of .06 takes 7 % off a horse's legs
            (docs/experiments.md), and less may leave handles too thin to cut.
        pictures: largest number of training pictures that the features are read off.
        keep: share of them that is used, those whose outlines agree best: a wrong view teaches wrong places.
        channels: of the features.
        size_px: side of the drawings from which places are read.
    """

    height_m: float = 1.0
    faces: int = 8000
    spacing: float = 0.04
    blurs: tuple[float, ...] = (0.03, 0.045, 0.06)
    pictures: int = 1200
    keep: float = 0.6
    channels: int = 16
    size_px: int = 128


def finished_prior(
    model: CategoryModel,
    scaffold: Scaffold,
    pictures: PictureSet,
    basis: FeatureBasis,
    at: Moment,
    weights: Weights,
    *,
    encoder: str,
    source: str,
    options: FinishOptions,
) -> CategoryPrior:
    """Return the category that a trained model amounts to, on the CPU; pictures are drawn where the model is.

    Args:
        model, scaffold: as trained, on one device.
        pictures: the training's; basis: how the backbone's features became theirs.
        at, weights: of the end of the training.
        encoder: name of the backbone.
        source: what it was learned from, for the config.
        options: sizes.

    Raises:
        ModelError: the learned shape gives no closed mesh.
    """
    shape = copy.deepcopy(model.shape).cpu()
    template = cut_template(shape, options)
    skeleton = mirrored_joints(scaffold.skeleton.to("cpu"))
    places, seen = _seen_places(model, scaffold, pictures, at, weights, options)
    labels = torch.cat([torch.cdist(block, template.vertices).argmin(1) for block in places.split(4096)])
    channels = min(options.channels, seen.shape[1])
    regions = min(max(len(seen) // _CELLS_A_REGION, 2), 160)
    look = fit_features(seen, labels, template.vertices, channels=channels, places=regions)
    features = (look.vertex_features + look.vertex_features[template.mirror]) / 2
    field = fit_field(template.vertices, features)
    # The projection of fit_features works on the model's components; joined with how these came from the backbone's channels.
    matrix = (basis.matrix / basis.scale) @ look.matrix
    mean = basis.mean + torch.linalg.lstsq((basis.matrix / basis.scale).T.double(), look.mean[:, None].double()).solution[:, 0].float()
    sizes = model.config
    config = PriorConfig(
        sizes.category,
        options.height_m,
        skeleton.names,
        skeleton.parents,
        FieldConfig(sizes.sdf_octaves, sizes.sdf_hidden, sizes.sdf_layers, 1, sizes.sdf_fall),
        replace(FEATURES, outputs=channels),
        encoder,
        len(basis.mean),
        (source,),
        basis.normalize,
    )
    return assemble_prior(
        config,
        Mesh(template.vertices, template.faces, template.uv, template.faces_uv),
        template.mirror,
        skeleton,
        vertex_features=features,
        projection=(mean, matrix),
        sdf_weights=dict(shape.state_dict()),
        feature_weights=dict(field.state_dict()),
    )


def cut_template(shape: ShapeField, options: FinishOptions) -> Template:
    """Return the mesh of a learned shape, on the CPU.

    Raises:
        ModelError: none of the blurs makes it one closed surface.
    """
    for blur in options.blurs[:-1]:
        try:
            return _cut(shape, blur, options)
        except ModelError:  # a handle too thin, or a fold: a stronger blur closes it
            continue
    return _cut(shape, options.blurs[-1], options)


def _cut(shape: ShapeField, blur: float, options: FinishOptions) -> Template:
    field = blurred_field(shape, sigma=blur)
    return extract_template(field, target_faces=options.faces, spacing=options.spacing, onto_field=False)


def recut(learned: LearnedCategory, options: FinishOptions) -> LearnedCategory:
    """Return a learned category with its template cut anew from its own shape; needs no picture.

    Each new vertex takes the features of the old template's nearest one. Networks, bones and features' projection stay; atlas, skin and
    modes are the new template's.

    Raises:
        ModelError: the shape gives no closed mesh.
    """
    before = learned.prior
    template = cut_template(learned.model.shape, options)
    nearest = torch.cat([torch.cdist(part, before.template.vertices).argmin(1) for part in template.vertices.split(4096)])
    features = before.vertex_features[nearest]
    prior = assemble_prior(
        before.config,
        Mesh(template.vertices, template.faces, template.uv, template.faces_uv),
        template.mirror,
        before.skeleton,
        vertex_features=(features + features[template.mirror]) / 2,
        projection=(before.feature_mean, before.feature_matrix),
        sdf_weights=before.sdf_weights,
        feature_weights=before.feature_weights,
    )
    return replace(learned, prior=prior)


@torch.no_grad()
def _seen_places(
    model: CategoryModel, scaffold: Scaffold, pictures: PictureSet, at: Moment, weights: Weights, options: FinishOptions
) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "N C"]]:
    """Return places of the rest shape and what the pictures show there, from the model's best reconstructions of them; on the CPU."""
    rest = rest_shape(model.shape, scaffold)
    chosen = np.unique(np.linspace(0, len(pictures) - 1, min(options.pictures, len(pictures))).round().astype(int))
    found: list[tuple[float, Tensor, Tensor]] = []
    for numbers in np.array_split(chosen, math.ceil(len(chosen) / 16)):
        batch = pictures.take(numbers, np.zeros(len(numbers), bool)).to(model.device)
        reading, best = best_hypotheses(model, rest, batch, at, weights)
        each = torch.arange(len(batch), device=model.device)
        camera = reading.viewpoints.cameras(each, best, size_px=options.size_px)
        animals = model.individuals(rest, reading, camera, each, deform=at.deform, articulate=at.articulate)
        how = compare(model, rest, reading, animals, camera, each, batch, size_px=options.size_px, colour=False, weights=Weights())
        fragments = rasterize(camera.clip(animals.vertices), rest.faces, height_px=options.size_px, width_px=options.size_px)
        surface = interpolate(rest.vertices.expand(len(batch), -1, -1), fragments, rest.faces)
        surface = torch.where(fragments.face_id[..., None] >= 0, surface, torch.nan).cpu()
        features, overlaps = batch.features.permute(0, 2, 3, 1).cpu(), how.iou.tolist()
        for row in range(len(batch)):
            where, coverage = cell_places(surface[row], cells=features.shape[1])
            keep = coverage > 0.35
            found.append((overlaps[row], where[keep], features[row][keep]))
    found.sort(key=lambda one: -one[0])
    best_found = found[: max(math.ceil(options.keep * len(found)), 1)]
    return torch.cat([one[1] for one in best_found]), torch.cat([one[2] for one in best_found])
