"""Which features know the view: the backbone's against the text-to-image model's own activations, by ridge regression.

    farm3d barn make horse --split train --count 2400 --per-individual 2 --size-px 128 --truth light --out barn/train
    farm3d barn make horse --split val --count 400 --per-individual 1 --size-px 128 --truth light --out barn/val
    python benchmarks/probe_features.py --train barn/train --held-out barn/val --prior MODEL

All are framed as the prior's training pictures are; the backbone sees the animals on grey, as categories do, the prior with
their backgrounds and coverage, as it was trained. On 16 x 16 places (8 x 8 for the transformer's blocks), 64 principal
components of the foreground in one long vector, from which cosines and sines of the azimuth and of twice the azimuth are
predicted. The ridge is chosen on a fifth of the training pictures.

    python benchmarks/probe_features.py --train barn/train --held-out barn/val --data sets/horse --every 1

asks the backbone's regression instead from where the pictures of a training set show the animal, beside the words that asked for them:
a word covers an eighth of the circle. For looking only: no training sees these azimuths.

    python benchmarks/probe_features.py --train barn/train --held-out barn/val --angles MODEL --every 1

asks the same of pictures that MODEL draws from the finer phrases, "seen from 30 degrees to its left".
"""

from __future__ import annotations

import argparse
import json
import math
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from farm3d.barn.captions import fine_view
from farm3d.core.random import numpy_generator
from farm3d.diffusion.embedded.pipeline import EmbeddedPrior
from farm3d.evaluation.truth import truth_members
from farm3d.model.encoder import Encoder
from farm3d.training.category.load import load_pictures
from farm3d.training.category.pictures import VIEWS
from farm3d.training.dataset.features import plain_features
from farm3d.training.prior.framing import framed

_COMPONENTS, _SAMPLES, _BATCH = 64, 2, 32
_RIDGES = (1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0)
_LEVELS = (0.02, 0.1, 0.25, 0.4, 0.6)
_BLOCKS = (3, 5, 7)
_DRAWN_PX = 128
_WORDS = ("front", "front left", "left side", "back left", "back", "back right", "right side", "front right")
_NEAR_DEG = 45.0  # beyond it another view was drawn than was asked for
_PERCENTILES = (10, 25, 50, 75, 90)
_HEADING = (
    "| asked for | pictures | within 45 degrees, % | mean of these | spread | percentiles 10, 25, 50, 75, 90 |",
    "|---|---|---|---|---|---|",
)
_GUIDANCE, _DENOISING_STEPS = 4.0, 16  # as `farm3d generate` draws
_STEP_DEG, _ACTIONS = 15, ("standing", "walking")


class Animals(NamedTuple):
    """Pictures framed as the prior's are, sRGB ``[N, 3, S, S]``, coverage ``[N, S, S]``, and azimuths ``[N]``, radians."""

    rgb: torch.Tensor
    alpha: torch.Tensor
    azimuth: torch.Tensor


class Maps(NamedTuple):
    """Features ``[N, C, G, G]`` and coverage ``[N, 16, 16]``."""

    features: torch.Tensor
    cover: torch.Tensor


def animals_of(folder: Path, most: int, *, every: int, size_px: int) -> Animals:
    """Read every so many pictures of a barn folder."""
    pictures, azimuths = [], []
    for shard in sorted(folder.glob("*.tar")):
        for number, (key, members) in enumerate(truth_members(shard)):
            if number % every or len(pictures) == most:
                continue
            rgb, alpha = (np.asarray(Image.open(BytesIO(members[n])).convert(mode)) for n, mode in (("rgb.png", "RGB"), ("mask.png", "L")))
            pictures.append(framed(rgb, alpha, size_px=size_px, rng=numpy_generator(0, "probe", key)))
            azimuths.append(math.radians(json.loads(members["json"])["azimuth_deg"]))
    stacked = torch.from_numpy(np.stack(pictures)).float() / 255
    return Animals(stacked[:, :3], stacked[:, 3], torch.tensor(azimuths))


def cover_of(animals: Animals) -> torch.Tensor:
    """Return coverage on 16 x 16 places."""
    return functional.adaptive_avg_pool2d(animals.alpha, 16)


def backbone_maps(encoder: Encoder, animals: Animals) -> Maps:
    """Return the shipped backbone's features of the animals on grey, as categories read them."""
    pairs = zip(animals.rgb, animals.alpha, strict=True)
    return Maps(torch.cat([plain_features(encoder, image, mask) for image, mask in pairs]), cover_of(animals))


