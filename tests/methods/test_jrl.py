"""JRL as a method: standardized features, their projections, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.helpers.references import DATASET
from xmr_e2e.errors import XmrError
from xmr_e2e.methods.base import Method
from xmr_e2e.methods.jrl import Jrl
from xmr_e2e.objectives.jrl import JrlWeights, fit_jrl
from xmr_e2e.towers.vector import VectorTower

WIDTHS = {"image": 6, "text": 5, "audio": 4}
LABELS = torch.eye(3)[torch.arange(60) % 3]


def build(*modalities: str, **options: Any) -> Method:
    others = {name: None for name in ("image", "text") if name not in modalities}
    config = Jrl(**others, **dict.fromkeys(modalities, VectorTower()), frozen=True, **options)
    return config.build(replace(DATASET, widths=WIDTHS)).double()


def rows_of(*modalities: str) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: 7 + 3 * LABELS.double() @ torch.randn(3, WIDTHS[name], generator=generator, dtype=torch.float64)
        + torch.randn(60, WIDTHS[name], generator=generator, dtype=torch.float64)
        for name in modalities
    }  # fmt: skip


@pytest.mark.parametrize("modalities", [("image", "text"), ("text", "audio"), ("image", "text", "audio")])
def test_embeddings_are_projections_of_standardized_features(modalities: tuple[str, ...]) -> None:
    rows = rows_of(*modalities)
    method = build(*modalities, correlation=0.5, sparsity=0.02, graph=0.1, neighbors=4)
    assert [(stage.name, stage.modalities) for stage in method.stages] == [("projection", method.modalities)]
    method.fit(method.stages[0], rows, LABELS)
    views = [(each - each.mean(0)) / each.std(0, correction=0) for each in rows.values()]
    expected = fit_jrl(views, LABELS, JrlWeights(0.5, 0.02, 0.1), neighbors=4, iterations=100)
    for (name, each), view, projection in zip(rows.items(), views, expected):
        found = method.embed(name, each)
        torch.testing.assert_close(found, view @ projection)
        assert (found.argmax(1) == LABELS.argmax(1)).double().mean() > 0.8


def test_the_agreement_brings_the_modalities_of_a_sample_together() -> None:
    rows, distances = rows_of("image", "text"), []
    for correlation in (0.0, 10.0):
        method = build("image", "text", correlation=correlation)
        method.fit(method.stages[0], rows, LABELS)
        image, text = (method.embed(name, each) for name, each in rows.items())
        distances.append(float((image - text).norm() / image.norm()))
    assert distances[1] < 0.95 * distances[0]


def test_a_feature_that_is_the_same_for_all_does_no_harm_and_bad_input_is_refused() -> None:
    rows = rows_of("image", "text")
    rows["text"][:, 2] = 4.0
    method = build("image", "text")
    method.fit(method.stages[0], rows, LABELS)
    assert method.embed("text", rows["text"]).isfinite().all()
    with pytest.raises(XmrError, match="infinite text embeddings, to which JRL cannot be fitted"):
        method.fit(method.stages[0], rows | {"text": torch.full_like(rows["text"], torch.nan)}, LABELS)
    singular = build("image", "text", sparsity=1e-300)
    with pytest.raises(XmrError, match=r"sparsity 1e-300 cannot be fitted: .*raise --method\.sparsity"):
        singular.fit(singular.stages[0], {name: each[:, :1].expand_as(each) for name, each in rows.items()}, LABELS)
