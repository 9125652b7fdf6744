"""Shards are read once, as they are; what must not be trained on is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.testing.toy_animals import draw_toy, write_toy_barn

from farm3d.core.errors import InputError
from farm3d.core.random import numpy_generator
from farm3d.training.prior.framing import framed
from farm3d.training.prior.picture_cache import open_pictures


@pytest.fixture(scope="module")
def barn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_barn(tmp_path_factory.mktemp("barn") / "horse")


def test_pictures_and_words_are_those_of_the_shards(barn: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    cache = open_pictures([barn], tmp_path, size_px=32, on_progress=lambda done, total: told.append((done, total)))
    assert len(cache) == 96 and told[-1] == (96, 96)
    toy = draw_toy("blue", "right", shift=1)
    again = framed(toy[:3].transpose(1, 2, 0), toy[3], size_px=32, rng=numpy_generator(0, "framing", "horse-train-000005"))
    assert np.array_equal(cache.pixels[5], again)
    assert cache.captions[5].words[0] == "a blue horse, standing, seen from its right side"
    assert cache.species == ("horse",) and cache.sources[0].startswith("horse-train: 96 pictures")
    held, trained = cache.numbers(held_out=True), cache.numbers(held_out=False)
    assert sorted([*held, *trained]) == list(range(96))
    assert list(held) == [0, 1, 80, 81]  # individuals 0 and 40
    with pytest.raises(ValueError, match="read-only"):
        cache.pixels[0] = 0


def test_the_second_time_nothing_is_read(barn: Path, tmp_path: Path) -> None:
    first = open_pictures([barn], tmp_path, size_px=32)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = open_pictures([barn], tmp_path, size_px=32, on_progress=lambda done, total: pytest.fail("read again"))
    assert again.digest == first.digest and again.captions == first.captions
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_other_data_is_another_cache_and_pictures_of_any_size_are_framed(barn: Path, tmp_path: Path) -> None:
    large = write_toy_barn(tmp_path / "large", count=90, size_px=64)
    caches = [open_pictures(sources, tmp_path / "c", size_px=32) for sources in ([barn], [large], [barn, large])]
    assert len({cache.digest for cache in caches}) == 3
    assert [len(cache) for cache in caches] == [96, 90, 186]
    assert np.abs(caches[1].pixels[5].astype(float) - caches[0].pixels[5]).mean() < 8


def test_what_cannot_be_used_is_told(barn: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no data set"):
        open_pictures([tmp_path], tmp_path / "c", size_px=32)
    with pytest.raises(InputError, match="must train nothing"):
        open_pictures([write_toy_barn(tmp_path / "test", count=8, split="test")], tmp_path / "c", size_px=32)
    with pytest.raises(InputError, match="none to train on"):
        open_pictures([write_toy_barn(tmp_path / "few", count=2)], tmp_path / "c", size_px=32)
    unfinished = write_toy_barn(tmp_path / "unfinished")
    (unfinished / "horse-train-000001.json").unlink()
    with pytest.raises(InputError, match="not finished"):
        open_pictures([unfinished], tmp_path / "c", size_px=32)
    damaged = write_toy_barn(tmp_path / "damaged", count=90)
    tar = damaged / "horse-train-000000.tar"
    tar.write_bytes(tar.read_bytes().replace(b'"category"', b'"catagory"', 1))
    with pytest.raises(InputError, match="cannot be trained on: 'category'"):
        open_pictures([damaged], tmp_path / "d", size_px=32)
    assert not list((tmp_path / "d").iterdir())  # nothing half-read is left


def test_a_foreign_cache_file_is_refused(barn: Path, tmp_path: Path) -> None:
    open_pictures([barn], tmp_path, size_px=32)
    words = next(tmp_path.glob("*.json"))
    words.write_text(json.dumps(json.loads(words.read_text())[:-1]))
    with pytest.raises(InputError, match="not the pictures of"):
        open_pictures([barn], tmp_path, size_px=32)
