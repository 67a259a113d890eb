"""Drawn backgrounds: seven places, each with clouds, houses, hills or furniture that vary."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from PIL import Image, ImageDraw

from preprocessing.synthetic.pen import WHITE, Colour, shade, vary

GRASS: Colour = (104, 160, 76)
SAND: Colour = (226, 204, 156)
SEA: Colour = (52, 120, 160)
ROAD: Colour = (112, 112, 116)
SNOW: Colour = (234, 238, 244)
SKIES: tuple[Colour, ...] = ((112, 168, 222), (150, 190, 226), (176, 188, 200), (222, 178, 150))
WALLS: tuple[Colour, ...] = ((214, 200, 172), (186, 204, 200), (206, 186, 196), (196, 198, 172), (168, 180, 204))
FLOORS: tuple[Colour, ...] = ((160, 120, 82), (128, 98, 76), (176, 168, 160), (142, 84, 66))


class Canvas:
    """An opaque picture that a scene is drawn on; `horizon` is the row of pixels where the ground begins."""

    def __init__(self, size: tuple[int, int], rng: Random, *, horizon: float) -> None:
        self.width, self.height = size
        self.rng = rng
        self.horizon = round(self.height * horizon)
        self.image = Image.new("RGB", size)
        self.draw = ImageDraw.Draw(self.image)

    def gradient(self, above: Colour, below: Colour, top: int, bottom: int) -> None:
        """Fills the rows from top to bottom with a vertical gradient."""
        for y in range(top, bottom):
            part = (y - top) / max(1, bottom - top - 1)
            row = tuple(round(a + (b - a) * part) for a, b in zip(above, below, strict=True))
            self.draw.line([(0, y), (self.width, y)], fill=row)

    def sky(self, color: Colour | None = None) -> None:
        color = vary(color or self.rng.choice(SKIES), self.rng)
        self.gradient(color, shade(color, 1.6), 0, self.horizon)

    def ground(self, color: Colour) -> None:
        color = vary(color, self.rng)
        self.gradient(shade(color, 1.12), shade(color, 0.8), self.horizon, self.height)

    def cloud(self) -> None:
        x, y = self.rng.uniform(0, self.width), self.rng.uniform(0, self.horizon * 0.6)
        for _ in range(5):
            rx, ry = self.rng.uniform(8, 22), self.rng.uniform(4, 9)
            dx, dy = self.rng.uniform(-22, 22), self.rng.uniform(-4, 4)
            self.draw.ellipse(
                [x + dx - rx, y + dy - ry, x + dx + rx, y + dy + ry], fill=vary((236, 240, 246), self.rng, 8)
            )

    def hills(self, color: Colour) -> None:
        for _ in range(self.rng.randint(1, 3)):
            x, rx = self.rng.uniform(0, self.width), self.rng.uniform(0.25, 0.6) * self.width
            ry = self.rng.uniform(0.06, 0.2) * self.height
            box = [x - rx, self.horizon - ry, x + rx, self.horizon + ry]
            self.draw.pieslice(box, 180, 360, fill=vary(color, self.rng))

    def tree(self) -> None:
        x, base = self.rng.uniform(0, self.width), self.horizon + self.rng.uniform(0, 8)
        height = self.rng.uniform(0.14, 0.32) * self.height
        self.draw.rectangle([x - 2, base - height * 0.5, x + 2, base], fill=(96, 70, 50))
        leaves = vary((64, 118, 62), self.rng)
        if self.rng.random() < 0.5:
            self.draw.ellipse([x - height / 3, base - height, x + height / 3, base - height * 0.35], fill=leaves)
        else:
            points = [
                (x, base - height),
                (x - height / 3, base - height * 0.25),
                (x + height / 3, base - height * 0.25),
            ]
            self.draw.polygon(points, fill=leaves)

    def specks(self, color: Colour, count: int) -> None:
        """Short strokes all over the ground: tufts, waves, pebbles."""
        for _ in range(count):
            x, y = self.rng.uniform(0, self.width), self.rng.uniform(self.horizon + 3, self.height)
            length = self.rng.uniform(2, 9)
            self.draw.line([(x, y), (x + length, y - self.rng.uniform(0, 1.5))], fill=vary(color, self.rng))


def _times(rng: Random, most: int, action: Callable[[], None]) -> None:
    for _ in range(rng.randint(0, most)):
        action()


def _sky(canvas: Canvas) -> None:
    canvas.sky()
    _times(canvas.rng, 6, canvas.cloud)


def _field(canvas: Canvas) -> None:
    canvas.sky()
    _times(canvas.rng, 3, canvas.cloud)
    canvas.hills((110, 150, 104))
    canvas.ground(GRASS)
    canvas.specks(shade(GRASS, 0.75), 70)
    _times(canvas.rng, 4, canvas.tree)


def _street(canvas: Canvas) -> None:
    rng, draw = canvas.rng, canvas.draw
    canvas.sky()
    left = -rng.uniform(0, 30)
    while left < canvas.width:
        width, height = rng.uniform(24, 56), rng.uniform(0.25, 0.95) * canvas.horizon
        wall = vary(rng.choice([(176, 142, 122), (160, 160, 164), (200, 186, 154), (150, 120, 116)]), rng)
        draw.rectangle([left, canvas.horizon - height, left + width, canvas.horizon], fill=wall)
        pane = vary(shade(wall, 0.7), rng)
        for x in range(round(left) + 5, round(left + width) - 6, 11):
            for y in range(round(canvas.horizon - height) + 6, canvas.horizon - 8, 14):
                draw.rectangle([x, y, x + 5, y + 7], fill=pane)
        left += width + rng.choice([0, 0, 6])
    canvas.ground(ROAD)
    draw.rectangle([0, canvas.horizon, canvas.width, canvas.horizon + 6], fill=vary((186, 182, 176), rng))
    y = round((canvas.horizon + canvas.height) / 2)
    for x in range(-rng.randint(0, 20), canvas.width, 30):
        draw.rectangle([x, y, x + 15, y + 2], fill=(224, 222, 210))


def _room(canvas: Canvas) -> None:
    rng, draw = canvas.rng, canvas.draw
    wall = vary(rng.choice(WALLS), rng)
    canvas.gradient(shade(wall, 1.1), shade(wall, 0.9), 0, canvas.horizon)
    if rng.random() < 0.3:
        for stripe in range(0, canvas.width, 16):
            draw.line([(stripe, 0), (stripe, canvas.horizon)], fill=shade(wall, 0.88), width=3)
    canvas.ground(rng.choice(FLOORS))
    draw.rectangle([0, canvas.horizon - 5, canvas.width, canvas.horizon], fill=shade(wall, 1.5))
    for _ in range(rng.randint(0, 3)):
        x, y = rng.uniform(0, canvas.width * 0.85), rng.uniform(6, canvas.horizon * 0.4)
        width, height = rng.uniform(20, 44), rng.uniform(18, 36)
        frame = rng.choice([(120, 90, 60), WHITE, (60, 58, 60)])
        draw.rectangle([x - 3, y - 3, x + width + 3, y + height + 3], fill=frame)
        inside = vary(rng.choice([(170, 210, 236), (206, 160, 120), (120, 150, 130)]), rng, 30)
        draw.rectangle([x, y, x + width, y + height], fill=inside)
    if rng.random() < 0.5:
        center, rx = rng.uniform(0.2, 0.8) * canvas.width, rng.uniform(0.25, 0.5) * canvas.width
        rug = vary(rng.choice([(170, 90, 84), (100, 120, 150), (190, 170, 120)]), rng)
        draw.ellipse([center - rx, canvas.horizon + 8, center + rx, canvas.height - 4], fill=rug)


def _water(canvas: Canvas) -> None:
    canvas.sky()
    _times(canvas.rng, 4, canvas.cloud)
    if canvas.rng.random() < 0.5:
        canvas.hills((104, 128, 116))
    canvas.ground(SEA)
    canvas.specks(shade(SEA, 1.4), 80)


def _beach(canvas: Canvas) -> None:
    canvas.sky(SKIES[0])
    _times(canvas.rng, 3, canvas.cloud)
    sea = vary(SEA, canvas.rng)
    canvas.ground(SAND)
    top = canvas.horizon - round(canvas.rng.uniform(0.06, 0.16) * canvas.height)
    canvas.gradient(sea, shade(sea, 1.4), top, canvas.horizon)
    canvas.specks(shade(SAND, 0.85), 60)


def _snow(canvas: Canvas) -> None:
    canvas.sky(SKIES[2])
    canvas.hills((206, 214, 226))
    canvas.ground(SNOW)
    _times(canvas.rng, 4, canvas.tree)
    for _ in range(canvas.rng.randint(0, 60)):
        x, y = canvas.rng.uniform(0, canvas.width), canvas.rng.uniform(0, canvas.height)
        canvas.draw.ellipse([x - 1.2, y - 1.2, x + 1.2, y + 1.2], fill=(250, 250, 252))


SCENES: dict[str, Callable[[Canvas], None]] = {
    "sky": _sky,
    "field": _field,
    "street": _street,
    "room": _room,
    "water": _water,
    "beach": _beach,
    "snow": _snow,
}


def draw_scene(place: str, size: tuple[int, int], rng: Random) -> Canvas:
    """The background of a place, `size` (width, height) pixels; in the sky there is no ground."""
    canvas = Canvas(size, rng, horizon=1.0 if place == "sky" else rng.uniform(0.42, 0.66))
    SCENES[place](canvas)
    return canvas
