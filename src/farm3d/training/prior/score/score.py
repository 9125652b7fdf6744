"""The whole of `farm3d prior score`: pictures, classifier, samples and their figures, as one report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from farm3d.core.errors import InputError
from farm3d.core.random import numpy_generator
from farm3d.diffusion.prior import PicturePrior
from farm3d.model.encoder import ImageEncoder
from farm3d.training.prior.score.classifier import Classifier, train_classifier
from farm3d.training.prior.score.copies import Neighbours, latent_neighbours, map_neighbours, told
from farm3d.training.prior.score.features import Features, features_of, pooled
from farm3d.training.prior.score.known import Known, read_known
from farm3d.training.prior.score.measures import coverage_and_density, kernel_distance
from farm3d.training.prior.score.obeyed import bulk, obeyed
from farm3d.training.prior.score.pages import write_neighbours, write_numbered, write_views
from farm3d.training.prior.score.reconstruction import reconstructed, reconstruction_error
from farm3d.training.prior.score.samples import Samples, asked_for, draw_samples

__all__ = ["ScoreSettings", "score"]

_FORMAT = 2  # of what is kept in the state folder
_LEAST_HELD_OUT = 200  # pictures of each species
Tell = Callable[[str], Callable[[int, int], None]]


@dataclass(frozen=True)
class ScoreSettings:
    """What is asked for.

    Attributes:
        species: to draw; none given means all that there are held-out pictures of.
        count: samples of each.
        seed: of samples, classifier and draws.
        guidance, steps: of drawing.
        taught: training pictures of each species that the classifier learns from.
        searched: training pictures of each species among which the nearest is sought.
        epochs: of the classifier.

    Raises:
        InputError: numbers that cannot be used.
    """

    species: tuple[str, ...] = ()
    count: int = 200
    seed: int = 0
    guidance: float = 4.0
    steps: int = 24
    taught: int = 1000
    searched: int = 3000
    epochs: int = 16

    def __post_init__(self) -> None:
        if self.count < 8:
            raise InputError(f"{self.count} samples of each species: expected at least 8, one from each side")
        if min(self.taught, self.searched) < 8 or self.epochs < 1:
            raise InputError(f"{self.taught} pictures to learn from, {self.searched} to search: expected at least 8 of each")


@dataclass(frozen=True, eq=False)
class _World:
    """What does not depend on the model: pictures, their features, and the classifier."""

    training: Known
    held_out: Known
    rows: np.ndarray  # of training, whose features there are
    taught: Features
    held_features: Features
    classifier: Classifier


def score(
    prior: PicturePrior,
    encoder: ImageEncoder,
    settings: ScoreSettings,
    *,
    training: Sequence[Path],
    held_out: Sequence[Path],
    out: Path,
    state: Path,
    tell: Tell = lambda what: lambda done, total: None,
) -> dict[str, Any]:
    """Score a model, write its sheets to ``out``, and return the report of plain values.

    Args:
        prior: the model.
        encoder: the frozen backbone.
        settings: see :class:`ScoreSettings`.
        training, held_out: folders of data sets of ``farm3d barn make``.
        state: pictures, features, classifier and samples are kept here; what is there is not made again.
        tell: given the name of a stage, returns what is told how far it is.

    Raises:
        InputError: data or options that cannot be used.
        OutputError: nothing can be written.
    """
    masked = prior.draws_alpha
    world = _prepare(prior, encoder, settings, training=training, held_out=held_out, state=state, tell=tell)
    names = settings.species or world.held_out.species
    if unknown := [name for name in names if name not in world.held_out.species or name not in world.classifier.species]:
        raise InputError(f"no pictures of a {unknown[0]}", hint=f"there are {', '.join(world.classifier.species)}")
    again = reconstructed(prior, world.held_out.pixels)
    again_path = state / "features" / f"again-{world.held_out.digest[:12]}-{(prior.digest or prior.name)[:12]}-{masked:d}.npz"
    again_features = features_of(again, encoder, masked=masked, path=again_path, on_progress=tell("features of reconstructions"))
    facts, classifier = world.held_out.facts, world.classifier
    report: dict[str, Any] = {
        "model": {"name": prior.name, "digest": prior.digest, "draws_alpha": masked},
        "settings": {**settings.__dict__, "species": list(names)},
        "data": {
            "training_pictures": len(world.training),
            "training_digest": world.training.digest,
            "held_out_pictures": len(world.held_out),
            "held_out_animals": len({(fact.species, fact.individual) for fact in facts}),
            "held_out_digest": world.held_out.digest,
        },
        "classifier": {
            "taught": len(world.taught),
            "held_out": obeyed(classifier, classifier.answer(world.held_features), facts),
            "held_out_reconstructed": obeyed(classifier, classifier.answer(again_features), facts),
        },
        "autoencoder": reconstruction_error(world.held_out.pixels, again, masked=masked),
        "species": {},
    }
    answers, asked = [], []
    for name in names:
        wanted = asked_for(world.held_out, name, count=settings.count, seed=settings.seed)
        drawing = {"guidance": settings.guidance, "steps": settings.steps, "seed": settings.seed, "folder": state / "samples"}
        samples = draw_samples(prior, wanted, **drawing, on_progress=tell(f"drawing {name}"))
        path = state / "features" / f"samples-{samples.digest[:16]}.npz"
        features = features_of(samples.pixels, encoder, masked=masked, path=path, on_progress=tell(f"features of drawn {name}"))
        found = classifier.answer(features)
        answers.append(found)
        asked += samples.asked
        report["species"][name] = {
            "asked": obeyed(classifier, found, samples.asked),
            "bulk": bulk(samples.pixels, samples.asked, world.held_out) if masked else None,
            **_distances(world, name, features, seed=settings.seed),
            "copies": _copies(prior, world, name, samples, features, out, tell=tell(f"neighbours of {name}")),
            "seeds": list(samples.seeds),
            "answers": _listed(classifier, found.species, found.view, found.action),
        }
        write_views(out / f"views-{name}.png", samples, masked=masked)
        write_numbered(out, samples, start=f"samples-{name}")
    joined = type(answers[0])(*(np.concatenate([getattr(part, kind) for part in answers]) for kind in ("species", "view", "action")))
    report["all"] = obeyed(classifier, joined, asked)
    return report


def _prepare(
    prior: PicturePrior,
    encoder: ImageEncoder,
    settings: ScoreSettings,
    *,
    training: Sequence[Path],
    held_out: Sequence[Path],
    state: Path,
    tell: Tell,
) -> _World:
    masked, size_px = prior.draws_alpha, prior.size_px
    most = max(settings.count, _LEAST_HELD_OUT)
    kept = state / "pictures"
    known = read_known(
        training, kept, held_out=False, size_px=size_px, most=settings.searched, on_progress=tell("reading training pictures")
    )
    unseen = read_known(held_out, kept, held_out=True, size_px=size_px, most=most, on_progress=tell("reading held-out pictures"))
    rows = np.sort(np.concatenate([_evenly(known.of(name), settings.taught) for name in known.species]))
    taught_path = state / "features" / f"taught-{known.digest[:16]}-{settings.taught}-{masked:d}-{_FORMAT}.npz"
    unseen_path = state / "features" / f"held-out-{unseen.digest[:16]}-{masked:d}-{_FORMAT}.npz"
    shared = {"masked": masked}
    features = features_of(
        known.pixels[rows], encoder, **shared, path=taught_path, blur_seed=settings.seed, on_progress=tell("features of training pictures")
    )
    held = features_of(unseen.pixels, encoder, **shared, path=unseen_path, on_progress=tell("features of held-out pictures"))
    classifier_path = state / f"classifier-{taught_path.stem}-{settings.epochs}-{settings.seed}.safetensors"
    classifier = train_classifier(
        features,
        [known.facts[row] for row in rows],
        path=classifier_path,
        epochs=settings.epochs,
        seed=settings.seed,
        on_progress=tell("training the classifier"),
    )
    return _World(known, unseen, rows, features, held, classifier)


def _evenly(numbers: np.ndarray, most: int) -> np.ndarray:
    return numbers[np.unique(np.linspace(0, len(numbers) - 1, min(most, len(numbers))).round().astype(int))]


def _sharp(world: _World, name: str) -> np.ndarray:
    """Return the places in ``rows`` of a species' pictures that were not blurred."""
    places = np.arange(0, len(world.rows), 2)
    return places[[world.training.facts[world.rows[place]].species == name for place in places]]


