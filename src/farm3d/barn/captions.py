"""What a picture of the barn is called: species, coat, action and one of eight views, in plain English, and the same said otherwise."""

from __future__ import annotations

import numpy as np

from farm3d.barn.species import Species

__all__ = ["VIEWS", "captions", "fine_view", "view_index"]

VIEWS = (  # at azimuth 0, 45, … 315 degrees of the camera; the first wording is the plain one
    ("seen from the front", "front view", "facing the camera", "head-on"),
    ("seen from its front left", "three-quarter view from its front left", "turned to the left, toward the camera"),
    ("seen from its left side", "side view, facing left", "in profile, head to the left"),
    ("seen from its rear left", "three-quarter view from behind, its left side", "turned to the left, away from the camera"),
    ("seen from behind", "back view", "facing away from the camera", "from the rear"),
    ("seen from its rear right", "three-quarter view from behind, its right side", "turned to the right, away from the camera"),
    ("seen from its right side", "side view, facing right", "in profile, head to the right"),
    ("seen from its front right", "three-quarter view from its front right", "turned to the right, toward the camera"),
)
_OPENINGS = ("a {}", "a picture of a {}", "a photo of a {}", "one {}", "a {} in the picture")


def view_index(azimuth_deg: float) -> int:
    """Return which of the eight views an azimuth belongs to: 0 is the front, 2 the animal's left side, 4 the back."""
    return round((azimuth_deg % 360) / 45) % 8


def captions(
    kind: Species, *, coat: str, markings: tuple[str, ...], action: str, azimuth_deg: float, elevation_deg: float, rng: np.random.Generator
) -> list[str]:
    """Return a plain caption and four paraphrases; the finer ones tell the angle, "seen from 30 degrees to its left"."""
    view = VIEWS[view_index(azimuth_deg)]
    verb = kind.verbs.get(action, action)
    with_marks = f" with {' and '.join(markings)}" if markings else ""
    coats = f"{coat} " if coat else ""
    plain = f"a {coats}{kind.noun}, {verb}, {view[0]}"
    fine = fine_view(azimuth_deg)
    above = " and above" if elevation_deg > 25 else " and below" if elevation_deg < -3 else ""
    other = str(rng.choice(view[1:]))
    third = str(rng.choice(view))
    opening = str(rng.choice(_OPENINGS)).format(f"{coats}{kind.noun}")
    return [
        plain,
        f"{opening}{with_marks}, {verb}, {other}",
        f"a {kind.noun} {verb}, seen from {fine}{above}",
        f"{kind.noun}, {coat or 'plain'}, {verb}, {third}",
        f"a {coats}{kind.noun}{with_marks}, {view[0]}, {verb}",
    ]


def fine_view(azimuth_deg: float) -> str:
    """Say an azimuth to the nearest 15 degrees as seen by the animal: "30 degrees to its left", after "seen from"."""
    turn = (round(azimuth_deg / 15) * 15 + 180) % 360 - 180
    if turn == 0:
        return "straight ahead of it"
    if abs(turn) == 180:
        return "straight behind it"
    return f"{abs(turn)} degrees to its {'left' if turn > 0 else 'right'}"
