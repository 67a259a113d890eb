"""MCCA: of two modalities the embeddings of CCA, of three those of the multi-view closed form."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.helpers.references import DATASET, LayerTower
from xmr_e2e.errors import XmrError
from xmr_e2e.methods.base import Method, MethodConfig
from xmr_e2e.methods.cca import Cca
from xmr_e2e.methods.mcca import Mcca
from xmr_e2e.objectives.cca import multiview_cca
from xmr_e2e.towers.vector import VectorTower

WIDTHS = {"image": 6, "text": 5, "audio": 4}
TWO: dict[str, Any] = {"image": VectorTower(), "text": VectorTower()}
LABELS = torch.eye(3)[torch.arange(60) % 3]


def build(config: MethodConfig) -> Method:
    return config.build(replace(DATASET, widths=WIDTHS)).double()


def rows_of(*modalities: str) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    latent = torch.randn(60, 3, generator=generator, dtype=torch.float64)
    return {
        name: 7 + latent @ torch.randn(3, WIDTHS[name], generator=generator, dtype=torch.float64)
        + 0.5 * torch.randn(60, WIDTHS[name], generator=generator, dtype=torch.float64)
        for name in modalities
    }  # fmt: skip


def embeddings(method: Method, rows: dict[str, Tensor]) -> dict[str, Tensor]:
    method.fit(method.stages[-1], rows, LABELS)
    return {name: method.embed(name, each) for name, each in rows.items()}


def test_of_two_modalities_it_is_cca() -> None:
    rows = rows_of("image", "text")
    mcca, cca = (embeddings(build(kind(**TWO, dim=3, frozen=True)), rows) for kind in (Mcca, Cca))
    assert all(torch.equal(mcca[name], cca[name]) for name in rows)


def test_of_three_modalities_embeddings_are_the_variates_of_all() -> None:
    rows = rows_of("image", "text", "audio")
    found = embeddings(build(Mcca(**TWO, audio=VectorTower(), dim=3, frozen=True, ridge=0.1)), rows)
    # The ridge is a share of the covariances' mean diagonals.
    expected = multiview_cca([each / each.var(0).mean().sqrt() for each in rows.values()], 3, ridge=0.1)
    for view, (name, each) in enumerate(rows.items()):
        torch.testing.assert_close(found[name], expected.project(view, each / each.var(0).mean().sqrt()))
    correlations = [
        torch.corrcoef(torch.stack([found[one][:, 0], found[other][:, 0]]))[0, 1].item()
        for one, other in (("image", "text"), ("image", "audio"), ("text", "audio"))
    ]
    assert min(correlations) > 0.5


def test_without_frozen_towers_it_learns_the_labels_first() -> None:
    towers = {name: LayerTower(dim=5) for name in ("image", "text")}
    method = Mcca(**towers, dim=3).build(DATASET)  # type: ignore[arg-type]
    assert [(stage.name, stage.closed_form) for stage in method.stages] == [("labels", False), ("correlation", True)]
    assert Mcca().needs_labels and not Mcca(frozen=True).needs_labels


def test_more_variates_than_a_tower_is_wide_nan_and_singular_covariances_are_refused() -> None:
    three = {**TWO, "audio": VectorTower()}
    with pytest.raises(XmrError, match=r"--method\.dim 5 is more than the towers' widths allow \(4\)"):
        build(Mcca(**three, dim=5))
    rows = rows_of("image", "text", "audio")
    method = build(Mcca(**three, dim=3, frozen=True, ridge=0.0))
    with pytest.raises(XmrError, match="infinite audio embeddings"):
        method.fit(method.stages[-1], rows | {"audio": rows["audio"] * torch.nan}, LABELS)
    with pytest.raises(XmrError, match=r"ridge 0 cannot be fitted: .*raise --method\.ridge"):
        method.fit(method.stages[-1], rows | {"audio": torch.zeros_like(rows["audio"])}, LABELS)
