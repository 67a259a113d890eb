"""The formulas of the released codes, whole batches at a time, against this project's own functions in fp64: values and
gradients. Where a default differs by choice (docs/reproduction.md), the option that is the released reading is used."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from xmr_e2e.evaluation.metrics import mean_average_precision, ndcg
from xmr_e2e.evaluation.per_query import Discount
from xmr_e2e.objectives.drcl import confidence, rsc_loss, spl_loss
from xmr_e2e.objectives.dscmr import dscmr_loss
from xmr_e2e.objectives.mars import mars_loss

N, D, C = 48, 16, 6
KINDS = pytest.mark.parametrize("multi_label", [False, True], ids=["single-label", "multi-label"])
Terms = dict[str, Tensor]


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def unit(rows: Tensor) -> Tensor:
    return rows / rows.pow(2).sum(1, keepdim=True).sqrt()


def labels(multi_label: bool, n: int = N, *, seed: int = 9) -> Tensor:
    """(n, C); where several are possible, each sample has one to four."""
    generator = torch.Generator().manual_seed(seed)
    found = torch.eye(C, dtype=torch.float64)[torch.randint(C, (n,), generator=generator)]
    for _ in range(3 * multi_label):
        found = found.maximum(torch.eye(C, dtype=torch.float64)[torch.randint(C, (n,), generator=generator)])
    return found


def cosines(x: Tensor, y: Tensor) -> Tensor:
    """With DSCMR's and DRCL's floor of the two norms' product."""
    lengths = x.pow(2).sum(1).sqrt()[:, None] * y.pow(2).sum(1).sqrt()[None]
    return x.mm(y.t()) / lengths.clamp(min=1e-6)


def agree(ours: Callable[..., Terms], released: Callable[..., Terms], *inputs: Tensor) -> None:
    """Each term, and the gradient of the total in each input."""
    sides = []
    for function in (ours, released):
        leaves = [tensor.clone().requires_grad_() for tensor in inputs]
        terms = function(*leaves)
        sides.append((terms, torch.autograd.grad(terms["total"], leaves)))
    (found, gradients), (expected, slopes) = sides
    assert found.keys() == expected.keys()
    for name in expected:
        assert found[name].item() == pytest.approx(expected[name].item(), abs=1e-6), name
    for gradient, slope in zip(gradients, slopes):
        assert slope.abs().max() > 0
        torch.testing.assert_close(gradient, slope, rtol=1e-6, atol=1e-9)


@KINDS
def test_dscmr_is_the_released_loss(multi_label: bool) -> None:
    """Similar pairs by the number of labels that they share, distances as means of the rows' norms."""
    y = labels(multi_label)

    def ours(u: Tensor, v: Tensor, p: Tensor, q: Tensor) -> Terms:
        return dscmr_loss(u, v, p, q, y, similar="count")

    def released(u: Tensor, v: Tensor, p: Tensor, q: Tensor) -> Terms:
        similar, common = y.mm(y.t()), torch.zeros((), dtype=torch.float64)
        for one, other in ((u, u), (u, v), (v, v)):
            theta = cosines(one, other) / 2
            common = common + ((1 + theta.exp()).log() - similar * theta).mean()
        label = (p - y).pow(2).sum(1).sqrt().mean() + (q - y).pow(2).sum(1).sqrt().mean()
        invariance = (u - v).pow(2).sum(1).sqrt().mean()
        total = label + 1e-3 * common + 1e-1 * invariance
        return {"label": label, "common": common, "invariance": invariance, "total": total}

    agree(ours, released, *(draw(N, width, seed=seed) for seed, width in enumerate((D, D, C, C))))


@KINDS
@pytest.mark.parametrize("mu", [0.01, 0.5, 1.0])
def test_drcls_first_stage_is_the_released_loss(multi_label: bool, mu: float) -> None:
    y = labels(multi_label)

    def probabilities(z: Tensor, prior: Tensor) -> Tensor:
        exponentials = z.mm(prior).exp()
        return (exponentials * y).sum(1) / exponentials.sum(1)

    inputs = unit(draw(N, D, seed=0)), 2 * draw(D, C, seed=1)
    agree(
        lambda z, prior: {"total": spl_loss(z, y, prior, mu=mu)},
        lambda z, prior: {"total": ((1 - probabilities(z, prior).pow(mu)) / mu).mean()},
        *inputs,
    )
    torch.testing.assert_close(confidence(inputs[0], y, inputs[1]), probabilities(*inputs), rtol=0, atol=1e-12)


@KINDS
@pytest.mark.parametrize("mu", [0.01, 0.5, 1.0])
def test_drcls_second_stage_is_the_released_loss(multi_label: bool, mu: float) -> None:
    y, prior, order = labels(multi_label), 2 * draw(D, C, seed=1), torch.randperm(N)

    def released(z: Tensor) -> Terms:
        mixed, truth = (0.9 * rows + 0.1 * rows[order] for rows in (z, y))
        recast = truth.mm(torch.linalg.inv(prior.t().mm(prior)).mm(prior.t()))
        share = (mixed.mm(prior).exp() * truth).sum(1) / mixed.mm(prior).exp().sum(1)
        within = 2 * cosines(recast, recast) - 2 * cosines(mixed, mixed)
        across = 2 * cosines(recast, mixed) - 2 * cosines(mixed, recast)
        terms = {
            "label": ((1 - share.pow(mu)) / mu).mean(),
            "discrimination": within.pow(2).mean() + across.pow(2).mean(),
            "invariance": (recast - mixed).pow(2).mean(),
        }
        return {**terms, "total": terms["label"] + 0.1 * terms["discrimination"] + 0.1 * terms["invariance"]}

    agree(lambda z: rsc_loss(z, y, prior, mu=mu, permutation=order), released, unit(draw(N, D, seed=0)))


