"""``farm3d morph``: the animals between two GLBs of one category, as GLBs and as a strip of pictures."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from farm3d.apps.create_options import MorphOptions
from farm3d.apps.progress import say
from farm3d.core.errors import InputError, OutputError
from farm3d.core.files import remove_leftovers, whole_file, write_whole

if TYPE_CHECKING:
    from farm3d.motion.clips import Clip
    from farm3d.structures import Animal

__all__ = ["morph_files"]

_USUAL_STEPS = 5
_MOST_STEPS = 101  # the files are named by per cent


def morph_files(options: MorphOptions) -> int:
    """Write one animal or all steps and the strip; return 0.

    Raises:
        InputError: options that do not fit together, a file that is no GLB of ours, or animals of different categories or models.
        OutputError: the files cannot be written, or stand where others' are.
    """
    from farm3d.apps.products import output_folder, refuse_foreign_files, refuse_writing_over
    from farm3d.data.photo import shown_path
    from farm3d.model.morph import morph
    from farm3d.motion.clips import make_clips

    _require_sensible(options)
    inputs = (options.first, options.last)
    if options.at is not None:
        refuse_writing_over(inputs, [options.out])
        refuse_foreign_files([options.out], overwrite=options.overwrite)
        if not options.overwrite and os.path.lexists(options.out):  # of our own, but which? It may be a photograph's
            hint = "choose another --out file, or let --overwrite replace it"
            raise OutputError(f"{shown_path(options.out)}: exists", hint=hint)
        remove_leftovers([options.out])
        a, b = _read(options)
        animal = morph(a, b, options.at)
        write_whole(options.out, _glb(animal, make_clips(animal), options))
        say(shown_path(options.out))
        return 0
    count = options.steps or _USUAL_STEPS
    shares = [step / (count - 1) for step in range(count)]
    name = f"{options.first.stem}_to_{options.last.stem}"
    paths = [options.out / f"{name}_{round(100 * share):03d}.glb" for share in shares]
    strip = options.out / f"{name}.png"
    refuse_writing_over(inputs, [*paths, strip])
    with output_folder(options.out):
        refuse_foreign_files([*paths, strip], overwrite=options.overwrite)
        remove_leftovers([*paths, strip])
        a, b = _read(options)
        _write_all(a, b, shares, paths, strip, options)
    for path in (*paths, strip):
        say(shown_path(path))
    return 0


def _write_all(a: Animal, b: Animal, shares: list[float], paths: list[Path], strip: Path, options: MorphOptions) -> None:
    """Write every step and the strip; they appear together, the strip last."""
    from farm3d.export.filmstrip import draw_strip_panels, filmstrip, strip_frame
    from farm3d.model.morph import morph
    from farm3d.motion.clips import make_clips

    frame = strip_frame([a, b])
    columns = []
    with contextlib.ExitStack() as stack:
        parts = [stack.enter_context(whole_file(path)) for path in (strip, *paths)]
        for share, part in zip(shares, parts[1:], strict=True):
            animal = morph(a, b, share)
            clips = make_clips(animal)
            part.write_bytes(_glb(animal, clips, options))
            columns.append((f"{100 * share:.0f} %, {animal.height_m:.2f} m", draw_strip_panels(animal, clips, frame)))
        parts[0].write_bytes(filmstrip(columns))


def _glb(animal: Animal, clips: Sequence[Clip], options: MorphOptions) -> bytes:
    from farm3d.export.glb import glb_bytes

    return glb_bytes(animal, clips=clips, texture_px=options.texture_px or animal.albedo.shape[0])


def _read(options: MorphOptions) -> list[Animal]:
    from farm3d.export.glb_animal import kin_from_files

    return kin_from_files((options.first, options.last))


def _require_sensible(options: MorphOptions) -> None:
    glb = options.out.suffix.lower() == ".glb"
    if options.at is not None and options.steps is not None:
        raise InputError("--at asks for one animal, --steps for several", hint="give one of the two")
    if options.at is not None and not 0 <= options.at <= 1:
        raise InputError(f"--at {options.at:g}: expected 0 (the first animal) to 1 (the second)")
    if options.at is not None and not glb:
        raise InputError(f"--out {options.out}: expected FILE.glb, since --at asks for one animal", hint=f"name it {options.out.name}.glb")
    if options.at is None and glb:
        raise InputError(f"--out {options.out}: one file for several animals", hint="give a folder, or --at SHARE for one of them")
    if options.steps is not None and not 2 <= options.steps <= _MOST_STEPS:
        raise InputError(f"--steps {options.steps}: expected 2 to {_MOST_STEPS}")
    if options.texture_px is not None and not 64 <= options.texture_px <= 8192:
        raise InputError(f"--texture-px {options.texture_px}: expected 64 to 8192")
