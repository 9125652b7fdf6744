"""A category's feature field: which linear reading of the frozen backbone tells places on the animal apart, and what it reads where.

Takes the part of the DINO features and their PCA of section 1.3. Three things were measured on held-out renders and on real
photographs, with the viewpoint as judge (docs/experiments): deeper maps of the backbone know more of front and back; directions chosen
to separate places beat the directions of largest variance; and the distance between picture and render must not charge a candidate
view for feature energy of the picture that no place explains (:func:`feature_distance`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional

from farm3d.barn.rigs import Rig
from farm3d.core.random import torch_generator
from farm3d.core.shapes import Float, Int, Tensor, checked
from farm3d.model.encoder import Encoder, ImageEncoder
from farm3d.model.fields import FeatureField
from farm3d.structures._value import Value
from farm3d.training.feature_pictures import LabelledPicture, PictureMaker, SpeciesPictureMaker

__all__ = [
    "FeatureFit",
    "Observations",
    "canonical_places",
    "feature_distance",
    "fit_category",
    "fit_features",
    "fit_field",
    "fit_species",
    "observe",
    "separating_projection",
]

_MIN_COVERAGE = 0.35  # a cell that is mostly background shows background


@dataclass(frozen=True, eq=False, repr=False)
class Observations(Value):
    """Cells of pictures that show the animal.

    Attributes:
        features: backbone channels, ``[N, C]``.
        places: where on its rig's bind pose the middle of the cell lies, metres, ``[N, 3]``.
        rigs: number of the rig, ``[N]``.
        pictures: number of the picture, ``[N]``.
    """

    features: Float[Tensor, "N C"]
    places: Float[Tensor, "N 3"]
    rigs: Int[Tensor, "N"]
    pictures: Int[Tensor, "N"]


@dataclass(frozen=True, eq=False, repr=False)
class FeatureFit(Value):
    """The result: ``(features - mean) @ matrix`` has spread 1 about each place's own mean, and 0 means "tells nothing".

    Attributes:
        mean, matrix: the projection, ``[C]`` and ``[C, D]``.
        vertex_features: what a vertex of the template shows on average over views, coats and lights, ``[V, D]``.
        vertex_variance: and how much that varies, ``[V, D]``.
        separation: between-place variance of each of the D channels, whose within-place variance is 1, ``[D]``.
    """

    mean: Float[Tensor, "C"]
    matrix: Float[Tensor, "C D"]
    vertex_features: Float[Tensor, "V D"]
    vertex_variance: Float[Tensor, "V D"]
    separation: Float[Tensor, "D"]


def observe(pictures: Iterable[LabelledPicture], encoder: ImageEncoder) -> Observations:
    """Run the backbone over labelled pictures and keep the cells that the animal covers."""
    features, places, rigs, numbers = [], [], [], []
    with torch.no_grad():
        for number, picture in enumerate(pictures):
            maps = encoder.features(picture.image[None])[0]
            where, coverage = cell_places(picture.surface, cells=maps.shape[-1])
            keep = coverage > _MIN_COVERAGE
            features.append(maps.permute(1, 2, 0)[keep])
            places.append(where[keep])
            rigs.append(torch.full((int(keep.sum()),), picture.rig))
            numbers.append(torch.full((int(keep.sum()),), number))
    return Observations(torch.cat(features), torch.cat(places), torch.cat(rigs), torch.cat(numbers))


@checked
def cell_places(surface: Float[Tensor, "H W 3"], *, cells: int) -> tuple[Float[Tensor, "G G 3"], Float[Tensor, "G G"]]:
    """Return each cell's most central point of the surface (left and right folded together for the choice) and its covered share."""
    side = surface.shape[0] // cells
    blocks = surface.unfold(0, side, side).unfold(1, side, side).permute(0, 1, 3, 4, 2).reshape(cells, cells, side * side, 3)
    seen = ~blocks[..., 0].isnan()
    points = blocks.nan_to_num()
    folded = points * 1.0
    folded[..., 0] = folded[..., 0].abs()
    mean = (folded * seen[..., None]).sum(2) / seen.sum(2, keepdim=True).clamp(min=1)
    distance = (folded - mean[:, :, None]).norm(dim=-1).masked_fill(~seen, torch.inf)
    best = distance.argmin(-1)[..., None, None].expand(-1, -1, 1, 3)
    return points.gather(2, best)[:, :, 0], seen.float().mean(-1)


