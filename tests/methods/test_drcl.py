"""DRCL's two rounds: each loss term against loops fed with the method's own weights, who learns from what, the selected
prior, and encoders that are drawn again."""

from __future__ import annotations

import math
from dataclasses import replace
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
    softmax,
    terms_of,
    unit,
    values,
)
from xmr_e2e.errors import XmrError
from xmr_e2e.methods.drcl import Drcl, DrclModel
from xmr_e2e.methods.stages import Stage, StepContext
from xmr_e2e.objectives.orthogonal import orthogonal_prior
from xmr_e2e.towers.image import ImageTower

CONFIG = Drcl(image=LayerTower(), text=LayerTower(dim=5), hidden=9, dim=7, discrimination=0.3, invariance=0.7, mix=0.8)
KINDS = pytest.mark.parametrize("kind", LABELS)
MODALITIES = pytest.mark.parametrize("modality", ["image", "text"])


def made(kind: str = "single-label", **options: Any) -> DrclModel:
    method = build(replace(CONFIG, **options), multi_label=kind == "multi-label")
    assert isinstance(method, DrclModel)
    torch.manual_seed(3)
    for parameter in (*method.priors.values(), method.prior):
        parameter.data += torch.randn(parameter.shape, dtype=torch.float64)  # as if it had learned
    return method


def stage(method: DrclModel, name: str) -> Stage:
    return {stage.name: stage for stage in method.stages}[name]


def embedded(method: DrclModel, modality: str) -> Rows:
    """The tower's layer, then the encoder's three, then length 1."""
    features = run(method.towers[modality], array(inputs_of(modality)[modality]))
    return unit(run(method.encoders[modality], features))


def confidences(z: Rows, truth: Rows, prior: Rows) -> list[float]:
    """p_j of each sample."""
    return [float(np.dot(softmax([row @ column for column in prior.T]), label)) for row, label in zip(z, truth)]


def label_loss(z: Rows, truth: Rows, prior: Rows, mu: float) -> float:
    return sum((1 - p**mu) / mu for p in confidences(z, truth, prior)) / len(z)


def consistency(z: Rows, truth: Rows, prior: Rows, mu: float, mix: float, order: list[int]) -> dict[str, float]:
    """Eq. 3-7 for samples that are mixed with those of `order`."""
    n, d = z.shape
    z, truth = (np.array([mix * x[j] + (1 - mix) * x[order[j]] for j in range(n)]) for x in (z, truth))
    recast = [sum(truth[j, k] * np.linalg.pinv(prior)[k] for k in range(truth.shape[1])) for j in range(n)]
    pairs = [(j, k) for j in range(n) for k in range(n)]
    return {
        "label": label_loss(z, truth, prior, mu),
        "discrimination": sum(
            (2 * cosine(recast[j], recast[k]) - 2 * cosine(z[j], z[k])) ** 2
            + (2 * cosine(recast[j], z[k]) - 2 * cosine(z[j], recast[k])) ** 2
            for j, k in pairs
        )
        / n**2,
        "invariance": sum((recast[j][i] - z[j, i]) ** 2 for j in range(n) for i in range(d)) / (n * d),
    }


@MODALITIES
def test_embeddings_are_the_encoders_outputs_of_length_1(modality: str) -> None:
    method = made()
    np.testing.assert_allclose(
        array(method.embed(modality, inputs_of(modality)[modality])), embedded(method, modality), atol=1e-12
    )


@KINDS
@MODALITIES
@pytest.mark.parametrize(("epoch", "hardness", "mu"), [(0, 100, 0.01), (2, 100, 0.03), (2, 6, 0.5), (7, 6, 1.0)])
def test_the_prior_stages_loss_is_the_label_loss_of_the_modalitys_own_matrix(
    kind: str, modality: str, epoch: int, hardness: int, mu: float
) -> None:
    method = made(kind, hardness_epochs=hardness)
    context = StepContext(f"prior-{modality}", epoch)
    found = values(terms_of(method, inputs_of(modality), labels_of(kind), context))
    own = array(method.priors[modality])
    expected = label_loss(embedded(method, modality), array(labels_of(kind)), own, mu)
    assert found == pytest.approx({"total": expected}, abs=1e-10)


