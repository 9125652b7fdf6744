"""What ``farm3d prior`` can be told: frozen dataclasses whose field comments are the help texts. Light, as ``options.py`` is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

__all__ = ["PriorJudgeOptions", "PriorLookOptions", "PriorReaderOptions", "PriorScoreOptions", "PriorTrainOptions", "PriorVerbs"]


@dataclass(frozen=True)
class PriorTrainOptions:
    """Train the small text-to-image model on the barn's pictures and words. Stops at Ctrl-C with a checkpoint, and goes on from there.

    Data, for each species: `farm3d barn make SPECIES --split train --count 7000 --size-px 128 --truth light --out DIR`.
    """

    data: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="DIR ...")]
    """Folders of finished data sets. The shipped model saw, in three runs, 14,500 to 17,000 pictures each of horse, cow and sheep, and
    2,500 to 3,600 each of seven other species."""

    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Model folder to write in the end."""

    state: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Folder for checkpoints, log, sample grids and the pictures' cache (65 kB a picture): outside of your repository."""

    hours: Annotated[float | None, tyro.conf.arg(metavar="H", help_behavior_hint="")] = None
    """Wall time to train; leave out both budgets for 2.5 hours."""

    samples: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    """Pictures to show instead: then equal seed, threads and data give equal weights, however often it was interrupted."""

    size: Literal["tiny", "small", "default"] = "default"
    """tiny: 0.3 million weights at 32 px, for tests. small: 14 million. default: 26 million, 52 MB."""

    start: Annotated[Path | None, tyro.conf.arg(name="from", metavar="MODEL", help_behavior_hint="")] = None
    """Go on training this model (folder), with more or other pictures and another --seed: its denoiser and its text encoder learn on, at
    a lower rate; its vocabulary, latents and decoder stay."""

    seed: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Of weights, order and chance."""

    resume: Literal["auto", "never"] = "auto"
    """auto goes on where the state folder stands; never refuses a state folder with a training in it."""

    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """What the denoiser computes in; auto takes bfloat16 where this processor is quicker at it. Weights are kept in float32 either way."""

    threads: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    """torch threads; leave out for one a core. Results depend on it in the last digits."""

    checkpoint_minutes: Annotated[float, tyro.conf.arg(metavar="M")] = 10.0
    """Between checkpoints; the last two are kept (0.4 GB each)."""

    grid_minutes: Annotated[float, tyro.conf.arg(metavar="M")] = 15.0
    """Between validations with a grid of samples."""


@dataclass(frozen=True)
class PriorLookOptions:
    """Draw a sheet with a text-to-image model: species from eight sides, or prompts with eight seeds each."""

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """Folder that `farm3d prior train` wrote, or a model in Stable Diffusion's layout: its folder or hub id."""

    out: Annotated[Path, tyro.conf.arg(metavar="PNG")]
    """Picture to write."""

    species: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")] = ("horse", "cow", "sheep")
    """Each walking, seen from eight sides."""

    prompts: Annotated[tuple[str, ...], tyro.conf.arg(metavar="WORDS ...")] = ()
    """Drawn instead, each with eight seeds."""

    guidance: Annotated[float, tyro.conf.arg(metavar="G")] = 4.0
    """Of classifier-free guidance; 1 is none."""

    steps: Annotated[int, tyro.conf.arg(metavar="N")] = 24
    """Denoising steps."""

    seed: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Of the first column; the others have the seven that follow."""

    device: Annotated[str, tyro.conf.arg(metavar="DEVICE")] = "cpu"
    """Where the model runs: cpu, cuda or cuda:1."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """What the model computes in. auto: on a GPU float16, bfloat16 for an embedded model; on a CPU float32, bfloat16 for an embedded model
    where it is quicker."""


@dataclass(frozen=True)
class PriorScoreOptions:
    """Score a text-to-image model: how often it draws what it is asked, how far from the barn's pictures, and whether it memorises.

    A classifier of species, view and action is trained on the barn's truth first, and its own accuracy reported: it limits what follows.
    Writes score.json, score.md, and sheets of samples by view, of all samples with their numbers, and of nearest training pictures.
    """

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """Folder that `farm3d prior train` wrote, or a model in Stable Diffusion's layout: its folder or hub id."""

    train_data: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="DIR ...")]
    """Data sets that the model was trained on, of `farm3d barn make --split train`; of all species that the classifier shall tell apart."""

    held_out: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="DIR ...")]
    """Data sets of other animals, as of `farm3d barn make --split val --count 400`. Of split train, those kept from training count."""

    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Folder for the score and its sheets."""

    state: Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="")] = None
    """Folder for pictures, features, classifier and samples, used again by the next run, also of another model; leave out for OUT/state."""

    species: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")] = ()
    """To draw; leave out for all that there are held-out pictures of."""

    count: Annotated[int, tyro.conf.arg(metavar="N")] = 200
    """Samples of each species: with 200, a share of 90 % is known to 4."""

    seed: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Of samples, classifier and chance."""

    guidance: Annotated[float, tyro.conf.arg(metavar="G")] = 4.0
    """Of classifier-free guidance; 1 is none."""

    steps: Annotated[int, tyro.conf.arg(metavar="N")] = 24
    """Denoising steps."""

    taught: Annotated[int, tyro.conf.arg(metavar="N")] = 1000
    """Training pictures of each species that the classifier learns from; 40 kB of features each."""

    searched: Annotated[int, tyro.conf.arg(metavar="N")] = 3000
    """Training pictures of each species among which each sample's nearest is sought; 65 kB each."""

    device: Annotated[str, tyro.conf.arg(metavar="DEVICE")] = "cpu"
    """Where the text-to-image model runs: cpu, cuda or cuda:1."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """What the model computes in. auto: on a GPU float16, bfloat16 for an embedded model; on a CPU float32, bfloat16 for an embedded model
    where it is quicker."""

    threads: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    """torch threads; leave out for one a core."""


@dataclass(frozen=True)
class PriorJudgeOptions:
    """Ask whether a text-to-image model can be used as a critic, and with what noise and guidance.

    First: is a picture denoised best with the caption of its own view? Then: of animals with one thing wrong (short legs, a thin body, the
    head turned, a leg missing, another coat), how much of the way back does score distillation go, through the renderer? Writes judge.json,
    judge.md, plots and pictures.
    """

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """Folder that `farm3d prior train` wrote, or a model in Stable Diffusion's layout: its folder or hub id."""

    held_out: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="DIR ...")]
    """Data sets of animals that trained nothing, e.g. of `farm3d barn make --split val --count 400`."""

    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Folder for the verdict, its plots and pictures."""

    rigs: Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="")] = None
    """Folder of the barn's rigs; leave out to fetch them once to the cache."""

    species: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")] = ("horse", "cow", "sheep")
    """Asked about their views; one animal of each is put wrong and mended."""

    faults: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")] = ()
    """Of short-legs, thin-body, head-turned, leg-missing, wrong-coat; leave out for all."""

    pictures: Annotated[int, tyro.conf.arg(metavar="N")] = 40
    """Held-out pictures of each species that are asked about."""

    draws: Annotated[int, tyro.conf.arg(metavar="N")] = 24
    """Random views at each value of a fault at which the gradient is measured."""

    descent: Annotated[int, tyro.conf.arg(metavar="N")] = 40
    """Steps of mending a fault; 0 leaves mending out."""

    seed: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Of animals, views, lights, backgrounds and noise."""

    quick: bool = False
    """A minute instead of half an hour: a few pictures, one animal, few steps. Shows that it runs, and little more."""

    device: Annotated[str, tyro.conf.arg(metavar="DEVICE")] = "cpu"
    """Where the text-to-image model runs: cpu, cuda or cuda:1."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """What the model computes in. auto: on a GPU float16, bfloat16 for an embedded model; on a CPU float32, bfloat16 for an embedded model
    where it is quicker."""

    threads: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    """torch threads; leave out for one a core."""


@dataclass(frozen=True)
class PriorReaderOptions:
    """Train the caption reader: what `farm3d generate` asks whether a drawn picture shows the animal and the view that its words say.

    A small head on the frozen backbone's features, trained on the barn's pictures and captions. Half an hour of one core, most of it for
    features, which are kept.
    """

    data: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="DIR ...")]
    """Data sets of `farm3d barn make --split train`, of all species that it shall tell apart."""

    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Model folder to write."""

    state: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Folder for pictures and features (100 kB a picture), used again by the next run."""

    held_out: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="DIR ...", help_behavior_hint="")] = ()
    """Data sets of other animals that it is tried on, as of `farm3d barn make --split val`; leave out for those kept from training."""

    taught: Annotated[int, tyro.conf.arg(metavar="N")] = 1500
    """Pictures of each species that it learns from."""

    epochs: Annotated[int, tyro.conf.arg(metavar="N")] = 16
    """Times that every picture is shown."""

    seed: Annotated[int, tyro.conf.arg(metavar="N")] = 1
    """Of the choice of pictures, weights and order; `farm3d prior score` has 0 for its own, so that the two are not one judge."""

    threads: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    """torch threads; leave out for one a core."""


@dataclass(frozen=True)
class PriorVerbs:
    """The text-to-image model: train the embedded one, look at what it draws, score it, judge it as a critic; and train the reader."""

    action: (
        Annotated[PriorTrainOptions, tyro.conf.subcommand("train", prefix_name=False)]
        | Annotated[PriorLookOptions, tyro.conf.subcommand("look", prefix_name=False)]
        | Annotated[PriorScoreOptions, tyro.conf.subcommand("score", prefix_name=False)]
        | Annotated[PriorJudgeOptions, tyro.conf.subcommand("judge", prefix_name=False)]
        | Annotated[PriorReaderOptions, tyro.conf.subcommand("reader", prefix_name=False)]
    )
