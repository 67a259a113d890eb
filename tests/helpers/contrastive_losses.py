"""The contrastive losses from loops over the pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence

Rows = Sequence[Sequence[float]]


def cosine(x: Sequence[float], y: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(x, y)) / (math.hypot(*x) * math.hypot(*y))


def negatives(identities: Sequence[int], i: int) -> list[int]:
    return [j for j, other in enumerate(identities) if other != identities[i]]


def infonce_reference(x: Rows, y: Rows, identities: Sequence[int], scale: float) -> float:
    total = 0.0
    for queries, items in ((x, y), (y, x)):
        for i, query in enumerate(queries):
            own = math.exp(scale * cosine(query, items[i]))
            others = sum(math.exp(scale * cosine(query, items[j])) for j in negatives(identities, i))
            total -= math.log(own / (own + others)) / (2 * len(x))
    return total


def sigmoid_reference(x: Rows, y: Rows, identities: Sequence[int], scale: float, bias: float) -> float:
    total = 0.0
    for i in range(len(x)):
        for j in [i, *negatives(identities, i)]:
            z = 1 if i == j else -1
            total += math.log(1 + math.exp(-z * (scale * cosine(x[i], y[j]) + bias))) / len(x)
    return total


def triplet_reference(x: Rows, y: Rows, identities: Sequence[int], margin: float, hardest: bool) -> float:
    total = 0.0
    for i in range(len(x)):
        own = cosine(x[i], y[i])
        there = [max(0.0, margin + cosine(x[i], y[j]) - own) for j in negatives(identities, i)]
        back = [max(0.0, margin + cosine(x[j], y[i]) - own) for j in negatives(identities, i)]
        pick = max if hardest else sum
        total += (pick([0.0, *there]) + pick([0.0, *back])) / len(x)
    return total
