"""Semantics disentangling for cross-modal retrieval (SDCMR; Wang et al., 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from xmr_e2e.objectives.adversarial import modality_loss
from xmr_e2e.objectives.classification import label_loss
from xmr_e2e.objectives.labels import Labels, multi_hot_labels
from xmr_e2e.objectives.similarity import full_precision
from xmr_e2e.objectives.terms import weighted_terms


class ClassifierLogits(NamedTuple):
    """The outputs of both classifiers for one latent factor of one modality."""

    classes: Tensor
    """(n, c) logits of the semantic classifier C^s"""
    modality: Tensor
    """(n, m) logits of the modality classifier C^u"""


class Factor(NamedTuple):
    """One latent factor of one modality: the posterior N(mean, diag(exp(log_variance))), and what stands for it."""

    mean: Tensor
    """(n, k)"""
    log_variance: Tensor
    """(n, k)"""
    latent: Tensor
    """(n, k), z of Eq. 7 and 14: a sample of the posterior, or its mean"""
    guesses: ClassifierLogits | None
    """None where the adversary has no weight"""


class View(NamedTuple):
    """All that the losses take of one modality."""

    features: Tensor
    """(n, d), what is to be reconstructed"""
    reconstruction: Tensor | None
    """(n, d), decoded from the modality's own two factors; None where the bound has no weight"""
    swapped: Tensor | None
    """(n, d), decoded from its semantic-unrelated factor and the other modality's semantic-shared one; None where the
    swapped reconstruction has no weight"""
    shared: Factor
    """semantic-shared, z^s; its modality classifier sits behind gradient reversal"""
    unrelated: Factor | None
    """semantic-unrelated, z^u; its semantic classifier sits behind gradient reversal; None where there is but one"""


def sdcmr_loss(
    image: View,
    text: View,
    labels: Labels,
    *,
    multi_label: bool,
    elbo: float = 1.0,
    alpha: float = 1.0,
    beta: float = 5.0,
    gamma: float = 10.0,
    eta: float = 1.0,
    kl: float = 1.0,
    likelihood: Literal["mse", "gaussian"] = "mse",
    independence_over: Literal["samples", "batch"] = "samples",
) -> dict[str, Tensor]:
    """The sum of all losses (Wang et al., 2024, Eq. 15).

    Args:
        image, text: row i of both is one pair.
        labels: (n,) integer classes or (n, c) multi-hot.
        multi_label: whether samples may have several classes; see `adversarial_loss`.
        elbo: weight of "elbo", to which Eq. 15 gives none.
        alpha, beta, gamma, eta: weights of "reconstruction", "similarity", "adversary", "independence".
        kl: weight of the divergences within "elbo".
        likelihood: of the features in "elbo", whose scale the paper leaves open: "gaussian",
            `gaussian_negative_log_likelihood`'s, a sum over thousands of dimensions that outweighs all other terms; or
            "mse", the mean squared error, which is the likelihood under a variance of d / 2. The divergences stand
            beside it as they are, in both modalities alike.
        independence_over: as `independence_loss` has it.

    Returns:
        The scalars "elbo" (minus the bound of Eq. 4, which is to be maximised), "reconstruction" (Eq. 10),
        "similarity" (Eq. 7), "adversary" (Eq. 13), "independence" (Eq. 14), those of weight 0 left out, and their
        weighted sum "total", in fp32 (fp64 for fp64 inputs) whatever autocast is on.
    """
    views = (image, text)
    terms, weighted = weighted_terms(
        {
            "elbo": (elbo, lambda: _sum([_negative_bound(view, kl, likelihood) for view in views])),
            "reconstruction": (alpha, lambda: _sum([_swapped_reconstruction(view) for view in views])),
            "similarity": (beta, lambda: similarity_loss(image.shared.latent, text.shared.latent)),
            "adversary": (gamma, lambda: _adversary(views, labels, multi_label)),
            "independence": (eta, lambda: _sum([_independence(view, independence_over) for view in views])),
        }
    )
    return {**terms, "total": _sum(weighted)}


def _swapped_reconstruction(view: View) -> Tensor:
    assert view.swapped is not None
    return reconstruction_loss(view.swapped, view.features)


def _adversary(views: Sequence[View], labels: Labels, multi_label: bool) -> Tensor:
    shared, unrelated = (
        [factor.guesses for view in views if (factor := getattr(view, name))] for name in ("shared", "unrelated")
    )
    return adversarial_loss(shared, unrelated, labels, multi_label=multi_label)