@KINDS
@pytest.mark.parametrize("first", [True, False])
def test_mars_is_the_released_loss(multi_label: bool, first: bool) -> None:
    """With labels in a batch of their own, as the released loader shuffles them."""
    y, embedded = labels(multi_label), labels(multi_label, seed=10)
    fixed, _ = torch.linalg.qr(draw(D, C, seed=3))
    weight = 0.5 if first else 0.2

    def pair(one: Tensor, other: Tensor, similar: Tensor) -> Tensor:
        theta = 2 * cosines(one, other)
        return ((1 + theta.exp()).log() - (similar > 0) * theta).mean()

    def released(s: Tensor, e: Tensor, label: Tensor) -> Terms:
        likely, revealing = (rows.mm(fixed) - rows.mm(fixed).exp().sum(1, keepdim=True).log() for rows in (s, e))
        terms = {"correspondence": pair(label if first else label.detach(), s, embedded.mm(y.t()))}
        terms["shared"] = pair(s, s, y.mm(y.t()))
        if first:
            terms["labels"] = pair(label, label, embedded.mm(embedded.t()))
        total = torch.stack(list(terms.values())).sum()
        terms["classification"] = -(y * likely).sum(1).mean()
        terms["exclusion"] = revealing.max(1).values.mean()
        return {**terms, "total": total + terms["classification"] + weight * terms["exclusion"]}

    def ours(s: Tensor, e: Tensor, label: Tensor) -> Terms:
        return mars_loss(s, e, y, label, embedded, fixed, first=first, exclusion=weight)

    label = draw(N, D, seed=2)
    inputs = unit(draw(N, D, seed=0)), unit(draw(N, D, seed=1))
    if first:
        agree(ours, released, *inputs, label)
    else:  # no gradient reaches the label network
        agree(lambda s, e: ours(s, e, label), lambda s, e: released(s, e, label), *inputs)


def relevances(multi_label: bool, *, queries: int = 30, gallery: int = 620) -> tuple[Tensor, ...]:
    """Queries, gallery, and the labels of both; two queries have no relevant item."""
    given, found = labels(multi_label, queries), labels(multi_label, gallery, seed=11)
    given[:2] = 0
    return draw(queries, D, seed=0), draw(gallery, D, seed=1), given, found


def order_by(scores: Tensor) -> list[list[int]]:
    return [sorted(range(len(row)), key=lambda place: -row[place]) for row in scores.tolist()]


def released_ndcg(scores: Tensor, gains: Tensor, divisors: Callable[[int], list[float]]) -> float:
    """NDCG@500 with linear gains; a query with a DCG of 0 counts 0, and stays in the mean."""
    total = 0.0
    for query, ranking in enumerate(order_by(scores)):
        row, divide = gains[query].tolist(), divisors(query)
        gained = sum(row[place] / by for place, by in zip(ranking[:500], divide))
        best = sum(gain / by for gain, by in zip(sorted(row, reverse=True)[:500], divide))
        total += gained / best if gained else 0.0
    return total / len(scores)


@KINDS
@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_ndcg_is_that_of_semantic_sharings_script(multi_label: bool, similarity: str) -> None:
    """Cosine for Flickr and NUS-WIDE, the dot product for COCO."""
    queries, gallery, given, found = relevances(multi_label)
    scores = cosines(queries, gallery) if similarity == "cosine" else queries.mm(gallery.t())
    expected = released_ndcg(scores, given.mm(found.t()), lambda query: [np.log2(rank + 1) for rank in range(1, 501)])
    ours = ndcg(queries.numpy(), gallery.numpy(), given.numpy(), found.numpy(), k=500, similarity=similarity)  # type: ignore[arg-type]
    assert ours == pytest.approx(expected, abs=1e-6)
    assert 0.1 < ours < 0.9


def test_ndcg_from_texts_to_images_of_coco_has_the_scripts_discount() -> None:
    """For caption i of 0 .. 4, log2(5 r + i + 2) at rank r from 0."""
    queries, gallery, given, found = relevances(True)
    captions = torch.arange(30) % 5
    expected = released_ndcg(
        queries.mm(gallery.t()),
        given.mm(found.t()),
        lambda query: [np.log2(5 * rank + int(captions[query]) + 2) for rank in range(500)],
    )
    arguments = queries.numpy(), gallery.numpy(), given.numpy(), found.numpy()
    ours = ndcg(*arguments, k=500, similarity="dot", discount=Discount(5, captions))
    assert ours == pytest.approx(expected, abs=1e-6)


@KINDS
@pytest.mark.parametrize("k", [None, 50])
def test_average_precision_is_that_of_the_dscmr_and_drcl_scripts(multi_label: bool, k: int | None) -> None:
    """Over all ranks, or divided by the relevant items among the first 50; 0 for a query that has none there."""
    queries, gallery, given, found = relevances(multi_label)
    total = 0.0
    for query, ranking in enumerate(order_by(cosines(queries, gallery))):
        hits, precisions = 0, 0.0
        for rank, place in enumerate(ranking[:k], start=1):
            if given[query] @ found[place] > 0:
                hits += 1
                precisions += hits / rank
        total += precisions / hits if hits else 0.0
    arguments = queries.numpy(), gallery.numpy(), given.numpy(), found.numpy()
    assert mean_average_precision(*arguments, k=k) == pytest.approx(total / 30, abs=1e-6)
