"""Answers that set the scale: the truth itself (which must score perfectly), the mean shape, and the template fit.

Each is written in the form that every other method uses, so that it goes through the same door.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from farm3d.core.errors import Farm3DError, InputError
from farm3d.core.files import write_whole
from farm3d.core.shapes import Float, Tensor
from farm3d.evaluation.drawing import frame_of, normalised
from farm3d.evaluation.parallel import ordered_map
from farm3d.evaluation.predictions import Prediction, is_answered, write_prediction
from farm3d.evaluation.truth import Truth, decode_truth, truth_members
from farm3d.geometry.surface import face_areas

if TYPE_CHECKING:
    from farm3d.model.prior import CategoryPrior
    from farm3d.model.reconstructor import Reconstruction, Reconstructor

__all__ = ["TEXTURE_PX", "Outcome", "ProductWriter", "fits", "mean_shape", "mean_shapes", "peak_memory_mib", "truths"]

TEXTURE_PX = 512
"""Side of the fits' textures: twice that of the closed world's pictures."""

ProductWriter = Callable[["Reconstruction", Truth, Path, float], None]
"""Writes a reconstruction's files for a picture into a folder, with the seconds it took; handed in, as the file format is a room beside."""

Outcome = tuple[str, str | None]
"""Key of a picture, and why there is no answer (None if there is)."""


def truths(truth: Path, out: Path, *, overwrite: bool = False) -> Generator[Outcome, None, None]:
    """Write the true mesh, colours, camera and light of each picture as its answer; yields as it goes.

    Raises:
        InputError: a truth that is damaged.
        OutputError: ``out`` cannot be written.
    """
    for key, members in truth_members(truth):
        if overwrite or not is_answered(out, key):
            write_prediction(out, key, decode_truth(key, members).animal)
        yield key, None


def mean_shapes(truth: Path, out: Path, *, category: str | None = None, overwrite: bool = False) -> Generator[Outcome, None, None]:
    """Write :func:`mean_shape` for each picture; yields as it goes.

    Args:
        category: name or folder of the prior to use for all; None takes each picture's own.

    Raises:
        ModelError: there is no prior of a category.
        InputError: a truth that is damaged.
        OutputError: ``out`` cannot be written.
    """
    from farm3d.model.prior import CategoryPrior

    priors: dict[str, CategoryPrior] = {}
    for key, members in truth_members(truth):
        if overwrite or not is_answered(out, key):
            sample = decode_truth(key, members)
            name = category or sample.category
            if name not in priors:
                priors[name] = CategoryPrior.from_pretrained(name)
            write_prediction(out, key, mean_shape(sample, priors[name]))
        yield key, None


def mean_shape(truth: Truth, prior: CategoryPrior) -> Prediction:
    """Return a category's rest shape where the animal is: what is known before the picture is looked at, with all else given.

    The true camera and light, the true centroid and RMS radius (a generous size and place), and the truth's mean colour all over.
    """
    true = truth.animal
    template = Prediction(prior.template.vertices, prior.template.faces, torch.zeros_like(prior.template.vertices), true.camera)
    centre, radius = frame_of(true)
    vertices = normalised(template).vertices * radius + centre.float()
    return template.replace(vertices=vertices, albedo=_mean_colour(true).expand(len(vertices), 3), light=true.light)


def fits(
    truth: Path,
    out: Path,
    *,
    write_product: ProductWriter,
    category: str | None = None,
    refine: bool = True,
    refine_steps: int | None = None,
    reader: str = "auto",
    seed: int = 0,
    processes: int = 1,
    overwrite: bool = False,
) -> Generator[Outcome, None, None]:
    """Reconstruct each picture with its true mask by :class:`farm3d.Reconstructor`; yields as it goes, failures with their reason.

    Answers that are there already are kept, so a run that was stopped goes on where it was. A picture that could not be reconstructed
    leaves ``KEY.failed.txt`` with the reason, and is tried again by the next run.

    Args:
        write_product: writes the product's files; with several processes it has to be a function of a module.
        category: name or folder of the model to use for all; None takes each picture's own.
        refine: False delivers what one pass of a learned category gives.
        refine_steps: steps of the last stage; None is the model's own number.
        reader: as :meth:`farm3d.Reconstructor.from_pretrained` takes it.
        processes: more than one start fresh interpreters, each with one torch thread and its own models.

    Raises:
        ModelError: there is no model of a category.
        InputError: a truth that is damaged.
        OutputError: ``out`` cannot be written.
    """
    jobs = ((key, members) for key, members in truth_members(truth))
    arguments = (Path(out), write_product, category, refine, refine_steps, reader, seed, overwrite)
    yield from ordered_map(_fit, jobs, processes=processes, initializer=_prepare, arguments=arguments)


_worker: tuple[Path, ProductWriter, str | None, bool, int | None, str, int, bool] | None = None
_reconstructors: dict[str, Reconstructor] = {}


def _prepare(*arguments) -> None:
    global _worker
    _worker = arguments
    _reconstructors.clear()


def _fit(job: tuple[str, dict[str, bytes]]) -> Outcome:
    from farm3d.model.reconstructor import Reconstructor

    assert _worker is not None
    out, write_product, category, refine, refine_steps, reader, seed, overwrite = _worker
    key, members = job
    if not overwrite and is_answered(out, key):
        return key, None
    truth = decode_truth(key, members)
    name = category or truth.category
    if name not in _reconstructors:
        _reconstructors[name] = Reconstructor.from_pretrained(name, reader=reader)
    note = out / f"{key}.failed.txt"
    started = time.perf_counter()
    try:
        how = {"refine": refine, "refine_steps": refine_steps, "texture_px": TEXTURE_PX, "seed": seed}
        result = _reconstructors[name](truth.rgb, mask=truth.mask.numpy(), **how)
    except Farm3DError as error:
        reason = " ".join(str(error).split())
        write_whole(note, reason + "\n")
        return key, reason
    write_product(result, truth, out, time.perf_counter() - started)
    note.unlink(missing_ok=True)
    return key, None


def peak_memory_mib() -> float:
    """Return the most memory that this process has held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def _mean_colour(animal: Prediction) -> Float[Tensor, "3"]:
    """Return the area-weighted mean of per-vertex colours, linear RGB."""
    if isinstance(animal.albedo, tuple):
        raise InputError("the truth has a texture; expected colours per vertex")
    weight = face_areas(animal.vertices, animal.faces)
    return (weight[:, None] * animal.albedo[animal.faces].mean(1)).sum(0) / weight.sum().clamp_min(1e-12)
