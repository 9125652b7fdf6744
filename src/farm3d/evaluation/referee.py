"""Judges a folder of predictions against known truth, picture by picture; nothing is left out in silence."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farm3d.core.errors import Farm3DError, InputError
from farm3d.evaluation.annotations import truth_annotation
from farm3d.evaluation.circumstances import circumstances
from farm3d.evaluation.figures import FIGURES
from farm3d.evaluation.keypoints import PAIRS, Annotation, Shadow, Transfer, shadow, transfer
from farm3d.evaluation.parallel import ordered_map
from farm3d.evaluation.pictures import Albedo, albedo_error, novel_views, relit
from farm3d.evaluation.predictions import Prediction, ProductReader, read_prediction
from farm3d.evaluation.report import Report, keypoint_facts
from farm3d.evaluation.silhouette import boundary_f, iou, silhouette
from farm3d.evaluation.truth import Truth, decode_truth, truth_members
from farm3d.evaluation.viewpoint import viewpoint_error

__all__ = ["Judgement", "Settings", "evaluate", "evaluate_keypoints", "judge"]

_PICTURES = {
    "novel_psnr_db",
    "novel_ssim",
    "novel_psnr_scaled_db",
    "albedo_error",
    "albedo_error_scaled",
    "relit_psnr_db",
    "relit_psnr_scaled_db",
}


@dataclass(frozen=True)
class Settings:
    """What the referee does.

    Attributes:
        novel_views: pictures from as many sides; 0 leaves pictures (novel views, albedo, light) out.
        novel_px: their side in pixels.
        pairs: of keypoint transfer; 0 leaves it out.
    """

    novel_views: int = 8
    novel_px: int = 256
    pairs: int = PAIRS

    def __post_init__(self) -> None:
        if not (0 <= self.novel_views <= 360 and 16 <= self.novel_px <= 4096 and 0 <= self.pairs <= 10_000_000):
            raise InputError(f"novel views 0 to 360, their size 16 to 4096 pixels, pairs 0 to 10000000; got {self}")


@dataclass(frozen=True)
class Judgement:
    """One picture's figures by name, and details that summaries leave out."""

    figures: Mapping[str, float]
    details: Mapping[str, Any]


def judge(truth: Truth, prediction: Prediction, settings: Settings | None = None) -> Judgement:
    """Return every figure of one answer except keypoint transfer, which needs pairs.

    The silhouette is compared with the picture's mask. Where something hides part of the animal, the mask lacks it, so there the whole
    outline of the true mesh takes its place: nobody is asked to reconstruct a post.

    Raises:
        InputError: the prediction is of a picture of other proportions.
    """
    settings = settings or Settings()
    height, width = truth.mask.shape
    drawn = silhouette(prediction, width_px=width, height_px=height)
    outline = silhouette(truth.animal, width_px=width, height_px=height) if truth.occluded else truth.mask
    view = viewpoint_error(prediction.camera, truth.animal.camera)
    figures: dict[str, float | None] = {
        "iou": iou(drawn, outline),
        "boundary_f": boundary_f(drawn, outline),
        "rotation_error_deg": view.rotation_deg,
        "azimuth_error_deg": view.azimuth_deg,
        "elevation_error_deg": view.elevation_deg,
        "front_back_flip": _number(view.front_back_flip),
        "left_right_flip": _number(view.left_right_flip),
        "seconds": prediction.seconds,
        "peak_memory_mib": prediction.peak_memory_mib,
    }
    details: dict[str, Any] = {}
    if settings.novel_views:
        colour = albedo_error(prediction, truth) or Albedo(1.0, 1.0, 1.0)  # no pixel in common: as bad as can be
        novel = novel_views(prediction, truth, views=settings.novel_views, size_px=settings.novel_px, scale=colour.scale)
        lit = relit(prediction, truth, scale=colour.scale)
        figures |= {
            "novel_psnr_db": _mean(novel.psnr_db),
            "novel_ssim": _mean(novel.ssim),
            "novel_psnr_scaled_db": _mean(novel.psnr_scaled_db),
            "albedo_error": colour.raw,
            "albedo_error_scaled": colour.scaled,
            "relit_psnr_db": _mean(lit.psnr_db),
            "relit_psnr_scaled_db": _mean(lit.psnr_scaled_db),
        }
        details = {"novel": novel._asdict(), "relit": lit._asdict(), "albedo_scale": colour.scale}
    return Judgement({name: float(value) for name, value in figures.items() if value is not None}, details)


