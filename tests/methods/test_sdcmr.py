"""SDCMR's objective, from pictures' and texts' features to the total, against loops over samples and dimensions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.helpers.miniatures import build_narrow
from tests.helpers.references import (
    LABELS,
    LayerTower,
    Rows,
    array,
    assert_what_is_trained_is_reached,
    build,
    inputs_of,
    labels_of,
    learners,
    run,
    softmax,
    terms_of,
)
from tests.helpers.references import values as values_of
from xmr_e2e.data.inputs import Tokens
from xmr_e2e.errors import XmrError
from xmr_e2e.methods.sdcmr import Sdcmr, SdcmrModel, _latent
from xmr_e2e.methods.stages import StepContext
from xmr_e2e.towers.base import DatasetInfo

K = 4
WIDTHS = {"image": 6, "text": 8}
TOWERS: dict[str, Any] = {name: LayerTower(dim=width) for name, width in WIDTHS.items()}
OTHER = {"image": "text", "text": "image"}
WEIGHTS = {"reconstruction": 1.5, "invariance": 0.3, "adversary": 2.5, "independence": 0.7, "kl": 0.2}
MOMENT = StepContext(progress=0.3, seed=5)
OPTIONS: list[dict[str, Any]] = [
    {},
    {"latent": "sample"},
    {"likelihood": "gaussian"},
    {"likelihood": "gaussian", "latent": "sample", "final_relu": True},
    {"final_relu": True},
    {"independence_over": "batch"},
    {"towers_learn_from": "both"},
    {"reversal": "constant"},
    {"reversal_strength": 0.4},
    {"update": "literal"},
]


def method_of(*, multi_label: bool = False, **options: Any) -> SdcmrModel:
    method = build(Sdcmr(**TOWERS, dim=K, **(WEIGHTS | options)), multi_label=multi_label)
    assert isinstance(method, SdcmrModel)
    return method


# ---- the reference


def posteriors(method: SdcmrModel, features: Mapping[str, Rows]) -> dict[str, tuple[Rows, Rows]]:
    """ "image shared" -> mean and log-variance, in the order in which they are drawn from."""
    found = {}
    for name, rows in features.items():
        entered = np.maximum(run(method.entrance[name], rows), 0)
        for factor, out in (("shared", run(method.shared, entered)), ("unrelated", run(method.unrelated[name], rows))):
            mean, log_variance = out[:, :K], out[:, K:]
            found[f"{name} {factor}"] = np.maximum(mean, 0) if method.config.final_relu else mean, log_variance
    return found


def class_loss(scores: list[float], truth: list[int], multi_label: bool) -> float:
    if not multi_label:
        return -math.log(softmax(scores)[truth.index(1)])
    probabilities = [1 / (1 + math.exp(-score)) for score in scores]
    return -sum(math.log(p if relevant else 1 - p) for p, relevant in zip(probabilities, truth))


def mean_squared(x: Rows, y: Rows) -> float:
    return sum((a - b) ** 2 for p, q in zip(x, y) for a, b in zip(p, q)) / x.size


def divergence(mean: Rows, log_variance: Rows) -> float:
    """Mean over samples of the sum over dimensions."""
    pairs = zip(mean.flatten(), log_variance.flatten())
    return sum((m**2 + math.exp(v) - 1 - v) / 2 for m, v in pairs) / len(mean)


def reference(method: SdcmrModel, inputs: Mapping[str, Tensor], labels: list[list[int]]) -> dict[str, float]:
    config, multi_label = method.config, method.multi_label
    features = {name: run(method.towers[name], array(rows)) for name, rows in inputs.items()}
    posterior = posteriors(method, features)
    torch.manual_seed(MOMENT.seed)
    drawn = {
        key: mean + np.exp(log / 2) * torch.randn(len(mean), K, dtype=torch.float64).numpy()
        for key, (mean, log) in posterior.items()
    }
    seen = drawn if config.latent == "sample" else {key: mean for key, (mean, _) in posterior.items()}
    terms = dict.fromkeys(("elbo", "reconstruction", "similarity", "adversary", "independence"), 0.0)
    for number, (name, x) in enumerate(features.items()):
        shared, unrelated = drawn[f"{name} shared"], drawn[f"{name} unrelated"]
        error = mean_squared(run(method.decoders[name], np.hstack([unrelated, shared])), x)
        divergences = divergence(*posterior[f"{name} shared"]) + divergence(*posterior[f"{name} unrelated"])
        terms["elbo"] += error * (x.shape[1] / 2 if config.likelihood == "gaussian" else 1) + config.kl * divergences
        swapped = run(method.decoders[name], np.hstack([unrelated, drawn[f"{OTHER[name]} shared"]]))
        terms["reconstruction"] += mean_squared(swapped, x)
        for factor in ("shared", "unrelated"):
            z = seen[f"{name} {factor}"]
            for guessed, sides, truth in zip(run(method.semantic, z), run(method.modality, z), labels):
                loss = class_loss(guessed.tolist(), truth, multi_label) - math.log(softmax(sides)[number])
                terms["adversary"] += loss / len(labels)  # a mean over samples, a sum over modalities
        products = [
            sum(a * b for a, b in zip(seen[f"{name} shared"][:, i], seen[f"{name} unrelated"][:, j]))
            for i in range(K)
            for j in range(K)
        ]
        terms["independence"] += math.hypot(*products) / (len(labels) if config.independence_over == "samples" else 1)
    pairs = zip(seen["image shared"], seen["text shared"])
    terms["similarity"] = sum((a - b) ** 2 for p, q in pairs for a, b in zip(p, q)) / len(labels)
    weights = [1.0, config.reconstruction, config.invariance, config.adversary, config.independence]
    return terms | {"total": sum(weight * value for weight, value in zip(weights, terms.values()))}


@pytest.mark.slow
@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_each_term_and_the_total_equal_loops_over_samples_and_dimensions(options: dict[str, Any], kind: str) -> None:
    method = method_of(multi_label=kind == "multi-label", **options)
    found = values_of(terms_of(method, inputs_of(*WIDTHS), labels_of(kind), MOMENT))
    assert found == pytest.approx(reference(method, inputs_of(*WIDTHS), LABELS[kind]), rel=1e-9)


def test_the_weights_by_default_are_the_papers() -> None:
    config = Sdcmr()
    weights = (config.reconstruction, config.invariance, config.adversary, config.independence, config.kl)
    assert weights == (1, 5, 10, 1, 1) and (config.elbo, config.factors) == (1, "both")
    assert (config.dim, config.reversal_strength, config.reversal, config.update) == (32, 0.1, "schedule", "joint")
    assert (config.latent, config.towers_learn_from, config.likelihood) == ("mean", "shared", "mse")
    assert config.independence_over == "samples"
    assert not config.final_relu


# ---- weights of 0, and the shared factor alone

TERMS = {
    "elbo": "elbo",
    "reconstruction": "reconstruction",
    "similarity": "invariance",
    "adversary": "adversary",
    "independence": "independence",
}
"""term -> option of its weight"""
LEFT_OUT = [
    *((term,) for term in TERMS),  # all but the first are of Table III
    ("elbo", "reconstruction"),
    ("elbo", "reconstruction", "adversary", "independence"),
    ("reconstruction", "independence"),
]


@pytest.mark.slow
@pytest.mark.parametrize("update", ["joint", "literal"])
@pytest.mark.parametrize("left_out", LEFT_OUT, ids=" ".join)
def test_a_term_of_weight_0_is_no_part_of_the_loss(left_out: tuple[str, ...], update: str) -> None:
    method = method_of(update=update, **{TERMS[term]: 0.0 for term in left_out})
    inputs, labels = inputs_of(*WIDTHS), labels_of("single-label")
    terms = reference(method, inputs, LABELS["single-label"])
    weights = {term: {"elbo": 1.0, **WEIGHTS}[option] for term, option in TERMS.items() if term not in left_out}
    expected = {term: terms[term] for term in weights}
    expected["total"] = sum(weight * terms[term] for term, weight in weights.items())
    assert values_of(terms_of(method, inputs, labels, MOMENT)) == pytest.approx(expected, rel=1e-9)
    assert_what_is_trained_is_reached(method, inputs, labels, replace(MOMENT, stage="training"))


@pytest.mark.parametrize(
    ("options", "network"),
    [
        ({"adversary": 0.0}, "semantic"),
        ({"adversary": 0.0}, "modality"),
        ({"elbo": 0.0, "reconstruction": 0.0}, "decoders.image"),
    ],
)
def test_a_network_whose_terms_have_no_weight_is_not_asked(options: dict[str, float], network: str) -> None:
    method = method_of(**options)
    method.get_submodule(network).register_forward_pre_hook(lambda *_: pytest.fail(f"{network} was asked"))
    assert terms_of(method, inputs_of(*WIDTHS), labels_of("single-label"), MOMENT)["total"].isfinite()


@pytest.mark.slow
def test_the_bound_has_a_weight() -> None:
    method, inputs = method_of(elbo=0.4), inputs_of(*WIDTHS)
    terms = reference(method, inputs, LABELS["single-label"])
    found = values_of(terms_of(method, inputs, labels_of("single-label"), MOMENT))
    assert found == pytest.approx(terms | {"total": terms["total"] - 0.6 * terms["elbo"]}, rel=1e-9)


BETA_VAE = {"factors": "shared", "kl": 5.0, "reconstruction": 0.0, "independence": 0.0, "reversal_strength": 0.0}
"""of Table IV"""


def test_the_shared_factor_alone_is_a_beta_vae_with_a_distance_and_a_classifier() -> None:
    method, inputs, labels = method_of(**BETA_VAE), inputs_of(*WIDTHS), labels_of("single-label")
    codes = {}
    for name, rows in inputs.items():
        features = run(method.towers[name], array(rows))
        out = run(method.shared, np.maximum(run(method.entrance[name], features), 0))
        codes[name] = features, out[:, :K], out[:, K:]
    torch.manual_seed(MOMENT.seed)
    elbo = classes = sides = 0.0
    for number, (features, mean, log_variance) in enumerate(codes.values()):
        drawn = mean + np.exp(log_variance / 2) * torch.randn(7, K, dtype=torch.float64).numpy()
        elbo += mean_squared(run(method.decoders[list(codes)[number]], drawn), features)
        elbo += 5.0 * divergence(mean, log_variance)
        for guessed, side, truth in zip(run(method.semantic, mean), run(method.modality, mean), LABELS["single-label"]):
            classes += class_loss(guessed.tolist(), truth, multi_label=False) / 7
            sides -= math.log(softmax(side)[number]) / 7
    (_, image, _), (_, text, _) = codes.values()
    expected = {"elbo": elbo, "similarity": float(((image - text) ** 2).sum() / 7), "adversary": classes + sides}
    expected["total"] = elbo + 0.3 * expected["similarity"] + 2.5 * expected["adversary"]
    assert values_of(terms_of(method, inputs, labels, MOMENT)) == pytest.approx(expected, rel=1e-9)
    assert not list(method.unrelated.children())
    assert_what_is_trained_is_reached(method, inputs, labels, replace(MOMENT, stage="training"))
    # Without reversal, what tells the modalities apart teaches the encoder nothing.
    leaves = {key: rows.detach().requires_grad_() for key, rows in method.represent(inputs).items()}
    found = torch.autograd.grad(method.objective(leaves, labels, MOMENT)["adversary"], leaves["image shared"])[0][:, 0]
    mean_of_image = leaves["image shared"].detach()[:, 0].requires_grad_()
    alone = torch.nn.functional.cross_entropy(method.semantic(mean_of_image), labels.argmax(1))
    torch.testing.assert_close(found, torch.autograd.grad(alone, mean_of_image)[0])


def test_the_shared_factor_alone_may_be_decoded_for_the_other_modality() -> None:
    method, inputs = method_of(**(BETA_VAE | {"reconstruction": 1.5, "elbo": 0.0})), inputs_of(*WIDTHS)
    found = terms_of(method, inputs, labels_of("single-label"), MOMENT)["reconstruction"].item()
    posterior = {
        name: run(method.shared, np.maximum(run(method.entrance[name], run(method.towers[name], array(rows))), 0))
        for name, rows in inputs.items()
    }
    torch.manual_seed(MOMENT.seed)
    drawn = {
        name: out[:, :K] + np.exp(out[:, K:] / 2) * torch.randn(7, K, dtype=torch.float64).numpy()
        for name, out in posterior.items()
    }
    expected = sum(
        mean_squared(run(method.decoders[name], drawn[OTHER[name]]), run(method.towers[name], array(rows)))
        for name, rows in inputs.items()
    )
    assert found == pytest.approx(expected, rel=1e-9)


def test_one_factor_alone_cannot_be_independent() -> None:
    with pytest.raises(XmrError, match=r"--method\.factors shared leaves no two factors .*: --method\.independence 0"):
        method_of(factors="shared")


# ---- what learns from what

OWN = {"shared", "entrance.image", "entrance.text", "towers.image", "towers.text"}
UNRELATED, DECODERS = {"unrelated.image", "unrelated.text"}, {"decoders.image", "decoders.text"}
CLASSIFIERS = {"semantic", "modality"}
JOINT = {
    "elbo": OWN | UNRELATED | DECODERS,
    "reconstruction": OWN | UNRELATED | DECODERS,
    "similarity": OWN,
    "adversary": OWN | UNRELATED | CLASSIFIERS,
    "independence": OWN | UNRELATED,
    "total": OWN | UNRELATED | DECODERS | CLASSIFIERS,
}
LITERAL = JOINT | {"elbo": OWN, "adversary": OWN | CLASSIFIERS}  # Eq. 16 to 20
"""Each update of the paper's has some terms only: the bound moves neither the unrelated encoders nor the decoders."""


