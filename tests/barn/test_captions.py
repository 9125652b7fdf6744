import numpy as np
import pytest

from farm3d.barn.captions import VIEWS, captions, view_index
from farm3d.barn.species import species


@pytest.mark.parametrize(
    ("azimuth", "index"), [(0, 0), (22, 0), (23, 1), (90, 2), (180, 4), (337, 7), (338, 0), (359.9, 0), (-90, 6), (720, 0)]
)
def test_eight_views(azimuth: float, index: int) -> None:
    assert view_index(azimuth) == index


def test_a_caption_names_species_coat_action_and_view() -> None:
    kind = species("dog")
    for azimuth in range(0, 360, 45):
        words = captions(
            kind, coat="black and white", markings=(), action="grazing", azimuth_deg=azimuth, elevation_deg=10, rng=np.random.default_rng(0)
        )
        assert len(words) == 5 == len(set(words))
        assert words[0] == f"a black and white dog, eating, {VIEWS[azimuth // 45][0]}"
        assert all("dog" in sentence and "eating" in sentence for sentence in words)
        assert all("  " not in sentence and sentence == sentence.strip() for sentence in words)


def test_left_and_right_are_the_animals_own() -> None:
    def fine(azimuth: float, elevation: float = 0.0) -> str:
        rng = np.random.default_rng(0)
        return captions(species("horse"), coat="bay", markings=(), action="walking", azimuth_deg=azimuth, elevation_deg=elevation, rng=rng)[
            2
        ]

    assert "30 degrees to its left" in fine(31) and "30 degrees to its right" in fine(-29) and "150 degrees to its right" in fine(210)
    assert "straight ahead of it" in fine(3) and "straight behind it" in fine(178)
    assert fine(0, 35).endswith("and above") and fine(0, -8).endswith("and below")
