"""What each part of the learning is worth: one training a row, judged on the barn's test individuals, one table.

    python benchmarks/ablations.py --data sets/horse --truth barn/horse --state state/ablations [--rows full "no deformation"]
    python benchmarks/ablations.py --state state/ablations --table [--picture shapes.png]

Every row is `farm3d train` with the same pictures, steps and (but for the rows that vary it) seed, one thread; then one pass of the
learned category over all of the truth, or its first shard alone (`--first`), with `farm3d evaluate baseline fit --no-refine`, the referee
and Animodel's Chamfer, with the reconstructions turned to fit and as they stand.
`--jobs` rows run at a time. What is finished is kept and a training that was stopped goes on, so the same command may be given again.
The table's intervals are over pictures, not over trainings: the rows of other seeds say what chance in training does.

The table in docs/benchmark.md is of preset `wide` as it was on 2026-11-29:
`--set bone_points=1 local_scale=1 words_until=0.5 view=2 words_oblique_deg=11.25`; a row's own settings come after these.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from farm3d.core.errors import Farm3DError, InputError
from farm3d.training.dataset.sheets import grid_of

ROWS: dict[str, tuple[str, ...]] = {
    "full": (),
    "full, seed 1": ("--seed", "1"),
    "full, seed 2": ("--seed", "2"),
    "no articulation": ("--without", "articulation"),
    "no deformation": ("--without", "deformation"),
    "one hypothesis": ("--without", "hypotheses"),
    "no elevation": ("--without", "elevation"),
    "no local features": ("--without", "local-features"),
    "no tail": ("--without", "tail"),
    "no view words": ("--without", "view-words"),
    "no view words, seed 1": ("--without", "view-words", "--seed", "1"),
    "one elevation for all, 12 degrees": ("--set", "elevation_deg=12 elevation_reach_deg=0"),
    "no features": ("--set", "feature=0 choice_feature=0"),
    "all 64 channels of features": ("--set", "feature_channels=64"),
    "with the critic": ("--prior", "SHIPPED"),
    "with the critic, ten times as strong": ("--prior", "SHIPPED", "--set", "virtual=0.002"),
    "with the critic, ten times as strong, seed 1": ("--prior", "SHIPPED", "--set", "virtual=0.002", "--seed", "1"),
    "with the critic, ten times as strong, fading": ("--prior", "SHIPPED", "--set", "virtual=0.002 virtual_from=0.4 virtual_until=0.8"),
    "no pressure from within": ("--set", "volume=0"),
    "no features, no pressure, the critic ten times as strong": (
        "--prior",
        "SHIPPED",
        "--set",
        "feature=0 choice_feature=0 volume=0 virtual=0.002",
    ),
    "ribs at no cost": ("--set", "ripple=0"),
    "thin parts as all others": ("--set", "thin=0"),
    "begun as a learned horse": ("--start", "horse-learned"),
    "standing animals first": ("--set", "standing_until=0.25"),
    "preset embedded": ("--preset", "embedded"),
    "words to the end, twice as strong": ("--set", "words_until=1 view=4"),
    "the same with slack": ("--set", "words_until=1 view=4 words_slack_deg=20"),
    "networks learn twice as fast": ("--set", "rate_networks=0.001"),
    "rates fall earlier": ("--set", "decay_from=0.4 decay_to=0.05"),
    "wider networks": ("--set", "bone_width=256 code=256 local=96"),
}
FIGURES = (  # heading, where in the report's summary, factor, decimals
    ("outline IoU ↑", "iou", 1, 3),
    ("azimuth error, degrees, mean ↓", "azimuth_error_deg", 1, 1),
    ("flips front/back, % ↓", "front_back_flip", 100, 0),
    ("keypoints right by source, % ↑", "transfer_right", 100, 1),
    ("novel views, PSNR in dB ↑", "novel_psnr_db", 1, 2),
    ("relit, PSNR in dB ↑", "relit_psnr_db", 1, 2),
)
_LABEL_PX = 20


def main() -> int:
    """Run what is missing, then print the table; return 0, or 2 if a row failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="training set of `farm3d generate`")
    parser.add_argument("--truth", type=Path, help="folder of `farm3d barn make SPECIES --split test`")
    parser.add_argument("--state", type=Path, required=True, help="folder for trainings, models, predictions and reports")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW", help=f"of: {'; '.join(ROWS)}")
    parser.add_argument("--preset", default="wide")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=NUMBER", help="for every row, as `farm3d train --set`")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--first", action="store_true", help="judge on the first shard of the truth alone; its figures are kept apart")
    parser.add_argument("--jobs", type=int, default=1, help="rows at a time")
    parser.add_argument("--table", action="store_true", help="only print the table of what is there")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="also draw each row's rest shape from eight sides")
    options = parser.parse_args()
    failed = False
    if not options.table:
        if options.data is None or options.truth is None:
            parser.error("--data and --truth are needed to run rows")
        truth = _truth(options)
        with ThreadPoolExecutor(options.jobs) as pool:
            for row, why in zip(options.rows, pool.map(lambda row: _run(row, truth, options), options.rows), strict=True):
                if why:
                    failed = True
                    print(f"{row}: {why}", file=sys.stderr)
    print(table(options.state, _which(options)))
    if options.picture is not None:
        shapes(options.state).save(options.picture)
    return 2 if failed else 0


