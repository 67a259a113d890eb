"""Splits for which no list of ids is published: so many samples, drawn with a seed from another split."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from xmr_e2e.errors import XmrError

LARGEST_SHARE = 5
"""By default at most one in so many samples of the pool is held out: a few files get splits of the same kind."""


def hold_out(
    split_of: Mapping[str, str], name: str, *, pool: str, count: int | None, usual: int, seed: int
) -> dict[str, str]:
    """Move samples, drawn with a seed, from the split `pool` to the split `name`.

    The result depends on the ids in the pool, the count and the seed, but not on their order.

    Args:
        split_of: sample id -> its split.
        count: how many; without it `usual`, but no more than a fifth of the pool.

    Raises:
        XmrError: the count is negative or leaves nothing in the pool; it is named as the option --`name`.
    """
    order = sorted(source for source, split in split_of.items() if split == pool)
    if count is None:
        count = min(usual, len(order) // LARGEST_SHARE)
    elif not 0 <= count < max(1, len(order)):
        raise XmrError(f"--{name} {count}: it must be at least 0 and less than the {len(order)} samples of {pool}")
    Random(f"{seed}/{name}").shuffle(order)
    return {**split_of, **dict.fromkeys(order[:count], name)}
