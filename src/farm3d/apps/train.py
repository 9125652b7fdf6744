"""``farm3d train``: learn a category."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from farm3d.apps.picture_prior import checked_device
from farm3d.apps.progress import progress, say_err
from farm3d.apps.stopping import stop_signals
from farm3d.apps.train_options import TrainOptions
from farm3d.core.errors import InputError, OutputError

if TYPE_CHECKING:
    from farm3d.core.shapes import Tensor
    from farm3d.model.category.learned import LearnedCategory
    from farm3d.training.category.trainer import CategoryTrainer, Progress, Run
    from farm3d.training.category.virtual_views import Critic

__all__ = ["train"]

_TELL_EVERY_S = 30.0
_KEPT_PX = 128
_LARGEST = 1e6
_WIDTHS = {
    **dict.fromkeys(("code", "local", "bone_width"), (8, 1024)),
    "bone_points": (1, 9),
    "looks": (1, 4),
    "local_scale": (1, 4),
    "feature_channels": (1, 64),
}
"""Whole numbers of the networks: least and most."""
_PLACES = {"box_length": ("box", 2), "elevation_deg": ("elevation_deg", 0), "elevation_reach_deg": ("elevation_deg", 1)}
"""Numbers that are one of several in a field: half the box's length, and middle and reach of the camera's height."""
_LEAST = {"box_length": 2.4, "cell_early": 0.05, "cell_late": 0.05, **{name: float(least) for name, (least, _) in _WIDTHS.items()}}
_SHAPE_FROM = 0.06  # of a run that begins with an animal's shape
_GOES_ON = "poses"  # the preset that begins with all of a learned category, not with its shape alone
_LEARNED = "give a folder that `farm3d train` wrote, or horse-learned"
_LAST_NOISE = 0.5  # section 4.2's advice for Stable Diffusion
_TIMES = (
    *("size_from", "cell_from", "sharp_at", "table_from", "explore", "words_until", "standing_until", "thin_until"),
    *("shape_from", "articulation_from", "centred_from", "colour_from", "deformation_from", "virtual_from", "virtual_until"),
    *("decay_from", "decay_to"),
)
_RATES = ("rate_shape", "rate_features", "rate_networks")
_CRITICS = ("critic_guidance", "critic_noise", "critic_noise_end")
_RANGES = {
    "steps": (1, math.inf),
    "threads": (1, 1024),
    "look_every": (1, math.inf),
    "seed": (0, 2**63 - 1),
    "height_m": (0.01, 100),
    "checkpoint_minutes": (0, _LARGEST),
    "critic_guidance": (0, _LARGEST),
    "critic_noise": (-_LARGEST, _LARGEST),
    "critic_noise_end": (-_LARGEST, _LARGEST),
}
_PARTS = ("articulation", "deformation", "hypotheses", "elevation", "local-features", "tail")


def train(options: TrainOptions) -> int:
    """Train, or go on training; return 0, or 128 + the signal that stopped it after a checkpoint.

    Raises:
        Farm3DError: data or a model that cannot be used, a state folder of another training, a full disk, a number that is not finite.
    """
    import torch

    from farm3d.core.claims import claimed
    from farm3d.model.category.config import CategoryConfig
    from farm3d.model.category.learned import LearnedCategory
    from farm3d.training.category.card import model_card
    from farm3d.training.category.finish import FinishOptions, finished_prior, usual_height_m
    from farm3d.training.category.load import in_components_of, load_pictures
    from farm3d.training.category.presets import PRESETS
    from farm3d.training.category.ranks import launched_ranks
    from farm3d.training.category.sheets import draw_training_sheet
    from farm3d.training.category.trainer import CategoryTrainer

    _require_sensible(options)
    begun = None if options.start is None else _learned(options.start)
    if options.show_schedule:
        print(_table(_planned(options, "", begun, channels=CategoryConfig("").channels)[0]))
        return 0
    if begun is None and options.preset == _GOES_ON:
        raise InputError(f"--preset {_GOES_ON} goes on with a learned category: --start is missing", hint=_LEARNED)
    data, out, state = _folders(options)
    asked = checked_device(options.device, kinds=("cpu", "cuda"))
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    with progress("reading pictures") as bar:
        compared_px = PRESETS[options.preset]("", channels=1).schedule.size_late
        size_px = max(_KEPT_PX, compared_px)  # what is compared must not be finer than what is kept
        loaded = load_pictures(data, features=options.features, size_px=size_px, on_progress=bar)
    _require_same_animal(out, loaded.category)
    if begun is not None and options.preset == _GOES_ON:
        loaded = in_components_of(loaded, begun)
    _, channels, grid, _ = loaded.pictures.features.shape
    run, start = _planned(options, loaded.category, begun, channels=channels, grid=grid)
    lock = state / ".training.lock"
    with launched_ranks() as ranks, claimed(lock) if ranks.first else contextlib.nullcontext(True) as claim:
        if claim is None:
            raise InputError(f"{state}: another training is at work in this folder", hint="wait for it, or choose another --state")
        device = ranks.device(asked, gpus=torch.cuda.device_count())

        def look(trainer: CategoryTrainer) -> None:
            at = run.schedule.at(min(trainer.step, run.schedule.steps - 1))
            path = state / "sheets" / f"step-{trainer.step:08d}.png"
            if trainer.scaffold is not None:
                draw_training_sheet(trainer.model, trainer.scaffold, trainer.pictures, at, run.weights, path, critic=trainer.critic)

        with stop_signals() as received:

            def stopped() -> int:
                return ranks.largest(received())

            trainer = CategoryTrainer(
                run,
                loaded.pictures,
                state,
                start=start,
                critic=_critic(options, loaded.category, device),
                should_stop=stopped,
                report=_tell(),
                warn=lambda line: say_err(f"farm3d: {line}"),
                look=look,
                look_every=options.look_every,
                checkpoint_minutes=options.checkpoint_minutes,
                ranks=ranks,
                device=device,
            )
            if ranks.first:
                count, together = len(loaded.pictures), f", {ranks.count} processes" if ranks.count > 1 else ""
                say_err(f"{count} pictures of {loaded.category}; {run.schedule.steps} steps, {trainer.step} done{together}")
            trainer.run()
            if number := stopped():  # also one that came while the end was saved and drawn: what follows takes minutes
                if ranks.first:
                    say_err(f"farm3d: stopped after {trainer.step} steps; the same command goes on from there")
                return 128 + number
        if not ranks.first:
            return 0
        assert trainer.scaffold is not None
        say_err("cutting the template and reading its features off the pictures: a minute or two")
        at = run.schedule.at(trainer.step - 1)
        prior = finished_prior(
            trainer.model,
            trainer.scaffold,
            loaded.pictures,
            loaded.basis,
            at,
            run.weights,
            encoder=loaded.encoder,
            source=f"{len(loaded.pictures)} pictures, digest {loaded.pictures.digest[:16]}",
            options=FinishOptions(height_m=options.height_m or usual_height_m(loaded.category)),
        )
        learned = LearnedCategory.of(
            trainer.model.cpu(),
            trainer.scaffold.to("cpu"),
            loaded.basis,
            prior=prior,
            encoder=loaded.encoder,
            encoder_digest=loaded.encoder_digest,
        )
        learned.save_pretrained(out, card=model_card(trainer, prior=options.prior, preset=options.preset, more=_words(options)))
    print(f"{out}: {trainer.step} steps in {trainer.hours:.2f} hours; {state / 'sheets'} shows how it went")
    return 0


def _critic(options: TrainOptions, category: str, device: str) -> Critic | None:
    """Open the model that judges virtual views, and ask it in its own words.

    The shipped kind with the noise and guidance that ``farm3d prior judge`` found best; Stable Diffusion as section 4.2 has it.
    """
    if options.prior is None:
        return None
    from farm3d.diffusion.distill import FOR_EMBEDDED, DistillOptions
    from farm3d.diffusion.prior import load_prior
    from farm3d.training.category.virtual_views import Critic, CriticOptions
    from farm3d.training.dataset.phrases import critic_prompts

    model = load_prior(options.prior, device=device)
    barn = model.draws_alpha
    distill, end = (FOR_EMBEDDED, None) if barn else (DistillOptions(), _LAST_NOISE)
    if options.critic_guidance is not None:
        distill = dataclasses.replace(distill, guidance=options.critic_guidance)
    if options.critic_noise is not None:
        low, high = options.critic_noise
        distill, end = dataclasses.replace(distill, t_min=low, t_max=high), None
    if options.critic_noise_end is not None:
        end = options.critic_noise_end
    return Critic(model, critic_prompts(category, barn=barn), CriticOptions(distill, t_max_end=end))


def _planned(
    options: TrainOptions, category: str, begun: LearnedCategory | None, *, channels: int, **of_data: int
) -> tuple[Run, dict[str, Tensor] | None]:
    """Return the run that the options ask for, and the tensors that it begins with, if any."""
    from farm3d.training.category.presets import PRESETS

    more = {} if options.steps is None else {"steps": options.steps}
    run = PRESETS[options.preset](category, channels=channels, seed=options.seed, **more)
    run = dataclasses.replace(run, config=dataclasses.replace(run.config, **of_data))
    start = None
    if begun is not None:
        run, start = (_gone_on if options.preset == _GOES_ON else _begun)(run, begun)
    return _changed(_without(run, options.without), options.change), start


def _begun(run: Run, learned: LearnedCategory) -> tuple[Run, dict[str, Tensor]]:
    """Return the run that begins with the shape of a learned category, held until views are found, and that shape's tensors."""
    there = learned.model
    sizes = {name: getattr(there.config, name) for name in ("sdf_octaves", "sdf_hidden", "sdf_layers", "sdf_fall")}
    config, schedule = dataclasses.replace(run.config, **sizes), dataclasses.replace(run.schedule, shape_from=_SHAPE_FROM)
    return dataclasses.replace(run, config=config, schedule=schedule), {f"shape.{n}": v for n, v in there.shape.state_dict().items()}


