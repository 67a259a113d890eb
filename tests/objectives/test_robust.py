"""The generalized cross-entropy: its formula, its ends, and what wrong labels do."""

from __future__ import annotations

import math

import pytest
import torch

from xmr_e2e.objectives.classification import label_loss, label_losses


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


LABELS = torch.eye(4)[[0, 1, 2, 3, 1, 1]]


@pytest.mark.parametrize("q", [0.2, 0.7, 1.0])
def test_one_label_by_loops(logits: torch.Tensor, q: float) -> None:
    expected = 0.0
    for row, label in zip(logits.tolist(), LABELS.argmax(1).tolist()):
        p = math.exp(row[label]) / sum(map(math.exp, row))
        expected += (1 - p**q) / q / len(logits)
    assert label_loss(logits, LABELS, multi_label=False, q=q).item() == pytest.approx(expected)


@pytest.mark.parametrize("q", [0.2, 1.0])
def test_several_labels_by_loops(logits: torch.Tensor, q: float) -> None:
    labels = torch.tensor([[1, 0, 1, 0]] * 3 + [[0, 0, 0, 1]] * 3)
    expected = 0.0
    for row, own in zip(logits.tolist(), labels.tolist()):
        for x, label in zip(row, own):
            p = 1 / (1 + math.exp(-x if label else x))
            expected += (1 - p**q) / q / len(logits)
    assert label_loss(logits, labels, multi_label=True, q=q).item() == pytest.approx(expected)


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_small_q_is_cross_entropy(logits: torch.Tensor, multi_label: bool) -> None:
    near, exact = (label_loss(logits, LABELS, multi_label=multi_label, q=q) for q in (1e-7, 0.0))
    assert near.item() == pytest.approx(exact.item(), rel=1e-5)


@pytest.mark.parametrize("multi_label", [False, True])
def test_one_wrong_label_weighs_less(multi_label: bool) -> None:
    """Of a sample whose prediction is sure of another class, the gradient falls with q."""
    gradients = []
    for q in (0.0, 0.7):
        sure = torch.tensor([[12.0, -12.0]], requires_grad=True)
        label_loss(sure, torch.tensor([[0.0, 1.0]]), multi_label=multi_label, q=q).backward()
        assert sure.grad is not None and sure.grad.isfinite().all()
        gradients.append(sure.grad.abs().max().item())
    assert gradients[0] == pytest.approx(1.0, rel=1e-3) and gradients[1] < 1e-2


def test_every_modality_has_it(logits: torch.Tensor) -> None:
    found = label_losses({"image": logits, "text": -logits}, LABELS, multi_label=False, q=0.5)
    own = [label_loss(rows, LABELS, multi_label=False, q=0.5) for rows in (logits, -logits)]
    assert found["total"].item() == pytest.approx(sum(own).item())  # type: ignore[union-attr]
