"""How much of a say the caption reader should have in the choice among a learned category's hypotheses.

    python benchmarks/reader_weight.py horse-learned --truth barn/val_horse [--refined]
    python benchmarks/reader_weight.py horse-learned --photos PHOTOS --azimuth 90 [--refined]
    python benchmarks/reader_weight.py sheep-learned --truth barn/val_sheep --count 30 --hold 0 0.016 0.032

Fits every picture once with today's weights, stops before the last round, and then chooses anew with other weights: among what the
networks gave (weights of :func:`farm3d.model.caption_reader.side_doubts`), or with ``--refined`` among what is left when views and poses
were refined (weights of ``view_doubts``). Photographs (with ``NAME_mask.*`` beside them)
have no known view; ``--azimuth`` says from which side about they were taken. Prints a Markdown table: front/back flips, left/right flips,
azimuth error and outlines of what each weight chooses. Flips count as in `farm3d evaluate barn`, but for pictures from within 20 degrees
of the border. ``--hold`` refines to the end instead, once for each weight of the view that network and reader believe in
(:data:`farm3d.model.fitting.VIEW_WEIGHT`); 0 is a fit that is told nothing of the view but where to start.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
import torch

from farm3d import Reconstructor
from farm3d.core.errors import Cancelled, Farm3DError, InputError
from farm3d.core.shapes import Tensor
from farm3d.data.preprocess import find_masks, list_photos
from farm3d.evaluation.truth import read_truth
from farm3d.model import fitting
from farm3d.model.caption_reader import side_doubts, view_doubts
from farm3d.model.category.first_guess import first_guess
from farm3d.model.reconstructor import read_picture
from farm3d.structures import Crop

WEIGHTS = (0.0, 0.05, 0.12, 0.25, 0.4, 0.6, 1.0, 1.5, 2.0, 3.0)
CLEAR = math.sin(math.radians(20))


class Choice(NamedTuple):
    """One picture's hypotheses: scores of the fit, what the reader doubts, azimuths in degrees, outlines; and the true azimuth."""

    fit: np.ndarray
    doubts: np.ndarray
    azimuths: np.ndarray
    ious: np.ndarray
    true: float


def main() -> int:
    """Print the table; return 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("category", help="a learned one")
    parser.add_argument("--truth", type=Path, help="set of `farm3d barn make` (split val)")
    parser.add_argument("--photos", type=Path, help="folder of photographs with masks, in place of --truth")
    parser.add_argument("--azimuth", type=float, default=90.0, help="from which side the photographs were taken, degrees")
    parser.add_argument("--refined", action="store_true", help="choose among hypotheses whose poses were refined")
    parser.add_argument("--hold", type=float, nargs="+", metavar="WEIGHT", help="refine to the end, the view held with these weights")
    parser.add_argument("--count", type=int, help="pictures; all where nothing is said")
    options = parser.parse_args()
    if (options.truth is None) == (options.photos is None):
        parser.error("either --truth or --photos")
    torch.set_num_threads(1)
    reconstructor = Reconstructor.from_pretrained(options.category)
    pictures = _of_barn(options.truth, reconstructor) if options.truth else _photographs(options, reconstructor)
    some = itertools.islice(pictures, options.count)
    if options.hold:
        print_held(reconstructor, list(some), options.hold)
        return 0
    choices = [choice_of(reconstructor, crop, true, refined=options.refined) for crop, true in some]
    print(f"{len(choices)} pictures, {'refined' if options.refined else 'one pass'}\n")
    print("| weight | flips front/back, % | left/right, % | azimuth error, mean, median | outline |\n|---|---|---|---|---|")
    for weight in WEIGHTS:
        print(f"| {weight:g} | " + " | ".join(figures(choices, weight)) + " |")
    return 0


def choice_of(reconstructor: Reconstructor, crop: Crop, true: float, *, refined: bool) -> Choice:
    """Return a picture's hypotheses, as networks give them or once their poses are refined."""
    assert reconstructor.learned is not None
    maps = reconstructor.maps(crop)
    guess = first_guess(reconstructor.learned, crop, maps, sagittal=fitting.GUIDED_SAGITTAL)
    view = reconstructor._view(crop, maps)
    if view is None:
        raise InputError("no caption reader for this category")
    rounds: dict[str, tuple] = {}

    def kept(prior, parameters, target, stage, *others):
        if stage.name == "shape":
            raise Cancelled("enough")
        rounds[stage.name] = refine(prior, parameters, target, stage, *others)
        return rounds[stage.name]

    refine = fitting._refine
    with mock.patch.object(fitting, "_refine", kept):
        options, features = fitting.FitOptions(refine=refined), reconstructor.prior.project(maps)[0]
        with contextlib.suppress(Cancelled):
            fitting.fit(guess.prior, crop, features=features, options=options, starts=guess.starts, view=view)
    parameters, terms, _ = rounds["poses" if refined else "views"]
    azimuths: Tensor = parameters.azimuth.detach()
    doubts = (view_doubts if refined else side_doubts)(view, azimuths).numpy()
    return Choice(terms.fit.detach().numpy(), doubts, torch.rad2deg(azimuths).numpy(), terms.iou.numpy(), true)


