"""The whole of `farm3d prior judge`: whether the model knows the view, and whether its gradient mends animals with one thing wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from farm3d.core.errors import InputError
from farm3d.core.random import numpy_generator
from farm3d.diffusion.distill import FOR_EMBEDDED
from farm3d.diffusion.prior import PicturePrior
from farm3d.training.prior.judge.faults import FAULTS, Case, case_of
from farm3d.training.prior.judge.freeform import Freed, free_mend
from farm3d.training.prior.judge.mending import Mended, Setting, mend
from farm3d.training.prior.judge.slopes import slopes_of
from farm3d.training.prior.judge.views import asked_of_all_views
from farm3d.training.prior.score.known import Known

__all__ = ["RECOMMENDED", "SETTINGS", "JudgeSettings", "Verdict", "judge"]

RECOMMENDED = Setting((FOR_EMBEDDED.t_min, FOR_EMBEDDED.t_max), FOR_EMBEDDED.guidance, FOR_EMBEDDED.weighting)
"""How `farm3d train` asks an embedded model; free form asks so too."""

SETTINGS = (
    Setting((0.5, 0.7), 3.0),
    Setting((0.7, 0.85), 3.0),
    Setting((0.85, 0.97), 3.0),
    Setting((0.5, 0.85), 3.0),
    Setting((0.7, 0.85), 1.0),
    RECOMMENDED,
    Setting((0.5, 0.85), 5.0),
    replace(RECOMMENDED, weighting="uniform"),
    replace(RECOMMENDED, weighting="signal"),
)
"""That are compared in mending by one number."""

_QUICK_SETTINGS = (RECOMMENDED, SETTINGS[-1])
_FREED = 2  # animals of each fault that are mended by free form
_VALUES, _QUICK_VALUES = (1.3, 1.0, 0.6, 0.3, 0.0, -0.3), (1.0, 0.5, 0.0)
Tell = Callable[[str], Callable[[int, int], None]]


@dataclass(frozen=True)
class JudgeSettings:
    """What is asked for.

    Attributes:
        species: asked about views; one animal of each is put wrong and mended.
        faults: of :data:`farm3d.training.prior.judge.faults.FAULTS`.
        pictures: of each species, for the views.
        draws: random views at each value of a fault, for the gradient.
        descent: steps of mending; 0 leaves it out.
        supersample: of renders; 2 is what the barn's pictures are drawn with.
        seed: of everything.
        quick: the shorter lists of settings and values.

    Raises:
        InputError: numbers or names that cannot be used.
    """

    species: tuple[str, ...] = ("horse", "cow", "sheep")
    faults: tuple[str, ...] = FAULTS
    pictures: int = 40
    draws: int = 24
    descent: int = 40
    supersample: int = 2
    seed: int = 0
    quick: bool = False

    def __post_init__(self) -> None:
        if not self.species or min(self.pictures, self.draws) < 1 or self.descent < 0:
            raise InputError("nothing to judge: expected a species, and one picture and one draw or more")
        if unknown := [fault for fault in self.faults if fault not in FAULTS]:
            raise InputError(f"no fault '{unknown[0]}'", hint=f"faults: {', '.join(FAULTS)}")

    def quickened(self) -> JudgeSettings:
        """Return the same in a minute: one animal, a few pictures and steps."""
        return replace(self, species=self.species[:1], pictures=min(self.pictures, 6), draws=4, descent=min(self.descent, 6), quick=True)


@dataclass(frozen=True, eq=False)
class Verdict:
    """What was found.

    Attributes:
        report: plain values.
        mended: of each fault, its cases with the best number's run and the free-form run, for pictures.
    """

    report: dict[str, Any]
    mended: Mapping[str, Sequence[tuple[Case, Mended, Freed | None]]]


def judge(
    prior: PicturePrior, held_out: Known, settings: JudgeSettings, *, rigs: Path, tell: Tell = lambda what: lambda done, total: None
) -> Verdict:
    """Judge a model.

    Args:
        prior: the model.
        held_out: pictures of animals that trained nothing.
        settings: see :class:`JudgeSettings`.
        rigs: folder of the fetched rigs.
        tell: given the name of a stage, returns what is told how far it is.

    Raises:
        InputError: no pictures of a species, or options that cannot be used.
    """
    if unknown := [name for name in settings.species if name not in held_out.species]:
        raise InputError(f"no held-out pictures of a {unknown[0]}", hint=f"there are {', '.join(held_out.species)}")
    views = asked_of_all_views(
        prior, held_out, settings.species, pictures=settings.pictures, seed=settings.seed, tell=tell("asking about views")
    )
    report: dict[str, Any] = {
        "model": {"name": prior.name, "digest": prior.digest, "draws_alpha": prior.draws_alpha},
        "settings": {**settings.__dict__, "species": list(settings.species), "faults": list(settings.faults)},
        "views": views,
        "faults": {},
    }
    mended = {}
    for fault in settings.faults:
        cases = [case_of(fault, name, number=_animal(name, settings.seed), rigs=rigs, seed=settings.seed) for name in settings.species]
        report["faults"][fault], mended[fault] = _judged(prior, fault, cases, settings, tell)
    report["settings_compared"] = _compared(report["faults"])
    return Verdict(report, mended)


def _animal(name: str, seed: int) -> int:
    return int(numpy_generator(seed, "judged animal", name).integers(1000))


def _judged(
    prior: PicturePrior, fault: str, cases: Sequence[Case], settings: JudgeSettings, tell: Tell
) -> tuple[dict[str, Any], list[tuple[Case, Mended, Freed | None]]]:
    shared: dict[str, Any] = {"seed": settings.seed, "size_px": prior.size_px, "supersample": settings.supersample}
    values = _QUICK_VALUES if settings.quick else _VALUES
    slopes = slopes_of(prior, cases, values=values, draws=settings.draws, **shared, tell=tell(f"gradient of {fault}"))
    told: dict[str, Any] = {"gradient": slopes.told(), "by_number": [], "free_form": []}
    if not settings.descent:
        return told, []
    asked = _QUICK_SETTINGS if settings.quick else SETTINGS
    runs: list[list[Mended]] = []
    freed: list[Freed | None] = []
    for place, (name, case) in enumerate(zip(settings.species, cases, strict=True)):
        where = f"{name}, {fault}"
        runs.append(mend(prior, case, asked, steps=settings.descent, **shared, tell=tell(f"mending {where} by one number")))
        freed.append(None)
        if place < _FREED:
            free = {
                "steps": settings.descent,
                "seed": settings.seed,
                "size_px": prior.size_px,
                "tell": tell(f"mending {where} by free form"),
            }
            freed[-1], known = (free_mend(prior, case, RECOMMENDED, **free, oracle=oracle) for oracle in (False, True))
            told["free_form"].append({"species": name, **RECOMMENDED.told(), **freed[-1].told(), "oracle": known.told()})
    for number, setting in enumerate(asked):
        ways = [run[number].way_back for run in runs]
        told["by_number"].append(
            {
                **setting.told(),
                "way_back": dict(zip(settings.species, ways, strict=True)),
                "mean": float(np.mean(ways)),
                "paths": {name: run[number].path.tolist() for name, run in zip(settings.species, runs, strict=True)},
            }
        )
    best = int(np.argmin([abs(1 - row["mean"]) for row in told["by_number"]]))
    return told, [(case, run[best], free) for case, run, free in zip(cases, runs, freed, strict=True)]


def _compared(faults: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return, for each setting of mending by one number, the mean distance from the whole way back over faults and animals."""
    rows: dict[Setting, list[float]] = {}
    for fault in faults.values():
        for row in fault["by_number"]:
            rows.setdefault(Setting.of_told(row), []).extend(row["way_back"].values())
    return [
        {
            **setting.told(),
            "n": len(ways),
            "way_back": float(np.mean(ways)),
            "missed": float(np.mean([abs(1 - way) for way in ways])),
        }
        for setting, ways in rows.items()
    ]
