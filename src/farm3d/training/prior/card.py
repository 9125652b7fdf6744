"""The model card of a trained prior: what it is, what made it, how good it was on animals it never saw, and where it ends."""

from __future__ import annotations

from collections.abc import Mapping

from farm3d.training.prior.settings import Settings
from farm3d.training.prior.trainer import Trainer

__all__ = ["model_card"]


_MADE, _FOUND = "## Made by\n", "## On held-out animals\n"


def model_card(trainer: Trainer, *, command: str, earlier: str | None = None) -> str:
    """Return the card of a finished training, Markdown.

    Args:
        trainer: after :meth:`Trainer.run` returned True.
        command: that trained it.
        earlier: card of the model that it went on from; how that one was made is told too.
    """
    pictures = trainer.pictures
    counts = {name: sum(caption.species == name for caption in pictures.captions) for name in pictures.species}
    return f"""---
license: apache-2.0
pipeline_tag: text-to-image
---

# Embedded prior of farm3d: {", ".join(pictures.species)}

A small text-to-image diffusion model that draws one animal of {trainer.parts.decoder.transform.config.size_px} px with its
silhouette from words such as "a bay horse, walking, seen from its front left". It was trained on renders of the farm3d barn and
their captions, and on nothing else: no photograph, no camera, no depth. It is a prior for 3D reconstruction, not a picture maker.

```python
from farm3d.diffusion.embedded.pipeline import EmbeddedPrior

prior = EmbeddedPrior.from_pretrained("FOLDER")
pictures = prior.draw(["a cow, grazing, seen from behind"], seeds=[0])
```

## Made by

    {command}

{_table(_facts(trainer.settings, trainer))}

## Data

{_table({f"{name}": f"{count} pictures" for name, count in counts.items()})}

{_list(pictures.sources)}
{_before(trainer.settings.start, earlier)}
## On held-out animals

Mean squared error of the velocity by noise level t (latents have unit variance), and decoding of encoded pictures.

{_table({name: f"{value:.4f}" for name, value in trainer.figures.items()})}

## Limits

It knows the barn's species, coats, actions and views, at the barn's quality: low-poly animals with painted coats. Words it has never
seen change little. Pictures for anything but animals of these species are meaningless. Weights: Apache-2.0; the rigs behind the
renders are CC0.
"""


def _before(digest: str | None, earlier: str | None) -> str:
    if digest is None or earlier is None:
        return ""
    _, _, told = earlier.partition(_MADE)
    told, _, _ = told.partition(_FOUND)
    told = told.strip("\n").replace("\n## ", "\n### ") or "Its card does not say how it was made."
    return f"\n## It went on from the model {digest[:16]}\n\n{told}\n"


def _facts(settings: Settings, trainer: Trainer) -> Mapping[str, str]:
    weights = sum(parameter.numel() for module in trainer.parts.modules().values() for parameter in module.parameters())
    return {
        "size": f"{settings.size}, {weights / 1e6:.1f} million weights",
        "budget": settings.budget.words(),
        "trained": f"{trainer.hours:.2f} hours, {trainer.shown} pictures shown to the denoiser, {trainer.steps} steps in all",
        "seed": f"{settings.seed}",
        "computed in": str(settings.dtype).removeprefix("torch."),
    }


def _table(values: Mapping[str, str]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in values.items())])


def _list(lines: tuple[str, ...]) -> str:
    return "\n".join(f"- {line}" for line in lines)