def print_held(reconstructor: Reconstructor, pictures: list[tuple[Crop, float]], weights: list[float]) -> None:
    """Print the table of finished fits, one row a weight."""
    assert reconstructor.learned is not None
    print(f"{len(pictures)} pictures\n\n| held with | azimuth error, mean, median | outline, mean, median |\n|---|---|---|")
    for weight in weights:
        errors, ious = [], []
        with contextlib.ExitStack() as patches:
            patches.enter_context(mock.patch.object(fitting, "VIEW_WEIGHT", weight))
            if weight == 0:
                patches.enter_context(mock.patch.object(fitting, "certainty", lambda view: 0.0))
                patches.enter_context(mock.patch.object(fitting, "posterior_azimuth", lambda view, azimuth: azimuth))
            for crop, true in pictures:
                maps = reconstructor.maps(crop)
                guess = first_guess(reconstructor.learned, crop, maps, sagittal=fitting.GUIDED_SAGITTAL)
                features, view = reconstructor.prior.project(maps)[0], reconstructor._view(crop, maps)
                found = fitting.fit(guess.prior, crop, features=features, starts=guess.starts, view=view)
                turn = found.parameters.azimuth[0].item() - math.radians(true)
                errors.append(math.degrees(abs(math.remainder(turn, 2 * math.pi))))
                ious.append(found.terms.iou[0].item())
        cells = f"{np.mean(errors):.1f}, {np.median(errors):.1f} | {np.mean(ious):.3f}, {np.median(ious):.3f}"
        print(f"| {weight:g} | {cells} |", flush=True)


def figures(choices: list[Choice], weight: float) -> list[str]:
    """Return the cells of one row."""
    front, side, errors, ious = [], [], [], []
    for choice in choices:
        best = int((choice.fit + weight * choice.doubts).argmin())
        chosen, true = math.radians(choice.azimuths[best]), math.radians(choice.true)
        errors.append(math.degrees(abs(math.remainder(chosen - true, 2 * math.pi))))
        ious.append(choice.ious[best])
        for flips, axis in ((front, math.cos), (side, math.sin)):
            if abs(axis(true)) > CLEAR:
                flips.append(axis(chosen) * axis(true) < 0)
    rates = [f"{100 * np.mean(flips):.1f} (of {len(flips)})" if flips else "–" for flips in (front, side)]
    return [*rates, f"{np.mean(errors):.1f}, {np.median(errors):.1f}", f"{np.mean(ious):.3f}"]


def _of_barn(truth: Path, reconstructor: Reconstructor) -> Iterator[tuple[Crop, float]]:
    for picture in read_truth(truth):
        yield reconstructor.crop(*read_picture(np.ascontiguousarray(picture.rgb), picture.mask.numpy(), None)), picture.azimuth_deg


def _photographs(options: argparse.Namespace, reconstructor: Reconstructor) -> Iterator[tuple[Crop, float]]:
    photos = list_photos(options.photos)
    masks = find_masks(photos, options.photos)
    for photo in photos:
        yield reconstructor.crop(*read_picture(photo, masks[photo], None)), options.azimuth


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except Farm3DError as error:
        print(f"reader_weight: {error}", file=sys.stderr)
        raise SystemExit(2) from None
