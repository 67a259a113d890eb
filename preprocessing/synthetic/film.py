"""Synthetic films: a drawn object that moves through its scene as its class does."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from random import Random

import numpy as np
from PIL import Image, ImageDraw

from preprocessing.synthetic.picture import Picture, compose, draw_object
from preprocessing.synthetic.shapes import WORLD, Outline, trace

FRAMES = 12
RATE = 8
"""frames per second"""
Motion = Callable[[float], complex]
"""of the film's time, from 0 to 1: how far the object is from its place, in hundredths of the picture's height"""


def make_film(name: str, rng: Random, size: tuple[int, int]) -> bytes:
    """An MP4 file of a second and a half, without sound. `size` is width and height, both even."""
    picture = compose(name, rng)
    wide = 100 * size[0] / size[1]
    horizon = 99 if picture.place == "sky" else rng.uniform(42, 66)
    background = Image.new("RGB", size)
    _paint(background, _scene(picture, wide, horizon, rng))
    thing = draw_object(picture, wide, horizon, rng)
    motion = MOTIONS[name](rng)
    frames = []
    for number in range(FRAMES):
        shift = motion(number / (FRAMES - 1))
        frame = background.copy()
        _paint(frame, [(color, outline + shift) for color, outline in thing])
        frames.append(frame)
    return encode(frames)


def _scene(picture: Picture, wide: float, horizon: float, rng: Random) -> list[Outline]:
    drawing = WORLD["places"][picture.place][2]
    return [
        (color, outline.real * wide / 133 + 1j * np.interp(outline.imag, (0, 50, 100), (0, horizon, 100)))
        for color, outline in trace(drawing, (0, 0, 0), rng)
    ]


def _paint(image: Image.Image, outlines: Sequence[Outline]) -> None:
    draw = ImageDraw.Draw(image, "RGBA")
    for color, outline in outlines:
        draw.polygon((outline * image.height / 100).view(float).tolist(), fill=color)


def _flutter(rng: Random) -> Motion:
    """Up and down, and slowly forward."""
    beats, reach = rng.uniform(2, 4), rng.uniform(8, 16)
    return lambda time: 20 * (time - 0.5) + 1j * reach * float(np.sin(2 * np.pi * beats * time))


def _rock(rng: Random) -> Motion:
    """To and fro, with the waves."""
    waves, reach = rng.uniform(0.7, 1.5), rng.uniform(4, 10)
    return lambda time: complex(reach * np.sin(2 * np.pi * waves * time), reach / 3 * np.cos(4 * np.pi * waves * time))


def _pass(rng: Random, *, sign: int) -> Motion:
    """From one side to the other."""
    reach = sign * rng.uniform(60, 110)
    return lambda time: complex(reach * (time - 0.5))


MOTIONS: dict[str, Callable[[Random], Motion]] = {
    "bird": _flutter,
    "boat": _rock,
    "car": lambda rng: _pass(rng, sign=1),
    "train": lambda rng: _pass(rng, sign=-1),
}


def encode(frames: Sequence[Image.Image], rate: int = RATE) -> bytes:
    """An MP4 file (H.264) of pictures of one size; the same version of the encoder gives the same bytes."""
    import av

    data = io.BytesIO()
    with av.open(data, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        video = container.add_stream("libx264", rate=rate)
        video.width, video.height, video.pix_fmt = *frames[0].size, "yuv420p"
        # Each is a keyframe: with prediction from others, the same pictures give other bytes from time to time.
        video.gop_size = 1
        video.options = {"crf": "20", "preset": "veryfast", "threads": "1", "bf": "0"}
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_image(image)
            frame.pts = number
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return data.getvalue()
