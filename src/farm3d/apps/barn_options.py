"""What ``farm3d barn`` can be told: frozen dataclasses whose field comments are the help texts. Light, as ``options.py`` is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

__all__ = ["BarnCheckOptions", "BarnLookOptions", "BarnMakeOptions", "BarnVerbs"]


@dataclass(frozen=True)
class BarnMakeOptions:
    """Draw pictures of animals whose truth is known, in tar shards: to train on, and to judge with.

    Runs again where it stopped, and shares a folder with other workers. Equal options give equal bytes.
    """

    category: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SPECIES")]
    """horse, cow, sheep, donkey, zebra, deer, dog, fox, wolf or alpaca."""

    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Folder for SPECIES-SPLIT-000000.tar and so on; finished shards in it are kept."""

    count: Annotated[int, tyro.conf.arg(metavar="N")] = 200
    """Pictures in all."""

    split: Literal["train", "val", "test"] = "train"
    """Which individuals: no animal of one split is in another. Those of `test` are to judge with and must train nothing."""

    size_px: Annotated[int, tyro.conf.arg(metavar="N")] = 256
    """Width and height of the pictures."""

    truth: Literal["full", "light"] = "full"
    """full: depth, normals and meshes too (about 1.2 MB a picture). light: picture, mask and facts (about 0.1 MB)."""

    seed: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Of poses, views, lights and scenes."""

    per_individual: Annotated[int, tyro.conf.arg(metavar="N")] = 8
    """Pictures in a row of one animal; 1 gives the most animals."""

    truncated: Annotated[float, tyro.conf.arg(metavar="SHARE")] = 0.0
    """Share of pictures in which the border cuts the animal; marked so."""

    occluded: Annotated[float, tyro.conf.arg(metavar="SHARE")] = 0.0
    """Share of pictures in which a post, a rail or a bush hides a part of it; marked so."""

    per_shard: Annotated[int, tyro.conf.arg(metavar="N")] = 500
    """Pictures in a shard."""

    workers: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    """Processes; leave out for one a core."""

    part: Annotated[str | None, tyro.conf.arg(metavar="I/N", help_behavior_hint="")] = None
    """Make only every N-th shard, starting with the I-th: for jobs that share no folder locks."""


@dataclass(frozen=True)
class BarnLookOptions:
    """Draw a labelled grid of a data set, to see whether a stranger would name the species, the action and the view."""

    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SHARDS|FOLDER")]
    """What `farm3d barn make` wrote: its folder, or one tar."""

    out: Annotated[Path, tyro.conf.arg(metavar="PNG")]
    """Picture to write."""

    count: Annotated[int, tyro.conf.arg(metavar="N")] = 24
    """Pictures in the grid, spread evenly over the data set."""

    columns: Annotated[int, tyro.conf.arg(metavar="N")] = 6
    """Pictures in a row."""

    keypoints: Annotated[bool, tyro.conf.arg(help_behavior_hint="")] = False
    """Mark the landmarks: red those seen, blue those hidden."""


@dataclass(frozen=True)
class BarnCheckOptions:
    """Say what is wrong with a data set, shard and row by shard and row: damaged, cut short, swapped, missing, foreign, or untrue."""

    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """Folder that `farm3d barn make` wrote."""


@dataclass(frozen=True)
class BarnVerbs:
    """A closed world with known truth: make pictures of animals, look at them, check them."""

    action: (
        Annotated[BarnMakeOptions, tyro.conf.subcommand("make", prefix_name=False)]
        | Annotated[BarnLookOptions, tyro.conf.subcommand("look", prefix_name=False)]
        | Annotated[BarnCheckOptions, tyro.conf.subcommand("check", prefix_name=False)]
    )
