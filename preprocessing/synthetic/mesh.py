"""Synthetic meshes, put together of boxes, wedges and balls: a bird, a boat, a car, a train."""

from __future__ import annotations

from random import Random

import numpy as np
from numpy.typing import NDArray

Part = tuple[NDArray[np.float64], NDArray[np.int64]]
"""vertices (v, 3), whose third axis is upwards, and triangles (f, 3)"""
_CUBE_FACES = "0 2 3  0 3 1  4 5 7  4 7 6  0 1 5  0 5 4  2 6 7  2 7 3  0 4 6  0 6 2  1 3 7  1 7 5"


def make_mesh(name: str, rng: Random) -> bytes:
    """An OFF file of one object of the class: stretched, turned about the vertical axis, and of any size."""
    vertices, faces = _joined(FORMS[name](rng))
    vertices = vertices * [rng.uniform(0.8, 1.25) for _ in range(3)]
    turn = rng.uniform(0, 2 * np.pi)
    rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    vertices = vertices @ rotation.T * rng.uniform(0.5, 50) + rng.uniform(-5, 5)
    lines = [f"OFF\n{len(vertices)} {len(faces)} 0"]
    lines += [f"{x:.5f} {y:.5f} {z:.5f}" for x, y, z in vertices.tolist()]
    lines += [f"3 {a} {b} {c}" for a, b, c in faces.tolist()]
    return ("\n".join(lines) + "\n").encode()


def box(center: tuple[float, float, float], size: tuple[float, float, float]) -> Part:
    """A box, its sides along the axes."""
    corners = np.array([(x, y, z) for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
    return corners * size + center, np.array(_CUBE_FACES.split(), np.int64).reshape(-1, 3)


def wedge(center: tuple[float, float, float], size: tuple[float, float, float]) -> Part:
    """A box whose lower side is a keel: a line along the first axis."""
    vertices, faces = box((0, 0, 0), size)
    vertices[vertices[:, 2] < 0, 1] = 0
    return vertices + center, faces


def ball(center: tuple[float, float, float], radii: tuple[float, float, float], steps: int = 8) -> Part:
    """An ellipsoid of steps x 2 steps quadrilaterals."""
    around, down = np.meshgrid(np.arange(2 * steps) * np.pi / steps, np.arange(steps + 1) * np.pi / steps)
    vertices = np.stack([np.sin(down) * np.cos(around), np.sin(down) * np.sin(around), np.cos(down)], axis=-1)
    numbers = np.arange(vertices[..., 0].size).reshape(vertices.shape[:2])
    a, b = numbers[:-1], np.roll(numbers, -1, axis=1)[:-1]
    c, d = numbers[1:], np.roll(numbers, -1, axis=1)[1:]
    faces = np.concatenate([np.stack([a, c, d], axis=-1), np.stack([a, d, b], axis=-1)]).reshape(-1, 3)
    return vertices.reshape(-1, 3) * radii + center, faces


def _joined(parts: list[Part]) -> Part:
    starts = np.cumsum([0, *(len(vertices) for vertices, _ in parts)])
    faces = [triangles + start for (_, triangles), start in zip(parts, starts)]
    return np.concatenate([vertices for vertices, _ in parts]), np.concatenate(faces)


def _bird(rng: Random) -> list[Part]:
    span, lift = rng.uniform(0.8, 1.2), rng.uniform(0.05, 0.4)
    wings = [box((0, side * span / 2, 0.1), (0.35, span, 0.03)) for side in (-1, 1)]
    for vertices, _ in wings:
        vertices[:, 2] += lift * np.abs(vertices[:, 1])
    return [ball((0, 0, 0), (0.6, 0.2, 0.2)), ball((0.6, 0, 0.15), (0.18, 0.15, 0.15)), *wings]


def _boat(rng: Random) -> list[Part]:
    mast = rng.uniform(1.0, 1.5)
    sail = wedge((0.1, 0, 0), (0.9, 0.04, mast))
    sail[0][sail[0][:, 2] > 0, 0] = 0.1
    sail[0][:, 2] += mast / 2 + 0.3
    return [wedge((0, 0, 0), (1.8, 0.6, 0.5)), box((0.1, 0, mast / 2 + 0.2), (0.05, 0.05, mast)), sail]


def _car(rng: Random) -> list[Part]:
    length = rng.uniform(0.7, 1.1)
    wheels = [ball((x, y, -0.25), (0.2, 0.08, 0.2), 6) for x in (-0.5, 0.5) for y in (-0.35, 0.35)]
    return [box((0, 0, 0), (1.7, 0.7, 0.4)), box((-0.1, 0, 0.35), (length, 0.6, 0.35)), *wheels]


def _train(rng: Random) -> list[Part]:
    cars = rng.randint(3, 5)
    return [box((1.1 * number, 0, 0), (1.0, 0.4, rng.uniform(0.45, 0.55))) for number in range(cars)]


FORMS = {"bird": _bird, "boat": _boat, "car": _car, "train": _train}
"""class -> of random numbers, the parts of one such object"""
