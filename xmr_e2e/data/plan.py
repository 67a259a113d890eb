"""The order in which an epoch visits the samples.

It is a pure function of (number of samples, seed, epoch): the same for any number of ranks and workers. A global batch
is a slice of that order and a rank's part is a slice of the batch, so a position in training is just (epoch, step).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

# Samples are shuffled in blocks that lie together on disk; the blocks of one window are then shuffled sample by sample.
# Reads stay mostly sequential, and a plan over a billion samples is one permutation of four million block numbers.
BLOCK = 256
WINDOW = 64


@dataclass(frozen=True)
class EpochPlan:
    """One epoch over `samples` samples in global batches of at most `batch_size`.

    Every sample occurs exactly once. The batches' sizes differ by one at most, so there is no small last batch
    (which would starve an objective that looks at the whole batch).
    """

    samples: int
    batch_size: int
    seed: int = 0
    epoch: int = 0
    shuffle: bool = True

    @property
    def steps(self) -> int:
        return -(-self.samples // self.batch_size)

    def batch(self, step: int, rank: int = 0, world_size: int = 1) -> NDArray[np.int64]:
        """The positions (in the split) of this rank's part of the global batch at `step`; the parts in order of rank
        are the batch."""
        first, last = (self.samples * s // self.steps for s in (step, step + 1))
        size = last - first
        return self.positions(first + size * rank // world_size, first + size * (rank + 1) // world_size)

    def positions(self, first: int, last: int) -> NDArray[np.int64]:
        """Places first..last-1 of the epoch's order."""
        if not self.shuffle or first >= last:
            return np.arange(first, last)
        parts = []
        while first < last:
            window = self._window_at(first)
            start = self._window_start(window)
            end = min(last, self._window_start(window + 1))
            parts.append(_shuffled_window(self, window)[first - start : end - start])
            first = end
        return np.concatenate(parts)

    @cached_property
    def _blocks(self) -> NDArray[np.int32]:
        blocks = np.arange(-(-self.samples // BLOCK), dtype=np.int32)
        return np.random.default_rng((self.seed, self.epoch)).permutation(blocks)

    @cached_property
    def _short_block(self) -> tuple[int, int]:
        """The window that holds the last block of the split, and how many samples that block lacks to be full."""
        return int(np.argmax(self._blocks)) // WINDOW, -self.samples % BLOCK

    def _window_start(self, window: int) -> int:
        short_window, lacking = self._short_block
        return min(window * WINDOW * BLOCK - (lacking if window > short_window else 0), self.samples)

    def _window_at(self, place: int) -> int:
        short_window, lacking = self._short_block
        before = place < self._window_start(short_window + 1)
        return (place if before else place + lacking) // (WINDOW * BLOCK)

    def _window_order(self, window: int) -> NDArray[np.int64]:
        blocks = self._blocks[window * WINDOW : (window + 1) * WINDOW].astype(np.int64)
        positions = (blocks[:, None] * BLOCK + np.arange(BLOCK)).ravel()
        positions = positions[positions < self.samples]
        return np.random.default_rng((self.seed, self.epoch, window)).permutation(positions)


@lru_cache(maxsize=4)
def _shuffled_window(plan: EpochPlan, window: int) -> NDArray[np.int64]:
    return plan._window_order(window)
