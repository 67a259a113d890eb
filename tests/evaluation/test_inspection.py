"""Query by query, rankings are what the figures were measured on; confusion and map are what the labels say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.helpers.embedded import embedded_split
from xmr_e2e.evaluation import inspection, projection
from xmr_e2e.evaluation.classes import rarest_label, spread_over_classes
from xmr_e2e.evaluation.confusion import confusion
from xmr_e2e.evaluation.directions import cross_modal_metrics
from xmr_e2e.evaluation.embedded import EmbeddedSplit
from xmr_e2e.evaluation.inspection import inspect_rankings
from xmr_e2e.evaluation.projection import Projection, project
from xmr_e2e.reports.embedding_plot import color_classes, embedding_plot


def split(count: int = 60, classes: int = 6, *, several: bool = False, noise: float = 0.7) -> EmbeddedSplit:
    rng = np.random.default_rng(3)
    labels = np.eye(classes)[np.arange(count) % classes]
    if several:
        labels = np.maximum(labels, rng.random((count, classes)) < 0.2)
    embeddings = {name: labels + noise * rng.standard_normal((count, classes)) for name in ("image", "text")}
    return embedded_split(embeddings, labels)


def test_the_mean_of_the_queries_is_the_figure() -> None:
    given = split(several=True)
    metrics = cross_modal_metrics(given, similarity="cosine")
    for each in inspect_rankings(given, similarity="cosine"):
        row = metrics.model.directions[each.direction]
        assert each.precision.mean() == pytest.approx(row.scores["mAP@all"])
        assert (each.pair_rank <= 5).mean() == pytest.approx(row.scores["R@5"])
        assert np.median(each.pair_rank) == pytest.approx(row.scores["MedR"])
        assert each.right_first.mean() == pytest.approx(row.scope.precision[0])


def test_the_first_items_and_the_pair_are_those_of_the_sorted_scores() -> None:
    given = split()
    for each in inspect_rankings(given, similarity="dot"):
        scores = (each.queries.embeddings @ each.items.embeddings.T).numpy()
        order = np.argsort(-scores.astype(np.float32), axis=1, kind="stable")
        assert (each.first == order[:, : inspection.FIRST]).all()
        assert (each.pair == np.arange(60)).all()  # item n is of sample n
        assert (order[np.arange(60), each.pair_rank - 1] == each.pair).all()
        assert each.scores([4, 7], 3) == pytest.approx(np.take_along_axis(scores, order, 1)[[4, 7], :3], rel=1e-5)


def test_a_gallery_of_other_samples_has_no_pairs() -> None:
    queries, gallery = split(30), split(48)
    other = EmbeddedSplit(
        gallery.embeddings, gallery.positions, gallery.labels, tuple(f"other {key}" for key in gallery.keys)
    )
    for each in inspect_rankings(queries, other, similarity="cosine"):
        assert each.first.shape == (30, 48)
        assert not each.pair_rank.any() and (each.pair == -1).all()


def test_too_many_queries_are_drawn_evenly_over_the_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "RANKED", 0)  # then 100 are looked at
    each, _ = inspect_rankings(split(600), similarity="cosine")
    assert each.is_sampled and len(each.rows) == 100
    assert set(np.bincount(each.rows % 6)) == {16, 17}
    assert (np.diff(each.rows) > 0).all()
    again, _ = inspect_rankings(split(600), similarity="cosine")
    assert (again.rows == each.rows).all()


@pytest.mark.parametrize("several", [False, True])
def test_confusion_is_the_share_of_each_class_among_the_first_k(several: bool) -> None:
    given = split(several=several)
    labels = given.labels.numpy()
    for each in inspect_rankings(given, similarity="cosine"):
        found = confusion(each)
        assert found.k == np.median(labels.sum(0)) and found.is_multi_label == several
        for asked in range(6):
            for other in range(6):
                shares = [
                    labels[each.first[query, : found.k], other].mean() for query in np.flatnonzero(labels[:, asked])
                ]
                assert found.shares[asked, other] == pytest.approx(np.mean(shares))
        assert found.random == pytest.approx(labels.mean(0))
        if not several:
            assert found.shares.sum(1) == pytest.approx(1)


def test_a_perfect_model_confuses_nothing_and_a_swapped_class_is_named() -> None:
    perfect = embedded_split(
        {"image": np.eye(4)[np.arange(40) % 4], "text": np.eye(4)[np.arange(40) % 4]}, np.arange(40) % 4
    )
    found = confusion(inspect_rankings(perfect, similarity="cosine")[0])
    assert found.shares == pytest.approx(np.eye(4)) and found.largest == ()
    alone = embedded_split({"image": np.eye(4), "text": np.eye(4)}, np.arange(4))
    found = confusion(inspect_rankings(alone, similarity="cosine")[0])
    assert found.k == 1 and found.shares == pytest.approx(np.eye(4))
    images = np.eye(4)[np.array([0, 1, 3, 2])[np.arange(40) % 4]]  # 2 and 3 take each other's place
    swapped = embedded_split({"image": images, "text": np.eye(4)[np.arange(40) % 4]}, np.arange(40) % 4)
    found = confusion(inspect_rankings(swapped, similarity="cosine")[0])
    assert sorted(found.largest) == [(2, 3, 1.0), (3, 2, 1.0)]


def test_a_class_without_queries_has_no_row() -> None:
    labels = np.eye(5)[np.arange(20) % 4]
    each, _ = inspect_rankings(embedded_split({"image": labels, "text": labels}, labels), similarity="cosine")
    found = confusion(each)
    assert np.isnan(found.shares[4]).all() and not np.isnan(found.shares[:4]).any()


def test_a_sample_stands_for_its_rarest_class() -> None:
    labels = np.array([[1, 1, 0], [1, 0, 0], [1, 0, 1], [1, 0, 1]])
    assert rarest_label(labels).tolist() == [1, 0, 2, 2]
    assert sorted(spread_over_classes(labels, 3, np.random.default_rng(0)))[:2] == [0, 1]


def test_the_map_shows_the_same_samples_of_each_modality_and_keeps_groups_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(projection, "ITEMS", 72)
    given = split(300, noise=0.05)
    found = project(given, similarity="cosine")
    assert found is not None
    assert (found.shown, found.items, found.is_multi_label) == (72, 600, False)
    assert (found.classes["image"] == found.classes["text"]).all()
    assert np.bincount(found.classes["image"]).tolist() == [6] * 6
    points, classes = (np.concatenate(list(each.values())) for each in (found.points, found.classes))
    distances = np.linalg.norm(points[:, None] - points, axis=2) + 1e9 * np.eye(len(points))
    assert (classes[distances.argmin(1)] == classes).mean() > 0.95
    again = project(given, similarity="cosine")
    assert again is not None and (again.points["text"] == found.points["text"]).all()


def test_lengths_do_not_matter_to_a_map_of_angles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compared is what t-SNE is given: of its maps, rounding alone makes others."""
    given = split(12)
    longer = {name: rows * torch.linspace(1, 9, 12)[:, None] for name, rows in given.embeddings.items()}
    stretched = EmbeddedSplit(longer, given.positions, given.labels, given.keys)
    seen: list[np.ndarray] = []
    monkeypatch.setattr("xmr_e2e.evaluation.projection._tsne", lambda rows, seed: seen.append(rows) or rows[:, :2])
    for each in (given, stretched):
        assert project(each, similarity="cosine") is not None
    assert project(stretched, similarity="dot") is not None
    one, other, by_length = seen
    np.testing.assert_allclose(one, other, atol=1e-6)
    assert np.abs(one - by_length).max() > 1