def _independence(view: View, over: Literal["samples", "batch"]) -> Tensor:
    assert view.unrelated is not None
    return independence_loss(view.shared.latent, view.unrelated.latent, over=over)


def _negative_bound(view: View, kl: float, likelihood: Literal["mse", "gaussian"]) -> Tensor:
    assert view.reconstruction is not None
    factors = [factor for factor in (view.shared, view.unrelated) if factor]
    divergences = [kl_to_standard_normal(z.mean, z.log_variance) for z in factors]
    distance = gaussian_negative_log_likelihood if likelihood == "gaussian" else reconstruction_loss
    return distance(view.reconstruction, view.features) + kl * _sum(divergences)


def kl_to_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, diag(exp(log_variance))) || N(0, I)) of one factor (Eq. 2): (n, k) each -> scalar.

    The mean over samples of the sum over dimensions, in nats.
    """
    with full_precision(mean, log_variance) as (mean, log_variance):
        # expm1: close to the prior, exp(v) - 1 - v is a small difference of numbers close to 1.
        return (mean.square() + torch.expm1(log_variance) - log_variance).sum(1).mean() / 2


def reconstruction_loss(reconstruction: Tensor, features: Tensor) -> Tensor:
    """Mean squared error over samples and dimensions, for one modality of Eq. 10: (n, d) each -> scalar."""
    with full_precision(reconstruction, features) as (reconstruction, features):
        return F.mse_loss(reconstruction, features)


def gaussian_negative_log_likelihood(reconstruction: Tensor, features: Tensor) -> Tensor:
    """-log p(x | z) under N(reconstruction, I), without its constant (Eq. 2): (n, d) each -> scalar.

    The mean over samples of half the squared distance, which is d / 2 times `reconstruction_loss`.
    """
    return reconstruction_loss(reconstruction, features) * features.shape[1] / 2


def similarity_loss(image: Tensor, text: Tensor) -> Tensor:
    """Mean over pairs of the squared distance of their semantic-shared factors (Eq. 7): (n, k) each -> scalar."""
    with full_precision(image, text) as (image, text):
        return (image - text).square().sum(1).mean()


def adversarial_loss(
    shared: Sequence[ClassifierLogits], unrelated: Sequence[ClassifierLogits], labels: Labels, *, multi_label: bool
) -> Tensor:
    """The dual adversarial mechanism (Eq. 11-13), read as domain-adversarial training (Ganin and Lempitsky, 2015).

    As printed, Eq. 11 and 12 cancel. Here all four cross-entropies are minimised, with gradient reversal (see
    `xmr_e2e.objectives.adversarial`) before the classifier that must not succeed, so that the classifiers learn while
    the encoders unlearn: the caller gives `shared` as ClassifierLogits(C^s(z), C^u(reversed z)) and `unrelated` as
    ClassifierLogits(C^s(reversed z), C^u(z)).

    Args:
        shared, unrelated: for each of m modalities, in the same order, the guesses from z^s and from z^u; none from
            z^u where there is but z^s.
        labels: (n,) integer classes or (n, c) multi-hot, for the samples of every modality.
        multi_label: whether the classes' cross-entropy is a binary one, summed over classes, instead of softmax's.

    Returns:
        L_ss + L_su, a scalar: for both factors the cross-entropy of the class and that of the modality, each a mean
        over samples and a sum over modalities.

    Raises:
        ValueError: modality logits that are not m wide, or labels that are not of c classes.
    """
    truth = multi_hot_labels(labels, shared[0].classes.shape[1]).to(shared[0].classes.device)
    classes = [label_loss(guesses.classes, truth, multi_label=multi_label) for guesses in (*shared, *unrelated)]
    modalities = [modality_loss([guesses.modality for guesses in factor]) for factor in (shared, unrelated) if factor]
    return _sum(classes) + len(shared) * _sum(modalities)  # the modalities' loss is a mean over them


def independence_loss(shared: Tensor, unrelated: Tensor, *, over: Literal["samples", "batch"] = "samples") -> Tensor:
    """Frobenius norm, not squared, of Z^s' Z^u, for one modality of Eq. 14: (n, k) each -> scalar.

    over: a mean over the n samples, or the sum over the batch, as printed. Where the product is zero, so is the
    gradient.
    """
    with full_precision(shared, unrelated) as (shared, unrelated):
        norm: Tensor = torch.linalg.vector_norm(shared.T @ unrelated)
        return norm / len(shared) if over == "samples" else norm


def _sum(values: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(values)).sum()
