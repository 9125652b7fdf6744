"""Where the time of one pass goes, what it saves to keep what depends on the texture's atlas alone, and what refining takes.

    python benchmarks/bench_one_pass.py [--category horse-learned] [--template horse] [--rounds 10] [--refined 5] [--threads 1] [--out FILE]

The shipped example picture, loaded once, with its own silhouette; a texture of 1,024 px, no files written. Calls that keep the category's
texel map and calls that make it anew (as the first call of a process does) take turns, so that both meet the same machine; the median and
the quickest of each are told. The category is loaded before, and one call is made before anything is timed. Then whole refined
reconstructions, in turn with those of the template made from rigs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

import torch

from farm3d.core.files import write_whole
from farm3d.data.photo import load_photo
from farm3d.evaluation.circumstances import circumstances
from farm3d.model.reconstructor import Reconstructor

REPOSITORY = Path(__file__).resolve().parent.parent


def told_stages(calls: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, dict[str, float]]]:
    """Print each stage's seconds, a column for each kind of call, and return them."""
    seconds: dict[str, dict[str, dict[str, float]]] = {}
    print(f"{'seconds, median (least)':<24}" + "".join(f"{name:>20}" for name in calls))
    for stage in next(iter(calls.values()))[0]:
        row = {name: [call[stage] for call in told] for name, told in calls.items()}
        seconds[stage] = {name: {"median": statistics.median(values), "least": min(values)} for name, values in row.items()}
        print(f"{stage:<24}" + "".join(f"{f'{statistics.median(values):.3f} ({min(values):.3f})':>20}" for values in row.values()))
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--category", default="horse-learned")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--template", default="horse", help="what refining is timed beside")
    parser.add_argument("--refined", type=int, default=5, help="rounds of refined reconstructions")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks" / "results" / "one_pass.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    reconstructor = Reconstructor.from_pretrained(options.category)
    photo = load_photo(REPOSITORY / "examples" / "horse.png")
    reconstructor(photo, refine=False)
    calls: dict[str, list[dict[str, float]]] = {"kept": [], "made anew": []}
    for _ in range(options.rounds):
        for name, told in calls.items():
            if name != "kept":
                reconstructor.to("cpu")  # forgets the map
            began = time.perf_counter()
            stages = reconstructor(photo, refine=False).timings_s
            told.append({**stages, "whole": time.perf_counter() - began})
    seconds = told_stages(calls)
    both = {name: Reconstructor.from_pretrained(name) for name in (options.category, options.template)}
    refined: dict[str, list[dict[str, float]]] = {name: [] for name in both}
    for round_ in range(options.refined + 1):
        for name, model in both.items():
            began = time.perf_counter()
            stages = model(photo).timings_s
            if round_:  # the first loads kernels
                refined[name].append({**stages, "whole": time.perf_counter() - began})
    in_full = told_stages(refined) if options.refined else {}
    command = f"python benchmarks/bench_one_pass.py --category {options.category} --template {options.template} --rounds {options.rounds}"
    command += f" --refined {options.refined} --threads {options.threads}"
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    report: dict[str, Any] = {**circumstances(command), "commit": commit.stdout.strip() or "unknown", "threads": options.threads}
    report |= {"seconds": seconds, "refined": in_full}
    write_whole(options.out, json.dumps(report, indent=1) + "\n")
    print(options.out)


if __name__ == "__main__":
    main()
