"""SDCMR's losses against loops over samples and dimensions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import pytest
import torch
from torch import Tensor

from xmr_e2e.objectives.adversarial import reverse_gradient
from xmr_e2e.objectives.sdcmr import (
    ClassifierLogits,
    Factor,
    View,
    adversarial_loss,
    gaussian_negative_log_likelihood,
    independence_loss,
    kl_to_standard_normal,
    reconstruction_loss,
    sdcmr_loss,
    similarity_loss,
)

N, D, K, C = 4, 5, 3, 3
SINGLE = [[0, 0, 1], [1, 0, 0], [0, 0, 1], [0, 1, 0]]
MULTI = [[1, 1, 0], [1, 1, 1], [0, 0, 1], [0, 0, 0]]
BOTH = pytest.mark.parametrize(("labels", "multi_label"), [(SINGLE, False), (MULTI, True)], ids=["single", "multi"])
WIDTHS = (D, D, D, K, K, K, C, 2, K, K, K, C, 2)
"""of the tensors of one view, in the order of `view`"""


def rows(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def tensors() -> list[Tensor]:
    """Those of both views."""
    return [rows(N, width, seed=seed) for seed, width in enumerate(2 * WIDTHS)]


def factor(parts: Sequence[Tensor]) -> Factor:
    mean, log_variance, latent, classes, modality = parts
    return Factor(mean, log_variance, latent, ClassifierLogits(classes, modality))


def view(parts: Sequence[Tensor]) -> View:
    features, reconstruction, swapped = parts[:3]
    return View(features, reconstruction, swapped, shared=factor(parts[3:8]), unrelated=factor(parts[8:]))


def views(parts: Sequence[Tensor]) -> tuple[View, View]:
    return view(parts[: len(WIDTHS)]), view(parts[len(WIDTHS) :])


def mean_square(x: Tensor, y: Tensor) -> float:
    squares = [(a - b) ** 2 for p, q in zip(x.tolist(), y.tolist()) for a, b in zip(p, q)]
    return sum(squares) / len(squares)


def softmax_cross_entropy(row: list[float], label: list[int]) -> float:
    total = sum(math.exp(value) for value in row)
    return -sum(math.log(math.exp(value) / total) * truth for value, truth in zip(row, label))


def binary_cross_entropy(row: list[float], label: list[int]) -> float:
    probabilities = [1 / (1 + math.exp(-value)) for value in row]
    return -sum(math.log(p if truth else 1 - p) for p, truth in zip(probabilities, label))


def adversary(
    shared: list[ClassifierLogits], unrelated: list[ClassifierLogits], labels: list[list[int]], multi_label: bool
) -> float:
    """L_ss + L_su, one sample at a time: four cross-entropies, each a mean over samples, for each modality."""
    class_loss = binary_cross_entropy if multi_label else softmax_cross_entropy
    total = 0.0
    for guessed in (shared, unrelated):
        for modality, guesses in enumerate(guessed):
            truth = [int(modality == m) for m in range(len(guessed))]
            for i, label in enumerate(labels):
                loss = class_loss(guesses.classes[i].tolist(), label)
                loss += softmax_cross_entropy(guesses.modality[i].tolist(), truth)
                total += loss / len(labels)
    return total


def divergence(latent: Factor) -> float:
    total = 0.0
    for means, logs in zip(latent.mean.tolist(), latent.log_variance.tolist()):
        total += sum(0.5 * (mean**2 + math.exp(log) - 1 - log) for mean, log in zip(means, logs))
    return total / len(latent.mean)


def frobenius(x: Tensor, y: Tensor) -> float:
    p, q = x.tolist(), y.tolist()
    products = [sum(p[i][a] * q[i][b] for i in range(N)) for a in range(K) for b in range(K)]
    return math.sqrt(sum(value**2 for value in products))


def reference(
    image: View, text: View, labels: list[list[int]], *, multi_label: bool, kl: float, gaussian: bool
) -> dict[str, float]:
    both = (image, text)
    shared, unrelated = [v.shared.guesses for v in both], [v.unrelated.guesses for v in both]
    pairs = zip(image.shared.latent.tolist(), text.shared.latent.tolist())
    return {
        "elbo": sum(
            kl * (divergence(v.shared) + divergence(v.unrelated))
            + mean_square(v.reconstruction, v.features) * (D / 2 if gaussian else 1)
            for v in both
        ),
        "reconstruction": sum(mean_square(v.swapped, v.features) for v in both),
        "similarity": sum((a - b) ** 2 for p, q in pairs for a, b in zip(p, q)) / N,
        "adversary": adversary(shared, unrelated, labels, multi_label),
        "independence": sum(frobenius(v.shared.latent, v.unrelated.latent) for v in both) / N,
    }


@BOTH
@pytest.mark.parametrize("likelihood", ["mse", "gaussian"])
def test_sdcmr_loss_equals_loops_over_samples_and_dimensions(
    labels: list[list[int]], multi_label: bool, likelihood: Literal["mse", "gaussian"]
) -> None:
    image, text = views(tensors())
    expected = reference(image, text, labels, multi_label=multi_label, kl=0.2, gaussian=likelihood == "gaussian")
    weights = {"elbo": 1.0, "reconstruction": 1.5, "similarity": 0.3, "adversary": 2.0, "independence": 0.7}
    expected["total"] = sum(weight * expected[name] for name, weight in weights.items())
    terms = sdcmr_loss(
        image,
        text,
        torch.tensor(labels),
        multi_label=multi_label,
        alpha=1.5,
        beta=0.3,
        gamma=2,
        eta=0.7,
        kl=0.2,
        likelihood=likelihood,
    )
    assert {name: value.item() for name, value in terms.items()} == pytest.approx(expected, abs=1e-12)


def test_default_weights_are_the_papers() -> None:
    terms = sdcmr_loss(*views(tensors()), torch.tensor(SINGLE), multi_label=False)
    weights = {"elbo": 1, "reconstruction": 1, "similarity": 5, "adversary": 10, "independence": 1}
    assert terms["total"].item() == pytest.approx(sum(w * terms[name].item() for name, w in weights.items()))
    whole = sdcmr_loss(*views(tensors()), torch.tensor(SINGLE), multi_label=False, kl=1.0, likelihood="mse")
    assert terms["elbo"].item() == whole["elbo"].item()


@BOTH
def test_gradient_of_the_sdcmr_loss_equals_finite_differences(labels: list[list[int]], multi_label: bool) -> None:
    def total(*parts: Tensor) -> Tensor:
        return sdcmr_loss(*views(parts), torch.tensor(labels), multi_label=multi_label)["total"]

    torch.autograd.gradcheck(total, [part.requires_grad_() for part in tensors()], fast_mode=True)


def test_every_tensor_of_both_views_takes_part() -> None:
    parts = [part.requires_grad_() for part in tensors()]
    terms = sdcmr_loss(*views(parts), torch.tensor(SINGLE), multi_label=False)
    assert all(gradient.abs().max() > 0 for gradient in torch.autograd.grad(terms["total"], parts))


def test_gradients_are_finite_for_identical_and_zero_rows() -> None:
    image, text = views([part.float().zero_().requires_grad_() for part in tensors()])
    total = sdcmr_loss(image, text, torch.tensor(SINGLE), multi_label=False)["total"]
    for part in (image.features, image.swapped, text.shared.mean, text.shared.log_variance, image.unrelated.latent):
        (gradient,) = torch.autograd.grad(total, part, retain_graph=True)
        assert gradient.isfinite().all()
    # Only the guesses cost something: of two modalities, two over the classes and two over the modalities.
    assert total.item() == pytest.approx(10 * 2 * (2 * math.log(3) + 2 * math.log(2)))


def test_divergence_of_the_standard_normal_is_zero_and_that_of_a_shift_half_its_square() -> None:
    mean, log_variance = torch.zeros(2, 3), torch.zeros(2, 3)
    assert kl_to_standard_normal(mean, log_variance).item() == 0
    assert kl_to_standard_normal(mean + 2, log_variance).item() == 6


def test_divergence_equals_that_of_torch_distributions() -> None:
    mean, log_variance = rows(N, K, seed=0), rows(N, K, seed=1)
    posterior = torch.distributions.Normal(mean, (log_variance / 2).exp())
    expected = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0, 1)).sum(1).mean()
    torch.testing.assert_close(kl_to_standard_normal(mean, log_variance), expected)


def test_gaussian_likelihood_equals_that_of_torch_distributions_but_for_its_constant() -> None:
    reconstruction, features = rows(N, D, seed=0), rows(N, D, seed=1)
    expected = -torch.distributions.Normal(reconstruction, 1).log_prob(features).sum(1).mean()
    found = gaussian_negative_log_likelihood(reconstruction, features).item()
    assert found == pytest.approx(expected.item() - D / 2 * math.log(2 * math.pi))
    assert reconstruction_loss(reconstruction, features).item() == pytest.approx(mean_square(reconstruction, features))


def test_similarity_loss_is_the_mean_squared_distance_of_pairs() -> None:
    image, text = torch.tensor([[3.0, 0.0], [1.0, 1.0]]), torch.tensor([[0.0, 4.0], [1.0, 1.0]])
    assert similarity_loss(image, text).item() == 12.5


def test_independence_loss_is_a_mean_over_samples_or_as_printed_a_sum() -> None:
    shared, unrelated = rows(N, K, seed=1), rows(N, K, seed=2)
    norm = frobenius(shared, unrelated)
    assert independence_loss(shared, unrelated).item() == pytest.approx(norm / N)
    assert independence_loss(shared, unrelated, over="batch").item() == pytest.approx(norm)


def test_independence_loss_is_zero_without_gradient_for_orthogonal_factors() -> None:
    shared = torch.tensor([[1.0, 2.0], [0.0, 0.0]], requires_grad=True)
    unrelated = torch.tensor([[0.0, 0.0], [5.0, 1.0]])
    loss = independence_loss(shared, unrelated)
    loss.backward()
    assert loss.item() == 0
    assert shared.grad is not None and (shared.grad == 0).all()


def guesses(modalities: int, *, seed: int) -> list[ClassifierLogits]:
    return [
        ClassifierLogits(rows(N, C, seed=seed + 2 * m), rows(N, modalities, seed=seed + 2 * m + 1))
        for m in range(modalities)
    ]


@BOTH
@pytest.mark.parametrize("modalities", [2, 3])
def test_adversarial_loss_equals_loops_over_samples_and_modalities(
    labels: list[list[int]], multi_label: bool, modalities: int
) -> None:
    shared, unrelated = guesses(modalities, seed=0), guesses(modalities, seed=50)
    found = adversarial_loss(shared, unrelated, torch.tensor(labels), multi_label=multi_label).item()
    assert found == pytest.approx(adversary(shared, unrelated, labels, multi_label), abs=1e-12)


def test_integer_and_one_hot_labels_give_the_same_adversarial_loss() -> None:
    shared, unrelated = guesses(2, seed=0), guesses(2, seed=50)
    found = adversarial_loss(shared, unrelated, torch.tensor([2, 0, 2, 1]), multi_label=False)
    assert torch.equal(found, adversarial_loss(shared, unrelated, torch.tensor(SINGLE), multi_label=False))


def test_reversal_lets_the_classifiers_learn_what_the_encoders_unlearn() -> None:
    """The gradients that Eq. 11 and 12 mean: the second cross-entropy's minus sign is the encoder's alone."""
    strength, labels = 0.4, torch.tensor(SINGLE)
    semantic, modality = (rows(K, width, seed=seed).requires_grad_() for seed, width in [(0, C), (1, 2)])
    z_s, z_u = ([rows(N, K, seed=seed + m).requires_grad_() for m in range(2)] for seed in (2, 4))
    shared = [ClassifierLogits(z @ semantic, reverse_gradient(z, strength) @ modality) for z in z_s]
    unrelated = [ClassifierLogits(reverse_gradient(z, strength) @ semantic, z @ modality) for z in z_u]
    loss = adversarial_loss(shared, unrelated, labels, multi_label=False)
    found = torch.autograd.grad(loss, [*z_s, *z_u, semantic, modality])

    def cross_entropies(z: list[Tensor]) -> tuple[Tensor, Tensor]:
        classes = [torch.nn.functional.cross_entropy(part @ semantic, labels.argmax(1)) for part in z]
        truths = [torch.full((N,), m) for m in range(2)]
        modalities = [torch.nn.functional.cross_entropy(part @ modality, truth) for part, truth in zip(z, truths)]
        return torch.stack(classes).sum(), torch.stack(modalities).sum()

    (shared_class, shared_modality), (unrelated_class, unrelated_modality) = map(cross_entropies, (z_s, z_u))
    expected = (
        *torch.autograd.grad(shared_class - strength * shared_modality, z_s, retain_graph=True),
        *torch.autograd.grad(unrelated_modality - strength * unrelated_class, z_u, retain_graph=True),
        *torch.autograd.grad(shared_class + unrelated_class, [semantic], retain_graph=True),
        *torch.autograd.grad(shared_modality + unrelated_modality, [modality]),
    )
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "loss",
    [kl_to_standard_normal, reconstruction_loss, gaussian_negative_log_likelihood, similarity_loss, independence_loss],
    ids=lambda loss: loss.__name__,
)
def test_each_loss_of_half_precision_rows_is_computed_in_full(
    loss: Callable[[Tensor, Tensor], Tensor], dtype: torch.dtype
) -> None:
    x, y = (rows(N, K, seed=seed).to(dtype) for seed in (0, 1))
    expected = loss(x.float(), y.float())
    for found in (loss(x, y), loss(x, y.float())):
        assert found.dtype == torch.float32
        assert torch.equal(found, expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(loss(x.float(), y.float()), expected)


@pytest.mark.parametrize("multi_label", [False, True])
def test_the_adversary_of_half_precision_logits_is_computed_in_full(multi_label: bool) -> None:
    half = [
        [ClassifierLogits(*(part.bfloat16() for part in each)) for each in guesses(2, seed=seed)] for seed in (0, 50)
    ]
    full = [[ClassifierLogits(*(part.float() for part in each)) for each in factor] for factor in half]
    found, expected = (
        adversarial_loss(*factors, torch.tensor(SINGLE), multi_label=multi_label) for factors in (half, full)
    )
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


def test_the_divergences_have_one_scale_whatever_the_widths() -> None:
    parts = tensors()
    parts[len(WIDTHS) : len(WIDTHS) + 3] = [rows(N, 3 * D, seed=seed) for seed in (70, 71, 72)]  # wider texts
    image, text = views(parts)
    truth = torch.tensor(SINGLE)
    one, none = (sdcmr_loss(image, text, truth, multi_label=False, kl=kl)["elbo"].item() for kl in (1.0, 0.0))
    total = sum(divergence(factor) for each in (image, text) for factor in (each.shared, each.unrelated))
    assert one - none == pytest.approx(total)


def test_the_adversary_sums_over_modalities() -> None:
    """Guessing costs log c and log m for each factor of each modality (Eq. 11 to 13)."""
    for modalities in (2, 3):
        nothing = [ClassifierLogits(torch.zeros(N, C), torch.zeros(N, modalities)) for _ in range(modalities)]
        found = adversarial_loss(nothing, nothing, torch.tensor(SINGLE), multi_label=False).item()
        assert found == pytest.approx(2 * modalities * (math.log(C) + math.log(modalities)))
