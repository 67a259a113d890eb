"""A notation for drawings, and the colored outlines that it stands for.

Shapes are divided by semicolons or lines, and painted in their order; x goes to the right, y down:

    [COUNTx] SHAPE COLOR NUMBERS        oval red*.8 50,30 20        2~5x ball red|blue 0~100,90+2 8

    poly, blob   x,y x,y ...            a polygon, and a smooth curve through the points
    oval         x,y radius[,radius]
    box          left,top right,bottom [corner's radius]
    line         width x,y x,y ...
    ring         width x,y radius
    (a part)     x,y size [degrees]     of world.toml, clockwise; 100 of its units become `size`

`a~b` is a number between the two, `a+b` grows by b from one to the next of the count. `red|blue` is one of the colors,
the same in the whole drawing; `own` is the object's. `*` darkens with a factor below 1, and lightens above.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
from PIL import ImageColor

Color = tuple[int, ...]
Points = np.ndarray
"""Points x + iy, so that to turn and to scale is a product."""
Outline = tuple[Color, Points]

WORLD = tomllib.loads(Path(__file__).with_name("world.toml").read_text(encoding="utf-8"))
DRAWINGS: dict[str, str] = WORLD["parts"] | WORLD["drawings"]
COLORS: dict[str, str] = {name: color for color, name, *_ in WORLD["words"]["colors"]}
SHAPE = re.compile(r"(?:([\d.~]+)x )?([a-z_]+) ([a-z|#\d]+)(?:\*([\d.]+))? ([-\d.~+, ]+)")
TURN = np.exp(2j * np.pi * (np.arange(24) + 0.5) / 24)


def trace(drawing: str, own: Color, rng: Random) -> Iterator[Outline]:
    """The colored outlines of a drawing, in the order of painting."""
    palette = {"own": own}
    for count, shape, color, factor, numbers in parse(drawing):
        if color not in palette:
            palette[color] = pick(color.split("|"), rng)
        tone = shade(palette[color], factor)
        for k in range(round(_number(count, 0, rng))):
            values = [_number(number, k, rng) for number in numbers]
            if shape in SHAPES:
                yield from ((tone, outline) for outline in SHAPES[shape](*values))
            else:
                x, y, size, degrees = [*values, 0.0][:4]
                turn = size / 100 * np.exp(1j * np.radians(degrees))
                yield from ((c, complex(x, y) + turn * outline) for c, outline in trace(DRAWINGS[shape], tone, rng))


@cache
def parse(drawing: str) -> list[tuple[str, str, str, float, list[str]]]:
    """Count, shape, color, factor and numbers of each shape."""
    parts = []
    for text in filter(None, re.split("[;\n]", drawing.strip())):
        if not (match := SHAPE.fullmatch(text.strip())):
            raise ValueError(f"not a shape: {text!r}")
        count, shape, color, factor, numbers = match.groups("1")
        parts.append((count, shape, color, float(factor), re.split("[ ,]", numbers)))
    return parts


def _number(text: str, k: int, rng: Random) -> float:
    if "~" in text:
        return rng.uniform(*map(float, text.split("~")))
    start, _, step = text.partition("+")
    return float(start) + k * float(step or 0)


def pick(names: list[str], rng: Random) -> Color:
    """One of the colors, each of its channels moved by at most 12 of 255."""
    name = rng.choice(names)
    color = ImageColor.getrgb(COLORS.get(name, name))
    return *(min(255, max(0, value + rng.randint(-12, 12))) for value in color[:3]), *color[3:]


def shade(color: Color, factor: float) -> Color:
    """Darker for a factor below 1; above 1, the excess is the way to white."""
    goal, part = (0, 1 - factor) if factor <= 1 else (255, min(factor - 1, 1))
    return *(round(value + (goal - value) * part) for value in color[:3]), *color[3:]


def smooth(points: Points, steps: int = 8) -> Points:
    """A closed Catmull-Rom curve through the points, (n,) -> (n * steps,)."""
    before, after, further = (np.roll(points, k) for k in (1, -1, -2))
    t = np.arange(steps)[:, None] / steps
    curve = t * (after - before) + t**2 * (2 * before - 5 * points + 4 * after - further)
    curve += t**3 * (3 * points - before - 3 * after + further)
    return (points + curve / 2).T.ravel()


def _points(*numbers: float) -> Points:
    return np.array(numbers).view(complex)


def _oval(x: float, y: float, rx: float, ry: float | None = None) -> list[Points]:
    return [complex(x, y) + rx * TURN.real + 1j * (rx if ry is None else ry) * TURN.imag]


def _box(left: float, top: float, right: float, bottom: float, corner: float = 0) -> list[Points]:
    """The quarters of a circle, drawn apart."""
    x = (left + right) / 2 + np.sign(TURN.real) * ((right - left) / 2 - corner)
    y = (top + bottom) / 2 + np.sign(TURN.imag) * ((bottom - top) / 2 - corner)
    return [x + 1j * y + corner * TURN]


def _line(width: float, *numbers: float) -> list[Points]:
    """A quadrangle for each stretch, and a disk at each point."""
    points = _points(*numbers)
    along = np.diff(points)
    across = 0.5j * width * along / abs(along)
    start, end = points[:-1], points[1:]
    stretches = np.stack([start + across, end + across, end - across, start - across], axis=1)
    return [*stretches, *(points[:, None] + width / 2 * TURN[::2])]


def _ring(width: float, x: float, y: float, radius: float) -> list[Points]:
    return _line(width, *np.resize(_oval(x, y, radius)[0], len(TURN) + 1).view(float))


SHAPES: dict[str, Callable[..., list[Points]]] = {
    "poly": lambda *numbers: [_points(*numbers)],
    "blob": lambda *numbers: [smooth(_points(*numbers))],
    "oval": _oval,
    "box": _box,
    "line": _line,
    "ring": _ring,
}
