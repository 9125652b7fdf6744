"""Barn pictures and what is known of them: so many of each species, framed as the prior's training pictures are."""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from farm3d.core.errors import InputError
from farm3d.core.files import sha256_of, whole_file, write_whole
from farm3d.core.random import numpy_generator
from farm3d.core.shard_plan import read_plan
from farm3d.core.shard_reader import ShardIndex
from farm3d.training.prior.framing import framed
from farm3d.training.prior.picture_cache import HELD_OUT_EVERY

__all__ = ["Fact", "Known", "read_known"]

_FORMAT = 1


@dataclass(frozen=True)
class Fact:
    """What the barn says of one picture.

    Attributes:
        key: of the sample.
        species, action, coat: in the barn's words.
        view: which of the eight, 0 the front and 2 the animal's left side.
        caption: the plain one.
        individual: number of the animal.
    """

    key: str
    species: str
    view: int
    action: str
    coat: str
    caption: str
    individual: int


@dataclass(frozen=True, eq=False)
class Known:
    """Pictures with their facts.

    Attributes:
        pixels: sRGB and coverage, uint8, ``[N, 4, S, S]``, read-only.
        facts: N of them.
        digest: sha256 of what they were made from.
    """

    pixels: np.ndarray
    facts: tuple[Fact, ...]
    digest: str

    def __len__(self) -> int:
        return len(self.facts)

    @property
    def species(self) -> tuple[str, ...]:
        """The species there are, in alphabetical order."""
        return tuple(sorted({fact.species for fact in self.facts}))

    def of(self, species: str) -> np.ndarray:
        """Return the numbers of the pictures of a species."""
        return np.flatnonzero([fact.species == species for fact in self.facts])


def read_known(
    sources: Sequence[Path],
    folder: Path,
    *,
    held_out: bool,
    size_px: int,
    most: int,
    species: Sequence[str] = (),
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> Known:
    """Return pictures of data sets of ``farm3d barn make``, read from their shards the first time, and from ``folder`` after.

    Of split ``train``, one individual in so many (:data:`HELD_OUT_EVERY`) was kept from the prior's training: those, and all of the other
    splits, are held out.

    Args:
        sources: folders of finished data sets.
        folder: where the pictures are kept.
        held_out: take the animals that trained nothing; else those that did.
        size_px: side that the pictures are framed to.
        most: of each species, drawn by chance from all of them.
        species: the ones wanted; none given means all there are.
        seed: of the drawing.
        on_progress: told how many samples were looked at, and of how many at most.

    Raises:
        InputError: a data set that is unfinished, damaged or of split ``test`` where it would train; a species of which there is nothing.
        OutputError: the pictures cannot be kept.
    """
    plans = [plan for source in sources for plan in _plans(source)]
    digest = _identity(plans, held_out=held_out, choice=f"{size_px}/{most}/{','.join(sorted(species))}/{seed}")
    pixels_path, facts_path = folder / f"{digest[:16]}.npy", folder / f"{digest[:16]}.json"
    if not (pixels_path.is_file() and facts_path.is_file()):
        numbers = numpy_generator(seed, "known", held_out)
        pixels, facts = _read(plans, held_out=held_out, size_px=size_px, most=most, species=species, rng=numbers, tell=on_progress)
        with whole_file(pixels_path) as part:
            kept = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=(len(facts), 4, size_px, size_px))
            for number, picture in enumerate(pixels):
                kept[number] = picture
            kept.flush()
            del kept, pixels
        write_whole(facts_path, json.dumps([fact.__dict__ for fact in facts], separators=(",", ":")))
    facts = tuple(Fact(**row) for row in json.loads(facts_path.read_text(encoding="utf-8")))
    pixels = np.load(pixels_path, mmap_mode="r", allow_pickle=False)
    if pixels.shape != (len(facts), 4, size_px, size_px) or pixels.dtype != np.uint8:
        raise InputError(f"{pixels_path}: not the pictures of {facts_path.name}", hint=f"delete {folder} and start again")
    return Known(pixels, facts, digest)


def _plans(source: Path) -> list[Path]:
    plans = sorted(Path(source).glob("[!.]*.plan.json")) if Path(source).is_dir() else []
    if not plans:
        raise InputError(f"{source}: no data set (NAME.plan.json) in this folder", hint="give folders of `farm3d barn make`")
    return plans


def _identity(plans: Sequence[Path], *, held_out: bool, choice: str) -> str:
    told = hashlib.sha256(f"{_FORMAT}/{held_out}/{HELD_OUT_EVERY}/{choice}".encode())
    for path in plans:
        plan = read_plan(path)
        if plan.fingerprint.get("split") == "test" and not held_out:
            raise InputError(f"{path}: the individuals of split 'test' must train nothing", hint="make pictures with --split train")
        for shard in range(plan.shards):
            manifest = path.parent / f"{plan.stem(shard)}.json"
            if not manifest.is_file():
                raise InputError(f"{manifest}: missing: the data set is not finished", hint="run `farm3d barn make` again")
            told.update(sha256_of(manifest).encode())
    return told.hexdigest()


def _read(
    plans: Sequence[Path],
    *,
    held_out: bool,
    size_px: int,
    most: int,
    species: Sequence[str],
    rng: np.random.Generator,
    tell: Callable[[int, int], None] | None,
) -> tuple[list[np.ndarray], tuple[Fact, ...]]:
    indices = [ShardIndex(plan) for plan in plans]
    trained = [read_plan(plan).fingerprint.get("split") == "train" for plan in plans]
    places = [(source, number) for source, index in enumerate(indices) for number in range(len(index))]
    counts: Counter[str] = Counter()
    pixels, facts = [], []
    for looked, place in enumerate(rng.permutation(len(places)), start=1):
        source, number = places[place]
        guess = indices[source].keys[number].rsplit("-", 2)[0]
        if counts[guess] >= most or (species and guess not in species):
            continue
        key, files = indices[source].read(number)
        try:
            fact = _fact(key, json.loads(files["json"]))
            kept = trained[source] and fact.individual % HELD_OUT_EVERY
            if bool(kept) == held_out or counts[fact.species] >= most or (species and fact.species not in species):
                continue
            rgb, alpha = _decoded(files["rgb.png"], "RGB"), _decoded(files["mask.png"], "L")
            pixels.append(framed(rgb, alpha, size_px=size_px, rng=numpy_generator(0, "framing", key)))
        except (KeyError, OSError, ValueError, TypeError) as error:
            raise InputError(f"{key}: cannot be used: {error}", hint="`farm3d barn check` says what is wrong") from error
        facts.append(fact)
        counts[fact.species] += 1
        if tell is not None:
            tell(looked, len(places))
    purpose = "held-out animals" if held_out else "training animals"
    for name in species or [""]:
        if not (counts[name] if name else facts):
            raise InputError(
                f"no pictures of {purpose} of {name or 'any species'} among {len(places)}",
                hint="make some: `farm3d barn make SPECIES --split val --size-px 128 --truth light --count 400`",
            )
    order = sorted(range(len(facts)), key=lambda i: facts[i].key)
    return [pixels[i] for i in order], tuple(facts[i] for i in order)


def _fact(key: str, facts: dict[str, Any]) -> Fact:
    coat = facts["coat"]["name"]
    return Fact(key, facts["category"], int(facts["view_index"]), facts["action"], coat, facts["captions"][0], int(facts["individual"]))


def _decoded(data: bytes, mode: str) -> np.ndarray:
    with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
        return np.asarray(picture.convert(mode))