@pytest.mark.parametrize("rows", [np.ones((12, 3)), np.linspace(0, 1, 12)[:, None]], ids=["a point", "a line"])
def test_a_space_that_has_collapsed_still_has_a_map(rows: np.ndarray) -> None:
    found = project(embedded_split({"image": rows, "text": rows}, np.arange(12) % 3), similarity="euclidean")
    assert found is not None and np.isfinite(found.points["image"]).all()


def test_few_items_have_no_map() -> None:
    assert project(split(2, 2), similarity="cosine") is None


def test_the_legend_names_classes_by_frequency_and_counts_those_without_a_colour() -> None:
    classes = np.concatenate([np.full(40 - number, number) for number in range(25)])
    points = np.random.default_rng(0).standard_normal((len(classes), 2)).astype(np.float32)
    given = Projection({"audio": points}, {"audio": classes}, 5000, is_multi_label=True)
    page = embedding_plot(given, [f"class {number}" for number in range(25)])
    assert [name for name, _ in page.classes] == [*(f"class {number}" for number in range(18)), "7 other classes"]
    assert len({color for _, color in page.classes}) == 19
    assert color_classes(given).others == 7
    assert [(name, sign) for name, sign, _ in page.modalities] == [("audio", "■")]
    assert f"{len(classes):,} of 5,000 items" in page.note and "rarest" in page.note
    assert page.by_class.startswith(b"\x89PNG") and page.by_class != page.by_modality
