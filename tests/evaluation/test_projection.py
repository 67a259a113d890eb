"""The items on the map of the common space."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sklearn.manifold

from tests.helpers.embedded import embedded_split
from xmr_e2e.evaluation import projection
from xmr_e2e.evaluation.projection import drawn_items, project, project_features


class Seen:
    """Stands for t-SNE: notes its options, and gives the first two columns."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        given.append(self)

    def fit_transform(self, rows: np.ndarray) -> np.ndarray:
        self.rows = rows
        return rows[:, :2]


given: list[Seen] = []


@pytest.fixture(autouse=True)
def tsne(monkeypatch: pytest.MonkeyPatch) -> None:
    given.clear()
    monkeypatch.setattr(sklearn.manifold, "TSNE", Seen)


def split(labels: np.ndarray, rows: np.ndarray | None = None) -> Any:
    drawn = np.random.default_rng(0).normal(size=(len(labels), 4)) if rows is None else rows
    return embedded_split({"image": drawn, "text": drawn**2}, labels)


@pytest.mark.parametrize("several", [False, True])
def test_a_sample_of_two_labels_makes_the_map_one_of_several_labels(several: bool) -> None:
    labels = np.eye(3, dtype=int)[np.arange(12) % 3]
    if several:
        labels[4] = [1, 1, 0]
    found = project(split(labels), similarity="cosine")
    assert found is not None and found.is_multi_label == several
    assert (found.items, found.shown) == (24, 24)


def test_rows_are_put_there_as_they_are_compared() -> None:
    rows, labels = np.random.default_rng(1).normal(size=(12, 4)), np.arange(12) % 3
    for similarity in ("dot", "euclidean", "cosine", "pearson"):
        project(split(labels, rows), similarity=similarity)  # type: ignore[arg-type]
    plain = np.concatenate([rows, rows**2])
    centred = plain - plain.mean(1, keepdims=True)
    for seen, expected in zip(given, (plain, plain, plain, centred)):
        unit = expected / np.linalg.norm(expected, axis=1, keepdims=True)
        wanted = expected if seen in given[:2] else unit
        order = [int(np.abs(seen.rows - row).sum(1).argmin()) for row in wanted]
        np.testing.assert_allclose(seen.rows[order], wanted, atol=1e-5)
        assert sorted(order) == list(range(24))


def test_a_plane_begins_with_principal_components_and_a_line_by_chance() -> None:
    labels, ramp = np.arange(12) % 3, np.linspace(0, 1, 12)
    line = np.stack([ramp, np.full(12, 2.0), np.full(12, 5.0)], axis=1)
    plane = np.stack([ramp, ramp**2, np.full(12, 5.0)], axis=1)
    for rows in (line, plane):
        embedded = embedded_split({"image": rows, "text": rows}, labels)
        assert project(embedded, similarity="dot", seed=3) is not None
    assert [seen.options["init"] for seen in given] == ["random", "pca"]
    assert [seen.options["random_state"] for seen in given] == [3, 3]
    assert given[0].options["perplexity"] == pytest.approx(23 / 3)


def test_as_many_items_of_each_modality_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projection, "ITEMS", 12)
    found = project(split(np.arange(60) % 3), similarity="dot")
    assert found is not None and {name: len(rows) for name, rows in found.points.items()} == {"image": 6, "text": 6}
    assert np.bincount(found.classes["text"]).tolist() == [2, 2, 2]
    assert found.items == 120 and found.points["image"].dtype == np.float32
    assert project(split(np.arange(2)), similarity="dot") is None
    assert project(split(np.arange(3)), similarity="dot") is not None  # of six items


def test_what_towers_give_is_drawn_of_the_same_items_each_modality_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projection, "ITEMS", 24)
    given_split = split(np.arange(60) % 3)
    common, drawn = project(given_split, similarity="dot"), drawn_items(given_split)
    rows = {"image": np.random.default_rng(2).normal(size=(12, 7)), "text": np.zeros((5, 3))}
    found = project_features(given_split, rows)
    assert common is not None and list(found) == ["image"]  # of five items there is no map
    np.testing.assert_array_equal(found["image"].points["image"], rows["image"][:, :2].astype(np.float32))
    assert found["image"].classes["image"].tolist() == [place % 3 for place in drawn["image"]]
    assert found["image"].classes["image"].tolist() == common.classes["image"].tolist()
    assert (found["image"].items, found["image"].shown) == (60, 12)
