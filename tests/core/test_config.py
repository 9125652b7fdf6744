"""Strict configs: what does not fit the dataclass is refused with the key's path."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm3d.core.config import config_from_dict, config_to_dict
from farm3d.core.errors import ModelError


@dataclasses.dataclass(frozen=True)
class Part:
    weight: float = 1.0


@dataclasses.dataclass(frozen=True)
class Whole:
    resolution: int
    name: str = "horse"
    scale: float = 0.5
    limit: float | None = None
    mirrored: bool = True
    size: tuple[float, float, float] = (1.0, 2.0, 3.0)
    names: tuple[str, ...] = ()
    heights: dict[str, float] = dataclasses.field(default_factory=dict)
    part: Part = Part()


@given(
    st.builds(
        Whole,
        resolution=st.integers(),
        name=st.text(),
        scale=st.floats(allow_nan=False, allow_infinity=False),
        limit=st.none() | st.floats(allow_nan=False, allow_infinity=False),
        mirrored=st.booleans(),
        names=st.lists(st.text()).map(tuple),
        heights=st.dictionaries(st.text(), st.floats(allow_nan=False, allow_infinity=False)),
    )
)
def test_a_config_survives_json(config: Whole) -> None:
    assert config_from_dict(Whole, json.loads(json.dumps(config_to_dict(config)))) == config


def test_an_unknown_key_names_the_nearest_known_one() -> None:
    with pytest.raises(ModelError) as caught:
        config_from_dict(Whole, {"resolution": 1, "resolutoin": 2}, where="config.json")
    assert "config.json.resolutoin: unknown key" in str(caught.value)
    assert "'resolution'" in caught.value.hint


def test_an_unknown_key_far_from_all_lists_them() -> None:
    with pytest.raises(ModelError, match="known keys: heights, limit, mirrored"):
        config_from_dict(Whole, {"resolution": 1, "qqqqq": 2})


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({}, "config.resolution: missing"),
        ({"resolution": "12"}, "config.resolution: expected int, got '12'"),
        ({"resolution": True}, "config.resolution: expected int, got True"),
        ({"resolution": 1.5}, "config.resolution: expected int, got 1.5"),
        ({"resolution": None}, "config.resolution: expected int, got None"),
        ({"resolution": 1, "scale": float("nan")}, "config.scale: expected a finite number"),
        ({"resolution": 1, "limit": float("inf")}, "config.limit: expected a finite number"),
        ({"resolution": 1, "mirrored": 1}, "config.mirrored: expected bool"),
        ({"resolution": 1, "size": [1, 2]}, "config.size: expected 3 values, got 2"),
        ({"resolution": 1, "size": "abc"}, "config.size: expected a list"),
        ({"resolution": 1, "names": ["a", 3]}, "config.names[1]: expected str, got 3"),
        ({"resolution": 1, "heights": {"horse": "tall"}}, "config.heights.horse: expected float"),
        ({"resolution": 1, "part": {"weigth": 2}}, "config.part.weigth: unknown key"),
        ({"resolution": 1, "part": 7}, "config.part: expected an object"),
        ([1], "config: expected an object with named values, got list"),
    ],
)
def test_what_does_not_fit_is_named_by_its_path(values, told: str) -> None:
    with pytest.raises(ModelError) as caught:
        config_from_dict(Whole, values)
    assert told in str(caught.value)


def test_whole_numbers_serve_as_floats() -> None:
    config = config_from_dict(Whole, {"resolution": 1, "scale": 2, "limit": 3, "size": [1, 2, 3]})
    assert (config.scale, config.limit, config.size) == (2.0, 3.0, (1.0, 2.0, 3.0))
    assert isinstance(config.scale, float)
