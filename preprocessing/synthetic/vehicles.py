"""Drawn vehicles, seen from the side, facing right."""

from __future__ import annotations

from preprocessing.synthetic.look import Look
from preprocessing.synthetic.pen import BLACK, GLASS, METAL, WHITE, Pen, shade


def aeroplane(pen: Pen, look: Look) -> None:
    body, dark = look.color, shade(look.color, 0.72)
    if not look.airborne:
        for x in (0.34, 0.41, 0.82):
            pen.line(METAL, 0.016, (x, 0.56), (x, 0.80))
            pen.oval(BLACK, x, 0.81, 0.03)
    trim = look.rng.choice([(200, 50, 45), (40, 80, 170), (230, 150, 40)])
    pen.polygon(dark, (0.44, 0.46), (0.36, 0.27), (0.44, 0.27), (0.60, 0.46))
    pen.blob(
        body, (0.02, 0.46), (0.3, 0.42), (0.75, 0.41), (0.92, 0.45), (0.99, 0.52), (0.9, 0.58), (0.5, 0.60), (0.2, 0.55)
    )
    pen.polygon(trim, (0.03, 0.48), (0.0, 0.22), (0.1, 0.22), (0.24, 0.45))
    pen.polygon(trim, (0.04, 0.49), (0.0, 0.57), (0.08, 0.57), (0.2, 0.50))
    pen.polygon(dark, (0.42, 0.54), (0.22, 0.82), (0.33, 0.82), (0.64, 0.55))
    pen.box(shade(body, 0.5), 0.36, 0.66, 0.47, 0.73, corner=0.03)
    for i in range(8):
        pen.oval(shade(GLASS, 0.55), 0.3 + i * 0.065, 0.475, 0.016)
    pen.polygon(shade(GLASS, 0.5), (0.86, 0.455), (0.93, 0.475), (0.94, 0.50), (0.86, 0.49))


def _spoked_wheel(pen: Pen, x: float, y: float, radius: float, tyre: float) -> None:
    for dx, dy in ((1, 0), (0, 1), (0.7, 0.7), (0.7, -0.7)):
        reach = radius * 0.9
        pen.line(METAL, 0.008, (x - dx * reach, y - dy * reach), (x + dx * reach, y + dy * reach))
    pen.ring(BLACK, x, y, radius, tyre)
    pen.oval(METAL, x, y, 0.02)


def bicycle(pen: Pen, look: Look) -> None:
    frame, radius = look.color, look.rng.uniform(0.19, 0.22)
    rear, front, crank, saddle, head = (0.22, 0.66), (0.78, 0.66), (0.46, 0.68), (0.38, 0.38), (0.68, 0.38)
    for x, y in (rear, front):
        _spoked_wheel(pen, x, y, radius, 0.032)
    pen.line(frame, 0.036, rear, crank, head, (0.39, 0.42), rear)
    pen.line(frame, 0.036, crank, saddle)
    pen.line(frame, 0.036, head, front)
    pen.line(BLACK, 0.028, head, (0.66, 0.28), (0.76, 0.26))
    pen.line(BLACK, 0.045, (0.31, 0.36), (0.44, 0.36))
    pen.oval(METAL, *crank, 0.05)
    pen.line(BLACK, 0.022, crank, (0.5, 0.77), (0.55, 0.77))


def boat(pen: Pen, look: Look) -> None:
    sail = look.rng.choice([WHITE, (244, 226, 190), shade(look.color, 1.55)])
    pen.line((110, 80, 55), 0.022, (0.47, 0.04), (0.47, 0.76))
    pen.polygon(sail, (0.50, 0.07), (0.50, 0.67), (0.9, 0.67))
    pen.polygon(shade(sail, 0.88), (0.44, 0.14), (0.44, 0.67), (0.14, 0.67))
    pen.polygon((200, 50, 45), (0.47, 0.02), (0.6, 0.05), (0.47, 0.09))
    pen.polygon(look.color, (0.03, 0.74), (0.98, 0.72), (0.82, 0.95), (0.16, 0.95))
    pen.polygon(shade(look.color, 1.5), (0.03, 0.74), (0.98, 0.72), (0.95, 0.77), (0.06, 0.78))
    pen.polygon(shade(look.color, 0.6), (0.13, 0.9), (0.855, 0.9), (0.82, 0.95), (0.16, 0.95))


def _wheel(pen: Pen, x: float, y: float, radius: float) -> None:
    pen.oval(BLACK, x, y, radius)
    pen.oval(METAL, x, y, radius * 0.5)
    pen.oval(shade(METAL, 0.6), x, y, radius * 0.18)


def bus(pen: Pen, look: Look) -> None:
    double_decker = look.rng.random() < 0.4
    top = 0.14 if double_decker else 0.30
    pen.box(look.color, 0.02, top, 0.98, 0.80, corner=0.05)
    pen.box(shade(look.color, 1.6), 0.02, 0.60, 0.98, 0.65)
    for row in [top + 0.06] + ([0.40] if double_decker else []):
        for i in range(5):
            pen.box(GLASS, 0.07 + i * 0.15, row, 0.19 + i * 0.15, row + 0.15, corner=0.01)
    pen.box(shade(GLASS, 0.85), 0.84, top + 0.06, 0.98, 0.56, corner=0.02)
    pen.box(shade(look.color, 0.6), 0.70, 0.40, 0.81, 0.79)
    pen.box(GLASS, 0.715, 0.43, 0.75, 0.74)
    pen.box(GLASS, 0.76, 0.43, 0.795, 0.74)
    pen.oval((255, 240, 170), 0.95, 0.71, 0.025)
    for x in (0.22, 0.60, 0.88):
        _wheel(pen, x, 0.80, 0.078)


