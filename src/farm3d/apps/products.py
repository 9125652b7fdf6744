"""The files that `farm3d reconstruct` and `create` write for an animal: their names, whose they are, and which must not be touched."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from farm3d.core.errors import InputError, OutputError
from farm3d.core.files import sha256_of
from farm3d.data.photo import shown_path

__all__ = [
    "REPORT",
    "REQUEST",
    "ProductOptions",
    "finished",
    "output_folder",
    "product",
    "products",
    "refuse_bad_names",
    "refuse_foreign",
    "refuse_foreign_files",
    "refuse_other_results",
    "refuse_own_inputs",
    "refuse_writing_over",
    "request_of",
    "without_sheets",
]

REPORT = "report.json"
REQUEST = "request"
"""Entry of the sidecar: checksums of what the animal was made from, and the options that decide what comes of it."""
_MAX_NAME_BYTES = 255  # of one file name on the usual file systems
# What the first bytes of a file of ours hold, by suffix.
_MARKS = {".glb": b'"generator":"farm3d', ".png": b"Software\0farm3d", ".json": b'"T_camera_world"', ".mp4": b"farm3d"}
_HEAD_BYTES = 1 << 20


class ProductOptions(Protocol):
    """What the options of a verb say of its files: where they go, which there are, and whether they may replace what stands there."""

    @property
    def out(self) -> Path:
        """Folder of the files."""
        ...

    @property
    def turntable(self) -> bool:
        """Whether a film is written."""
        ...

    @property
    def texture_px(self) -> int:
        """Side of the texture."""
        ...

    @property
    def with_light(self) -> bool:
        """Whether the GLB holds the light."""
        ...

    @property
    def seed(self) -> int:
        """Of the start views."""
        ...

    @property
    def overwrite(self) -> bool:
        """Whether files that exist are replaced."""
        ...


def product(photo: Path, suffix: str, options: ProductOptions) -> Path:
    """Return where a product of a photo goes. The suffix is appended: the stem may hold dots (``mare.2024.jpg``)."""
    return options.out / f"{photo.stem}{suffix}"


def products(photo: Path, options: ProductOptions) -> list[Path]:
    """Return where all products of a photo go."""
    return [product(photo, suffix, options) for suffix in (".glb", ".png", ".json", *([".mp4"] if options.turntable else []))]


def finished(photo: Path, options: ProductOptions, request: Mapping[str, Any]) -> bool:
    """Whether every product of a photo is there, made of the same with the same options (of an earlier farm3d's nothing is known)."""
    if not all(os.path.isfile(path) for path in products(photo, options)):
        return False
    there = _request_there(product(photo, ".json", options))
    return there is not None and (not there or there == request)


def refuse_other_results(photo: Path, options: ProductOptions, request: Mapping[str, Any]) -> None:
    """Refuse to skip, or to write over, what was made of another picture or with other options; ``--overwrite`` is for that.

    Raises:
        OutputError: naming the file and what differs.
    """
    path = product(photo, ".json", options)
    there = None if options.overwrite or not os.path.isfile(path) else _request_there(path)
    if there and there != request and request.get("photo_sha256", "") is not None:  # a picture that is not there is said where it is read
        names = [name for name in request if request[name] != there.get(name)] + [name for name in there if name not in request]
        said = ", ".join(f"{name} {_short(there.get(name))} then, {_short(request.get(name))} now" for name in names[:2])
        hint = "--overwrite makes it anew, or choose another --out folder"
        raise OutputError(f"{shown_path(path)}: is of another picture, or was made otherwise: {said}", hint=hint)


def request_of(options: ProductOptions, names: Iterable[str], *, files: Mapping[str, Path | None], models: Iterable[str]) -> dict[str, Any]:
    """Return what decides how an animal's files come out, JSON-ready and without places of a machine.

    Args:
        options: of the verb.
        names: options that count by their value.
        files: what is read, by name; its sha256 counts. One that is left out or not there is None: that is said where it is read.
        models: options that hold the name or the folder of a model; the last part counts.
    """
    chosen = {name: getattr(options, name) for name in models}
    return {
        **{f"{name}_sha256": _digest(path) for name, path in files.items()},
        **{name: None if value is None else Path(value).name for name, value in chosen.items()},
        **{name: getattr(options, name) for name in (*names, "seed", "texture_px", "with_light")},
    }


def _digest(path: Path | None) -> str | None:
    try:
        return None if path is None else sha256_of(path)
    except OSError:
        return None


def _request_there(sidecar: Path) -> dict[str, Any] | None:
    """Return what a sidecar says of how it was made; empty where it says nothing, None where it cannot be read."""
    try:
        facts = json.loads(sidecar.read_text(encoding="utf-8"))
        return dict(facts.get(REQUEST, {}))
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def _short(value: Any) -> str:
    return f"{value:.12}…" if isinstance(value, str) and len(value) > 40 else str(value)


def without_sheets(photos: list[Path], options: ProductOptions) -> list[Path]:
    """Leave out contact sheets of an earlier run into the photographs' own folder: NAME.png of ours, with a photo NAME.jpg."""
    out = os.path.realpath(options.out)
    others = {photo.stem for photo in photos if photo.suffix != ".png"}

    def is_sheet(photo: Path) -> bool:
        if photo.suffix != ".png" or photo.stem not in others or os.path.realpath(photo.parent) != out:
            return False
        # Sheets had no mark at first: then the files beside it tell.
        return _is_ours(photo) or all(_is_ours(product(photo, suffix, options)) for suffix in (".glb", ".json"))

    return [photo for photo in photos if not is_sheet(photo)]


def refuse_bad_names(photos: list[Path], options: ProductOptions) -> None:
    """Refuse photographs that would write the same files, the file of the run's report, or a name that no file can have."""
    seen: dict[str, Path] = {}
    for photo in photos:
        shown = shown_path(photo)
        if photo.stem in seen:
            hint = "rename one, or use two --out folders"
            raise InputError(f"{shown_path(seen[photo.stem])} and {shown} would write the same files", hint=hint)
        seen[photo.stem] = photo
        if photo.stem == Path(REPORT).stem:
            raise InputError(f"{shown} would write {REPORT}, which lists what became of all photographs", hint="rename it")
        if len(os.fsencode(f"{photo.stem}.json")) > _MAX_NAME_BYTES:
            raise InputError(f"{shown}: its name is too long for NAME.json", hint=f"at most {_MAX_NAME_BYTES - 5} bytes before the suffix")


def refuse_own_inputs(photos: list[Path], masks: dict[Path, Path | None], options: ProductOptions, *, others: Iterable[Path] = ()) -> None:
    """Refuse to write over a photograph, a mask or another file that is read, as NAME.png would in a photograph's own folder."""
    inputs = [*photos, *(mask for mask in masks.values() if mask is not None), *others]
    refuse_writing_over(inputs, [path for photo in photos for path in products(photo, options)])


def refuse_writing_over(inputs: Iterable[Path], outputs: Iterable[Path]) -> None:
    """Refuse where one of ``outputs`` is one of ``inputs``, also by way of links.

    Raises:
        InputError: naming the file that would be lost.
    """
    # Path.resolve raises on a link that leads to itself
    places = ((os.path.realpath(path), os.path.join(os.path.realpath(path.parent), path.name), path) for path in inputs)
    given = {place: path for real, named, path in places for place in (real, named)}
    for path in outputs:
        place = os.path.join(os.path.realpath(path.parent), path.name)
        if place in given:
            shown = shown_path(given[place])
            raise InputError(f"{shown} would be written over by the result of that name", hint="choose another --out folder")


def refuse_foreign(waiting: list[Path], options: ProductOptions, *, report: bool) -> None:
    """Refuse to write over a file that farm3d did not make (unless ``--overwrite``), and where a folder has a product's name."""
    paths = [path for photo in waiting for path in products(photo, options)]
    refuse_foreign_files([*paths, *([options.out / REPORT] if report else [])], overwrite=options.overwrite)


def refuse_foreign_files(paths: Iterable[Path], *, overwrite: bool) -> None:
    """Refuse to write to ``paths`` where a folder stands, or (unless ``overwrite``) a file that farm3d did not make.

    Raises:
        OutputError: naming the file.
    """
    for path in paths:
        if os.path.isdir(path):
            raise OutputError(f"{shown_path(path)}: a folder stands where this file is to go", hint="choose another --out folder")
        if not overwrite and os.path.lexists(path) and not _is_ours(path):
            hint = "choose another --out folder, or let --overwrite replace it"
            raise OutputError(f"{shown_path(path)}: exists and was not made by farm3d", hint=hint)


def _is_ours(path: Path) -> bool:
    if not os.path.isfile(path):  # to open a pipe could take for ever
        return False
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return False
    return (b'"photos"' if path.name == REPORT else _MARKS[path.suffix.lower()]) in head


@contextlib.contextmanager
def output_folder(folder: Path) -> Iterator[None]:
    """Make the output folder now, so that a wrong one is said before any work is done; take it away again if nothing came of it."""
    made = [parent for parent in (folder, *folder.parents) if not os.path.lexists(parent)]
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            hint = "choose another --out folder"
            raise OutputError(f"{shown_path(folder)}: cannot make this folder: {error.strerror or error}", hint=hint) from error
        if not os.access(folder, os.W_OK | os.X_OK):
            raise OutputError(f"{shown_path(folder)}: no permission to write here", hint="choose another --out folder")
        yield
    finally:
        for parent in made:
            with contextlib.suppress(OSError):  # it is not empty, or was never made
                parent.rmdir()
