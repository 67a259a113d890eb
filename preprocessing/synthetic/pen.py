"""Drawing in unit coordinates on a transparent square."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random

from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
Point = tuple[float, float]

WHITE: Colour = (242, 242, 238)
BLACK: Colour = (38, 38, 44)
GLASS: Colour = (176, 208, 226)
METAL: Colour = (150, 154, 162)
WOOD: Colour = (134, 90, 54)


def shade(color: Colour, factor: float) -> Colour:
    """Darker for a factor below 1; above 1, the excess is the way to white."""
    if factor <= 1:
        red, green, blue = (round(value * factor) for value in color)
    else:
        red, green, blue = (round(value + (255 - value) * min(factor - 1, 1)) for value in color)
    return red, green, blue


def vary(color: Colour, rng: Random, amount: int = 18) -> Colour:
    """The colour with each channel moved by at most `amount` of 255."""
    red, green, blue = (min(255, max(0, value + rng.randint(-amount, amount))) for value in color)
    return red, green, blue


def smooth(points: Sequence[Point], steps: int = 8) -> list[Point]:
    """A closed Catmull-Rom curve through the points."""
    curve = []
    count = len(points)
    for i in range(count):
        before, start, end, after = (points[(i + k) % count] for k in (-1, 0, 1, 2))
        for step in range(steps):
            t = step / steps
            weights = (
                (-t + 2 * t**2 - t**3) / 2,
                (2 - 5 * t**2 + 3 * t**3) / 2,
                (t + 4 * t**2 - 3 * t**3) / 2,
                (-(t**2) + t**3) / 2,
            )
            corners = (before, start, end, after)
            x, y = (sum(w * p[axis] for w, p in zip(weights, corners, strict=True)) for axis in (0, 1))
            curve.append((x, y))
    return curve


class Pen:
    """Draws on a transparent square whose corners are (0, 0) above left and (1, 1) below right.

    The square is drawn large and scaled down when it is pasted, which smooths the edges.
    """

    def __init__(self, side: int = 480) -> None:
        self.side = side
        self.layer = Image.new("RGBA", (side, side))
        self._draw = ImageDraw.Draw(self.layer)

    def _pixels(self, points: Sequence[Point]) -> list[Point]:
        return [(x * self.side, y * self.side) for x, y in points]

    def polygon(self, color: Colour, *points: Point) -> None:
        self._draw.polygon(self._pixels(points), fill=color)

    def blob(self, color: Colour, *points: Point) -> None:
        """A smooth closed shape through the points."""
        self.polygon(color, *smooth(points))

    def oval(self, color: Colour, x: float, y: float, rx: float, ry: float | None = None) -> None:
        """A filled ellipse around (x, y); a circle without `ry`."""
        ry = rx if ry is None else ry
        self._draw.ellipse(self._pixels([(x - rx, y - ry), (x + rx, y + ry)]), fill=color)

    def ring(self, color: Colour, x: float, y: float, radius: float, width: float) -> None:
        """A circle's line of the given width, inside the radius."""
        corners = self._pixels([(x - radius, y - radius), (x + radius, y + radius)])
        self._draw.ellipse(corners, outline=color, width=round(width * self.side))

    def box(self, color: Colour, left: float, top: float, right: float, bottom: float, *, corner: float = 0) -> None:
        """A filled rectangle with rounded corners."""
        corners = self._pixels([(left, top), (right, bottom)])
        self._draw.rounded_rectangle(corners, radius=corner * self.side, fill=color)

    def line(self, color: Colour, width: float, *points: Point) -> None:
        """A line through the points with round joints and ends."""
        self._draw.line(self._pixels(points), fill=color, width=round(width * self.side))
        for x, y in points:
            self.oval(color, x, y, width / 2)

    def leaf(self, color: Colour, start: Point, angle: float, length: float, width: float) -> None:
        """A pointed leaf from `start` along `angle` (radians; 0 is right, a quarter turn is up)."""
        (x, y), along, across = start, (math.cos(angle), -math.sin(angle)), (math.sin(angle), math.cos(angle))

        def at(part: float, side: float) -> Point:
            return (
                x + along[0] * part * length + across[0] * side * width,
                y + along[1] * part * length + across[1] * side * width,
            )

        self.polygon(color, at(0, 0), at(0.3, 0.45), at(0.65, 0.4), at(1, 0), at(0.65, -0.4), at(0.3, -0.45))
