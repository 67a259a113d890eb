"""Mixed pools: a query of one modality against the items of all others, against explicit loops."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from tests.helpers.embedded import embedded_split
from xmr_e2e.evaluation.by_protocol import evaluate_protocol
from xmr_e2e.evaluation.directions import all_directions, cross_modal_metrics
from xmr_e2e.evaluation.embedded import EmbeddedSplit
from xmr_e2e.evaluation.figures import CrossModalMetrics
from xmr_e2e.evaluation.result import EvaluationResult

LABELS = np.random.default_rng(0).integers(0, 3, 30)
POSITIONS = {"image": np.arange(0, 12), "text": np.arange(4, 20), "audio": np.arange(18, 30)}
"""samples 4 to 11 are pairs of image and text, 18 and 19 of text and audio"""
# small integers: dot products are exact and often equal
ROWS = {
    name: np.random.default_rng(number).integers(-2, 3, (len(own), 3)) * 1.0
    for number, (name, own) in enumerate(POSITIONS.items())
}


def embedded(modalities: tuple[str, ...]) -> EmbeddedSplit:
    rows = {name: ROWS[name] for name in modalities}
    return embedded_split(rows, LABELS, positions={name: POSITIONS[name] for name in modalities})


def measured(modalities: tuple[str, ...] = tuple(POSITIONS)) -> CrossModalMetrics:
    return cross_modal_metrics(embedded(modalities), similarity="dot")


def ranking(query: str, row: int) -> list[int]:
    """The samples of the items of all other modalities, best first; equal ones in the order of the modalities."""
    asked = ROWS[query][row]
    items = [
        (-float(asked @ item), int(sample))
        for other in POSITIONS
        if other != query
        for item, sample in zip(ROWS[other], POSITIONS[other])
    ]
    return [sample for _, sample in sorted(items, key=lambda item: item[0])]  # sorted keeps the order of equal ones


def precision_of(query: str, row: int) -> float:
    own = LABELS[POSITIONS[query][row]]
    hits = [rank for rank, sample in enumerate(ranking(query, row), start=1) if LABELS[sample] == own]
    return math.fsum(number / rank for number, rank in enumerate(hits, start=1)) / len(hits)


@pytest.mark.parametrize("query", POSITIONS)
def test_a_pool_holds_all_other_modalities_items_and_its_figures_equal_loops(query: str) -> None:
    row = measured().model.pools[f"{query}_to_others"]
    count = len(POSITIONS[query])
    assert (row.queries, row.gallery) == (count, 40 - count)
    precisions = [precision_of(query, number) for number in range(count)]
    assert row.scores["mAP@all"] == pytest.approx(math.fsum(precisions) / count, abs=1e-12)
    pairs = [
        ranking(query, number).index(sample) + 1
        for number, sample in enumerate(POSITIONS[query].tolist())
        if sample in ranking(query, number)
    ]
    assert row.queries_with_pair == len(pairs) > 0
    assert row.scores["R@5"] == pytest.approx(sum(rank <= 5 for rank in pairs) / len(pairs))
    assert row.scores["MedR"] == np.median(pairs)


def test_the_random_row_of_a_pool_is_near_the_share_of_relevant_items() -> None:
    rng = np.random.default_rng(5)
    labels = np.arange(300) % 4
    split = embedded_split({name: rng.standard_normal((300, 3)) for name in ("audio", "image", "text")}, labels)
    random = cross_modal_metrics(split).random
    assert list(random.pools) == ["audio_to_others", "image_to_others", "text_to_others"]
    for row in random.pools.values():
        assert row.gallery == 600
        assert row.scores["mAP@all"] == pytest.approx(0.25, abs=0.02)


def test_pools_are_in_no_average_and_change_no_direction() -> None:
    three, two = measured(), measured(("image", "text"))
    assert three.model.average == all_directions(embedded(tuple(POSITIONS)), similarity="dot").average
    assert three.model.directions["image_to_text"] == two.model.directions["image_to_text"]
    assert three.random.directions["image_to_text"] == two.random.directions["image_to_text"]


def test_two_modalities_have_no_pool_and_validation_measures_none() -> None:
    two = measured(("image", "text"))
    assert two.model.pools == two.random.pools == {} and "all others" not in two.definitions
    assert all_directions(embedded(tuple(POSITIONS)), similarity="dot").pools == {}


def test_pools_are_in_result_files_and_read_back() -> None:
    result = EvaluationResult("tiny", "test", "the last", measured())
    document = json.loads(json.dumps(result.to_dict()))
    assert set(document["random"]["pools"]) == {"image_to_others", "text_to_others", "audio_to_others"}
    assert "one gallery" in document["definitions"]["all others"]
    assert EvaluationResult.from_dict(document, "test.json") == result
    del document["random"]["pools"]["audio_to_others"]
    assert not EvaluationResult.from_dict(document, "test.json").metrics.is_complete


def test_a_pool_over_folds_is_the_mean_of_theirs() -> None:
    folds = np.arange(30) % 2
    both = evaluate_protocol(embedded(tuple(POSITIONS)), "dot", folds=folds).model.pools["text_to_others"]
    assert (both.queries, both.gallery) == (8, 12)


def test_another_gallery_gives_the_pool() -> None:
    larger = {name: np.concatenate([rows, rows]) for name, rows in ROWS.items()}
    positions = {name: np.concatenate([own, own + 30]) for name, own in POSITIONS.items()}
    gallery = embedded_split(larger, np.concatenate([LABELS, LABELS]), positions=positions)
    pools = cross_modal_metrics(embedded(tuple(POSITIONS)), gallery, similarity="dot").model.pools
    assert (pools["audio_to_others"].queries, pools["audio_to_others"].gallery) == (12, 56)
