"""Drawn things of the house."""

from __future__ import annotations

import math

from preprocessing.synthetic.look import Look
from preprocessing.synthetic.pen import BLACK, METAL, WHITE, WOOD, Colour, Pen, shade, vary


def bottle(pen: Pen, look: Look) -> None:
    glass, label = look.color, look.rng.choice([WHITE, (240, 214, 120), (210, 60, 50)])
    pen.polygon(glass, (0.45, 0.10), (0.55, 0.10), (0.56, 0.30), (0.44, 0.30))
    pen.polygon(
        glass,
        (0.44, 0.28),
        (0.56, 0.28),
        (0.61, 0.34),
        (0.65, 0.42),
        (0.66, 0.52),
        (0.34, 0.52),
        (0.35, 0.42),
        (0.39, 0.34),
    )
    pen.box(glass, 0.34, 0.48, 0.66, 0.97, corner=0.04)
    pen.box(shade(glass, 0.7), 0.61, 0.47, 0.65, 0.95, corner=0.02)
    pen.box(label, 0.345, 0.56, 0.655, 0.80)
    pen.box(shade(label, 0.6), 0.39, 0.62, 0.61, 0.66)
    pen.box(shade(label, 0.75), 0.42, 0.70, 0.58, 0.73)
    pen.line(shade(glass, 1.7), 0.022, (0.39, 0.44), (0.38, 0.54))
    pen.line(shade(glass, 1.6), 0.018, (0.475, 0.14), (0.475, 0.28))
    pen.box(look.rng.choice([(190, 50, 45), METAL, (214, 170, 70)]), 0.44, 0.03, 0.56, 0.12, corner=0.012)


def chair(pen: Pen, look: Look) -> None:
    """A kitchen chair, a quarter turned."""
    seat, dark = look.color, shade(look.color, 0.62)
    pen.line(dark, 0.045, (0.36, 0.60), (0.36, 0.86))
    pen.line(dark, 0.045, (0.74, 0.58), (0.74, 0.84))
    pen.line(seat, 0.05, (0.27, 0.04), (0.27, 0.60))
    pen.line(seat, 0.05, (0.60, 0.03), (0.60, 0.56))
    for y in (0.08, 0.2, 0.32) if look.rng.random() < 0.5 else (0.10, 0.18, 0.26, 0.34):
        pen.line(shade(seat, 0.85), 0.055, (0.27, y), (0.60, y - 0.01))
    pen.polygon(shade(seat, 1.15), (0.25, 0.56), (0.62, 0.53), (0.78, 0.61), (0.40, 0.66))
    pen.polygon(dark, (0.25, 0.56), (0.40, 0.66), (0.40, 0.70), (0.25, 0.60))
    pen.polygon(shade(seat, 0.75), (0.40, 0.66), (0.78, 0.61), (0.78, 0.65), (0.40, 0.70))
    pen.line(seat, 0.05, (0.275, 0.60), (0.27, 0.90))
    pen.line(seat, 0.05, (0.42, 0.68), (0.43, 0.97))
    pen.line(shade(seat, 0.85), 0.05, (0.755, 0.64), (0.77, 0.92))


def _place_setting(pen: Pen, x: float, y: float) -> None:
    pen.oval(WHITE, x, y, 0.075, 0.028)
    pen.oval(shade(WHITE, 0.85), x, y, 0.045, 0.016)


def diningtable(pen: Pen, look: Look) -> None:
    """A laid table seen from a little above."""
    top, dark = look.color, shade(look.color, 0.6)
    for x in (0.2, 0.80):
        pen.box(shade(dark, 0.8), x - 0.02, 0.5, x + 0.02, 0.74)
    for x in (0.07, 0.93):
        pen.box(dark, x - 0.032, 0.58, x + 0.032, 0.88)
    pen.polygon(top, (0.16, 0.38), (0.84, 0.38), (1.0, 0.56), (0.0, 0.56))
    pen.box(dark, 0.0, 0.56, 1.0, 0.605)
    if look.rng.random() < 0.5:
        pen.polygon(shade(top, 1.6), (0.38, 0.38), (0.62, 0.38), (0.68, 0.56), (0.32, 0.56))
    for x, y in ((0.26, 0.42), (0.72, 0.42), (0.16, 0.51), (0.84, 0.51)):
        _place_setting(pen, x, y)
    if look.rng.random() < 0.5:
        pen.polygon((206, 224, 232), (0.46, 0.32), (0.54, 0.32), (0.53, 0.47), (0.47, 0.47))
        for dx, color in ((-0.05, (214, 70, 80)), (0.0, (240, 190, 60)), (0.05, (190, 90, 170))):
            pen.line((70, 130, 60), 0.01, (0.5, 0.34), (0.5 + dx, 0.24))
            pen.oval(color, 0.5 + dx, 0.22, 0.032)
    else:
        pen.oval((196, 120, 60), 0.5, 0.44, 0.11, 0.05)
        for x, color in ((0.45, (210, 60, 50)), (0.52, (232, 180, 60)), (0.56, (110, 160, 60))):
            pen.oval(color, x, 0.405, 0.04)