def evaluate(
    truth: Path,
    predictions: Path,
    *,
    read_product: ProductReader | None = None,
    settings: Settings | None = None,
    processes: int = 1,
    progress: Callable[[int, str], None] | None = None,
    method: str | None = None,
    command: str = "",
) -> Report:
    """Judge every picture of ``truth`` by what ``predictions`` says of it.

    An answer that is missing, damaged or of another picture is a failure: it is named with its reason and gets the worst value of every
    figure. Results do not depend on ``processes``.

    Args:
        truth: shards or a folder, see :func:`farm3d.evaluation.truth.truth_members`.
        predictions: folder of one method, see :mod:`farm3d.evaluation.predictions`.
        read_product: reads GLB files; with several processes it has to be a function of a module.
        settings: what to measure.
        processes: more than one start fresh interpreters, so a script that calls this needs ``if __name__ == "__main__"``.
        progress: told after each picture how many are done, and its key.
        method: name in the report; None takes the folder's.
        command: what to run to get this again, for the report.

    Raises:
        InputError: no such folders, a truth that is damaged, or two pictures of one name.
    """
    settings = settings or Settings()
    predictions = Path(predictions)
    if not predictions.is_dir():
        raise InputError(f"{predictions}: no such folder of predictions")
    jobs = ((key, members, predictions, read_product, settings) for key, members in truth_members(truth))
    samples: dict[str, dict[str, Any]] = {}
    annotations: dict[str, Annotation] = {}
    shadows: dict[str, Shadow] = {}
    for done, (sample, annotation, cast) in enumerate(ordered_map(_one, jobs, processes=processes), 1):
        key = sample["key"]
        if key in samples:
            raise InputError(f"{key}: two pictures of this name in {truth}")
        samples[key], annotations[key] = sample, annotation
        if cast is not None:
            shadows[key] = cast
        if progress is not None:
            progress(done, key)
    keypoints = None
    if settings.pairs and len(samples) > 1:
        found = transfer([annotations[key] for key in sorted(annotations)], shadows, pairs=settings.pairs)
        keypoints = keypoint_facts(found)
        for key, share in found.by_source.items():
            samples[key]["figures"]["transfer_right"] = share
    facts = circumstances(command) | {"settings": dataclasses.asdict(settings)}
    return Report(method or predictions.resolve().name, Path(truth).resolve().name, facts, tuple(samples.values()), keypoints)


def evaluate_keypoints(
    annotations: Sequence[Annotation],
    predictions: Path,
    *,
    read_product: ProductReader | None = None,
    pairs: int = PAIRS,
    progress: Callable[[int, str], None] | None = None,
) -> tuple[Transfer, dict[str, str]]:
    """Run keypoint transfer alone, on any annotated pictures; return what it gave, and why answers are missing, by key.

    The pictures themselves are not read: each answer's camera says how large its picture is.

    Raises:
        InputError: no such folder, or fewer than two pictures.
    """
    if not Path(predictions).is_dir():
        raise InputError(f"{predictions}: no such folder of predictions")
    shadows: dict[str, Shadow] = {}
    failures: dict[str, str] = {}
    for done, annotation in enumerate(annotations, 1):
        key = annotation.key
        try:
            prediction = read_prediction(Path(predictions), key, read_product=read_product)
            if prediction is None:
                raise InputError(_why_missing(Path(predictions), key))
            shadows[key] = shadow(prediction, width_px=prediction.camera.width_px, height_px=prediction.camera.height_px)
        except Farm3DError as error:
            failures[key] = " ".join(str(error).split())
        if progress is not None:
            progress(done, key)
    return transfer(annotations, shadows, pairs=pairs), failures


_Job = tuple[str, dict[str, bytes], Path, ProductReader | None, Settings]


def _one(job: _Job) -> tuple[dict[str, Any], Annotation, Shadow | None]:
    """Judge one picture: its sample for the report, its keypoints, and the answer's vertices for the transfer."""
    key, members, folder, read_product, settings = job
    truth = decode_truth(key, members)
    failure, cast = None, None
    try:
        prediction = read_prediction(folder, key, read_product=read_product)
        if prediction is None:
            raise InputError(_why_missing(folder, key))
        judged = judge(truth, prediction, settings)
        if not all(map(math.isfinite, judged.figures.values())):
            raise InputError("its figures are not finite: a mesh without extent?")
        if settings.pairs:
            cast = shadow(prediction, width_px=truth.mask.shape[1], height_px=truth.mask.shape[0])
    except Farm3DError as error:
        failure, cast, judged = " ".join(str(error).split()), None, _failed(truth, settings)
    sample = {
        "key": truth.key,
        "category": truth.category,
        "individual": truth.individual,
        "action": truth.action,
        "view_index": truth.view_index,
        "azimuth_deg": truth.azimuth_deg,
        "elevation_deg": truth.elevation_deg,
        "truncated": truth.truncated,
        "occluded": truth.occluded,
        "failure": failure,
        "figures": dict(judged.figures),
        **judged.details,
    }
    return sample, truth_annotation(truth), cast


def _why_missing(folder: Path, key: str) -> str:
    """Return what the method noted when it gave up on a picture, if it did."""
    note = folder / f"{key}.failed.txt"
    try:
        return f"gave up: {note.read_text(encoding='utf-8', errors='replace')[:500].strip()}" if note.is_file() else "no answer"
    except OSError:
        return "no answer"


def _failed(truth: Truth, settings: Settings) -> Judgement:
    """Return the worst value of every figure that an answer to this picture would have had."""
    view = viewpoint_error(truth.animal.camera, truth.animal.camera)
    # Transfer counts a missing answer as wrong by itself; flips are only counted where the true direction is clear.
    left_out = {"transfer_right", *(name for name in ("front_back_flip", "left_right_flip") if getattr(view, name) is None)}
    if not settings.novel_views:
        left_out |= _PICTURES
    worst = {name: figure.worst for name, figure in FIGURES.items() if name not in left_out}
    return Judgement({name: value for name, value in worst.items() if value is not None}, {})


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _number(flag: bool | None) -> float | None:
    return None if flag is None else float(flag)
