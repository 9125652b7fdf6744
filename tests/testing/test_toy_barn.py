"""The toys of the score's tests are what they say."""

from pathlib import Path

import torch

from farm3d.core.shard_reader import read_shards
from tests.testing.toy_barn import toy_fact, toy_picture, toy_prior, write_toy_facts


def test_toys_differ_in_what_is_said_of_them() -> None:
    pictures = {
        (toy_picture(fact).tobytes(), fact["category"]) for fact in (toy_fact(name, n) for name in ("horse", "cow") for n in (0, 2, 6, 8))
    }
    assert len(pictures) == 8
    assert {toy_fact("cow", number)["view_index"] for number in range(8)} == set(range(8))


def test_shards_and_model(tmp_path: Path) -> None:
    keys = [key for key, _ in read_shards(write_toy_facts(tmp_path, "cow", split="val", count=9))]
    assert keys[0] == "cow-val-000000" and len(keys) == 9
    one, other = toy_prior(seed=1), toy_prior(seed=1)
    picture = torch.from_numpy(toy_picture(toy_fact("cow", 3))).float()[None] / 255
    assert torch.equal(one.encode(picture[:, :3], picture[:, 3]), other.encode(picture[:, :3], picture[:, 3]))
