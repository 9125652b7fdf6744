"""From a reconstruction to its files: clips, sidecar, contact sheet, GLB and turntable, which appear together or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm3d.apps.products import ProductOptions, product
from farm3d.core.files import whole_file

if TYPE_CHECKING:
    from farm3d.apps.coat import Coat
    from farm3d.data.photo import Photo
    from farm3d.model.reconstructor import Reconstruction

__all__ = ["write_products"]


def write_products(
    result: Reconstruction,
    picture: Photo,
    photo: Path,
    options: ProductOptions,
    *,
    coat: Coat | None = None,
    facts: Mapping[str, Any] | None = None,
    also: Mapping[Path, bytes] | None = None,
) -> None:
    """Write the files of one animal.

    Args:
        result: what the Reconstructor returned.
        picture: the upright photograph, for the contact sheet.
        photo: whose stem names the files.
        options: where they go and how.
        coat: another animal's, put on before anything is drawn or written.
        facts: further entries of the sidecar.
        also: further files by path, which appear with the others.

    Raises:
        OutputError: a file cannot be written; then none is there that was not there before.
    """
    from farm3d.export.glb import glb_bytes, sidecar_text
    from farm3d.export.sheet import contact_sheet, turntable_frames
    from farm3d.motion.clips import make_clips

    if coat is not None:
        result = coat.worn_by(result)
    clips = make_clips(result.animal)
    document = {
        "iou": round(result.iou, 4),
        "view_confidence": result.view_confidence,
        "runner_up": None if result.runner_up is None else vars(result.runner_up),
        **({"categories": {guess.category: round(guess.probability, 4) for guess in result.categories}} if result.categories else {}),
        "hypotheses": [vars(hypothesis) for hypothesis in result.hypotheses],
        "texture_seen": result.seen if coat is None else coat.seen,
        "timings_s": result.timings_s,
        "seed": options.seed,
        "warnings": list(result.warnings),
        **({} if coat is None else {"texture_from": coat.facts()}),
        **(facts or {}),
    }
    contents = {
        product(photo, ".json", options): sidecar_text(result.animal, extra=document).encode(),
        product(photo, ".png", options): contact_sheet(result, picture, clips=clips),
        product(photo, ".glb", options): glb_bytes(
            result.animal, clips=clips, texture_px=options.texture_px, with_light=options.with_light
        ),
        **(also or {}),
    }
    # All are on the disk before one appears: when it is full the old set stays or none, and an interrupt hardly falls between two.
    # The first entered is the last to appear: where the sidecar stands, the other files stand too.
    film = [product(photo, ".mp4", options)] if options.turntable else []
    first, *others = contents
    with contextlib.ExitStack() as stack:
        parts = {path: stack.enter_context(whole_file(path)) for path in (first, *film, *others)}
        for path, data in contents.items():
            with parts[path].open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        for path in film:
            from farm3d.export.video import encode_film

            encode_film(turntable_frames(result.animal), parts[path], fps=24)
