"""A score as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["score_tables"]

_KINDS = ("species", "view", "adjacent", "opposite", "mirrored", "action")


def score_tables(report: Mapping[str, Any], *, command: str) -> str:
    """Return the report in words and tables."""
    model, settings, data = report["model"], report["settings"], report["data"]
    classifier, species = report["classifier"], report["species"]
    head = "| | n | species | view | next view | view behind | mirrored view | action |\n|---|---|---|---|---|---|---|---|"
    lines = [
        f"# Score of {model['name']}",
        "",
        f"Model sha256 `{model['digest'] or 'unknown'}`. {settings['count']} samples of each species, seed {settings['seed']}, guidance "
        f"{settings['guidance']:g}, {settings['steps']} steps; prompts are the captions of held-out animals, views in turn.",
        "",
        f"    {command}",
        "",
        "Shares are per cent with their 95 % Wilson intervals.",
        "",
        "## The classifier's own accuracy",
        "",
        f"It learned from {classifier['taught']} pictures and is asked about {data['held_out_pictures']} pictures of"
        f" {data['held_out_animals']} animals that trained nothing; and about the same pictures after the model's encoder and decoder."
        " Samples as varied as the barn's can hardly score higher.",
        "",
        head,
        _row("held out", classifier["held_out"]),
        _row("held out, reconstructed", classifier["held_out_reconstructed"]),
        "",
        "## Samples: does the classifier name what was asked?",
        "",
        head,
        *(_row(name, value["asked"]) for name, value in species.items()),
        _row("**all**", report["all"]),
        "",
        "By view, all species:",
        "",
        head,
        *(_row(name, value) for name, value in report["all"]["by_view"].items()),
        "",
        "Right views by species, of as many:",
        "",
        "| | " + " | ".join(report["all"]["by_view"]) + " |",
        "|---|" + "---|" * len(report["all"]["by_view"]),
        *(_views_row(name, value["asked"]["by_view"]) for name, value in species.items()),
        "",
        "By action, all species:",
        "",
        head,
        *(_row(name, value) for name, value in report["all"]["by_action"].items()),
        "",
        "What was named where an action was asked for: "
        + "; ".join(f"{asked}: {_counts(named)}" for asked, named in report["all"]["action_named"].items())
        + ".",
        "",
        *_bulk_lines(species),
        "## Distance to held-out pictures",
        "",
        "Kernel distance (KID) of pooled, standardised features over subsets of 100, coverage and density with 5 neighbours; the floor is"
        " that of as many training pictures.",
        "",
        "| | held out | samples | KID | floor | coverage | floor | density | floor |",
        "|---|---|---|---|---|---|---|---|---|",
        *(_distance_row(name, value) for name, value in species.items()),
        "",
        "## Nearest training pictures",
        "",
        "Distance to the nearest training picture of the species or its mirror image, animals cut out: median and least, of samples and of"
        " held-out pictures. `copies` are samples nearer than all but 1 % of held-out pictures.",
        "",
        "| | in | searched | samples | held out | nearest sample | nearest held out | copies |",
        "|---|---|---|---|---|---|---|---|",
        *(_copies_row(name, where, value["copies"][where]) for name, value in species.items() for where in ("latents", "features")),
        "",
        "## Encoder and decoder",
        "",
        _autoencoder(report["autoencoder"]),
        "",
    ]
    return "\n".join(lines)


def _row(name: str, value: Mapping[str, Any]) -> str:
    return " | ".join([f"| {name}", str(value["n"]), *(_share(value[kind]) for kind in _KINDS)]) + " |"


def _views_row(name: str, by_view: Mapping[str, Any]) -> str:
    return f"| {name} | " + " | ".join(f"{value['view']['count']} of {value['n']}" for value in by_view.values()) + " |"


def _bulk_lines(species: Mapping[str, Any]) -> list[str]:
    """Return the section about silhouettes' areas; nothing for models that draw none."""
    found = {name: value["bulk"] for name, value in species.items() if value["bulk"] is not None}
    if not found:
        return []
    views = list(next(iter(found.values()))["by_view"])
    return [
        "## Bulk",
        "",
        "Mean area of the samples' silhouettes over that of held-out pictures of the same species and view: 1 is right, more is fat.",
        "",
        f"| | all | {' | '.join(views)} |",
        "|---|" + "---|" * (1 + len(views)),
        *(
            f"| {name} | {bulk['all']:.2f} | {' | '.join(f'{ratio:.2f}' for ratio in bulk['by_view'].values())} |"
            for name, bulk in found.items()
        ),
        "",
    ]


def _share(value: Mapping[str, Any]) -> str:
    if value["share"] is None:
        return "–"
    return f"{100 * value['share']:.1f} ({100 * value['low']:.0f}–{100 * value['high']:.0f})"


def _counts(named: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in named.items())


def _distance_row(name: str, value: Mapping[str, Any]) -> str:
    drawn, floor = value["distances"]["samples"], value["distances"]["training"]
    kids = [f"{part['kid']:.3f} ± {part['kid_std']:.3f}" for part in (drawn, floor)]
    rest = [f"{part[kind]:.2f}" for kind in ("coverage", "density") for part in (drawn, floor)]
    return f"| {name} | {value['held_out_n']} | {drawn['n']} | {' | '.join([*kids, *rest])} |"


def _copies_row(name: str, where: str, value: Mapping[str, Any]) -> str:
    kinds = ("samples_median", "held_out_median", "samples_nearest", "held_out_nearest")
    return (
        f"| {name} | {where} | {value['searched']} | {' | '.join(f'{value[kind]:.3f}' for kind in kinds)} | {100 * value['copies']:.1f} % |"
    )


def _autoencoder(value: Mapping[str, Any]) -> str:
    masks = "" if value["mask_iou"] is None else f", mask IoU {value['mask_iou']:.3f} (worst {value['mask_iou_worst']:.3f})"
    return f"{value['n']} held-out pictures: PSNR {value['psnr_db']:.1f} dB, of the animal alone {value['psnr_animal_db']:.1f} dB{masks}."