@torch.no_grad()
def denoiser_maps(prior: EmbeddedPrior, animals: Animals, t: float) -> dict[str, Maps]:
    """Return the denoiser's activations at a noise level, told nothing: the mean over two draws of the noise, the same for all pictures."""
    network, nothing = prior.parts.denoiser.network, prior.embed([""])
    layers: dict[str, Any] = {f"block {number}": network.blocks[number] for number in _BLOCKS}
    layers["convolutions after"] = network.after[-1]
    features: dict[str, list[torch.Tensor]] = {name: [] for name in layers}
    for rgb, alpha in zip(animals.rgb.split(_BATCH), animals.alpha.split(_BATCH), strict=True):
        latents = prior.encode(rgb, alpha)
        sums: dict[str, Any] = dict.fromkeys(layers, 0.0)
        for sample in range(_SAMPLES):
            noise = torch.randn(latents.shape[1:], generator=torch.Generator().manual_seed(sample))
            seen: dict[str, torch.Tensor] = {}
            hooks = [
                layer.register_forward_hook(lambda module, inputs, output, name=name, seen=seen: seen.__setitem__(name, output.float()))
                for name, layer in layers.items()
            ]
            prior.predict_noise((1 - t) * latents + t * noise, torch.full((len(latents),), t), nothing)
            for hook in hooks:
                hook.remove()
            for name, value in seen.items():
                if value.dim() == 3:
                    side = math.isqrt(value.shape[1])
                    value = functional.layer_norm(value, value.shape[-1:]).transpose(1, 2).unflatten(2, (side, side))
                sums[name] = sums[name] + value / _SAMPLES
        for name, value in sums.items():
            features[name].append(value)
    return {name: Maps(torch.cat(parts), cover_of(animals)) for name, parts in features.items()}


def waves(azimuth: torch.Tensor) -> torch.Tensor:
    """Return what is predicted of an azimuth."""
    return torch.stack([azimuth.cos(), azimuth.sin(), (2 * azimuth).cos(), (2 * azimuth).sin()], 1)


class Probe(NamedTuple):
    """A ridge regression: axes of the features, the training pictures' rows, their scale, ridge and solution."""

    mean: torch.Tensor
    axes: torch.Tensor
    rows: torch.Tensor
    scale: torch.Tensor
    ridge: float
    solution: torch.Tensor

    @classmethod
    def taught(cls, maps: Maps, known: torch.Tensor) -> Probe:
        """Fit it to pictures of known azimuth, radians; the ridge is chosen on the last fifth."""
        cover = functional.adaptive_avg_pool2d(maps.cover[:, None], maps.features.shape[-1])
        inside = maps.features.permute(0, 2, 3, 1)[cover[:, 0] > 0.5]
        mean = inside.mean(0)
        _, axes = torch.linalg.eigh((inside - mean).T @ (inside - mean))
        axes = axes[:, -_COMPONENTS:]
        rows = _rows(maps, mean, axes)
        scale = rows.square().sum(1).mean()
        own, goal, cut = rows @ rows.T / scale, waves(known), len(known) * 4 // 5

        def solved(ridge: float, count: int) -> torch.Tensor:
            return torch.linalg.solve(own[:count, :count] + ridge * torch.eye(count), goal[:count])

        ridge = min(_RIDGES, key=lambda value: float((own[cut:, :cut] @ solved(value, cut) - goal[cut:]).square().mean()))
        return cls(mean, axes, rows, scale, ridge, solved(ridge, len(known)))

    def azimuth(self, maps: Maps) -> torch.Tensor:
        """Return what it says of pictures, radians from 0 to 2 pi."""
        circle = torch.linspace(0, 2 * math.pi, 721)[:-1]
        alike = _rows(maps, self.mean, self.axes) @ self.rows.T / self.scale
        return circle[torch.cdist(alike @ self.solution, waves(circle)).argmin(1)]


def _rows(maps: Maps, mean: torch.Tensor, axes: torch.Tensor) -> torch.Tensor:
    cover = functional.adaptive_avg_pool2d(maps.cover[:, None], maps.features.shape[-1])
    seen = (torch.einsum("bchw,cd->bdhw", maps.features - mean[:, None, None], axes) * cover).flatten(1)
    return torch.cat([seen, torch.ones(len(seen), 1)], 1)


