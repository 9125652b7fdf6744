"""What ``farm3d train`` can be told; field comments are the help texts. Light, as ``options.py`` is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

__all__ = ["TrainOptions"]


@dataclass(frozen=True)
class TrainOptions:
    """Learn a category from pictures of it, with a text-to-image model as judge of the sides that no picture shows.

    Stops at Ctrl-C with a checkpoint; the same command goes on from there, to the last bit. Pictures: `farm3d generate NAME --out DIR`.
    """

    data: Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="(required)")] = None
    """What `farm3d generate` or `prepare-data` wrote: pictures with their features."""

    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="(required)")] = None
    """Model folder to write in the end; a learned model of the same animal that stands there is replaced then."""

    state: Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="(required)")] = None
    """Folder for checkpoints, log and training sheets: outside of your repository."""

    prior: Annotated[str | None, tyro.conf.arg(metavar="FOLDER|HUB-ID", help_behavior_hint="")] = None
    """Text-to-image model that judges virtual views, e.g. the one that drew the pictures. Leave out to learn from the pictures alone."""

    critic_guidance: Annotated[float | None, tyro.conf.arg(metavar="G", help_behavior_hint="")] = None
    """How strongly --prior goes by its words; leave out for 5 with the shipped model, 50 with Stable Diffusion."""

    critic_noise: Annotated[tuple[float, float] | None, tyro.conf.arg(metavar="LOW HIGH", help_behavior_hint="")] = None
    """Noise levels at which --prior judges, of 0 to 1; leave out for .7 to .85 with the shipped model, .02 to .98 with Stable Diffusion."""

    critic_noise_end: Annotated[float | None, tyro.conf.arg(metavar="HIGH", help_behavior_hint="")] = None
    """Highest noise level at the end of the run, to which it falls evenly; leave out for .5 with Stable Diffusion, else for no fall."""

    preset: Literal["tiny", "embedded", "wide", "poses", "paper"] = "wide"
    """tiny: a minute. embedded: half an hour, thinner. wide: an hour or two, the best so far. poses: twenty minutes more for the networks
    of --start. paper: published sizes, a GPU."""

    steps: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    """Steps of the run; all times in the schedule are shares of it. Leave out for the preset's."""

    seed: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Of weights, order and chance."""

    start: Annotated[str | None, tyro.conf.arg(metavar="MODEL", help_behavior_hint="")] = None
    """Begin with the shape of a learned category, such as horse-learned, held until views are found; leave out for an ellipsoid. With
    --preset poses its networks go on too, and its shape stays."""

    features: Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="")] = None
    """Which set of features, where the folder holds several."""

    without: Annotated[tuple[str, ...], tyro.conf.arg(metavar="PART ...", help_behavior_hint="")] = ()
    """Switch parts off, to see what they are worth: articulation, deformation, hypotheses, elevation, local-features, tail, view-words."""

    change: Annotated[tuple[str, ...], tyro.conf.arg(name="set", metavar="NAME=NUMBER ...", help_behavior_hint="")] = ()
    """Change weights, times as shares of the run, and sizes, by their names in --show-schedule: volume=0 words_until=1."""

    height_m: Annotated[float | None, tyro.conf.arg(metavar="METRES", help_behavior_hint="")] = None
    """Usual height of the animal, ground to highest point, which no picture tells; leave out for a usual one of known species, else 1 m."""

    threads: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    """torch threads; leave out for one a core. Results depend on it in the last digits."""

    device: Annotated[str, tyro.conf.arg(metavar="DEVICE")] = "cpu"
    """Where the training and its text-to-image model run: cpu, cuda or cuda:1. Checkpoints may change devices."""

    checkpoint_minutes: Annotated[float, tyro.conf.arg(metavar="M")] = 5.0
    """Between checkpoints; the last two are kept (30 MB each)."""

    look_every: Annotated[int, tyro.conf.arg(metavar="N")] = 1000
    """Steps between training sheets."""

    show_schedule: Annotated[bool, tyro.conf.arg(help_behavior_hint="")] = False
    """Print losses with their weights and times, then all other times and sizes, and stop; needs no folders."""
