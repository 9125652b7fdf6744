"""The barn's pictures and words read once, framed alike, and kept in one file that training maps into memory."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from farm3d.core.errors import InputError
from farm3d.core.files import sha256_of, whole_file, write_whole
from farm3d.core.random import numpy_generator
from farm3d.core.shard_plan import read_plan
from farm3d.core.shard_reader import ShardIndex
from farm3d.training.prior.framing import framed

__all__ = ["HELD_OUT_EVERY", "Caption", "PictureCache", "open_pictures"]

_FORMAT = 2
HELD_OUT_EVERY = 40  # individuals: one in so many is kept for validation
_FORBIDDEN_SPLITS = ("test",)


@dataclass(frozen=True)
class Caption:
    """What is said of one picture, and no more than that goes into training.

    Attributes:
        words: the plain caption first, then its paraphrases.
        species: for grids and counts.
        backdrop: what the barn calls the surroundings.
        held_out: whether the animal is one of those kept for validation.
    """

    words: tuple[str, ...]
    species: str
    backdrop: str
    held_out: bool


@dataclass(frozen=True)
class PictureCache:
    """Pictures as bytes, mapped from a file, and their captions.

    Attributes:
        pixels: sRGB and coverage, uint8, ``[N, 4, S, S]``, read-only.
        captions: N of them.
        digest: sha256 of what it was made from.
        sources: one line for each data set.
    """

    pixels: np.ndarray
    captions: tuple[Caption, ...]
    digest: str
    sources: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.captions)

    @property
    def species(self) -> tuple[str, ...]:
        """The species there are, in alphabetical order."""
        return tuple(sorted({caption.species for caption in self.captions}))

    def numbers(self, *, held_out: bool) -> np.ndarray:
        """Return the numbers of the pictures to train on, or of those kept for validation."""
        return np.flatnonzero([caption.held_out == held_out for caption in self.captions])


def open_pictures(
    sources: Sequence[Path], folder: Path, *, size_px: int, on_progress: Callable[[int, int], None] | None = None
) -> PictureCache:
    """Return the pictures of some data sets of ``farm3d barn make``, read from their shards the first time, and from ``folder`` after.

    Args:
        sources: folders of finished data sets, one for each species or more.
        folder: where the cache is kept; about 65 kB a picture of 128 px.
        size_px: side that the pictures are framed to.
        on_progress: told how many pictures were read, and of how many.

    Raises:
        InputError: a data set that is unfinished, damaged, of split ``test``, or of pictures that do not fit; none to validate on.
        OutputError: the cache cannot be written.
    """
    digest, lines = _identity(sources, size_px)
    pixels_path, words_path = folder / f"{digest[:16]}.npy", folder / f"{digest[:16]}.json"
    if not (pixels_path.is_file() and words_path.is_file()):
        _read_shards(sources, pixels_path, words_path, size_px=size_px, on_progress=on_progress)
    captions = tuple(Caption(tuple(words), *rest) for words, *rest in json.loads(words_path.read_text(encoding="utf-8")))
    pixels = np.load(pixels_path, mmap_mode="r", allow_pickle=False)
    if pixels.shape != (len(captions), 4, size_px, size_px) or pixels.dtype != np.uint8:
        raise InputError(f"{pixels_path}: not the pictures of {words_path.name}", hint=f"delete {folder} and start again")
    cache = PictureCache(pixels, captions, digest, lines)
    for held_out, purpose in ((False, "train"), (True, "validate")):
        if not len(cache.numbers(held_out=held_out)):
            raise InputError(f"{len(cache)} pictures: none to {purpose} on", hint=f"give pictures of more than {HELD_OUT_EVERY} animals")
    return cache


def _identity(sources: Sequence[Path], size_px: int) -> tuple[str, tuple[str, ...]]:
    """Return a digest of the shards' manifests, and a line about each data set."""
    lines, told = [], hashlib.sha256(f"{_FORMAT}/{size_px}/{HELD_OUT_EVERY}".encode())
    for source in sources:
        plans = sorted(Path(source).glob("[!.]*.plan.json")) if Path(source).is_dir() else []
        if not plans:
            raise InputError(f"{source}: no data set (NAME.plan.json) in this folder", hint="give folders of `farm3d barn make`")
        for plan_path in plans:
            plan = read_plan(plan_path)
            if plan.fingerprint.get("split") in _FORBIDDEN_SPLITS:
                raise InputError(
                    f"{plan_path}: the individuals of split 'test' must train nothing", hint="make pictures with --split train"
                )
            for shard in range(plan.shards):
                manifest = plan_path.parent / f"{plan.stem(shard)}.json"
                if not manifest.is_file():
                    raise InputError(f"{manifest}: missing: the data set is not finished", hint="run `farm3d barn make` again")
                told.update(sha256_of(manifest).encode())
            lines.append(f"{plan.name}: {plan.count} pictures, seed {plan.fingerprint.get('seed')}, plan {plan.digest[:16]}")
    return told.hexdigest(), tuple(lines)


def _read_shards(
    sources: Sequence[Path], pixels_path: Path, words_path: Path, *, size_px: int, on_progress: Callable[[int, int], None] | None
) -> None:
    indices = [ShardIndex(plan) for source in sources for plan in sorted(Path(source).glob("[!.]*.plan.json"))]
    total = sum(map(len, indices))
    rows: list[list[object]] = []
    with whole_file(pixels_path) as part:
        pixels = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=(total, 4, size_px, size_px))
        for index in indices:
            for number in range(len(index)):
                key, files = index.read(number)
                try:
                    facts = json.loads(files["json"])
                    rgb, alpha = _decoded(files["rgb.png"], "RGB"), _decoded(files["mask.png"], "L")
                    pixels[len(rows)] = framed(rgb, alpha, size_px=size_px, rng=numpy_generator(0, "framing", key))
                    held_out = int(facts["individual"]) % HELD_OUT_EVERY == 0
                    rows.append([facts["captions"], facts["category"], facts["backdrop"], held_out])
                except (KeyError, OSError, ValueError, TypeError) as error:
                    raise InputError(f"{key}: cannot be trained on: {error}", hint="`farm3d barn check` says what is wrong") from error
                if on_progress is not None:
                    on_progress(len(rows), total)
        pixels.flush()
        del pixels
    write_whole(words_path, json.dumps(rows, separators=(",", ":")))


def _decoded(data: bytes, mode: str) -> np.ndarray:
    with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
        return np.asarray(picture.convert(mode))