def _gone_on(run: Run, learned: LearnedCategory) -> tuple[Run, dict[str, Tensor]]:
    """Return the run that begins with all of a learned category, its sizes and its grid too, and all tensors of its model."""
    there, cell = learned.model, learned.scaffold.cell
    config = dataclasses.replace(there.config, category=run.config.category, looks=max(run.config.looks, there.config.looks))
    schedule = dataclasses.replace(run.schedule, cell_early=cell, cell_late=cell)
    return dataclasses.replace(run, config=config, schedule=schedule), dict(there.state_dict())


def _learned(model: str) -> LearnedCategory:
    from farm3d.model.category.learned import LearnedCategory, LearnedConfig
    from farm3d.model.folder import model_kind, model_path

    if model_kind(path := model_path(model)) not in ("", LearnedConfig.__name__):
        raise InputError(f"--start {model}: not a learned category", hint=_LEARNED)
    return LearnedCategory.from_pretrained(path)


def _without(run: Run, parts: tuple[str, ...]) -> Run:
    names = [part.replace("-", "_") for part in parts if part != "view-words"]
    weights = dataclasses.replace(run.weights, view_words=0.0, view=0.0) if "view-words" in parts else run.weights
    switched = dataclasses.replace(run.config.parts, **dict.fromkeys(names, False))
    return dataclasses.replace(run, config=dataclasses.replace(run.config, parts=switched), weights=weights)


