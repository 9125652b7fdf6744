"""Sheets of samples: rows of eight pictures with their coverage under them, the same seeds every time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from farm3d.barn.captions import VIEWS
from farm3d.core.errors import Cancelled
from farm3d.core.files import whole_file
from farm3d.core.shapes import Tensor
from farm3d.diffusion.prior import PicturePrior

__all__ = ["draw_sheet", "grid_prompts"]

_LABEL_PX = 12


def grid_prompts(species: str) -> list[str]:
    """Return eight prompts: a walking animal from each view, in its plain wording."""
    return [f"a {species}, walking, {view[0]}" for view in VIEWS]


def draw_sheet(
    prior: PicturePrior,
    path: Path,
    *,
    rows: Sequence[Sequence[str]],
    first_seed: int = 0,
    guidance: float = 4.0,
    steps: int = 24,
    should_stop: Callable[[], object] = lambda: None,
) -> bool:
    """Draw a row of pictures for each row of prompts, and write them to a PNG.

    Args:
        prior: that draws.
        path: to write to.
        rows: of equally many prompts.
        first_seed: of the first picture of each row; the others count on.
        guidance, steps: of drawing.
        should_stop: asked after each denoising step; a true answer ends the drawing.

    Returns:
        Whether it was drawn: False if it was asked to stop.

    Raises:
        InputError: a prompt is too long.
        OutputError: the picture cannot be written.
    """
    size, columns = prior.size_px, max(map(len, rows))
    height = size * (2 if prior.draws_alpha else 1) + _LABEL_PX
    sheet = Image.new("RGB", (columns * size, height * len(rows)), "white")
    pen = ImageDraw.Draw(sheet)
    for row, prompts in enumerate(rows):
        seeds = range(first_seed, first_seed + len(prompts))
        try:
            drawn = prior.draw(
                prompts, seeds=seeds, guidance=guidance, steps=steps, callback=lambda done, total: False if should_stop() else None
            )
        except Cancelled:
            return False
        top = row * height
        for column, prompt in enumerate(prompts):
            if column == 0 or prompt != prompts[column - 1]:
                pen.text((column * size + 2, top), prompt if column == 0 else prompt.rpartition(", ")[2], fill="black")
            sheet.paste(_picture(drawn.rgb[column].permute(1, 2, 0)), (column * size, top + _LABEL_PX))
            if drawn.alpha is not None:
                sheet.paste(_picture(drawn.alpha[column]), (column * size, top + _LABEL_PX + size))
    with whole_file(path) as part:
        sheet.save(part, "PNG")
    return True


def _picture(values: Tensor) -> Image.Image:
    return Image.fromarray((values * 255).round().byte().cpu().numpy())
