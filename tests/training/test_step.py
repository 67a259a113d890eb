"""One step of the optimizer: its rates, its gradients, and what stays as it was when it fails."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import nn
from torch.utils._pytree import tree_flatten

from tests.helpers.ranks import batch as made_batch
from tests.helpers.stepped import CONTEXT, METHOD, MOVING, SEED, Trained
from xmr_e2e.data.batch import Batch
from xmr_e2e.methods.base import Method
from xmr_e2e.methods.stages import StepContext
from xmr_e2e.runs.experiment import Schedule
from xmr_e2e.towers.base import DatasetInfo
from xmr_e2e.training import gradcache
from xmr_e2e.training.gradcache import backward
from xmr_e2e.training.step import Stepper


def test_the_schedules_factor_is_applied_to_each_rate(tiny_shards: Path) -> None:
    trained = Trained(tiny_shards, Schedule("cosine"))
    factor = (1 + math.cos(math.pi * 0.55)) / 2
    first = trained.moved()
    assert sorted(trained.stepper.rates) == pytest.approx([0.01 * factor, 0.1 * factor])
    plain = Trained(tiny_shards).moved()
    for name, change in plain.items():
        torch.testing.assert_close(first[name], factor * change, rtol=1e-3, atol=1e-6)
    trained.step(replace(CONTEXT, progress=0.0))  # of the rates at the beginning, not of those of the last step
    assert sorted(trained.stepper.rates) == pytest.approx([0.01, 0.1])


def test_a_step_without_a_bound_moves_by_the_gradient_and_one_with_it_by_so_much(tiny_shards: Path) -> None:
    plain, clipped = Trained(tiny_shards).moved(), Trained(tiny_shards, clip_norm=1e-3).moved()

    def norm(is_trained: dict[str, torch.Tensor]) -> float:
        rates = {name: 0.01 if name.startswith("towers.image") else 0.1 for name in is_trained}
        return math.sqrt(sum(float((change / rates[name]).square().sum()) for name, change in is_trained.items()))

    assert norm(plain) > 1e-2
    assert norm(clipped) == pytest.approx(1e-3, rel=0.02)


def test_gradients_of_one_step_are_gone_before_the_next(tiny_shards: Path) -> None:
    trained = Trained(tiny_shards)
    trained.step()
    assert all(p.grad is None for p in trained.method.parameters())


def test_a_gradient_that_is_not_finite_moves_nothing(tiny_shards: Path) -> None:
    trained = Trained(tiny_shards)
    name, weight = next((n, p) for n, p in trained.method.named_parameters() if "towers.text" in n)
    weight.register_hook(lambda gradient: gradient * math.nan)
    before = {key: value.clone() for key, value in trained.method.state_dict().items()}
    assert any("running_mean" in key for key in before)
    outcome = trained.step()
    assert outcome.is_refused and f"the gradient of {name}:" in str(outcome.error())
    for key, value in trained.method.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert all(p.grad is None for p in trained.method.parameters())


@pytest.mark.parametrize("kind", MOVING)
@pytest.mark.parametrize("may_skip", [0, 1])
def test_a_step_after_a_refused_one_counts_only_where_one_may_be_left_out(
    kind: str, may_skip: int, tiny_shards: Path
) -> None:
    """The host has not read by then that it was refused; a resumed training takes both again."""
    trained, plain = (Trained(tiny_shards, optimizer=MOVING[kind], max_skipped_steps=may_skip) for _ in range(2))
    weight = next(p for n, p in trained.method.named_parameters() if "towers.text" in n)
    first = trained.step()
    plain.step()
    hook = weight.register_hook(lambda gradient: gradient * math.nan)
    second = trained.step()
    hook.remove()
    third = trained.step()
    if may_skip:
        plain.step()
    assert [each.is_refused for each in (first, second, third)] == [False, True, not may_skip]
    for one, other in zip((trained, trained.stepper.optimizer), (plain, plain.stepper.optimizer)):
        assert_same(one, other)


def test_fewer_than_were_left_out_before_let_finite_steps_count(tiny_shards: Path) -> None:
    trained = Trained(tiny_shards, max_skipped_steps=0)
    own = trained.stepper
    fewer = Stepper(own._experiment, Accelerator(cpu=True), trained.method, "training", may_skip=-2)
    assert not fewer.step(trained.batch, CONTEXT, SEED).is_refused


def assert_same(one: Any, other: Any) -> None:
    """The same values of state dicts to the last bit."""
    if isinstance(one, Trained):
        one, other = one.method, other.method
    leaves = [tree_flatten(each.state_dict())[0] for each in (one, other)]
    for mine, theirs in zip(*leaves, strict=True):
        assert torch.equal(mine, theirs) if isinstance(mine, torch.Tensor) else mine == theirs


def test_a_refused_step_in_fp16_moves_neither_weights_nor_the_scale(tiny_shards: Path) -> None:
    """Not finite is a loss term: where gradients alone overflow, fp16's scaler is right to scale less."""
    scaler = torch.amp.GradScaler("cpu")
    trained = Trained(tiny_shards, scaler=scaler, max_skipped_steps=1)
    trained.step()
    before, scale = deepcopy(trained.method.state_dict()), scaler.get_scale()
    objective = trained.method.objective
    trained.method.objective = lambda *arguments: {  # type: ignore[method-assign]
        name: term * (math.nan if name == "common" else 1) for name, term in objective(*arguments).items()
    }
    outcome = trained.step()
    assert outcome.is_refused and "the loss term 'common'" in str(outcome.error())
    assert scaler.get_scale() == scale
    assert all(torch.equal(value, before[name]) for name, value in trained.method.state_dict().items())
    trained.method.objective = objective  # type: ignore[method-assign]
    assert not trained.step().is_refused
    assert any(not torch.equal(value, before[name]) for name, value in trained.method.state_dict().items())


