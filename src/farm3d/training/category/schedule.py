"""What is switched on when, and how much each loss weighs: one table, printed by ``farm3d train --show-schedule``."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

__all__ = ["Moment", "Schedule", "Weights", "losses_table"]


_SHAPE_SLOPE = 0.036  # share of the run over which the rate of a held shape rises
_VIRTUAL_SLOPE = 0.05  # the same for the weight of virtual views


@dataclass(frozen=True)
class Weights:
    """Factors of the losses (section 3, where a figure is the paper's; features are divided by their spread here, the paper's are not).

    ``choice_feature`` is the feature loss's factor where hypotheses are compared: about fifty times, relative to the mask, that of the
    reconstruction itself, as in section 2.8. ``view_words`` adds to a hypothesis that disagrees with the view the words asked for, four
    times as much at the beginning; ``view`` pulls azimuths to that view and fades, both over ``Schedule.words_until``. ``volume`` fills
    what no outline shows (``losses.volume_loss``), ``thin`` grows legs (``losses.thin_loss``) and fades over ``Schedule.thin_until``,
    ``gap`` parts them (``losses.gap_loss``) and rises as ``thin`` fades, ``outside`` and ``coverage`` turn limbs that miss the outline
    altogether (``losses.outside_loss``, ``losses.coverage_loss``), ``ripple`` smooths the trunk (``losses.ripple_loss``).
    """

    mask: float = 10.0
    missing: float = 100.0
    thin: float = 0.0
    gap: float = 0.0
    outside: float = 0.0
    coverage: float = 0.0
    feature: float = 0.1
    choice_feature: float = 1.0
    colour: float = 1.0
    score: float = 0.3
    eikonal: float = 0.01
    articulation: float = 0.2
    deformation: float = 10.0
    volume: float = 0.0
    ripple: float = 0.0
    view_words: float = 0.0
    view: float = 0.0
    virtual: float = 0.0


@dataclass(frozen=True)
class Schedule:
    """Shares of the run, from 0 to 1, unless said otherwise.

    Attributes:
        steps: of the run.
        batch_early, batch_late: pictures in a step, before and after ``table_from``.
        size_early, size_late, size_from: side of the pictures that are compared, and from when the larger one.
        cell_early, cell_late, cell_from: size of the grid's cells, canonical units.
        renew_every: steps between looks at where the surface is.
        uniform_steps: steps in which all hypotheses count the same.
        sharp_at: when the weights of hypotheses are at their sharpest.
        softness: temperature of those weights, first and last.
        table_from: from when one hypothesis a picture is drawn, by a table of their losses; before, all of them.
        explore: share of pictures for which another hypothesis is drawn than the best.
        words_until: when the view that the words asked for no longer teaches the azimuths (they are often wrong by one eighth).
        words_slack_deg: how far from that view an azimuth may be at no cost.
        words_oblique_deg: the same for the four views between front, sides and back, if it differs: pictures that are asked for one of them
            show the animal nearer to its side.
        standing_until: when animals begin to be shown in other poses than standing ones, where words tell. Thin legs that swing are seldom
            where the rest shape has them, and are taken for nothing until it has some.
        thin_until: when thin parts no longer count more than others, which they do less and less: legs that are there grow thick from it. 0
            lets them count as much to the end.
        shape_from: when the rest shape begins to change, for one that is begun with an animal's: as long as views are not found, pictures
            from all sides make it round again. 0 changes it from the first step.
        articulation_from, centred_from, colour_from, deformation_from, virtual_from: when these begin.
        virtual_until: when virtual views count no more; their weight falls over the second half of their time. 0 lets them count as much to
            the end.
        decay_from: from when learning rates fall, to ``decay_to`` of their height.
        virtual_every: steps between virtual views; virtual_views: pictures in each.
        rate_shape, rate_features, rate_networks: learning rates of Adam.
        clip: largest norm of the gradient of each of these groups.
    """

    steps: int
    batch_early: int = 4
    batch_late: int = 10
    size_early: int = 64
    size_late: int = 96
    size_from: float = 0.75
    cell_early: float = 0.165
    cell_late: float = 0.13
    cell_from: float = 0.5
    renew_every: int = 8
    uniform_steps: int = 300
    sharp_at: float = 0.3
    softness: tuple[float, float] = (1.0, 0.02)
    table_from: float = 0.4
    explore: float = 0.2
    words_until: float = 0.2
    words_slack_deg: float = 0.0
    words_oblique_deg: float | None = None
    standing_until: float = 0.0
    thin_until: float = 0.5
    shape_from: float = 0.0
    articulation_from: float = 0.06
    centred_from: float = 0.25
    colour_from: float = 0.45
    deformation_from: float = 0.6
    virtual_from: float = 0.5
    virtual_until: float = 0.0
    decay_from: float = 0.8
    decay_to: float = 0.1
    virtual_every: int = 2
    virtual_views: int = 4
    rate_shape: float = 1.5e-3
    rate_features: float = 2e-3
    rate_networks: float = 5e-4
    clip: float = 1.0

    def at(self, step: int) -> Moment:
        """Return what holds at a step, from 0."""
        done = step / self.steps
        early = done < self.table_from
        first, last = self.softness
        begin = self.uniform_steps / self.steps
        along = min(max((done - begin) / max(self.sharp_at - begin, 1e-9), 0.0), 1.0)
        fall = min(max((done - self.decay_from) / max(1 - self.decay_from, 1e-9), 0.0), 1.0)
        return Moment(
            done=done,
            batch=self.batch_early if early else self.batch_late,
            size_px=self.size_early if done < self.size_from else self.size_late,
            cell=self.cell_early if done < self.cell_from else self.cell_late,
            every_hypothesis=early,
            softness=first * (last / first) ** along if step >= self.uniform_steps else float("inf"),
            words=max(1 - done / self.words_until, 0.0) if self.words_until > 0 else 0.0,
            words_slack_deg=(self.words_slack_deg, self.words_slack_deg if self.words_oblique_deg is None else self.words_oblique_deg),
            thin=max(1 - done / self.thin_until, 0.0) if self.thin_until > 0 else 1.0,
            gap=1.0 if self.thin_until <= 0 else min(done / self.thin_until, 1.0),
            standing=done < self.standing_until,
            articulate=done >= self.articulation_from,
            centred=done >= self.centred_from,
            colour=done >= self.colour_from,
            deform=done >= self.deformation_from,
            virtual=self.virtual_from <= done < (self.virtual_until or math.inf) and step % self.virtual_every == 0,
            virtual_share=self._virtual_share(done),
            shape=min(max((done - self.shape_from) / _SHAPE_SLOPE, 0.0), 1.0) if self.shape_from > 0 else 1.0,
            rate=min((step + 1) / 50, 1.0) * self.decay_to**fall,
        )

    def _virtual_share(self, done: float) -> float:
        rise = min(max((done - self.virtual_from) / _VIRTUAL_SLOPE, 0.0), 1.0)
        if not self.virtual_until:
            return rise
        left = (self.virtual_until - done) / max(self.virtual_until - self.virtual_from, 1e-9)
        return min(rise, max(2 * left, 0.0))


@dataclass(frozen=True)
class Moment:
    """What holds at one step, as :class:`Schedule` says.

    ``softness`` is infinite where all hypotheses count the same; ``words`` and ``thin`` fall from 1 to 0, ``gap`` rises as ``thin`` falls;
    ``words_slack_deg`` is that of front, sides and back, and of the views between; ``standing``: no others are shown; ``rate`` is a share
    of the learning rates, ``shape`` of that of the shape besides, ``virtual_share`` of the weight of virtual views where there are any.
    """

    done: float
    batch: int
    size_px: int
    cell: float
    every_hypothesis: bool
    softness: float
    words: float
    words_slack_deg: tuple[float, float]
    thin: float
    gap: float
    standing: bool
    articulate: bool
    centred: bool
    colour: bool
    deform: bool
    virtual: bool
    virtual_share: float
    shape: float
    rate: float

    def faded(self, weights: Weights) -> Weights:
        """Return the weights as they count now: that of thin parts falls, that of gaps rises, that of virtual views does both."""
        thin, gap, virtual = self.thin * weights.thin, self.gap * weights.gap, self.virtual_share * weights.virtual
        return dataclasses.replace(weights, thin=thin, gap=gap, virtual=virtual)


def losses_table(weights: Weights, schedule: Schedule) -> str:
    """Return every loss with its weight and when it counts, shares of the run, a line each under a line of headings."""
    later = {
        "colour": schedule.colour_from,
        "outside": schedule.articulation_from,
        "coverage": schedule.articulation_from,
        "articulation": schedule.articulation_from,
        "deformation": schedule.deformation_from,
        "virtual": schedule.virtual_from,
    }
    sooner = {"thin": schedule.thin_until or 1.0, "view": schedule.words_until, "virtual": schedule.virtual_until or 1.0}
    fading = ", falls over the second half" if schedule.virtual_until else ""
    remarks = {
        "thin": "falls to nothing" if schedule.thin_until else "",
        "gap": f"rises until {schedule.thin_until:g}" if schedule.thin_until else "",
        "choice_feature": "only where hypotheses are compared",
        "view_words": f"the same; four times as much at first, falling until {schedule.words_until:g}",
        "view": "falls to nothing",
        "virtual": f"with --prior; every {schedule.virtual_every} steps, {schedule.virtual_views} views{fading}",
    }
    lines = [f"{'loss':16} {'weight':>8} {'from':>6} {'until':>6}"]
    for field in dataclasses.fields(weights):
        name, weight = field.name, getattr(weights, field.name)
        begin, end = later.get(name, 0.0), sooner.get(name, 1.0)
        when = f"{begin:>6g} {end:>6g}" if weight else f"{'-':>6} {'-':>6}"
        lines.append(f"  {name:14} {weight:>8g} {when}  {remarks.get(name, '')}".rstrip())
    return "\n".join(lines)
