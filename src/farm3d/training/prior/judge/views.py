"""Does the denoising error prefer the true view? Each picture, noised once, is denoised with the caption of each of the eight views."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from farm3d.barn.captions import VIEWS
from farm3d.core.color import linear_from_srgb
from farm3d.core.random import numpy_generator, torch_generator
from farm3d.core.shapes import Float, Tensor
from farm3d.diffusion.prior import PicturePrior
from farm3d.training.prior.batches import on_ground
from farm3d.training.prior.score.known import Fact, Known
from farm3d.training.prior.score.measures import share

__all__ = ["LEVELS", "asked_of_all_views", "caption_from", "view_errors", "view_preferences"]

LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
_COUNT = len(VIEWS)
_PLAIN = (0.1, 0.9)  # sRGB, of the plain backgrounds


def caption_from(fact: Fact, view: int) -> str:
    """Return the plain caption of a picture with another view in it."""
    words = fact.caption.removesuffix(VIEWS[fact.view][0])
    return words + VIEWS[view][0]


def view_errors(
    prior: PicturePrior,
    rgb: Float[Tensor, "B 3 S S"],
    alpha: Float[Tensor, "B S S"],
    facts: Sequence[Fact],
    *,
    levels: Sequence[float] = LEVELS,
    generators: Sequence[torch.Generator],
    on_picture: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """Return the mean squared error of the predicted velocity, ``[B, levels, 8]``: of each picture at each noise level with each view.

    The noise of a picture is the same for all captions. The velocity's error is the noise's over the signal's level squared: then no level
    rules the sum.

    Args:
        prior: the model.
        rgb, alpha: pictures and coverage.
        facts: what is true of them.
        levels: noise levels in (0, 1).
        generators: of each picture's noise.
        on_picture: told after each picture.
    """
    errors = np.zeros((len(rgb), len(levels), _COUNT))
    with torch.no_grad():
        latents = prior.encode(rgb, alpha if prior.draws_alpha else None)
        for row, (latent, fact, generator) in enumerate(zip(latents, facts, generators, strict=True)):
            prompts = prior.embed([caption_from(fact, view) for view in range(_COUNT)])
            for column, level in enumerate(levels):
                noise = torch.randn(latent.shape, generator=generator).to(latent)
                t = torch.full((_COUNT,), level, device=latent.device)
                signal, amount = (part[0] for part in prior.levels(t))
                z_t = (signal * latent + amount * noise).expand(_COUNT, -1, -1, -1)
                predicted = prior.predict_noise(z_t, t, prompts)
                squared = (predicted.float() - noise).square().mean((1, 2, 3)) / signal**2
                errors[row, column] = squared.cpu().numpy()
            on_picture()
    return errors


def view_preferences(errors: np.ndarray, facts: Sequence[Fact], *, levels: Sequence[float] = LEVELS) -> dict[str, Any]:
    """Return, by level and for the sum over levels, how often the true view has the least error, one of its neighbours has, the one behind;
    and how much more the mean over all captions costs than the true one.

    Args:
        errors: ``[N, levels, 8]``.
        facts: N of them.
    """
    true = np.array([fact.view for fact in facts])
    columns: dict[str, np.ndarray] = {f"{level:g}": errors[:, number] for number, level in enumerate(levels)}
    columns["sum"] = errors.sum(1)
    return {name: _preferred(values, true) for name, values in columns.items()}


def _preferred(values: np.ndarray, true: np.ndarray) -> dict[str, Any]:
    off = (values.argmin(1) - true) % _COUNT
    sided = -true % _COUNT != true
    chosen = values.argmin(1)
    right = values[np.arange(len(true)), true]
    return {
        "n": len(true),
        "exact": _plain(int((off == 0).sum()), len(true)),
        "within_one": _plain(int(np.isin(off, (0, 1, 7)).sum()), len(true)),
        "opposite": _plain(int((off == 4).sum()), len(true)),
        "mirrored": _plain(int((chosen[sided] == (-true % _COUNT)[sided]).sum()), int(sided.sum())),
        "error_true": float(right.mean()),
        "error_mean": float(values.mean()),
        "turned_by": {f"{45 * turn}": int((off == turn).sum()) for turn in range(_COUNT)},
    }


def asked_of_all_views(
    prior: PicturePrior, known: Known, names: Sequence[str], *, pictures: int, seed: int, tell: Callable[[int, int], None]
) -> Mapping[str, Any]:
    """Return the preferences on pictures with their own background and on a plain one, of all species and of each.

    Args:
        known: held-out pictures.
        names: species to ask about.
        pictures: of each species.
        seed: of choice, backgrounds and noise.
        tell: told how many are done, and of how many.
    """
    rows = np.concatenate([numpy_generator(seed, "asked", name).permutation(known.of(name))[:pictures] for name in names])
    facts = [known.facts[row] for row in rows]
    raw = torch.from_numpy(np.array(known.pixels[rows])).float() / 255
    done = [0]

    def one_more() -> None:
        done[0] += 1
        tell(done[0], 2 * len(rows))

    report: dict[str, Any] = {}
    for ground in ("own", "plain"):
        rgb = raw[:, :3]
        if ground == "plain":
            rgb = torch.stack([_on_plain(picture, fact.key, seed) for picture, fact in zip(raw, facts, strict=True)])
        generators = [torch_generator(seed, "view", fact.key) for fact in facts]
        errors = view_errors(prior, rgb, raw[:, 3], facts, generators=generators, on_picture=one_more)
        report[ground] = {"all": view_preferences(errors, facts), "species": {}}
        for name in names:
            own = np.array([fact.species == name for fact in facts])
            report[ground]["species"][name] = view_preferences(errors[own], [fact for fact in facts if fact.species == name])
    return report


def _on_plain(picture: Tensor, key: str, seed: int) -> Tensor:
    colour = torch.from_numpy(numpy_generator(seed, "plain", key).uniform(*_PLAIN, size=3)).float()
    return on_ground(picture[:3], picture[3], linear_from_srgb(colour))


def _plain(count: int, of: int) -> dict[str, Any]:
    value = share(count, of)
    return {"count": count, "of": of, "share": None if of == 0 else value.share, "low": value.low, "high": value.high}
