"""Protocols by name, and what they measure, against explicit loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tests.helpers.embedded import embedded_split
from xmr_e2e.errors import XmrError
from xmr_e2e.evaluation.by_protocol import concat, evaluate_protocol, first_samples, select_samples
from xmr_e2e.evaluation.directions import all_directions
from xmr_e2e.evaluation.embedded import EmbeddedSplit
from xmr_e2e.evaluation.protocol import fold_numbers
from xmr_e2e.methods.protocols import protocol, protocol_names
from xmr_e2e.runs.experiment import Train

# ---- names


def test_each_name_has_its_protocol_and_says_what_is_different() -> None:
    for name in protocol_names():
        chosen = protocol(name)
        differences = chosen.record(chosen.selected_on, "test").differences
        assert chosen.name == name
        assert bool(differences) == (name != "clean")
        assert all(sentence[0].isupper() and sentence.endswith(".") for sentence in differences)
    assert any("gallery" in line for line in protocol("clean").record("val", "test+train").differences)


@pytest.mark.parametrize("name", ["released:alscor", "released:sdcmr"])
def test_papers_without_code_have_no_released_protocol(name: str) -> None:
    with pytest.raises(XmrError, match=r"published no code, so there is no script to follow.*released:dscmr"):
        protocol(name)


def test_an_unknown_name_is_refused_with_all_names_where_the_options_are_read() -> None:
    with pytest.raises(XmrError, match=r"'released:dscrm': unknown.*clean, captions, coco5k, coco1k, released:acmr"):
        Train(protocol="released:dscrm")


def test_a_run_that_was_selected_otherwise_is_not_given_out_for_the_scripts() -> None:
    (first, *_) = protocol("released:dscmr").differences("val")
    assert first == "The epoch was not selected as released:dscmr has it, but on the validation split."
    assert protocol("clean").differences("nothing")[0].endswith("but on nothing: it is the last.")


# ---- measuring


def random_set(samples: int, captions: int, *, seed: int = 0) -> EmbeddedSplit:
    rng = np.random.default_rng(seed)
    rows = {"image": rng.normal(size=(samples, 4)), "text": rng.normal(size=(samples * captions, 4))}
    places = {"image": np.arange(samples), "text": np.repeat(np.arange(samples), captions)}
    labels = (rng.random((samples, 3)) < 0.5).astype(float)
    labels[:, 0] = 1 - labels[:, 1:].max(1)
    return embedded_split(rows, labels, positions=places)


def test_cocos_discount_is_that_of_the_released_script_from_text_to_image_alone() -> None:
    """Each query's DCG in a loop: rank r and caption i from 0, gain the labels in common, plain dot products."""
    split = random_set(7, 5)
    found = evaluate_protocol(split, "cosine", protocol("released:semantic_sharing_coco")).model.directions
    image, text = (split.embeddings[name].numpy() for name in ("image", "text"))
    labels = split.labels.numpy()
    expected: dict[str, list[float]] = {"text_to_image": [], "image_to_text": []}
    for number in range(35):
        query, caption = number // 5, number % 5
        gains = labels @ labels[query]
        ranked = gains[np.argsort(-(image @ text[number]), kind="stable")]
        weights = [1 / math.log2(5 * rank + caption + 2) for rank in range(7)]
        best = sum(gain * weight for gain, weight in zip(sorted(gains, reverse=True), weights))
        expected["text_to_image"].append(sum(gain * weight for gain, weight in zip(ranked, weights)) / best)
    for query in range(7):
        gains = np.repeat(labels @ labels[query], 5)
        ranked = gains[np.argsort(-(text @ image[query]), kind="stable")]
        weights = [1 / math.log2(rank + 2) for rank in range(35)]
        best = sum(gain * weight for gain, weight in zip(sorted(gains, reverse=True), weights))
        expected["image_to_text"].append(sum(gain * weight for gain, weight in zip(ranked, weights)) / best)
    for way, values in expected.items():
        assert found[way].scores["NDCG@500"] == pytest.approx(np.mean(values), abs=1e-9)
    assert (found["image_to_text"].queries, found["image_to_text"].gallery) == (7, 35)
    ordinary = evaluate_protocol(split, "dot").model.directions
    assert ordinary["text_to_image"].scores["NDCG@500"] != pytest.approx(found["text_to_image"].scores["NDCG@500"])


def test_a_figure_over_folds_is_the_mean_over_galleries_of_their_own() -> None:
    split = random_set(11, 2)
    folds = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1])
    found = evaluate_protocol(split, "cosine", protocol("coco1k"), folds=folds)
    for way in ("image_to_text", "text_to_image"):
        parts = []
        for fold in range(3):
            samples = np.flatnonzero(folds == fold)
            texts = np.concatenate([[2 * sample, 2 * sample + 1] for sample in samples])
            rows = {"image": split.embeddings["image"][samples], "text": split.embeddings["text"][texts]}
            places = {"image": np.arange(len(samples)), "text": np.repeat(np.arange(len(samples)), 2)}
            own = embedded_split(rows, split.labels[samples], samples.tolist(), positions=places)
            parts.append(all_directions(own).directions[way].scores)
        for name in ("mAP@all", "NDCG@500", "R@1"):
            assert found.model.directions[way].scores[name] == pytest.approx(np.mean([part[name] for part in parts]))
    assert "3 folds" in found.definitions["folds"]


def test_folds_are_read_from_the_sources_and_asked_for_where_there_are_none() -> None:
    assert fold_numbers(["a.jpg#fold0", "b#c.jpg#fold4"], "here").tolist() == [0, 4]
    with pytest.raises(XmrError, match=r"here: the sample 'b.jpg' names no fold.*coco5k"):
        fold_numbers(["a.jpg#fold0", "b.jpg"], "here")


def test_samples_with_their_items_are_taken_apart_and_put_together() -> None:
    split = random_set(6, 3)
    assert first_samples(split, 4).positions["text"].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    parts = [select_samples(split, np.arange(0, 2)), select_samples(split, np.arange(2, 6))]
    whole = concat(*parts)
    assert whole.keys == split.keys
    assert torch.equal(whole.labels, split.labels)
    for name in ("image", "text"):
        assert torch.equal(whole.embeddings[name], split.embeddings[name])
        assert torch.equal(whole.positions[name], split.positions[name])
