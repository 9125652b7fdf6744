"""``farm3d evaluate``: predictions against known truth, baselines, published protocols, and two methods side by side."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm3d.apps.evaluate_options import BarnOptions, BaselineOptions, CompareOptions, EvaluateOptions, KeypointsOptions, ShapeOptions
from farm3d.core.errors import InputError, MissingPartError, OutputError
from farm3d.core.files import write_whole

if TYPE_CHECKING:
    from farm3d.evaluation.predictions import ProductMesh
    from farm3d.evaluation.shape import ShapeScore
    from farm3d.evaluation.truth import Truth
    from farm3d.model.reconstructor import Reconstruction

__all__ = ["evaluate", "read_product", "write_product"]


def evaluate(options: EvaluateOptions) -> int:
    """Run one of the five actions; return 0, however good or bad the figures are.

    Raises:
        InputError, ModelError, MissingPartError, OutputError: as the rooms below do.
    """
    match options.action:
        case BarnOptions() as action:
            _barn(action)
        case BaselineOptions() as action:
            _baseline(action)
        case KeypointsOptions() as action:
            _keypoints(action)
        case ShapeOptions() as action:
            _shape(action)
        case CompareOptions() as action:
            _compare(action)
    return 0


def read_product(path: Path, clip: str | None, time_s: float) -> ProductMesh:
    """Read a GLB of ours, posed, for the referee.

    Raises:
        InputError: not a GLB of ours, or no such clip.
    """
    from farm3d.evaluation.predictions import ProductMesh
    from farm3d.export.glb_reader import read_glb

    model = read_glb(path)
    return ProductMesh(model.vertices, model.vertices_at(clip, time_s), model.faces, model.uv, model.texture)


def write_product(result: Reconstruction, truth: Truth, out: Path, seconds: float) -> None:
    """Write KEY.glb, with the photographed pose as its only clip, and then KEY.json.

    Raises:
        OutputError: the folder cannot be written.
    """
    from farm3d.evaluation.baselines import TEXTURE_PX, peak_memory_mib
    from farm3d.evaluation.views import light_to_json
    from farm3d.export.glb import glb_bytes, sidecar_text
    from farm3d.motion.clips import input_pose_clip

    facts = {
        "light": light_to_json(result.animal.light),
        "iou": round(result.iou, 4),
        "hypotheses": [vars(hypothesis) for hypothesis in result.hypotheses],
        "texture_seen": result.seen,
        "timings_s": result.timings_s,
        "seconds": round(seconds, 3),
        "peak_memory_mib": round(peak_memory_mib(), 1),
        "warnings": list(result.warnings),
    }
    clips = [input_pose_clip(result.animal.angles)]
    write_whole(out / f"{truth.key}.glb", glb_bytes(result.animal, clips=clips, texture_px=TEXTURE_PX))
    write_whole(out / f"{truth.key}.json", sidecar_text(result.animal, extra=facts))


def _barn(options: BarnOptions) -> None:
    from farm3d.evaluation.referee import Settings
    from farm3d.evaluation.referee import evaluate as judge_all
    from farm3d.evaluation.report import write_report

    settings = Settings(novel_views=options.novel_views, pairs=options.pairs)
    _make_folder(options.out)
    _require_no_other_report(options.out / "report.json")
    words = f"--truth {_name(options.truth)} --predictions {_name(options.predictions)} --out {_name(options.out)}"
    words += f" --novel-views {options.novel_views} --pairs {options.pairs}"
    with _status("judging") as told:
        report = judge_all(
            options.truth,
            options.predictions,
            read_product=read_product,
            settings=settings,
            processes=options.processes,
            progress=told,
            method=options.method,
            command=f"farm3d evaluate barn {words}",
        )
    paths = write_report(report, options.out)
    print(paths[0].read_text(encoding="utf-8"))
    if not options.no_plots:
        from farm3d.evaluation.plots import write_plots

        try:
            paths += write_plots(report, options.out, options.truth, options.predictions, read_product=read_product)
        except MissingPartError as error:
            print(f"no plots: {error}")
    print(f"{', '.join(path.name for path in paths)} are in {options.out}")


def _baseline(options: BaselineOptions) -> None:
    from farm3d.evaluation import baselines

    _make_folder(options.out)
    if options.baseline == "truth":
        outcomes = baselines.truths(options.truth, options.out, overwrite=options.overwrite)
    elif options.baseline == "mean":
        outcomes = baselines.mean_shapes(options.truth, options.out, category=options.category, overwrite=options.overwrite)
    else:
        outcomes = baselines.fits(
            options.truth,
            options.out,
            write_product=write_product,
            category=options.category,
            refine=options.refine,
            refine_steps=options.refine_steps,
            reader=options.reader,
            seed=options.seed,
            processes=options.processes,
            overwrite=options.overwrite,
        )
    done, failed = 0, 0
    with _status(f"baseline {options.baseline}") as told, contextlib.closing(outcomes):
        for key, reason in outcomes:
            done, failed = done + 1, failed + (reason is not None)
            told(done, key)
            if reason is not None:
                print(f"{key}: {reason}")
    print(f"{done - failed} answers in {options.out}, {failed} pictures without one")


def _keypoints(options: KeypointsOptions) -> None:
    from farm3d.evaluation.annotations import read_badja, read_pascal, truth_annotation
    from farm3d.evaluation.circumstances import circumstances
    from farm3d.evaluation.referee import evaluate_keypoints
    from farm3d.evaluation.report import keypoint_facts
    from farm3d.evaluation.truth import read_truth

    where = options.annotations
    _require_new([options.out], (where, options.predictions))
    if where.suffix == ".mat":
        annotations = read_pascal(where)
    elif where.suffix == ".json" and not where.name.endswith(".plan.json"):
        annotations = read_badja(where)
    else:
        annotations = sorted(map(truth_annotation, read_truth(where)), key=lambda annotation: annotation.key)
    with _status("transferring keypoints") as told:
        found, failures = evaluate_keypoints(
            annotations, options.predictions, read_product=read_product, pairs=options.pairs, progress=told
        )
    words = f"--annotations {_name(where)} --predictions {_name(options.predictions)} --out {_name(options.out)} --pairs {options.pairs}"
    facts = circumstances(f"farm3d evaluate keypoints {words}") | {"failures": failures, "keypoints": keypoint_facts(found)}
    _write_json(options.out, facts)
    print(f"PCK@0.1 {100 * found.pck:.1f} (95 % interval {100 * found.low:.1f} – {100 * found.high:.1f}), {found.pairs} pairs")
    print(f"{found.untransferable} pairs of different topologies left out; {found.unanswered} with a missing answer counted as wrong")
    for key, reason in failures.items():
        print(f"{key}: {reason}")


def _shape(options: ShapeOptions) -> None:
    from farm3d.evaluation.circumstances import circumstances
    from farm3d.evaluation.shape import AnimodelSettings
    from farm3d.evaluation.shape_folders import score_folders, summarise_shapes

    if options.unturned_out is not None and not options.rotation:
        raise InputError("--unturned-out: with --no-rotation nothing is turned anyway", hint="leave out one of the two")
    _require_new([options.out, options.unturned_out], (options.predictions, options.truth))
    pairs = []
    settings = AnimodelSettings(rotation=options.rotation)
    scores = score_folders(
        options.truth,
        options.predictions,
        seed=options.seed,
        settings=settings,
        processes=options.processes,
        read_product=read_product,
        also_unturned=options.unturned_out is not None,
    )
    with _status("comparing shapes") as told:
        for pair in scores:
            pairs.append(pair)
            told(len(pairs), pair.target.stem)

    def tell(scored: list[ShapeScore], rotation: bool, out: Path | None) -> None:
        summary = summarise_shapes(scored)
        print(f"| {'Animodel protocol' if rotation else 'no rotation (not the protocol)'} | mean | std |\n|---|---|---|")
        for name, value in summary.items():
            print(f"| {name} | {value.mean:.4f} | {value.std:.4f} |")
        if out is not None:
            words = f"{_name(options.predictions)} {_name(options.truth)} --out {_name(out)} --seed {options.seed}"
            words += "" if rotation else " --no-rotation"
            rows = [
                {"target": pair.target.name, "reconstruction": pair.reconstruction.name, **score.figures(), "turned": score.turned}
                for pair, score in zip(pairs, scored, strict=True)
            ]
            spread = {name: dataclasses.asdict(value) for name, value in summary.items()}
            _write_json(out, circumstances(f"farm3d evaluate shape {words}") | {"summary": spread, "pairs": rows})

    tell([pair.score for pair in pairs], options.rotation, options.out)
    if options.unturned_out is not None:
        tell([pair.unturned for pair in pairs if pair.unturned is not None], False, options.unturned_out)


def _compare(options: CompareOptions) -> None:
    from farm3d.evaluation.comparison import compare
    from farm3d.evaluation.report import read_report

    _require_new([options.out], (options.first, options.second))
    table = compare(read_report(options.first), read_report(options.second)).to_markdown()
    print(table)
    if options.out is not None:
        write_whole(options.out, table)


def _require_new(outputs: Iterable[Path | None], inputs: Iterable[Path]) -> None:
    """Refuse a result that would be written over a file that is read, over another result of the same run, or into a folder's place."""
    from farm3d.apps.products import refuse_writing_over

    found = [path for path in outputs if path is not None]
    refuse_writing_over(inputs, found)
    if len({os.path.realpath(path) for path in found}) < len(found):
        raise InputError(f"{found[0]}: named twice, for two results", hint="give each a name of its own")
    for path in found:
        if os.path.isdir(path):
            raise OutputError(f"{path}: a folder stands where this file is to go", hint="choose another name")


def _require_no_other_report(path: Path) -> None:
    """Refuse the folder of a `farm3d reconstruct` of many photographs, whose report has the same name."""
    try:
        other = os.path.isfile(path) and "photos" in json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        other = True
    if other:
        raise OutputError(f"{path}: exists and is no report of `farm3d evaluate`", hint="choose another --out folder")


def _write_json(path: Path, document: dict[str, Any]) -> None:
    write_whole(path, json.dumps(document, indent=1, allow_nan=False) + "\n")


def _name(path: Path) -> str:
    """Return a path as a report may show it: its last part, so that nothing tells where on a machine it lies."""
    return path.resolve().name


def _make_folder(folder: Path) -> None:
    """Make the output folder now, so that a wrong one is said before any work is done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot make this folder: {error.strerror or error}", hint="choose another --out folder") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{folder}: no permission to write here", hint="choose another --out folder")


@contextlib.contextmanager
def _status(label: str) -> Iterator[Callable[[int, str], None]]:
    """Show how many pictures are done on a terminal; nothing where output is not a terminal."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda done, key: None
        return
    with console.status(label) as status:
        yield lambda done, key: status.update(f"{label}: {done} ({escape(key)})")