@checked
def canonical_places(
    observations: Observations,
    rigs: Sequence[Rig],
    template: Float[Tensor, "V 3"],
    *,
    scale: float,
    offset: Float[Tensor, "3"],
) -> Int[Tensor, "N"]:
    """Return the template vertex that each observation shows.

    ``canonical = (armature position - offset) * scale`` is the first rig's way into the template's frame (``RestShape``). A rig of
    other proportions (the donkey) is first moved onto the first one's joints, each vertex with the joints it hangs on; whatever is
    left between rig and template is bridged to the nearest vertex.
    """
    first = rigs[0]
    base_joints = first.joints / first.root[0, 0]
    places = torch.zeros_like(observations.places)
    for number, rig in enumerate(rigs):
        chosen = observations.rigs == number
        if not bool(chosen.any()):
            continue
        unit = float(rig.root[0, 0])
        order = [first.joint_names.index(name) for name in rig.joint_names]
        size = float(_diagonal(first) / _diagonal(rig))
        shift = rig.skin_weights @ (base_joints[order] - size * rig.joints / unit)  # [V, 3], armature units
        points = observations.places[chosen]
        distance, near = torch.cdist(points, rig.vertices).topk(4, largest=False)
        weight = 1 / (distance + 1e-4)
        moved = (shift[near] * weight[..., None]).sum(1) / weight.sum(1, keepdim=True)
        places[chosen] = (points / unit * size + moved - offset) * scale
    return torch.cat([torch.cdist(block, template).argmin(1) for block in places.split(4096)])


@checked
def separating_projection(
    features: Float[Tensor, "N C"], classes: Int[Tensor, "N"], *, channels: int, ridge: float = 0.05
) -> tuple[Float[Tensor, "C"], Float[Tensor, "C D"], Float[Tensor, "D"]]:
    """Return mean, matrix and separation of the linear discriminant directions of labelled features (Fisher; Rao for many classes).

    The matrix maximises the variance between class means for a variance of 1 within the classes. Classes with fewer than 20
    members do not count. ``ridge`` times its diagonal is added to the within-class scatter.
    """
    x = features.double()
    count = int(classes.max()) + 1
    members = torch.bincount(classes, minlength=count)
    means = torch.zeros(count, x.shape[1], dtype=x.dtype).index_add_(0, classes, x) / members.clamp(min=1)[:, None]
    residual = x - means[classes]
    within = residual.T @ residual / len(x)
    within = within + ridge * torch.diag(within.diagonal())
    good = means[members >= 20]
    mean = good.mean(0)
    between = (good - mean).T @ (good - mean) / len(good)
    root = torch.linalg.cholesky(within)
    half = torch.linalg.solve_triangular(root, between, upper=False)
    values, vectors = torch.linalg.eigh(torch.linalg.solve_triangular(root, half.T, upper=False))
    order = values.argsort(descending=True)[:channels]
    matrix = torch.linalg.solve_triangular(root.T, vectors[:, order], upper=True)
    return mean.float(), matrix.float(), values[order].float()


def fit_category(
    category: str,
    rigs: Sequence[Rig],
    template: Float[Tensor, "V 3"],
    *,
    scale: float,
    offset: Float[Tensor, "3"],
    pictures: int = 1800,
    channels: int = 16,
    seed: int = 0,
) -> FeatureFit:
    """Render, look and fit: the whole of this module for one category, with the shipped backbone.

    Args:
        rigs: the animals to draw; the first one's armature is the template's.
        scale, offset: from armature units to the template's frame, as in ``RestShape``.
        pictures: about 0.1 s each on one core; the result no longer changes beyond a thousand.
    """
    maker = PictureMaker(category, rigs, seed=seed)
    observations = observe((maker.draw(number) for number in range(pictures)), Encoder.from_pretrained())
    labels = canonical_places(observations, rigs, template, scale=scale, offset=offset)
    return fit_features(observations.features, labels, template, channels=channels)


def fit_species(
    category: str,
    template: Float[Tensor, "V 3"],
    *,
    scale: float,
    offset: Float[Tensor, "3"],
    rigs: Path,
    pictures: int = 1800,
    channels: int = 16,
    seed: int = 0,
) -> FeatureFit:
    """The same for a species of the barn without a rig of its own; ``scale`` and ``offset`` lead from its mean individual's metres."""
    maker = SpeciesPictureMaker(category, rigs=rigs, seed=seed)
    observations = observe((maker.draw(number) for number in range(pictures)), Encoder.from_pretrained())
    places = (observations.places - offset) * scale
    labels = torch.cat([torch.cdist(block, template).argmin(1) for block in places.split(4096)])
    return fit_features(observations.features, labels, template, channels=channels)


