"""Pictures and facts are read once, of the right animals, and never of those that must train nothing."""

from pathlib import Path

import numpy as np
import pytest
from tests.testing.toy_barn import toy_fact, toy_picture, write_toy_facts

from farm3d.core.errors import InputError
from farm3d.training.prior.score.known import read_known


@pytest.fixture(scope="module")
def barns(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("barns")
    train = {f"train {name}": write_toy_facts(folder / f"train-{name}", name, split="train", count=8 * 42) for name in ("horse", "cow")}
    return {
        **train,
        "val": write_toy_facts(folder / "val", "horse", split="val", count=64),
        "test": write_toy_facts(folder / "test", "horse", split="test", count=16),
    }


def test_training_and_held_out_animals_are_kept_apart(barns: dict[str, Path], tmp_path: Path) -> None:
    sources = [barns["train horse"], barns["train cow"]]
    trained = read_known(sources, tmp_path, held_out=False, size_px=32, most=1000)
    kept = read_known(sources, tmp_path, held_out=True, size_px=32, most=1000)
    assert {fact.individual for fact in kept.facts} == {0, 40} and not {0, 40} & {fact.individual for fact in trained.facts}
    assert len(trained) + len(kept) == 2 * 8 * 42 and trained.species == ("cow", "horse")
    assert trained.digest != kept.digest
    with pytest.raises(InputError, match="no pictures of training animals"):
        read_known([barns["val"]], tmp_path, held_out=False, size_px=32, most=10)
    assert len(read_known([barns["val"]], tmp_path, held_out=True, size_px=32, most=1000)) == 64


def test_so_many_of_each_and_facts_that_fit(barns: dict[str, Path], tmp_path: Path) -> None:
    looked: list[tuple[int, int]] = []
    sources = [barns["train horse"], barns["train cow"]]
    known = read_known(sources, tmp_path, held_out=False, size_px=32, most=20, on_progress=lambda *n: looked.append(n))
    assert [len(known.of(name)) for name in ("horse", "cow")] == [20, 20] and looked[-1][1] == 2 * 8 * 42
    assert len({fact.individual for fact in known.facts}) > 10  # drawn from everywhere
    for row in (0, 25):
        fact = known.facts[row]
        told = toy_fact(fact.species, int(fact.key[-6:]))
        assert (fact.view, fact.action, fact.coat, fact.caption) == (
            told["view_index"],
            told["action"],
            told["coat"]["name"],
            told["captions"][0],
        )
        share = (toy_picture(told)[3] > 127).mean()
        assert 0.5 < (known.pixels[row, 3] > 127).mean() / share < 2.5
    again = read_known(sources, tmp_path, held_out=False, size_px=32, most=20, on_progress=lambda *n: pytest.fail("read again"))
    assert again.facts == known.facts and np.array_equal(again.pixels, known.pixels)
    assert read_known(sources, tmp_path, held_out=False, size_px=32, most=20, species=("cow",)).species == ("cow",)


def test_what_cannot_be_used_is_said(barns: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must train nothing"):
        read_known([barns["test"]], tmp_path, held_out=False, size_px=32, most=10)
    with pytest.raises(InputError, match="no data set"):
        read_known([tmp_path / "nowhere"], tmp_path, held_out=True, size_px=32, most=10)
    with pytest.raises(InputError, match="of wolf"):
        read_known([barns["val"]], tmp_path, held_out=True, size_px=32, most=10, species=("wolf",))
    known = read_known([barns["val"]], tmp_path / "cache", held_out=True, size_px=32, most=10)
    path = tmp_path / "cache" / f"{known.digest[:16]}.npy"
    with path.open("wb") as file:
        np.save(file, np.zeros((2, 4, 32, 32), np.uint8))
    with pytest.raises(InputError, match="not the pictures of"):
        read_known([barns["val"]], tmp_path / "cache", held_out=True, size_px=32, most=10)