def degrees_off(said: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Return by how many degrees azimuths in radians differ, from -180 to 180."""
    return torch.rad2deg(torch.remainder(said - truth + math.pi, 2 * math.pi) - math.pi)


def judged(fitted: Probe, asked: Maps, truth: torch.Tensor) -> str:
    """Return a table's cells: ridge, median and mean error in degrees, flips of front and back and of left and right in per cent."""
    said = fitted.azimuth(asked)
    error = degrees_off(said, truth).abs()
    flips = [
        100 * float(((part(said) * part(truth) < 0) & (part(truth).abs() > 0.5)).sum() / (part(truth).abs() > 0.5).sum())
        for part in (torch.cos, torch.sin)
    ]
    return f"{fitted.ridge:g} | {error.median():.1f} | {error.mean():.1f} | {flips[0]:.1f} | {flips[1]:.1f}"


def views_of_words(fitted: Probe, encoder: Encoder, folder: Path) -> list[str]:
    """Return a table's lines: where pictures of a data set are seen from, from the middle of the eighth that was asked for, degrees."""
    pictures = load_pictures(folder, size_px=_DRAWN_PX).pictures
    rgb, alpha = (torch.from_numpy(values).float() / 255 for values in (pictures.rgb, pictures.mask))
    said = fitted.azimuth(backbone_maps(encoder, Animals(rgb, alpha, torch.zeros(len(rgb)))))
    asked = torch.from_numpy(pictures.views)
    off = degrees_off(said, asked * (2 * math.pi / VIEWS))
    return [*_HEADING, *(line for view, word in enumerate(_WORDS) for line in _spread(word, off[asked == view]))]


def views_of_angles(fitted: Probe, encoder: Encoder, prior: EmbeddedPrior, species: str, count: int) -> list[str]:
    """Draw ``count`` pictures for every 15 degrees, by the finer phrases, and return a table's lines: how far from there they are seen."""
    lines: list[str] = [*_HEADING]
    for number, angle in enumerate(range(0, 360, _STEP_DEG)):
        words = [f"a {species} {_ACTIONS[i % len(_ACTIONS)]}, seen from {fine_view(angle)}" for i in range(count)]
        seeds = range(number * count, (number + 1) * count)
        drawn = prior.draw(words, seeds=seeds, guidance=_GUIDANCE, steps=_DENOISING_STEPS)
        assert drawn.alpha is not None  # embedded models draw it
        said = fitted.azimuth(backbone_maps(encoder, Animals(drawn.rgb, drawn.alpha, torch.zeros(count))))
        lines += _spread(fine_view(angle), degrees_off(said, torch.full((count,), math.radians(angle))))
    return lines


def _spread(words: str, off: torch.Tensor) -> list[str]:
    near = off[off.abs() < _NEAR_DEG]
    if len(near) < 2:
        return []
    parts = ", ".join(f"{value:+.0f}" for value in np.percentile(near, _PERCENTILES))
    return [f"| {words} | {len(off)} | {100 * len(near) / len(off):.0f} | {near.mean():+.1f} | {near.std():.1f} | {parts} |"]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--held-out", type=Path, required=True)
    asked_for = parser.add_mutually_exclusive_group(required=True)
    asked_for.add_argument("--prior", type=Path, help="an embedded text-to-image model")
    asked_for.add_argument("--data", type=Path, help="data set of `farm3d generate`")
    asked_for.add_argument("--angles", type=Path, help="an embedded text-to-image model that draws from the finer phrases")
    parser.add_argument("--species", default="horse", help="that --angles draws")
    parser.add_argument("--count", type=int, default=16, help="pictures an angle")
    parser.add_argument("--most", type=int, nargs=2, default=(1200, 400), help="training and held-out pictures")
    parser.add_argument("--every", type=int, default=2, help="take one training picture of so many")
    options = parser.parse_args()
    torch.set_num_threads(1)
    source = options.prior or options.angles
    prior = None if source is None else EmbeddedPrior.from_pretrained(source)
    size_px = _DRAWN_PX if prior is None else prior.size_px
    places = zip((options.train, options.held_out), options.most, (options.every, 1), strict=True)
    sets = [animals_of(folder, most, every=every, size_px=size_px) for folder, most, every in places]
    known, truth = (animals.azimuth for animals in sets)
    print(f"{len(known)} training pictures, {len(truth)} held out\n")
    print("| features | ridge | azimuth error, median | mean | front/back flips, % | left/right, % |\n|---|---|---|---|---|---|")
    encoder = Encoder.from_pretrained()
    fitted, asked = Probe.taught(backbone_maps(encoder, sets[0]), known), backbone_maps(encoder, sets[1])
    print(f"| EfficientNet-Lite0 | {judged(fitted, asked, truth)} |", flush=True)
    if options.angles is not None and prior is not None:
        print("", *views_of_angles(fitted, encoder, prior, options.species, options.count), sep="\n")
        return
    if prior is None:
        print("", *views_of_words(fitted, encoder, options.data), sep="\n")
        return
    for t in _LEVELS:
        here, there = (denoiser_maps(prior, animals, t) for animals in sets)
        for name in here:
            print(f"| denoiser, t = {t}, {name} | {judged(Probe.taught(here[name], known), there[name], truth)} |", flush=True)


if __name__ == "__main__":
    main()
