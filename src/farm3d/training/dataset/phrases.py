"""Phrase books: what is asked of a text-to-image model so that it draws a category from all sides, in all its actions and coats.

One for the embedded prior in the barn's own wording, which is all it ever learned, and one for Stable Diffusion and its kin, whose view
words are those of section 1.1 and whose negative prompts name the views that are not wanted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from farm3d.barn.captions import VIEWS
from farm3d.barn.species import ACTIONS, SPECIES, species
from farm3d.core.errors import InputError
from farm3d.core.random import numpy_generator

__all__ = [
    "BLOCK",
    "VIEW_NAMES",
    "VIEW_WORDINGS",
    "PhraseBook",
    "Prompt",
    "PromptOrder",
    "critic_prompts",
    "embedded_book",
    "read_view_shares",
    "stable_diffusion_book",
]

BLOCK = 64
"""Neighbouring samples among which views, actions and coats are shared out evenly."""

VIEW_NAMES = ("front", "front-left", "left", "rear-left", "behind", "rear-right", "right", "front-right")
"""The eight views of ``farm3d.barn.captions.VIEWS``, in their order, in a word."""

_SD_NEGATIVE = "multiple animals, cropped, occluded, rider, saddle, drawing"
_SD_ACTIONS = ("standing", "walking", "running", "grazing")
_SD_VIEWS: tuple[tuple[str, str], ...] = (  # what is asked for, what is not
    ("facing the camera, front view", "side view, back view"),
    ("three-quarter view from the front, facing left", "back view"),
    ("side view facing left", "front view, back view"),
    ("three-quarter view from behind, facing left", "front view"),
    ("away from the camera, back view", "front view, side view, face"),
    ("three-quarter view from behind, facing right", "front view"),
    ("side view facing right", "front view, back view"),
    ("three-quarter view from the front, facing right", "back view"),
)
_BEHIND = VIEW_NAMES.index("behind")

VIEW_WORDINGS = tuple((*barn, wording) for barn, (wording, _) in zip(VIEWS, _SD_VIEWS, strict=True))
"""How either book says each of the eight views."""


@dataclass(frozen=True)
class Prompt:
    """One thing to ask for.

    Attributes:
        text, negative: what to draw, and what not.
        view: number in :data:`VIEW_NAMES`, where known.
        action, coat: in a word or a few, where known.
        weight: how often, against the others.
    """

    text: str
    negative: str = ""
    view: int | None = None
    action: str | None = None
    coat: str | None = None
    weight: float = 1.0


@dataclass(frozen=True)
class PhraseBook:
    """Prompts and the name of their book."""

    name: str
    prompts: tuple[Prompt, ...]

    @property
    def digest(self) -> str:
        """The sha256 of all that it says."""
        return hashlib.sha256(json.dumps([vars(prompt) for prompt in self.prompts], sort_keys=True).encode()).hexdigest()

    def with_views(self, shares: Mapping[str, float]) -> PhraseBook:
        """Return the book with views in these shares, by name; those not named are left out.

        Raises:
            InputError: a prompt has no view, or none has one of those asked for.
        """
        for number, prompt in enumerate(self.prompts, start=1):
            if prompt.view is None:
                raise InputError(
                    f"--views asks for a ratio of views, but prompt {number} of the {self.name} has none: {prompt.text[:60]!r}",
                    hint="give each prompt its view, or leave out --views",
                )
        totals = {view: sum(prompt.weight for prompt in self.prompts if prompt.view == view) for view in range(len(VIEW_NAMES))}
        if lacking := [name for name, share in shares.items() if share > 0 and not totals[VIEW_NAMES.index(name)]]:
            raise InputError(f"--views: no prompt of the {self.name} shows the view '{lacking[0]}'", hint="leave it out")
        prompts = (
            replace(prompt, weight=prompt.weight / totals[prompt.view] * shares.get(VIEW_NAMES[prompt.view], 0.0))
            for prompt in self.prompts
            if prompt.view is not None
        )
        return PhraseBook(self.name, tuple(prompt for prompt in prompts if prompt.weight > 0))


def embedded_book(category: str) -> PhraseBook:
    """Return plain captions as the barn has them: "a bay horse, walking, seen from its left side", each view, action and coat alike.

    Raises:
        InputError: the barn has no such species; the embedded prior knows no other.
    """
    kind = species(category)
    prompts = []
    for view, wordings in enumerate(VIEWS):
        for action in ACTIONS:
            verb = kind.verbs.get(action, action)
            prompts += [
                Prompt(f"a {coat.name} {kind.noun}, {verb}, {wordings[0]}", view=view, action=verb, coat=coat.name) for coat in kind.coats
            ]
    return PhraseBook("embedded", tuple(prompts))


def stable_diffusion_book(category: str) -> PhraseBook:
    """Return prompts such as "a photo of a single brown cow, walking, side view facing left" with negative prompts, section 1.1.

    Coats are those of the barn's species; any other category goes without.
    """
    coats = [coat.name for coat in SPECIES[category].coats] if category in SPECIES else [None]
    prompts = []
    for view, (wording, unwanted) in enumerate(_SD_VIEWS):
        for action in _SD_ACTIONS:
            link = ", " if view != _BEHIND else " " if action in ("walking", "running") else ", facing "
            prompts += [
                Prompt(
                    f"a photo of a single {f'{coat} ' if coat else ''}{category}, {action}{link}{wording}",
                    negative=f"{_SD_NEGATIVE}, {unwanted}",
                    view=view,
                    action=action,
                    coat=coat,
                )
                for coat in coats
            ]
    return PhraseBook("stable-diffusion", tuple(prompts))


def critic_prompts(category: str, *, barn: bool) -> tuple[tuple[str, str], ...]:
    """Return what a critic is told of virtual views from each of the eight sides, and what they must not look like (section 4).

    Args:
        category: species, as the words name it.
        barn: in the embedded prior's words, which needs no negatives; else in those of Stable Diffusion.
    """
    if barn:
        return tuple((f"a {category}, {wordings[0]}", "") for wordings in VIEWS)
    return tuple((f"a photo of a single {category}, {wording}", f"{_SD_NEGATIVE}, {unwanted}") for wording, unwanted in _SD_VIEWS)


def read_view_shares(words: Sequence[str]) -> dict[str, float]:
    """Return ``{name: share}`` of words such as ``behind=2``.

    Raises:
        InputError: a word of another form, an unknown view, one twice, a share that is no number of 0 or more, or none above 0.
    """
    shares: dict[str, float] = {}
    for word in words:
        name, _, value = word.partition("=")
        if name not in VIEW_NAMES:
            raise InputError(f"--views {word}: no view of this name", hint=f"NAME=SHARE with {', '.join(VIEW_NAMES)}")
        try:
            share = float(value)
        except ValueError:
            share = -1.0
        if not 0 <= share < 1e6:
            raise InputError(f"--views {word}: expected NAME=SHARE with a share of 0 or more", hint="e.g. --views front=1 behind=2")
        if name in shares:
            raise InputError(f"--views: {name} is there twice", hint="give each view once")
        shares[name] = share
    if not any(shares.values()):
        raise InputError("--views: every share is 0", hint="give at least one view a share above 0")
    return shares


@dataclass(frozen=True)
class PromptOrder:
    """Which prompt each sample gets: by chance, but even in every block of :data:`BLOCK` samples.

    In each block every view, every action of it and every coat of that get their share of the block, rounded up or down by chance, in a
    shuffled order.
    """

    prompts: tuple[Prompt, ...]
    seed: int

    def __call__(self, number: int) -> Prompt:
        """Return the prompt of a sample."""
        return self.prompts[_block(self, number // BLOCK)[number % BLOCK]]


@lru_cache(maxsize=64)
def _block(order: PromptOrder, block: int) -> tuple[int, ...]:
    """Return the numbers of a block's prompts: evenly spaced along the sum of weights (systematic sampling), then shuffled."""
    rng = numpy_generator(order.seed, "prompts", block)
    chance: dict[object, float] = {}
    for prompt in order.prompts:  # views stay in order, actions in each view and coats in each action come in any
        chance.setdefault((prompt.view, prompt.action), rng.random())
    ranks = [(-1 if p.view is None else p.view, chance[p.view, p.action], rng.random()) for p in order.prompts]
    row = sorted(range(len(ranks)), key=ranks.__getitem__)
    edges = np.cumsum([order.prompts[i].weight for i in row])
    places = (np.arange(BLOCK) + rng.random()) / BLOCK * edges[-1]
    chosen = np.minimum(np.searchsorted(edges, places, side="right"), len(row) - 1)
    return tuple(row[i] for i in rng.permutation(chosen))