def car(pen: Pen, look: Look) -> None:
    lift = look.rng.uniform(0.27, 0.34)
    pen.polygon(shade(look.color, 0.85), (0.2, 0.52), (0.32, lift), (0.64, lift), (0.80, 0.52))
    pen.polygon(GLASS, (0.26, 0.51), (0.345, lift + 0.04), (0.47, lift + 0.04), (0.47, 0.51))
    pen.polygon(GLASS, (0.51, 0.51), (0.51, lift + 0.04), (0.62, lift + 0.04), (0.735, 0.51))
    pen.blob(
        look.color,
        (0.02, 0.56),
        (0.16, 0.50),
        (0.5, 0.50),
        (0.80, 0.505),
        (0.96, 0.55),
        (0.99, 0.66),
        (0.94, 0.71),
        (0.06, 0.71),
        (0.01, 0.65),
    )
    pen.box(shade(look.color, 0.65), 0.06, 0.66, 0.95, 0.70, corner=0.02)
    pen.line(shade(look.color, 0.65), 0.008, (0.49, 0.52), (0.49, 0.66))
    pen.oval((255, 240, 170), 0.955, 0.59, 0.025, 0.03)
    pen.oval((190, 30, 30), 0.03, 0.59, 0.018, 0.03)
    for x in (0.23, 0.77):
        _wheel(pen, x, 0.70, 0.105)


def motorbike(pen: Pen, look: Look) -> None:
    for x in (0.2, 0.8):
        pen.oval(BLACK, x, 0.70, 0.185)
        pen.oval(METAL, x, 0.70, 0.105)
        pen.oval(shade(METAL, 0.45), x, 0.70, 0.045)
    pen.line(METAL, 0.045, (0.8, 0.70), (0.66, 0.36))
    pen.line(BLACK, 0.035, (0.68, 0.38), (0.63, 0.26), (0.54, 0.24))
    pen.box(shade(METAL, 0.65), 0.37, 0.55, 0.62, 0.78, corner=0.04)
    for y in (0.60, 0.66, 0.72):
        pen.line(shade(METAL, 0.4), 0.012, (0.39, y), (0.60, y))
    pen.line(METAL, 0.05, (0.42, 0.80), (0.12, 0.82))
    pen.blob(look.color, (0.40, 0.44), (0.52, 0.35), (0.66, 0.37), (0.70, 0.46), (0.58, 0.57), (0.42, 0.55))
    pen.blob(BLACK, (0.10, 0.42), (0.26, 0.43), (0.42, 0.43), (0.46, 0.50), (0.32, 0.53), (0.14, 0.49))
    pen.blob(look.color, (0.04, 0.50), (0.2, 0.47), (0.36, 0.52), (0.30, 0.57), (0.12, 0.56))
    pen.blob(look.color, (0.66, 0.50), (0.8, 0.48), (0.95, 0.54), (0.94, 0.57), (0.8, 0.53))
    pen.oval((255, 244, 190), 0.725, 0.37, 0.045)


def train(pen: Pen, look: Look) -> None:
    trim = look.rng.choice([WHITE, (240, 200, 60), (210, 60, 50)])
    pen.box((96, 78, 66), 0.0, 0.665, 1.0, 0.685)
    for i in range(13):
        pen.box((86, 66, 52), 0.01 + i * 0.078, 0.685, 0.045 + i * 0.078, 0.71)
    pen.line(shade(METAL, 0.5), 0.01, (0.17, 0.38), (0.12, 0.31), (0.24, 0.29))
    pen.box(look.color, 0.0, 0.38, 0.47, 0.61, corner=0.015)
    pen.polygon(look.color, (0.50, 0.38), (0.80, 0.38), (0.92, 0.45), (0.995, 0.56), (0.98, 0.61), (0.50, 0.61))
    pen.box(BLACK, 0.46, 0.42, 0.51, 0.60)
    pen.box(trim, 0.0, 0.53, 0.46, 0.565)
    pen.polygon(trim, (0.51, 0.53), (0.975, 0.53), (0.995, 0.565), (0.51, 0.565))
    for left in [0.03 + i * 0.085 for i in range(5)] + [0.55 + i * 0.085 for i in range(3)]:
        pen.box(GLASS, left, 0.425, left + 0.065, 0.50, corner=0.01)
    pen.polygon(GLASS, (0.83, 0.42), (0.88, 0.44), (0.935, 0.51), (0.83, 0.51))
    for x in (0.07, 0.15, 0.32, 0.40, 0.58, 0.66, 0.82, 0.90):
        pen.oval(shade(METAL, 0.45), x, 0.63, 0.034)
        pen.oval(METAL, x, 0.63, 0.014)
