"""Is the model memorising? The nearest training picture of each sample, beside the same for held-out pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from farm3d.core.shapes import Tensor
from farm3d.diffusion.prior import PicturePrior
from farm3d.training.prior.score.features import Features, cut_out, pooled
from farm3d.training.prior.score.measures import nearest

__all__ = ["Neighbours", "latent_neighbours", "map_neighbours", "told"]

_AT_ONCE = 32
_CLOSE = 0.01  # a sample is a copy if it is nearer than this share of held-out pictures


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Of N samples and M held-out pictures: distance to the nearest training picture or its mirror image, and which it is.

    Attributes:
        samples, held_out: distances, root mean square over a latent or a feature, ``[N]`` and ``[M]``.
        numbers: of the training picture, ``[N]``.
        flipped: whether its mirror image was the nearest one, ``[N]``.
    """

    samples: np.ndarray
    held_out: np.ndarray
    numbers: np.ndarray
    flipped: np.ndarray


def latent_neighbours(
    prior: PicturePrior,
    samples: np.ndarray,
    held_out: np.ndarray,
    training: np.ndarray,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> Neighbours:
    """Compare in the model's latents, the animals cut out on grey, so that backgrounds make nothing look alike.

    Args:
        prior: whose latents.
        samples, held_out, training: sRGB and coverage, uint8, ``[N, 4, S, S]``, of one species.
        on_progress: told how many training pictures are encoded, and of how many.
    """
    queries = [_latents(prior, part) for part in (samples, held_out)]
    best = [np.full(len(part), np.inf) for part in queries]
    numbers, flipped = np.zeros(len(samples), int), np.zeros(len(samples), bool)
    for begin in range(0, len(training), _AT_ONCE * 8):
        some = np.asarray(training[begin : begin + _AT_ONCE * 8])
        for turned in (False, True):
            pool = _latents(prior, some[..., ::-1] if turned else some)
            for which, part in enumerate(queries):
                distance, number = nearest(part, pool)
                nearer = distance < best[which]
                best[which] = np.where(nearer, distance, best[which])
                if which == 0:
                    numbers = np.where(nearer, begin + number, numbers)
                    flipped = np.where(nearer, turned, flipped)
        if on_progress is not None:
            on_progress(min(begin + len(some), len(training)), len(training))
    width = np.sqrt(queries[0].shape[1])
    return Neighbours(best[0] / width, best[1] / width, numbers, flipped)


def map_neighbours(samples: Features, held_out: Features, training: Features) -> Neighbours:
    """Compare in the backbone's maps, each channel divided by its spread among the training pictures' means."""
    spread = pooled(training).std(0) + 1e-6
    flat = [_flat(part, spread) for part in (samples, held_out)]
    pools = [_flat(training, spread), _flat(Features(training.maps[..., ::-1], training.masks), spread)]
    found = [[nearest(part, pool) for pool in pools] for part in flat]
    width = np.sqrt(flat[0].shape[1])
    nearer = found[0][1][0] < found[0][0][0]
    return Neighbours(
        np.minimum(found[0][0][0], found[0][1][0]) / width,
        np.minimum(found[1][0][0], found[1][1][0]) / width,
        np.where(nearer, found[0][1][1], found[0][0][1]),
        nearer,
    )


def told(found: Neighbours) -> dict[str, Any]:
    """Return the distances in a report's words; ``copies`` is the share of samples nearer than all but 1 % of held-out pictures."""
    limit = float(np.quantile(found.held_out, _CLOSE))
    return {
        "samples_median": float(np.median(found.samples)),
        "held_out_median": float(np.median(found.held_out)),
        "samples_nearest": float(found.samples.min()),
        "held_out_nearest": float(found.held_out.min()),
        "copies": float((found.samples < limit).mean()),
    }


@torch.no_grad()
def _latents(prior: PicturePrior, pixels: np.ndarray) -> np.ndarray:
    parts: list[Tensor] = []
    for begin in range(0, len(pixels), _AT_ONCE):
        rgb, alpha = cut_out(np.ascontiguousarray(pixels[begin : begin + _AT_ONCE]), masked=prior.draws_alpha)
        parts.append(prior.encode(rgb, alpha if prior.draws_alpha else None).flatten(1).float().cpu())
    return torch.cat(parts).numpy()


def _flat(features: Features, spread: np.ndarray) -> np.ndarray:
    return (features.maps.astype(np.float32) / spread[:, None, None].astype(np.float32)).reshape(len(features), -1)
