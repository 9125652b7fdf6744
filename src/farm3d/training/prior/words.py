"""What is said to the model while it trains: captions mirrored with their pictures, surroundings named, and words left out."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from farm3d.barn.captions import VIEWS
from farm3d.barn.scenes import BACKDROPS

__all__ = ["GROUNDS", "SCENES", "mirrored", "said", "vocabulary_captions"]

SCENES: Mapping[str, str] = {  # a backdrop of the barn -> how a caption may end
    "plain": "on a plain background",
    "gradient": "on a smooth background",
    "texture": "on a cloudy background",
    "field": "in a field",
    "dry field": "in a dry field",
    "snow": "in the snow",
    "floor": "on a floor",
}
assert set(SCENES) == set(BACKDROPS)
GROUNDS: Mapping[str, str] = {  # backgrounds that training puts behind an animal: those of renders
    "black": "on a black background",
    "white": "on a white background",
    "grey": "on a grey background",
    "colour": "on a plain background",
}
_SILENT, _SPECIES_ONLY, _LESS, _WORDS_LOST, _MADE_UP = 0.10, 0.06, 0.25, 0.15, 0.08
_SAY_SCENE = 0.35
_SIDES = {"left": "right", "right": "left"}


def mirrored(caption: str) -> str:
    """Return the caption of a picture turned over left to right: exact, because the barn's left and right are the animal's own."""
    return re.sub(r"\b(left|right)\b", lambda found: _SIDES[found[1]], caption)


def said(words: tuple[str, ...], species: str, scene: str, rng: np.random.Generator) -> str:
    """Return a prompt for a picture with these captions: one of them, sometimes with its surroundings, often with something left out.

    A tenth of the prompts say nothing (for guidance), others name the species alone, drop clauses or words, turn the clauses round, or
    hold a word that does not exist: so that a part of a caption, and one with a word never seen, are understood too.
    """
    fate = rng.random()
    if fate < _SILENT:
        return ""
    if fate < _SILENT + _SPECIES_ONLY:
        return f"a {species}"
    clauses = words[int(rng.integers(len(words)))].split(", ")
    if rng.random() < _SAY_SCENE:
        clauses.append(scene)
    if rng.random() < _LESS:
        kept = [clause for clause in clauses if rng.random() > 0.35]
        clauses = kept or clauses
    if rng.random() < _LESS:
        clauses = [clauses[i] for i in rng.permutation(len(clauses))]
    prompt = ", ".join(clauses)
    if rng.random() < _WORDS_LOST:
        prompt = " ".join(word for word in prompt.split() if rng.random() > 0.15)
    if rng.random() < _MADE_UP:
        parts = prompt.split()
        parts.insert(int(rng.integers(len(parts) + 1)), _made_up(rng))
        prompt = " ".join(parts)
    return prompt


def vocabulary_captions() -> list[str]:
    """Return sentences with every word of scenes and views, so that the vocabulary does not hang on what was drawn by chance."""
    views = [wording for view in VIEWS for wording in view]
    return [*SCENES.values(), *GROUNDS.values(), *views, *(f"{angle} degrees" for angle in range(0, 181, 15))]


def _made_up(rng: np.random.Generator) -> str:
    letters = "abcdefghijklmnopqrstuvwxyz"
    return "".join(letters[int(i)] for i in rng.integers(26, size=int(rng.integers(3, 10))))
