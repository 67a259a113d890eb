"""One drawn picture: a scene, small things to distract, one object, and the camera's noise."""

from __future__ import annotations

import io
from dataclasses import dataclass
from random import Random

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageEnhance, ImageFilter

from preprocessing.synthetic.kinds import COLORS, KINDS, Kind
from preprocessing.synthetic.look import Look
from preprocessing.synthetic.pen import Pen, vary
from preprocessing.synthetic.scenes import Canvas, draw_scene

OUTDOORS = ("ball", "box", "traffic cone", "kite")
THINGS = {"sky": ("kite",), "room": ("ball", "box"), "water": ("ball", "kite")}


@dataclass(frozen=True)
class Picture:
    """What is to be seen in one picture; the sentences tell of it, so they must agree with what is drawn."""

    kind: Kind
    color: str
    place: str
    doing: str
    side: str  # "left" | "middle" | "right"
    height: float  # of the object, as a part of the picture's height
    thing: str | None  # a small thing beside it


def compose(kind: Kind, rng: Random) -> Picture:
    """Decides what one picture of the class shows."""
    place = rng.choice(sorted(kind.places))
    return Picture(
        kind=kind,
        color=rng.choice(kind.colors),
        place=place,
        doing=rng.choice(kind.places[place]),
        side=rng.choice(["left", "middle", "right"]),
        height=rng.uniform(0.42, 0.80),
        thing=rng.choice(THINGS.get(place, OUTDOORS)) if rng.random() < 0.4 else None,
    )


def render(picture: Picture, size: tuple[int, int], rng: Random) -> bytes:
    """The picture as JPEG bytes, `size` (width, height) pixels."""
    canvas = draw_scene(picture.place, size, rng)
    image, position = _object_on(canvas, picture, rng)
    for _ in range(rng.randint(0, 5)):
        _draw_patch(canvas, rng)
    if picture.thing is not None:
        _draw_thing(canvas, picture.thing, rng)
    if picture.place not in ("sky", "water"):
        _draw_shadow(canvas, image.size, position)
    canvas.image.paste(image, position, image)
    return _photograph(canvas.image, rng)


def _object_on(canvas: Canvas, picture: Picture, rng: Random) -> tuple[Image.Image, tuple[int, int]]:
    """The object, scaled, turned and shaded, and where its upper left corner goes."""
    pen = Pen()
    color = vary(COLORS[picture.color], rng, 14)
    picture.kind.draw(pen, Look(color=color, airborne=picture.place == "sky", rng=rng))
    image = pen.layer.crop(pen.layer.getbbox())
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    scale = min(picture.height * canvas.height / image.height, 0.85 * canvas.width / image.width)
    image = image.resize(
        (max(1, round(image.width * scale)), max(1, round(image.height * scale))), Image.Resampling.BOX
    )
    image = image.rotate(rng.uniform(-5, 5), Image.Resampling.BICUBIC, expand=True)
    return _lit(image, rng), _position(canvas, image.size, picture.side, rng)


def _lit(image: Image.Image, rng: Random) -> Image.Image:
    """Light from above: the lower part is darker."""
    depth = rng.uniform(0.1, 0.35)
    column = np.linspace(1.0, 1.0 - depth, image.height)
    light = Image.fromarray(np.repeat((column * 255).astype(np.uint8)[:, None], image.width, axis=1))
    shaded = ImageChops.multiply(image.convert("RGB"), Image.merge("RGB", [light] * 3))
    shaded.putalpha(image.getchannel("A"))
    return shaded


def _position(canvas: Canvas, extent: tuple[int, int], side: str, rng: Random) -> tuple[int, int]:
    """The upper left corner of an object: at its side, and on the ground where there is one."""
    width, height = extent
    free = max(0, canvas.width - width)
    start = {"left": 0.0, "middle": 0.4, "right": 0.8}[side]
    x = round(free * (start + rng.uniform(0.0, 0.2)))
    if canvas.horizon == canvas.height:
        return x, round(max(0, canvas.height - height) * rng.uniform(0.05, 0.95))
    lowest, highest = canvas.height - 3, max(canvas.horizon + 0.12 * canvas.height, height + 3)
    return x, round(rng.uniform(min(highest, lowest), lowest)) - height


