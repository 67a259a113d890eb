"""DSCMR's objective in each of its readings, against loops fed with the method's own weights; who learns from what."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from tests.helpers.references import (
    LABELS,
    LayerTower,
    Rows,
    array,
    assert_what_is_trained_is_reached,
    build,
    cosine,
    inputs_of,
    labels_of,
    learners,
    run,
    terms_of,
    values,
)
from xmr_e2e.errors import XmrError
from xmr_e2e.methods.base import Method
from xmr_e2e.methods.dscmr import Dscmr
from xmr_e2e.methods.stages import Stage
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.text import TextCnn

CONFIG = Dscmr(image=LayerTower(), text=LayerTower(dim=5), hidden=9, dim=8, common=0.3, invariance=0.7, ridge=0.2)
INPUTS = inputs_of("image", "text")
KINDS = pytest.mark.parametrize("kind", LABELS)
HEADS = {f"{part}.{modality}" for part, modality in product(("towers", "own"), INPUTS)} | {"shared"}


def made(kind: str = "single-label", **options: Any) -> Method:
    return build(replace(CONFIG, **options), multi_label=kind == "multi-label")


def embedded(method: Any, modality: str) -> Rows:
    """The tower's layer, the modality's own with a ReLU, the shared one, and a ReLU behind it if it is asked for."""
    states = run(method.own[modality], run(method.towers[modality], array(INPUTS[modality])))
    common = run(method.shared, np.maximum(states, 0))
    return np.maximum(common, 0) if method.config.activation == "relu" else common


def size(residuals: Rows, norm: str) -> float:
    squares = [sum(value**2 for value in row) for row in residuals]
    return (
        math.sqrt(sum(squares)) / len(squares) if norm == "frobenius" else sum(map(math.sqrt, squares)) / len(squares)
    )


def least_squares(u: Rows, v: Rows, y: Rows, ridge: float) -> Rows:
    """Algorithm 1, line 7, whose U and V have samples as columns."""
    estimate = lambda x: np.linalg.inv(x.T @ x + ridge * np.eye(x.shape[1])) @ x.T @ y  # noqa: E731
    return np.asarray(estimate(u) + estimate(v))


def reference(method: Any, truth: Rows) -> dict[str, float]:
    """Eq. 1-5."""
    config = method.config
    u, v = (embedded(method, modality) for modality in ("image", "text"))
    if config.classifier == "learned":
        guesses = [run(method.classifier, rows) for rows in (u, v)]
    else:
        guesses = [rows @ least_squares(u, v, truth, config.ridge) for rows in (u, v)]
    common = 0.0
    for x, y in ((u, u), (u, v), (v, v)):
        for i, j in product(range(len(truth)), repeat=2):
            shared = sum(a * b for a, b in zip(truth[i], truth[j]))
            theta = cosine(x[i], y[j]) / 2
            common += math.log(1 + math.exp(theta)) - (shared if config.similar == "count" else min(shared, 1)) * theta
    terms = {
        "label": sum(size(guess - truth, config.norm) for guess in guesses),
        "common": common / len(truth) ** 2,
        "invariance": size(u - v, config.norm),
    }
    return {**terms, "total": terms["label"] + 0.3 * terms["common"] + 0.7 * terms["invariance"]}


@KINDS
@pytest.mark.parametrize("norm", ["rows", "frobenius"])
@pytest.mark.parametrize("similar", ["indicator", "count"])
@pytest.mark.parametrize("activation", ["linear", "relu"])
@pytest.mark.parametrize("classifier", ["learned", "closed_form"])
def test_each_term_equals_loops_over_samples_and_pairs(
    kind: str, norm: str, similar: str, activation: str, classifier: str
) -> None:
    method = made(kind, norm=norm, similar=similar, activation=activation, classifier=classifier)
    found = values(terms_of(method, INPUTS, labels_of(kind)))
    assert found == pytest.approx(reference(method, array(labels_of(kind))), abs=1e-9)


def test_the_ridge_reaches_the_closed_form() -> None:
    """Where samples are fewer than dimensions, it alone decides what the labels' loss is."""
    labels = labels_of("single-label")
    losses = []
    for ridge in (0.2, 0.9):
        method = made(classifier="closed_form", ridge=ridge)
        losses.append(terms_of(method, INPUTS, labels)["label"].item())
        assert losses[-1] == pytest.approx(reference(method, array(labels))["label"], abs=1e-9)
    assert abs(losses[0] - losses[1]) > 1e-3


@pytest.mark.parametrize("activation", ["linear", "relu"])
@pytest.mark.parametrize("modality", INPUTS)
def test_embeddings_are_the_shared_layers_outputs(activation: str, modality: str) -> None:
    method = made(activation=activation)
    expected = embedded(method, modality)
    assert (expected < 0).any() == (activation == "linear")
    np.testing.assert_allclose(array(method.embed(modality, INPUTS[modality])), expected, atol=1e-12)


