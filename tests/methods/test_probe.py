"""The linear probe: fitted to frozen features, its embeddings are class probabilities."""

from __future__ import annotations

import pytest
import torch

from tests.helpers.small_methods import DATASET, IMAGE, TEXT, batch
from xmr_e2e.errors import XmrError
from xmr_e2e.methods.classifier import Classifier
from xmr_e2e.methods.probe import Probe


def rows_of(labels: torch.Tensor) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(labels.shape[1], 5, generator=generator)
    return labels @ directions + 0.1 * torch.randn(len(labels), 5, generator=generator)


@pytest.mark.parametrize("multi_label", [False, True])
def test_embeddings_are_class_probabilities(multi_label: bool) -> None:
    labels = torch.eye(3)[torch.arange(30) % 3]
    if multi_label:
        labels[:10, 2] = 1
    rows = rows_of(labels) * torch.tensor([1e-3, 1, 1, 1, 1e3]) + 7  # of any scale
    classifier = Classifier(5, 3, multi_label)
    assert torch.equal(classifier(rows), rows)
    classifier.fit(rows, labels, 1.0)
    found = classifier(rows)
    assert ((found > 0.5) == labels.bool()).all()
    assert multi_label or torch.allclose(found.sum(1), torch.ones(30))


def test_a_feature_that_is_the_same_for_all_does_no_harm() -> None:
    labels = torch.eye(3)[torch.arange(30) % 3]
    rows = torch.cat([rows_of(labels), torch.ones(30, 1)], 1)
    classifier = Classifier(6, 3, False)
    classifier.fit(rows, labels, 1.0)
    assert classifier(rows).isfinite().all()


def test_features_that_are_not_finite_are_refused() -> None:
    with pytest.raises(XmrError, match="NaN or infinite features"):
        Classifier(5, 3, False).fit(torch.full((4, 5), float("nan")), torch.eye(3)[[0, 1, 2, 0]], 1.0)


def test_towers_stand_still() -> None:
    method = Probe(image=IMAGE, text=TEXT).build(DATASET).train()
    assert method.frozen == ("image", "text")
    assert not [name for name, p in method.named_parameters() if p.requires_grad]
    with torch.no_grad():
        embeddings = {name: method.embed(name, item) for name, item in batch().inputs.items()}
    method.fit(method.stages[0], embeddings, batch().labels)
    assert {tuple(method.embed(name, item).shape) for name, item in batch().inputs.items()} == {(12, 3)}
    with pytest.raises(XmrError, match="a probe's towers stand still"):
        Probe(image=IMAGE, text=TEXT, frozen=False)
