"""Pairs among many samples' fingerprints: counted exactly, by the parts (splits) in which they lie.

Near duplicates are found by multi-index hashing (M. Norouzi, A. Punjani, D. J. Fleet: Fast exact search in Hamming
space with multi-index hashing. PAMI 2014), so that not every picture is compared with every other.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

ALIKE, ALIKE_IN_DETAIL = 6, 48
"""Bits, of 64 and of 256, that may differ between the hashes of two pictures that look the same. Of Flickr8k, copies
that were scaled to 64 pixels or encoded at quality 30 differ in up to 4 and 12 bits (26 where all was blurred before),
and of the different pictures closest by the first hash, in 8 to 12 bits, none differs in fewer than 82 of 256."""
CASES = 5
"""Pairs that are kept to be shown, of each kind and each two parts."""
_BANDS = 4
"""Of 16 bits: of 7 or fewer bits that differ, at least one band has at most one."""
_BLOCK = 4096
"""Pictures looked up at a time."""
_CANDIDATES = 2**20
"""Pairs compared at a time, as far as whole buckets allow."""


@dataclass
class Pairs:
    """Pairs of samples that are the same in some way, among samples of p parts."""

    counts: NDArray[np.int64]
    """(p, p): how many lie in each two parts; above the diagonal and on it"""
    cases: dict[tuple[int, int], list[tuple[int, int]]] = field(default_factory=dict)
    """two parts -> the first CASES of them, as sample numbers"""
    links: list[NDArray[np.int64]] = field(default_factory=list)
    """each (2, m): pairs of sample numbers by which all are connected that are the same, though not each with each"""

    def add_cases(self, parts: tuple[int, int], found: Iterator[tuple[int, int]]) -> None:
        known = self.cases.setdefault(parts, [])
        while len(known) < CASES and (pair := next(found, None)):
            known.append(pair)


def exact_duplicates(digests: NDArray[np.uint64], part: NDArray[np.int64], parts: int) -> Pairs:
    """Pairs of samples with equal digests (n, 2); zeros are equal to nothing. part: (n,) in which each lies."""
    groups = _Groups.of(digests, part, parts)
    counts = groups.counts.T @ groups.counts
    np.fill_diagonal(counts, (np.diag(counts) - groups.counts.sum(0)) // 2)
    pairs = Pairs(np.triu(counts), links=[groups.chain])
    for one, other in zip(*np.nonzero(pairs.counts)):
        held = groups.counts[:, one] > (one == other)
        here = np.flatnonzero(held & (groups.counts[:, other] > 0))[:CASES]
        second = groups.second if one == other else groups.first
        pairs.add_cases((int(one), int(other)), zip(groups.first[here, one].tolist(), second[here, other].tolist()))
    return pairs


def near_duplicates(
    fingerprints: NDArray[np.void], part: NDArray[np.int64], parts: int, *, tell: Callable[[int, int], None]
) -> Pairs:
    """Pairs of samples whose pictures differ in their bytes and look the same.

    Args:
        fingerprints: (n,) of `fingerprint.FINGERPRINT`.
        tell: is called now and then with how many different pictures were looked up, and of how many.
    """
    seen = np.flatnonzero(fingerprints["has_look"])
    groups = _Groups.of(fingerprints["picture"][seen], part[seen], parts)
    shown = fingerprints[seen[groups.any]]
    numbers = np.append(seen, -1)  # of samples, by their place among `seen`
    pairs = Pairs(np.zeros((parts, parts), np.int64))
    done = 0
    for one, other in _near(shown["look"], shown["detail"]):
        between = groups.counts[one].T @ groups.counts[other]
        pairs.counts += np.triu(between + between.T)
        pairs.counts[np.diag_indices(parts)] -= np.diag(between)
        pairs.links.append(seen[np.stack([groups.any[one], groups.any[other]])])
        for a, b in zip(*np.nonzero(between)):
            first, second = numbers[groups.first[one, a]], numbers[groups.first[other, b]]
            here = (first >= 0) & (second >= 0)
            found = np.stack([first[here], second[here]], 1)[:CASES]
            if a > b:
                found = found[:, ::-1]
            pairs.add_cases((int(min(a, b)), int(max(a, b))), iter(map(tuple, found.tolist())))
        done += _BLOCK
        tell(min(done, len(shown)), len(shown))
    return pairs


def groups_of(links: Sequence[NDArray[np.int64]], samples: int) -> list[list[int]]:
    """The numbers of the samples that are connected by links (2, m), in groups of two or more; of so many in all."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    one, other = np.concatenate([np.empty((2, 0), np.int64), *links], axis=1)
    linked = np.unique(np.concatenate([one, other]))
    graph = coo_array((np.ones(len(one), np.int8), (one, other)), shape=(samples, samples))
    group = connected_components(graph, directed=False)[1][linked]
    order = np.argsort(group, kind="stable")
    parted = np.split(linked[order], np.flatnonzero(np.diff(group[order])) + 1)
    return sorted(numbers.tolist() for numbers in parted if len(numbers))


