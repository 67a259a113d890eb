"""Drawn animals and people; animals seen from the side face right."""

from __future__ import annotations

from preprocessing.synthetic.look import Look
from preprocessing.synthetic.pen import BLACK, WHITE, Colour, Pen, shade, vary

PINK: Colour = (232, 168, 160)
HORN: Colour = (226, 214, 186)


def _legs(pen: Pen, look: Look, color: Colour, *, hips: tuple[float, ...], top: float, width: float) -> None:
    """Four legs down to the ground at 0.95, the two on the far side darker, in a stride that varies."""
    for i, x in enumerate(hips):
        stride = look.rng.uniform(-0.04, 0.04)
        tone = shade(color, 0.68) if i % 2 else shade(color, 0.92)
        pen.line(tone, width, (x, top), (x + stride, (top + 0.95) / 2), (x + stride / 2, 0.94))


def _eye(pen: Pen, x: float, y: float, size: float = 0.016) -> None:
    pen.oval(WHITE, x, y, size)
    pen.oval(BLACK, x + size * 0.2, y, size * 0.65)


def bird(pen: Pen, look: Look) -> None:
    body, wing = look.color, shade(look.color, 0.65)
    pen.polygon(wing, (0.24, 0.52), (0.0, 0.50), (0.03, 0.62), (0.28, 0.62))
    if look.airborne:
        pen.blob(shade(body, 0.55), (0.44, 0.46), (0.34, 0.22), (0.42, 0.02), (0.56, 0.24), (0.62, 0.44))
    else:
        for x in (0.46, 0.54):
            pen.line((190, 120, 50), 0.018, (x, 0.70), (x + 0.01, 0.86), (x + 0.07, 0.87))
    pen.blob(body, (0.2, 0.56), (0.36, 0.46), (0.62, 0.42), (0.76, 0.50), (0.72, 0.64), (0.52, 0.74), (0.32, 0.68))
    pen.blob(shade(body, 1.45), (0.46, 0.70), (0.62, 0.60), (0.74, 0.56), (0.70, 0.66), (0.54, 0.74))
    pen.oval(body, 0.76, 0.42, 0.115)
    pen.polygon((240, 170, 50), (0.86, 0.39), (0.99, 0.44), (0.86, 0.47))
    _eye(pen, 0.79, 0.40, 0.024)
    if look.airborne:
        pen.blob(wing, (0.36, 0.54), (0.18, 0.36), (0.12, 0.08), (0.34, 0.24), (0.56, 0.48), (0.50, 0.58))
    else:
        pen.blob(wing, (0.16, 0.60), (0.34, 0.52), (0.56, 0.50), (0.58, 0.58), (0.42, 0.66))


def cat(pen: Pen, look: Look) -> None:
    """A sitting cat seen from the front."""
    fur, dark, light = look.color, shade(look.color, 0.7), shade(look.color, 1.5)
    side = look.rng.choice([-1, 1])
    pen.line(dark, 0.065, (0.5 + side * 0.16, 0.88), (0.5 + side * 0.36, 0.86), (0.5 + side * 0.40, 0.66))
    pen.line(fur, 0.055, (0.5 + side * 0.40, 0.66), (0.5 + side * 0.36, 0.56))
    pen.blob(fur, (0.40, 0.44), (0.60, 0.44), (0.70, 0.72), (0.72, 0.92), (0.5, 0.96), (0.28, 0.92), (0.30, 0.72))
    pen.oval(light, 0.5, 0.66, 0.09, 0.15)
    for x in (0.42, 0.58):
        pen.line(shade(fur, 0.9), 0.085, (x, 0.68), (x, 0.92))
        pen.oval(light, x, 0.93, 0.06, 0.035)
    for flip in (-1, 1):
        pen.polygon(fur, (0.5 + flip * 0.22, 0.30), (0.5 + flip * 0.21, 0.03), (0.5 + flip * 0.04, 0.16))
        pen.polygon(PINK, (0.5 + flip * 0.185, 0.22), (0.5 + flip * 0.18, 0.09), (0.5 + flip * 0.09, 0.17))
    pen.oval(fur, 0.5, 0.30, 0.23, 0.19)
    for flip in (-1, 1):
        pen.oval((150, 190, 70), 0.5 + flip * 0.095, 0.27, 0.045, 0.04)
        pen.oval(BLACK, 0.5 + flip * 0.095, 0.27, 0.014, 0.036)
        for rise in (-0.03, 0.0, 0.03):
            pen.line(light, 0.007, (0.5 + flip * 0.06, 0.37), (0.5 + flip * 0.29, 0.37 + rise))
    pen.oval(light, 0.5, 0.385, 0.075, 0.05)
    pen.polygon(PINK, (0.465, 0.345), (0.535, 0.345), (0.5, 0.385))
    for x in (0.44, 0.5, 0.56):
        pen.line(dark, 0.016, (x, 0.125), (x, 0.18))


