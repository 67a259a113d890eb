"""Towers that learn something before they stand still."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.helpers.small_methods import DATASET, METHODS, batch
from xmr_e2e.data.inputs import Tokens
from xmr_e2e.errors import XmrError
from xmr_e2e.methods.base import Method
from xmr_e2e.methods.stages import StepContext
from xmr_e2e.methods.start import LabelLayer, WordLayer, start_layer
from xmr_e2e.towers.base import TokenFeatures
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.vector import VectorTower


def build(name: str = "dscmr", published: tuple[str, ...] = (), **options: Any) -> Method:
    torch.manual_seed(0)
    return METHODS[name](frozen=True, **options).build(replace(DATASET, published=frozenset(published))).train()


def names(method: Method) -> list[str]:
    return [stage.name for stage in method.training_stages]


def test_what_has_no_published_weights_learns_first_and_random_networks_are_asked_for_by_name() -> None:
    assert names(build()) == ["labels-image", "labels-text", "training"]
    assert names(build(published=("image",))) == ["labels-text", "training"]
    assert names(build(published=("image",), frozen_start="words")) == ["words-text", "training"]
    assert names(build(frozen_start="random")) == ["training"]
    torch.manual_seed(0)
    trained = METHODS["dscmr"](frozen=False).build(DATASET)
    assert names(trained) == ["training"] and not trained.starts


@pytest.mark.parametrize("name", [name for name in METHODS if " " not in name])
def test_every_method_begins_with_them(name: str) -> None:
    method = build(name)
    own = [stage.name for stage in method.stages]
    assert names(method) == [*(f"labels-{modality}" for modality in method.frozen), *own]
    assert method.frozen and "labels" not in own  # CCA and Corr-AE learn the labels once
    assert all(stage.select == "loss" for stage in method.training_stages[: len(method.frozen)])


def test_towers_with_weights_are_told_from_those_without() -> None:
    assert ImageTower("alexnet").has_published_weights and ImageTower("alexnet", "my.pth").has_published_weights
    assert not ImageTower("alexnet", weights="none").has_published_weights
    assert VectorTower().has_published_weights
    config = METHODS["dscmr"]()
    assert not config.published and not config.starts_from_labels
    assert METHODS["dscmr"](frozen=True).starts_from_labels
    assert not METHODS["dscmr"](frozen=True, frozen_start="words").starts_from_labels


def test_each_stage_trains_its_own_and_a_frozen_tower_only_in_its_start() -> None:
    method = build()
    trainable = {name for name, parameter in method.named_parameters() if parameter.requires_grad}
    assert not [name for name in trainable if name.startswith(("towers.", "starts."))]
    for stage in method.training_stages:
        method.set_trained(stage, trainable)
        found = {name for name, parameter in method.named_parameters() if parameter.requires_grad}
        modality = stage.name.partition("-")[2]
        own = (f"towers.{modality}.", f"starts.{modality}.")
        expected = {name for name, _ in method.named_parameters() if name.startswith(own)} if modality else trainable
        assert found == expected
        assert method.train().towers["text"].training == (stage.name == "labels-text")
    still = [method.standing_still(stage) for stage in method.training_stages]
    assert still == [(), ("image",), ("image", "text")]


def test_a_start_sends_gradients_to_its_tower_and_to_nothing_else() -> None:
    method, whole = build(), batch()
    for stage in method.training_stages[:2]:
        method.zero_grad()
        method.set_trained(stage, ())
        (modality,) = stage.modalities
        part = whole.with_inputs({modality: whole.inputs[modality]})
        terms = method(part, StepContext(stage=stage.name))
        terms["total"].backward()
        moved = {name for name, p in method.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
        assert moved and all(name.startswith((f"towers.{modality}", f"starts.{modality}")) for name in moved)
        assert set(terms) == {"labels", "total"} and torch.equal(terms["labels"], terms["total"])


def test_the_label_layer_is_a_classifier_of_the_mean_of_what_is_no_padding() -> None:
    torch.manual_seed(0)
    for multi_label in (False, True):
        layer = LabelLayer(4, 3, multi_label=multi_label)
        features, mask = torch.randn(2, 3, 4), torch.tensor([[True, False, True], [True, True, True]])
        labels = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, float(multi_label)]])
        output = TokenFeatures(features, mask, torch.zeros(2, 3, 1), None)
        found = layer.losses(layer.represent(output, None), labels)["total"].item()
        expected = 0.0
        for sample, places in enumerate([[0, 2], [0, 1, 2]]):
            mean = [sum(features[sample, place, i].item() for place in places) / len(places) for i in range(4)]
            logits = [
                sum(w * x for w, x in zip(layer.weight[c].tolist(), mean)) + layer.bias[c].item() for c in range(3)
            ]
            if multi_label:
                chances = [1 / (1 + math.exp(-logit)) for logit in logits]
                expected -= sum(math.log(p if labels[sample, c] else 1 - p) for c, p in enumerate(chances))
            else:
                total = sum(map(math.exp, logits))
                expected -= math.log(math.exp(logits[int(labels[sample].argmax())]) / total)
        assert found == pytest.approx(expected / 2, rel=1e-5)


def test_the_word_layer_says_of_each_word_whether_the_text_has_it() -> None:
    torch.manual_seed(0)
    layer, rows = WordLayer(4, 6), torch.randn(2, 4)
    tokens = Tokens(torch.tensor([[2, 5, 2, 3], [1, 4, 0, 0]]), torch.tensor([4, 2]))
    terms = layer.losses(layer.represent(rows, tokens), torch.zeros(2, 0))
    expected = 0.0
    for sample, words in enumerate([{2, 3, 5}, {1, 4}]):  # padding is no word
        for word in range(6):
            logit = layer.bias[word].item() + sum(
                w * x for w, x in zip(layer.weight[word].tolist(), rows[sample].tolist())
            )
            chance = 1 / (1 + math.exp(-logit))
            expected -= math.log(chance if word in words else 1 - chance)
    assert terms["total"].item() == pytest.approx(expected / 2, rel=1e-5)


def test_where_there_are_no_labels_texts_learn_words_and_others_are_refused() -> None:
    unlabelled = replace(DATASET, classes=0)
    layer = start_layer("labels", unlabelled, "text", "tokens", 8)
    assert isinstance(layer, WordLayer) and layer.out_features == len(DATASET.words)
    assert start_layer("random", unlabelled, "image", "pixels", 8) is None
    with pytest.raises(XmrError, match=r"image tower has no published weights and finds no labels .*start random"):
        start_layer("labels", unlabelled, "image", "pixels", 8)
    with pytest.raises(XmrError, match=r"the image tower has no published weights and reads no words.*image\.weights"):
        build(frozen_start="words")


def test_the_same_losses_for_a_text_whatever_its_padding() -> None:
    method, tokens = build().eval(), batch().inputs["text"]
    longer = Tokens(torch.cat([tokens.ids, tokens.ids.new_zeros(12, 5)], dim=1), tokens.lengths)
    found: list[Tensor] = [method.represent_stage({"text": each}, "labels-text")["logits"] for each in (tokens, longer)]
    torch.testing.assert_close(*found)
