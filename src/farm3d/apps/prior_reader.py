"""``farm3d prior reader``: train what tells whether a drawn picture shows what its words say."""

from __future__ import annotations

import shlex

from farm3d.apps.prior_options import PriorReaderOptions
from farm3d.apps.prior_score import tell_stages

__all__ = ["reader_for_prior"]


def reader_for_prior(options: PriorReaderOptions) -> int:
    """Train the reader; return 0.

    Raises:
        Farm3DError: data or options that cannot be used, a folder that cannot be written.
    """
    import torch

    from farm3d.model.caption_reader import CaptionReaderConfig
    from farm3d.model.folder import require_model_place
    from farm3d.training.prior.reader import ReaderSettings, train_reader

    settings = ReaderSettings(options.taught, options.epochs, options.seed)
    require_model_place(options.out, CaptionReaderConfig.__name__)
    if options.threads is not None:
        torch.set_num_threads(max(options.threads, 1))
    score = train_reader(
        settings,
        training=options.data,
        held_out=options.held_out or options.data,
        state=options.state,
        out=options.out,
        command=_command(options),
        tell=tell_stages(),
    )
    shares = ", ".join(f"{kind} {100 * score[kind]['share']:.1f} %" for kind in ("species", "view", "adjacent", "opposite", "action"))
    print(f"{options.out}: of {score['n']} held-out pictures reads {shares}")
    return 0


def _command(options: PriorReaderOptions) -> str:
    """Say what was asked, without the places of this machine."""
    data, held_out = (" ".join(shlex.quote(path.name) for path in paths) for paths in (options.data, options.held_out))
    told = f" --held-out {held_out}" if held_out else ""
    numbers = f"--taught {options.taught} --epochs {options.epochs} --seed {options.seed}"
    return f"farm3d prior reader --data {data}{told} --out OUT --state STATE {numbers}"