@KINDS
@MODALITIES
@pytest.mark.parametrize("mix", [0.8, 0.4])
@pytest.mark.parametrize("training", [True, False])
def test_the_consistency_stages_terms_equal_loops(kind: str, modality: str, mix: float, training: bool) -> None:
    method = made(kind, mix=mix, hardness_epochs=10).train(training)
    context = StepContext(f"consistency-{modality}", epoch=3, seed=8)
    found = values(terms_of(method, inputs_of(modality), labels_of(kind), context))
    torch.manual_seed(8)
    order = torch.randperm(7).tolist() if training else list(range(7))  # nothing is mixed in evaluation
    args = embedded(method, modality), array(labels_of(kind)), array(method.prior)
    expected = consistency(*args, mu=0.4, mix=mix, order=order)
    expected["total"] = expected["label"] + 0.3 * expected["discrimination"] + 0.7 * expected["invariance"]
    assert found == pytest.approx(expected, abs=1e-10)


WEIGHTS = {"label": 1.0, "discrimination": 0.3, "invariance": 0.7}


@MODALITIES
@pytest.mark.parametrize(
    "changed",
    [
        {"label": 0.0},
        {"discrimination": 0.0},
        {"invariance": 0.0},
        {"label": 0.0, "invariance": 0.0},
        {"label": 2.5},
    ],
    ids=str,
)
def test_a_term_of_weight_0_is_no_part_of_the_consistency(modality: str, changed: dict[str, float]) -> None:
    """Of Table IV, #2 to #4."""
    method = made(hardness_epochs=10, **changed).eval()
    context = StepContext(f"consistency-{modality}", epoch=3)
    found = values(terms_of(method, inputs_of(modality), labels_of("single-label"), context))
    args = embedded(method, modality), array(labels_of("single-label")), array(method.prior)
    terms = consistency(*args, mu=0.4, mix=0.8, order=list(range(7)))
    weights = {name: weight for name, weight in (WEIGHTS | changed).items() if weight}
    expected = {name: terms[name] for name in weights}
    expected["total"] = sum(weight * terms[name] for name, weight in weights.items())
    assert found == pytest.approx(expected, abs=1e-10)
    assert_what_is_trained_is_reached(method, inputs_of(modality), labels_of("single-label"), context)


def test_a_consistency_without_terms_is_refused() -> None:
    with pytest.raises(XmrError, match=r"--method\.label, --method\.discrimination, --method\.invariance: all are 0"):
        made(label=0.0, discrimination=0.0, invariance=0.0)


@MODALITIES
@pytest.mark.parametrize("mu", [0.01, 0.5, 1.0, 2.0])
def test_a_fixed_hardness_is_that_of_the_consistency_in_every_epoch_and_not_of_the_priors(
    modality: str, mu: float
) -> None:
    """Of Table IV, #5 to #8."""
    method, truth = made(hardness=mu, hardness_epochs=10).eval(), array(labels_of("single-label"))
    z = embedded(method, modality)
    for epoch in (0, 4, 30):
        found = [
            terms_of(method, inputs_of(modality), labels_of("single-label"), StepContext(f"{kind}-{modality}", epoch))
            for kind in ("consistency", "prior")
        ]
        assert found[0]["label"].item() == pytest.approx(label_loss(z, truth, array(method.prior), mu), abs=1e-10)
        rising = min(1.0, (epoch + 1) / 10)
        expected = label_loss(z, truth, array(method.priors[modality]), rising)
        assert found[1]["total"].item() == pytest.approx(expected, abs=1e-10)


