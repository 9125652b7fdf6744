"""What ``farm3d create`` and ``farm3d morph`` can be told: frozen dataclasses whose field comments are the help texts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

__all__ = ["CreateOptions", "MorphOptions"]

_Switch = Annotated[bool, tyro.conf.arg(help_behavior_hint="")]


@dataclass(frozen=True)
class CreateOptions:
    """Draw an animal from words and turn the picture into a rigged, textured, animated GLB file.

    Several pictures are drawn. Those that show one whole animal, and the words most surely, are reconstructed, and the one that fits its
    category best is taken.
    """

    words: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar='"WORDS"')]
    """What to draw, such as "a white horse, galloping"; where they name no view, a good one is added."""

    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Folder for NAME.glb, NAME.json, NAME.png and the drawn picture NAME_picture.png; finished ones are kept."""

    name: Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="")] = None
    """Of the files; leave out for the words with hyphens."""

    category: Annotated[str | None, tyro.conf.arg(metavar="NAME|FOLDER", help_behavior_hint="")] = None
    """Kind of animal: a shipped model (see `farm3d models list`), or the path of a model folder; leave out for the one the words name."""

    prior: Annotated[str | None, tyro.conf.arg(metavar="MODEL", help_behavior_hint="")] = None
    """Text-to-image model: a folder, or a hub id such as stabilityai/stable-diffusion-2-1-base; leave out for the shipped one."""

    tries: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    """Pictures drawn; leave out for 12 with an embedded model and 4 with Stable Diffusion. More give a better choice; the first ones stay
    the same."""

    fits: Annotated[int, tyro.conf.arg(metavar="N")] = 3
    """Of those that pass, how many are reconstructed: most of the time goes there."""

    seed: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Of noise and start views. Equal words, options and --threads give equal files."""

    guidance: Annotated[float | None, tyro.conf.arg(metavar="G", help_behavior_hint="")] = None
    """Of classifier-free guidance, 1 is none; leave out for 4 with an embedded model and 7.5 with Stable Diffusion."""

    steps: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    """Denoising steps; leave out for 16 with an embedded model and 50 with Stable Diffusion."""

    any_animal: _Switch = False
    """Also take pictures in which the backbone sees no four-legged animal."""

    reader: Annotated[str, tyro.conf.arg(metavar="auto|none|DIR")] = "auto"
    """Who is asked whether a picture shows the words: auto asks the shipped caption reader about what an embedded model draws, and
    nobody about Stable Diffusion's; or a folder of `farm3d prior reader`."""

    texture_from: Annotated[Path | None, tyro.conf.arg(metavar="PHOTO|GLB", help_behavior_hint="")] = None
    """Put on the coat of this animal of the same category: a picture, or a GLB that farm3d made."""

    texture_mask: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    """Silhouette for --texture-from; leave out for NAME_mask.* beside it, its transparency, or the segmenter."""

    segmenter: Annotated[Path | None, tyro.conf.arg(metavar="FILE.onnx", help_behavior_hint="")] = None
    """Your own ISNet or U2-Net for pictures without a silhouette, instead of the one that `farm3d models fetch` brings."""

    refine_steps: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    """Gradient steps of the fit: more is slower and a little closer; leave out for the model's own number."""

    height_m: Annotated[float | None, tyro.conf.arg(metavar="METRES", help_behavior_hint="")] = None
    """Height standing, hooves to highest point, in metres; leave out for a usual height of its kind."""

    device: Annotated[str, tyro.conf.arg(metavar="DEVICE")] = "cpu"
    """Where the text-to-image model runs: cpu, cuda or cuda:1."""

    threads: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    """Processor threads to use; leave out for all cores."""

    turntable: _Switch = False
    """Also write NAME.mp4, the animal turning once (needs the extra farm3d[video])."""

    texture_px: Annotated[int, tyro.conf.arg(metavar="N")] = 1024
    """Side of the square base-colour texture in pixels."""

    with_light: _Switch = False
    """Also put the light of the picture into the GLB."""

    overwrite: _Switch = False
    """Make files anew that exist already instead of keeping them."""


@dataclass(frozen=True)
class MorphOptions:
    """Make the animals between two GLBs of one category: shape, bones, coat and height, each a whole GLB with all clips."""

    first: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="A.glb")]
    """A GLB that farm3d made."""

    last: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="B.glb")]
    """Another one, of the same category."""

    out: Annotated[Path, tyro.conf.arg(metavar="DIR|FILE.glb")]
    """Folder for A_to_B_000.glb to A_to_B_100.glb (per cent of the way) and the strip A_to_B.png; with --at, the one file to write."""

    steps: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    """Animals to write, the two ends included, 2 to 101; leave out for 5."""

    at: Annotated[float | None, tyro.conf.arg(metavar="SHARE", help_behavior_hint="")] = None
    """Write only the animal at this share of the way, 0 (A) to 1 (B)."""

    texture_px: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    """Side of the square base-colour texture in pixels; leave out for the finer one's of A and B."""

    overwrite: _Switch = False
    """Replace files that farm3d did not make; with --at, any file that stands at --out."""