def cow(pen: Pen, look: Look) -> None:
    hide, rng = look.color, look.rng
    patch = BLACK if sum(hide) > 500 else shade(hide, 1.75)
    _legs(pen, look, hide, hips=(0.2, 0.27, 0.62, 0.69), top=0.62, width=0.07)
    pen.line(shade(hide, 0.7), 0.022, (0.1, 0.38), (0.05, 0.55), (0.06, 0.68))
    pen.oval(PINK, 0.32, 0.70, 0.065, 0.045)
    pen.blob(hide, (0.09, 0.36), (0.3, 0.30), (0.6, 0.31), (0.76, 0.34), (0.76, 0.62), (0.5, 0.71), (0.14, 0.66))
    for x in (0.2, 0.4, 0.6):
        x, y, wide = x + rng.uniform(-0.03, 0.03), rng.uniform(0.44, 0.52), rng.uniform(0.06, 0.09)
        pen.blob(
            patch, (x - wide, y - 0.04), (x, y - 0.09), (x + wide, y - 0.02), (x + 0.04, y + 0.08), (x - 0.05, y + 0.05)
        )
    pen.blob(hide, (0.70, 0.36), (0.78, 0.22), (0.90, 0.22), (0.94, 0.32), (0.86, 0.44), (0.74, 0.52))
    for x, tip in ((0.79, 0.74), (0.89, 0.93)):
        pen.line(HORN, 0.026, (x, 0.21), (tip, 0.15), (tip + 0.01, 0.10))
    pen.blob(patch, (0.66, 0.26), (0.76, 0.23), (0.78, 0.29), (0.68, 0.31))
    pen.oval(PINK, 0.94, 0.385, 0.055, 0.065)
    pen.oval(BLACK, 0.955, 0.37, 0.012)
    _eye(pen, 0.86, 0.29, 0.02)


def dog(pen: Pen, look: Look) -> None:
    fur, dark = look.color, shade(look.color, 0.62)
    _legs(pen, look, fur, hips=(0.24, 0.31, 0.58, 0.65), top=0.64, width=0.06)
    wag = look.rng.uniform(0.22, 0.34)
    pen.line(fur, 0.05, (0.2, 0.50), (0.08, 0.40), (0.03, wag))
    pen.blob(fur, (0.17, 0.52), (0.26, 0.45), (0.5, 0.47), (0.68, 0.43), (0.72, 0.60), (0.5, 0.68), (0.24, 0.67))
    pen.blob(fur, (0.58, 0.50), (0.66, 0.28), (0.78, 0.28), (0.76, 0.52), (0.68, 0.62))
    pen.oval(fur, 0.74, 0.27, 0.125, 0.115)
    pen.blob(fur, (0.76, 0.22), (0.90, 0.25), (0.97, 0.29), (0.94, 0.36), (0.78, 0.37))
    pen.oval(BLACK, 0.955, 0.275, 0.03, 0.025)
    pen.line(dark, 0.012, (0.94, 0.345), (0.84, 0.345))
    pen.blob((220, 100, 110), (0.86, 0.35), (0.91, 0.35), (0.90, 0.43), (0.87, 0.43))
    pen.blob(dark, (0.64, 0.20), (0.70, 0.18), (0.72, 0.30), (0.68, 0.44), (0.60, 0.42), (0.60, 0.30))
    pen.line((200, 50, 45), 0.03, (0.62, 0.43), (0.77, 0.45))
    _eye(pen, 0.80, 0.24, 0.02)


