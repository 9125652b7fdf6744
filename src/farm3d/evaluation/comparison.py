"""Two reports on the same pictures: how they differ, and whether beyond noise."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from farm3d.core.errors import InputError
from farm3d.evaluation.figures import FIGURES, SHAPE_FIGURES, figure_format, figure_of, figure_title
from farm3d.evaluation.report import Report
from farm3d.evaluation.statistics import Difference, paired_difference

__all__ = ["Comparison", "compare"]


@dataclass(frozen=True)
class Comparison:
    """First report minus second on the pictures that both have.

    Attributes:
        first, second: names of the methods.
        pictures: how many both have; ``only_first`` and ``only_second``: how many only one of them has.
        differences: by figure.
    """

    first: str
    second: str
    pictures: int
    only_first: int
    only_second: int
    differences: Mapping[str, Difference]

    def verdict(self, name: str) -> str:
        """Return in words which is better in a figure, or that the difference is within noise."""
        difference = self.differences[name]
        if not difference.beyond_noise:
            return "within noise"
        return f"{self.first if (difference.mean > 0) == figure_of(name).higher_is_better else self.second} is better"

    def to_markdown(self) -> str:
        """Return a table, one line a figure."""
        lines = [f"# {self.first} minus {self.second}", "", f"{self.pictures} common pictures."]
        if self.only_first or self.only_second:
            lines[-1] += f" Left out: {self.only_first} only in the first report, {self.only_second} only in the second."
        lines += ["", "| figure | difference | 95 % interval | p | n (groups) | verdict |", "|---|---|---|---|---|---|"]
        for name, value in self.differences.items():
            show = figure_format(name, sign=True)
            numbers = f"{show(value.mean)} | {show(value.low)} – {show(value.high)} | {value.p:.4f} | {value.n} ({value.groups})"
            lines.append(f"| {figure_title(name)} | {numbers} | {self.verdict(name)} |")
        return "\n".join(lines) + "\n"


def compare(first: Report, second: Report) -> Comparison:
    """Return the paired differences of two reports, drawn over individuals (:func:`farm3d.evaluation.statistics.paired_difference`).

    Raises:
        InputError: fewer than two common pictures, or the same names for different pictures.
    """
    if first.method == second.method:
        first, second = dataclasses.replace(first, method="the first"), dataclasses.replace(second, method="the second")
    ours, theirs = ({sample["key"]: sample for sample in report.samples} for report in (first, second))
    common = [key for key in ours if key in theirs]
    if len(common) < 2:
        raise InputError(f"{first.method} and {second.method} have {len(common)} common pictures", hint="compare reports on the same truth")
    for key in common:
        if any(ours[key].get(name) != theirs[key].get(name) for name in ("azimuth_deg", "individual")):
            raise InputError(f"{key} is another picture in each report", hint="compare reports on the same truth")
    differences = {}
    for name in (*FIGURES, *SHAPE_FIGURES):
        keys = [key for key in common if all(side[key]["figures"].get(name) is not None for side in (ours, theirs))]
        if len(keys) >= 2:
            values = ([side[key]["figures"][name] for key in keys] for side in (ours, theirs))
            differences[name] = paired_difference(*values, groups=[ours[key]["individual"] for key in keys])
    return Comparison(first.method, second.method, len(common), len(ours) - len(common), len(theirs) - len(common), differences)
