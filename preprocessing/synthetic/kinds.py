"""The twenty classes: how each is drawn, which words people use for it, and where it is met."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from preprocessing.synthetic import household, living, vehicles
from preprocessing.synthetic.look import Look
from preprocessing.synthetic.pen import BLACK, WHITE, WOOD, Colour, Pen

COLORS: dict[str, Colour] = {
    "red": (204, 48, 42),
    "blue": (44, 86, 182),
    "green": (52, 142, 68),
    "yellow": (238, 198, 48),
    "orange": (232, 134, 44),
    "purple": (124, 72, 150),
    "white": WHITE,
    "black": BLACK,
    "grey": (138, 142, 150),
    "brown": (122, 78, 46),
    "tan": (204, 168, 116),
    "wooden": WOOD,
    "terracotta": (192, 100, 60),
}


@dataclass(frozen=True)
class Kind:
    """One class: `draw` draws it, `nouns` name it, `vague` is what a less careful writer calls it."""

    name: str
    draw: Callable[[Pen, Look], None]
    nouns: tuple[str, ...]
    vague: str
    colors: tuple[str, ...]
    places: dict[str, tuple[str, ...]]
    """Place -> what it does there, as a participle."""
    colored: str = "{colour} {noun}"
    """how its colour is told"""


PARKED = ("parked", "standing", "waiting")
RIDDEN = ("driving", "parked", "waiting", "passing by")
GRAZING = ("grazing", "standing", "looking around", "walking")
AT_PLAY = ("standing", "running", "playing", "looking around")
STANDING = ("standing", "placed")

KINDS: tuple[Kind, ...] = (
    Kind(
        "aeroplane",
        vehicles.aeroplane,
        ("aeroplane", "plane", "airplane", "jet", "passenger plane"),
        "aircraft",
        ("white", "grey", "blue", "red"),
        {"sky": ("flying", "climbing", "soaring"), "field": PARKED, "snow": PARKED},
    ),
    Kind(
        "bicycle",
        vehicles.bicycle,
        ("bicycle", "bike", "cycle", "two-wheeler"),
        "vehicle",
        ("red", "blue", "green", "yellow", "black"),
        {"street": ("parked", "left", "standing"), "field": ("left", "standing"), "beach": ("left", "standing")},
    ),
    Kind(
        "bird",
        living.bird,
        ("bird", "songbird", "little bird", "finch"),
        "animal",
        ("blue", "red", "yellow", "brown", "black"),
        {
            "sky": ("flying", "soaring", "gliding"),
            "field": ("sitting", "resting"),
            "snow": ("sitting", "resting"),
            "beach": ("sitting", "resting"),
        },
    ),
    Kind(
        "boat",
        vehicles.boat,
        ("boat", "sailboat", "sailing boat", "yacht"),
        "vessel",
        ("red", "blue", "white", "green", "brown"),
        {"water": ("sailing", "floating", "drifting", "anchored")},
    ),
    Kind(
        "bottle",
        household.bottle,
        ("bottle", "glass bottle", "bottle of wine", "flask"),
        "container",
        ("green", "brown", "blue"),
        {"room": STANDING, "beach": ("left", "standing")},
    ),
    Kind(
        "bus",
        vehicles.bus,
        ("bus", "coach", "city bus", "tour bus"),
        "vehicle",
        ("red", "yellow", "blue", "green"),
        {"street": RIDDEN, "field": RIDDEN},
    ),
    Kind(
        "car",
        vehicles.car,
        ("car", "sedan", "automobile", "family car"),
        "vehicle",
        ("red", "blue", "grey", "white", "yellow", "black"),
        {"street": RIDDEN, "field": RIDDEN, "snow": RIDDEN},
    ),
    Kind(
        "cat",
        living.cat,
        ("cat", "kitten", "tabby", "house cat"),
        "pet",
        ("orange", "grey", "black", "white", "brown"),
        {"room": ("sitting", "waiting", "staring at the camera"), "field": ("sitting", "waiting")},
    ),
    Kind(
        "chair",
        household.chair,
        ("chair", "kitchen chair", "seat", "dining chair"),
        "piece of furniture",
        ("wooden", "red", "white", "blue"),
        {"room": STANDING},
    ),
    Kind(
        "cow",
        living.cow,
        ("cow", "dairy cow", "spotted cow", "heifer"),
        "farm animal",
        ("white", "brown", "tan"),
        {"field": GRAZING, "snow": ("standing", "looking around")},
    ),
    Kind(
        "diningtable",
        household.diningtable,
        ("dining table", "table", "table laid for four", "kitchen table"),
        "piece of furniture",
        ("wooden", "brown", "tan", "white"),
        {"room": STANDING},
    ),
    Kind(
        "dog",
        living.dog,
        ("dog", "puppy", "hound", "doggy"),
        "pet",
        ("tan", "brown", "black", "white", "grey"),
        {"field": AT_PLAY, "beach": AT_PLAY, "snow": AT_PLAY, "room": ("standing", "waiting")},
    ),
    Kind(
        "horse",
        living.horse,
        ("horse", "pony", "mare", "stallion"),
        "farm animal",
        ("brown", "black", "white", "tan"),
        {"field": GRAZING, "beach": ("standing", "trotting"), "snow": ("standing", "trotting")},
    ),
    Kind(
        "motorbike",
        vehicles.motorbike,
        ("motorbike", "motorcycle", "bike with an engine", "chopper"),
        "vehicle",
        ("red", "blue", "black", "orange", "green"),
        {"street": PARKED, "field": PARKED},
    ),
    Kind(
        "person",
        living.person,
        ("person", "man", "woman", "tourist", "pedestrian"),
        "figure",
        ("red", "blue", "yellow", "green", "purple", "white"),
        {place: ("standing", "posing", "waiting", "waving") for place in ("street", "field", "beach", "snow", "room")},
        "{noun} in a {colour} shirt",
    ),
    Kind(
        "pottedplant",
        household.pottedplant,
        ("potted plant", "plant", "houseplant", "leafy plant"),
        "decoration",
        ("terracotta", "white", "blue", "brown"),
        {"room": STANDING},
        "{noun} in a {colour} pot",
    ),
    Kind(
        "sheep",
        living.sheep,
        ("sheep", "woolly sheep", "lamb", "ram"),
        "farm animal",
        ("white", "grey", "tan"),
        {"field": GRAZING, "snow": ("standing", "looking around")},
    ),
    Kind(
        "sofa",
        household.sofa,
        ("sofa", "couch", "settee", "comfortable sofa"),
        "piece of furniture",
        ("red", "blue", "green", "grey", "purple", "brown"),
        {"room": STANDING},
    ),
    Kind(
        "train",
        vehicles.train,
        ("train", "electric train", "railway train", "tram"),
        "vehicle",
        ("green", "red", "blue", "orange"),
        {"field": ("passing by", "waiting", "running"), "street": ("passing by", "waiting"), "snow": ("passing by",)},
    ),
    Kind(
        "tvmonitor",
        household.tvmonitor,
        ("monitor", "television", "TV", "flat screen", "computer screen"),
        "device",
        ("black", "grey", "white"),
        {"room": ("switched on", "standing", "glowing")},
    ),
)
