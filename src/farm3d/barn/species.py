"""The barn's species as tables: which rigs stand for them, how much individuals differ, which coats they wear, what they do.

Sizes and ranges are those of adult animals, chosen by eye from what breeds look like; a rig gives the mean. Where no rig of a species
exists it is made from the nearest one by scaling bones and growing wool, and the table says so (``made_from``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from farm3d.core.errors import InputError

__all__ = ["ACTIONS", "SPECIES", "Coat", "Species", "species"]

Rgb = tuple[int, int, int]

ACTIONS: Mapping[str, tuple[str, ...]] = {  # action -> the rigs' clips that show it
    "standing": ("Idle", "Idle_2"),
    "walking": ("Walk",),
    "galloping": ("Gallop",),
    "grazing": ("Eating",),
    "jumping": ("Gallop_Jump",),
    "lowering its head": ("Idle_Headlow", "Idle_2_HeadLow"),
}


@dataclass(frozen=True)
class Coat:
    """Colours (sRGB bytes) and pattern of a coat.

    Attributes:
        name: in words, as a caption has it: "a NAME horse".
        body: the ground colour.
        marks: of patches, spots, stripes, and of the rig's light parts (belly, throat) where ``light_parts`` says so.
        hair: mane, tail tuft; None takes the body's.
        points: lower legs, muzzle and ear rims (a bay's black points); None takes the body's.
        face: None takes the body's.
        pattern: ``solid``, ``patches``, ``spots``, ``stripes``, ``dapples`` or ``wool``.
        light_parts: the rig's light parts are painted in ``marks``; else in the body's colour.
        share: how much of the body the pattern covers, (least, most).
    """

    name: str
    body: Rgb
    marks: Rgb = (230, 224, 214)
    hair: Rgb | None = None
    points: Rgb | None = None
    face: Rgb | None = None
    pattern: str = "solid"
    light_parts: bool = False
    share: tuple[float, float] = (0.35, 0.6)


@dataclass(frozen=True)
class Species:
    """One species.

    Attributes:
        rigs: names of the rigs that stand for it.
        noun: what a caption calls it.
        height_m: from the ground to the top of the back, mean of adults.
        coats: what it wears.
        traits: the rig's proportions are multiplied by these before individuals vary: names of ``individuals.TRAITS``.
        spread: individual variation of a trait where it differs from the usual one (standard deviation of its logarithm).
        fleece_m: thickness of wool, metres; 0 for hair.
        verbs: other words for an action, e.g. a dog sniffs where a horse grazes.
        made_from: said in documents and truth where there is no rig of the species itself.
    """

    name: str
    rigs: tuple[str, ...]
    noun: str
    height_m: float
    coats: tuple[Coat, ...]
    traits: Mapping[str, float] = field(default_factory=dict)
    spread: Mapping[str, float] = field(default_factory=dict)
    fleece_m: float = 0.0
    verbs: Mapping[str, str] = field(default_factory=dict)
    made_from: str = ""


_WHITE, _CREAM, _BLACK, _GREY = (232, 228, 220), (222, 204, 172), (36, 32, 30), (128, 124, 120)
_SNIFFS = {"grazing": "eating"}

_TABLE = (
    Species(
        "horse",
        ("horse", "horse_white"),
        "horse",
        1.55,
        (
            Coat("chestnut", (140, 72, 36), hair=(112, 54, 26)),
            Coat("bay", (112, 62, 34), hair=(22, 18, 16), points=(30, 24, 20)),
            Coat("black", (38, 33, 30), hair=(22, 20, 20)),
            Coat("white", (226, 222, 214), hair=(216, 208, 194)),
            Coat("dappled grey", (112, 110, 110), marks=(186, 184, 182), hair=(70, 68, 68), points=(66, 64, 64), pattern="dapples"),
            Coat("grey", (150, 148, 146), hair=(90, 88, 88)),
            Coat("palomino", (202, 156, 92), hair=(238, 224, 190)),
            Coat("dun", (178, 146, 102), hair=(52, 42, 34), points=(62, 50, 40)),
            Coat("brown and white patched", (118, 66, 36), marks=_WHITE, hair=(60, 40, 28), pattern="patches"),
            Coat("black and white patched", (36, 32, 30), marks=_WHITE, hair=(40, 36, 34), pattern="patches"),
            Coat("white, dark-spotted", _WHITE, marks=(52, 42, 36), pattern="spots"),
        ),
    ),
    Species(
        "cow",
        ("cow", "bull"),
        "cow",
        1.40,
        (
            Coat("black and white patched", (34, 30, 30), marks=_WHITE, pattern="patches", share=(0.4, 0.65)),
            Coat("brown and white patched", (134, 72, 38), marks=_WHITE, pattern="patches"),
            Coat("brown", (128, 74, 42), marks=(196, 160, 118), light_parts=True),
            Coat("black", (36, 32, 31)),
            Coat("white", (224, 218, 206)),
            Coat("red, white-faced", (142, 64, 36), marks=_WHITE, face=_WHITE, light_parts=True),
            Coat("fawn", (194, 152, 106), marks=(224, 204, 170), points=(96, 70, 52), light_parts=True),
            Coat("grey", (140, 136, 132), points=(84, 80, 78)),
            Coat("brindled", (124, 80, 48), marks=(84, 54, 36), pattern="stripes"),
        ),
        spread={"horn": 0.35},
    ),
    Species(
        "sheep",
        ("alpaca",),
        "sheep",
        0.72,
        (
            Coat("white woolly", (226, 218, 200), points=(214, 200, 180), face=(216, 202, 184), pattern="wool"),
            Coat("white woolly, black-faced", (222, 214, 198), points=(44, 38, 36), face=(40, 36, 34), pattern="wool"),
            Coat("black woolly", (54, 46, 42), points=(36, 32, 30), face=(36, 32, 30), pattern="wool"),
            Coat("brown woolly", (126, 92, 64), points=(74, 54, 42), face=(74, 54, 42), pattern="wool"),
            Coat("grey woolly", (148, 142, 136), points=(72, 68, 66), face=(66, 62, 60), pattern="wool"),
        ),
        traits={
            "neck_length": 0.42,
            "neck_girth": 0.92,
            "leg_length": 0.68,
            "leg_girth": 0.92,
            "trunk_length": 1.12,
            "trunk_width": 1.22,
            "trunk_depth": 1.02,
            "head": 1.05,
            "ear": 0.85,
            "tail_length": 0.8,
        },
        fleece_m=0.05,
        made_from="the alpaca's rig: neck and legs shortened, trunk widened, wool grown, ears lowered",
    ),
    Species(
        "donkey",
        ("donkey",),
        "donkey",
        1.15,
        (
            Coat("grey", (134, 128, 122), marks=(212, 206, 196), hair=(60, 54, 50), light_parts=True),
            Coat("brown", (104, 74, 52), marks=(198, 184, 164), hair=(50, 38, 30), light_parts=True),
            Coat("black", (46, 40, 38), marks=(168, 156, 144), hair=(30, 26, 26), light_parts=True),
            Coat("white", (222, 216, 206), hair=(200, 192, 180)),
            Coat("brown and white patched", (112, 78, 54), marks=_WHITE, hair=(70, 52, 40), pattern="patches"),
        ),
    ),
    Species(
        "zebra",
        ("donkey", "horse"),
        "zebra",
        1.30,
        (Coat("striped", (228, 222, 212), marks=(30, 27, 26), points=None, pattern="stripes", share=(0.42, 0.52)),),
        traits={"ear": 0.85},
        made_from="the donkey's and the horse's rigs with stripes",
    ),
    Species(
        "deer",
        ("deer", "stag"),
        "deer",
        1.0,
        (
            Coat("reddish brown", (146, 84, 50), marks=(216, 200, 172), light_parts=True),
            Coat("greyish brown", (120, 100, 80), marks=(206, 194, 172), light_parts=True),
            Coat("brown, white-spotted", (152, 92, 54), marks=(228, 214, 190), pattern="spots", light_parts=True, share=(0.12, 0.2)),
            Coat("dark brown", (86, 60, 44), marks=(180, 160, 134), light_parts=True),
        ),
    ),
    Species(
        "dog",
        ("husky", "shibainu"),
        "dog",
        0.55,
        (
            Coat("black and white", (46, 46, 48), marks=_WHITE, light_parts=True),
            Coat("tan and white", (188, 124, 66), marks=(234, 224, 208), light_parts=True),
            Coat("grey and white", (128, 128, 130), marks=_WHITE, light_parts=True),
            Coat("brown", (112, 70, 44), marks=(140, 92, 60), light_parts=True),
            Coat("black", (38, 35, 35)),
            Coat("white", (230, 226, 218)),
            Coat("white, black-spotted", (230, 226, 220), marks=(40, 36, 36), pattern="spots", share=(0.2, 0.3)),
            Coat("brindled", (138, 96, 58), marks=(92, 64, 42), pattern="stripes"),
        ),
        verbs=_SNIFFS,
    ),
    Species(
        "fox",
        ("fox",),
        "fox",
        0.38,
        (
            Coat("red", (192, 98, 44), marks=(232, 224, 210), points=(40, 34, 32), light_parts=True),
            Coat("silver", (84, 84, 88), marks=(150, 150, 152), points=(34, 32, 34), light_parts=True),
            Coat("white", (234, 232, 228), marks=(240, 238, 234)),
        ),
        verbs=_SNIFFS,
    ),
    Species(
        "wolf",
        ("wolf",),
        "wolf",
        0.75,
        (
            Coat("grey", (124, 120, 114), marks=(206, 200, 188), light_parts=True),
            Coat("black", (44, 42, 42), marks=(84, 80, 78), light_parts=True),
            Coat("white", (230, 226, 216)),
            Coat("brown", (120, 94, 68), marks=(196, 178, 150), light_parts=True),
        ),
        verbs=_SNIFFS,
    ),
    Species(
        "alpaca",
        ("alpaca",),
        "alpaca",
        0.9,
        (
            Coat("brown", (122, 84, 54), points=(52, 44, 40), face=(60, 50, 44), pattern="wool"),
            Coat("white", (230, 222, 206), points=(206, 194, 176), face=(210, 198, 180), pattern="wool"),
            Coat("black", (50, 44, 42), points=(32, 30, 30), face=(32, 30, 30), pattern="wool"),
            Coat("fawn", (196, 158, 116), points=(186, 150, 110), face=(150, 118, 88), pattern="wool"),
        ),
        fleece_m=0.02,
    ),
)

SPECIES: Mapping[str, Species] = {kind.name: kind for kind in _TABLE}


def species(name: str) -> Species:
    """Return a species by name; InputError names the known ones."""
    if name not in SPECIES:
        raise InputError(f"the barn has no {name!r}", hint=f"species: {', '.join(SPECIES)}")
    return SPECIES[name]
