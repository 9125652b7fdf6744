"""What the caption reader makes of the words that a picture was asked for, and whether that will do."""

from __future__ import annotations

from farm3d.core.shapes import Float, Tensor
from farm3d.model.caption_reader import CaptionReader
from farm3d.training.dataset.filters import NOT_THE_ANIMAL, NOT_THE_VIEW, READ_RULES

__all__ = ["reason_against_reading", "words_read"]


def words_read(
    reader: CaptionReader,
    image: Float[Tensor, "3 S S"],
    mask: Float[Tensor, "S S"],
    *,
    species: str | None = None,
    view: int | None = None,
    action: str | None = None,
) -> dict[str, float]:
    """Return how probable each of the asked words is for a crop; those that the reader has no word for are left out.

    Args:
        reader: whom to ask.
        image, mask: crop of the animal, in [0, 1].
        species, view, action: asked for; the view's number, 0 the front and 2 the animal's left side.
    """
    reading = reader.read(image[None], mask[None])
    found: dict[str, float] = {}
    if species in reader.config.species:
        found["species"] = round(reading.species[0, reader.config.species.index(species)].item(), 4)
    if view is not None:
        found["view"] = round(reading.view[0, view].item(), 4)
    if action in reader.config.actions:
        found["action"] = round(reading.action[0, reader.config.actions.index(action)].item(), 4)
    return found


def reason_against_reading(found: dict[str, float]) -> str | None:
    """Return why a picture is not what was asked for, or None. An action is no reason: it teaches a category nothing false."""
    if found.get("species", 1.0) < READ_RULES["species_from"]:
        return NOT_THE_ANIMAL
    return NOT_THE_VIEW if found.get("view", 1.0) < READ_RULES["view_from"] else None
