"""`farm3d reconstruct`: photographs to GLB, sidecar, contact sheet and turntable."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm3d.apps.fit_bar import FitBar
from farm3d.apps.options import ReconstructOptions
from farm3d.apps.progress import say, say_err
from farm3d.core.errors import Farm3DError, InputError, OutputError
from farm3d.core.files import remove_leftovers, write_whole
from farm3d.core.version import __version__

if TYPE_CHECKING:
    from farm3d.apps.coat import Coat
    from farm3d.data.segment import OnnxSegmenter
    from farm3d.model.any_category import AnyCategory
    from farm3d.model.reconstructor import Reconstruction, Reconstructor

__all__ = ["AUTO", "open_category", "reconstruct"]

_MAX_THREADS = 1024
_LEARNED = "-learned"  # ends the names of shipped categories that were learned
AUTO = "auto"
"""Word in place of a category: the picture decides."""


def reconstruct(options: ReconstructOptions) -> int:
    """Reconstruct every photograph of ``options``; return 0, or 2 if one of them failed (the rest are finished all the same)."""
    from farm3d.apps.coat import check_coat_options, coat_inputs
    from farm3d.apps.products import (
        finished,
        output_folder,
        products,
        refuse_bad_names,
        refuse_foreign,
        refuse_other_results,
        refuse_own_inputs,
        without_sheets,
    )
    from farm3d.data.photo import shown_path
    from farm3d.data.preprocess import find_masks, list_photos, masks_beside
    from farm3d.model.reconstructor import check_request

    check_request(refine_steps=options.refine_steps, height_m=options.height_m, texture_px=options.texture_px, seed=options.seed)
    if options.threads is not None and not 1 <= options.threads <= _MAX_THREADS:
        raise InputError(f"--threads: expected 1 to {_MAX_THREADS}, got {options.threads}")
    check_coat_options(options)
    if options.texture_from is not None and options.category == AUTO:
        raise InputError("--texture-from: coats fit animals of one category", hint="name it with --category instead of auto")
    if options.turntable:
        from farm3d.export.video import require_ffmpeg

        require_ffmpeg()
    photos = without_sheets(list_photos(options.photos), options)
    masks = find_masks(photos, options.mask)
    refuse_bad_names(photos, options)
    refuse_own_inputs(photos, masks, options, others=coat_inputs(options))
    with output_folder(options.out):
        remove_leftovers(path for photo in photos for path in products(photo, options))
        requests = {photo: _request(photo, masks[photo], options) for photo in photos}
        for photo in photos:
            refuse_other_results(photo, options, requests[photo])
        waiting = [photo for photo in photos if options.overwrite or not finished(photo, options, requests[photo])]
        refuse_foreign(waiting, options, report=len(photos) > 1)
        if len(waiting) < len(photos):
            say(f"{len(photos) - len(waiting)} of {len(photos)} are finished already (--overwrite makes them anew)")
        beside = masks_beside(waiting) if options.mask is None else []
        if beside:
            say(f"note: {len(beside)} silhouettes such as {shown_path(beside[0])} lie beside and are not used; --mask FOLDER takes them")
        return _every(photos, waiting, masks, requests, options) if waiting else 0


def _request(photo: Path, mask: Path | None, options: ReconstructOptions) -> dict[str, Any]:
    """Return what decides how a photograph's files come out, JSON-ready."""
    from farm3d.apps.products import request_of

    files = {"photo": photo, "mask": mask, "texture_from": options.texture_from, "texture_mask": options.texture_mask}
    return request_of(options, ("refine", "refine_steps", "height_m"), files=files, models=("category", "reader", "encoder", "segmenter"))


