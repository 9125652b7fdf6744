"""Animals with one thing wrong, beside the right ones: the same surface twice, so that a number leads from one to the other.

``vertices(p) = right + p (wrong - right)``: p is 1 for the fault and 0 for the animal as the barn made it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from farm3d.barn.coats import paint
from farm3d.barn.individuals import Individual, make_individual
from farm3d.barn.species import ACTIONS, Coat, Species, species
from farm3d.barn.world import SPLITS
from farm3d.core.errors import InputError
from farm3d.core.random import numpy_generator
from farm3d.core.shapes import Float, Tensor
from farm3d.geometry.rotations import euler_to_matrix
from farm3d.structures._value import Value

__all__ = ["COAT", "FAULTS", "Case", "Stance", "case_of"]

COAT = "wrong-coat"
FAULTS = ("short-legs", "thin-body", "head-turned", "leg-missing", COAT)
_SHORTER, _THINNER, _STUMP = 0.7, 0.7, 0.06
_TURN = {"Neck1": 12.0, "Neck2": 18.0, "Neck3": 18.0, "Head": 22.0}  # degrees about the vertical
_POSES = 6
_SHOWN = ("standing", "walking")


@dataclass(frozen=True, eq=False, repr=False)
class Stance(Value):
    """A pose of both animals: the right one and the wrong one, ``[V, 3]``, trunks in the same place, and what the caption calls it."""

    right: Float[Tensor, "V 3"]
    wrong: Float[Tensor, "V 3"]
    action: str


@dataclass(frozen=True, eq=False, repr=False)
class Case(Value):
    """One animal with one thing wrong.

    Attributes:
        fault: one of :data:`FAULTS`.
        individual: the right animal.
        words: species and coat as a caption has them, of the right animal.
        stances: poses; the first is a standing one.
        right_albedo, wrong_albedo: linear, ``[V, 3]``; they differ for a wrong coat only.
    """

    fault: str
    individual: Individual
    words: str
    stances: tuple[Stance, ...]
    right_albedo: Float[Tensor, "V 3"]
    wrong_albedo: Float[Tensor, "V 3"]

    @property
    def is_coat(self) -> bool:
        """Whether the colour is wrong, and not the shape."""
        return self.fault == COAT

    def caption(self, stance: Stance, view: str) -> str:
        """Return the plain caption of the right animal."""
        return f"{self.words}, {stance.action}, {view}"


def case_of(fault: str, name: str, *, number: int, rigs: Path, seed: int = 0) -> Case:
    """Return an animal of split ``val`` with a fault.

    Args:
        fault: one of :data:`FAULTS`.
        name: a species.
        number: of the animal in the split.
        rigs: folder of the fetched rigs.
        seed: of poses, and of which leg is missing and to which side the head turns.

    Raises:
        InputError: no such fault or species.
    """
    if fault not in FAULTS:
        raise InputError(f"no fault '{fault}'", hint=f"faults: {', '.join(FAULTS)}")
    kind = species(name)
    who = SPLITS["val"][0] + number
    individual = make_individual(kind, who, rigs=rigs)
    rng = numpy_generator(seed, "fault", fault, name, number)
    other = _proportioned(individual, kind, fault, rigs)
    side = 1 if rng.random() < 0.5 else -1
    leg = ("Front", "Back")[int(rng.integers(2))], "LR"[int(rng.integers(2))]
    stances = []
    for pose in range(_POSES):
        action = _SHOWN[pose % len(_SHOWN)]
        clips = [clip for clip in individual.build.rig.clips if clip.name in ACTIONS[action]]
        clip = clips[int(rng.integers(len(clips)))]
        time_s = float(rng.uniform(0, clip.duration_s))
        right = individual.pose(clip.name, time_s)
        turns = _turned(individual, side) if fault == "head-turned" else {}
        wrong = other.pose(clip.name, time_s, turns=turns)
        if fault == "leg-missing":
            wrong = _without_leg(individual, right, *leg)
        trunk = individual.build.group("Torso")[:, None] ** 2
        wrong = wrong + ((right - wrong) * trunk).sum(0) / trunk.sum()
        stances.append(Stance(right, wrong, kind.verbs.get(action, action)))
    coat, wrong_coat = _coats(kind) if fault == COAT else (None, None)
    painted = paint(individual, coat=coat)
    wrong_albedo = painted.albedo if wrong_coat is None else paint(individual, coat=wrong_coat).albedo
    words = f"a {painted.coat.name} {kind.noun}"
    return Case(fault, individual, words, tuple(stances), painted.albedo, wrong_albedo)


def _proportioned(individual: Individual, kind: Species, fault: str, rigs: Path) -> Individual:
    """Return the animal with one proportion changed and the same trunk: the barn would give it the same height instead."""
    factors = {"short-legs": {"leg_length": _SHORTER}, "thin-body": {"trunk_width": _THINNER}}.get(fault)
    if factors is None:
        return individual
    traits = {**kind.traits, **{name: kind.traits.get(name, 1.0) * factor for name, factor in factors.items()}}
    changed = make_individual(replace(kind, traits=traits), individual.number, rigs=rigs)
    names = individual.build.rig.joint_names
    ends = names.index("Torso"), names.index("Neck1")
    lengths = [float((one.joints[ends[1], 2] - one.joints[ends[0], 2]).abs()) for one in (individual, changed)]
    scale = lengths[0] / lengths[1]
    return changed.replace(rest=changed.rest * scale, joints=changed.joints * scale, stretch=changed.stretch * scale)


def _turned(individual: Individual, side: int) -> dict[str, Tensor]:
    there = [name for name in _TURN if name in individual.build.rig.joint_names]
    return {name: euler_to_matrix(torch.tensor([0.0, float(np.radians(side * _TURN[name])), 0.0])) for name in there}


def _without_leg(individual: Individual, posed: Tensor, part: str, side: str) -> Tensor:
    """Draw a leg into the belly: what hangs on it shrinks toward where it begins."""
    foot = "FF." if part == "Front" else "FFB."
    build = individual.build
    hung = build.group(f"{part}UpperLeg.{side}", f"{part}LowerLeg.{side}", f"IK{part}Leg.{side}", f"{foot}{side}")
    begins = (hung > 0.15) & (hung < 0.6)
    root = posed[begins].mean(0)
    return posed + hung[:, None] * (1 - _STUMP) * (root - posed)


def _coats(kind: Species) -> tuple[Coat, Coat]:
    """Return the lightest and the darkest coat of a species, of one colour if there are such; of one coat, the wrong one is dark brown."""
    even = [coat for coat in kind.coats if coat.pattern in ("solid", "wool")] or list(kind.coats)
    order = sorted(even, key=lambda coat: sum(coat.body))
    dark = order[0] if len(order) > 1 else replace(order[0], body=(60, 42, 32), marks=(60, 42, 32))
    return order[-1], dark