def _distances(world: _World, name: str, features: Features, *, seed: int) -> dict[str, Any]:
    """Return the kernel distance, coverage and density of samples, each beside the same of training pictures."""
    training = pooled(world.taught.pick(_sharp(world, name)))
    middle, spread = training.mean(0), training.std(0) + 1e-6
    real, drawn, known = (
        (part - middle) / spread for part in (pooled(world.held_features.pick(world.held_out.of(name))), pooled(features), training)
    )
    known = known[numpy_generator(seed, "as many", name).permutation(len(known))[: len(drawn)]]
    result: dict[str, Any] = {}
    for label, part in (("samples", drawn), ("training", known)):
        distance = kernel_distance(real, part, numpy_generator(seed, "subsets", name, label))
        coverage, density = coverage_and_density(real, part)
        result[label] = {"n": len(part), "kid": distance.mean, "kid_std": distance.std, "coverage": coverage, "density": density}
    return {"held_out_n": len(real), "distances": result}


def _copies(
    prior: PicturePrior, world: _World, name: str, samples: Samples, features: Features, out: Path, *, tell: Callable[[int, int], None]
) -> Mapping[str, Any]:
    held = world.held_out.of(name)
    training = world.training.pixels[world.training.of(name)]
    in_latents = latent_neighbours(prior, samples.pixels, world.held_out.pixels[held], training, on_progress=tell)
    sharp = _sharp(world, name)
    in_maps = map_neighbours(features, world.held_features.pick(held), world.taught.pick(sharp))
    seen: list[tuple[str, np.ndarray, Neighbours]] = [
        ("latents", training, in_latents),
        ("features", world.training.pixels[world.rows[sharp]], in_maps),
    ]
    write_neighbours(out / f"neighbours-{name}.png", samples, seen)
    return {
        "latents": {"searched": len(training), **told(in_latents)},
        "features": {"searched": len(sharp), **told(in_maps)},
    }


def _listed(classifier: Classifier, species: np.ndarray, view: np.ndarray, action: np.ndarray) -> list[list[Any]]:
    return [[classifier.species[s], int(v), classifier.actions[a]] for s, v, a in zip(species, view, action, strict=True)]
