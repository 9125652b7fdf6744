"""Ways to train a category: a minute, hours on a laptop (two of them, `wide` is the usual one), and as the paper does on a GPU."""

from __future__ import annotations

import dataclasses

from farm3d.model.category.config import CategoryConfig
from farm3d.model.fields import HALF_BOX
from farm3d.training.category.schedule import Schedule, Weights
from farm3d.training.category.trainer import Run

__all__ = ["PRESETS", "embedded", "paper", "poses", "tiny", "wide"]


def tiny(category: str, *, channels: int, seed: int = 0, steps: int = 200) -> Run:
    """A minute, to see that it runs: a small shape field, 32 to 48 px."""
    config = CategoryConfig(category, channels=channels, feature_channels=min(8, channels), code=48, local=16, sdf_hidden=64, sdf_layers=2)
    schedule = Schedule(
        steps, batch_early=2, batch_late=4, size_early=32, size_late=48, cell_early=0.33, cell_late=0.25, uniform_steps=min(40, steps // 5)
    )
    return Run(config, schedule, Weights(view_words=0.5, view=2.0, virtual=1e-4), seed)


def embedded(category: str, *, channels: int, seed: int = 0, steps: int = 8000) -> Run:
    """Half an hour to an hour of one core without critic, two to four with it: 64 then 96 px, all hypotheses for the first two fifths."""
    config = CategoryConfig(category, channels=channels, feature_channels=min(16, channels))
    # A late step costs by its pictures, and one that is judged by the critic's passes too (docs/training.md).
    schedule = Schedule(steps, batch_late=6, virtual_every=4)
    return Run(config, schedule, Weights(view_words=0.5, view=2.0, virtual=2e-4), seed)


def wide(category: str, *, channels: int, seed: int = 0, steps: int = 14_000) -> Run:
    """As :func:`embedded`, but longer, for sets that the reader chose: quarters reach well beyond the side views, words teach to the end.

    A little pressure from within keeps flanks full, ribs cost, and thin parts count more for half of the run, so that legs grow. The box is
    as long as the paper's. Bones look at the picture from end to end. docs/experiments.md has what each of these is worth.
    """
    run = embedded(category, channels=channels, seed=seed, steps=steps)
    box = (*run.config.box[:2], HALF_BOX)
    config = dataclasses.replace(run.config, azimuth_reach_deg=65.0, box=box, bone_points=3, local_scale=2)
    schedule = dataclasses.replace(run.schedule, words_until=1.0, words_slack_deg=11.25, words_oblique_deg=33.75)
    weights = dataclasses.replace(run.weights, view=4.0, volume=0.02, ripple=0.05, thin=10.0)
    return dataclasses.replace(run, config=config, schedule=schedule, weights=weights)


def poses(category: str, *, channels: int, seed: int = 0, steps: int = 4000) -> Run:
    """Go on with the networks of a learned category: twenty minutes of one core. Its shape stays as it is, and so do its sizes.

    Bones look a second time, where they were turned to; limbs that miss the outline altogether are drawn to it by distance. All hypotheses
    are drawn until the table knows them, and the words hold them where they belong.
    """
    config = CategoryConfig(category, channels=channels, feature_channels=min(16, channels), looks=2)
    schedule = Schedule(
        steps,
        batch_late=8,
        size_from=1.0,
        uniform_steps=0,
        sharp_at=0.0,
        table_from=0.08,
        words_until=1.0,
        words_slack_deg=11.25,
        words_oblique_deg=33.75,
        shape_from=1.0,
        articulation_from=0.0,
        centred_from=0.0,
        colour_from=0.0,
        deformation_from=0.0,
        decay_from=0.5,
        decay_to=0.05,
    )
    return Run(config, schedule, Weights(view_words=0.5, view=1.0, outside=12.0, coverage=12.0), seed)


def paper(category: str, *, channels: int, seed: int = 0, steps: int = 140_000) -> Run:
    """The published sizes and times where they are known (sections 2 and 3), for Stable Diffusion's pictures, DINO's features and a GPU.

    The shape's box is the paper's cube, its cells a 128th of it; articulation begins at 10,000 of 140,000 steps, deformation at 90,000.
    """
    config = CategoryConfig(
        category,
        channels=channels,
        feature_channels=min(16, channels),
        sdf_octaves=8,
        sdf_hidden=256,
        sdf_layers=5,
        box=(3.5, 3.5, 3.5),
        code=256,
        local=128,
        deform_hidden=256,
        albedo_hidden=256,
        albedo_layers=8,
        albedo_octaves=10,
        bone_width=256,
    )
    schedule = Schedule(
        steps,
        batch_early=10,
        batch_late=10,
        size_early=256,
        size_late=256,
        cell_early=7 / 128,
        cell_late=7 / 256,
        cell_from=100 / 140,
        uniform_steps=2000,
        sharp_at=0.03,
        softness=(1.0, 0.01),
        table_from=6 / 140,
        articulation_from=10 / 140,
        centred_from=60 / 140,
        colour_from=0.0,
        deformation_from=90 / 140,
        virtual_from=20 / 140,
        virtual_every=1,
        rate_shape=1e-3,
        rate_features=1e-3,
        rate_networks=1e-4,
    )
    return Run(config, schedule, dataclasses.replace(Weights(), view_words=0.0, virtual=1e-4), seed)


PRESETS = {"tiny": tiny, "embedded": embedded, "wide": wide, "poses": poses, "paper": paper}