@MODALITIES
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("mix_of", ["outputs", "features"])
def test_the_encoders_outputs_or_its_inputs_are_mixed_instead_of_its_embeddings(
    modality: str, mix_of: str, training: bool
) -> None:
    """Of Table IV, #11; nothing is mixed in evaluation, and nothing for the priors."""
    method = made(mix_of=mix_of, hardness_epochs=10).train(training)
    given, truth = inputs_of(modality), array(labels_of("single-label"))
    context = StepContext(f"consistency-{modality}", epoch=3, seed=8)
    found = values(terms_of(method, given, labels_of("single-label"), context))
    torch.manual_seed(8)
    order = torch.randperm(7).tolist() if training else list(range(7))
    rows = run(method.towers[modality], array(given[modality]))
    if mix_of == "outputs":
        rows = run(method.encoders[modality], rows)
    rows, truth = (np.array([0.8 * x[j] + 0.2 * x[order[j]] for j in range(7)]) for x in (rows, truth))
    z = unit(rows if mix_of == "outputs" else run(method.encoders[modality], rows))
    expected = consistency(z, truth, array(method.prior), mu=0.4, mix=1.0, order=list(range(7)))
    expected["total"] = expected["label"] + 0.3 * expected["discrimination"] + 0.7 * expected["invariance"]
    assert found == pytest.approx(expected, abs=1e-10)
    assert_what_is_trained_is_reached(method, given, labels_of("single-label"), context)
    np.testing.assert_allclose(array(method.embed(modality, given[modality])), embedded(method, modality), atol=1e-12)

    prior = StepContext(f"prior-{modality}", epoch=3)
    total = terms_of(method, given, labels_of("single-label"), prior)["total"].item()
    args = embedded(method, modality), array(labels_of("single-label")), array(method.priors[modality])
    assert total == pytest.approx(label_loss(*args, 0.4), abs=1e-10)
    assert_what_is_trained_is_reached(method, given, labels_of("single-label"), prior)


@KINDS
@MODALITIES
def test_each_term_teaches_its_modalitys_networks_only(kind: str, modality: str) -> None:
    method = made(kind)
    own = {f"towers.{modality}", f"encoders.{modality}"}
    inputs, labels = inputs_of(modality), labels_of(kind)
    assert learners(method, inputs, labels, StepContext(f"prior-{modality}")) == {"total": own | {f"priors.{modality}"}}
    # The selected prior is frozen: no parameter stands for it.
    assert learners(method, inputs, labels, StepContext(f"consistency-{modality}")) == dict.fromkeys(
        ["label", "discrimination", "invariance", "total"], own
    )


def test_stages_train_one_modality_each_and_the_priors_come_first() -> None:
    assert [(s.name, s.modalities, s.prefixes, s.select, s.closed_form) for s in made().stages] == [
        ("prior-image", ("image",), ("towers.image", "encoders.image", "priors.image"), "last", False),
        ("prior-text", ("text",), ("towers.text", "encoders.text", "priors.text"), "last", False),
        ("consistency-image", ("image",), ("towers.image", "encoders.image"), "loss", False),
        ("consistency-text", ("text",), ("towers.text", "encoders.text"), "loss", False),
    ]


@pytest.mark.parametrize(("scores", "best"), [((0.2, 0.7), "text"), ((0.7, 0.2), "image")])
@MODALITIES
def test_the_modality_with_the_highest_score_gives_the_prior(
    scores: tuple[float, float], best: str, modality: str
) -> None:
    method = made()
    method.score.copy_(torch.tensor(scores))
    method.begin_stage(stage(method, f"consistency-{modality}"))
    assert torch.equal(method.prior, method.priors[best])
    kept = method.prior.clone()
    with torch.no_grad():
        method.priors[best].zero_()
    assert torch.equal(method.prior, kept)  # a copy


@pytest.mark.parametrize(("prior", "learned"), [("random", []), ("image", ["image"]), ("text", ["text"])])
def test_a_prior_that_is_chosen_by_name_is_the_only_one_that_is_learned(prior: str, learned: list[str]) -> None:
    """Of Table IV, #1; Figure 3c."""
    method = made(prior=prior)
    method.score.copy_(torch.tensor([0.7, 0.2] if prior == "text" else [0.2, 0.7]))  # whatever the scores are
    before = method.prior.clone()
    stages = [f"prior-{name}" for name in learned] + ["consistency-image", "consistency-text"]
    assert [stage.name for stage in method.stages] == stages
    method.begin_stage(stage(method, "consistency-text"))
    assert torch.equal(method.prior, method.priors[prior] if learned else before)


