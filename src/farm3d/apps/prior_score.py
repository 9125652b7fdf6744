"""``farm3d prior score``: how well a text-to-image model draws what it is asked."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable

from farm3d.apps.picture_prior import checked_device, open_prior
from farm3d.apps.prior_options import PriorJudgeOptions, PriorScoreOptions
from farm3d.apps.progress import say_err

__all__ = ["score_prior", "tell_stages", "where_words"]

_TELL_EVERY_S = 15.0


def score_prior(options: PriorScoreOptions) -> int:
    """Score the model; return 0.

    Raises:
        Farm3DError: a model or data that cannot be opened, options that cannot be used, a folder that cannot be written.
    """
    import torch

    from farm3d.core.files import write_whole
    from farm3d.model.encoder import load_encoder
    from farm3d.training.prior.score.score import ScoreSettings, score
    from farm3d.training.prior.score.tables import score_tables

    settings = ScoreSettings(
        options.species, options.count, options.seed, options.guidance, options.steps, options.taught, options.searched
    )
    device = checked_device(options.device)
    if options.threads is not None:
        torch.set_num_threads(max(options.threads, 1))
    began = time.monotonic()
    prior = open_prior(options.model, device=device, dtype=options.dtype)
    report = score(
        prior,
        load_encoder(),
        settings,
        training=options.train_data,
        held_out=options.held_out,
        out=options.out,
        state=options.state or options.out / "state",
        tell=tell_stages(),
    )
    command = _command(options)
    report = {"command": command, "seconds": round(time.monotonic() - began, 1), **report}
    write_whole(options.out / "score.json", json.dumps(report, indent=1) + "\n")
    write_whole(options.out / "score.md", score_tables(report, command=command))
    whole = report["all"]
    shares = ", ".join(f"{kind} {100 * whole[kind]['share']:.1f} %" for kind in ("species", "view", "adjacent", "action"))
    print(f"{options.out / 'score.md'}: {whole['n']} samples: {shares}")
    return 0


def tell_stages() -> Callable[[str], Callable[[int, int], None]]:
    """Return what, given the name of a stage, returns a function that prints how far it is, now and then."""

    def stage(what: str) -> Callable[[int, int], None]:
        began = time.monotonic()
        told = [began]

        def tell(done: int, total: int) -> None:
            now = time.monotonic()
            if done < total and now - told[0] < _TELL_EVERY_S:
                return
            told[0] = now
            left = (now - began) / max(done, 1) * (total - done)
            say_err(f"{what}: {done} of {total}, {now - began:.0f} s, about {left:.0f} s left")

        return tell

    return stage


def where_words(options: PriorScoreOptions | PriorJudgeOptions) -> str:
    """Return the options that say where and in what a model runs, as they are typed; nothing where nothing was said."""
    device = "" if options.device == "cpu" else f" --device {options.device}"
    return device + ("" if options.dtype == "auto" else f" --dtype {options.dtype}")


def _command(options: PriorScoreOptions) -> str:
    """Say what was asked, without the places of this machine."""
    data = [" ".join(shlex.quote(path.name) for path in paths) for paths in (options.train_data, options.held_out)]
    species = f" --species {' '.join(options.species)}" if options.species else ""
    numbers = f"--count {options.count} --seed {options.seed} --guidance {options.guidance:g} --steps {options.steps}"
    return f"farm3d prior score MODEL --train-data {data[0]} --held-out {data[1]} --out OUT{species} {numbers}{where_words(options)}"
