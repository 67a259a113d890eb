"""Contrastive training: its terms against loops fed with the method's own weights, what learns, what is learned."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.helpers.contrastive_losses import infonce_reference, sigmoid_reference, triplet_reference
from tests.helpers.references import (
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
from xmr_e2e.data.batch import Batch
from xmr_e2e.methods.base import Method
from xmr_e2e.methods.contrastive import IDENTITY, Contrastive
from xmr_e2e.methods.stages import StepContext
from xmr_e2e.runs.experiment import Optimizer
from xmr_e2e.towers.base import DatasetInfo

CONFIG = Contrastive(image=LayerTower(), text=LayerTower(dim=5), dim=7)
LOSSES = ("infonce", "sigmoid", "triplet")
POSITIONS = [3, 8, 3, 0, 1, 8, 2]
DIFFERENT = list(range(7))
LABELS = torch.zeros(7, 0)
THREE = {"image": LayerTower(), "text": LayerTower(dim=5), "audio": LayerTower()}


def batch(method: Method, positions: list[int] = POSITIONS) -> Batch:
    inputs = inputs_of("image", "text") | {"audio": inputs_of("image")["image"].flip(0)}
    own = {name: inputs[name] for name in method.modalities}
    return Batch(own, LABELS.double(), torch.tensor(positions), tuple(map(str, positions)))


def made(**options: Any) -> Any:
    return build(replace(CONFIG, **options))


def embedded(method: Any, modality: str) -> Rows:
    return unit(run(method.heads[modality], run(method.towers[modality], array(inputs_of(modality)[modality]))))


def reference(loss: str, x: Rows, y: Rows, positions: list[int], **options: Any) -> float:
    match loss:
        case "infonce":
            return infonce_reference(x.tolist(), y.tolist(), positions, 1 / 0.07)
        case "sigmoid":
            return sigmoid_reference(x.tolist(), y.tolist(), positions, 10.0, -10.0)
        case _:
            return triplet_reference(x.tolist(), y.tolist(), positions, 0.2, options.get("hardest", True))


@pytest.mark.parametrize("hidden", [0, 9])
@pytest.mark.parametrize("loss", LOSSES)
def test_the_terms_equal_loops_and_what_is_there_twice_is_no_negative_of_itself(loss: str, hidden: int) -> None:
    method = made(loss=loss, hidden=hidden)
    x, y = embedded(method, "image"), embedded(method, "text")
    for positions in (POSITIONS, DIFFERENT):
        found = values(method(batch(method, positions)))
        expected = reference(loss, x, y, positions)
        learned = {"infonce": {"scale": 1 / 0.07}, "sigmoid": {"scale": 10.0, "bias": -10.0}, "triplet": {}}[loss]
        assert found == pytest.approx({"image_text": expected, "total": expected, **learned}, rel=1e-6)
    if loss != "triplet":  # whose hardest negatives may be others
        assert reference(loss, x, y, POSITIONS) != pytest.approx(reference(loss, x, y, DIFFERENT), rel=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_of_three_modalities_each_two_have_a_term_and_the_total_is_their_mean(loss: str) -> None:
    config = replace(CONFIG, loss=loss, **THREE)
    torch.manual_seed(0)
    dataset = DatasetInfo(0, False, 32, torch.zeros(2, 2), {"image": 5, "text": 4, "audio": 5})
    method: Any = config.build(dataset).double().train()
    whole = batch(method)
    rows = {name: unit(run(method.heads[name], run(method.towers[name], array(whole.inputs[name])))) for name in THREE}
    found = values(method(whole))
    expected = {
        f"{a}_{b}": reference(loss, rows[a], rows[b], POSITIONS)
        for a, b in (("image", "text"), ("image", "audio"), ("text", "audio"))
    }
    expected["total"] = sum(expected.values()) / 3
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-6)
    assert method.stages[0].modalities == tuple(THREE)


def test_the_representations_carry_the_samples_positions_as_they_are() -> None:
    found = made().represent_batch(batch(made()))
    assert found[IDENTITY].dtype == torch.int64
    assert found[IDENTITY].tolist() == POSITIONS


@pytest.mark.parametrize("loss", LOSSES)
def test_towers_heads_and_the_scalars_of_the_loss_learn(loss: str) -> None:
    inputs = inputs_of("image", "text")
    networks = {f"{part}.{name}" for part in ("towers", "heads") for name in ("image", "text")}
    scalars = {"infonce": {"log_scale"}, "sigmoid": {"log_scale", "bias"}, "triplet": set()}[loss]
    found = learners(made(loss=loss), inputs, LABELS)
    assert found["total"] == networks | scalars
    assert all(not found[name] for name in ("scale", "bias") if name in found)
    still = learners(made(loss=loss, learn_temperature=False), inputs, LABELS)
    assert still["total"] == networks


def test_labels_change_nothing() -> None:
    method, inputs = made(), inputs_of("image", "text")
    assert not method.config.needs_labels
    terms = [values(terms_of(method, inputs, labels)) for labels in (LABELS, labels_of("multi-label"))]
    assert terms[0] == terms[1]


@pytest.mark.parametrize(("loss", "temperature", "scale"), [("infonce", 0.5, 2.0), ("sigmoid", 0.2, 5.0)])
def test_the_temperature_begins_as_it_is_said(loss: str, temperature: float, scale: float) -> None:
    method = made(loss=loss, temperature=temperature, bias=-3.0)
    found = values(terms_of(method, inputs_of("image", "text"), LABELS))
    assert found["scale"] == pytest.approx(scale)
    assert loss == "infonce" or found["bias"] == -3.0


def test_infonce_is_never_sharper_than_a_hundred_and_finds_back() -> None:
    method = made()
    with torch.no_grad():
        method.log_scale.fill_(7.0)
    inputs = inputs_of("image", "text")
    terms = terms_of(method, inputs, LABELS)
    assert terms["scale"].item() == pytest.approx(100.0)
    terms["total"].backward()
    assert method.log_scale.item() == pytest.approx(math.log(100.0))
    assert method.log_scale.grad is not None and method.log_scale.grad > 0  # pairs that are no pairs yet: it falls
    torch.optim.SGD(method.parameters(), lr=1e-3).step()
    assert method.log_scale < math.log(100.0)
    sigmoid = made(loss="sigmoid")
    with torch.no_grad():
        sigmoid.log_scale.fill_(5.0)  # no paper bounds it
    assert terms_of(sigmoid, inputs, LABELS)["scale"].item() == pytest.approx(math.exp(5.0))


def test_all_negatives_take_part_in_the_first_epochs() -> None:
    method = made(loss="triplet", all_negatives=2, margin=0.2)
    x, y = embedded(method, "image"), embedded(method, "text")
    for epoch, hardest in ((0, False), (1, False), (2, True)):
        found = values(method(batch(method), StepContext(epoch=epoch)))
        assert found["total"] == pytest.approx(reference("triplet", x, y, POSITIONS, hardest=hardest))


def test_embeddings_have_length_one_and_are_those_of_the_objective() -> None:
    method = made(hidden=6).eval()
    rows = array(method.embed("text", inputs_of("text")["text"]))
    assert np.linalg.norm(rows, axis=1) == pytest.approx(np.ones(7))
    assert rows == pytest.approx(embedded(method, "text"))


def test_standardized_features_have_the_statistics_of_the_global_batch() -> None:
    method = made(standardize=True)
    features = run(method.towers["image"], array(inputs_of("image")["image"]))
    mean, spread = features.mean(0), np.sqrt(features.var(0) + 1e-5)
    found = values(method(batch(method)))
    text = run(method.towers["text"], array(inputs_of("text")["text"]))
    text = (text - text.mean(0)) / np.sqrt(text.var(0) + 1e-5)
    x, y = unit(run(method.heads["image"], (features - mean) / spread)), unit(run(method.heads["text"], text))
    assert found["total"] == pytest.approx(reference("infonce", x, y, POSITIONS))
    running = array(method.standardize["image"].running_mean)
    assert running == pytest.approx(0.1 * mean)


def test_dropout_leaves_out_features_in_training_alone() -> None:
    method, whole = made(dropout=0.5), batch(made())
    terms = [method(whole, StepContext(seed=seed))["total"].item() for seed in (1, 1, 2)]
    assert terms[0] == terms[1] != terms[2]
    method.eval()
    plain = made().eval()(whole)["total"].item()
    assert method(whole, StepContext(seed=1))["total"].item() == plain


def test_scalars_do_not_decay() -> None:
    method = made(loss="sigmoid")
    groups = Optimizer(lr=0.1, weight_decay=0.5).build(method, "training").param_groups
    decays = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    found = {name: decays[id(parameter)] for name, parameter in method.named_parameters()}
    assert {name for name, decay in found.items() if not decay} == {"log_scale", "bias"}
    assert {decay for name, decay in found.items() if decay} == {0.5}
    assert {group["initial_lr"] for group in groups} == {0.1}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_towers_in_half_precision_give_finite_losses_and_gradients(dtype: torch.dtype) -> None:
    for loss in LOSSES:
        method = made(loss=loss).float()
        whole = batch(method)
        whole = whole.with_inputs({name: rows.float() for name, rows in whole.inputs.items()})
        with torch.autocast("cpu", dtype):
            terms = method(whole)
        assert all(term.dtype == torch.float32 and term.isfinite() for term in terms.values())
        terms["total"].backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in method.parameters())
        expected = values(made(loss=loss)(batch(method)))
        assert terms["total"].item() == pytest.approx(expected["total"], rel=0.1)


def test_heads_are_linear_or_have_one_hidden_layer() -> None:
    shapes = [[tuple(layer.weight.shape) for layer in made(hidden=h).heads["image"] if isinstance(layer, nn.Linear)]
              for h in (0, 9)]  # fmt: skip
    assert shapes == [[(7, 6)], [(9, 6), (7, 9)]]
