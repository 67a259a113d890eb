"""What one drawn object varies in."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from preprocessing.synthetic.pen import Colour


@dataclass(frozen=True)
class Look:
    """How one object is to look; `rng` decides on its pose and its small parts."""

    color: Colour
    airborne: bool
    rng: Random
