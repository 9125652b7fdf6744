import pytest

from farm3d.barn.rigs import RIG_SHA256
from farm3d.barn.species import ACTIONS, SPECIES, species
from farm3d.core.errors import InputError


def test_the_table_hangs_together() -> None:
    for kind in SPECIES.values():
        assert kind.rigs and set(kind.rigs) <= set(RIG_SHA256)
        assert len({coat.name for coat in kind.coats}) == len(kind.coats)
        assert set(kind.verbs) <= set(ACTIONS)
        for coat in kind.coats:
            assert coat.pattern in ("solid", "patches", "spots", "stripes", "dapples", "wool")
            assert 0 < coat.share[0] <= coat.share[1] < 1
            for colour in (coat.body, coat.marks, coat.hair, coat.points, coat.face):
                assert colour is None or all(0 <= part <= 255 for part in colour)


def test_a_species_without_a_rig_says_what_it_is_made_from() -> None:
    for kind in SPECIES.values():
        own = any(rig.startswith(kind.name) for rig in kind.rigs) or kind.name == "dog"
        assert own or kind.made_from


def test_unknown_species_names_the_known() -> None:
    with pytest.raises(InputError, match="'unicorn'.*horse, cow, sheep"):
        species("unicorn")