@KINDS
@pytest.mark.parametrize("norm", ["rows", "frobenius"])
@pytest.mark.parametrize("classifier", ["learned", "closed_form"])
def test_each_term_teaches_the_networks_before_it_and_the_labels_alone_the_classifier(
    kind: str, norm: str, classifier: str
) -> None:
    method = made(kind, norm=norm, classifier=classifier)
    learned = {"classifier"} if classifier == "learned" else set()
    assert learners(method, INPUTS, labels_of(kind)) == {
        "label": HEADS | learned,
        "common": HEADS,
        "invariance": HEADS,
        "total": HEADS | learned,
    }
    assert hasattr(method, "classifier") == (classifier == "learned")  # nothing is saved that nobody uses


WEIGHTS = {"label": 1.0, "common": 0.3, "invariance": 0.7}
VARIATIONS: dict[str, dict[str, float]] = {
    "DSCMR1": {"label": 0.0},
    "DSCMR2": {"common": 0.0},
    "DSCMR3": {"invariance": 0.0},
    "DSCMR4": {"common": 0.0, "invariance": 0.0},
    "another weight of J1": {"label": 2.5},
}
"""of the paper's Tables 6 and 7"""


@pytest.mark.parametrize("classifier", ["learned", "closed_form"])
@pytest.mark.parametrize("name", VARIATIONS)
def test_a_term_of_weight_0_is_no_part_of_the_loss(name: str, classifier: str) -> None:
    method = made(classifier=classifier, **VARIATIONS[name])
    weights = {term: weight for term, weight in (WEIGHTS | VARIATIONS[name]).items() if weight}
    terms = reference(method, array(labels_of("single-label")))
    expected = {term: terms[term] for term in weights}
    expected["total"] = sum(weight * terms[term] for term, weight in weights.items())
    assert values(terms_of(method, INPUTS, labels_of("single-label"))) == pytest.approx(expected, abs=1e-9)
    assert_what_is_trained_is_reached(method, INPUTS, labels_of("single-label"))


def test_without_j1_the_classifier_is_not_asked_and_stands_still() -> None:
    method: Any = made(label=0.0)
    with torch.no_grad():
        method.classifier.weight.fill_(float("nan"))
    assert all(value.isfinite() for value in terms_of(method, INPUTS, labels_of("single-label")).values())
    (stage,) = method.stages
    assert not stage.is_trained("classifier.weight") and stage.is_trained("shared.weight")
    assert "classifier.weight" in method.state_dict()  # as in models that had it from before


def test_a_loss_without_terms_is_refused() -> None:
    with pytest.raises(XmrError, match=r"--method\.label, --method\.common, --method\.invariance: all are 0"):
        made(label=0.0, common=0.0, invariance=0.0)


def test_the_classifier_in_closed_form_is_a_constant_of_the_step() -> None:
    """The paper updates it and the networks in turns: no gradient goes through the inverse."""
    method = made(classifier="closed_form")
    truth = labels_of("single-label")
    method.zero_grad()
    terms_of(method, INPUTS, truth)["label"].backward()
    found = array(method.shared.bias.grad)  # type: ignore[union-attr, arg-type]
    u, v = (embedded(method, modality) for modality in ("image", "text"))
    fixed = least_squares(u, v, array(truth), 0.2)
    expected = np.zeros(8)
    for rows in (u, v):
        residuals = rows @ fixed - array(truth)
        for row in residuals:
            expected += fixed @ row / math.sqrt(sum(value**2 for value in row)) / len(truth)
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_there_is_one_stage_on_pairs_that_moves_all_and_is_kept_by_a_figure() -> None:
    assert made().stages == (Stage("training", ("image", "text"), (), "metric"),)


def test_both_modalities_share_a_layer_and_a_classifier_with_biases() -> None:
    shapes = {name: tuple(value.shape) for name, value in made().state_dict().items() if not name.startswith("towers")}
    assert shapes == {
        "own.image.weight": (9, 6),
        "own.image.bias": (9,),
        "own.text.weight": (9, 5),
        "own.text.bias": (9,),
        "shared.weight": (8, 9),
        "shared.bias": (8,),
        "classifier.weight": (3, 8),
        "classifier.bias": (3,),
    }


def test_defaults_are_the_released_ones() -> None:
    config = Dscmr()
    assert (config.hidden, config.dim, config.label, config.common, config.invariance) == (2048, 1024, 1, 1e-3, 1e-1)
    readings = (config.norm, config.similar, config.activation, config.classifier, config.ridge)
    assert readings == ("rows", "indicator", "linear", "learned", 1e-3)
    assert config.image == ImageTower("vgg19", "imagenet", dropout=0.0) and config.text == TextCnn(dropout=0.0)