def _changed(run: Run, changes: tuple[str, ...]) -> Run:
    """Return the run with other weights, times and sizes, ``NAME=NUMBER`` each.

    Raises:
        InputError: no such name, or a number that cannot be.
    """
    from farm3d.model.fields import HALF_BOX

    weights = {field.name: _LARGEST for field in dataclasses.fields(run.weights)}
    slacks = {"words_slack_deg": 180.0, "words_oblique_deg": 180.0}
    times = {**dict.fromkeys(_TIMES, 1.0), **slacks, "cell_early": 0.5, "cell_late": 0.5, **dict.fromkeys(_RATES, 0.1)}
    sizes = {"sdf_fall": 2.0, "azimuth_reach_deg": 89.0, "box_length": HALF_BOX, "elevation_deg": 60.0, "elevation_reach_deg": 60.0}
    sizes |= {**{name: most for name, (_, most) in _WIDTHS.items()}, "feature_channels": run.config.channels}
    for change in changes:
        name, _, text = change.partition("=")
        most = (weights | times | sizes).get(name)
        if most is None:
            raise InputError(f"--set {change:.60}: no such number", hint=f"names: {', '.join((*weights, *times, *sizes))}")
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        least = _LEAST.get(name, 0)
        number = "WHOLE_NUMBER" if name in _WIDTHS else "NUMBER"
        if not least <= value <= most or (name in _WIDTHS and value % 1):
            raise InputError(f"--set {change:.60}: expected NAME={number}, from {least:g} to {most:g}", hint=f"e.g. --set {name}={least:g}")
        part = "weights" if name in weights else "schedule" if name in times else "config"
        changed = {name: int(value) if name in _WIDTHS else value}
        if name in _PLACES:
            field, place = _PLACES[name]
            values = getattr(run.config, field)
            changed = {field: (*values[:place], value, *values[place + 1 :])}
        run = dataclasses.replace(run, **{part: dataclasses.replace(getattr(run, part), **changed)})
    return run


