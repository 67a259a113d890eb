"""Random numbers that are a pure function of (seed, epoch, sample): the same for any number of ranks, workers and
restarts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def uniform(seed: int, epoch: int, positions: NDArray[np.int64], stream: int) -> NDArray[np.float64]:
    """One number in [0, 1) per position (n,), from the SplitMix64 mix (Steele et al., 2014).

    Args:
        stream: which number of the sample this is; different streams are independent.
    """
    with np.errstate(over="ignore"):
        state = positions.astype(np.uint64) + _GOLDEN
        for word in (seed, epoch, stream):
            state = _mix(state ^ (np.uint64(word) + _GOLDEN))
    return (state >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
