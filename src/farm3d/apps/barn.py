"""``farm3d barn``: make a data set of the closed world, look at it, check it."""

from __future__ import annotations

import functools
import io
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from farm3d.apps.barn_options import BarnCheckOptions, BarnLookOptions, BarnMakeOptions
from farm3d.apps.progress import Pace, progress
from farm3d.core.errors import InputError

__all__ = ["check_barn", "look_at_barn", "make_barn"]

_LABEL_PX = 30


def make_barn(options: BarnMakeOptions) -> int:
    """Draw the shards that are not there yet; return 0.

    Raises:
        Farm3DError: no such species, rigs that cannot be had, a folder with another data set, a full disk.
    """
    from farm3d.barn.rigs import fetch_rigs
    from farm3d.barn.species import species
    from farm3d.barn.world import FORMAT, Settings
    from farm3d.core.files import cache_folder
    from farm3d.core.shard_workers import write_shards_in_parallel
    from farm3d.core.shards import ShardPlan, write_shards

    _require_sensible(options)
    kind = species(options.category)
    rigs = fetch_rigs(cache_folder())
    settings = Settings(
        options.category,
        options.split,
        options.seed,
        options.size_px,
        options.per_individual,
        options.truncated,
        options.occluded,
        options.truth,
    )
    recipe = {"made_by": "farm3d barn make", "format": FORMAT, **settings.__dict__}
    plan = ShardPlan(f"{options.category}-{options.split}", recipe, options.count, options.per_shard)
    make_draw = functools.partial(_make_draw, settings, rigs)
    workers = options.workers or os.cpu_count() or 1
    started = time.perf_counter()
    pace = Pace()
    with progress(f"{kind.noun}, {options.split}", pace) as advance:
        if workers == 1:
            write = functools.partial(write_shards, draw=make_draw())
        else:
            write = functools.partial(write_shards_in_parallel, make_draw=make_draw, workers=workers)
        report = write(options.out, plan, part=options.part, on_start=pace.found, on_progress=advance)
    elsewhere = f", {report.elsewhere} left to other workers" if report.elsewhere else ""
    print(f"{options.out / plan.name}: {report.made} shards made, {report.kept} kept{elsewhere}, {time.perf_counter() - started:.1f} s")
    return 0


def look_at_barn(options: BarnLookOptions) -> int:
    """Draw the grid; return 0.

    Raises:
        Farm3DError: a data set that cannot be read, a picture that cannot be written.
    """
    from PIL import Image, ImageDraw, ImageFont

    from farm3d.core.files import whole_file
    from farm3d.core.shard_reader import ShardIndex

    if options.count < 1 or options.columns < 1:
        raise InputError("--count and --columns must be at least 1")
    index = ShardIndex(options.source)
    count = min(options.count, len(index))
    chosen = [round(i * (len(index) - 1) / max(count - 1, 1)) for i in range(count)]
    tiles: list[Image.Image] = []
    for number in chosen:
        key, files = index.read(number)
        if "rgb.png" not in files or "json" not in files:
            raise InputError(f"{key}: no picture with facts", hint="only data sets of `farm3d barn make` can be looked at so")
        facts = json.loads(files["json"])
        picture = Image.open(io.BytesIO(files["rgb.png"])).convert("RGB")
        tile = Image.new("RGB", (picture.width, picture.height + _LABEL_PX), "white")
        tile.paste(picture, (0, 0))
        pen = ImageDraw.Draw(tile)
        if options.keypoints:
            points = facts["keypoints"]
            for (x, y), seen in zip(points["xy"], points["visible"], strict=True):
                pen.ellipse((x - 2, y - 2, x + 2, y + 2), fill="red" if seen else "blue")
        font = ImageFont.load_default(size=10)
        for row, line in enumerate(_wrapped(facts["caption"], pen, font, picture.width - 4)):
            pen.text((2, picture.height + 2 + 13 * row), line, fill="black", font=font)
        tiles.append(tile)
    width, height = tiles[0].size
    columns = min(options.columns, len(tiles))
    grid = Image.new("RGB", (columns * width, -(-len(tiles) // columns) * height), "white")
    for i, tile in enumerate(tiles):
        grid.paste(tile, (i % columns * width, i // columns * height))
    with whole_file(options.out) as part:
        grid.save(part, options.out.suffix.lstrip(".").upper() or "PNG")
    print(options.out)
    return 0


def check_barn(options: BarnCheckOptions) -> int:
    """Print what is wrong, a line each; return 0 if nothing is, else 2."""
    from farm3d.core.shard_check import check_shards

    problems = check_shards(options.source)
    if not problems:
        problems = list(_untrue(options.source))
    for line in problems:
        print(line)
    if not problems:
        print(f"{options.source}: nothing wrong")
    return 2 if problems else 0


def _untrue(source: Path) -> Iterator[str]:
    """Whole files that say what cannot be: a row's picture, mask and facts have to agree with each other."""
    import numpy as np
    from PIL import Image

    from farm3d.core.shard_reader import read_shards

    for plan in sorted(source.glob("*.plan.json")):
        owners: dict[int, str] = {}
        for key, files in read_shards(plan):
            facts = json.loads(files["json"])
            if facts["individual"] in owners and owners[facts["individual"]] != facts["split"]:
                yield f"{key}: individual {facts['individual']} is in two splits"
            owners[facts["individual"]] = facts["split"]
            mask = np.asarray(Image.open(io.BytesIO(files["mask.png"])))
            if mask.shape != (facts["camera"]["height"], facts["camera"]["width"]):
                yield f"{key}: the mask is {mask.shape[1]} x {mask.shape[0]}, the camera says otherwise"
            if not facts["truncated"] and (mask[[0, -1]].max() > 127 or mask[:, [0, -1]].max() > 127):
                yield f"{key}: the animal touches the border, but is not marked as truncated"
            if (mask > 127).mean() < 0.01:
                yield f"{key}: hardly anything of the animal is seen"
            if sum(facts["keypoints"]["visible"]) < 3 and not (facts["truncated"] or facts["occluded"]):
                yield f"{key}: fewer than 3 landmarks are seen"


def _require_sensible(options: BarnMakeOptions) -> None:
    if not 32 <= options.size_px <= 2048:
        raise InputError(f"--size-px {options.size_px}: expected 32 to 2048")
    for name in ("truncated", "occluded"):
        share = getattr(options, name)
        if not 0 <= share <= 1:
            raise InputError(f"--{name} {share}: expected a share from 0 to 1")
    if options.per_individual < 1:
        raise InputError(f"--per-individual {options.per_individual}: expected at least 1")
    if options.workers is not None and options.workers < 1:
        raise InputError(f"--workers {options.workers}: expected at least 1")


def _make_draw(settings: object, rigs: Path) -> Callable[[int], tuple[str, dict[str, bytes]]]:
    """Load what drawing needs, in the process that draws. One thread: pictures are shared out between processes."""
    import torch

    from farm3d.barn.world import Settings, draw, members

    assert isinstance(settings, Settings)
    torch.set_num_threads(1)

    def one(number: int) -> tuple[str, dict[str, bytes]]:
        sample = draw(settings, number, rigs=rigs)
        return sample.key, members(sample, truth=settings.truth)

    return one


def _wrapped(text: str, pen: object, font: object, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if pen.textlength(longer, font=font) > width:  # pyright: ignore[reportAttributeAccessIssue]
            lines.append(word)
        else:
            lines[-1] = longer
    return lines[:2]
