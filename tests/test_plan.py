"""The epoch plan: every sample once, the same order for any number of ranks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xmr_e2e.data.plan import BLOCK, WINDOW, EpochPlan

SIZES = [1, 2, BLOCK - 1, BLOCK, BLOCK + 1, BLOCK * WINDOW, BLOCK * WINDOW + 1, 3 * BLOCK * WINDOW + 77]


@pytest.mark.parametrize("samples", SIZES)
@pytest.mark.parametrize("epoch", [0, 3])
def test_an_epoch_visits_every_sample_exactly_once(samples: int, epoch: int) -> None:
    plan = EpochPlan(samples, 100, seed=1, epoch=epoch)
    order = np.concatenate([plan.batch(step) for step in range(plan.steps)])
    assert sorted(order.tolist()) == list(range(samples))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 200), st.integers(1, 9), st.integers(0, 5))
def test_the_ranks_parts_in_order_are_the_global_batch(samples: int, batch: int, ranks: int, seed: int) -> None:
    plan = EpochPlan(samples, batch, seed)
    for step in range(plan.steps):
        parts = [plan.batch(step, rank, ranks) for rank in range(ranks)]
        assert np.concatenate(parts).tolist() == plan.batch(step).tolist()
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


@given(st.integers(1, 5000), st.integers(1, 300))
def test_batches_differ_in_size_by_one_at_most_and_never_exceed_the_batch_size(samples: int, batch: int) -> None:
    plan = EpochPlan(samples, batch, shuffle=False)
    sizes = [len(plan.batch(step)) for step in range(plan.steps)]
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= batch


def test_the_order_depends_on_seed_and_epoch_and_on_nothing_else() -> None:
    def order(seed: int, epoch: int, batch: int = 64) -> list[int]:
        return EpochPlan(1000, batch, seed, epoch).positions(0, 1000).tolist()

    assert order(0, 0) == order(0, 0, batch=7)
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4
    assert order(0, 0) != list(range(1000))


def test_without_shuffling_samples_come_in_order_of_position() -> None:
    assert EpochPlan(10, 4, shuffle=False).positions(0, 10).tolist() == list(range(10))


def test_shuffling_stays_within_windows_of_blocks_so_that_reads_stay_near_each_other() -> None:
    plan = EpochPlan(3 * BLOCK * WINDOW, 100)
    first_window = plan.positions(0, BLOCK * WINDOW)
    assert len(np.unique(first_window // BLOCK)) == WINDOW


def test_a_plan_over_a_billion_samples_is_made_lazily() -> None:
    plan = EpochPlan(10**9, 4096 * 8, seed=3, epoch=2)
    part = plan.batch(plan.steps // 2, 4095, 4096)
    assert len(part) in (7, 8)
    assert part.max() < 10**9