def test_training_pictures_vary_with_epoch_and_seed_and_are_those_of_their_positions(tiny_shards: Path) -> None:
    def pictures(batch: Batch, **train: Any) -> torch.Tensor:
        return replace(batch, preparation=Trained(tiny_shards, **train).batch.preparation).augmented().inputs["image"]

    whole = Trained(tiny_shards).batch
    first = pictures(whole)
    assert first.shape == (8, 3, 32, 32) and first.dtype == torch.float32
    assert torch.equal(first, pictures(whole))
    assert torch.equal(first[3:5], pictures(whole._rows(slice(3, 5))))
    assert not torch.equal(first, pictures(replace(whole, epoch=1)))
    assert not torch.equal(first, pictures(whole, seed=1))


# ---- in pieces


def made_method() -> Method:
    torch.manual_seed(0)
    return METHOD.build(DatasetInfo(4, False, 48, torch.randn(30, 6))).double().train()


class Recorder(nn.Module):
    """A method that notes, of each pass, whether gradients stay local in it."""

    def __init__(self, method: Method, local: list[bool]) -> None:
        super().__init__()
        self.method, self.local, self.seen = method, local, list[tuple[int, bool]]()

    def forward(self, batch: Batch, *arguments: Any, **options: Any) -> Any:
        self.seen.append((len(batch), bool(self.local)))
        return self.method(batch, *arguments, **options)


@pytest.mark.parametrize(("samples", "micro_batches", "expected"), [(14, 3, [4, 5, 5]), (14, 2, [7, 7]), (1, 4, [1])])
def test_only_the_last_pieces_gradients_travel(
    monkeypatch: pytest.MonkeyPatch, samples: int, micro_batches: int, expected: list[int]
) -> None:
    accelerator, method, local = Accelerator(cpu=True), made_method(), list[bool]()

    @contextlib.contextmanager
    def no_sync(model: nn.Module) -> Iterator[None]:
        local.append(True)
        yield
        local.pop()

    model = Recorder(method, local)
    monkeypatch.setattr(accelerator, "no_sync", no_sync)
    monkeypatch.setattr(gradcache, "unwrapped", lambda accelerator, model: model.method)
    part = made_batch(slice(0, samples))
    backward(
        accelerator,
        model,
        part,
        micro_batches=micro_batches,
        context=StepContext(),
        seed=(0,),
    )
    assert model.seen == [(size, number < len(expected) - 1) for number, size in enumerate(expected)]


def test_a_rank_with_a_single_sample_takes_part_in_pieces() -> None:
    one = made_batch(slice(0, 1))
    gradients = []
    for micro_batches in (1, 3):
        method = made_method()
        backward(
            Accelerator(cpu=True),
            method,
            one,
            micro_batches=micro_batches,
            context=StepContext(),
            seed=(0,),
        )
        gradients.append({name: p.grad for name, p in method.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-7, atol=1e-12)


def test_dropout_is_one_of_the_seed_and_of_the_micro_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn(seed: tuple[int, ...], micro_batches: int) -> list[float]:
        found: list[float] = []

        def augmented(batch: Batch) -> Batch:
            found.append(float(torch.rand(())))
            return batch

        monkeypatch.setattr(Batch, "augmented", augmented)
        backward(
            Accelerator(cpu=True),
            made_method(),
            made_batch(slice(0, 4)),
            micro_batches=micro_batches,
            context=StepContext(),
            seed=seed,
        )
        return found

    once, again = drawn((0, 1), 2), drawn((0, 1), 2)
    assert once == again
    assert once[:2] == once[2:]  # the second pass draws what the first one drew
    assert once[0] != once[1]
    assert drawn((0, 2), 2)[0] != once[0]
    assert len(drawn((0, 1), 1)) == 1
