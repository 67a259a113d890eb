"""The epoch plan: every sample once, the same order for any number of ranks."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from xmr_e2e.data.plan import BLOCK, WINDOW, BalancedPlan, EpochPlan, MixedPlan

SIZES = [1, 2, BLOCK - 1, BLOCK, BLOCK + 1, BLOCK * WINDOW, BLOCK * WINDOW + 1, 3 * BLOCK * WINDOW + 77]


@pytest.mark.parametrize("samples", SIZES)
@pytest.mark.parametrize("epoch", range(6))  # the block that is not full is in one window or another
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
    plan = EpochPlan(10, 4, shuffle=False)
    assert plan.positions(0, 10).tolist() == list(range(10))
    assert plan.at(np.array([7, 0, 9])).tolist() == [7, 0, 9]


def test_shuffling_stays_within_windows_of_blocks_so_that_reads_stay_near_each_other() -> None:
    plan = EpochPlan(3 * BLOCK * WINDOW, 100)
    first_window = plan.positions(0, BLOCK * WINDOW)
    assert len(np.unique(first_window // BLOCK)) == WINDOW


def test_a_plan_over_a_billion_samples_takes_little_memory_on_each_of_thousands_of_ranks() -> None:
    tracemalloc.start()
    plan = EpochPlan(10**9, 4096 * 8, seed=3, epoch=2)
    for step in (0, plan.steps // 2, plan.steps - 1):
        part = plan.batch(step, 4095, 4096)
        assert len(part) in (7, 8)
        assert part.max() < 10**9
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6


def test_places_one_by_one_are_the_order() -> None:
    plan = EpochPlan(3 * BLOCK * WINDOW + 77, 100, seed=5)
    places = np.array([0, 16383, 16384, 40000, 3 * BLOCK * WINDOW + 76, 7])
    order = plan.positions(0, plan.samples)
    assert plan.at(places).tolist() == order[places].tolist()


# Several sets


def visited(weights: tuple[float, ...], epoch: int, sizes: tuple[int, ...] = (300, 1000)) -> NDArray[np.int64]:
    plan = MixedPlan(sizes, weights, 32, seed=1, epoch=epoch)
    return np.concatenate([plan.batch(step) for step in range(plan.steps)])


def test_a_weight_is_how_often_an_epoch_visits_each_sample() -> None:
    counts = np.bincount(visited((1.0, 2.0), 0), minlength=1300)
    assert (counts[:300] == 1).all()
    assert (counts[300:] == 2).all()


def test_a_set_of_weight_one_half_is_visited_whole_in_two_epochs() -> None:
    first, second = (np.sort(visited((1.0, 0.5), epoch)[visited((1.0, 0.5), epoch) >= 300]) for epoch in (0, 1))
    assert len(first) == 500
    assert sorted([*first, *second]) == list(range(300, 1300))
    assert not np.array_equal(first, np.arange(300, 800))  # not what happens to lie first


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 600), min_size=1, max_size=3), st.lists(st.floats(0.1, 3), min_size=3, max_size=3),
    st.integers(1, 5), st.integers(0, 4),
)  # fmt: skip
def test_visits_of_mixed_sets_differ_by_one_at_most_whatever_the_number_of_ranks(
    sizes: list[int], weights: list[float], ranks: int, epochs: int
) -> None:
    total = np.zeros(sum(sizes), int)
    for epoch in range(epochs + 1):
        plan = MixedPlan(tuple(sizes), tuple(weights[: len(sizes)]), 10, seed=2, epoch=epoch)
        for step in range(plan.steps):
            parts = np.concatenate([plan.batch(step, rank, ranks) for rank in range(ranks)])
            assert parts.tolist() == plan.batch(step).tolist()
            np.add.at(total, parts, 1)
    for part in np.split(total, np.cumsum(sizes)[:-1]):
        assert part.max() - part.min() <= 1


def test_mixed_sets_come_mixed() -> None:
    batches = visited((1.0, 1.0), 0, (5000, 5000))[:1000].reshape(10, 100)
    assert all(20 < (batch < 5000).sum() < 80 for batch in batches)


# Class-balanced batches


def balanced(epoch: int = 0) -> BalancedPlan:
    """Seven classes of 3, 13, 23, … samples."""
    ends = np.cumsum([3 + 10 * number for number in range(7)])
    classes = tuple(np.arange(end - 3 - 10 * number, end) for number, end in enumerate(ends))
    return BalancedPlan(classes, batch_size=12, batch_classes=3, seed=4, epoch=epoch)


def test_a_balanced_batch_has_as_many_samples_of_each_of_its_classes() -> None:
    plan = balanced()
    of_class = {int(sample): number for number, samples in enumerate(plan.classes) for sample in samples}
    for step in range(plan.steps):
        drawn = [of_class[sample] for sample in plan.batch(step).tolist()]
        assert sorted(drawn.count(number) for number in set(drawn)) == [4, 4, 4]


def test_classes_and_their_samples_take_turns() -> None:
    plan = balanced()
    of_class = {int(sample): number for number, samples in enumerate(plan.classes) for sample in samples}
    batches = [plan.batch(step).tolist() for step in range(plan.steps)]
    turns = np.bincount([of_class[sample] for batch in batches for sample in set(batch)], minlength=7)
    assert turns.min() > 0
    for number, samples in enumerate(plan.classes):
        counts = [sum(batch.count(sample) for batch in batches) for sample in samples.tolist()]
        assert max(counts) - min(counts) <= 1, number
    assert balanced(1).batch(0).tolist() != batches[0]


def test_plans_begin_with_the_first_epoch() -> None:
    assert EpochPlan(100, 10).batch(0).tolist() == EpochPlan(100, 10, epoch=0).batch(0).tolist()
    first = balanced()
    unsaid = BalancedPlan(first.classes, first.batch_size, first.batch_classes, first.seed)
    assert unsaid.batch(0).tolist() == first.batch(0).tolist()


def test_ranks_share_a_balanced_batch() -> None:
    plan = balanced()
    for step in (0, plan.steps - 1):
        parts = [plan.batch(step, rank, 5) for rank in range(5)]
        assert np.concatenate(parts).tolist() == plan.batch(step).tolist()