def shapes(state: Path) -> Image.Image:
    """Return the top of each finished training's last sheet, labelled: the rest shape from the front by the left side and on round it."""
    strips = []
    for row in ROWS:
        sheets = sorted((state / _slug(row) / "state" / "sheets").glob("step-*.png"))
        if not sheets or not (state / _slug(row) / "model" / "manifest.json").exists():
            continue
        with Image.open(sheets[-1]) as sheet:
            views = sheet.convert("RGB").crop((0, 0, sheet.width, sheet.width // 8))
        strip = Image.new("RGB", (views.width, views.height + _LABEL_PX), "white")
        strip.paste(views, (0, _LABEL_PX))
        ImageDraw.Draw(strip).text((6, 2), row, fill="black", font=ImageFont.load_default(size=14))
        strips.append(strip)
    if not strips:
        raise InputError(f"{state}: no finished training in it", hint="give --data and --truth to run rows")
    return grid_of(strips, columns=1)


def table(state: Path, which: str) -> str:
    """Return the Markdown table of the rows that were judged on ``which``, all of the truth or its first shard."""
    heads = [*(head for head, *_ in FIGURES), "PCK@0.1 ↑", "Chamfer, unit cube, × 100 ↓", "nothing turned ↓"]
    heads += ["seconds a picture ↓", "hours"]
    lines = [f"| row | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for row in ROWS:
        folder = state / _slug(row)
        try:
            report = _json(folder / which / "report" / "report.json")
            hours = json.loads((folder / "state" / "log.jsonl").read_text(encoding="utf-8").splitlines()[-1])["hours"]
        except FileNotFoundError:
            continue
        cells = [_cell(report["summary"][name], factor, digits) for _, name, factor, digits in FIGURES]
        keypoints = {"mean": report["keypoints"]["pck"], "low": report["keypoints"]["low"], "high": report["keypoints"]["high"]}
        cells += [_cell(keypoints, 100, 1), *(_shape_cell(folder / which / name) for name in ("shape.json", "unturned.json"))]
        seconds = statistics.median(sample["figures"]["seconds"] for sample in report["samples"])
        lines.append(f"| {row} | " + " | ".join([*cells, f"{seconds:.2f}", f"{hours:.2f}"]) + " |")
    return "\n".join(lines)


def _shape_cell(path: Path) -> str:
    return _cell(_json(path)["summary"]["bidirectional_scaled"], 100, 2) if path.exists() else "not run"


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _cell(summary: dict[str, float], factor: float, digits: int) -> str:
    mean, low, high = (f"{summary[name] * factor:.{digits}f}" for name in ("mean", "low", "high"))
    return f"**{mean}** {low} – {high}"


def _which(options: argparse.Namespace) -> str:
    return "first" if options.first else "all"


def _truth(options: argparse.Namespace) -> Path:
    """Return the truth, or its first shard, with predictions of the truth beside it."""
    shards = sorted(options.truth.glob("*.tar"))
    if not shards:
        raise InputError(f"{options.truth}: no shards of the barn in it", hint="farm3d barn make SPECIES --split test")
    truth, answer = shards[0] if options.first else options.truth, options.state / f"truth-{_which(options)}"
    if not answer.exists():
        _farm3d("evaluate", "baseline", "truth", "--truth", truth, "--out", answer, log=options.state / "truth.log")
    return truth


def _run(row: str, truth: Path, options: argparse.Namespace) -> str | None:
    """Train and judge one row, each step once; return why it failed, or None."""
    folder = options.state / _slug(row)
    folder.mkdir(parents=True, exist_ok=True)
    log, model, judged = folder / "log.txt", folder / "model", folder / _which(options)
    predictions, report, unturned = judged / "predictions", judged / "report", judged / "unturned.json"
    words = {"--preset": options.preset, "--seed": "0", **_pairs(ROWS[row])}
    if words.get("--prior") == "SHIPPED":
        import farm3d

        words["--prior"] = str(Path(farm3d.__file__).parent / "weights" / "embedded_prior")
    changes = [*options.set, *words.pop("--set", "").split()]
    state = ("--state", folder / "state", "--steps", str(options.steps), "--threads", "1", *(["--set", *changes] if changes else []))
    try:
        if not (model / "manifest.json").exists():
            _farm3d("train", "--data", options.data, "--out", model, *state, *(part for pair in words.items() for part in pair), log=log)
        if not (report / "report.json").exists():
            _farm3d("evaluate", "baseline", "fit", "--truth", truth, "--out", predictions, "--category", model, "--no-refine", log=log)
            told = ("--truth", truth, "--predictions", predictions, "--out", report, "--method", _slug(row))
            _farm3d("evaluate", "barn", *told, "--no-plots", "--novel-views", "4", log=log)
        if not unturned.exists():  # the last that is written
            out = ("--out", judged / "shape.json", "--unturned-out", unturned)
            _farm3d("evaluate", "shape", predictions, options.state / f"truth-{judged.name}", *out, log=log)
    except subprocess.CalledProcessError as error:
        return f"exit code {error.returncode} (128 + a signal: stopped; the same command goes on); {log} has its last words"
    print(f"{row}: done", file=sys.stderr, flush=True)
    return None


def _pairs(words: tuple[str, ...]) -> dict[str, str]:
    return dict(zip(words[::2], words[1::2], strict=True))


def _slug(row: str) -> str:
    return row.replace(",", "").replace(" ", "-")


def _farm3d(*words: str | Path, log: Path) -> None:
    """Run a command of farm3d in a process of its own with one thread; what it says goes to a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with log.open("ab") as file:
        subprocess.run([sys.executable, "-m", "farm3d", *map(str, words)], check=True, stdout=file, stderr=file, env=environment)


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except Farm3DError as error:
        print(f"ablations: {error}", file=sys.stderr)
        raise SystemExit(2) from None