@dataclass(frozen=True)
class _Groups:
    """Samples with the same digest; g groups."""

    any: NDArray[np.int64]
    """(g,) one sample of each"""
    counts: NDArray[np.int64]
    """(g, p) how many samples of each part"""
    first: NDArray[np.int64]
    """(g, p) the first sample of each part; -1 where there is none"""
    second: NDArray[np.int64]
    """(g, p) the last one, which is another than the first where there are two"""
    chain: NDArray[np.int64]
    """(2, m) each sample with the next of its group"""

    @classmethod
    def of(cls, digests: NDArray[np.uint64], part: NDArray[np.int64], parts: int) -> _Groups:
        used = np.flatnonzero(digests.any(1))
        order = used[np.lexsort(digests[used].T)]
        changes = (digests[order][1:] != digests[order][:-1]).any(1)
        group = np.concatenate([[0], np.cumsum(changes)])[: len(order)]
        count = int(group[-1]) + 1 if len(group) else 0
        cell = group * parts + part[order]
        counts = np.bincount(cell, minlength=count * parts).reshape(count, parts)
        first = np.full((count * parts), np.iinfo(np.int64).max)
        last = np.full((count * parts), -1)
        np.minimum.at(first, cell, order)
        np.maximum.at(last, cell, order)
        first[last < 0] = -1
        table = (count, parts)
        chain = np.stack([order[:-1], order[1:]])[:, ~changes]
        return cls(last.reshape(table).max(1, initial=-1), counts, first.reshape(table), last.reshape(table), chain)


def _near(look: NDArray[np.uint64], detail: NDArray[np.uint64]) -> Iterator[tuple[NDArray[np.int64], ...]]:
    """Block by block, (one, other): the numbers, one < other, of all hashes that are alike, coarse and fine."""
    bands = np.ascontiguousarray(look).view(np.uint16).reshape(-1, _BANDS)
    buckets = [_Buckets.of(bands[:, number]) for number in range(_BANDS)]
    flips = np.array([0, *(1 << bit for bit in range(16))], np.uint16)
    for start in range(0, len(look), _BLOCK):
        found = [np.empty((0, 2), np.int64)]
        block = np.arange(start, min(start + _BLOCK, len(look)))
        for number, flip in itertools.product(range(_BANDS), flips):
            for other, one in buckets[number].members(block, bands[block, number] ^ flip):
                near = (one < other) & (np.bitwise_count(look[one] ^ look[other]) <= ALIKE)
                found.append(np.stack([one[near], other[near]], 1))
        one, other = np.unique(np.concatenate(found), axis=0).T  # several bands find the same pair
        near = np.bitwise_count(detail[one] ^ detail[other]).sum(1) <= ALIKE_IN_DETAIL
        yield one[near], other[near]


@dataclass(frozen=True)
class _Buckets:
    """Numbers of hashes by the value of one band of them."""

    order: NDArray[np.int64]
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, band: NDArray[np.uint16]) -> _Buckets:
        order = np.argsort(band, kind="stable")
        return cls(order, np.searchsorted(band[order], np.arange(2**16 + 1)))

    def members(
        self, askers: NDArray[np.int64], values: NDArray[np.uint16]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """(asker, member) of each asker's bucket; in parts, since a bucket of pictures alike can hold very many."""
        begins = self.starts[values]
        sizes = self.starts[values.astype(np.int64) + 1] - begins
        bounds = np.searchsorted(np.cumsum(sizes), np.arange(0, sizes.sum() + _CANDIDATES, _CANDIDATES), side="right")
        for first, last in itertools.pairwise([*np.unique(bounds).tolist(), len(askers)]):
            own = sizes[first:last]
            places = np.arange(own.sum()) + np.repeat(begins[first:last] - (np.cumsum(own) - own), own)
            yield np.repeat(askers[first:last], own), self.order[places]
