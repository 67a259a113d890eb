"""Five sentences about a drawn picture, as different people would write them."""

from __future__ import annotations

import re
from random import Random

from preprocessing.synthetic.picture import Picture
from preprocessing.synthetic.shapes import WORLD

WORDS = WORLD["words"]
COLORS = {words[0]: words for _, *words in WORDS["colors"]}
NUMBERS = ("no", "a", "two", "three")


def describe(picture: Picture, rng: Random, count: int = 5) -> tuple[str, ...]:
    """Different sentences about the picture; all but one name the object, by any of its nouns."""
    frames, nouns = WORDS["sentences"], picture.kind.nouns.split(", ")
    sentences = [_write(rng.choice(frames["vague"]), picture.kind.vague, picture, rng)]
    if picture.things:
        sentences.append(_write(rng.choice(frames["things"]), rng.choice(nouns), picture, rng))
    for frame in rng.sample(frames["naming"], count - len(sentences)):
        sentences.append(_write(frame, rng.choice(nouns), picture, rng))
    rng.shuffle(sentences)
    return tuple(sentences)


def _write(frame: str, noun: str, picture: Picture, rng: Random) -> str:
    sentence = frame.format(
        it=noun,
        colored=picture.kind.colored.format(noun=noun, color=rng.choice(COLORS[picture.color])),
        doing=picture.doing,
        where=rng.choice(WORLD["places"][picture.place][0].split(", ")),
        side=rng.choice(WORDS["sides"][picture.side]),
        size="large" if picture.height > 0.62 else "small",
        things=f"{NUMBERS[picture.things]} {picture.thing}{'s' * (picture.things > 1)}",
    )
    sentence = re.sub(r"\b([Aa]) (?=[aeio])", r"\1n ", sentence[0].upper() + sentence[1:])
    return _carelessly(sentence, rng)


def _carelessly(sentence: str, rng: Random) -> str:
    """Some people type no full stop, some no capital, some a space before the full stop."""
    habit = rng.random()
    if habit < 0.15:
        return sentence.rstrip(".")
    if habit < 0.25:
        return sentence[0].lower() + sentence[1:]
    return sentence.replace(".", " .") if habit < 0.35 else sentence
