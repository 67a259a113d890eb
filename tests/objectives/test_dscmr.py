"""DSCMR's loss, and the labels, cosines and norms that it shares with others, against loops over samples and pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from xmr_e2e.objectives.dscmr import closed_form_classifier, dscmr_loss
from xmr_e2e.objectives.labels import Labels, multi_hot_labels, share_a_label
from xmr_e2e.objectives.similarity import cosine_similarity, full_precision, mean_row_norm, pair_negative_log_likelihood

SINGLE = [[0, 0, 1], [1, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0]]
MULTI = [[1, 1, 0], [1, 1, 1], [0, 0, 1], [0, 0, 0], [1, 0, 0]]


def rows(n: int, d: int, *, seed: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def batch(n: int = 5, d: int = 4, c: int = 3) -> list[Tensor]:
    """Image and text embeddings, image and text logits."""
    return [rows(n, width, seed=seed) for seed, width in enumerate((d, d, c, c))]


def loss_of(parts: Sequence[Tensor], labels: Labels, **options: Any) -> dict[str, Tensor]:
    image, text, image_logits, text_logits = parts
    return dscmr_loss(image, text, image_logits, text_logits, labels, **options)


def cosine(x: Sequence[float], y: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(x, y)) / max(math.hypot(*x) * math.hypot(*y), 1e-6)


def difference(x: Sequence[float], y: Sequence[float]) -> list[float]:
    return [a - b for a, b in zip(x, y)]


def reference(parts: list[Tensor], labels: list[list[int]], *, frobenius: bool, count: bool) -> dict[str, float]:
    """Eq. 1, 2 and 4, one sample and one pair at a time."""
    image, text, image_logits, text_logits = (part.tolist() for part in parts)
    n = len(labels)

    def size(residuals: list[list[float]]) -> float:
        if frobenius:
            return math.sqrt(sum(value**2 for row in residuals for value in row)) / n
        return sum(math.hypot(*row) for row in residuals) / n

    common = 0.0
    for x, y in [(image, image), (image, text), (text, text)]:
        for i in range(n):
            for j in range(n):
                shared = sum(a * b for a, b in zip(labels[i], labels[j]))
                theta = cosine(x[i], y[j]) / 2
                common += (math.log(1 + math.exp(theta)) - (shared if count else min(shared, 1)) * theta) / n**2
    return {
        "label": size([difference(p, y) for p, y in zip(image_logits, labels)])
        + size([difference(p, y) for p, y in zip(text_logits, labels)]),
        "common": common,
        "invariance": size([difference(u, v) for u, v in zip(image, text)]),
    }


@pytest.mark.parametrize("labels", [SINGLE, MULTI], ids=["single_label", "multi_label"])
@pytest.mark.parametrize("norm", ["rows", "frobenius"])
@pytest.mark.parametrize("similar", ["indicator", "count"])
def test_dscmr_loss_equals_loops_over_samples_and_pairs(
    labels: list[list[int]], norm: Literal["rows", "frobenius"], similar: Literal["indicator", "count"]
) -> None:
    parts = batch()
    terms = loss_of(parts, torch.tensor(labels), lam=0.3, eta=0.7, norm=norm, similar=similar)
    expected = reference(parts, labels, frobenius=norm == "frobenius", count=similar == "count")
    expected["total"] = expected["label"] + 0.3 * expected["common"] + 0.7 * expected["invariance"]
    assert {name: value.item() for name, value in terms.items()} == pytest.approx(expected, abs=1e-12)


def test_default_weights_and_readings_are_the_released_ones() -> None:
    parts = batch()
    expected = reference(parts, MULTI, frobenius=False, count=False)
    total = expected["label"] + 1e-3 * expected["common"] + 1e-1 * expected["invariance"]
    assert loss_of(parts, torch.tensor(MULTI))["total"].item() == pytest.approx(total, abs=1e-12)


def test_frobenius_reading_is_about_the_square_root_of_n_times_smaller() -> None:
    parts = batch(n=100, d=64, c=20)
    labels = torch.arange(100) % 20
    by_rows, printed = (loss_of(parts, labels, norm=norm) for norm in ("rows", "frobenius"))
    for name in ("label", "invariance"):
        assert by_rows[name].item() / printed[name].item() == pytest.approx(10, rel=0.03)
    assert by_rows["common"].item() == printed["common"].item()


def test_integer_labels_arrays_and_one_hot_tensors_are_the_same_labels() -> None:
    parts = batch()
    expected = loss_of(parts, torch.tensor(SINGLE))["total"]
    classes = [2, 0, 2, 1, 0]
    for labels in (
        torch.tensor(classes),
        torch.tensor(classes, dtype=torch.int32),
        np.array(classes),
        np.array(SINGLE),
    ):
        assert loss_of(parts, labels)["total"].item() == expected.item()


@pytest.mark.parametrize("labels", [SINGLE, MULTI], ids=["single_label", "multi_label"])
@pytest.mark.parametrize("norm", ["rows", "frobenius"])
def test_gradient_of_the_dscmr_loss_equals_finite_differences(
    labels: list[list[int]], norm: Literal["rows", "frobenius"]
) -> None:
    parts = [part.requires_grad_() for part in batch()]
    torch.autograd.gradcheck(lambda *x: loss_of(x, torch.tensor(labels), lam=0.5, eta=0.5, norm=norm)["total"], parts)


@pytest.mark.parametrize("norm", ["rows", "frobenius"])
def test_gradients_are_finite_for_identical_pairs_zero_rows_and_perfect_predictions(
    norm: Literal["rows", "frobenius"],
) -> None:
    truth = torch.tensor(SINGLE, dtype=torch.float32)
    image, text, image_logits, text_logits = (part.float() for part in batch())
    text[:] = image
    image[1] = text[1] = text[2] = 0
    image_logits[:] = truth
    text_logits[3] = truth[3]
    parts = [part.requires_grad_() for part in (image, text, image_logits, text_logits)]
    terms = loss_of(parts, truth, norm=norm)
    for value, gradient in zip(terms.values(), torch.autograd.grad(terms["total"], parts)):
        assert value.isfinite()
        assert gradient.isfinite().all()
    assert (torch.autograd.grad(loss_of(parts, truth, norm=norm)["label"], image_logits)[0] == 0).all()


@pytest.mark.parametrize(("n", "d"), [(40, 4), (6, 6), (3, 9)])
@pytest.mark.parametrize("labels", ["integers", "multi_hot"])
def test_closed_form_classifier_is_the_sum_of_two_ridge_regressions(n: int, d: int, labels: str) -> None:
    image, text = rows(n, d, seed=0), rows(n, d, seed=1)
    truth = (rows(n, 3, seed=2) > 0).float() if labels == "multi_hot" else torch.arange(n) % 3
    y = truth.numpy() if labels == "multi_hot" else np.eye(3)[truth.numpy()]
    # As printed, with samples in columns, and with explicit inverses.
    expected = sum(np.linalg.inv(u @ u.T + 0.1 * np.eye(d)) @ u @ y for u in (image.numpy().T, text.numpy().T))
    found = closed_form_classifier(image, text, truth, ridge=0.1)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-10)


def test_closed_form_classifier_without_ridge_fits_fewer_samples_than_dimensions() -> None:
    image, text = rows(3, 9, seed=0), rows(3, 9, seed=1)
    y = torch.eye(3, dtype=torch.float64)
    expected = torch.linalg.pinv(image) @ y + torch.linalg.pinv(text) @ y
    torch.testing.assert_close(closed_form_classifier(image, text, y, ridge=0), expected)


def test_closed_form_classifier_of_equal_views_predicts_twice_the_labels() -> None:
    image = rows(4, 8, seed=0)
    found = image @ closed_form_classifier(image, image, torch.tensor([0, 1, 2, 0]), ridge=1e-9)
    torch.testing.assert_close(found, 2 * multi_hot_labels(torch.tensor([0, 1, 2, 0])).double(), atol=1e-6, rtol=0)


def test_closed_form_classifier_is_computed_in_fp64_and_returned_without_gradient() -> None:
    # Nearly parallel columns: in fp32, the normal equations of this batch have lost all their digits.
    image = rows(30, 1, seed=0) + 1e-4 * rows(30, 4, seed=1)
    image32 = image.float().requires_grad_()
    labels = torch.arange(30) % 3
    found = closed_form_classifier(image32, image32, labels, ridge=0)
    assert found.dtype == torch.float32
    assert not found.requires_grad
    exact = 2 * np.linalg.lstsq(image32.detach().double().numpy(), np.eye(3)[labels.numpy()], rcond=None)[0]
    np.testing.assert_allclose(found.numpy(), exact, rtol=1e-4)


def test_multi_hot_labels_marks_the_class_of_each_sample() -> None:
    assert multi_hot_labels(torch.tensor([2, 0])).tolist() == [[0, 0, 1], [1, 0, 0]]
    assert multi_hot_labels(torch.tensor([2, 0]), 4).tolist() == [[0, 0, 1, 0], [1, 0, 0, 0]]
    assert multi_hot_labels(torch.tensor([], dtype=torch.int64), 4).shape == (0, 4)


def test_multi_hot_labels_leaves_multi_hot_labels_as_they_are() -> None:
    labels = torch.tensor(MULTI, dtype=torch.float64)
    assert multi_hot_labels(labels) is labels
    assert multi_hot_labels(labels.bool(), 3).dtype == torch.float32
    assert torch.equal(multi_hot_labels(labels.long()).double(), labels)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (torch.tensor([0, 3]), 3),
        (torch.tensor([-1, 1]), 3),
        (torch.tensor([0.0, 1.0]), 3),
        (torch.tensor([True, False]), 3),
        (torch.zeros(2, 4), 3),
        (torch.zeros(2, 3, 1), None),
    ],
)
def test_labels_of_another_form_are_refused(labels: Tensor, classes: int | None) -> None:
    with pytest.raises(ValueError, match="labels"):
        multi_hot_labels(labels, classes)


def test_samples_share_a_label_if_any_class_is_in_both() -> None:
    x, y = torch.tensor(MULTI).float(), torch.tensor(SINGLE[:4]).float()
    expected = [[float(any(a and b for a, b in zip(p, q))) for q in SINGLE[:4]] for p in MULTI]
    assert share_a_label(x, y).tolist() == expected


def test_cosine_similarity_equals_loops_over_pairs() -> None:
    x, y = rows(4, 3, seed=0), rows(5, 3, seed=1)
    x[1] = 0
    y[2] *= 1e-8
    expected = [[cosine(p, q) for q in y.tolist()] for p in x.tolist()]
    torch.testing.assert_close(cosine_similarity(x, y), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_pair_likelihood_equals_loops_over_pairs(scale: float) -> None:
    x, y = rows(4, 3, seed=0).requires_grad_(), rows(5, 3, seed=1).requires_grad_()
    similar = (rows(4, 5, seed=2) > 0).double()
    expected = 0.0
    for i in range(4):
        for j in range(5):
            probability = 1 / (1 + math.exp(-scale * cosine(x[i].tolist(), y[j].tolist())))
            expected -= math.log(probability if similar[i, j] else 1 - probability) / 20
    assert pair_negative_log_likelihood(x, y, similar, scale=scale).item() == pytest.approx(expected, abs=1e-12)
    torch.autograd.gradcheck(lambda a, b: pair_negative_log_likelihood(a, b, similar, scale=scale), (x, y))


def test_pair_likelihood_stays_exact_for_large_similarities() -> None:
    x = torch.tensor([[1.0]], dtype=torch.float64)
    for scale in (30.0, 1000.0):
        found = pair_negative_log_likelihood(x, -x, torch.ones(1, 1, dtype=torch.float64), scale=scale)
        assert found.item() == pytest.approx(scale + math.exp(-scale), abs=1e-12)


def test_mean_row_norm_has_no_gradient_at_rows_of_zeros() -> None:
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0]], requires_grad=True)
    mean_row_norm(x).backward()
    assert mean_row_norm(x).item() == 2.5
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.tensor([[0.3, 0.4], [0.0, 0.0]]))


@pytest.mark.parametrize(
    ("types", "expected"),
    [
        ((torch.bfloat16,), torch.float32),
        ((torch.float16, torch.float32), torch.float32),
        ((torch.float32, torch.float64), torch.float64),
    ],
)
def test_full_precision_is_the_widest_type_and_at_least_fp32(
    types: tuple[torch.dtype, ...], expected: torch.dtype
) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with full_precision(*(torch.ones(2, 2, dtype=dtype) for dtype in types)) as tensors:
            assert {tensor.dtype for tensor in tensors} == {expected}
            assert (tensors[0] @ tensors[0]).dtype == expected
