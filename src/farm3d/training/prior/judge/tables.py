"""A verdict as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from farm3d.training.prior.judge.mending import Setting

__all__ = ["judge_tables"]

_SAID = {
    "short-legs": "legs 30 % short",
    "thin-body": "body 30 % thin",
    "head-turned": "head turned by up to 70 degrees",
    "leg-missing": "a leg missing",
    "wrong-coat": "the darkest coat where the lightest is said",
}


def judge_tables(report: Mapping[str, Any], *, command: str) -> str:
    """Return the report in words and tables."""
    lines = [
        f"# {report['model']['name']} as a critic",
        "",
        f"Model sha256 `{report['model']['digest'] or 'unknown'}`, seed {report['settings']['seed']}.",
        "",
        f"    {command}",
        "",
        "## Is the true view preferred?",
        "",
        "The caption's view is replaced by each of the eight; the noise is the same. Chance is 12.5 % exact, 37.5 % within one. Shares"
        " with 95 %"
        " Wilson intervals; `more` is what the mean over captions costs above the true one.",
        "",
        *_views(report["views"]),
        "## Which way does the gradient point?",
        "",
        "The change of the fault's number that the model asks for (1 is the fault, 0 the right animal; negative is toward right), mean"
        " ± standard"
        " error over random views; and where one that follows it comes to rest, as a share of the way back.",
        "",
        *(line for name, fault in report["faults"].items() for line in _gradient(name, fault["gradient"])),
    ]
    if any(fault["by_number"] for fault in report["faults"].values()):
        lines += _mending(report)
    return "\n".join(lines) + "\n"


def _views(views: Mapping[str, Any]) -> list[str]:
    lines = ["| background | species | t | n | exact | within one | behind | mirrored | more |", "|---|---|---|---|---|---|---|---|---|"]
    for ground, value in views.items():
        for level, row in value["all"].items():
            lines.append(_view_row(ground, "all", level, row))
        for name, levels in value["species"].items():
            lines.append(_view_row(ground, name, "sum", levels["sum"]))
    return [*lines, ""]


def _view_row(ground: str, name: str, level: str, row: Mapping[str, Any]) -> str:
    shares = " | ".join(_share(row[kind]) for kind in ("exact", "within_one", "opposite", "mirrored"))
    more = row["error_mean"] / max(row["error_true"], 1e-12) - 1
    return f"| {ground} | {name} | {level} | {row['n']} | {shares} | {100 * more:.1f} % |"


def _share(value: Mapping[str, Any]) -> str:
    if value["share"] is None:
        return "–"
    return f"{100 * value['share']:.1f} ({100 * value['low']:.0f}–{100 * value['high']:.0f})"


def _gradient(name: str, gradient: Mapping[str, Any]) -> list[str]:
    values = gradient["values"]
    lines = [
        f"**{name}** ({_SAID.get(name, name)}; {gradient['draws']} views; renderer's gradient over central difference "
        f"{gradient['gradient_agreement']:.3f})",
        "",
        "| t | guidance | " + " | ".join(f"{value:g}" for value in values) + " | way back |",
        "|---|---|" + "---|" * (len(values) + 1),
    ]
    for row in gradient["rows"]:
        moves = " | ".join(f"{move:+.4f} ± {error:.4f}" for move, error in zip(row["move"], row["error"], strict=True))
        back = "none" if row["way_back"] is None else f"{100 * row['way_back']:.0f} %"
        lines.append(f"| {row['levels'][0]:g}–{row['levels'][1]:g} | {row['guidance']:g} | {moves} | {back} |")
    return [*lines, ""]


def _mending(report: Mapping[str, Any]) -> list[str]:
    species, faults = report["settings"]["species"], report["faults"]
    lines = [
        "## How much of the way back does descent go?",
        "",
        f"{report['settings']['descent']} steps, one random view each, gradient through the renderer. Per cent of the way from the"
        " fault to the"
        f" right animal: mean ({', '.join(species)}).",
        "",
        "| t | guidance | weighting | " + " | ".join(faults) + " | mean | missed |",
        "|---|---|---|" + "---|" * (len(faults) + 2),
    ]
    for number, compared in enumerate(report["settings_compared"]):
        cells = [_ways(fault["by_number"][number]) for fault in faults.values()]
        means = f"{100 * compared['way_back']:.0f} | {100 * compared['missed']:.0f}"
        lines.append(f"| {_asked(compared)} | {' | '.join(cells)} | {means} |")
    lines += [
        "",
        "`missed` is the mean distance from 100 %.",
        "",
        f"Free form (every vertex, or every vertex's colour, with smoothing), {_freed(faults)}, one stance, two views a step: way back"
        " along the fault, distance to"
        " the right animal that remains where it was wrong, and change where it was right, both as shares of the fault. The oracle is"
        " the same"
        " descent toward the right animal's own pictures: what it leaves is the descent's, not the model's, and where it goes hardly any"
        " of the way nothing can be told about the model.",
        "",
        "| fault | animal | way back | oracle | remaining | oracle | disturbed | oracle |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, fault in faults.items():
        for row in fault["free_form"]:
            kinds = ("way_back", "remaining", "disturbed")
            shares = " | ".join(f"{100 * part[kind]:.0f} %" for kind in kinds for part in (row, row["oracle"]))
            lines.append(f"| {name} | {row['species']} | {shares} |")
    return lines


def _asked(row: Mapping[str, Any]) -> str:
    return f"{row['levels'][0]:g}–{row['levels'][1]:g} | {row['guidance']:g} | {row['weighting']}"


def _freed(faults: Mapping[str, Any]) -> str:
    """Say which setting and which animals free form took: the same for all faults."""
    rows = next(iter(faults.values()))["free_form"]
    return f"with {Setting.of_told(rows[0]).name}, on the {' and '.join(row['species'] for row in rows)}"


def _ways(row: Mapping[str, Any]) -> str:
    return f"{100 * row['mean']:.0f} ({', '.join(f'{100 * way:.0f}' for way in row['way_back'].values())})"
