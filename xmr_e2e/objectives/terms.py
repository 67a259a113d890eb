"""Loss terms and their weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

Weighted = tuple[float, Callable[[], Tensor]]
"""a term's weight, and what computes it"""


def weighted_terms(terms: Mapping[str, Weighted]) -> tuple[dict[str, Tensor], list[Tensor]]:
    """The terms by name, and each of them times its weight, in their order.

    A term of weight 0 is neither computed nor among them, so that nothing is spent on it, and no NaN of it, which times
    0 is NaN, gets into the total.

    Raises:
        ValueError: all weights are 0.
    """
    found = {name: compute() for name, (weight, compute) in terms.items() if weight}
    if not found:
        raise ValueError(f"all weights are 0 ({', '.join(terms)}): there is nothing to learn")
    return found, [terms[name][0] * value for name, value in found.items()]
