"""Label noise: training labels that are exchanged for wrong ones, to see what a method makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import numpy as np

from xmr_e2e.data.randomness import uniform

if TYPE_CHECKING:
    from xmr_e2e.data.config import Data

NoiseKind: TypeAlias = Literal["symmetric", "asymmetric"]
_STREAM = 300
"""of random numbers; two for each label of a sample"""


class LabelNoise(NamedTuple):
    """The exchange of labels in a training split: a function of the seed and the sample alone."""

    rate: float
    """share of the labels that are exchanged, each by chance"""
    kind: NoiseKind
    """symmetric: for any other class alike; asymmetric: for the next one, as where classes are confused in pairs (both
    in Patrini et al., 2017)"""
    classes: int
    seed: int

    def of(self, position: int, labels: Sequence[int]) -> tuple[int, ...]:
        """The labels with which a sample is trained on. Of several, each is exchanged or not; they stay distinct.

        Args:
            position: of the sample in its split.
            labels: its own, as class numbers.
        """
        where = np.array([position])
        found = list(labels)
        for place, label in enumerate(labels):
            is_wrong, which = (uniform(self.seed, 0, where, _STREAM + 2 * place + n)[0] for n in range(2))
            if is_wrong < self.rate:
                others = [each for each in self._others(label) if each not in found]
                if others:
                    found[place] = others[int(which * len(others))]
        return tuple(sorted(found))

    def _others(self, label: int) -> Sequence[int]:
        """The classes for which a label may be exchanged."""
        if self.kind == "asymmetric":
            return [(label + 1) % self.classes]
        return [each for each in range(self.classes) if each != label]


def describe_noise(data: Data) -> str:
    """The noise that a training's options ask for, in words; "" where they ask for none."""
    if not data.label_noise:
        return ""
    return f"{data.label_noise:g} of the training labels exchanged, {data.label_noise_kind}"
