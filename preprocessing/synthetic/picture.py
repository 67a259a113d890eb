"""One drawn picture: a scene, one object, small things around it, and the camera's noise."""

from __future__ import annotations

import io
from random import Random
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from preprocessing.synthetic.shapes import DRAWINGS, WORLD, Outline, pick, trace

FINE = 2
"""Pixels drawn for one of the picture, each way; their mean smooths the edges."""


class Kind(NamedTuple):
    """One class, as world.toml's table has it."""

    nouns: str
    vague: str
    colors: str
    doing: dict[str, str]  # places -> words
    colored: str = "{color} {noun}"


KINDS = {name: Kind(*row) for name, row in WORLD["kinds"].items()}


class Picture(NamedTuple):
    """All that one picture shows; the sentences tell of it, so they must agree with what is drawn."""

    name: str
    color: str
    place: str
    doing: str
    side: str  # "left" | "middle" | "right"
    height: float  # of the object, as a part of the picture's height
    thing: str  # a small thing around it
    things: int  # their number, 0 to 3

    @property
    def kind(self) -> Kind:
        return KINDS[self.name]


def compose(name: str, rng: Random) -> Picture:
    """Decide what one picture of the class shows."""
    kind = KINDS[name]
    doing = {place: words for places, words in kind.doing.items() for place in places.split()}
    place = rng.choice(list(doing))
    return Picture(
        name=name,
        color=rng.choice(kind.colors.split()),
        place=place,
        doing=rng.choice(doing[place].split(", ")),
        side=rng.choice(list(WORLD["words"]["sides"])),
        height=rng.uniform(0.42, 0.80),
        thing=rng.choice(WORLD["places"][place][1].split(", ")),
        things=rng.choice([0, 0, 0, 0, 1, 1, 2, 3]),
    )


def render(picture: Picture, size: tuple[int, int], rng: Random) -> bytes:
    """The picture as JPEG bytes, `size` (width, height) pixels."""
    wide = 100 * size[0] / size[1]  # where the picture is 100 high
    horizon = 99 if picture.place == "sky" else rng.uniform(42, 66)
    outlines = [
        (color, o.real * wide / 133 + 1j * np.interp(o.imag, (0, 50, 100), (0, horizon, 100)))
        for color, o in trace(WORLD["places"][picture.place][2], (0, 0, 0), rng)
    ]
    outlines += draw_object(picture, wide, horizon, rng)
    for x in rng.sample([0.03, 0.12, 0.24, 0.74, 0.86, 0.97], picture.things):
        base = rng.uniform(20, 35) if picture.thing == "kite" else rng.uniform(88, 98)
        color = pick(["red", "yellow", "blue", "purple"], rng)
        outlines += _stand(list(trace(DRAWINGS[picture.thing], color, rng)), 14, wide, x, base)
    image = Image.new("RGB", (FINE * size[0], FINE * size[1]))
    draw = ImageDraw.Draw(image, "RGBA")
    for color, outline in outlines:
        draw.polygon((outline * image.height / 100).view(float).tolist(), fill=color)
    return _photograph(image.reduce(FINE), horizon, rng)


def draw_object(picture: Picture, wide: float, horizon: float, rng: Random) -> list[Outline]:
    """The object, a little turned, either way round, on its shadow where there is ground."""
    drawing = DRAWINGS.get(f"{picture.name}_{picture.place}", DRAWINGS[picture.name])
    flip, turn = rng.random() < 0.5, np.exp(1j * np.radians(rng.uniform(-4, 4)))
    outlines = [(c, turn * (-o.conj() if flip else o)) for c, o in trace(drawing, pick([picture.color], rng), rng)]
    x = {"left": 0.0, "middle": 0.4, "right": 0.8}[picture.side] + rng.uniform(0.0, 0.2)
    base = rng.uniform(30 if picture.place == "sky" else horizon + 12, 97)
    shadow = "" if picture.place in ("sky", "water") else DRAWINGS["shadow"]
    return _stand(outlines, 100 * picture.height, wide, x, base, shadow)


def _stand(
    outlines: list[Outline], height: float, wide: float, x: float, base: float, shadow: str = ""
) -> list[Outline]:
    """The outlines at the height, or lower where that is too wide, x (0 to 1) of the way from left to right.

    They stand on `base`, or below it where they would reach out of the picture above; first comes their shadow.
    """
    points = np.concatenate([outline for _, outline in outlines])
    corner = complex(points.real.min(), points.imag.min())
    extent = complex(np.ptp(points.real), np.ptp(points.imag))
    scale = min(height / extent.imag, 0.85 * wide / extent.real)
    extent *= scale
    start = complex(x * (wide - extent.real), max(base - extent.imag, 1))
    foot = start + extent.real / 2 + 1j * extent.imag
    under = [(color, foot + outline * extent.real / 100) for color, outline in trace(shadow, (0, 0, 0), Random(0))]
    return under + [(color, start + (outline - corner) * scale) for color, outline in outlines]


def _photograph(image: Image.Image, horizon: float, rng: Random) -> bytes:
    """Haze and light, exposure, contrast, blur, sensor noise and JPEG."""
    pixels = np.asarray(image.filter(ImageFilter.GaussianBlur(rng.uniform(0.0, 0.7))), np.float32)
    rows = np.linspace(0, 100, image.height, dtype=np.float32)
    light = np.interp(rows, (0, horizon, horizon + 1, 100), (0.92, 1.2, 1.1, 0.8)).astype(np.float32)
    noise = np.random.default_rng(rng.getrandbits(64)).standard_normal(pixels.shape, np.float32)
    pixels = (pixels * light[:, None, None] - 128) * rng.uniform(0.8, 1.1) + 128 * rng.uniform(0.85, 1.1)
    data = io.BytesIO()
    pixels = (pixels + noise * rng.uniform(1, 6)).clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(data, "JPEG", quality=rng.randint(82, 93))
    return data.getvalue()


def draw_picture(name: str, index: int, *, size: tuple[int, int], seed: int) -> tuple[Picture, bytes]:
    """The `index`-th picture of a class: what it shows, and its JPEG bytes. A pure function of its arguments."""
    rng = Random(f"{seed}/{name}/{index}")
    picture = compose(name, rng)
    return picture, render(picture, size, rng)
