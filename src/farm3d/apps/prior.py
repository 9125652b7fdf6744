"""``farm3d prior``: train the embedded text-to-image model, look at what it draws."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from farm3d.apps.picture_prior import checked_device, open_prior
from farm3d.apps.prior_options import PriorLookOptions, PriorTrainOptions
from farm3d.apps.progress import say_err
from farm3d.apps.stopping import stop_signals
from farm3d.core.errors import InputError

if TYPE_CHECKING:
    from farm3d.training.prior.trainer import Progress

__all__ = ["look_at_prior", "train_prior"]

_USUAL_HOURS = 2.5
_TELL_EVERY_S = 30.0


def train_prior(options: PriorTrainOptions) -> int:
    """Train, or go on training; return 0, or 128 + the signal that stopped it after a checkpoint.

    Raises:
        Farm3DError: data that cannot be used, a state folder of another training, no diffusers, a full disk, a loss that is not finite.
    """
    import torch

    from farm3d.core.claims import claimed
    from farm3d.core.memory import keep_freed_memory
    from farm3d.diffusion.embedded.config import PRESETS
    from farm3d.diffusion.embedded.parts import require_pipeline_place
    from farm3d.diffusion.embedded.pipeline import EmbeddedPrior
    from farm3d.diffusion.loading import require_libraries
    from farm3d.training.prior.card import model_card
    from farm3d.training.prior.picture_cache import open_pictures
    from farm3d.training.prior.schedule import Budget
    from farm3d.training.prior.settings import Settings, quicker_dtype
    from farm3d.training.prior.sheets import draw_sheet, grid_prompts
    from farm3d.training.prior.trainer import Trainer
    from farm3d.training.prior.validation import prior_of

    keep_freed_memory()
    require_libraries("diffusers")  # draws the sample grids; better said now than after a quarter of an hour
    hours = _USUAL_HOURS if options.hours is None and options.samples is None else options.hours
    budget = Budget(hours, options.samples)
    if options.threads is not None and options.threads < 1:
        raise InputError(f"--threads {options.threads}: expected at least 1")
    require_pipeline_place(options.out)
    start = None if options.start is None else EmbeddedPrior.from_pretrained(options.start)
    earlier = None if options.start is None else (options.start / "README.md").read_text(encoding="utf-8")
    with claimed(options.state / ".training.lock") as claim:
        if claim is None:
            raise InputError(f"{options.state}: another training is at work in this folder", hint="wait for it, or choose another --state")
        if options.resume == "never" and any((options.state / "checkpoints").glob("step-*")):
            raise InputError(f"{options.state}: holds a training, and --resume is never", hint="choose another --state folder")
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        size_px = PRESETS[options.size].latents.size_px
        pictures = open_pictures(options.data, options.state / "pictures", size_px=size_px, on_progress=_tell_reading())
        dtype = quicker_dtype() if options.dtype == "auto" else {"bfloat16": torch.bfloat16, "float32": torch.float32}[options.dtype]
        settings = Settings(
            options.size,
            budget,
            seed=options.seed,
            dtype=dtype,
            workers=min(torch.get_num_threads(), 2),
            checkpoint_minutes=options.checkpoint_minutes,
            grid_minutes=options.grid_minutes,
            start=None if start is None else start.digest,
        )
        with stop_signals() as received:
            trainer = Trainer(
                settings,
                pictures,
                options.state,
                start=None if start is None else start.parts,
                should_stop=received,
                report=_tell_progress(),
                warn=_warn,
            )
            say_err(f"{len(pictures)} pictures of {', '.join(pictures.species)}; {budget.words()}; {trainer.steps} steps done")
            trainer.run()
            if number := received():  # also one that came while the end was saved and measured: what follows takes a minute
                _warn(f"stopped after {trainer.steps} steps; the same command goes on from there")
                return 128 + number
        prior = prior_of(trainer.parts)
        draw_sheet(prior, options.state / "samples" / "final.png", rows=[grid_prompts(name) for name in pictures.species])
        prior.save_pretrained(options.out, card=model_card(trainer, command=_command(options), earlier=earlier))
    figures = ", ".join(f"{name} {value:.3f}" for name, value in trainer.figures.items())
    print(f"{options.out}: {trainer.hours:.2f} hours, {trainer.shown} pictures shown; {figures}")
    return 0


def look_at_prior(options: PriorLookOptions) -> int:
    """Draw the sheet; return 0.

    Raises:
        Farm3DError: a model that cannot be opened, no such device, a prompt that is too long, a picture that cannot be written.
    """
    from farm3d.training.prior.sheets import draw_sheet, grid_prompts

    if not (options.species or options.prompts):
        raise InputError("nothing to draw", hint="give --species or --prompts")
    rows = [[prompt] * 8 for prompt in options.prompts] or [grid_prompts(name) for name in options.species]
    prior = open_prior(options.model, device=checked_device(options.device), dtype=options.dtype)
    draw_sheet(prior, options.out, rows=rows, first_seed=options.seed, guidance=options.guidance, steps=options.steps)
    print(options.out)
    return 0


def _command(options: PriorTrainOptions) -> str:
    """Say what was asked, without the places of this machine."""
    budget = f"--samples {options.samples}" if options.samples is not None else f"--hours {options.hours or _USUAL_HOURS:g}"
    data = " ".join(shlex.quote(path.name) for path in options.data)
    start = "" if options.start is None else " --from MODEL"
    return f"farm3d prior train --data {data} --out OUT --state STATE {budget} --size {options.size}{start} --seed {options.seed}"


def _tell_reading() -> Callable[[int, int], None]:
    told = [time.monotonic()]

    def tell(done: int, total: int) -> None:
        if time.monotonic() - told[0] > _TELL_EVERY_S or done == total:
            told[0] = time.monotonic()
            say_err(f"reading pictures: {done} of {total}")

    return tell


def _tell_progress() -> Callable[[Progress], None]:
    """Return what prints a line now and then: phase, share done, pace, loss and the time left in the phase."""
    told = [0.0]

    def tell(progress: Progress) -> None:
        if time.monotonic() - told[0] < _TELL_EVERY_S and progress.done < 1:
            return
        told[0] = time.monotonic()
        left = "" if progress.left_s is None else f", {max(progress.left_s, 0) / 60:.1f} min left in this phase"
        pace = f"{progress.pictures_per_s:.1f} pictures a second"
        say_err(f"{progress.phase}: {100 * progress.done:.1f} %, loss {progress.loss:.4f}, {pace}{left}")

    return tell


def _warn(line: str) -> None:
    say_err(f"farm3d: {line}")
