"""SCM: CCA's variates and scikit-learn's logistic regression on them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from tests.helpers.references import DATASET, LayerTower, array
from xmr_e2e.errors import XmrError
from xmr_e2e.methods.base import Method, MethodConfig
from xmr_e2e.methods.cca import Cca
from xmr_e2e.methods.probe import Probe
from xmr_e2e.methods.scm import Scm
from xmr_e2e.towers.vector import VectorTower

TOWERS: dict[str, Any] = {"image": VectorTower(), "text": VectorTower(), "frozen": True}
LABELS = torch.eye(3)[torch.arange(60) % 3]


def rows() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: LABELS.double() @ torch.randn(3, d, generator=generator, dtype=torch.float64)
        + torch.randn(60, d, generator=generator, dtype=torch.float64)
        for name, d in (("image", 6), ("text", 5))
    }  # fmt: skip


def fitted(config: MethodConfig, labels: Tensor = LABELS, *, multi_label: bool = False) -> Method:
    method = config.build(replace(DATASET, widths={"image": 6, "text": 5}, multi_label=multi_label)).double()
    method.fit(method.stages[-1], rows(), labels)
    return method


@pytest.mark.parametrize("penalty", [1.0, 20.0])
def test_embeddings_are_class_probabilities_from_canonical_variates(penalty: float) -> None:
    scm, cca = fitted(Scm(**TOWERS, dim=3, ridge=0.1, penalty=penalty)), fitted(Cca(**TOWERS, dim=3, ridge=0.1))
    for name, each in rows().items():
        variates = array(cca.embed(name, each))
        variates = (variates - variates.mean(0)) / variates.std(0)
        theirs = LogisticRegression(C=1 / penalty, tol=1e-10, max_iter=10_000).fit(variates, LABELS.argmax(1))
        np.testing.assert_allclose(array(scm.embed(name, each)), theirs.predict_proba(variates), atol=1e-5)


def test_for_several_labels_each_class_has_its_own_probability() -> None:
    labels = LABELS.clone()
    labels[::5, 2] = 1
    found = fitted(Scm(**TOWERS, dim=3), labels, multi_label=True).embed("image", rows()["image"])
    assert ((found > 0) & (found < 1)).all() and not torch.allclose(found.sum(1), torch.ones(60, dtype=found.dtype))


@pytest.mark.parametrize("kind", [Scm, Probe])
def test_the_similarity_is_an_option(kind: type[Scm] | type[Probe]) -> None:
    info = replace(DATASET, widths={"image": 6, "text": 5})
    options = {**TOWERS, "dim": 3} if kind is Scm else TOWERS
    assert kind(**options).build(info).similarity == "dot"
    assert kind(**options, similarity="pearson").build(info).similarity == "pearson"


def test_it_needs_labels_and_refuses_nan_and_too_many_variates() -> None:
    assert Scm().needs_labels and Scm(frozen=True).needs_labels
    towers = {name: LayerTower(dim=5) for name in ("image", "text")}
    assert [stage.name for stage in Scm(**towers, dim=3).build(DATASET).stages] == ["labels", "correlation"]  # type: ignore[arg-type]
    with pytest.raises(XmrError, match=r"--method\.dim 6 is more than the towers' widths allow \(5\)"):
        fitted(Scm(**TOWERS, dim=6))
    method = Scm(**TOWERS, dim=3).build(replace(DATASET, widths={"image": 6, "text": 5}))
    with pytest.raises(XmrError, match="infinite image embeddings"):
        method.fit(method.stages[-1], rows() | {"image": torch.full((60, 6), torch.nan)}, LABELS)
