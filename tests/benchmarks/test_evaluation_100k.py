"""The measurement of the evaluation, in miniature."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import evaluation_100k
from benchmarks.evaluation_100k import evaluation
from xmr_e2e.errors import XmrError
from xmr_e2e.evaluation import ranking
from xmr_e2e.evaluation.metrics import mean_average_precision


def test_both_ways_are_measured_and_compared_with_brute_force(tmp_path: Path) -> None:
    evaluation(items=70, dim=8, classes=3, part=50, out=tmp_path / "found.json")
    found = json.loads((tmp_path / "found.json").read_bytes())
    assert [row["direction"] for row in found["directions"]] == ["image to text", "text to image"]
    assert all(row["difference"] < 1e-12 and 0.3 < row["map_at_all"] < 0.6 for row in found["directions"])
    assert all(row["seconds"] > 0 and row["memory_mb"] >= 0 for row in found["directions"])


def test_figures_that_are_not_those_of_brute_force_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation_100k, "_brute_force", lambda *_: 0.5)
    with pytest.raises(XmrError, match="not those of brute force"):
        evaluation(items=30, dim=8, classes=3, part=20)


@pytest.mark.slow
def test_what_was_measured_of_a_chunk_keeps_none_of_its_memory() -> None:
    queries, gallery = 3000, 20_000
    rng = np.random.default_rng(0)
    sides = [rng.standard_normal((count, 4), np.float32) for count in (queries, gallery)]
    labels = [np.arange(count) % 10 for count in (queries, gallery)]
    mean_average_precision(sides[0][:20], sides[1], labels[0][:20], labels[1])  # what is made once
    held = evaluation_100k._start_peak()
    mean_average_precision(*sides, *labels)
    keys = ranking.BLOCK_ROWS * gallery * 8 / 2**20
    assert evaluation_100k._status("VmHWM") - held < keys + 70
