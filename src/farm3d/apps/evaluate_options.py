"""What ``farm3d evaluate`` can be told: frozen dataclasses whose field comments are the help texts. Light, as ``options.py`` is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

__all__ = ["BarnOptions", "BaselineOptions", "CompareOptions", "EvaluateOptions", "KeypointsOptions", "ShapeOptions"]

_Switch = Annotated[bool, tyro.conf.arg(help_behavior_hint="")]
_Truth = Annotated[Path, tyro.conf.arg(metavar="SHARDS|FOLDER")]


@dataclass(frozen=True)
class BarnOptions:
    """Judge a method on pictures whose truth is known: outline, viewpoint, keypoints, novel views, colours, light, time."""

    truth: _Truth
    """What `farm3d barn make` wrote: its folder, or the plan or a shard in it."""

    predictions: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """The method's answers: KEY.glb and KEY.json as `farm3d reconstruct` writes them, or KEY.safetensors and KEY.json."""

    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Folder for report.json, report.md and the plots."""

    method: Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="")] = None
    """Name of the method in the report; leave out for the name of its folder."""

    novel_views: Annotated[int, tyro.conf.arg(metavar="N")] = 8
    """Sides to compare pictures from; 0 leaves out all pictures (novel views, colours, light) and is much quicker."""

    pairs: Annotated[int, tyro.conf.arg(metavar="N")] = 10_000
    """Pairs of keypoint transfer; 0 leaves it out."""

    processes: Annotated[int, tyro.conf.arg(metavar="N")] = 1
    """Processes to share the pictures; the figures do not depend on it."""

    no_plots: _Switch = False
    """Write no plots (they need the extra farm3d[evaluate])."""


@dataclass(frozen=True)
class BaselineOptions:
    """Write the answers of a baseline, to be judged like any other method."""

    baseline: Annotated[Literal["truth", "mean", "fit"], tyro.conf.Positional, tyro.conf.arg(metavar="truth|mean|fit")]
    """truth: the truth itself. mean: the category's mean shape at the true camera. fit: our fit to the picture with its true mask."""

    truth: _Truth
    """What `farm3d barn make` wrote: its folder, or the plan or a shard in it."""

    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Folder for the answers; those in it already are kept."""

    category: Annotated[str | None, tyro.conf.arg(metavar="NAME|FOLDER", help_behavior_hint="")] = None
    """Model to use for every picture (mean, fit); leave out for each picture's own category."""

    refine: bool = True
    """Whether a learned category's answer is refined (fit); --no-refine delivers what one pass gives."""

    reader: Annotated[str, tyro.conf.arg(metavar="auto|none|DIR")] = "auto"
    """Who is asked about the view, where a learned category has several answers (fit); none is for comparison."""

    refine_steps: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    """Gradient steps of the fit; leave out for the model's own number."""

    seed: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Seed of the fit."""

    processes: Annotated[int, tyro.conf.arg(metavar="N")] = 1
    """Processes to share the fits."""

    overwrite: _Switch = False
    """Make answers anew that exist already."""


@dataclass(frozen=True)
class KeypointsOptions:
    """Keypoint transfer between pictures (PCK@0.1): A-CSM's PASCAL files, BADJA's films, or the barn."""

    annotations: Annotated[Path, tyro.conf.arg(metavar="FILE|SHARDS")]
    """CATEGORY_val.mat of A-CSM, a film.json of BADJA, or what `farm3d barn make` wrote."""

    predictions: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """The method's answers, named after the pictures: NAME_RECORD for PASCAL, NAME for BADJA, KEY for the barn."""

    out: Annotated[Path, tyro.conf.arg(metavar="FILE.json")]
    """File to write."""

    pairs: Annotated[int, tyro.conf.arg(metavar="N")] = 10_000
    """Pairs to draw; the published protocol has 10000."""


@dataclass(frozen=True)
class ShapeOptions:
    """Chamfer distance of meshes by the Animodel protocol, from two folders paired by sorted file names."""

    predictions: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="PREDICTIONS")]
    """Folder of reconstructed meshes."""

    truth: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="TRUTH")]
    """Folder of true meshes, +y up, metres."""

    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE.json", help_behavior_hint="")] = None
    """File for the figures of every pair; leave out to only print the summary."""

    seed: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Seed of the surface samples."""

    rotation: bool = True
    """Turn each reconstruction to fit, as the protocol does; --no-rotation leaves it as it stands in its own frame."""

    unturned_out: Annotated[Path | None, tyro.conf.arg(metavar="FILE.json")] = None
    """Also write here what --no-rotation would give: the same figures in less time than a second run."""

    processes: Annotated[int, tyro.conf.arg(metavar="N")] = 1
    """Processes to share the pairs."""


@dataclass(frozen=True)
class CompareOptions:
    """Say how two methods differ on the same pictures or meshes, and whether the difference is beyond noise.

    Reports of `farm3d evaluate barn`, or files of `farm3d evaluate shape --out`.
    """

    first: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="A.json")]
    """Report of the first method."""

    second: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="B.json")]
    """Report of the second method, on the same truth."""

    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE.md", help_behavior_hint="")] = None
    """File for the table; leave out to only print it."""


@dataclass(frozen=True)
class EvaluateOptions:
    """Judge predictions against known truth, write baselines, compare methods."""

    action: (
        Annotated[BarnOptions, tyro.conf.subcommand("barn", prefix_name=False)]
        | Annotated[BaselineOptions, tyro.conf.subcommand("baseline", prefix_name=False)]
        | Annotated[KeypointsOptions, tyro.conf.subcommand("keypoints", prefix_name=False)]
        | Annotated[ShapeOptions, tyro.conf.subcommand("shape", prefix_name=False)]
        | Annotated[CompareOptions, tyro.conf.subcommand("compare", prefix_name=False)]
    )
