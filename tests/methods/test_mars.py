"""MARS's stages: each loss term against loops fed with the method's own weights, and who learns from which."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

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
    run,
    softmax,
    terms_of,
    unit,
    values,
)
from xmr_e2e.errors import XmrError
from xmr_e2e.methods import mars
from xmr_e2e.methods.base import Method
from xmr_e2e.methods.mars import Mars
from xmr_e2e.methods.stages import StepContext
from xmr_e2e.objectives.orthogonal import orthogonal_prior
from xmr_e2e.towers.image import ImageTower

CONFIG = Mars(image=LayerTower(), text=LayerTower(dim=5), dim=7, classification=0.3)
EXCLUSION = {"image": 0.5, "text": 0.2}
KINDS = pytest.mark.parametrize("kind", LABELS)
MODALITIES = pytest.mark.parametrize("modality", ["image", "text"])


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mars, "HIDDEN", (9, 8))
    monkeypatch.setattr(mars, "LABEL_HIDDEN", (6, 5))


def made(kind: str = "single-label", **options: Any) -> Method:
    return build(replace(CONFIG, **options), multi_label=kind == "multi-label")


def headed(method: Any, modality: str, head: str) -> Rows:
    """The tower's layer, the encoder's two with a ReLU after each, the head's without bias, then length 1."""
    states = run(method.encoders[modality], run(method.towers[modality], array(inputs_of(modality)[modality])))
    return unit(run(getattr(method, head)[modality], states))


def pair(x: Rows, y: Rows, truth: Rows) -> float:
    """The mean over pairs of log(1 + e^t) - S t with t = 2 cos; S is 1 where any label is shared."""
    total = 0.0
    for i, j in product(range(len(truth)), repeat=2):
        t = 2 * cosine(x[i], y[j])
        total += math.log(1 + math.exp(t)) - (t if any(a * b for a, b in zip(truth[i], truth[j])) else 0)
    return total / len(truth) ** 2


def reference(method: Any, modality: str, truth: Rows) -> dict[str, float]:
    shared, exclusive = (headed(method, modality, head) for head in ("shared", "exclusive"))
    labels, prior = run(method.label_network, truth), array(method.prior)
    terms = {"correspondence": pair(labels, shared, truth), "shared": pair(shared, shared, truth)}
    if modality == "image":
        terms["labels"] = pair(labels, labels, truth)
    total = sum(terms.values())
    labeled = [i for i in range(len(truth)) if truth[i].any()]
    probabilities = {name: [softmax(row @ prior) for row in rows] for name, rows in (("s", shared), ("e", exclusive))}
    terms["classification"] = sum(
        -sum(y * math.log(p) for y, p in zip(truth[i], probabilities["s"][i])) for i in labeled
    ) / len(labeled)
    terms["exclusion"] = sum(math.log(max(probabilities["e"][i])) for i in labeled) / len(labeled)
    weight = method.config.classification
    return {**terms, "total": total + weight * terms["classification"] + EXCLUSION[modality] * terms["exclusion"]}


@KINDS
@MODALITIES
@pytest.mark.parametrize("classification", [0.3, 1.7])
def test_each_term_equals_loops_over_samples_and_pairs(kind: str, modality: str, classification: float) -> None:
    method = made(kind, classification=classification)
    found = values(terms_of(method, inputs_of(modality), labels_of(kind), StepContext(modality)))
    assert found == pytest.approx(reference(method, modality, array(labels_of(kind))), abs=1e-9)


@MODALITIES
def test_embeddings_are_those_of_the_shared_head(modality: str) -> None:
    method = made()
    found = array(method.embed(modality, inputs_of(modality)[modality]))
    np.testing.assert_allclose(found, headed(method, modality, "shared"), atol=1e-12)


@KINDS
def test_the_first_modality_teaches_the_label_network_too(kind: str) -> None:
    own = {"towers.image", "encoders.image", "shared.image"}
    assert learners(made(kind), inputs_of("image"), labels_of(kind), StepContext("image")) == {
        "correspondence": own | {"label_network"},
        "shared": own,
        "labels": {"label_network"},
        "classification": own,
        "exclusion": {"towers.image", "encoders.image", "exclusive.image"},
        "total": own | {"exclusive.image", "label_network"},
    }


@KINDS
def test_later_modalities_find_the_label_network_frozen(kind: str) -> None:
    own = {"towers.text", "encoders.text", "shared.text"}
    assert learners(made(kind), inputs_of("text"), labels_of(kind), StepContext("text")) == {
        "correspondence": own,
        "shared": own,
        "classification": own,
        "exclusion": {"towers.text", "encoders.text", "exclusive.text"},
        "total": own | {"exclusive.text"},
    }


def test_stages_are_the_modalities_and_the_last_epoch_of_each_is_kept() -> None:
    networks = ("towers", "encoders", "shared", "exclusive")
    assert [(s.name, s.modalities, s.prefixes, s.select, s.closed_form) for s in made().stages] == [
        ("image", ("image",), (*(f"{n}.image" for n in networks), "label_network"), "last", False),
        ("text", ("text",), tuple(f"{n}.text" for n in networks), "last", False),
    ]


def test_a_stages_parts_are_all_that_its_total_teaches() -> None:
    method = made()
    for stage in method.stages:
        inputs, labels, context = inputs_of(*stage.modalities), labels_of("single-label"), StepContext(stage.name)
        everything = learners(method, inputs, labels, context)["total"]
        assert everything == learners(method, inputs, labels, context, stage=stage)["total"] == set(stage.prefixes)


def test_the_classifier_is_fixed_and_drawn_with_its_seed() -> None:
    for seed in (0, 4):
        assert torch.equal(made(prior_seed=seed).get_buffer("prior"), orthogonal_prior(7, 3, seed).double())


def test_layers_are_as_released(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    method: Any = made(dim=128)

    def shapes(network: nn.Module) -> list[tuple[int, ...]]:
        return [tuple(value.shape) for name, value in network.named_parameters() if "weight" in name]

    assert shapes(method.encoders["text"]) == [(2048, 5), (1024, 2048)]
    assert [type(layer) for layer in method.encoders["text"]] == [nn.Linear, nn.ReLU] * 2
    assert shapes(method.shared["text"]) == shapes(method.exclusive["text"]) == [(128, 1024)]
    assert method.shared["text"].bias is None and method.exclusive["text"].bias is None
    assert shapes(method.label_network) == [(1024, 3), (1024, 1024), (128, 1024)]
    assert isinstance(method.label_network[-1], nn.Linear)  # its outputs are not normalised


def test_defaults_are_the_released_ones() -> None:
    config = Mars()
    assert (config.dim, config.classification, mars.EXCLUSION) == (128, 1.0, {True: 0.5, False: 0.2})
    assert isinstance(config.image, ImageTower) and config.image.name == "vgg19"


def test_more_classes_than_dimensions_are_refused() -> None:
    with pytest.raises(XmrError, match=r"--method\.dim 2 must not be below the 3 classes"):
        made(dim=2)
