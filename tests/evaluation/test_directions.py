"""All directions among several modalities, of samples that lack some, against explicit loops."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
import torch

from tests.helpers.embedded import embedded_split
from xmr_e2e.errors import XmrError
from xmr_e2e.evaluation.directions import all_directions, cross_modal_metrics
from xmr_e2e.evaluation.embedded import EmbeddedSplit
from xmr_e2e.evaluation.figures import Directions, direction_title
from xmr_e2e.evaluation.metrics import mean_average_precision, recall_at_k
from xmr_e2e.evaluation.per_query import Discount
from xmr_e2e.evaluation.result import EvaluationResult
from xmr_e2e.evaluation.retrieval import MetricSpec

MEASURES = MetricSpec(map_ks=(5,), ndcg_ks=(4,), recall_ks=(1, 3))


class Library:
    """20 samples of 3 modalities, each of which some lack. Image and text share samples, audio clips stand alone."""

    def __init__(self, *, multi_hot: bool = True) -> None:
        rng = np.random.default_rng(0)
        self.positions = {
            "image": np.array([0, 1, 2, 4, 5, 8, 9, 12, 15]),
            "text": np.array([1, 2, 3, 5, 9, 10, 15]),
            "audio": np.array([6, 7, 11, 13, 14, 16, 17, 18, 19]),
        }
        # small integers: dot products are exact and often equal
        self.embeddings = {name: rng.integers(-2, 3, (len(rows), 3)) * 1.0 for name, rows in self.positions.items()}
        self.labels = (rng.random((20, 4)) < 0.4).astype(float) if multi_hot else rng.integers(0, 3, 20)
        self.ids = [f"sample {position}" for position in range(20)]

    def ranking(self, query: str, row: int, gallery: str) -> list[int]:
        """Sample numbers, best first, by loops over exact dot products."""
        asked = self.embeddings[query][row].tolist()
        dots = [sum(int(a) * int(b) for a, b in zip(asked, item)) for item in self.embeddings[gallery].tolist()]
        order = sorted(range(len(dots)), key=lambda index: (-dots[index], index))
        return [int(self.positions[gallery][index]) for index in order]

    def gain(self, a: int, b: int) -> int:
        one, other = self.labels[a], self.labels[b]
        return int(one == other) if np.ndim(one) == 0 else sum(int(x and y) for x, y in zip(one, other))

    def scores(self, query: str, gallery: str) -> dict[str, float]:
        """The figures of one direction."""
        values: dict[str, list[float]] = {}
        for row, position in enumerate(self.positions[query].tolist()):
            ranked = self.ranking(query, row, gallery)
            gains = [self.gain(position, item) for item in ranked]
            for name, k in (("mAP@all", len(gains)), ("mAP@5", 5)):
                hits = [rank for rank in range(1, min(k, len(gains)) + 1) if gains[rank - 1]]
                precisions = [number / rank for number, rank in enumerate(hits, start=1)]
                values.setdefault(name, []).append(sum(precisions) / len(hits) if hits else 0.0)
            ideal = discounted(sorted(gains, reverse=True))
            values.setdefault("NDCG@4", []).append(discounted(gains) / ideal if ideal else 0.0)
            if position in ranked:
                for k in (1, 3):
                    values.setdefault(f"R@{k}", []).append(float(position in ranked[:k]))
        return {name: math.fsum(each) / len(each) for name, each in values.items()}

    @property
    def embedded(self) -> EmbeddedSplit:
        return embedded_split(self.embeddings, self.labels, self.ids, positions=self.positions)

    def measured(self) -> Directions:
        return all_directions(self.embedded, similarity="dot", spec=MEASURES)


def discounted(gains: list[int]) -> float:
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains[:4], start=1))


@pytest.mark.parametrize("multi_hot", [False, True])
def test_every_direction_of_three_partly_missing_modalities_equals_loops(multi_hot: bool) -> None:
    library = Library(multi_hot=multi_hot)
    directions = library.measured()
    assert list(directions.directions) == [
        "image_to_text",
        "image_to_audio",
        "text_to_image",
        "text_to_audio",
        "audio_to_image",
        "audio_to_text",
    ]
    for query, gallery in itertools.permutations(library.positions, 2):
        row = directions.directions[f"{query}_to_{gallery}"]
        expected = library.scores(query, gallery)
        assert {name: row.scores[name] for name in expected} == pytest.approx(expected, abs=1e-12)
        assert row.scores.keys() - expected.keys() == ({"MedR", "Pearson"} if "R@1" in expected else set())
        assert (row.queries, row.gallery) == (len(library.positions[query]), len(library.positions[gallery]))
        shared = set(library.positions[query].tolist()) & set(library.positions[gallery].tolist())
        assert row.queries_with_pair == len(shared)
        assert ("R@1" in row.scores) == bool(shared)


def test_the_average_of_a_figure_is_over_the_directions_that_have_it() -> None:
    library = Library()
    directions = library.measured()
    every = [library.scores(*pair) for pair in itertools.permutations(library.positions, 2)]
    paired = [library.scores("image", "text"), library.scores("text", "image")]
    for name in ("mAP@all", "mAP@5", "NDCG@4"):
        assert directions.average[name] == pytest.approx(sum(scores[name] for scores in every) / 6, abs=1e-12)
    for name in ("R@1", "R@3"):
        assert directions.average[name] == pytest.approx(sum(scores[name] for scores in paired) / 2, abs=1e-12)
    assert list(directions.average) == ["mAP@all", "mAP@5", "NDCG@4", "R@1", "R@3", "MedR", "Pearson", "rsum"]
    recalls = sum(scores[name] for scores in paired for name in ("R@1", "R@3"))
    assert directions.average["rsum"] == pytest.approx(100 * recalls, abs=1e-9)
    assert directions.modalities == ("image", "text", "audio")


def test_modalities_that_share_no_sample_at_all_have_no_recall() -> None:
    library = Library()
    del library.embeddings["text"]
    directions = library.measured()
    assert list(directions.average) == ["mAP@all", "mAP@5", "NDCG@4"]


@pytest.mark.slow
def test_the_random_row_is_the_mean_over_rankings_of_the_same_items() -> None:
    # all items of a gallery are relevant to every query, or none: no ranking changes that
    library = Library(multi_hot=False)
    library.labels = np.zeros(20, int)
    library.labels[library.positions["audio"]] = 1
    metrics = cross_modal_metrics(library.embedded, spec=MEASURES)
    for name, row in metrics.random.directions.items():
        assert row.scores["mAP@all"] == row.scores["NDCG@4"] == (0.0 if "audio" in name else 1.0)
        assert row.queries_without_relevant == (row.queries if "audio" in name else 0)
    assert metrics.random.average["mAP@all"] == pytest.approx(2 / 6)
    assert metrics.random.directions.keys() == metrics.model.directions.keys()
    # 5 pairs among 9 and 7 items: the first of a random ranking is the pair in 1 of 7 and 1 of 9 cases
    many = cross_modal_metrics(library.embedded, spec=MEASURES, random_rankings=150)
    assert many.random.average["R@1"] == pytest.approx((1 / 7 + 1 / 9) / 2, abs=0.03)


def test_pairs_of_two_modalities_have_the_single_metrics_and_the_document_is_ready_for_json() -> None:
    rng = np.random.default_rng(4)
    labels = np.arange(60) % 6
    image = np.eye(6)[labels] + 0.3 * rng.standard_normal((60, 6))
    text = np.eye(6)[labels] + 0.6 * rng.standard_normal((60, 6))
    given = embedded_split({"image": image, "text": text}, labels, [f"pair-{index:03d}" for index in range(60)])
    metrics = cross_modal_metrics(given, similarity="pearson", seed=7)
    result = EvaluationResult("tiny", "test", "the last", metrics)
    written = json.loads(json.dumps(result.to_dict()))
    assert EvaluationResult.from_dict(written, "test.json") == result
    assert {"model", "random", "definitions"} <= set(written)
    assert set(written["model"]) == {"figures", "average"}
    ways = written["model"]["figures"]
    assert ways["image_to_text"]["scores"]["mAP@all"] == pytest.approx(
        mean_average_precision(image, text, labels, labels, similarity="pearson"), abs=1e-12
    )
    assert ways["text_to_image"]["scores"]["R@5"] == pytest.approx(
        recall_at_k(text, image, np.arange(60), np.arange(60), k=5, similarity="pearson"), abs=1e-12
    )
    for row in ("model", "random"):
        both = [written[row]["figures"][way]["scores"]["mAP@50"] for way in ("image_to_text", "text_to_image")]
        assert written[row]["average"]["mAP@50"] == pytest.approx(sum(both) / 2)
        assert both[0] != both[1]
    assert written["model"]["average"]["mAP@all"] > 2 * written["random"]["average"]["mAP@all"]
    assert written["definitions"]["similarity"] == "pearson"
    assert metrics == cross_modal_metrics(given, similarity="pearson", seed=7)
    assert metrics.random != cross_modal_metrics(given, similarity="pearson", seed=8).random
    assert metrics.model == all_directions(given, similarity="pearson")


def test_diverged_embeddings_are_refused() -> None:
    library = Library()
    library.embeddings["audio"][3, 1] = np.inf
    with pytest.raises(XmrError, match="NaN or infinite"):
        library.measured()


@pytest.mark.parametrize("places", [[0, 1], [0, 2, 1], [2, 3, 4], [-1, 0, 1]])
def test_positions_that_do_not_fit_are_refused(places: list[int]) -> None:
    with pytest.raises(ValueError, match="text: 3 embeddings do not have ascending positions among 4 samples"):
        embedded_split({"text": np.ones((3, 2))}, np.zeros(4, int), positions={"text": places})


def test_one_modality_missing_keys_and_another_gallery_s_modalities_are_refused() -> None:
    rows, labels = np.ones((3, 2)), np.zeros(3, int)
    with pytest.raises(ValueError, match="two modalities, got audio"):
        all_directions(embedded_split({"audio": rows}, labels))
    with pytest.raises(ValueError, match="3 samples have 2 keys"):
        embedded_split({"audio": rows, "text": rows}, labels, range(2))
    both = embedded_split({"audio": rows, "text": rows}, labels)
    with pytest.raises(ValueError, match="queries have audio, text, the gallery text"):
        all_directions(both, embedded_split({"text": rows}, labels))


def test_directions_are_written_for_people() -> None:
    assert direction_title("image_to_text") == "image → text"
    assert direction_title("audio_to_shape3d") == "audio → 3D shape"
    assert direction_title("image_to_others") == "image → all others"


def test_captions_are_items_of_their_own_and_pairs_of_their_picture() -> None:
    # picture 1 has the captions 0 and 1, picture 2 the captions 2, 3 and 4; picture 0 has none
    rows = {"image": np.array([[9.0, 0], [1, 0], [0, 1]]), "text": np.array([[2.0, 1], [0, 3], [0, 4], [1, 0], [0, 2]])}
    places = {"image": [0, 1, 2], "text": [1, 1, 2, 2, 2]}
    embedded = embedded_split(rows, np.array([0, 0, 1]), positions=places)
    metrics = all_directions(embedded, similarity="dot", spec=MEASURES).directions
    to_text, to_image = metrics["image_to_text"], metrics["text_to_image"]
    assert (to_text.queries, to_text.gallery, to_text.queries_with_pair) == (3, 5, 2)
    assert (to_image.queries, to_image.gallery, to_image.queries_with_pair) == (5, 3, 5)
    # picture 1 ranks its caption 0 first; picture 2 its captions 2 first and, after a foreign one, 4
    assert (to_text.scores["R@1"], to_text.scores["MedR"]) == (1.0, 1.0)
    # the captions rank the pictures 0 1 2, 2 0 1 (a tie of 0 and 1), 2 0 1, 0 1 2 and 2 0 1
    assert [to_image.scores[name] for name in ("R@1", "R@3", "MedR")] == [2 / 5, 1.0, 2.0]


def test_another_gallery_is_ranked_in_place_of_the_queries_own() -> None:
    library, rng = Library(), np.random.default_rng(1)
    more = {
        name: np.concatenate([rows, rng.integers(-2, 3, (4, 3)) * 1.0]) for name, rows in library.embeddings.items()
    }
    places = {name: np.concatenate([rows, np.arange(20, 24)]) for name, rows in library.positions.items()}
    labels = np.concatenate([library.labels, (rng.random((4, 4)) < 0.4).astype(float)])
    larger = embedded_split(more, labels, [*library.ids, "a", "b", "c", "d"], positions=places)
    metrics = cross_modal_metrics(library.embedded, larger, similarity="dot", spec=MEASURES)
    library.embeddings, library.labels = more, labels
    asked, library.positions = library.positions, places
    for query, gallery in itertools.permutations(asked, 2):
        row, floor = (
            metrics.model.directions[f"{query}_to_{gallery}"],
            metrics.random.directions[f"{query}_to_{gallery}"],
        )
        assert (row.queries, row.gallery) == (floor.queries, floor.gallery) == (len(asked[query]), len(places[gallery]))
        precisions = []
        for number, position in enumerate(asked[query].tolist()):
            gains = [library.gain(position, item) for item in library.ranking(query, number, gallery)]
            hits = [rank for rank, gain in enumerate(gains, start=1) if gain]
            precisions.append(sum(place / rank for place, rank in enumerate(hits, start=1)) / max(1, len(hits)))
        assert row.scores["mAP@all"] == pytest.approx(sum(precisions) / len(precisions), abs=1e-12)
        assert row.queries_with_pair == len(set(asked[query].tolist()) & set(asked[gallery].tolist()))


def test_a_discount_of_one_direction_is_named_in_the_definitions_and_changes_no_other() -> None:
    library = Library()
    library.labels[:, 0] = 1  # all are relevant, more or less
    ordinary = cross_modal_metrics(library.embedded, similarity="dot", spec=MEASURES)
    discounts = {"text_to_image": Discount(5, torch.arange(7) % 5)}
    odd = cross_modal_metrics(library.embedded, similarity="dot", spec=MEASURES, discounts=discounts)
    changed = {
        name
        for name, row in odd.model.directions.items()
        if row.scores["NDCG@4"] != ordinary.model.directions[name].scores["NDCG@4"]
    }
    assert changed == {"text_to_image"}
    assert odd.random.directions["text_to_image"] != ordinary.random.directions["text_to_image"]
    assert "log2(5 (r - 1) + i + 2)" in odd.definitions["NDCG@k of text_to_image"]
    assert ordinary.definitions.keys() == odd.definitions.keys() - {"NDCG@k of text_to_image"}
