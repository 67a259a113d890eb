"""ACMR's objective, from features to the total, against loops over triplets, and what learns from which term."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.helpers.references import (
    LABELS,
    LayerTower,
    Rows,
    array,
    build,
    cosine,
    inputs_of,
    labels_of,
    learners,
    softmax,
    terms_of,
)
from tests.helpers.references import values as values_of
from xmr_e2e.methods.acmr import Acmr, AcmrModel
from xmr_e2e.methods.stages import StepContext

WEIGHTS = {"label": 1.7, "attract": 0.6, "repel": 0.4, "margin": 2.9}
MOMENT = StepContext(progress=0.3)
TOWERS: dict[str, Any] = {"image": LayerTower(dim=6), "text": LayerTower(dim=7)}
CHOICES = ("paper", "released")


def method_of(*, multi_label: bool = False, **options: Any) -> AcmrModel:
    method = build(Acmr(**TOWERS, dim=8, **(WEIGHTS | options)), multi_label=multi_label)
    assert isinstance(method, AcmrModel)
    with torch.no_grad():
        for layer in method.modules():
            if isinstance(layer, nn.Linear):
                layer.weight *= 3  # so that distances lie on both sides of the margin
    return method


def apply(network: nn.Module, rows: Rows) -> Rows:
    for layer in network if isinstance(network, nn.Sequential) else [network]:
        if isinstance(layer, nn.Linear):
            rows = rows @ array(layer.weight).T + array(layer.bias)
        else:
            rows = np.tanh(rows) if isinstance(layer, nn.Tanh) else np.maximum(rows, 0)
    return rows


def hardest(i: int, features: Rows, labels: list[list[int]]) -> int | None:
    """Of the samples without a label in common, the one of largest cosine."""
    others = [j for j, truth in enumerate(labels) if j != i and not any(a and b for a, b in zip(truth, labels[i]))]
    return max(others, key=lambda j: cosine(features[i], features[j]), default=None)


def triplets(kind: str, anchors: Rows, others: Rows, negatives: list[int | None]) -> tuple[float, list[float]]:
    """The loss, and the hinges that it has."""
    near = [math.dist(a, b) for a, b in zip(anchors, others)]
    far = [None if k is None else math.dist(anchors[i], others[k]) for i, k in enumerate(negatives)]
    attract, repel, margin = (WEIGHTS[name] for name in ("attract", "repel", "margin"))
    if kind == "released":
        pull, push = sum(d**2 for d in near) / 2, sum(d**2 for d in far if d is not None) / 2
        hinge = margin + attract * pull - repel * push
        return max(0.0, hinge), [hinge]
    hinges = [margin - d for d in far if d is not None]
    return (attract * sum(near) + repel * sum(max(0.0, hinge) for hinge in hinges)) / len(near), hinges


def class_loss(scores: list[float], truth: list[int], multi_label: bool) -> float:
    if not multi_label:
        return -math.log(softmax(scores)[truth.index(1)])
    probabilities = [1 / (1 + math.exp(-score)) for score in scores]
    return -sum(math.log(p if relevant else 1 - p) for p, relevant in zip(probabilities, truth))


def reference(method: AcmrModel, inputs: Mapping[str, Tensor], labels: list[list[int]]) -> dict[str, float]:
    features = {name: apply(method.towers[name], array(rows)) for name, rows in inputs.items()}
    z = {name: apply(method.projections[name], rows) for name, rows in features.items()}
    terms, hinges = {"label": 0.0, "triplet": 0.0, "adversary": 0.0}, []
    for number, (name, other) in enumerate((("image", "text"), ("text", "image"))):
        for scores, sides, truth in zip(
            apply(method.classifier, z[name]), apply(method.discriminator, z[name]), labels
        ):
            terms["label"] += class_loss(scores.tolist(), truth, method.multi_label) / len(labels)
            terms["adversary"] -= math.log(softmax(sides)[number]) / len(labels)
        negatives = [hardest(i, features[name], labels) for i in range(len(labels))]
        loss, found = triplets(method.config.triplets, z[name], z[other], negatives)
        terms["triplet"] += loss
        hinges += found
    # Hinges of both kinds, or one could not tell a hinge from a difference.
    assert max(hinges) > 0 and (method.config.triplets == "released" or min(hinges) < 0)
    return terms | {"total": WEIGHTS["label"] * terms["label"] + terms["triplet"] + terms["adversary"]}


@pytest.mark.parametrize(("triplets", "adversary"), list(product(CHOICES, CHOICES)))
@pytest.mark.parametrize("kind", LABELS)
def test_each_term_and_the_total_equal_loops_over_triplets(kind: str, triplets: str, adversary: str) -> None:
    method = method_of(multi_label=kind == "multi-label", triplets=triplets, adversary=adversary)
    found = values_of(terms_of(method, inputs_of("image", "text"), labels_of(kind), MOMENT))
    assert found == pytest.approx(reference(method, inputs_of("image", "text"), LABELS[kind]), rel=1e-9)


def test_the_weights_by_default_are_those_of_the_documentation() -> None:
    config = Acmr()
    assert (config.label, config.attract, config.repel, config.margin, config.dim) == (1.0, 1.0, 0.2, 1.0, 40)
    assert (config.triplets, config.adversary) == ("paper", "paper")
    assert config.image.dropout == config.text.dropout == 0  # type: ignore[attr-defined]


EMBEDDINGS = {"projections.image", "projections.text", "towers.image", "towers.text"}


@pytest.mark.parametrize("triplets", CHOICES)
@pytest.mark.parametrize(
    ("adversary", "of_label", "of_adversary"),
    [
        ("paper", EMBEDDINGS | {"classifier"}, EMBEDDINGS | {"discriminator"}),
        ("released", EMBEDDINGS, {"discriminator"}),
    ],
)
def test_as_released_the_classifier_stays_and_the_embeddings_never_feel_the_discriminator(
    adversary: str, of_label: set[str], of_adversary: set[str], triplets: str
) -> None:
    method = method_of(triplets=triplets, adversary=adversary)
    found = learners(method, inputs_of("image", "text"), labels_of("single-label"), MOMENT)
    total = of_label | of_adversary
    assert found == {"label": of_label, "triplet": EMBEDDINGS, "adversary": of_adversary, "total": total}


@pytest.mark.parametrize("progress", [0.0, 0.3, 1.0])
def test_embeddings_learn_against_the_discriminator_with_the_strength_of_the_schedule(progress: float) -> None:
    method = method_of()
    leaves = {key: rows.detach().requires_grad_() for key, rows in method.represent(inputs_of("image", "text")).items()}
    found = method.objective(leaves, labels_of("single-label"), StepContext(progress=progress))["adversary"]
    rows, heads = [leaves["image"], leaves["text"]], list(method.discriminator.parameters())
    plain = torch.stack([-method.discriminator(z).log_softmax(1)[:, i].mean() for i, z in enumerate(rows)]).sum()
    strength = 2 / (1 + math.exp(-10 * progress)) - 1
    expected = torch.autograd.grad(-strength * plain, rows, retain_graph=True)
    torch.testing.assert_close(torch.autograd.grad(found, rows, retain_graph=True), expected)
    torch.testing.assert_close(torch.autograd.grad(found, heads), torch.autograd.grad(plain, heads))


def test_triplets_are_chosen_by_the_features_without_a_gradient_to_them() -> None:
    method = method_of()
    leaves = {key: rows.detach().requires_grad_() for key, rows in method.represent(inputs_of("image", "text")).items()}
    method.objective(leaves, labels_of("single-label"), MOMENT)["total"].backward()
    assert {key for key, rows in leaves.items() if rows.grad is None} == {"image features", "text features"}
