"""Five sentences about a drawn picture, as different people would write them."""

from __future__ import annotations

import re
from random import Random

from preprocessing.synthetic.drawing import Picture

WHERE = {
    "sky": ("in the sky", "high above the ground", "in the air", "among the clouds"),
    "field": ("in a field", "on the grass", "in a green meadow", "on a lawn in the country"),
    "street": ("on the street", "on a road", "in front of some buildings", "in the city", "in a town"),
    "room": ("in a room", "indoors", "against a wall", "inside a house", "on the floor of a living room"),
    "water": ("on the water", "at sea", "on a lake", "on the calm blue ocean"),
    "beach": ("on the beach", "on the sand", "by the sea", "at the seaside"),
    "snow": ("in the snow", "on snowy ground", "on a cold winter day", "in a white landscape"),
}
SIDES = {
    "left": ("on the left", "on the left side"),
    "middle": ("in the middle", "in the centre"),
    "right": ("on the right", "on the right side"),
}
COLOUR_WORDS = {
    "grey": ("grey", "gray", "silver"),
    "red": ("red", "bright red"),
    "blue": ("blue", "dark blue"),
    "green": ("green", "dark green"),
    "black": ("black", "dark"),
    "white": ("white", "pale"),
    "tan": ("tan", "light brown"),
    "wooden": ("wooden", "brown"),
    "terracotta": ("terracotta", "clay", "reddish"),
}

# {it}: a noun for the object. {coloured}: the noun with its colour. {thing}: a small thing beside it.
NAMING = (
    "A {coloured} {where}.",
    "A {it} is {doing} {where}.",
    "A {coloured} {doing} {where}.",
    "There is a {coloured} {where}.",
    "A {size} {it} {where}.",
    "A {it} {side} of the picture, {where}.",
    "This {it} is {doing} {where}.",
    "A picture of a {it} {doing} {where}.",
    "One {coloured} can be seen {where}.",
    "Someone took a photo of a {size} {coloured}.",
)
WITH_THING = (
    "A {it} {doing} {where} with a {thing} nearby.",
    "A {thing} and a {coloured} {where}.",
    "There is a {thing} beside the {it}.",
)
VAGUE = (
    "A {coloured} {where}.",
    "A {size} {it} is {doing} {where}.",
    "The {it} {side} is {doing}.",
)


def describe(picture: Picture, rng: Random, count: int = 5) -> tuple[str, ...]:
    """Different sentences about the picture; all but one name the object, by any of its nouns."""
    sentences = [_write(rng.choice(VAGUE), picture.kind.vague, picture, rng)]
    if picture.thing is not None:
        sentences.append(_write(rng.choice(WITH_THING), rng.choice(picture.kind.nouns), picture, rng))
    for frame in rng.sample(NAMING, count - len(sentences)):
        sentences.append(_write(frame, rng.choice(picture.kind.nouns), picture, rng))
    rng.shuffle(sentences)
    return tuple(sentences)


def _write(frame: str, noun: str, picture: Picture, rng: Random) -> str:
    color = rng.choice(COLOUR_WORDS.get(picture.color, (picture.color,)))
    sentence = frame.format(
        it=noun,
        colored=picture.kind.colored.format(noun=noun, color=color),
        doing=picture.doing,
        where=rng.choice(WHERE[picture.place]),
        side=rng.choice(SIDES[picture.side]),
        size="large" if picture.height > 0.62 else "small",
        thing=picture.thing,
    )
    sentence = re.sub(r"\b([Aa]) (?=[aeio])", r"\1n ", sentence)
    return _carelessly(sentence, rng)


def _carelessly(sentence: str, rng: Random) -> str:
    """Some people type no full stop, some no capital, some a space before the full stop."""
    habit = rng.random()
    if habit < 0.15:
        return sentence.rstrip(".")
    if habit < 0.25:
        return sentence[0].lower() + sentence[1:]
    return sentence.replace(".", " .") if habit < 0.35 else sentence
