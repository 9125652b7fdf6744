"""``farm3d prior judge``: whether a text-to-image model can be used as a critic, and how it must be asked."""

from __future__ import annotations

import json
import shlex
import time

from farm3d.apps.picture_prior import checked_device, open_prior
from farm3d.apps.prior_options import PriorJudgeOptions
from farm3d.apps.prior_score import tell_stages, where_words

__all__ = ["judge_prior"]


def judge_prior(options: PriorJudgeOptions) -> int:
    """Judge the model; return 0.

    Raises:
        Farm3DError: a model, data or rigs that cannot be opened, no matplotlib, options that cannot be used, a folder that cannot be
            written.
    """
    import torch

    from farm3d.barn.rigs import fetch_rigs
    from farm3d.core.files import cache_folder, write_whole
    from farm3d.training.prior.judge.faults import FAULTS
    from farm3d.training.prior.judge.judge import JudgeSettings, judge
    from farm3d.training.prior.judge.plots import plot_slopes, require_plots, write_before_and_after
    from farm3d.training.prior.judge.tables import judge_tables
    from farm3d.training.prior.score.known import read_known

    require_plots()
    settings = JudgeSettings(options.species, options.faults or FAULTS, options.pictures, options.draws, options.descent, seed=options.seed)
    settings = settings.quickened() if options.quick else settings
    device = checked_device(options.device)
    if options.threads is not None:
        torch.set_num_threads(max(options.threads, 1))
    began, processor = time.monotonic(), time.process_time()
    prior = open_prior(options.model, device=device, dtype=options.dtype)
    tell = tell_stages()
    known = read_known(
        options.held_out,
        options.out / "state",
        held_out=True,
        size_px=prior.size_px,
        most=settings.pictures,
        species=settings.species,
        seed=settings.seed,
        on_progress=tell("reading held-out pictures"),
    )
    verdict = judge(prior, known, settings, rigs=options.rigs or fetch_rigs(cache_folder()), tell=tell)
    command = _command(options)
    spent = {"seconds": round(time.monotonic() - began, 1), "processor_seconds": round(time.process_time() - processor, 1)}
    report = {"command": command, **spent, **verdict.report}
    write_whole(options.out / "judge.json", json.dumps(report, indent=1) + "\n")
    write_whole(options.out / "judge.md", judge_tables(report, command=command))
    plot_slopes(report["faults"], options.out / "gradients.png")
    for fault, shown in verdict.mended.items():
        if shown:
            write_before_and_after(options.out / f"mended-{fault}.png", shown)
    whole = report["views"]["own"]["all"]["sum"]
    print(f"{options.out / 'judge.md'}: true view preferred {whole['exact']['share']:.3f}, within one {whole['within_one']['share']:.3f}")
    return 0


def _command(options: PriorJudgeOptions) -> str:
    """Say what was asked, without the places of this machine."""
    data = " ".join(shlex.quote(path.name) for path in options.held_out)
    faults = f" --faults {' '.join(options.faults)}" if options.faults else ""
    numbers = f"--pictures {options.pictures} --draws {options.draws} --descent {options.descent} --seed {options.seed}"
    more = (" --quick" if options.quick else "") + where_words(options)
    return f"farm3d prior judge MODEL --held-out {data} --out OUT --species {' '.join(options.species)}{faults} {numbers}{more}"
