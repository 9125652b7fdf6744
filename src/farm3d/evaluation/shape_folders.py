"""Scores two folders of meshes, pair by pair, by the Animodel protocol (section 6.2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from farm3d.core.errors import InputError
from farm3d.core.random import numpy_generator
from farm3d.evaluation.meshes import mesh_files, read_mesh
from farm3d.evaluation.parallel import ordered_map
from farm3d.evaluation.shape import AnimodelSettings, PreparedPair, ShapeScore
from farm3d.evaluation.statistics import Summary, summarise

if TYPE_CHECKING:
    from farm3d.evaluation.predictions import ProductReader

__all__ = ["PairScore", "pair_by_order", "score_folders", "summarise_shapes"]


@dataclass(frozen=True, eq=False)
class PairScore:
    """The score of two files; ``unturned`` is that without rotation, where it was asked for as well."""

    target: Path
    reconstruction: Path
    score: ShapeScore
    unturned: ShapeScore | None = None


class _Job(NamedTuple):
    target: Path
    reconstruction: Path
    seed: int
    place: int
    settings: AnimodelSettings
    read_product: ProductReader | None
    also_unturned: bool


def pair_by_order(targets: Path, reconstructions: Path) -> list[tuple[Path, Path]]:
    """Pair the meshes of two folders by their places among the sorted file names, as the protocol does.

    Raises:
        InputError: not a folder, no meshes in it, or not as many in one as in the other.
    """
    true, made = mesh_files(targets), mesh_files(reconstructions)
    if len(true) != len(made):
        raise InputError(
            f"{targets} has {len(true)} meshes and {reconstructions} has {len(made)}, and they are paired by order",
            hint="give one reconstruction for each target, named so that both sort alike",
        )
    return list(zip(true, made, strict=True))


def score_folders(
    targets: Path,
    reconstructions: Path,
    *,
    seed: int = 0,
    settings: AnimodelSettings | None = None,
    processes: int = 1,
    read_product: ProductReader | None = None,
    also_unturned: bool = False,
) -> Iterator[PairScore]:
    """Score two folders of meshes; yields in order, each pair as soon as it and those before it are done.

    Args:
        targets: true meshes in metres, +y up.
        reconstructions: one for each target, sorted alike, +y up, in any units.
        seed: scores depend on it and on a pair's place, not on ``processes``.
        settings: None for the published numbers.
        processes: more than one start new Python processes, so a script that calls this needs ``if __name__ == "__main__"``.
        read_product: for GLB files, see :func:`farm3d.evaluation.meshes.read_mesh`; a module's function, so that processes find it.
        also_unturned: score each pair without rotation too, exactly as ``settings`` with ``rotation=False`` would, in less time.

    Raises:
        InputError: folders that cannot be paired (at once), or a mesh that cannot be used (when its turn comes).
        MissingPartError: scikit-image is absent.
    """
    jobs = [
        _Job(true, made, seed, place, settings or AnimodelSettings(), read_product, also_unturned)
        for place, (true, made) in enumerate(pair_by_order(targets, reconstructions))
    ]
    return ordered_map(_score_files, jobs, processes=processes)


def _score_files(job: _Job) -> PairScore:
    target, reconstruction = (read_mesh(path, read_product=job.read_product) for path in (job.target, job.reconstruction))
    pair = PreparedPair(target, reconstruction, job.settings)

    def score(rotation: bool) -> ShapeScore:
        return pair.score(numpy_generator(job.seed, "animodel", job.place), rotation=rotation)

    unturned = score(False) if job.also_unturned else None
    return PairScore(job.target, job.reconstruction, score(job.settings.rotation), unturned)


def summarise_shapes(scores: Sequence[ShapeScore], *, seed: int = 0) -> dict[str, Summary]:
    """Return for each of :meth:`ShapeScore.figures` the mean over pairs, the sample standard deviation and more (step 8).

    Raises:
        InputError: no scores.
    """
    if not scores:
        raise InputError("there are no scores to summarise")
    return {name: summarise([score.figures()[name] for score in scores], seed=seed) for name in scores[0].figures()}