def test_a_random_prior_is_the_orthogonal_matrix_of_its_seed() -> None:
    method = build(replace(CONFIG, prior="random", prior_seed=4))
    method.begin_stage(method.stages[0])
    assert torch.equal(method.get_buffer("prior"), orthogonal_prior(7, 3, 4).double())


def test_a_prior_of_a_modality_without_a_tower_is_refused() -> None:
    with pytest.raises(XmrError, match=r"--method\.prior audio: there is no such tower; there are image, text"):
        made(prior="audio")


def test_a_prior_stage_selects_nothing() -> None:
    method = made()
    before = method.prior.clone()
    method.score.copy_(torch.tensor([0.2, 0.7]))
    method.begin_stage(stage(method, "prior-text"))
    assert torch.equal(method.prior, before)


def epoch(method: DrclModel, modality: str, kind: str, parts: list[slice]) -> None:
    """The steps of an epoch on parts of the samples, without the optimiser's."""
    for part in parts:
        inputs = {modality: inputs_of(modality)[modality][part]}
        terms_of(method, inputs, labels_of(kind)[part], StepContext(f"prior-{modality}"))


@KINDS
@MODALITIES
@pytest.mark.parametrize("score_on", ["train", "val"])
def test_the_score_is_the_mean_confidence_of_all_samples_of_the_epoch(kind: str, modality: str, score_on: str) -> None:
    """Batches of different sizes, and what is seen in the other mode does not count."""
    method = made(kind, score_on=score_on)
    expected = confidences(embedded(method, modality), array(labels_of(kind)), array(method.priors[modality]))
    parts = [slice(0, 5), slice(5, 7)]
    method.begin_stage(stage(method, f"prior-{modality}"))
    epoch(method.train(score_on == "train"), modality, kind, parts)
    epoch(method.train(score_on != "train"), modality, kind, [slice(0, 2)])
    method.end_epoch(stage(method, f"prior-{modality}"))
    scores = dict(zip(method.towers, method.score.tolist()))
    assert scores.pop(modality) == pytest.approx(sum(expected) / 7, abs=1e-7)
    assert list(scores.values()) == [0.0]


def test_the_score_is_that_of_the_best_epoch() -> None:
    method = made()
    text = stage(method, "prior-text")
    method.begin_stage(text)
    for part in (slice(0, 3), slice(3, 7), slice(1, 4)):
        epoch(method, "text", "single-label", [part])
        method.end_epoch(text)
    p = confidences(embedded(method, "text"), array(labels_of("single-label")), array(method.priors["text"]))
    best = max(sum(p[part]) / len(p[part]) for part in (slice(0, 3), slice(3, 7), slice(1, 4)))
    assert method.score.tolist() == pytest.approx([0.0, best], abs=1e-7)
    epoch(method, "text", "single-label", [slice(0, 7)])
    method.begin_stage(stage(method, "prior-image"))  # what an unfinished epoch saw is not the next stage's
    method.end_epoch(stage(method, "prior-image"))
    assert method.score[0] == 0


def test_a_consistency_stage_leaves_the_scores_as_they_are() -> None:
    method = made()
    method.score.copy_(torch.tensor([0.2, 0.7]))
    image = stage(method, "consistency-image")
    method.begin_stage(image)
    terms_of(method, inputs_of("image"), labels_of("single-label"), StepContext(image.name))
    method.end_epoch(image)
    assert method.score.tolist() == pytest.approx([0.2, 0.7])


def test_without_validation_samples_a_consistency_stage_has_no_score_to_miss() -> None:
    method = made(score_on="val")
    image = stage(method, "consistency-image")
    method.begin_stage(image)
    method.end_epoch(image)
    assert method.score.tolist() == [0, 0]


def test_a_score_on_validation_samples_that_are_not_there_is_refused() -> None:
    method = made(score_on="val")
    epoch(method, "text", "single-label", [slice(0, 7)])
    with pytest.raises(XmrError, match=r"--method\.score-on val: the shards have no validation samples of text"):
        method.end_epoch(stage(method, "prior-text"))