@pytest.mark.slow
@pytest.mark.parametrize("latent", ["mean", "sample"])
@pytest.mark.parametrize(("update", "expected"), [("joint", JOINT), ("literal", LITERAL)])
def test_each_term_teaches_the_networks_that_the_paper_says(
    update: str, expected: dict[str, set[str]], latent: str
) -> None:
    method = method_of(update=update, latent=latent)
    assert learners(method, inputs_of(*WIDTHS), labels_of("single-label"), MOMENT) == expected


@pytest.mark.parametrize(("option", "reached"), [("shared", False), ("both", True)])
def test_the_unrelated_factor_sends_gradients_to_the_towers_only_where_both_do(option: str, reached: bool) -> None:
    method = method_of(towers_learn_from=option)
    representations = method.represent(inputs_of(*WIDTHS))
    for name in WIDTHS:
        weight = method.towers[name].weight
        for factor, expected in (("shared", True), ("unrelated", reached)):
            rows = representations[f"{name} {factor}"].square().sum()
            (gradient,) = torch.autograd.grad(rows, weight, retain_graph=True, allow_unused=True)  # type: ignore[arg-type]
            assert (gradient is not None and bool(gradient.abs().max() > 0)) == expected


def adversary_of(method: SdcmrModel, z: Tensor, truth: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """The cross-entropies of class and modality of one factor of one modality, by their definitions."""
    rows = torch.arange(len(z))
    classes, sides = (net(z).exp() / net(z).exp().sum(1, keepdim=True) for net in (method.semantic, method.modality))
    return -classes[rows, truth].log().mean(), -sides[:, number].log().mean()


def strength(options: Mapping[str, Any]) -> float:
    schedule = 1.0 if options.get("reversal") == "constant" else 2 / (1 + math.exp(-10 * MOMENT.progress)) - 1
    return float(options.get("reversal_strength", 0.1)) * schedule


@pytest.mark.parametrize(
    "options",
    [{}, {"reversal": "constant"}, {"reversal_strength": 0.4}, {"reversal": "constant", "reversal_strength": 2.5}],
    ids=str,
)
def test_gradients_are_reversed_for_the_modality_of_the_shared_and_the_class_of_the_unrelated_factor(
    options: dict[str, Any],
) -> None:
    method, labels = method_of(**options), labels_of("single-label")
    leaves = {key: rows.detach().requires_grad_() for key, rows in method.represent(inputs_of(*WIDTHS)).items()}
    adversary = method.objective(leaves, labels, MOMENT)["adversary"]
    heads = [*method.semantic.parameters(), *method.modality.parameters()]
    expected_of_heads = torch.zeros((), dtype=torch.float64)
    for number, name in enumerate(WIDTHS):
        for factor in ("shared", "unrelated"):
            rows = leaves[f"{name} {factor}"]
            of_class, of_modality = adversary_of(method, rows[:, 0], labels.argmax(1), number)
            expected_of_heads = expected_of_heads + of_class + of_modality
            signed = (of_class, -of_modality) if factor == "shared" else (of_modality, -of_class)
            (expected,) = torch.autograd.grad(signed[0] + strength(options) * signed[1], rows, retain_graph=True)
            (found,) = torch.autograd.grad(adversary, rows, retain_graph=True)
            torch.testing.assert_close(found, expected)
            assert not found[:, 1].any()  # the variance is no matter of the classifiers
    found_heads, expected_heads = (torch.autograd.grad(loss, heads, retain_graph=True)
                                   for loss in (adversary, expected_of_heads))  # fmt: skip
    torch.testing.assert_close(found_heads, expected_heads)  # the classifiers learn, whatever the encoders unlearn


def test_the_reversal_begins_at_nothing() -> None:
    method = method_of()
    leaves = {key: rows.detach().requires_grad_() for key, rows in method.represent(inputs_of(*WIDTHS)).items()}
    terms = method.objective(leaves, labels_of("single-label"), StepContext(progress=0.0))
    (found,) = torch.autograd.grad(terms["adversary"], leaves["image unrelated"], retain_graph=True)
    sides = adversary_of(method, leaves["image unrelated"][:, 0], torch.zeros(7, dtype=torch.int64), 0)[1]
    torch.testing.assert_close(found, torch.autograd.grad(sides, leaves["image unrelated"])[0])


# ---- means and draws

FACTOR_TERMS = ("similarity", "adversary", "independence")
DECODED_TERMS = ("elbo", "reconstruction")


@pytest.mark.parametrize(("latent", "depends"), [("mean", False), ("sample", True)])
def test_noise_reaches_distance_classifiers_and_independence_only_with_samples(latent: str, depends: bool) -> None:
    method = method_of(latent=latent)
    one, two = (
        values_of(terms_of(method, inputs_of(*WIDTHS), labels_of("single-label"), StepContext(progress=0.3, seed=seed)))
        for seed in (1, 2)
    )
    assert [one[name] != two[name] for name in FACTOR_TERMS] == [depends] * 3
    assert all(one[name] != two[name] for name in DECODED_TERMS)  # the decoders need a draw in both


def posterior_rows(log_variance: float, *, n: int = 5) -> Tensor:
    mean = torch.linspace(2, 9, n * K, dtype=torch.float64).reshape(n, K)
    return torch.stack([mean, torch.full_like(mean, log_variance)], dim=1)


def test_a_draw_at_the_least_variance_is_the_mean_to_one_percent() -> None:
    torch.manual_seed(0)
    rows = posterior_rows(-10)
    for latent in ("mean", "sample"):
        found = _latent(rows, latent)  # type: ignore[arg-type]
        assert found.latent is (found.mean if latent == "mean" else found.sample)
        torch.testing.assert_close(found.sample, rows[:, 0], rtol=0.01, atol=0.0)  # deviation .0067, means of 2 to 9
        assert not torch.equal(found.sample, rows[:, 0])


def test_many_draws_have_the_mean_and_the_variance_of_the_posterior() -> None:
    torch.manual_seed(0)
    rows = posterior_rows(math.log(0.25)).repeat(20_000, 1, 1)
    draws = _latent(rows, "sample").sample.reshape(20_000, 5, K)
    torch.testing.assert_close(draws.mean(0), rows[:5, 0], rtol=0, atol=0.02)
    torch.testing.assert_close(draws.var(0), torch.full((5, K), 0.25, dtype=torch.float64), rtol=0.05, atol=0)


def test_the_log_variance_stays_within_ten() -> None:
    method = method_of()
    with torch.no_grad():
        for network in (method.shared, method.unrelated["image"], method.unrelated["text"]):
            last = network[-1]  # type: ignore[index]
            last.bias[K], last.bias[K + 1] = 30.0, -30.0
        representations = method.represent(inputs_of(*WIDTHS))
    for key, rows in representations.items():
        if not key.endswith("features"):
            assert (rows[:, 1, 0] == 10).all() and (rows[:, 1, 1] == -10).all()
            assert (rows[:, 1, 2:].abs() < 10).all()


def test_the_embedding_is_the_mean_of_the_shared_factor() -> None:
    method, inputs = method_of(), inputs_of(*WIDTHS)
    features = {name: run(method.towers[name], array(rows)) for name, rows in inputs.items()}
    for name in WIDTHS:
        expected = posteriors(method, features)[f"{name} shared"][0]
        np.testing.assert_allclose(array(method.embed(name, inputs[name])), expected, rtol=1e-9, atol=1e-12)


# ---- scales and targets


@pytest.mark.slow
def test_the_divergences_of_both_modalities_have_one_scale() -> None:
    """They stand undivided beside the mean squared error, whatever the width of the features."""
    method = build(Sdcmr(image=LayerTower(dim=4096), text=LayerTower(dim=300), dim=K))
    assert isinstance(method, SdcmrModel)
    with torch.no_grad():
        leaves = {key: torch.zeros_like(rows) for key, rows in method.represent(inputs_of(*WIDTHS)).items()}
        for name in WIDTHS:
            moved = dict(leaves)
            for factor in ("shared", "unrelated"):  # posteriors N(1, 1) of K dimensions: K / 2 nats each
                moved[f"{name} {factor}"] = leaves[f"{name} {factor}"].clone()
                moved[f"{name} {factor}"][:, 0] = 1.0
            bounds = []
            for kl in (1.0, 0.0):
                method.config = replace(method.config, kl=kl)
                torch.manual_seed(0)
                bounds.append(method.objective(moved, labels_of("single-label"), MOMENT)["elbo"].item())
            assert bounds[0] - bounds[1] == pytest.approx(K, rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("update", ["joint", "literal"])
def test_what_is_to_be_reconstructed_gets_no_gradient(update: str) -> None:
    method = method_of(update=update)
    leaves = {key: rows.detach().requires_grad_() for key, rows in method.represent(inputs_of(*WIDTHS)).items()}
    method.objective(leaves, labels_of("single-label"), MOMENT)["total"].backward()
    assert {key for key, rows in leaves.items() if rows.grad is None} == {"image features", "text features"}


@pytest.mark.slow
def test_what_is_to_be_reconstructed_has_no_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """VGG-19's last layer and the sentence CNN's would drop half of the features."""
    monkeypatch.setattr("torchvision.models.get_model", build_narrow)
    torch.manual_seed(0)
    image = replace(Sdcmr().image, weights="none")  # type: ignore[type-var]
    method = Sdcmr(image=image, dim=K).build(DatasetInfo(3, False, 32, torch.randn(20, 6))).train()
    inputs = {"image": torch.randn(2, 3, 32, 32), "text": Tokens(torch.tensor([[3, 4], [5, 6]]), torch.tensor([2, 2]))}
    with torch.no_grad():
        one, two = method.represent(inputs), method.represent(inputs)
    assert all(torch.equal(one[f"{name} features"], two[f"{name} features"]) for name in inputs)
