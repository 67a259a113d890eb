"""Random numbers of samples: SplitMix64's mix, written with Python's integers."""

from __future__ import annotations

import numpy as np
import pytest

from xmr_e2e.data.randomness import uniform

GOLDEN, WORD = 0x9E3779B97F4A7C15, 2**64


def mixed(state: int) -> int:
    """The finalizer of SplitMix64 (Steele, Lea and Flood, 2014)."""
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    state = (state ^ (state >> 27)) * 0x94D049BB133111EB % WORD
    return state ^ (state >> 31)


def test_the_mix_is_splitmix64s() -> None:
    """The first numbers of the published generator with seed 0."""
    states = [GOLDEN * step % WORD for step in (1, 2)]
    assert [mixed(state) for state in states] == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]


@pytest.mark.parametrize(("seed", "epoch", "stream"), [(0, 0, 0), (1, 0, 0), (0, 7, 0), (0, 0, 300), (2**63, 10**6, 5)])
def test_numbers_are_those_of_integers_without_bounds(seed: int, epoch: int, stream: int) -> None:
    positions = np.array([0, 1, 2, 10**12])
    expected = []
    for position in positions.tolist():
        state = (position + GOLDEN) % WORD
        for word in (seed, epoch, stream):
            state = mixed(state ^ ((word + GOLDEN) % WORD))
        expected.append((state >> 11) * 2.0**-53)
    assert uniform(seed, epoch, positions, stream).tolist() == expected
