"""ALSCOR's objective, from features to the total, against its definitions in NumPy, and what learns from which term."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.helpers.references import (
    LABELS,
    LayerTower,
    Rows,
    array,
    assert_what_is_trained_is_reached,
    build,
    inputs_of,
    labels_of,
    learners,
    run,
    softmax,
    terms_of,
)
from tests.helpers.references import values as values_of
from xmr_e2e.methods.alscor import Alscor, AlscorModel
from xmr_e2e.methods.stages import StepContext

DIM = 8
WEIGHTS = {"correlation": 0.3, "discrimination": 1.7, "adversary": 0.6}
MOMENT = StepContext(progress=0.3)
TOWERS: dict[str, Any] = {"image": LayerTower(dim=6), "text": LayerTower(dim=7)}


def method_of(*, multi_label: bool = False, **options: Any) -> AlscorModel:
    method = build(Alscor(**TOWERS, dim=DIM, **(WEIGHTS | options)), multi_label=multi_label)
    assert isinstance(method, AlscorModel)
    return method


def standardised(rows: Rows) -> Rows:
    return np.asarray((rows - rows.mean(0)) / np.sqrt(rows.var(0) + 1e-5))


def inverse_root(matrix: Rows) -> Rows:
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray(vectors @ np.diag(values**-0.5) @ vectors.T)


def total_correlation(x: Rows, y: Rows, ridge: float) -> float:
    """The trace norm of Sxx^-1/2 Sxy Syy^-1/2 (Eq. 8)."""
    covariance, d = np.cov(x, y, rowvar=False), x.shape[1]
    xx, yy = covariance[:d, :d] + ridge * np.eye(d), covariance[d:, d:] + ridge * np.eye(d)
    cross = inverse_root(xx) @ covariance[:d, d:] @ inverse_root(yy)
    return float(np.sqrt(np.maximum(np.linalg.eigvalsh(cross.T @ cross), 0)).sum())


def class_loss(scores: list[float], truth: list[int], multi_label: bool) -> float:
    if not multi_label:
        return -math.log(softmax(scores)[truth.index(1)])
    probabilities = [1 / (1 + math.exp(-score)) for score in scores]
    return -sum(math.log(p if relevant else 1 - p) for p, relevant in zip(probabilities, truth))


def reference(method: AlscorModel, inputs: Mapping[str, Tensor], labels: list[list[int]]) -> dict[str, float]:
    z = {
        name: standardised(run(method.projections[name], run(method.towers[name], array(rows))))
        for name, rows in inputs.items()
    }
    terms = {"correlation": -total_correlation(z["image"], z["text"], method.config.ridge)}
    terms |= {"discrimination": 0.0, "adversary": 0.0}
    for number, rows in enumerate(z.values()):
        for scores, sides, truth in zip(run(method.classifier, rows), run(method.discriminator, rows), labels):
            terms["discrimination"] += class_loss(scores.tolist(), truth, method.multi_label) / len(labels)
            terms["adversary"] -= math.log(softmax(sides)[number]) / len(labels) / len(z)
    return terms | {"total": sum(WEIGHTS[name] * value for name, value in terms.items())}


@pytest.mark.parametrize("ridge", [1e-3, 0.3])
@pytest.mark.parametrize("kind", LABELS)
def test_each_term_and_the_total_equal_their_definitions(kind: str, ridge: float) -> None:
    method = method_of(multi_label=kind == "multi-label", ridge=ridge)
    found = values_of(terms_of(method, inputs_of("image", "text"), labels_of(kind), MOMENT))
    assert found == pytest.approx(reference(method, inputs_of("image", "text"), LABELS[kind]), rel=1e-6)


def test_the_weights_by_default_are_those_of_the_documentation() -> None:
    config = Alscor()
    assert (config.correlation, config.discrimination, config.adversary) == (0.05, 1.0, 0.1)
    assert (config.dim, config.ridge) == (40, 1e-3)
    assert config.image.dropout == config.text.dropout == 0.5  # type: ignore[attr-defined]


def test_projections_begin_as_the_papers_fully_connected_layers() -> None:
    wide: dict[str, Any] = {name: LayerTower(dim=2000) for name in TOWERS}
    for projection in build(Alscor(**wide, dim=40)).projections.children():
        assert projection.weight.std().item() == pytest.approx(0.01, rel=0.02)  # type: ignore[union-attr, operator]


EMBEDDINGS = {"projections.image", "projections.text", "towers.image", "towers.text"}


def test_each_term_teaches_the_embeddings_and_its_own_head() -> None:
    found = learners(method_of(), inputs_of("image", "text"), labels_of("single-label"), MOMENT)
    assert found == {
        "correlation": EMBEDDINGS,
        "discrimination": EMBEDDINGS | {"classifier"},
        "adversary": EMBEDDINGS | {"discriminator"},
        "total": EMBEDDINGS | {"classifier", "discriminator"},
    }


@pytest.mark.parametrize(
    "left_out", [("correlation",), ("discrimination",), ("adversary",), ("correlation", "adversary")]
)
def test_a_term_of_weight_0_is_no_part_of_the_loss(left_out: tuple[str, ...]) -> None:
    method, inputs = method_of(**dict.fromkeys(left_out, 0.0)), inputs_of("image", "text")
    terms = reference(method, inputs, LABELS["single-label"])
    expected = {name: terms[name] for name in WEIGHTS if name not in left_out}
    expected["total"] = sum(WEIGHTS[name] * value for name, value in expected.items())
    found = values_of(terms_of(method, inputs, labels_of("single-label"), MOMENT))
    assert found == pytest.approx(expected, rel=1e-6)
    assert_what_is_trained_is_reached(method, inputs, labels_of("single-label"), StepContext("training", progress=0.3))
    (stage,) = method.stages
    assert stage.is_trained("classifier.weight") == ("discrimination" not in left_out)
    assert stage.is_trained("discriminator.0.weight") == ("adversary" not in left_out)


def test_a_correlation_of_weight_0_takes_batches_smaller_than_it_could() -> None:
    """Of one pair there is no covariance."""
    rows = {name: inputs[:1] for name, inputs in inputs_of("image", "text").items()}
    with pytest.raises(ValueError, match="canonical correlation"):
        terms_of(method_of().eval(), rows, labels_of("single-label")[:1], MOMENT)
    terms_of(method_of(correlation=0.0).eval(), rows, labels_of("single-label")[:1], MOMENT)


@pytest.mark.parametrize("progress", [0.0, 0.3, 1.0])
def test_embeddings_learn_against_the_discriminator_with_the_strength_of_the_schedule(progress: float) -> None:
    """And not against the classifier: that gradient keeps its sign."""
    method, labels = method_of(), labels_of("single-label")
    leaves = {key: rows.detach().requires_grad_() for key, rows in method.represent(inputs_of("image", "text")).items()}
    terms = method.objective(leaves, labels, StepContext(progress=progress))
    z = [(rows - rows.mean(0)) / (rows.var(0, unbiased=False) + 1e-5).sqrt() for rows in leaves.values()]
    sides = torch.stack([-method.discriminator(rows).log_softmax(1)[:, i].mean() for i, rows in enumerate(z)])
    classes = [torch.nn.functional.cross_entropy(method.classifier(rows), labels.argmax(1)) for rows in z]
    strength = 2 / (1 + math.exp(-10 * progress)) - 1
    heads = list(method.discriminator.parameters())
    for term, plain, factor in (
        ("adversary", sides.mean(), -strength),
        ("discrimination", torch.stack(classes).sum(), 1.0),
    ):
        expected = torch.autograd.grad(factor * plain, list(leaves.values()), retain_graph=True)
        found = torch.autograd.grad(terms[term], list(leaves.values()), retain_graph=True)
        torch.testing.assert_close(found, expected)
    expected = torch.autograd.grad(sides.mean(), heads)
    assert any(gradient.any() for gradient in expected)
    torch.testing.assert_close(torch.autograd.grad(terms["adversary"], heads), expected)


def test_embeddings_are_standardised_by_the_running_statistics() -> None:
    method, inputs = method_of(), inputs_of("image", "text")
    with torch.no_grad():
        for norm in method.standardize.values():
            norm.running_mean.fill_(0.5)  # type: ignore[union-attr, operator]
            norm.running_var.fill_(4.0)  # type: ignore[union-attr, operator]
    method.eval()
    for name, rows in inputs.items():
        projected = run(method.projections[name], run(method.towers[name], array(rows)))
        np.testing.assert_allclose(array(method.embed(name, rows)), (projected - 0.5) / math.sqrt(4 + 1e-5), rtol=1e-9)
