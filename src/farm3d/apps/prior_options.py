"""What ``farm3d prior`` can be told: frozen dataclasses whose field comments are the help texts. Light, as ``options.py`` is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

__all__ = ["PriorLookOptions", "PriorTrainOptions", "PriorVerbs"]


@dataclass(frozen=True)
class PriorTrainOptions:
    """Train the small text-to-image model on the barn's pictures and words. Stops at Ctrl-C with a checkpoint, and goes on from there.

    Data, for each species: `farm3d barn make SPECIES --split train --count 20000 --size-px 128 --truth light --out DIR`.
    """

    data: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="DIR ...")]
    """Folders of finished data sets; 20,000 pictures or more of each species."""

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

    model: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """Folder that `farm3d prior train` wrote, or a model in Stable Diffusion's layout."""

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


@dataclass(frozen=True)
class PriorVerbs:
    """The text-to-image model: train the embedded one, look at what it draws."""

    action: (
        Annotated[PriorTrainOptions, tyro.conf.subcommand("train", prefix_name=False)]
        | Annotated[PriorLookOptions, tyro.conf.subcommand("look", prefix_name=False)]
    )
