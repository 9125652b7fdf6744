"""What ``farm3d generate``, ``prepare-data`` and ``data`` can be told: frozen dataclasses whose field comments are the help texts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

__all__ = ["DataCheckOptions", "DataFeaturesOptions", "DataLookOptions", "DataVerbs", "GenerateOptions", "PrepareDataOptions"]

_Switch = Annotated[bool, tyro.conf.arg(help_behavior_hint="")]


@dataclass(frozen=True)
class GenerateOptions:
    """Draw a category's training set from words: pictures, silhouettes, features, in tar shards.

    Runs again where it stopped, and shares its folder with other workers. Equal options give equal bytes.
    """

    category: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="CATEGORY")]
    """What to draw, such as horse, cow or sheep; Stable Diffusion draws any noun, the embedded model those of `farm3d barn make`."""

    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Folder for NAME-000000.tar and so on; finished shards in it are kept."""

    count: Annotated[int, tyro.conf.arg(metavar="N")] = 2000
    """Pictures wanted; rejected ones are drawn anew. The set can grow later."""

    prior: Annotated[str | None, tyro.conf.arg(metavar="MODEL", help_behavior_hint="")] = None
    """Text-to-image model: a folder, or a hub id such as stabilityai/stable-diffusion-2-1-base; leave out for the shipped one."""

    prompts: Annotated[Path | None, tyro.conf.arg(metavar="TOML", help_behavior_hint="")] = None
    """Your own prompts instead of a phrase book (docs/generate.md has an example)."""

    phrases: Literal["auto", "embedded", "stable-diffusion"] = "auto"
    """Phrase book: the barn's wording for embedded models, or words and negative prompts for Stable Diffusion; auto goes by the model."""

    views: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=SHARE ...", help_behavior_hint="(default: even)")] = ()
    """Ratio of front, front-left, left, rear-left, behind, rear-right, right and front-right; those left out get none."""

    name: Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="")] = None
    """Of the data set; leave out for CATEGORY-generated."""

    seed: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Of prompts and noise."""

    guidance: Annotated[float | None, tyro.conf.arg(metavar="G", help_behavior_hint="")] = None
    """Of classifier-free guidance, 1 is none; leave out for 4 with an embedded model and 7.5 with Stable Diffusion."""

    steps: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    """Denoising steps; leave out for 16 with an embedded model and 50 with Stable Diffusion."""

    size_px: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    """Side of the crops; leave out for 256, or what the model draws if that is less."""

    attempts: Annotated[int, tyro.conf.arg(metavar="N")] = 12
    """Pictures tried for a sample before it is given up."""

    reader: Annotated[str, tyro.conf.arg(metavar="auto|none|DIR")] = "auto"
    """Who is asked whether a picture shows the animal and the view that its words say: auto asks the shipped reader about what an
    embedded model draws, and nobody about Stable Diffusion's; or a folder of `farm3d prior reader`."""

    any_animal: _Switch = False
    """Also keep pictures in which the backbone sees no four-legged animal."""

    batch: Annotated[int, tyro.conf.arg(metavar="N")] = 8
    """Pictures drawn together. Part of the recipe: a picture's last bits depend on it."""

    per_shard: Annotated[int, tyro.conf.arg(metavar="N")] = 200
    """Pictures in a shard; a multiple of --batch."""

    workers: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    """Processes; leave out for one a core, or for one with --device cuda."""

    shard: Annotated[str | None, tyro.conf.arg(metavar="I/N", help_behavior_hint="")] = None
    """Make only every N-th shard, starting with the I-th: for array jobs. Once all pictures are there, run it again for the features."""

    ray: _Switch = False
    """Share out the shards with Ray Data, on the cluster it finds or on this machine (extra farm3d[ray])."""

    mask_model: Annotated[Path | None, tyro.conf.arg(metavar="FILE.onnx", help_behavior_hint="")] = None
    """Segmenter for models that draw no silhouettes: your own ISNet or U2-Net; leave out for the one `farm3d models fetch` brings."""

    device: Annotated[str, tyro.conf.arg(metavar="DEVICE")] = "cpu"
    """Where the text-to-image model runs: cpu, cuda or cuda:1."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """What the model computes in; part of the recipe. auto: on a GPU float16, bfloat16 for an embedded model; on a CPU float32, bfloat16
    for an embedded model where it is quicker."""

    no_features: _Switch = False
    """Pictures only; `farm3d data features` can follow."""

    encoder: Annotated[str | None, tyro.conf.arg(metavar="MODEL", help_behavior_hint="")] = None
    """Feature backbone: a vision transformer by folder or hub id, such as facebook/dino-vits8; leave out for the shipped one."""

    dims: Annotated[int, tyro.conf.arg(metavar="N")] = 16
    """Principal components kept."""


@dataclass(frozen=True)
class PrepareDataOptions:
    """Make the same training set from your own photographs. One that cannot be used becomes a row that says why."""

    photos: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """JPEG, PNG and WebP pictures, one animal each; NAME.txt beside NAME may say which view it is ("a horse, seen from its left side")."""

    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Folder for NAME-000000.tar and so on; finished shards in it are kept."""

    mask: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER", help_behavior_hint="")] = None
    """Silhouettes, NAME_mask.* or NAME.* for photograph NAME. Else NAME_mask.* beside it, transparency, or the segmenter."""

    name: Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="")] = None
    """Of the data set; leave out for CATEGORY-photos, or photos."""

    category: Annotated[str | None, tyro.conf.arg(metavar="CATEGORY", help_behavior_hint="")] = None
    """What they show."""

    size_px: Annotated[int, tyro.conf.arg(metavar="N")] = 256
    """Side of the crops."""

    any_animal: _Switch = False
    """Also keep pictures in which the backbone sees no four-legged animal."""

    mask_model: Annotated[Path | None, tyro.conf.arg(metavar="FILE.onnx", help_behavior_hint="")] = None
    """Your own ISNet or U2-Net, instead of the segmenter that `farm3d models fetch` brings."""

    per_shard: Annotated[int, tyro.conf.arg(metavar="N")] = 200
    """Photographs in a shard."""

    workers: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    """Processes; leave out for one a core."""

    no_features: _Switch = False
    """Pictures only; `farm3d data features` can follow."""

    encoder: Annotated[str | None, tyro.conf.arg(metavar="MODEL", help_behavior_hint="")] = None
    """Feature backbone: a vision transformer by folder or hub id; leave out for the shipped one."""

    dims: Annotated[int, tyro.conf.arg(metavar="N")] = 16
    """Principal components kept."""