def pottedplant(pen: Pen, look: Look) -> None:
    """A plant in a pot; the look's colour is the pot's."""
    rng, leaves = look.rng, look.rng.randint(9, 13)
    green: Colour = vary((58, 138, 62), rng, 16)
    for i in range(leaves):
        angle = math.pi * (0.08 + 0.84 * i / (leaves - 1)) + rng.uniform(-0.08, 0.08)
        tone = shade(green, rng.uniform(0.7, 1.25))
        pen.leaf(tone, (0.5, 0.64), angle, rng.uniform(0.40, 0.60), rng.uniform(0.13, 0.2))
    if rng.random() < 0.4:
        bloom = rng.choice([(226, 80, 110), (244, 200, 70), (240, 240, 240)])
        for _ in range(4):
            pen.oval(bloom, rng.uniform(0.28, 0.72), rng.uniform(0.14, 0.44), 0.045)
    pen.polygon(look.color, (0.30, 0.66), (0.70, 0.66), (0.63, 0.97), (0.37, 0.97))
    pen.polygon(shade(look.color, 0.75), (0.57, 0.66), (0.70, 0.66), (0.63, 0.97), (0.55, 0.97))
    pen.box(shade(look.color, 1.15), 0.27, 0.60, 0.73, 0.69, corner=0.015)


def sofa(pen: Pen, look: Look) -> None:
    cloth, dark, light = look.color, shade(look.color, 0.7), shade(look.color, 1.18)
    for x in (0.12, 0.88):
        pen.box(WOOD, x - 0.025, 0.78, x + 0.025, 0.86)
    pen.box(dark, 0.08, 0.30, 0.92, 0.74, corner=0.07)
    seats = look.rng.choice([2, 3])
    width = 0.72 / seats
    for i in range(seats):
        left = 0.14 + i * width
        pen.box(cloth, left + 0.008, 0.34, left + width - 0.008, 0.60, corner=0.04)
        pen.box(light, left + 0.006, 0.56, left + width - 0.006, 0.69, corner=0.035)
    pen.box(shade(cloth, 0.8), 0.06, 0.67, 0.94, 0.80, corner=0.03)
    for left, right in ((0.0, 0.15), (0.85, 1.0)):
        pen.box(cloth, left, 0.46, right, 0.80, corner=0.06)
    if look.rng.random() < 0.6:
        pen.polygon((236, 206, 120), (0.2, 0.45), (0.31, 0.42), (0.34, 0.54), (0.22, 0.56))


def tvmonitor(pen: Pen, look: Look) -> None:
    frame, rng = look.color, look.rng
    pen.polygon(shade(frame, 0.8), (0.44, 0.70), (0.56, 0.70), (0.58, 0.84), (0.42, 0.84))
    pen.box(shade(frame, 0.7), 0.28, 0.83, 0.72, 0.875, corner=0.02)
    pen.box(frame, 0.02, 0.12, 0.98, 0.74, corner=0.03)
    sky, land = rng.choice(
        [((70, 150, 220), (70, 160, 80)), ((30, 50, 110), (70, 200, 210)), ((250, 190, 110), (150, 70, 110))]
    )
    pen.box(sky, 0.06, 0.16, 0.94, 0.68)
    pen.polygon(
        land, (0.06, 0.68), (0.06, 0.56), (0.3, rng.uniform(0.38, 0.5)), (0.6, 0.58), (0.94, 0.46), (0.94, 0.68)
    )
    pen.oval((255, 236, 150), rng.uniform(0.6, 0.85), 0.29, 0.055)
    pen.polygon(shade(sky, 1.35), (0.10, 0.18), (0.26, 0.18), (0.12, 0.44), (0.08, 0.44))
    pen.oval((90, 220, 120) if sum(frame) < 400 else BLACK, 0.93, 0.71, 0.01)
