"""What the objectives of all papers have in common: full precision under autocast, and the global batch of several
processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from tests.helpers.forked import free_port, run_ranks
from xmr_e2e.distributed import gather
from xmr_e2e.objectives.drcl import rsc_loss, spl_loss
from xmr_e2e.objectives.dscmr import dscmr_loss
from xmr_e2e.objectives.sdcmr import ClassifierLogits, Factor, View, sdcmr_loss
from xmr_e2e.objectives.semantic_sharing import label_score_loss, masked_loss_per_sample, pool_scores

N, D, C = 8, 4, 3
PERMUTATION = torch.tensor([4, 0, 7, 2, 1, 6, 3, 5])

Objective: TypeAlias = Callable[[list[Tensor], Tensor], dict[str, Tensor]]
"""of 26 tensors (n, d) and labels (n, c)"""


def tensors() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(N, D, generator=generator, dtype=torch.float64) for _ in range(26)]


def labels(*, multi_label: bool) -> Tensor:
    if multi_label:
        return (torch.rand(N, C, generator=torch.Generator().manual_seed(1)) < 0.4).float()
    return torch.eye(C)[torch.arange(N) % C]


def view(x: list[Tensor]) -> View:
    shared = Factor(x[3], x[4], x[5], ClassifierLogits(x[6][:, :C], x[7][:, :2]))
    unrelated = Factor(x[8], x[9], x[10], ClassifierLogits(x[11][:, :C], x[12][:, :2]))
    return View(x[0], x[1], x[2], shared=shared, unrelated=unrelated)


def dscmr(x: list[Tensor], y: Tensor) -> dict[str, Tensor]:
    return dscmr_loss(x[0], x[1], x[2][:, :C], x[3][:, :C], y)


def drcl(x: list[Tensor], y: Tensor) -> dict[str, Tensor]:
    matrix = torch.eye(D, C).to(x[0]) + 0.1
    terms = rsc_loss(x[0], y, matrix, mu=0.3, permutation=PERMUTATION)
    return {**terms, "prior": spl_loss(x[1], y, matrix, mu=0.3)}


def sdcmr(x: list[Tensor], y: Tensor) -> dict[str, Tensor]:
    return sdcmr_loss(view(x[:13]), view(x[13:]), y, multi_label=bool((y.sum(1) != 1).any()))


def semantic_sharing(x: list[Tensor], y: Tensor) -> dict[str, Tensor]:
    scores = pool_scores(torch.stack(x[:2], 1)[..., :C], torch.tensor([[True, False], [True, True]] * (N // 2)))
    mask = torch.tensor([[True, True], [False, False], [True, False], [False, True]] * (N // 4))
    logits = torch.stack(x[2:4], 1)[mask]
    losses = masked_loss_per_sample(logits, torch.arange(2 * N).view(N, 2) % D, mask)
    return {"labels": label_score_loss(scores, y), "masked": losses.sum() / mask.sum()}


OBJECTIVES: dict[str, Objective] = {
    "dscmr": dscmr,
    "drcl": drcl,
    "sdcmr": sdcmr,
    "semantic_sharing": semantic_sharing,
}


def values_and_gradients(objective: Objective, multi_label: bool, part: slice, world: int) -> dict[str, Tensor]:
    """Of the terms of the global batch, from this rank's part of it; gradients as averaged over the ranks."""
    leaves = [tensor[part].clone().requires_grad_() for tensor in tensors()]
    terms = objective([gather(leaf) for leaf in leaves], gather(labels(multi_label=multi_label)[part]))
    found = dict(terms)
    for name, value in terms.items():
        gradients = torch.autograd.grad(value, leaves, retain_graph=True, materialize_grads=True)
        found |= {f"{name} by {i}": gradient / world for i, gradient in enumerate(gradients)}
    return {name: value.detach() for name, value in found.items()}


def masked_loss_from_samples(part: slice) -> Tensor:
    """The masked loss of the global batch where only sums and counts are gathered; here, its gradient."""
    logits = torch.stack(tensors()[2:4], 1)[part].clone().requires_grad_()
    mask = torch.tensor([[True, True], [False, False], [True, False], [False, True]] * (N // 4))[part]
    losses = gather(masked_loss_per_sample(logits[mask], torch.arange(2 * N).view(N, 2)[part] % D, mask))
    loss = losses.sum() / gather(mask.sum(1)).sum()
    return torch.autograd.grad(loss, logits)[0]


BOUNDS = [0, 3, N]
"""of the ranks' parts of the batch, which differ in size"""


def run_rank(rank: int, port: int, out: str) -> None:
    """One of two real processes over gloo."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    part = slice(BOUNDS[rank], BOUNDS[rank + 1])
    found = {
        f"{name} {multi_label}": values_and_gradients(objective, multi_label, part, world=2)
        for name, objective in OBJECTIVES.items()
        for multi_label in (False, True)
    }
    torch.save({**found, "from samples": masked_loss_from_samples(part) / 2}, f"{out}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Tensor]]]:
    """What each of two processes finds."""
    out: Path = tmp_path_factory.mktemp("ranks")
    run_ranks(run_rank, (free_port(), str(out)), 2)
    return [torch.load(out / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.parametrize("multi_label", [False, True], ids=["single_label", "multi_label"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_two_processes_give_the_values_and_gradients_of_one(
    ranks: list[dict[str, dict[str, Tensor]]], name: str, multi_label: bool
) -> None:
    expected = values_and_gradients(OBJECTIVES[name], multi_label, slice(0, N), world=1)
    for term, value in expected.items():
        parts = [rank[f"{name} {multi_label}"][term] for rank in ranks]
        whole = [torch.cat(parts)] if value.dim() else parts
        for found in whole:
            torch.testing.assert_close(found, value, rtol=0, atol=1e-12, msg=lambda text: f"{term}: {text}")  # noqa: B023
    assert any(value.abs().max() > 1e-3 for term, value in expected.items() if " by " in term)


@pytest.mark.slow
def test_masked_losses_of_samples_gathered_over_processes_are_that_of_the_global_batch(
    ranks: list[dict[str, Tensor]],
) -> None:
    expected = masked_loss_from_samples(slice(0, N))
    torch.testing.assert_close(torch.cat([rank["from samples"] for rank in ranks]), expected)
    direct = values_and_gradients(semantic_sharing, False, slice(0, N), world=1)
    torch.testing.assert_close(expected, torch.stack([direct["masked by 2"], direct["masked by 3"]], 1))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_losses_and_gradients_under_autocast_are_those_of_full_precision(name: str) -> None:
    objective, truth = OBJECTIVES[name], labels(multi_label=False)
    leaves = [tensor.float().requires_grad_() for tensor in tensors()]
    plain = objective(leaves, truth)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = objective(leaves, truth)
        half = objective([leaf.bfloat16() for leaf in leaves], truth)
    for term, value in plain.items():
        assert value.dtype == mixed[term].dtype == half[term].dtype == torch.float32
        assert mixed[term].item() == value.item()
        assert half[term].item() == pytest.approx(value.item(), rel=0.02)
        gradients = (
            torch.autograd.grad(loss, leaves, retain_graph=True, materialize_grads=True)
            for loss in (mixed[term], value)
        )
        for found, expected in zip(*gradients):
            assert torch.equal(found, expected)