def _words(options: TrainOptions) -> list[str]:
    """Return the words of the command, beside preset, steps and seed, that decide the result."""
    numbers = {
        "--critic-guidance": options.critic_guidance,
        "--critic-noise": options.critic_noise,
        "--critic-noise-end": options.critic_noise_end,
        "--threads": options.threads,
    }
    said = {"--start": () if options.start is None else (Path(options.start).name,), "--without": options.without, "--set": options.change}
    said |= {name: tuple(map(str, value if isinstance(value, tuple) else (value,))) for name, value in numbers.items() if value is not None}
    return [word for name, values in said.items() if values for word in (name, *values)]


def _table(run: Run) -> str:
    """Return losses with weights and times, then all other times and sizes, a line each."""
    from farm3d.training.category.schedule import losses_table

    lines = [f"losses (times are shares of the run of {run.schedule.steps} steps)", losses_table(run.weights, run.schedule)]
    lines += ["schedule (shares of the run unless said otherwise)"]
    lines += [f"  {field.name:19} {getattr(run.schedule, field.name)}" for field in dataclasses.fields(run.schedule)]
    lines += ["sizes", *(f"  {name:19} {getattr(run.config, name)}" for name in ("sdf_fall", "azimuth_reach_deg", *_WIDTHS))]
    lines += [f"  {name:19} {getattr(run.config, field)[place]}" for name, (field, place) in _PLACES.items()]
    return "\n".join(lines)


def _tell() -> Callable[[Progress], None]:
    told = [0.0]

    def tell(at: Progress) -> None:
        if time.monotonic() - told[0] < _TELL_EVERY_S and at.step < at.steps:
            return
        told[0] = time.monotonic()
        figures = ", ".join(f"{name} {at.figures[name]:.3f}" for name in ("loss", "iou", "feature") if name in at.figures)
        pace = f"{1000 / at.steps_per_s:.0f} ms a step" if at.steps_per_s else ""
        say_err(f"step {at.step} of {at.steps}: {figures}; {pace}, {at.left_s / 60:.0f} min left")

    return tell


def _require_sensible(options: TrainOptions) -> None:
    for part in options.without:
        if part not in (*_PARTS, "view-words"):
            raise InputError(f"--without {part}: no such part", hint=f"parts: {', '.join(_PARTS)}, view-words")
    for name, (least, most) in _RANGES.items():
        given = getattr(options, name)
        for value in given if isinstance(given, tuple) else (given,):
            if value is not None and not least <= value <= most:  # nor what is no number at all
                so = f"at least {least:g}" if most > _LARGEST else f"{least:g} to {most:g}"
                raise InputError(f"--{name.replace('_', '-')} {value}: expected {so}")
    said = [f"--{name.replace('_', '-')}" for name in _CRITICS if getattr(options, name) is not None]
    if said and options.prior is None:
        raise InputError(f"{said[0]}: says how --prior judges, which is left out", hint="give both, or neither")


def _folders(options: TrainOptions) -> tuple[Path, Path, Path]:
    """Return data, out and state; refuse what would fail after hours.

    Raises:
        InputError: one of them is missing, or one would be written into another.
        OutputError: something else stands at ``--out``, or it cannot be made.
    """
    from farm3d.model.category.learned import LearnedConfig
    from farm3d.model.folder import require_model_place

    data, out, state = options.data, options.out, options.state
    if data is None or out is None or state is None:
        missing = [f"--{name}" for name, path in (("data", data), ("out", out), ("state", state)) if path is None]
        raise InputError(f"missing: {', '.join(missing)}", hint="see `farm3d train --help`")
    real = os.path.realpath(out)
    for name, other in (("--state", os.path.realpath(state)), ("--data", os.path.realpath(data))):
        if other == real or other.startswith(real + os.sep):
            raise InputError(f"--out {out}: is {name}'s folder, or holds it", hint="choose another --out folder")
    if os.path.lexists(state) and not os.path.isdir(state):
        raise InputError(f"--state {state}: not a folder", hint="choose another --state folder")
    require_model_place(out, LearnedConfig.__name__)
    above = next(parent for parent in Path(real).parents if os.path.lexists(parent))
    if not os.path.isdir(above) or not os.access(above, os.W_OK | os.X_OK):
        raise OutputError(f"--out {out}: cannot be made in {above}", hint="choose another --out folder")
    return data, out, state


def _require_same_animal(out: Path, category: str) -> None:
    from farm3d.model.category.learned import LearnedCategory

    if not os.path.lexists(out):
        return
    there = LearnedCategory.from_pretrained(out).model.config.category
    if there != category:
        raise InputError(f"--out {out}: holds a learned {there}, and the pictures are of {category}", hint="choose another --out folder")
