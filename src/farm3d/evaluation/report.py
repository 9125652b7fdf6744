"""What an evaluation found, as a value, as JSON and as Markdown."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farm3d.core.errors import InputError
from farm3d.core.files import write_whole
from farm3d.evaluation.figures import FIGURES, SHAPE_FIGURES, figure_format, figure_title
from farm3d.evaluation.keypoints import Transfer
from farm3d.evaluation.statistics import Summary, summarise
from farm3d.evaluation.views import field_of, parse_json

__all__ = ["Report", "keypoint_facts", "read_report", "write_report"]

_KIND, _FORMAT = "farm3d-evaluation", 1
_MAX_BYTES = 1 << 30
_HINT = "give the report.json of `farm3d evaluate barn`, or what `farm3d evaluate shape --out` wrote"


@dataclass(frozen=True)
class Report:
    """How one method answered one set of pictures.

    Attributes:
        method, truth: their names.
        circumstances: command, date, versions, machine (see :mod:`farm3d.evaluation.circumstances`), and the settings of the referee.
        samples: one mapping a picture: ``key``, ``individual``, ``action``, ``azimuth_deg`` …, ``failure`` (None or why there is no
            answer), ``figures`` by the names of :data:`farm3d.evaluation.figures.FIGURES`, and details such as each novel view's.
        keypoints: what keypoint transfer gave, or None if it was not run.
    """

    method: str
    truth: str
    circumstances: Mapping[str, Any]
    samples: tuple[Mapping[str, Any], ...]
    keypoints: Mapping[str, Any] | None = None

    @property
    def failures(self) -> dict[str, str]:
        """Why there is no answer, by key."""
        return {sample["key"]: sample["failure"] for sample in self.samples if sample["failure"] is not None}

    def summary(self, *, answered_only: bool = False) -> dict[str, Summary]:
        """Return the statistics of each figure; missing answers count with the figure's worst value unless left out here."""
        return _summarised([sample for sample in self.samples if not (answered_only and sample["failure"] is not None)])

    def by(self, name: str | Callable[[Mapping[str, Any]], Any], *, figures: Sequence[str]) -> dict[Any, dict[str, Summary]]:
        """Return some figures for each value of a sample's entry (``action``, ``view_index``), or of a function of the sample, sorted."""
        key = name if callable(name) else lambda sample: sample[name]
        groups: dict[Any, list[Mapping[str, Any]]] = {}
        for sample in self.samples:
            groups.setdefault(key(sample), []).append(sample)
        return {value: _summarised(groups[value], figures) for value in sorted(groups)}

    def to_json(self) -> str:
        """Return the whole report, summary included, as JSON."""
        summary = {name: dataclasses.asdict(value) for name, value in self.summary().items()}
        answered = {name: dataclasses.asdict(value) for name, value in self.summary(answered_only=True).items()} if self.failures else None
        document = {
            "kind": _KIND,
            "format": _FORMAT,
            "method": self.method,
            "truth": self.truth,
            **self.circumstances,
            "pictures": len(self.samples),
            "failures": self.failures,
            "summary": summary,
            "summary_of_answers_only": answered,
            "keypoints": self.keypoints,
            "samples": list(self.samples),
        }
        return json.dumps(document, indent=1, allow_nan=False) + "\n"

    def to_markdown(self) -> str:
        """Return the tables that people read."""
        lines = [f"# {self.method} on {self.truth}", "", f"{len(self.samples)} pictures, {len(self.failures)} without an answer."]
        if self.failures:
            lines += ["A missing answer counts with the worst value of each figure; time and memory are of the answers.", ""]
            lines += [f"- {key}: {reason}" for key, reason in self.failures.items()]
        lines += ["", "| figure | mean | 95 % interval | std | median | n |", "|---|---|---|---|---|---|"]
        for name, value in self.summary().items():
            show = figure_format(name)
            spread = f"{show(value.low)} – {show(value.high)} | {show(value.std)} | {show(value.median)}"
            lines.append(f"| {figure_title(name)} | {show(value.mean)} | {spread} | {value.n} |")
        lines += _keypoint_lines(self.keypoints)
        for entry, title in (("view_index", "eighth of the circle, from the face"), ("action", "action")):
            lines += self._grouped_lines(entry, title)
        return "\n".join([*lines, "", *_circumstance_lines(self.circumstances)]) + "\n"

    def _grouped_lines(self, entry: str, title: str) -> list[str]:
        wanted = ("iou", "rotation_error_deg", "novel_psnr_db", "novel_ssim")
        groups = self.by(entry, figures=wanted)
        shown = [name for name in wanted if any(name in summary for summary in groups.values())]
        lines = ["", f"| {title} | n | {' | '.join(figure_title(name) for name in shown)} |", "|---" * (len(shown) + 2) + "|"]
        for value, summary in groups.items():
            cells = [figure_format(name)(summary[name].mean) if name in summary else "–" for name in shown]
            lines.append(f"| {value if value != '' else '–'} | {max((s.n for s in summary.values()), default=0)} | {' | '.join(cells)} |")
        return lines