def _draw_shadow(canvas: Canvas, extent: tuple[int, int], position: tuple[int, int]) -> None:
    (width, height), (x, y) = extent, position
    mask = Image.new("L", canvas.image.size)
    box = [x + width * 0.04, y + height * 0.95, x + width * 0.96, y + height * 1.03 + 2]
    ImageDraw.Draw(mask).ellipse(box, fill=110)
    canvas.image.paste((30, 30, 34), (0, 0), mask.filter(ImageFilter.GaussianBlur(3)))


def _draw_patch(canvas: Canvas, rng: Random) -> None:
    """A small blurred blob of any colour, which means nothing."""
    x, y = rng.uniform(0, canvas.width), rng.uniform(0, canvas.height)
    rx, ry = rng.uniform(2, 9), rng.uniform(2, 7)
    mask = Image.new("L", canvas.image.size)
    ImageDraw.Draw(mask).ellipse([x - rx, y - ry, x + rx, y + ry], fill=rng.randint(80, 190))
    color = tuple(rng.randint(40, 220) for _ in range(3))
    canvas.image.paste(color, (0, 0), mask.filter(ImageFilter.GaussianBlur(1.2)))


def _draw_thing(canvas: Canvas, thing: str, rng: Random) -> None:
    size = rng.uniform(0.08, 0.14) * canvas.height
    x = rng.choice([rng.uniform(0.04, 0.2), rng.uniform(0.75, 0.9)]) * canvas.width
    base = rng.uniform((canvas.horizon + canvas.height) / 2, canvas.height - 2)
    color, draw = vary(COLORS[rng.choice(["red", "yellow", "blue", "orange"])], rng), canvas.draw
    if thing == "ball":
        draw.ellipse([x, base - size, x + size, base], fill=color, outline=(90, 60, 50))
    elif thing == "box":
        draw.rectangle([x, base - size, x + size * 1.2, base], fill=COLORS["tan"], outline=(120, 90, 60))
    elif thing == "traffic cone":
        draw.polygon([(x + size / 2, base - size * 1.3), (x, base), (x + size, base)], fill=COLORS["orange"])
        draw.rectangle([x + size * 0.28, base - size * 0.65, x + size * 0.72, base - size * 0.4], fill=(245, 240, 230))
    else:
        y = rng.uniform(0.05, 0.25) * canvas.height
        draw.polygon([(x, y), (x + size * 0.6, y + size), (x, y + size * 2), (x - size * 0.6, y + size)], fill=color)
        draw.line([(x, y + size * 2), (x + size, y + size * 3)], fill=(90, 90, 90))


def _photograph(image: Image.Image, rng: Random) -> bytes:
    """Exposure, contrast, blur, sensor noise and JPEG."""
    image = ImageEnhance.Brightness(image).enhance(rng.uniform(0.82, 1.12))
    image = ImageEnhance.Contrast(image).enhance(rng.uniform(0.8, 1.15))
    image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.0, 0.8)))
    noise = np.random.default_rng(rng.getrandbits(64)).normal(
        0.0, rng.uniform(1.0, 7.0), (image.height, image.width, 3)
    )
    pixels = np.clip(np.asarray(image) + noise, 0, 255).round().astype(np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=rng.randint(82, 93))
    return data.getvalue()


def draw_picture(name: str, index: int, *, size: tuple[int, int], seed: int) -> tuple[Picture, bytes]:
    """The `index`-th picture of a class: what it shows, and its JPEG bytes. A pure function of its arguments."""
    kind = next(kind for kind in KINDS if kind.name == name)
    rng = Random(f"{seed}/{name}/{index}")
    picture = compose(kind, rng)
    return picture, render(picture, size, rng)