@dataclass(frozen=True)
class DataCheckOptions:
    """Say what is wrong with a training set, row by row: damaged, cut short, missing, or untrue. Exit code 2 if anything is."""

    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """What `farm3d generate` or `farm3d prepare-data` wrote."""


@dataclass(frozen=True)
class DataLookOptions:
    """Draw a grid of a training set's rows."""

    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """What `farm3d generate` or `farm3d prepare-data` wrote."""

    out: Annotated[Path, tyro.conf.arg(metavar="PNG")]
    """Picture to write."""

    count: Annotated[int, tyro.conf.arg(metavar="N")] = 24
    """Rows, spread evenly."""

    name: Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="")] = None
    """Which data set, where the folder holds several."""

    features: _Switch = False
    """Show the first three principal components under each picture, as red, green and blue."""

    failed: _Switch = False
    """Show the rows without a picture, and why."""


@dataclass(frozen=True)
class DataFeaturesOptions:
    """Make the features of a training set, also with another backbone beside those it has."""

    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """What `farm3d generate` or `farm3d prepare-data` wrote."""

    suffix: Annotated[str | None, tyro.conf.arg(metavar="WORD", help_behavior_hint="")] = None
    """The set is called NAME-features-WORD; leave out for NAME-features."""

    name: Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="")] = None
    """Which data set, where the folder holds several."""

    encoder: Annotated[str | None, tyro.conf.arg(metavar="MODEL", help_behavior_hint="")] = None
    """Feature backbone: a vision transformer by folder or hub id, such as facebook/dino-vits8; leave out for the shipped one."""

    dims: Annotated[int, tyro.conf.arg(metavar="N")] = 16
    """Principal components kept."""

    workers: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    """Processes; leave out for one a core."""

    shard: Annotated[str | None, tyro.conf.arg(metavar="I/N", help_behavior_hint="")] = None
    """Make only every N-th shard, starting with the I-th."""

    ray: _Switch = False
    """Share out the shards with Ray Data (extra farm3d[ray])."""


@dataclass(frozen=True)
class DataVerbs:
    """Training sets: check them, look at them, make their features anew."""

    action: (
        Annotated[DataCheckOptions, tyro.conf.subcommand("check", prefix_name=False)]
        | Annotated[DataLookOptions, tyro.conf.subcommand("look", prefix_name=False)]
        | Annotated[DataFeaturesOptions, tyro.conf.subcommand("features", prefix_name=False)]
    )
