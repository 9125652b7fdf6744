"""How often the classifier names what was asked for, counted: species, view and action; and how large what was drawn is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from farm3d.barn.captions import VIEWS
from farm3d.training.prior.score.classifier import VIEW_COUNT, Answers, Classifier, mirrored_view
from farm3d.training.prior.score.known import Fact, Known
from farm3d.training.prior.score.measures import Share, share

__all__ = ["bulk", "obeyed"]


def obeyed(classifier: Classifier, answers: Answers, asked: Sequence[Fact]) -> dict[str, Any]:
    """Return the shares of pictures in which the answers are what was asked, as plain values for a report.

    ``view`` counts the asked view, its two neighbours apart (``adjacent``), the one behind (``opposite``), and the mirror image's
    (``mirrored``; of the six views that have another one). ``by_view`` and ``by_action`` give the same for each that was asked.

    Args:
        classifier: whose words the answers are numbers of.
        answers: of N pictures.
        asked: N of them.
    """
    named = [classifier.species[number] for number in answers.species]
    done = [classifier.actions[number] for number in answers.action]
    wanted = np.array([fact.view for fact in asked])
    off = (answers.view - wanted) % VIEW_COUNT
    mirrored = np.array([mirrored_view(view) for view in wanted])
    sided = mirrored != wanted

    def counted(of: Sequence[int] | np.ndarray) -> dict[str, Any]:
        rows = np.asarray(of, dtype=int)
        own, turned = off[rows], rows[sided[rows]]
        return {
            "n": len(rows),
            "species": _share(sum(named[i] == asked[i].species for i in rows), len(rows)),
            "view": _share(int((own == 0).sum()), len(rows)),
            "adjacent": _share(int(np.isin(own, (1, 7)).sum()), len(rows)),
            "opposite": _share(int((own == 4).sum()), len(rows)),
            "mirrored": _share(int((answers.view[turned] == mirrored[turned]).sum()), len(turned)),
            "action": _share(sum(done[i] == asked[i].action for i in rows), len(rows)),
        }

    return {
        **counted(range(len(asked))),
        "by_view": {VIEWS[view][0]: counted(np.flatnonzero(wanted == view)) for view in range(VIEW_COUNT)},
        "by_action": _by(lambda i: asked[i].action, len(asked), counted),
        "species_named": dict(Counter(named).most_common()),
        "action_named": {
            action: dict(Counter(done[i] for i in range(len(asked)) if asked[i].action == action).most_common())
            for action in sorted({fact.action for fact in asked})
        },
        "view_turned_by": {f"{45 * turn}": int((off == turn).sum()) for turn in range(VIEW_COUNT)},
    }


def bulk(pixels: np.ndarray, asked: Sequence[Fact], held_out: Known) -> dict[str, Any]:
    """Return how large silhouettes are, over those of held-out pictures of the same species: ``all``, and ``by_view``.

    Args:
        pixels: of N samples of one species, sRGB and coverage, uint8, ``[N, 4, S, S]``.
        asked: what was asked of each.
        held_out: with pictures of every view of that species, framed alike.
    """
    own = held_out.of(asked[0].species)
    drawn, real = (np.asarray(planes > 127).mean((1, 2)) for planes in (pixels[:, 3], held_out.pixels[own, 3]))
    wanted, there = np.array([fact.view for fact in asked]), np.array([held_out.facts[number].view for number in own])
    ratios = {}
    for view in range(VIEW_COUNT):
        if (wanted == view).any() and (there == view).any():
            ratios[view] = float(drawn[wanted == view].mean() / real[there == view].mean())
    expected = sum(float(real[there == view].mean()) * int((wanted == view).sum()) for view in ratios)
    return {
        "all": float(drawn[np.isin(wanted, list(ratios))].sum()) / expected,
        "by_view": {VIEWS[view][0]: ratio for view, ratio in ratios.items()},
    }


def _by(word: Callable[[int], str], count: int, counted: Callable[[Sequence[int]], dict[str, Any]]) -> dict[str, Any]:
    groups: dict[str, list[int]] = {}
    for number in range(count):
        groups.setdefault(word(number), []).append(number)
    return {name: counted(groups[name]) for name in sorted(groups)}


def _share(count: int, of: int) -> dict[str, Any]:
    value: Share = share(int(count), of)
    return {"count": value.count, "of": value.of, "share": None if of == 0 else value.share, "low": value.low, "high": value.high}