def horse(pen: Pen, look: Look) -> None:
    coat = look.color
    mane = shade(coat, 0.45) if sum(coat) > 180 else shade(coat, 1.25)
    _legs(pen, look, coat, hips=(0.17, 0.24, 0.52, 0.59), top=0.60, width=0.052)
    pen.blob(mane, (0.12, 0.40), (0.03, 0.48), (0.0, 0.72), (0.06, 0.70), (0.14, 0.50))
    pen.blob(coat, (0.1, 0.44), (0.22, 0.37), (0.4, 0.42), (0.58, 0.38), (0.68, 0.48), (0.58, 0.63), (0.3, 0.63))
    pen.blob(coat, (0.50, 0.44), (0.62, 0.28), (0.70, 0.12), (0.80, 0.10), (0.80, 0.24), (0.72, 0.42), (0.62, 0.58))
    pen.blob(coat, (0.68, 0.12), (0.76, 0.06), (0.88, 0.18), (0.99, 0.30), (0.96, 0.36), (0.86, 0.32), (0.74, 0.24))
    pen.polygon(coat, (0.70, 0.10), (0.71, 0.0), (0.77, 0.08))
    pen.blob(mane, (0.72, 0.05), (0.64, 0.12), (0.54, 0.28), (0.48, 0.42), (0.56, 0.40), (0.66, 0.26), (0.74, 0.12))
    pen.oval(BLACK, 0.955, 0.305, 0.012)
    _eye(pen, 0.80, 0.15, 0.018)


def person(pen: Pen, look: Look) -> None:
    """A standing person seen from the front, in a shirt of the look's colour."""
    rng = look.rng
    skin = vary(rng.choice([(238, 198, 166), (198, 146, 104), (128, 84, 58)]), rng, 10)
    trousers = vary(rng.choice([(52, 62, 100), (70, 66, 62), (150, 130, 98)]), rng, 10)
    hair = rng.choice([(50, 36, 28), (116, 74, 38), (196, 160, 86), (30, 28, 30)])
    for flip in (-1, 1):
        hand = (0.5 + flip * rng.uniform(0.2, 0.3), rng.choice([0.56, 0.50, 0.12]))
        elbow = (0.5 + flip * 0.2, 0.38)
        pen.line(shade(look.color, 0.8), 0.075, (0.5 + flip * 0.12, 0.27), elbow)
        pen.line(skin, 0.055, elbow, hand)
        pen.line(trousers, 0.1, (0.5 + flip * 0.06, 0.56), (0.5 + flip * rng.uniform(0.06, 0.12), 0.92))
        pen.oval(BLACK, 0.5 + flip * 0.10, 0.955, 0.075, 0.03)
    pen.box(skin, 0.46, 0.18, 0.54, 0.27)
    pen.blob(look.color, (0.38, 0.24), (0.62, 0.24), (0.635, 0.40), (0.61, 0.60), (0.39, 0.60), (0.365, 0.40))
    if rng.random() < 0.5:
        pen.blob(hair, (0.38, 0.10), (0.5, 0.0), (0.62, 0.10), (0.63, 0.26), (0.5, 0.23), (0.37, 0.26))
    pen.oval(hair, 0.5, 0.095, 0.105)
    pen.oval(skin, 0.5, 0.125, 0.088, 0.10)
    for x in (0.465, 0.535):
        pen.oval(BLACK, x, 0.115, 0.011)
    pen.line((150, 60, 60), 0.012, (0.475, 0.17), (0.525, 0.17))


def sheep(pen: Pen, look: Look) -> None:
    wool, face, rng = look.color, (62, 54, 52), look.rng
    for x in (0.28, 0.36, 0.58, 0.66):
        pen.line(face, 0.045, (x, 0.7), (x, 0.92))
    curls = [(0.2 + 0.085 * i, y) for i in range(7) for y in (0.36, 0.46, 0.56, 0.66)]
    for x, y in curls:
        tone = shade(wool, rng.uniform(0.92, 1.0) - max(0.0, y - 0.5) * 0.5)
        pen.oval(tone, x + rng.uniform(-0.02, 0.02), y + rng.uniform(-0.02, 0.02), rng.uniform(0.08, 0.10))
    pen.oval(wool, 0.12, 0.46, 0.055)
    pen.blob(face, (0.76, 0.32), (0.86, 0.30), (0.93, 0.46), (0.90, 0.54), (0.80, 0.52))
    pen.blob(face, (0.68, 0.36), (0.77, 0.34), (0.77, 0.40), (0.70, 0.42))
    for x, y in ((0.76, 0.30), (0.82, 0.27), (0.87, 0.31)):
        pen.oval(wool, x, y, 0.055)
    _eye(pen, 0.86, 0.40, 0.02)
