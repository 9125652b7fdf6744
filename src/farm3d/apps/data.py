"""``farm3d prepare-data`` and ``farm3d data``: training sets from photographs; sets checked, looked at, given other features."""

from __future__ import annotations

import functools
import re
from pathlib import Path

from farm3d.apps.data_passes import draw_features, finish_pictures, make_features, require_backbone, say
from farm3d.apps.generate_options import DataCheckOptions, DataFeaturesOptions, DataLookOptions, PrepareDataOptions
from farm3d.apps.shard_jobs import Hands, make_all
from farm3d.core.errors import InputError, MissingPartError

__all__ = ["check_training_set", "features_of_training_set", "look_at_training_set", "prepare_data"]

_COLUMNS = 8


def prepare_data(options: PrepareDataOptions) -> int:
    """Make rows of the photographs, then their features; return 0.

    Raises:
        Farm3DError: no photographs, masks for none of them, a folder with another data set or with photographs that changed, a full disk.
    """
    from farm3d.training.dataset.photographs import open_photographs, photo_settings

    hands = Hands(options.workers)
    if not 16 <= options.size_px <= 2048:
        raise InputError(f"--size-px {options.size_px}: expected 16 to 2048")
    if not options.no_features:
        require_backbone(options.encoder)
    mask_model, mask_digest = _segmenter(options.mask_model)
    name = options.name or (f"{options.category.lower().replace(' ', '-')}-photos" if options.category else "photos")
    settings = photo_settings(
        options.photos,
        options.mask,
        name=name,
        category=options.category,
        size_px=options.size_px,
        any_animal=options.any_animal,
        mask_model=mask_model,
        mask_digest=mask_digest,
    )
    if mask_digest is None and len(settings.mask_digests) < len(settings.photos):
        say("no segmenter is installed: photographs without mask and transparency cannot be used (`farm3d models fetch` brings one)")
    plan = settings.plan(options.per_shard)
    make_draw = functools.partial(open_photographs, settings)
    _, pace = make_all(options.out, plan, make_draw, hands, words=f"{name}: photographs")
    if finish_pictures(options.out, plan, pace) and not options.no_features:
        features = f"{plan.name}-features"
        make_features(options.out, plan, name=features, encoder=options.encoder, dims=options.dims, hands=hands)
    return 0


def check_training_set(options: DataCheckOptions) -> int:
    """Print what is wrong, a line each; return 0 if nothing is, else 2."""
    from farm3d.training.dataset.check import check_data

    wrong = False
    for line in check_data(options.folder):
        wrong = True
        print(line)
    if not wrong:
        print(f"{options.folder}: nothing wrong")
    return 2 if wrong else 0


def look_at_training_set(options: DataLookOptions) -> int:
    """Draw the grid; return 0.

    Raises:
        Farm3DError: a set that cannot be read, nothing to show, a picture that cannot be written.
    """
    from farm3d.training.dataset.rows import feature_sets, read_facts, the_picture_set
    from farm3d.training.dataset.sheets import draw_grid, index_of, picture_tile, text_tile

    if options.count < 1:
        raise InputError(f"--count {options.count}: expected at least 1")
    if options.features and options.failed:
        raise InputError("--features and --failed: rows without a picture have no features", hint="leave out one")
    plan = the_picture_set(options.folder, options.name)
    rows = [row for row in read_facts(options.folder, plan) if ("failed" in row) == options.failed]
    if not rows:
        raise InputError(f"{options.folder / plan.name}: no row {'without' if options.failed else 'with'} a picture")
    chosen = _spread(rows, options.count)
    if options.features:
        sets = feature_sets(options.folder, plan.name)
        if not sets:
            raise InputError(f"{options.folder / plan.name}: has no features", hint=f"farm3d data features {options.folder}")
        draw_features(options.folder, plan, sets[0], options.out, [row["key"] for row in chosen])
    else:
        index = index_of(options.folder, plan)
        tiles = []
        for row in chosen:
            words = row.get("prompt") or row.get("file") or ""
            if options.failed:
                reasons = ", ".join(attempt["reason"] for attempt in row["rejected"])
                tiles.append(text_tile(f"{row['key']}: {words}: {row['failed']}{': ' if reasons else ''}{reasons}"))
            else:
                tiles.append(picture_tile(index.read(row["key"])[1], f"{row['key'].rpartition('-')[2]} {words}"))
        draw_grid(options.out, tiles, columns=_COLUMNS)
    print(options.out)
    return 0


def features_of_training_set(options: DataFeaturesOptions) -> int:
    """Make the features; return 0.

    Raises:
        Farm3DError: pictures that are not finished, a backbone that cannot be opened, another backbone than before, a full disk.
    """
    from farm3d.training.dataset.rows import is_finished, the_picture_set

    hands = Hands(options.workers, options.shard, options.ray)
    if options.suffix is not None and not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,15}", options.suffix):
        raise InputError(f"--suffix {options.suffix:.40}: expected up to 16 of a-z, 0-9, - and _", hint="e.g. dino")
    plan = the_picture_set(options.folder, options.name)
    if not is_finished(options.folder, plan):
        raise InputError(f"{options.folder / plan.name}: its pictures are not finished", hint="run what makes them again")
    name = f"{plan.name}-features{f'-{options.suffix}' if options.suffix else ''}"
    make_features(options.folder, plan, name=name, encoder=options.encoder, dims=options.dims, hands=hands)
    return 0


def _spread(rows: list, count: int) -> list:
    count = min(count, len(rows))
    return [rows[round(i * (len(rows) - 1) / max(count - 1, 1))] for i in range(count)]


def _segmenter(explicit: Path | None) -> tuple[Path | None, str | None]:
    """Return the segmenter's file and sha256; None where none is installed, since masks or transparency may do."""
    from importlib.util import find_spec

    from farm3d.core.files import sha256_of
    from farm3d.data.segment import find_segmenter

    try:
        path = find_segmenter(explicit)
    except MissingPartError:
        return None, None
    if explicit is None and find_spec("onnxruntime") is None:
        return None, None
    return path, sha256_of(path)
