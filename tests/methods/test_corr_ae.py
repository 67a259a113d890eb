"""Corr-AE's objective in both stages against loops over pairs, what learns in each, and towers that stand still."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import xmr_e2e
from tests.helpers.references import (
    LABELS,
    LayerTower,
    Rows,
    array,
    build,
    inputs_of,
    labels_of,
    run,
    softmax,
    terms_of,
)
from tests.helpers.references import values as values_of
from xmr_e2e.data.config import Data
from xmr_e2e.data.inputs import Tokens
from xmr_e2e.data.vectors import WordVectors
from xmr_e2e.methods.base import Method, MethodConfig
from xmr_e2e.methods.corr_ae import CorrAe, CorrAeModel
from xmr_e2e.methods.drcl import Drcl
from xmr_e2e.methods.mars import Mars
from xmr_e2e.methods.sdml import Sdml
from xmr_e2e.methods.stages import Stage, StepContext
from xmr_e2e.runs.experiment import Experiment, Optimizer, Train
from xmr_e2e.towers.base import DatasetInfo
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.text import TextCnn
from xmr_e2e.training.launch import run_experiment
from xmr_e2e.training.processes import make_accelerator

TOWERS: dict[str, Any] = {"image": LayerTower(dim=6), "text": LayerTower(dim=7)}
DECODED = {
    "plain": [("image", "image"), ("text", "text")],
    "cross": [("text", "image"), ("image", "text")],
    "full": [("image", "image"), ("text", "image"), ("image", "text"), ("text", "text")],
}
"""from whose hidden layer whose input is decoded"""


def method_of(variant: str = "plain", *, multi_label: bool = False, correlation: float = 0.3) -> CorrAeModel:
    config = CorrAe(**TOWERS, dim=5, variant=variant, correlation=correlation)  # type: ignore[arg-type]
    method = build(config, multi_label=multi_label)
    assert isinstance(method, CorrAeModel)
    return method


def squared_distance(x: Rows, y: Rows) -> float:
    """Mean over pairs of the sum over dimensions."""
    return sum((a - b) ** 2 for p, q in zip(x, y) for a, b in zip(p, q)) / len(x)


def features_of(method: CorrAeModel, inputs: Mapping[str, Tensor]) -> dict[str, Rows]:
    return {name: run(method.towers[name], array(rows)) for name, rows in inputs.items()}


@pytest.mark.parametrize("kind", LABELS)
def test_the_first_stage_is_each_modalitys_cross_entropy_of_the_classes(kind: str) -> None:
    method, inputs = method_of(multi_label=kind == "multi-label"), inputs_of("image", "text")
    expected = {}
    for name, rows in features_of(method, inputs).items():
        expected[name] = 0.0
        for scores, truth in zip(run(method.classifiers[name], rows), LABELS[kind]):
            if method.multi_label:
                made = [1 / (1 + math.exp(-score)) for score in scores]
                loss = -sum(math.log(p if relevant else 1 - p) for p, relevant in zip(made, truth))
            else:
                loss = -math.log(softmax(scores)[truth.index(1)])
            expected[name] += loss / len(rows)
    expected["total"] = expected["image"] + expected["text"]
    found = values_of(terms_of(method, inputs, labels_of(kind), StepContext(stage="labels")))
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("correlation", [0.3, 0.8])
@pytest.mark.parametrize("variant", DECODED)
def test_the_second_stage_weighs_reconstructions_against_the_distance_of_hidden_layers(
    variant: str, correlation: float
) -> None:
    method, inputs = method_of(variant, correlation=correlation), inputs_of("image", "text")
    x = {name: (f - f.mean(0)) / np.sqrt(f.var(0) + 1e-5) for name, f in features_of(method, inputs).items()}
    hidden = {name: 1 / (1 + np.exp(-run(method.encoders[name], rows))) for name, rows in x.items()}
    expected = {"image": 0.0, "text": 0.0}
    for source, target in DECODED[variant]:
        expected[target] += squared_distance(run(method.decoders[f"{source}_{target}"], hidden[source]), x[target])
    expected["correlation"] = squared_distance(hidden["image"], hidden["text"])
    reconstruction = expected["image"] + expected["text"]
    expected["total"] = (1 - correlation) * reconstruction + correlation * expected["correlation"]
    found = values_of(terms_of(method, inputs, labels_of("single-label"), StepContext(stage="autoencoders")))
    assert found == pytest.approx(expected, rel=1e-9)


def learners(method: CorrAeModel, stage: Stage) -> dict[str, set[str]]:
    """Term -> first two parts of the names of those that the stage moves and that the term teaches."""
    found: dict[str, set[str]] = {}
    enter(method, stage)
    inputs, context = inputs_of("image", "text"), StepContext(stage=stage.name)
    for term in terms_of(method, inputs, labels_of("single-label"), context):
        method.zero_grad()
        terms_of(method, inputs, labels_of("single-label"), context)[term].backward()
        learned = [name for name, parameter in method.named_parameters() if parameter.grad is not None]
        found[term] = {".".join(name.split(".")[:2]) for name in learned}
    return found


@pytest.mark.parametrize("variant", DECODED)
def test_each_stage_and_term_teaches_its_own_networks(variant: str) -> None:
    method = method_of(variant)
    labels, autoencoders = method.stages
    own = {name: {f"towers.{name}", f"classifiers.{name}"} for name in TOWERS}
    assert learners(method, labels) == own | {"total": own["image"] | own["text"]}
    encoders = {"encoders.image", "encoders.text"}
    of_target: dict[str, set[str]] = {
        name: {f"{kind}.{source}{end}" for source, target in DECODED[variant] if target == name
               for kind, end in (("encoders", ""), ("decoders", f"_{name}"))}
        for name in TOWERS
    }  # fmt: skip
    total = of_target["image"] | of_target["text"] | encoders
    assert learners(method, autoencoders) == of_target | {"correlation": encoders, "total": total}


def test_the_defaults_are_those_of_the_documentation() -> None:
    assert (CorrAe().correlation, CorrAe().dim, CorrAe().variant) == (0.8, 1024, "plain")
    assert CorrAe().image.dropout == CorrAe().text.dropout == 0  # type: ignore[attr-defined]


# ---- towers that stand still

IMAGE = ImageTower("resnet10_slim", weights="none")
TEXT = TextCnn(kernels=8, dropout=0.5)
STAGED: dict[str, tuple[MethodConfig, str, set[str]]] = {
    "corr_ae 1": (CorrAe(image=IMAGE, text=TEXT, dim=8), "labels", {"image", "text"}),
    "corr_ae 2": (CorrAe(image=IMAGE, text=TEXT, dim=8), "autoencoders", set()),
    "sdml": (Sdml(image=IMAGE, text=TEXT, dim=8), "text", {"text"}),
    "mars": (Mars(image=IMAGE, text=TEXT, dim=8), "image", {"image"}),
    "drcl": (Drcl(image=IMAGE, text=TEXT, hidden=16, dim=8), "consistency-text", {"text"}),
    "frozen": (CorrAe(image=IMAGE, text=TEXT, dim=8, frozen=True), "autoencoders", set()),
}
"""method, stage, and the modalities whose towers move in it"""


def enter(method: Method, stage: Stage) -> None:
    """As the trainer begins a stage."""
    trainable = {name for name, parameter in method.named_parameters() if not name.startswith(_frozen(method))}
    for name, parameter in method.named_parameters():
        parameter.requires_grad_(stage.is_trained(name) and name in trainable)
    method.train()


def _frozen(method: Method) -> tuple[str, ...]:
    return tuple(f"towers.{name}." for name in method.frozen)


@pytest.mark.parametrize("name", STAGED)
def test_towers_that_stand_still_in_a_stage_have_neither_dropout_nor_moving_statistics(name: str) -> None:
    config, chosen, moving = STAGED[name]
    torch.manual_seed(0)
    method = config.build(DatasetInfo(classes=3, multi_label=False, image_size=32, words=torch.randn(20, 6)))
    enter(method, next(stage for stage in method.stages if stage.name == chosen))
    assert method.training
    ids = torch.randint(2, 20, (6, 5))
    inputs: dict[str, Any] = {"image": torch.randn(6, 3, 32, 32), "text": Tokens(ids, torch.full((6,), 5))}
    for modality, rows in inputs.items():
        tower = method.towers[modality]
        assert {module.training for module in tower.modules()} == {modality in moving}
        before = {key: buffer.clone() for key, buffer in tower.named_buffers()}
        with torch.no_grad():
            one, two = tower(rows), tower(rows)
        moved = [key for key, buffer in tower.named_buffers() if not torch.equal(buffer, before[key])]
        if modality not in moving:
            assert torch.equal(one, two) and not moved
        elif modality == "text":
            assert not torch.equal(one, two)
        else:
            assert any("running_mean" in key for key in moved)
    # The next stage may train them again.
    for parameter in method.parameters():
        parameter.requires_grad_(True)
    assert all(module.training for module in method.train().modules())


@pytest.mark.slow
def test_towers_end_the_second_stage_as_they_began_it(
    tiny_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: dict[str, dict[str, Tensor]] = {}

    def begin_stage(method: CorrAeModel, stage: Stage) -> None:
        begun[stage.name] = {name: value.clone() for name, value in method.towers.state_dict().items()}

    monkeypatch.setattr(CorrAeModel, "begin_stage", begin_stage)
    monkeypatch.setattr("xmr_e2e.runs.evaluate.draw", lambda *_, **__: None)  # the report
    experiment = Experiment(
        name="tiny",
        data=Data(tiny_shards, image_size=32, load_size=32, words=WordVectors(dim=6), workers=0),
        method=CorrAe(image=IMAGE, text=TEXT, dim=8),
        optimizer=Optimizer(lr=3e-3),
        train=Train(epochs=1, batch_size=20, runs=tmp_path, report=False),
    )
    assert run_experiment(experiment, make_accelerator(experiment.train)) == 0
    (run_folder,) = (tmp_path / "tiny").iterdir()
    ended = xmr_e2e.load(run_folder).method.towers.state_dict()
    assert list(begun) == ["labels", "autoencoders"]
    assert all(torch.equal(value, ended[name]) for name, value in begun["autoencoders"].items())
    changed = {name for name, value in begun["labels"].items() if not torch.equal(value, ended[name])}
    assert {name.split(".")[0] for name in changed} == {"image", "text"}
    assert any("running_mean" in name for name in changed)
