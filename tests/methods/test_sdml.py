"""SDML's objective against loops fed with the method's own weights, and who learns from which."""

from __future__ import annotations

import math
from dataclasses import replace
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
    inputs_of,
    labels_of,
    learners,
    run,
    terms_of,
    unit,
    values,
)
from xmr_e2e.errors import XmrError
from xmr_e2e.methods import sdml
from xmr_e2e.methods.base import Method
from xmr_e2e.methods.sdml import Sdml
from xmr_e2e.methods.stages import StepContext
from xmr_e2e.objectives.orthogonal import orthogonal_prior
from xmr_e2e.towers.image import ImageTower

CONFIG = Sdml(image=LayerTower(), text=LayerTower(dim=5), dim=7, reconstruction=0.3)
KINDS = pytest.mark.parametrize("kind", LABELS)
MODALITIES = pytest.mark.parametrize("modality", ["image", "text"])


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sdml, "HIDDEN", (9, 8))


def made(kind: str = "single-label", **options: Any) -> Method:
    return build(replace(CONFIG, **options), multi_label=kind == "multi-label")


def features(method: Any, modality: str) -> Rows:
    return run(method.towers[modality], array(inputs_of(modality)[modality]))


def embedded(method: Any, modality: str) -> Rows:
    return unit(run(method.encoders[modality], features(method, modality)))


def reference(method: Any, modality: str, truth: Rows) -> dict[str, float]:
    """What is reconstructed and what the decoder gives have length 1; samples without labels have no label loss."""
    z = embedded(method, modality)
    decoded, targets = unit(run(method.decoders[modality], z)), unit(features(method, modality))
    projected = z @ array(method.prior)
    labeled = [i for i in range(len(truth)) if truth[i].any()]
    terms = {
        "reconstruction": sum(math.dist(a, b) for a, b in zip(decoded, targets)) / len(truth),
        "label": sum(math.dist(projected[i], truth[i]) for i in labeled) / len(labeled),
    }
    share = method.config.reconstruction
    return {**terms, "total": share * terms["reconstruction"] + (1 - share) * terms["label"]}


@KINDS
@MODALITIES
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_each_term_equals_loops_over_samples(kind: str, modality: str, share: float) -> None:
    method = made(kind, reconstruction=share)
    found = values(terms_of(method, inputs_of(modality), labels_of(kind), StepContext(modality)))
    assert found == pytest.approx(reference(method, modality, array(labels_of(kind))), abs=1e-9)


@MODALITIES
def test_embeddings_are_the_encoders_outputs_of_length_1(modality: str) -> None:
    method = made()
    found = array(method.embed(modality, inputs_of(modality)[modality]))
    np.testing.assert_allclose(found, embedded(method, modality), atol=1e-12)


@KINDS
@MODALITIES
def test_the_labels_teach_no_decoder(kind: str, modality: str) -> None:
    own = {f"towers.{modality}", f"encoders.{modality}"}
    decoder = {f"decoders.{modality}"}
    assert learners(made(kind), inputs_of(modality), labels_of(kind), StepContext(modality)) == {
        "reconstruction": own | decoder,
        "label": own,
        "total": own | decoder,
    }


def test_a_tower_learns_nothing_from_being_the_target() -> None:
    """With the encoder blind to its features, the reconstruction has no way left into the tower."""
    method: Any = made()
    with torch.no_grad():
        method.encoders["image"][0].weight.zero_()
    found = learners(method, inputs_of("image"), labels_of("single-label"), StepContext("image"))
    assert "towers.image" not in found["reconstruction"]
    assert "decoders.image" in found["reconstruction"]


def test_stages_are_the_modalities_each_kept_by_its_loss() -> None:
    assert [(s.name, s.modalities, s.prefixes, s.select, s.closed_form) for s in made().stages] == [
        (name, (name,), (f"towers.{name}", f"encoders.{name}", f"decoders.{name}"), "loss", False)
        for name in ("image", "text")
    ]


def test_the_projection_of_labels_is_fixed_and_drawn_with_its_seed() -> None:
    for seed in (0, 4):
        assert torch.equal(made(prior_seed=seed).get_buffer("prior"), orthogonal_prior(7, 3, seed).double())


def test_layers_are_as_released(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    method: Any = made(dim=512)

    def shapes(network: nn.Module) -> list[tuple[int, ...]]:
        return [tuple(value.shape) for name, value in network.named_parameters() if "weight" in name]

    assert shapes(method.encoders["text"]) == [(1024, 5), (1024, 1024), (512, 1024)]
    assert shapes(method.decoders["text"]) == [(1024, 512), (1024, 1024), (5, 1024)]
    assert [type(layer) for layer in method.encoders["text"]] == [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear]


def test_defaults_are_the_released_ones() -> None:
    config = Sdml()
    assert (config.dim, config.reconstruction) == (512, 0.5)
    assert isinstance(config.image, ImageTower) and config.image.name == "vgg19" and config.image.dropout == 0


def test_more_classes_than_dimensions_are_refused() -> None:
    with pytest.raises(XmrError, match=r"--method\.dim 2 must not be below the 3 classes"):
        made(dim=2)