@pytest.mark.parametrize(("modality", "width"), [("image", 4), ("text", 100)])
def test_the_last_layer_starts_by_the_width_of_what_the_encoder_reads(modality: str, width: int) -> None:
    """Uniform within 1 / sqrt(width): its standard deviation is that over sqrt(3)."""
    tower = {"image": LayerTower(dim=4), "text": LayerTower(dim=100)}
    method = build(Drcl(**tower, hidden=400, dim=200))
    last = array(method.encoders[modality][-1].weight)  # type: ignore[union-attr, index]
    bound = 1 / math.sqrt(width)
    assert np.abs(last).max() == pytest.approx(bound, rel=1e-3)
    assert last.std() == pytest.approx(bound / math.sqrt(3), rel=0.01)
    assert last.mean() == pytest.approx(0, abs=bound / 100)
    assert method.encoders[modality][-1].bias is None  # type: ignore[union-attr, index]


def test_priors_start_as_the_same_orthogonal_columns_drawn_with_their_seed() -> None:
    for seed in (1, 2):
        method = build(replace(CONFIG, prior_seed=seed))
        for prior in (*method.priors.values(), method.prior):  # type: ignore[operator, union-attr]
            assert torch.equal(prior, orthogonal_prior(7, 3, seed).double())


@pytest.mark.parametrize("fresh", [True, False])
def test_the_consistency_begins_with_a_new_encoder_where_it_is_to_be_fresh(fresh: bool) -> None:
    method = made(fresh=fresh)
    before = {name: value.clone() for name, value in method.state_dict().items()}
    method.begin_stage(stage(method, "consistency-text"))
    changed = {name for name, value in method.state_dict().items() if not value.equal(before[name])}
    # The towers go on in any case, and so does the other modality's encoder until its own stage.
    layers = {f"encoders.text.{name}" for name in ("0.weight", "0.bias", "2.weight", "2.bias", "4.weight")}
    assert changed - {"prior"} == (layers if fresh else set())


def encoders(method: DrclModel) -> dict[str, Rows]:
    return {name: array(value) for name, value in method.encoders.state_dict().items()}


def test_new_encoders_depend_on_the_trainings_seed_alone() -> None:
    """And neither on what was drawn since nor on what the stages before came to; they are no copy of the first ones."""
    one, same, other = (build(CONFIG, seed=seed) for seed in (0, 0, 1))
    first = encoders(one)  # type: ignore[arg-type]
    for number, method in enumerate((one, same, other)):
        torch.manual_seed(number)
        for parameter in method.parameters():
            parameter.data += number
        for name in ("consistency-image", "consistency-text"):
            state = torch.get_rng_state()
            method.begin_stage(stage(method, name))  # type: ignore[arg-type]
            assert torch.equal(state, torch.get_rng_state())  # what follows draws as if nothing had been drawn
    found = [encoders(method) for method in (one, same, other)]  # type: ignore[arg-type]
    assert {name.split(".")[0] for name in first} == {"image", "text"}
    for name in first:
        assert np.array_equal(found[0][name], found[1][name]), name
        assert not np.allclose(found[0][name], found[2][name]), name
        assert not np.allclose(found[0][name], first[name]), name


def test_more_classes_than_dimensions_are_refused() -> None:
    with pytest.raises(XmrError, match=r"--method\.dim 2 must not be below the 3 classes"):
        build(replace(CONFIG, dim=2))


def test_defaults_are_the_released_ones() -> None:
    config = Drcl()
    assert (config.hidden, config.dim, config.hardness_epochs, config.mix) == (4096, 2048, 100, 0.9)
    assert (config.discrimination, config.invariance, config.score_on, config.fresh) == (0.1, 0.1, "train", True)
    assert (config.label, config.hardness, config.mix_of, config.prior) == (1.0, None, "embeddings", "best")
    assert isinstance(config.image, ImageTower) and config.image.name == "vgg19" and config.image.dropout == 0
