"""The fixed classifier that some methods learn towards."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.helpers.references import DATASET
from xmr_e2e.errors import XmrError
from xmr_e2e.methods.heads import label_prior


def test_a_label_prior_has_orthonormal_columns_of_its_seed() -> None:
    prior = label_prior(6, DATASET, 1)
    torch.testing.assert_close(prior.T @ prior, torch.eye(3))
    assert torch.equal(prior, label_prior(6, DATASET, 1)) and not torch.equal(prior, label_prior(6, DATASET, 2))
    square = label_prior(3, DATASET, 0)
    torch.testing.assert_close(square @ square.T, torch.eye(3))


def test_a_saved_models_prior_is_not_drawn_again() -> None:
    assert torch.equal(label_prior(6, replace(DATASET, architectures={}), 1), torch.zeros(6, 3))


def test_more_classes_than_dimensions_are_refused() -> None:
    with pytest.raises(XmrError, match=r"--method\.dim 2 must not be below the 3 classes of the dataset"):
        label_prior(2, DATASET, 0)
