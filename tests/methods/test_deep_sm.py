"""Deep-SM's objective and embeddings against their definitions, and what learns from which term."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from tests.helpers.references import (
    LABELS,
    LayerTower,
    array,
    build,
    inputs_of,
    labels_of,
    learners,
    run,
    softmax,
    terms_of,
)
from tests.helpers.references import values as values_of
from xmr_e2e.methods.deep_sm import DeepSm

TOWERS: dict[str, Any] = {"image": LayerTower(dim=6), "text": LayerTower(dim=7)}


def probabilities(scores: list[float], multi_label: bool) -> list[float]:
    return [1 / (1 + math.exp(-score)) for score in scores] if multi_label else softmax(scores)


@pytest.mark.parametrize("kind", LABELS)
def test_terms_are_cross_entropies_and_embeddings_probabilities(kind: str) -> None:
    multi_label = kind == "multi-label"
    method, inputs = build(DeepSm(**TOWERS), multi_label=multi_label), inputs_of("image", "text")
    expected = dict.fromkeys(inputs, 0.0)
    for name, rows in inputs.items():
        logits = run(method.classifiers[name], run(method.towers[name], array(rows)))  # type: ignore[index]
        made = [probabilities(row.tolist(), multi_label) for row in logits]
        np.testing.assert_allclose(array(method.embed(name, rows)), made, rtol=1e-6)
        for row, truth in zip(made, LABELS[kind]):
            for p, relevant in zip(row, truth):
                if relevant or multi_label:
                    expected[name] -= math.log(p if relevant else 1 - p) / len(made)
    expected["total"] = expected["image"] + expected["text"]
    assert values_of(terms_of(method, inputs, labels_of(kind))) == pytest.approx(expected, rel=1e-9)


def test_each_modality_learns_by_itself() -> None:
    found = learners(build(DeepSm(**TOWERS)), inputs_of("image", "text"), labels_of("single-label"))
    own = {name: {f"classifiers.{name}", f"towers.{name}"} for name in TOWERS}
    assert found == own | {"total": own["image"] | own["text"]}


def test_its_networks_drop_half_as_they_were_published() -> None:
    config = DeepSm()
    assert config.image.dropout == config.text.dropout == 0.5  # type: ignore[attr-defined]


def test_a_hidden_layer_of_the_classifiers_is_an_option() -> None:
    """With towers that stand still, a probe of two layers."""
    method = build(DeepSm(**TOWERS, hidden=9, frozen=True, frozen_start="random"))
    for name, rows in inputs_of("image", "text").items():
        first, _, second = method.classifiers[name]  # type: ignore[union-attr, index]
        assert (first.out_features, second.out_features) == (9, 3)
        hidden = np.maximum(run(first, run(method.towers[name], array(rows))), 0)
        made = [softmax(row.tolist()) for row in run(second, hidden)]
        np.testing.assert_allclose(array(method.embed(name, rows)), made, rtol=1e-6)
    taught = learners(method, inputs_of("image", "text"), labels_of("single-label"))["total"]
    assert taught == {"classifiers.image", "classifiers.text"}