@checked
def fit_features(
    features: Float[Tensor, "N C"], labels: Int[Tensor, "N"], template: Float[Tensor, "V 3"], *, channels: int = 16, places: int = 160
) -> FeatureFit:
    """Choose the projection and average the projected features at each template vertex.

    Args:
        features: backbone channels of observed cells.
        labels: the template vertex that each shows (:func:`canonical_places`).
        template: canonical units; left and right are folded together.
        channels: D.
        places: number of evenly spread regions that the projection is to tell apart.
    """
    folded = torch.cat([template[:, :1].abs(), template[:, 1:]], 1)
    regions = torch.cdist(folded, folded[_spread(folded, places)]).argmin(1)
    mean, matrix, separation = separating_projection(features, regions[labels], channels=channels)
    projected = (features - mean) @ matrix
    table, variance = _kernel_mean(projected, folded[labels], folded)
    return FeatureFit(mean, matrix, table, variance, separation)


def fit_field(template: Float[Tensor, "V 3"], vertex_features: Float[Tensor, "V D"], *, steps: int = 1500, seed: int = 0) -> FeatureField:
    """Return a small coordinate network that gives the vertices' features at and around the template's surface."""
    generator = torch_generator(seed, "feature field")
    field = FeatureField(vertex_features.shape[1])
    with torch.no_grad():
        for parameter in field.parameters():
            if parameter.dim() == 2:
                bound = (6 / parameter.shape[1]) ** 0.5
                parameter.copy_(torch.rand(parameter.shape, generator=generator) * 2 * bound - bound)
            else:
                parameter.zero_()
    optimiser = torch.optim.Adam(field.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=4e-3, total_steps=steps)
    for _ in range(steps):
        chosen = torch.randint(len(template), (1024,), generator=generator)
        points = template[chosen] + 0.04 * torch.randn(1024, 3, generator=generator)
        loss = functional.mse_loss(field(points), vertex_features[chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return field.requires_grad_(False).eval()


@checked
def feature_distance(
    drawn: Float[Tensor, "B D G G"], overlap: Float[Tensor, "B G G"], features: Float[Tensor, "D G G"]
) -> Float[Tensor, "B"]:
    """Return how badly drawn features explain a picture's, per covered cell and channel; 0 means no better than knowing nothing.

    ``|g - f|^2 - |f|^2 = |g|^2 - 2 f.g``: with spread 1 within a place, twice the negative log likelihood ratio of "this place"
    against "the average place". The subtracted ``|f|^2`` does not depend on the place but on which cells overlap: left in, a view is
    charged for covering cells whose features nothing explains, and the head ends on the wrong side more often.
    """
    ratio = drawn.square().mean(1) - 2 * (drawn * features).mean(1)
    return (ratio * overlap).sum((1, 2)) / overlap.sum((1, 2)).clamp(min=1e-3)


def _diagonal(rig: Rig) -> Tensor:
    return (rig.vertices.amax(0) - rig.vertices.amin(0)).norm() / rig.root[0, 0]


def _spread(points: Tensor, count: int) -> Tensor:
    """Return indices of ``count`` points, each the farthest from those before it."""
    chosen = [int(points[:, 1].argmax())]
    distance = (points - points[chosen[0]]).norm(dim=1)
    while len(chosen) < min(count, len(points)):
        chosen.append(int(distance.argmax()))
        distance = torch.minimum(distance, (points - points[chosen[-1]]).norm(dim=1))
    return torch.tensor(chosen)


def _kernel_mean(values: Tensor, at: Tensor, queries: Tensor, *, width: float = 0.12, nearest: int = 60) -> tuple[Tensor, Tensor]:
    """Return Gaussian-weighted mean and variance of scattered values at queries; the width grows where observations are rare."""
    from scipy.spatial import KDTree

    distance, index = KDTree(at.numpy()).query(queries.numpy(), k=min(400, len(at)))
    distance, index = torch.from_numpy(distance).float(), torch.from_numpy(index)
    bandwidth = distance[:, min(nearest, len(at) - 1), None].clamp(min=width)
    weight = (-0.5 * (distance / bandwidth) ** 2).exp()
    weight = weight / weight.sum(1, keepdim=True)
    means, variances = [], []
    for some_index, some_weight in zip(index.split(512), weight.split(512), strict=True):
        near = values[some_index]
        mean = (near * some_weight[..., None]).sum(1)
        means.append(mean)
        variances.append(((near - mean[:, None]).square() * some_weight[..., None]).sum(1))
    return torch.cat(means), torch.cat(variances)
