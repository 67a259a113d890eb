"""ACMR, adversarial cross-modal retrieval (Wang et al., 2017): labels, triplets across modalities, an adversary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from xmr_e2e.objectives.adversarial import modality_loss
from xmr_e2e.objectives.classification import label_loss
from xmr_e2e.objectives.labels import Labels, multi_hot_labels
from xmr_e2e.objectives.similarity import cosine_similarity, full_precision, mean_row_norm


class Negatives(NamedTuple):
    """For each sample of a batch, the most alike of those that share no label with it."""

    indices: Tensor
    """(n,) int64; of no meaning where there is none"""
    exist: Tensor
    """(n,) bool"""


def acmr_loss(
    image: Tensor,
    text: Tensor,
    image_logits: Tensor,
    text_logits: Tensor,
    modality_logits: Sequence[Tensor],
    labels: Labels,
    image_features: Tensor,
    text_features: Tensor,
    *,
    multi_label: bool,
    triplets: Literal["paper", "released"] = "paper",
    label_weight: float = 1.0,
    attract: float = 1.0,
    repel: float = 0.2,
    margin: float = 1.0,
    q: float = 0.0,
) -> dict[str, Tensor]:
    """L_imd, L_imi and L_adv of the paper: label prediction, triplets across modalities, a modality adversary.

    Args:
        image, text: (n, d) embeddings, row i of both being one pair.
        image_logits, text_logits: (n, c) outputs of the label classifier.
        modality_logits: the discriminator's (n, 2) outputs for images and for texts. Where they were computed behind
            `reverse_gradient`, one backward pass serves both sides of the paper's minimax.
        labels: (n,) integer classes or (n, c) multi-hot.
        image_features, text_features: (n, .) what the embeddings were made of. The negatives are chosen by them; they
            get no gradient.
        multi_label: binary cross-entropy summed over classes in place of softmax.
        triplets: "paper", `triplet_loss`; "released", `batch_triplet_loss`, with which the released code takes
            label_weight = 100, attract = 5, repel = 1 and margin = 0.1. The defaults are for "paper": repel / attract
            is the released codes', the weight and the margin are chosen here.
        label_weight: weight of "label".
        attract, repel, margin: of the triplets.
        q: of the label prediction, as `label_loss` has it.

    Returns:
        The scalars "label", the sum of both modalities' cross-entropies, "triplet", with images and with texts as
        anchors, "adversary", the sum of the discriminator's cross-entropies on both modalities, and "total" =
        label_weight * label + triplet + adversary, in fp32 (fp64 for fp64 inputs) whatever autocast is on.

    Raises:
        ValueError: labels that are not of c classes, or a discriminator without two outputs.
    """
    truth = multi_hot_labels(labels, image_logits.shape[1]).to(image.device)
    triplet = {"paper": triplet_loss, "released": batch_triplet_loss}[triplets]
    # An image's negative text is that of the image most like it, and the other way round.
    of_images, of_texts = hardest_negatives(image_features, truth), hardest_negatives(text_features, truth)
    terms = {
        "label": label_loss(image_logits, truth, multi_label=multi_label, q=q)
        + label_loss(text_logits, truth, multi_label=multi_label, q=q),
        "triplet": triplet(image, text, of_images, attract=attract, repel=repel, margin=margin)
        + triplet(text, image, of_texts, attract=attract, repel=repel, margin=margin),
        "adversary": len(modality_logits) * modality_loss(modality_logits),
    }
    return {**terms, "total": label_weight * terms["label"] + terms["triplet"] + terms["adversary"]}


@torch.no_grad()
def hardest_negatives(features: Tensor, labels: Labels) -> Negatives:
    """For each sample the one of largest cosine among those that share no label with it, as in the released code.

    features: (n, d). labels: (n,) integer classes or (n, c) multi-hot. The paper leaves the choice open.
    """
    with full_precision(features) as (features,):
        truth = multi_hot_labels(labels).to(features)
        negative = truth @ truth.T == 0
        negative.fill_diagonal_(False)  # a sample without labels is not its own negative
        cosine = cosine_similarity(features, features).where(negative, -torch.inf)
        return Negatives(cosine.argmax(1), negative.any(1))


def triplet_loss(
    anchors: Tensor, others: Tensor, negatives: Negatives, *, attract: float, repel: float, margin: float
) -> Tensor:
    """Each triplet by itself: mean over i of attract |a_i - o_i| + repel [margin - |a_i - o_k(i)|]_+, L_imi.

    anchors, others: (n, d) embeddings of two modalities, row i of both being one pair; k(i) is i's negative, without
    which the second part is 0. The paper sums over the triplets.
    """
    with full_precision(anchors, others) as (anchors, others):
        distance = torch.linalg.vector_norm(anchors - others[negatives.indices], dim=1)
        hinge = (margin - distance).clamp(min=0) * negatives.exist
        return attract * mean_row_norm(anchors - others) + repel * hinge.mean()


def batch_triplet_loss(
    anchors: Tensor, others: Tensor, negatives: Negatives, *, attract: float, repel: float, margin: float
) -> Tensor:
    """The released code's triplets: one hinge on the batch, [margin + attract D+ - repel D-]_+.

    Arguments as for `triplet_loss`. D+ and D- are half the squared distances of the anchors to their pairs and to their
    negatives, summed over the batch.
    """
    with full_precision(anchors, others) as (anchors, others):
        positive = (anchors - others).square().sum() / 2
        negative = ((anchors - others[negatives.indices]).square().sum(1) * negatives.exist).sum() / 2
        return (margin + attract * positive - repel * negative).clamp(min=0)
