"""Is `view_confidence` a probability? Fits its two numbers to one set of the barn and judges them on another.

    python benchmarks/calibration.py --fit barn/val_horse=pred/val_horse … --judge barn/test_horse=pred/horse …

Each pair is a set of `farm3d barn make` and the answers of `farm3d evaluate baseline fit` to it. The sidecars hold the scores s of all
views that were tried. The confidence of a view is (1 - e) softmax(-s / t) + e / n, that of an answer the sum over the views within 60
degrees of it; an answer is right if its azimuth is within 60 degrees of the truth. t and e are those with the least mean -log of the
probability that the answer is what it turned out to be. Prints, for today's numbers (where the caption reader
has a say) and for the fitted ones: the mean confidence of right and wrong answers, the Brier score, the expected
calibration error over ten bins of equal count, and a table of the bins.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from farm3d.core.errors import Farm3DError, InputError
from farm3d.evaluation.truth import read_truth
from farm3d.model import fitting

NEAR_DEG = 60.0
BINS = 10


def main() -> int:
    """Print the fitted numbers and what both pairs of numbers are worth; return 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fit", nargs="+", required=True, metavar="TRUTH=ANSWERS", help="sets that the numbers are fitted to (split val)")
    parser.add_argument("--judge", nargs="+", required=True, metavar="TRUTH=ANSWERS", help="sets that they are judged on (split test)")
    options = parser.parse_args()
    fitted, judged = ([answer for pair in pairs for answer in answers(*_split(pair))] for pairs in (options.fit, options.judge))
    best = min(((t, e) for t in np.geomspace(0.005, 0.5, 60) for e in np.linspace(0, 0.3, 61)), key=lambda te: surprise(fitted, *te))
    print(f"fitted to {len(fitted)} answers: softness {best[0]:.4f}, floor {best[1]:.3f}\n")
    print("| numbers | set | answers | right, % | confidence: all | right ones | wrong ones | -log p | Brier | ECE |\n|" + "---|" * 10)
    for name, numbers in (("today's", (fitting.READ_SOFTNESS, 0.0)), ("fitted", best)):
        for kind, which in (("fitted to", fitted), ("judged on", judged)):
            print(f"| {name} | {kind} | " + " | ".join(line(which, *numbers)) + " |")
    print("\n| confidence of the fitted numbers, judged on | answers | right, % |\n|---|---|---|")
    told, right = told_and_right(judged, *best)
    for rows in np.array_split(told.argsort(kind="stable"), BINS):
        span = f"{told[rows].mean():.3f} ({told[rows].min():.2f} – {told[rows].max():.2f})"
        print(f"| {span} | {len(rows)} | {100 * right[rows].mean():.0f} |")
    return 0


def answers(truth: Path, folder: Path) -> list[tuple[np.ndarray, np.ndarray, bool]]:
    """Return each answer's scores and whether each view is near the delivered one, best first, and whether that is right."""
    found = []
    for picture in read_truth(truth):
        sidecar = folder / f"{picture.key}.json"
        if not sidecar.exists():
            continue
        tried = json.loads(sidecar.read_text(encoding="utf-8"))["hypotheses"]
        azimuths = np.array([view["azimuth_deg"] for view in tried])
        scores = np.array([view["score"] for view in tried])
        found.append((scores, _apart(azimuths, azimuths[0]) <= NEAR_DEG, bool(_apart(azimuths[0], picture.azimuth_deg) <= NEAR_DEG)))
    if not found:
        raise InputError(f"{folder}: no answers to {truth} in it", hint="farm3d evaluate baseline fit --truth TRUTH --out ANSWERS")
    return found


def told_and_right(which: list[tuple[np.ndarray, np.ndarray, bool]], softness: float, floor: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the confidences and whether each answer is right."""
    told = []
    for scores, near, _ in which:
        shares = np.exp(-(scores - scores.min()) / softness)
        told.append((((1 - floor) * shares / shares.sum() + floor / len(scores)) * near).sum())
    return np.array(told), np.array([right for *_, right in which])


def surprise(which: list[tuple[np.ndarray, np.ndarray, bool]], softness: float, floor: float) -> float:
    """Return the mean -log probability of what turned out."""
    told, right = told_and_right(which, softness, floor)
    return float(-np.log(np.clip(np.where(right, told, 1 - told), 1e-6, 1)).mean())


def line(which: list[tuple[np.ndarray, np.ndarray, bool]], softness: float, floor: float) -> list[str]:
    """Return the cells of one row of the table."""
    told, right = told_and_right(which, softness, floor)
    bins = np.array_split(told.argsort(kind="stable"), BINS)
    error = sum(len(rows) * abs(told[rows].mean() - right[rows].mean()) for rows in bins) / len(told)
    parts = [told.mean(), told[right].mean(), told[~right].mean() if (~right).any() else np.nan]
    scores = [surprise(which, softness, floor), np.square(told - right).mean(), error]
    return [str(len(told)), f"{100 * right.mean():.1f}", *(f"{part:.3f}" for part in (*parts, *scores))]


def _apart(one: np.ndarray, other: float) -> np.ndarray:
    return np.abs((one - other + 180) % 360 - 180)


def _split(pair: str) -> tuple[Path, Path]:
    truth, equals, folder = pair.partition("=")
    if not equals:
        raise InputError(f"{pair}: expected TRUTH=ANSWERS", hint="such as barn/val_horse=pred/val_horse")
    return Path(truth), Path(folder)


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except Farm3DError as error:
        print(f"calibration: {error}", file=sys.stderr)
        raise SystemExit(2) from None
