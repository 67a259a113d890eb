"""Deep supervised cross-modal retrieval (Zhen et al., 2019)."""

from __future__ import annotations

from functools import reduce
from typing import Literal

import torch
from torch import Tensor

from xmr_e2e.objectives.labels import Labels, multi_hot_labels, share_a_label
from xmr_e2e.objectives.similarity import full_precision, mean_row_norm, pair_negative_log_likelihood
from xmr_e2e.objectives.terms import weighted_terms


def dscmr_loss(
    image: Tensor,
    text: Tensor,
    image_logits: Tensor | None,
    text_logits: Tensor | None,
    labels: Labels,
    *,
    label: float = 1.0,
    lam: float = 1e-3,
    eta: float = 1e-1,
    norm: Literal["rows", "frobenius"] = "rows",
    similar: Literal["indicator", "count"] = "indicator",
) -> dict[str, Tensor]:
    """Discrimination in label space and in the common space, and modality invariance (Zhen et al., 2019, Eq. 1-5).

    Args:
        image, text: (n, d) embeddings, row i of both being one pair.
        image_logits, text_logits: (n, c) outputs of the linear classifier, without softmax; None without "label".
        labels: (n,) integer classes or (n, c) multi-hot.
        label: weight of "label", to which Eq. 5 gives none.
        lam: weight of "common".
        eta: weight of "invariance".
        norm: what Eq. 1 and 4 take of an (n, .) matrix of residuals: "rows", the mean of its rows' norms, as the
            released code does, for which lam and eta were tuned; "frobenius", its Frobenius norm over n, as printed,
            which is about sqrt(n) times smaller.
        similar: S_ij of Eq. 2: "indicator", 1 if two samples share a class and 0 otherwise, as printed; "count", the
            number of classes that they share, as the released code has it. The same for one label per sample.

    Returns:
        The scalars "label" (Eq. 1), "common" (Eq. 2), "invariance" (Eq. 4), those of weight 0 left out, and their
        weighted sum "total" (Eq. 5), in fp32 (fp64 for fp64 inputs) whatever autocast is on.

    Raises:
        ValueError: labels that are not of c classes.
    """
    logits = [rows for rows in (image_logits, text_logits) if rows is not None]
    with full_precision(image, text, *logits) as (image, text, *logits):
        truth = multi_hot_labels(labels, logits[0].shape[1] if logits else None).to(image)
        size = {"rows": mean_row_norm, "frobenius": _frobenius_norm_over_rows}[norm]
        terms, weighted = weighted_terms(
            {
                "label": (label, lambda: reduce(torch.add, [size(rows - truth) for rows in logits])),
                "common": (lam, lambda: _common(image, text, truth, similar)),
                "invariance": (eta, lambda: size(image - text)),
            }
        )
        return {**terms, "total": reduce(torch.add, weighted)}


def _common(image: Tensor, text: Tensor, truth: Tensor, similar: Literal["indicator", "count"]) -> Tensor:
    together = share_a_label(truth, truth) if similar == "indicator" else truth @ truth.T
    views = [(image, image), (image, text), (text, text)]
    return torch.stack([pair_negative_log_likelihood(*pair, together, scale=0.5) for pair in views]).sum()


@torch.no_grad()
def closed_form_classifier(image: Tensor, text: Tensor, labels: Labels, *, ridge: float) -> Tensor:
    """The classifier P of a batch as Algorithm 1 (line 7) prints it: (UU' + rI)^-1 UY' + (VV' + rI)^-1 VY'.

    image, text: (n, d), the transposes of the paper's U and V. labels: (n, c) multi-hot; or (n,) integer classes, of
    which the largest is then taken to be the last.
    ridge: r; the paper has none, and with r = 0 its matrices are singular for n < d, where this gives the limit r -> 0.
    Returns P, (d, c), without gradient: the paper updates P and the networks in turns. Computed in fp64, returned in
    fp32 (fp64 for fp64 embeddings).

    Either summand alone is the least-squares classifier of its modality, so where both modalities agree their sum
    predicts twice the labels.

    Raises torch.linalg.LinAlgError for a system that is singular to rounding: raise r.
    """
    with full_precision(image, text) as (image, text):
        truth = multi_hot_labels(labels).to(image.device, torch.float64)
        classifier = _ridge_regression(image.double(), truth, ridge) + _ridge_regression(text.double(), truth, ridge)
        return classifier.to(image.dtype)


def _ridge_regression(x: Tensor, y: Tensor, ridge: float) -> Tensor:
    n, d = x.shape
    if n < d:
        # (X'X + rI)^-1 X' = X' (XX' + rI)^-1: the smaller of the two systems.
        weights: Tensor = torch.linalg.solve(x @ x.T + ridge * torch.eye(n, dtype=x.dtype, device=x.device), y)
        return x.T @ weights
    classifier: Tensor = torch.linalg.solve(x.T @ x + ridge * torch.eye(d, dtype=x.dtype, device=x.device), x.T @ y)
    return classifier


def _frobenius_norm_over_rows(x: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(x)
    return norm / len(x)
