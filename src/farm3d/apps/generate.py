"""``farm3d generate``: a category's training set from words."""

from __future__ import annotations

import functools
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

from farm3d.apps.data_passes import finish_pictures, make_features, require_backbone
from farm3d.apps.generate_options import GenerateOptions
from farm3d.apps.picture_prior import USUAL, checked_device, open_prior, shipped_prior, usual_dtype
from farm3d.apps.shard_jobs import Hands, make_all
from farm3d.core.errors import InputError

if TYPE_CHECKING:
    from farm3d.diffusion.prior import PicturePrior
    from farm3d.training.dataset.drawing import DrawSettings
    from farm3d.training.dataset.phrases import PhraseBook

__all__ = ["generate"]

_USUAL_PX = 256
_LOOKED_AT = 4


def generate(options: GenerateOptions) -> int:
    """Draw the pictures that are not there yet, then their features; return 0.

    Raises:
        Farm3DError: options that do not fit together, a model that cannot be opened, no segmenter, a folder with another data set, a full
            disk.
    """
    from farm3d.training.dataset.drawing import open_drawing

    _require_sensible(options)
    device = checked_device(options.device)
    workers = 1 if options.workers is None and device != "cpu" else options.workers
    hands = Hands(workers, options.shard, options.ray)
    book = None if options.prompts is None else _book_of_file(options)
    source = options.prior or shipped_prior()
    if not options.no_features:
        require_backbone(options.encoder)
    dtype = _dtype(options, source, device)
    prior = open_prior(source, device=device, dtype=dtype)
    settings = _settings(options, prior, source, _with_views(book or _phrase_book(options, prior), options), (device, dtype))
    plan = settings.plan(options.count, options.per_shard)
    here = functools.partial(open_drawing, settings, prior)
    make_draw = functools.partial(open_drawing, settings)
    _, pace = make_all(options.out, plan, make_draw, hands, words=f"{settings.name}: pictures", here=here)
    if finish_pictures(options.out, plan, pace) and not options.no_features:
        name = f"{plan.name}-features"
        make_features(options.out, plan, name=name, encoder=options.encoder, dims=options.dims, hands=hands)
    return 0


def _require_sensible(options: GenerateOptions) -> None:
    for name, least, most in (("attempts", 1, 1000), ("batch", 1, 1024), ("dims", 1, 4096), ("seed", 0, 1 << 62)):
        value = getattr(options, name)
        if not least <= value <= most:
            raise InputError(f"--{name} {value}: expected {least} to {most}")
    if options.per_shard < 1 or options.per_shard % options.batch:
        raise InputError(
            f"--per-shard {options.per_shard}: expected a multiple of --batch {options.batch}: pictures drawn together lie in one shard"
        )
    if options.size_px is not None and not 16 <= options.size_px <= 2048:
        raise InputError(f"--size-px {options.size_px}: expected 16 to 2048")
    if options.steps is not None and not 1 <= options.steps <= 10_000:
        raise InputError(f"--steps {options.steps}: expected 1 to 10000")
    if options.guidance is not None and not (math.isfinite(options.guidance) and options.guidance >= 0):
        raise InputError(f"--guidance {options.guidance}: expected a number of 0 or more")
    if options.prompts is not None and options.phrases != "auto":
        raise InputError("--prompts and --phrases: the words come either from your file or from a phrase book", hint="leave out one")
    if not re.fullmatch(r"[A-Za-z][A-Za-z -]{0,38}", options.category):
        raise InputError(f"'{options.category:.40}': no name for a category", hint="an English noun, such as horse or polar bear")


def _book_of_file(options: GenerateOptions) -> PhraseBook:
    from farm3d.training.dataset.prompt_file import read_prompt_file

    assert options.prompts is not None
    return read_prompt_file(options.prompts)


def _phrase_book(options: GenerateOptions, prior: PicturePrior) -> PhraseBook:
    from farm3d.training.dataset.phrases import embedded_book, stable_diffusion_book

    embedded = prior.draws_alpha if options.phrases == "auto" else options.phrases == "embedded"
    return embedded_book(options.category) if embedded else stable_diffusion_book(options.category)


def _with_views(book: PhraseBook, options: GenerateOptions) -> PhraseBook:
    from farm3d.training.dataset.phrases import read_view_shares

    return book.with_views(read_view_shares(options.views)) if options.views else book


def _dtype(options: GenerateOptions, source: str, device: str) -> str:
    if options.dtype != "auto":
        return options.dtype
    return _dtype_of_set(options) or usual_dtype(source, device)


def _dtype_of_set(options: GenerateOptions) -> str | None:
    """Return what a set that was begun is drawn in: the quicker one is measured, and may be another on another machine."""
    from farm3d.core.shard_plan import read_plan

    path = options.out / f"{_name(options)}.plan.json"
    value = read_plan(path).fingerprint.get("dtype") if path.is_file() else None
    return value if value in ("float32", "bfloat16", "float16") else None


def _name(options: GenerateOptions) -> str:
    return options.name or f"{options.category.lower().replace(' ', '-')}-generated"


def _settings(options: GenerateOptions, prior: PicturePrior, source: str, book: PhraseBook, where: tuple[str, str]) -> DrawSettings:
    from farm3d.training.dataset.drawing import DrawSettings

    for texts in ([prompt.text for prompt in book.prompts], [prompt.negative for prompt in book.prompts]):
        prior.embed(sorted(set(texts), key=len)[-_LOOKED_AT:])  # what is too long is better said now
    guidance, steps = USUAL[prior.draws_alpha]
    mask_model, mask_digest = _segmenter(options, prior)
    reader, reader_digest = _reader(options, prior)
    return DrawSettings(
        name=_name(options),
        category=options.category,
        seed=options.seed,
        prior=source,
        prior_name=prior.name,
        prior_digest=prior.digest,
        phrases=book.name,
        prompts=book.prompts,
        book_digest=book.digest,
        guidance=guidance if options.guidance is None else options.guidance,
        steps=steps if options.steps is None else options.steps,
        size_px=min(_USUAL_PX, prior.size_px) if options.size_px is None else options.size_px,
        batch=options.batch,
        attempts=options.attempts,
        any_animal=options.any_animal,
        reader=reader,
        reader_digest=reader_digest,
        mask_model=mask_model,
        mask_digest=mask_digest,
        device=where[0],
        dtype=where[1],
    )


def _reader(options: GenerateOptions, prior: PicturePrior) -> tuple[Path | None, str | None]:
    from farm3d.model.caption_reader import CaptionReader, reader_folder

    path = reader_folder(options.reader, usual=prior.draws_alpha)
    return path, None if path is None else CaptionReader.from_pretrained(path).digest


def _segmenter(options: GenerateOptions, prior: PicturePrior) -> tuple[Path | None, str | None]:
    from farm3d.core.files import sha256_of
    from farm3d.data.segment import find_segmenter

    if prior.draws_alpha:
        if options.mask_model is not None:
            raise InputError(f"--mask-model: {prior.name} draws silhouettes itself", hint="leave it out")
        return None, None
    path = find_segmenter(options.mask_model)
    return path, sha256_of(path)
