"""The order in which an epoch visits the samples.

It is a pure function of (number of samples, seed, epoch): the same for any number of ranks and workers. A global batch
is a slice of that order and a rank's part is a slice of the batch, so a position in training is just (epoch, step).
"""

from __future__ import annotations

from dataclasses import dataclass, field
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

    def at(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """The positions at these places of the epoch's order."""
        if not self.shuffle:
            return places
        windows = np.array([self._window_at(place) for place in places.tolist()])
        positions = np.empty_like(places)
        for window in np.unique(windows).tolist():
            chosen = windows == window
            positions[chosen] = _shuffled_window(self, window)[places[chosen] - self._window_start(window)]
        return positions

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


@dataclass(frozen=True)
class MixedPlan:
    """One epoch over several sets of samples, which it visits unequally often.

    Samples are numbered through all sets. In an epoch a set of n samples with weight w has round(n w) visits, which go
    on where those of the epoch before ended: with 0.5, each sample is visited in every second epoch; with 2, twice in
    each. The order of all visits is that of an `EpochPlan`.
    """

    sizes: tuple[int, ...]
    """samples of each set"""
    weights: tuple[float, ...]
    batch_size: int
    seed: int = 0
    epoch: int = 0

    @property
    def visits(self) -> list[int]:
        """Of each set in an epoch; at least one."""
        return [max(1, round(size * weight)) for size, weight in zip(self.sizes, self.weights)]

    @property
    def steps(self) -> int:
        return self._places.steps

    def batch(self, step: int, rank: int = 0, world_size: int = 1) -> NDArray[np.int64]:
        """As `EpochPlan.batch`."""
        places = self._places.batch(step, rank, world_size)
        visits, first = np.array(self.visits), np.cumsum([0, *self.sizes])
        ends = np.cumsum(visits)
        sets = np.searchsorted(ends, places, side="right")
        visit = self.epoch * visits[sets] + places - (ends - visits)[sets]
        result = np.empty_like(places)
        for number in np.unique(sets).tolist():
            chosen = sets == number
            result[chosen] = first[number] + self._sample_at(number, visit[chosen])
        return result

    @cached_property
    def _places(self) -> EpochPlan:
        return EpochPlan(sum(self.visits), self.batch_size, self.seed, self.epoch)

    def _sample_at(self, number: int, visits: NDArray[np.int64]) -> NDArray[np.int64]:
        """The samples of a set at these visits since the training began: pass after pass over all of the set."""
        size = self.sizes[number]
        samples = np.empty_like(visits)
        for turn in np.unique(visits // size).tolist():
            chosen = visits // size == turn
            samples[chosen] = _pass(size, self.seed + number, turn).at(visits[chosen] % size)
        return samples


@lru_cache(maxsize=16)
def _pass(samples: int, seed: int, number: int) -> EpochPlan:
    return EpochPlan(samples, samples, seed, number)


@dataclass(frozen=True)
class BalancedPlan:
    """One epoch of class-balanced batches: each holds `batch_classes` classes (P) with equally many samples each (K).

    Classes take turns, and so do the samples of a class: none comes again before all others of its class. An epoch has
    as many steps as one over all samples; small classes are visited more often in it than large ones.
    """

    classes: tuple[NDArray[np.int64], ...] = field(repr=False)
    """the samples of each class that has some"""
    batch_size: int
    batch_classes: int
    seed: int = 0
    epoch: int = 0

    @property
    def steps(self) -> int:
        return -(-sum(map(len, self.classes)) // self.batch_size)

    def batch(self, step: int, rank: int = 0, world_size: int = 1) -> NDArray[np.int64]:
        """As `EpochPlan.batch`."""
        per_class = self.batch_size // self.batch_classes
        drawn = self._schedule[step]
        samples = [self._samples(int(number), self._turn(step, int(number)), per_class) for number in drawn]
        # Mixed, so that each rank's part has its share of every class.
        batch = np.random.default_rng((self.seed, self.epoch, step)).permutation(np.concatenate(samples))
        first, last = (len(batch) * part // world_size for part in (rank, rank + 1))
        return batch[first:last]

    @cached_property
    def _schedule(self) -> NDArray[np.int32]:
        """(steps, P): the classes of each batch. All classes come by before one comes again, as far as P divides."""
        rounds = len(self.classes) // self.batch_classes
        generator = np.random.default_rng((self.seed, self.epoch))
        orders = [
            generator.permutation(len(self.classes))[: rounds * self.batch_classes]
            for _ in range(-(-self.steps // rounds))
        ]
        return np.concatenate(orders).reshape(-1, self.batch_classes)[: self.steps].astype(np.int32)

    def _turn(self, step: int, number: int) -> int:
        """The number of times that the class was in a batch of this epoch before this step."""
        return int(np.count_nonzero(self._schedule[:step] == number))

    def _samples(self, number: int, turn: int, count: int) -> NDArray[np.int64]:
        """The class's samples at this turn: pass after pass, each in an order of its own."""
        members = self.classes[number]
        places = np.arange(turn * count, (turn + 1) * count)
        orders = {
            p: np.random.default_rng((self.seed, self.epoch, number, p)).permutation(members)
            for p in np.unique(places // len(members)).tolist()
        }
        return np.array([orders[place // len(members)][place % len(members)] for place in places.tolist()])
