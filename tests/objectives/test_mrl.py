"""MRL's losses against loops over the samples, and what keeps them finite."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from xmr_e2e.objectives.mrl import mrl_loss, multimodal_contrast, robust_clustering_loss

Rows = list[list[float]]
N, D, C = 7, 5, 4
CLASSES = torch.tensor([0, 1, 2, 3, 0, 1, 0])
SEVERAL = torch.tensor([[int(c) for c in row] for row in "1001 0100 1110 0000 1111 0010 0110".split()])
LABELS = pytest.mark.parametrize("labels", [CLASSES, F.one_hot(CLASSES, C), SEVERAL], ids=["classes", "one", "several"])


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unit(seed: int) -> Tensor:
    return F.normalize(draw(N, D, seed=seed))


def dot(x: list[float], y: list[float]) -> float:
    return sum(a * b for a, b in zip(x, y, strict=True))


def own_classes(labels: Tensor) -> list[list[int]]:
    if labels.dim() == 1:
        return [[int(label)] for label in labels]
    return [[k for k, there in enumerate(row) if there] for row in labels.tolist()]


def clustering(scores: Rows, classes: list[list[int]], temperature: float) -> float:
    """The mean of log(1 - p)."""
    total = 0.0
    for row, own in zip(scores, classes, strict=True):
        weights = [math.exp(score / temperature) for score in row]
        p = sum(weights[k] for k in own) / sum(weights)
        if len(own) < len(row):
            total += math.log(1 - p)
    return total / len(scores)


def contrast(embeddings: list[Rows], temperature: float) -> float:
    """As its docstring has it, sample by sample."""
    total = 0.0
    for v, one in enumerate(embeddings):
        for i, item in enumerate(one):
            own = others = 0.0
            for u, other in enumerate(embeddings):
                for j, another in enumerate(other):
                    if (v, i) != (u, j):
                        weight = math.exp(dot(item, another) / temperature)
                        others += weight
                        own += weight if i == j else 0.0
            total -= math.log(own / others)
    return 2 * total / (len(embeddings) * len(embeddings[0]))


@LABELS
@pytest.mark.parametrize("temperature", [1.0, 0.2])
def test_robust_clustering_equals_loops_over_the_samples(labels: Tensor, temperature: float) -> None:
    scores = draw(N, C)
    expected = clustering(scores.tolist(), own_classes(labels), temperature)
    assert robust_clustering_loss(scores, labels, temperature=temperature).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("modalities", [2, 3])
@pytest.mark.parametrize("temperature", [1.0, 0.2])
def test_the_contrast_equals_loops_over_the_items(modalities: int, temperature: float) -> None:
    embeddings = [unit(seed) for seed in range(modalities)]
    expected = contrast([rows.tolist() for rows in embeddings], temperature)
    assert multimodal_contrast(embeddings, temperature=temperature).item() == pytest.approx(expected, rel=1e-12)


@LABELS
def test_all_terms_equal_loops_whatever_the_length_of_the_centers(labels: Tensor) -> None:
    image, text, centers = unit(1), unit(2), draw(D, C, seed=3)
    found = mrl_loss({"image": image, "text": text}, centers, labels, beta=0.7, temperature=0.5)
    columns = [[value / math.hypot(*column) for value in column] for column in centers.T.tolist()]
    clusters = 0.0
    for rows in (image, text):
        scores = [[dot(row, column) for column in columns] for row in rows.tolist()]
        clusters += clustering(scores, own_classes(labels), 0.5)
    between = contrast([image.tolist(), text.tolist()], 0.5)
    expected = {"clustering": clusters, "contrast": between, "total": 0.7 * clusters + (1 - 0.7) * between}
    assert {name: term.item() for name, term in found.items()} == pytest.approx(expected, rel=1e-12)


def test_a_term_of_weight_0_is_not_computed() -> None:
    embeddings = {"image": unit(1), "text": unit(2)}
    assert mrl_loss(embeddings, draw(D, C), CLASSES, beta=1, temperature=1).keys() == {"clustering", "total"}
    assert mrl_loss(embeddings, draw(D, C), CLASSES, beta=0, temperature=1).keys() == {"contrast", "total"}


@LABELS
def test_gradients(labels: Tensor) -> None:
    def total(image: Tensor, text: Tensor, centers: Tensor) -> Tensor:
        return mrl_loss({"image": image, "text": text}, centers, labels, beta=0.7, temperature=0.5)["total"]

    assert torch.autograd.gradcheck(total, [x.requires_grad_() for x in (unit(1), unit(2), draw(D, C, seed=3))])


@pytest.mark.parametrize("scale", [1e-3, 1e3, 1e5])
def test_finite_where_a_class_is_certain(scale: float) -> None:
    scores = (scale * F.one_hot(CLASSES, C).float()).requires_grad_()
    loss = robust_clustering_loss(scores, CLASSES, temperature=1.0)
    (gradient,) = torch.autograd.grad(loss, scores)
    assert loss.isfinite() and gradient.isfinite().all()
    assert loss.item() == pytest.approx(-scale - math.log((1 + (C - 1) * math.exp(-scale)) / (C - 1)), rel=1e-4)


def test_wrong_labels_pull_less_than_with_cross_entropy() -> None:
    """The slope in the own class's score falls with its probability, where that of cross-entropy rises."""
    slopes = []
    for score in (-3.0, 0.0, 3.0):
        scores = torch.zeros(1, C, dtype=torch.float64)
        scores[0, 0] = score
        loss = robust_clustering_loss(scores.requires_grad_(), torch.tensor([0]), temperature=1.0)
        (gradient,) = torch.autograd.grad(loss, scores)
        slopes.append(-gradient[0, 0].item())
    assert 0 < slopes[0] < slopes[1] < slopes[2] < 1


def test_computed_in_full_precision_under_autocast() -> None:
    image, text, centers = unit(1).float(), unit(2).float(), draw(D, C).float()
    apart = mrl_loss({"image": image, "text": text}, centers, CLASSES, beta=0.7, temperature=0.1)
    with torch.autocast("cpu", torch.bfloat16):
        found = mrl_loss({"image": image, "text": text}, centers, CLASSES, beta=0.7, temperature=0.1)
    assert {name: term.dtype for name, term in found.items()} == dict.fromkeys(found, torch.float32)
    assert all(torch.equal(found[name], apart[name]) for name in found)
