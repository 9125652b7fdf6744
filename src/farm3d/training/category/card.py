"""The model card of a learned category."""

from __future__ import annotations

from collections.abc import Sequence

from farm3d.training.category.trainer import CategoryTrainer

__all__ = ["model_card"]


def model_card(trainer: CategoryTrainer, *, prior: str | None, preset: str, more: Sequence[str] = ()) -> str:
    """Return the card's Markdown: what it is, from what, how to remake it, how far to trust it.

    ``more``: other words of the command that the result depends on.
    """
    run, config = trainer.settings, trainer.model.config
    count = sum(parameter.numel() for parameter in trainer.model.parameters())
    judge = "none" if prior is None or trainer.critic is None else trainer.critic.prior.name
    words = ["--preset", preset, *(() if judge == "none" else ("--prior", "MODEL")), *more]
    command = f"farm3d train --data DATA --out OUT --state STATE --steps {run.schedule.steps} --seed {run.seed} {' '.join(words)}"
    return f"""# {config.category}: a learned category

Shape, appearance, viewpoint and light of a {config.category} from one picture, learned from pictures alone: no 3D shapes, no template,
no photographs unless the pictures below are such.

| | |
|---|---|
| pictures | {len(trainer.pictures)}, digest {trainer.pictures.digest[:16]} |
| judge of virtual views | {judge} |
| command | `{command}` |
| training | {trainer.step} steps, {trainer.hours:.2f} hours |
| weights | {count / 1e6:.2f} million |

Scores, where there are any, stand in docs/benchmark.md. What no picture and no judge has seen is a guess.
"""
