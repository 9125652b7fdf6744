"""``farm3d create``: words to a picture to an animal's files."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm3d.apps.create_options import CreateOptions
from farm3d.apps.progress import say
from farm3d.core.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from farm3d.apps.from_words import FromWords

__all__ = ["create"]

_MAX_THREADS = 1024
_MAX_NAME_BYTES = 235  # so that NAME_picture.png is a name that a file can have


def create(options: CreateOptions) -> int:
    """Draw, choose, reconstruct, write; return 0.

    Raises:
        Farm3DError: words or options that cannot be used, no model for them, no picture that shows one whole animal, or a full disk.
    """
    from farm3d.apps.models import shipped_categories
    from farm3d.apps.words import category_in, checked_words, slug

    words = checked_words(options.words)  # before anything heavy is loaded
    category = options.category or category_in(words, shipped_categories())

    from farm3d.apps.coat import check_coat_options, coat_inputs
    from farm3d.apps.from_words import Tries
    from farm3d.apps.picture_prior import checked_device
    from farm3d.apps.products import finished, output_folder, products, refuse_foreign_files, refuse_other_results, refuse_writing_over
    from farm3d.core.files import remove_leftovers
    from farm3d.data.photo import shown_path

    tries = Tries(
        options.tries,
        options.fits,
        options.seed,
        options.guidance,
        options.steps,
        options.any_animal,
        options.reader,
        options.refine_steps,
        options.height_m,
        options.texture_px,
    )
    tries.check()
    if options.threads is not None and not 1 <= options.threads <= _MAX_THREADS:
        raise InputError(f"--threads: expected 1 to {_MAX_THREADS}, got {options.threads}")
    name = _checked_name(options.name) if options.name is not None else slug(words)
    device = checked_device(options.device, kinds=("cpu", "cuda"))
    check_coat_options(options)
    if options.turntable:
        from farm3d.export.video import require_ffmpeg

        require_ffmpeg()
    photo = Path(f"{name}.png")
    picture = options.out / f"{name}_picture.png"
    paths = [*products(photo, options), picture]
    refuse_writing_over(coat_inputs(options), paths)
    with output_folder(options.out):
        remove_leftovers(paths)
        request = _request(options, words, category)
        refuse_other_results(photo, options, request)
        if not options.overwrite and os.path.isfile(picture) and finished(photo, options, request):
            say(f"{name} is finished already (--overwrite makes it anew, --name another one)")
            return 0
        refuse_foreign_files(paths, overwrite=options.overwrite)
        _made(options, words, category, tries, photo=photo, picture=picture, device=device, request=request)
        titles = (
            "model:        ",
            "contact sheet:",
            "camera, pose: ",
            *(["turntable:    "] if options.turntable else []),
            "picture:      ",
        )
        for title, path in zip(titles, paths, strict=True):
            say(f"{title} {shown_path(path)}")
    return 0


def _request(options: CreateOptions, words: str, category: str) -> dict[str, Any]:
    """Return what decides how the files come out, JSON-ready."""
    from farm3d.apps.products import request_of

    names = ("tries", "fits", "guidance", "steps", "any_animal", "refine_steps", "height_m")
    files = {"texture_from": options.texture_from, "texture_mask": options.texture_mask}
    more = request_of(options, names, files=files, models=("prior", "reader", "segmenter"))
    return {"words": words, "category": Path(category).name, **more}


def _made(
    options: CreateOptions, words: str, category: str, tries: Any, *, photo: Path, picture: Path, device: str, request: dict[str, Any]
) -> None:
    """Make one animal and write its files."""
    import torch

    from farm3d.apps.coat import find_coat
    from farm3d.apps.fit_bar import FitBar
    from farm3d.apps.from_words import animal_from_words
    from farm3d.apps.picture_prior import open_prior, shipped_prior
    from farm3d.apps.product_files import write_products
    from farm3d.apps.products import REQUEST
    from farm3d.data.photo import photo_from_image
    from farm3d.data.segment import OnnxSegmenter
    from farm3d.model.reconstructor import Reconstructor

    started = time.perf_counter()
    torch.set_num_threads(options.threads or os.cpu_count() or 1)
    reconstructor = Reconstructor.from_pretrained(category)
    segmenter = OnnxSegmenter(options.segmenter, threads=options.threads)
    prior = open_prior(options.prior or shipped_prior(), device=device, dtype="float32" if device == "cpu" else "auto")
    with FitBar(photo.stem) as bar:
        coat = find_coat(reconstructor, options, segmenter=segmenter, callback=bar.update)

        def told(number: int, stage: str, step: Any) -> None:
            if stage == "drawing":
                bar.say(f"picture {number} of {tries.pictures(prior)}: step {step[0]} of {step[1]}")
            else:
                bar.update(step)

        made = animal_from_words(
            words, reconstructor=reconstructor, prior=prior, tries=tries, segmenter=segmenter, name=picture.name, callback=told
        )
        bar.say("writing")
        photograph = photo_from_image(made.pixels, name=picture.name)
        also = {picture: _png(made.pixels)}
        write_products(made.result, photograph, photo, options, coat=coat, facts={"drawn": made.facts, REQUEST: request}, also=also)
    say(f"{photo.stem}: {_choice(made)}, {time.perf_counter() - started:.1f} s")
    for warning in (*made.result.warnings, *(coat.warnings if coat is not None else ())):
        say(f"  note: {warning}")


def _choice(made: FromWords) -> str:
    """Say in a line which picture was taken and why."""
    fit = [candidate for candidate in made.candidates if candidate.reason is None]
    refused = [candidate.reason or "" for candidate in made.candidates if candidate.reason is not None]
    told = "".join(f", {refused.count(reason)} refused: {reason}" for reason in dict.fromkeys(refused))
    taken = made.taken
    return (
        f"took picture {taken.number} of {len(made.candidates)}, best score of {len(fit)} ({taken.score:.2f}{told}), "
        f"outline agreement {made.result.iou:.2f}"
    )


def _checked_name(name: str) -> str:
    if name in (".", "..") or name.startswith(".") or any(letter in name for letter in "/\\\0") or not name.isprintable():
        raise InputError(f"--name {name!r}: no name for a file", hint="letters, digits and hyphens, without a folder")
    if len(os.fsencode(name)) > _MAX_NAME_BYTES:
        raise InputError(f"--name: {len(os.fsencode(name))} bytes, expected at most {_MAX_NAME_BYTES}", hint="give a shorter one")
    return name


def _png(pixels: np.ndarray) -> bytes:
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    from farm3d.core.version import __version__

    ours = PngInfo()  # by which a later run knows that it may replace the file
    ours.add_text("Software", f"farm3d {__version__}")
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", pnginfo=ours)
    return buffer.getvalue()