def keypoint_facts(transfer: Transfer) -> dict[str, Any]:
    """Return what a report says of keypoint transfer, JSON-ready: a figure that could not be counted is None."""

    def number(value: float) -> float | None:
        return value if math.isfinite(value) else None

    facts = dataclasses.asdict(transfer) | {name: number(getattr(transfer, name)) for name in ("pck", "low", "high")}
    del facts["by_source"]
    return facts


def write_report(report: Report, folder: Path) -> list[Path]:
    """Write ``report.json`` and ``report.md`` into a folder, each whole or not at all; return the paths."""
    paths = [Path(folder) / "report.md", Path(folder) / "report.json"]
    for path, text in zip(paths, (report.to_markdown(), report.to_json()), strict=True):
        write_whole(path, text)
    return paths


def read_report(path: Path) -> Report:
    """Read a ``report.json``, or the one in a folder, or what ``farm3d evaluate shape --out`` wrote: each pair of meshes is a sample then.

    Raises:
        InputError: no such file, or not a report of this version.
    """
    path = Path(path) / "report.json" if Path(path).is_dir() else Path(path)
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InputError(f"{path}: more than {_MAX_BYTES} bytes")
        document = parse_json(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(f"{path}: cannot read: {error.strerror or error}", hint=_HINT) from error
    if "pairs" in document and "kind" not in document:
        return _shapes(path, document)
    if document.get("kind") != _KIND or document.get("format") != _FORMAT:
        raise InputError(f"{path}: not a report of farm3d evaluate (format {_FORMAT})", hint=_HINT)
    where = str(path)
    method, truth = (field_of(document, name, str, where) for name in ("method", "truth"))
    samples = field_of(document, "samples", list, where)
    for number, sample in enumerate(samples, 1):
        place = f"{where}: picture {number}"
        field_of(sample, "key", str, place)
        figures = field_of(sample, "figures", dict, place)
        if "failure" not in sample or "individual" not in sample or not all(_is_number(value) for value in figures.values()):
            raise InputError(f"{place}: not as farm3d writes it", hint="evaluate again")
    known = {name: document[name] for name in ("command", "date", "versions", "machine", "settings") if name in document}
    return Report(method, truth, known, tuple(samples), document.get("keypoints"))


def _shapes(path: Path, document: Mapping[str, Any]) -> Report:
    """Return the pairs of ``farm3d evaluate shape`` as samples, each an individual of its own: meshes have nothing but names."""
    samples = []
    for number, pair in enumerate(field_of(document, "pairs", list, str(path)), 1):
        place = f"{path}: pair {number}"
        name = field_of(pair, "target", str, place)
        figures = {figure: pair.get(figure) for figure in SHAPE_FIGURES}
        if any(value is None or not _is_number(value) for value in figures.values()):
            raise InputError(f"{place}: not as farm3d writes it", hint="evaluate again")
        samples.append({"key": name, "individual": name, "failure": None, "figures": figures})
    known = {name: document[name] for name in ("command", "date", "versions", "machine") if name in document}
    return Report(path.stem, "meshes", known, tuple(samples))


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _summarised(samples: Sequence[Mapping[str, Any]], figures: Iterable[str] = tuple(FIGURES)) -> dict[str, Summary]:
    found = {}
    for name in figures:
        with_it = [sample for sample in samples if sample["figures"].get(name) is not None]
        if with_it:
            groups = [sample["individual"] for sample in with_it]
            found[name] = summarise([float(sample["figures"][name]) for sample in with_it], groups=groups)
    return found


def _keypoint_lines(keypoints: Mapping[str, Any] | None) -> list[str]:
    if keypoints is None:
        return []
    if keypoints["pck"] is None:
        return ["", f"Keypoint transfer: none of {keypoints['pairs']} pairs could be counted."]
    pck, low, high = (100 * keypoints[name] for name in ("pck", "low", "high"))
    lines = [
        "",
        f"Keypoint transfer, PCK@0.1: **{pck:.1f}** (95 % interval {low:.1f} – {high:.1f}), {keypoints['pairs']} pairs;",
        f"{keypoints['untransferable']} of them left out because the two meshes have different topologies,",
        f"{keypoints['unanswered']} with a missing answer counted as wrong.",
        "",
        "| keypoint | PCK@0.1 | transfers |",
        "|---|---|---|",
    ]
    return lines + [f"| {name} | {100 * share:.1f} | {keypoints['counts'][name]} |" for name, share in keypoints["by_type"].items()]


def _circumstance_lines(facts: Mapping[str, Any]) -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in facts.get("versions", {}).items())
    machine = facts.get("machine", {})
    words = f"{machine.get('processor')}, {machine.get('cores')} cores, {machine.get('memory_gib')} GiB, {machine.get('system')}"
    return [f"`{facts.get('command', '')}`", "", f"{facts.get('date', '')}; {versions}; {words}."]
