"""What follows the pictures of a training set, whoever made them: report, sheets, and the pass that makes features."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm3d.apps.progress import Pace, progress, say_err
from farm3d.apps.shard_jobs import Hands, make_all
from farm3d.core.errors import InputError

if TYPE_CHECKING:
    from farm3d.core.shards import ShardPlan

__all__ = ["draw_features", "finish_pictures", "make_features", "require_backbone", "say"]

_SHOWN = 24


def finish_pictures(folder: Path, plan: ShardPlan, pace: Pace) -> bool:
    """Write report and sheets of a finished set and say what came of it; return False where other parts are not finished yet.

    Raises:
        Farm3DError: shards that cannot be read, a full disk.
    """
    from farm3d.core.files import write_whole
    from farm3d.training.dataset.rows import copies_in, is_finished, read_facts, tally
    from farm3d.training.dataset.sheets import write_pages

    if not is_finished(folder, plan):
        print(f"{folder / plan.name}: other parts are not finished; when they are, run this again for report and features")
        return False
    facts = list(read_facts(folder, plan))
    count = tally(facts, copies_in(facts))
    run = {"pictures": pace.made, "pictures_per_s": round(pace.per_second, 3) if pace.made else None}
    report: dict[str, Any] = {"name": plan.name, **count.as_json(), "this_run": run}
    path = folder / f"{plan.name}.report.json"
    if pace.made or not path.exists():  # a run that found everything there has nothing to say about speed
        write_whole(path, json.dumps(report, indent=2, allow_nan=False) + "\n")
        write_pages(folder, plan, facts)
    speed = f", {pace.per_second:.2f} a second" if pace.made else ""
    refused = sum(count.rejected.values())
    reasons = "".join(f", {reason} {number}" for reason, number in count.rejected.items())
    print(f"{folder / plan.name}: {count.rows - count.failed} pictures, {count.failed} rows without one{speed}; {count.copies} near copies")
    if count.rejected:
        share = f"{100 * refused / count.attempts:.1f} %"
        print(f"rejected: {refused} of {count.attempts} attempts ({share}){reasons}")
    return True


def make_features(folder: Path, plan: ShardPlan, *, name: str, encoder: str | None, dims: int, hands: Hands) -> None:
    """Make the features of a finished set of pictures, and draw some of them.

    Raises:
        Farm3DError: a backbone that cannot be opened, no picture to make them of, a set of that name with another backbone, a full disk.
    """
    import torch

    from farm3d.model.encoder import open_backbone
    from farm3d.training.dataset.features import FeatureSettings, fitted_pca, left_out_rows, open_features
    from farm3d.training.dataset.rows import copies_in, is_finished, read_facts

    torch.set_num_threads(1)  # the components' last bits depend on it
    backbone = open_backbone(encoder)
    facts = list(read_facts(folder, plan))
    left_out = left_out_rows(facts, copies_in(facts))
    keys = [row["key"] for row in facts if row["key"] not in left_out]
    if not keys:
        raise InputError(f"{folder / plan.name}: no picture to make features of", hint="`farm3d data look --failed` shows why")
    with progress(f"{name}: components") as advance:
        pca, digest = fitted_pca(folder, name, plan, backbone, dims=dims, keys=keys, on_progress=advance)
    settings = FeatureSettings(name, folder, plan, encoder, backbone.name, backbone.digest, pca, digest, left_out)
    features = settings.plan()
    _, pace = make_all(folder, features, functools.partial(open_features, settings), hands, words=name)
    if not is_finished(folder, features):
        print(f"{folder / name}: other parts are not finished")
        return
    if dims >= 3 and (pace.made or not (folder / f"{name}.png").exists()):
        draw_features(folder, plan, features, folder / f"{name}.png", keys[:_SHOWN])
    speed = f", {pace.per_second:.1f} a second" if pace.made else ""
    kept = 100 * float(pca.explained.sum())
    print(
        f"{folder / name}: {len(keys)} of {plan.count} rows{speed}; {dims} components of {backbone.name} hold {kept:.1f} % of the variance"
    )


def require_backbone(source: str | None) -> None:
    """Open a backbone and let go of it: what is wrong with it is better said before an hour of drawing.

    Raises:
        Farm3DError: it cannot be opened.
    """
    from farm3d.model.encoder import open_backbone

    open_backbone(source)


def draw_features(folder: Path, pictures: ShardPlan, features: ShardPlan, out: Path, keys: list[str]) -> None:
    """Draw crops with their principal components as colours under them.

    Raises:
        InputError: none of these rows has features.
        OutputError: the picture cannot be written.
    """
    from farm3d.training.dataset.sheets import components_of, draw_grid, feature_tiles, index_of

    index, maps = index_of(folder, pictures), index_of(folder, features)
    rows = []
    for key in keys:
        members = maps.read(key)[1]
        if "features.safetensors" in members:
            rows.append((index.read(key)[1], components_of(key, members), key))
    if not rows:
        raise InputError(f"{folder / features.name}: none of these rows has features")
    draw_grid(out, feature_tiles(rows), columns=8)


def say(line: str) -> None:
    """Print a note on stderr."""
    say_err(f"farm3d: {line}")