def _every(
    photos: list[Path],
    waiting: list[Path],
    masks: dict[Path, Path | None],
    requests: dict[Path, dict[str, Any]],
    options: ReconstructOptions,
) -> int:
    import torch

    from farm3d.apps.coat import find_coat
    from farm3d.apps.models import shipped_categories
    from farm3d.apps.products import REPORT, REQUEST, finished
    from farm3d.data.photo import shown_path
    from farm3d.data.segment import OnnxSegmenter
    from farm3d.model.reconstructor import Reconstructor

    torch.set_num_threads(options.threads or os.cpu_count() or 1)
    reconstructor = open_category(options.category, reader=options.reader, encoder=options.encoder)
    if not options.refine and isinstance(reconstructor, Reconstructor) and reconstructor.learned is None:
        learned = options.category + _LEARNED
        hint = f"--category {learned} has some" if learned in shipped_categories() else "leave it out, or take a category of `farm3d train`"
        raise InputError(f"--no-refine: {options.category} has no networks that could answer in one pass", hint=hint)
    segmenter = OnnxSegmenter(options.segmenter, threads=options.threads)
    coat = None
    if options.texture_from is not None and isinstance(reconstructor, Reconstructor):
        with FitBar(f"coat of {shown_path(options.texture_from.name)}") as bar:
            coat = find_coat(reconstructor, options, segmenter=segmenter, callback=bar.update)
        for warning in coat.warnings if coat is not None else ():
            say(f"  note: {warning}")
    report: list[dict[str, Any]] = []
    for number, photo in enumerate(waiting, 1):
        label = shown_path(photo.name) if len(waiting) == 1 else f"{number}/{len(waiting)} {shown_path(photo.name)}"
        if not options.overwrite and finished(photo, options, requests[photo]):  # another process works on the same folder
            say(f"{label}: finished meanwhile")
            continue
        started = time.perf_counter()
        try:
            facts = {REQUEST: requests[photo]}
            result = _one(reconstructor, photo, masks[photo], segmenter, options, coat=coat, label=label, facts=facts)
        except OutputError:
            raise
        except Farm3DError as error:
            if len(photos) == 1:
                raise
            say_err(f"farm3d: {' '.join(str(error).split())}")
            report.append({"photo": photo.name, "status": "failed", "reason": str(error)})
            continue
        seconds = time.perf_counter() - started
        kind = f"{result.animal.category}, " if options.category == AUTO else ""
        say(f"{label}: {kind}outline agreement {result.iou:.2f}, view {result.view_confidence:.0%} sure, {seconds:.1f} s")
        for warning in result.warnings:
            say(f"  note: {warning}")
        report.append(
            {
                "photo": photo.name,
                "status": "done",
                "iou": round(result.iou, 4),
                "seconds": round(seconds, 2),
                "warnings": list(result.warnings),
            }
        )
    _summary(report, waiting, options)
    if len(photos) > 1:
        told = {entry["photo"]: entry for entry in report}
        report = [told.get(photo.name) or _kept(photo, options) for photo in photos]
        write_whole(options.out / REPORT, json.dumps({"version": __version__, "photos": report}, indent=2, allow_nan=False) + "\n")
    return 2 if any(entry["status"] == "failed" for entry in report) else 0


def open_category(name: str, *, reader: str = "auto", encoder: str | None = None) -> Reconstructor | AnyCategory:
    """Load a category by name or folder, or for ``auto`` all shipped ones: plain names make the animal, learned ones judge.

    Raises:
        ModelError: there is none, or it is damaged.
        InputError: the backbone ``encoder`` is not the category's.
    """
    from farm3d.apps.models import shipped_categories
    from farm3d.model.any_category import AnyCategory
    from farm3d.model.reconstructor import Reconstructor

    if name != AUTO:
        return Reconstructor.from_pretrained(name, reader=reader, backbone=encoder)
    if encoder is not None:
        raise InputError(f"--encoder {encoder}: goes with one category, not with auto", hint="name it with --category FOLDER")
    shipped = shipped_categories()
    plain = [one for one in shipped if not one.endswith(_LEARNED)]
    judges = [one + _LEARNED for one in plain if one + _LEARNED in shipped]
    return AnyCategory.from_pretrained(plain, judges=judges if len(judges) == len(plain) else (), reader=reader)


def _kept(photo: Path, options: ReconstructOptions) -> dict[str, Any]:
    """Return the report's entry of a photograph that an earlier run finished."""
    from farm3d.apps.products import product

    entry: dict[str, Any] = {"photo": photo.name, "status": "kept"}
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # a sidecar of another version, or edited since
        facts = json.loads(product(photo, ".json", options).read_text(encoding="utf-8"))
        entry |= {"iou": facts["iou"], "warnings": facts["warnings"]}
    return entry


def _one(
    reconstructor: Reconstructor | AnyCategory,
    photo: Path,
    mask: Path | None,
    segmenter: OnnxSegmenter,
    options: ReconstructOptions,
    *,
    coat: Coat | None,
    label: str,
    facts: dict[str, Any],
) -> Reconstruction:
    """One photograph to its files: the walk of docs/walkthrough.md."""
    from farm3d.apps.product_files import write_products
    from farm3d.data.photo import load_photo

    with FitBar(label) as bar:
        picture = load_photo(photo)
        result = reconstructor(
            picture,
            mask=mask,
            segmenter=segmenter,
            refine=options.refine,
            refine_steps=options.refine_steps,
            height_m=options.height_m,
            texture_px=options.texture_px,
            seed=options.seed,
            callback=bar.update,
        )
        bar.say("writing")
        write_products(result, picture, photo, options, coat=coat, facts=facts)
    return result


def _summary(report: list[dict[str, Any]], photos: list[Path], options: ReconstructOptions) -> None:
    from farm3d.apps.products import REPORT, products
    from farm3d.data.photo import shown_path

    done = [entry for entry in report if entry["status"] == "done"]
    failed = len(report) - len(done)
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)
    if len(photos) == 1 and done:
        names = ("model:        ", "contact sheet:", "camera, pose: ", "turntable:    ")
        for name, path in zip(names, products(photos[0], options), strict=False):
            say(f"{name} {shown_path(path)}")
    elif len(photos) > 1:
        say(f"{len(done)} done, {failed} failed; files and {REPORT} are in {shown_path(options.out)}")
    say(f"peak memory {peak_gb:.1f} GiB")
