"""Micro-batches by budget: what is in each, and the losses and gradients of the whole batch whatever they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from tests.helpers.forked import free_port, run_ranks
from tests.helpers.ranks import assert_same, batch, losses_and_gradients, method, run_rank
from xmr_e2e.data.batch import Batch
from xmr_e2e.data.inputs import Tokens
from xmr_e2e.data.preparation import Preparation
from xmr_e2e.training.micro_batches import MicroBatches

SIDE = 48
BUDGETS = [
    MicroBatches(pixels=3 * SIDE * SIDE),
    MicroBatches(tokens=21),
    MicroBatches(tokens=1),
    MicroBatches(pixels=2 * SIDE * SIDE, tokens=30),
]


@pytest.fixture(scope="module")
def whole() -> dict[str, Tensor]:
    return losses_and_gradients(Accelerator(cpu=True), method(), batch(), 1)


def texts(*lengths: int, longest: int | None = None) -> Batch:
    """A batch of texts alone, of a few words."""
    ids = torch.zeros(len(lengths), longest or max(lengths), dtype=torch.long)
    for number, length in enumerate(lengths):
        ids[number, :length] = number % 7 + 1
    keys = tuple(map(str, range(len(lengths))))
    return Batch(
        {"text": Tokens(ids, torch.tensor(lengths))}, torch.zeros(len(lengths), 2), torch.arange(len(keys)), keys
    )


@pytest.mark.parametrize("budget", BUDGETS)
def test_each_sample_is_in_one_micro_batch_and_each_is_within_the_budget(budget: MicroBatches) -> None:
    parts = budget.of(batch())
    assert sorted(torch.cat([rows for rows, _ in parts]).tolist()) == list(range(14))
    for rows, part in parts:
        assert part.positions.tolist() == rows.tolist() and part.keys == tuple(map(str, rows.tolist()))
        tokens = part.inputs["text"]
        if budget.pixels:
            assert len(rows) * SIDE * SIDE <= budget.pixels
        if budget.tokens:
            assert tokens.ids.shape[1] == tokens.lengths.max()  # no padding beyond its own longest text
            assert tokens.ids.numel() <= budget.tokens or len(rows) == 1


def test_so_many_micro_batches_are_of_nearly_equal_size_and_in_order() -> None:
    for count, sizes in ((3, [4, 5, 5]), (99, [1] * 14), (1, [14])):
        parts = MicroBatches(count).of(batch())
        assert [len(part) for _, part in parts] == sizes
        assert torch.cat([rows for rows, _ in parts]).tolist() == list(range(14))
    even = MicroBatches(pixels=6 * SIDE * SIDE).of(batch())
    assert [len(part) for _, part in even] == [4, 5, 5]  # not 6, 6 and 2


def test_one_long_text_is_alone_and_does_not_decide_the_memory() -> None:
    made = texts(4, 400, 5, 3, 5, 4, 2, 5)
    most = max(part.inputs["text"].ids.numel() for _, part in MicroBatches(tokens=20).of(made) if len(part) > 1)
    parts = MicroBatches(tokens=20).of(made)
    assert [rows.tolist() for rows, _ in parts] == [[6, 3, 0, 5], [2, 4, 7], [1]]
    assert most == 16 and max(part.inputs["text"].ids.numel() for _, part in parts) == 400
    by_count = max(part.inputs["text"].ids.numel() for _, part in MicroBatches(4).of(made))
    assert by_count == 800  # whatever is with it is as long


def test_pixels_are_counted_as_networks_see_them() -> None:
    images = torch.zeros(6, 3, 40, 40, dtype=torch.uint8)
    made = replace(texts(2, 2, 2, 2, 2, 2), preparation=Preparation(32)).with_inputs({"image": images})
    assert [len(part) for _, part in MicroBatches(pixels=3 * 32 * 32).of(made)] == [3, 3]
    assert all(part.inputs["image"].dtype == torch.uint8 for _, part in MicroBatches(pixels=1).of(made))
    assert len(MicroBatches(pixels=1).of(made)) == 6  # an image above the budget is alone
    assert len(MicroBatches(tokens=1).of(made)) == 1  # there is no text


def test_a_padding_sample_is_one_micro_batch() -> None:
    empty = replace(texts(3), labels=torch.zeros(0, 2), positions=torch.arange(0), keys=())
    for bounds in (*BUDGETS, MicroBatches(4)):
        ((rows, part),) = bounds.of(empty)
        assert len(rows) == 0 and part is empty


@pytest.mark.parametrize("budget", BUDGETS)
def test_a_budget_changes_neither_losses_nor_gradients(whole: dict[str, Tensor], budget: MicroBatches) -> None:
    assert_same(losses_and_gradients(Accelerator(cpu=True), method(), batch(), budget), whole)


def most_saved(bounds: MicroBatches, part: Batch) -> int:
    """The largest number of floating point numbers that the text tower keeps at a time for the backward pass."""
    kept, most = 0, 0

    def pack(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += tensor.numel() if tensor.is_floating_point() else 0
        return tensor

    tower = method().towers["text"]
    for _, each in bounds.of(part):
        kept = 0
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            tower(each.inputs["text"])
        most = max(most, kept)
    return most


def test_activations_are_bounded_by_the_budget_and_not_by_the_longest_text() -> None:
    made = texts(*[6] * 30, 60)
    by_count, by_budget = most_saved(MicroBatches(4), made), most_saved(MicroBatches(tokens=60), made)
    assert by_budget < 0.3 * by_count


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.parametrize("budget", [MicroBatches(tokens=50), MicroBatches(pixels=2 * SIDE * SIDE)])
def test_ranks_with_different_numbers_of_micro_batches_agree(
    whole: dict[str, Tensor], tmp_path: Path, budget: MicroBatches
) -> None:
    first, second = (len(budget.of(batch(rows))) for rows in (slice(0, 5), slice(5, 14)))
    assert first < second
    run_ranks(run_rank, (2, free_port(), budget, str(tmp_path)), 2)
    for rank in range(2):
        assert_same(torch.load(tmp_path / f"{rank}.pt", weights_only=True), whole)
