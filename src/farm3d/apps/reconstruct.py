"""`farm3d reconstruct`: photographs to GLB, sidecar, contact sheet and turntable."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm3d.apps.options import ReconstructOptions
from farm3d.core.errors import Farm3DError, InputError, OutputError
from farm3d.core.files import write_whole
from farm3d.core.version import __version__

if TYPE_CHECKING:
    from farm3d.data.segment import OnnxSegmenter
    from farm3d.model.reconstructor import Reconstruction, Reconstructor

__all__ = ["reconstruct"]


def reconstruct(options: ReconstructOptions) -> int:
    """Reconstruct every photograph of ``options``; return 0, or 2 if one of them failed (the rest are finished all the same)."""
    import torch
    from rich.console import Console

    from farm3d.data.preprocess import find_masks, list_photos
    from farm3d.data.segment import OnnxSegmenter
    from farm3d.model.reconstructor import Reconstructor

    console = Console(stderr=False, soft_wrap=True)
    photos = list_photos(options.photos)
    masks = find_masks(photos, options.mask)
    _refuse_equal_names(photos)
    _check_writable(options.out)
    if options.threads is not None and options.threads < 1:
        raise InputError(f"--threads: expected 1 or more, got {options.threads}")
    torch.set_num_threads(options.threads or os.cpu_count() or 1)
    waiting = [photo for photo in photos if options.overwrite or not _finished(photo, options)]
    if len(waiting) < len(photos):
        console.print(f"{len(photos) - len(waiting)} of {len(photos)} are finished already (--overwrite makes them anew)")
    if not waiting:
        return 0
    reconstructor = Reconstructor.from_pretrained(options.category)
    segmenter = OnnxSegmenter(options.segmenter, threads=options.threads)
    report: list[dict[str, Any]] = []
    for number, photo in enumerate(waiting, 1):
        label = f"{photo.name}" if len(waiting) == 1 else f"{number}/{len(waiting)} {photo.name}"
        started = time.perf_counter()
        try:
            result = _one(reconstructor, photo, masks[photo], segmenter, options, label)
        except OutputError:
            raise
        except Farm3DError as error:
            if len(photos) == 1:
                raise
            print(f"farm3d: {error}", file=sys.stderr, flush=True)
            report.append({"photo": photo.name, "status": "failed", "reason": str(error)})
            continue
        seconds = time.perf_counter() - started
        console.print(f"{label}: outline agreement {result.iou:.2f}, {seconds:.1f} s")
        for warning in result.warnings:
            console.print(f"  note: {warning}")
        report.append(
            {
                "photo": photo.name,
                "status": "done",
                "iou": round(result.iou, 4),
                "seconds": round(seconds, 2),
                "warnings": list(result.warnings),
            }
        )
    _summary(console, report, waiting, options)
    if len(photos) > 1:
        write_whole(options.out / "report.json", json.dumps({"version": __version__, "photos": report}, indent=2, allow_nan=False) + "\n")
    return 2 if any(entry["status"] == "failed" for entry in report) else 0


def _one(
    reconstructor: Reconstructor,
    photo: Path,
    mask: Path | None,
    segmenter: OnnxSegmenter,
    options: ReconstructOptions,
    label: str,
) -> Reconstruction:
    """One photograph to its files: the walk of docs/walkthrough.md."""
    from farm3d.data.photo import load_photo
    from farm3d.export.glb import write_glb, write_sidecar
    from farm3d.export.sheet import contact_sheet, turntable_frames
    from farm3d.motion.clips import make_clips

    with _Bar(label) as bar:
        picture = load_photo(photo)
        result = reconstructor(
            picture,
            mask=mask,
            segmenter=segmenter,
            refine_steps=options.refine_steps,
            height_m=options.height_m,
            texture_px=options.texture_px,
            seed=options.seed,
            callback=bar.update,
        )
        bar.say("writing")
        stem = options.out / photo.stem
        clips = make_clips(result.animal)
        write_glb(result.animal, stem.with_suffix(".glb"), clips=clips, texture_px=options.texture_px, with_light=options.with_light)
        write_whole(stem.with_suffix(".png"), contact_sheet(result, picture, clips=clips))
        if options.turntable:
            from farm3d.export.video import write_turntable

            write_turntable(turntable_frames(result.animal), stem.with_suffix(".mp4"), fps=24)
        facts = {
            "iou": round(result.iou, 4),
            "hypotheses": [vars(hypothesis) for hypothesis in result.hypotheses],
            "texture_seen": result.seen,
            "timings_s": result.timings_s,
            "seed": options.seed,
            "warnings": list(result.warnings),
        }
        # The sidecar comes last: where it stands, the other files stand too.
        write_sidecar(result.animal, stem.with_suffix(".json"), extra=facts)
    return result


def _finished(photo: Path, options: ReconstructOptions) -> bool:
    suffixes = [".glb", ".png", ".json"] + ([".mp4"] if options.turntable else [])
    return all((options.out / photo.stem).with_suffix(suffix).is_file() for suffix in suffixes)


def _refuse_equal_names(photos: list[Path]) -> None:
    seen: dict[str, Path] = {}
    for photo in photos:
        if photo.stem in seen:
            raise InputError(f"{seen[photo.stem]} and {photo} would write the same files", hint="rename one, or use two --out folders")
        seen[photo.stem] = photo


def _check_writable(folder: Path) -> None:
    """Make the output folder now, so that a wrong one is said before any work is done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot make this folder: {error.strerror or error}", hint="choose another --out folder") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{folder}: no permission to write here", hint="choose another --out folder")


def _summary(console: Any, report: list[dict[str, Any]], photos: list[Path], options: ReconstructOptions) -> None:
    done = [entry for entry in report if entry["status"] == "done"]
    failed = len(report) - len(done)
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    if len(photos) == 1 and done:
        stem = options.out / photos[0].stem
        console.print(f"model:         {stem.with_suffix('.glb')}")
        console.print(f"contact sheet: {stem.with_suffix('.png')}")
        console.print(f"camera, pose:  {stem.with_suffix('.json')}")
        if options.turntable:
            console.print(f"turntable:     {stem.with_suffix('.mp4')}")
    elif len(photos) > 1:
        console.print(f"{len(done)} done, {failed} failed; files and report.json are in {options.out}")
    console.print(f"peak memory {peak_gb:.1f} GiB")


class _Bar:
    """A progress line on stderr: a bar on a terminal, nothing where output is not a terminal (logs stay short)."""

    def __init__(self, label: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self.label = label
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}"), TimeRemainingColumn())
        self.progress = Progress(*columns, console=Console(stderr=True), transient=True)
        self.task = self.progress.add_task(label, total=None, state="reading")

    def __enter__(self) -> _Bar:
        if self.progress.console.is_terminal:
            self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.progress.console.is_terminal:
            self.progress.stop()

    def say(self, state: str) -> None:
        self.progress.update(self.task, state=state)

    def update(self, progress: Any) -> None:
        self.progress.update(
            self.task, completed=progress.step, total=progress.total, state=f"{progress.stage}, agreement {progress.iou:.2f}"
        )
