"""Examples are what the rankings say, spread over the classes, the same for the same seed; failures are the worst."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.embedded import embedded_split
from xmr_e2e.data.captions import Captions
from xmr_e2e.data.reader import SplitReader
from xmr_e2e.errors import XmrError
from xmr_e2e.evaluation.embedded import EmbeddedSplit
from xmr_e2e.evaluation.inspection import inspect_rankings
from xmr_e2e.evaluation.ranking import nearest
from xmr_e2e.reports.examples import Example, SampleLookup, spread_examples, worst_failures
from xmr_e2e.shards.build import BuildOptions, RawSample, build_shards


def labels_of(reader: SplitReader) -> np.ndarray:
    labels = np.zeros((len(reader), len(reader.manifest.classes)))
    for position in range(len(reader)):
        labels[position, list(reader.labels(position))] = 1
    return labels


def embeddings(count: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal((count, 5)) for name in ("image", "text")}


@pytest.fixture
def reader(tiny_shards: Path) -> SplitReader:
    return SplitReader(tiny_shards, "test")


def spread(
    embedded: EmbeddedSplit, shelf: SampleLookup, count: int = 6, *, similarity: Any = "cosine", seed: int = 0
) -> list[Example]:
    inspected = inspect_rankings(embedded, similarity=similarity)
    return [example for each in inspected for example in spread_examples(each, shelf, count, seed=seed)]


def examples(reader: SplitReader, count: int = 6, *, seed: int = 0) -> list[Example]:
    keys = [reader.key(position) for position in range(len(reader))]
    return spread(
        embedded_split(embeddings(len(reader)), labels_of(reader), keys), SampleLookup([reader]), count, seed=seed
    )


def test_results_are_the_highest_scores_with_relevance_and_pair_as_the_shards_say(reader: SplitReader) -> None:
    image, text = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in embeddings(len(reader)).values())
    position_of = {reader.key(position): position for position in range(len(reader))}
    for example in examples(reader):
        query = position_of[example.query.key]
        queries, gallery = (image, text) if example.direction == "image_to_text" else (text, image)
        scores = gallery @ queries[query]
        order = sorted(position_of.values(), key=lambda position: -scores[position])
        assert [position_of[result.item.key] for result in example.results] == order[:5]
        assert (example.pair_rank, example.gallery) == (order.index(query) + 1, len(reader))
        assert example.pair is not None and example.pair.key == example.query.key
        assert example.shows_pair == (example.pair_rank <= 5)
        for result in example.results:
            item = position_of[result.item.key]
            assert result.score == pytest.approx(scores[item], abs=1e-6)
            assert result.paired == (item == query)
            assert result.relevant == bool(set(reader.labels(item)) & set(reader.labels(query)))
            assert result.item.texts == reader.metadata(item).texts
            assert result.item.labels == reader.metadata(item).labels


def test_queries_are_spread_over_the_classes_in_both_directions(reader: SplitReader) -> None:
    found = examples(reader, 6)
    assert [example.direction for example in found] == ["image_to_text"] * 6 + ["text_to_image"] * 6
    for queries in (found[:6], found[6:]):
        assert len({example.query.key for example in queries}) == 6
        assert {example.query.labels for example in queries[:4]} == {("apple",), ("leaf",), ("sea",), ("sun",)}


def test_the_seed_decides_the_queries(reader: SplitReader) -> None:
    assert examples(reader) == examples(reader)
    assert [example.query.key for example in examples(reader)] != [
        example.query.key for example in examples(reader, seed=1)
    ]


def test_a_small_split_shows_each_query_once(reader: SplitReader) -> None:
    assert len({example.query.key for example in examples(reader, 50)[:12]}) == len(reader)
    assert len(examples(reader, 50)) == 2 * len(reader)


def test_the_worst_failures_are_the_least_precise_whose_first_result_is_wrong(reader: SplitReader) -> None:
    keys = [reader.key(position) for position in range(len(reader))]
    embedded = embedded_split(embeddings(len(reader)), labels_of(reader), keys)
    for each in inspect_rankings(embedded, similarity="cosine"):
        found = worst_failures(each, SampleLookup([reader]), 3)
        assert len(found) == 3
        assert all(not example.results[0].relevant for example in found)
        limit = max(example.precision for example in found)
        shown = {example.query.key for example in found}
        better = [row for row in range(len(reader)) if keys[row] not in shown and each.precision[row] < limit]
        assert all(each.right_first[row] for row in better)
        assert [example.precision for example in found] == sorted(example.precision for example in found)


def test_a_perfect_model_has_no_failures(reader: SplitReader) -> None:
    labels = labels_of(reader)
    keys = [reader.key(position) for position in range(len(reader))]
    perfect = embedded_split({"image": labels, "text": labels}, labels, keys)
    for each in inspect_rankings(perfect, similarity="cosine"):
        assert worst_failures(each, SampleLookup([reader]), 3) == []


def test_captions_that_are_items_of_their_own_are_shown_alone(reader: SplitReader) -> None:
    count = len(reader)
    keys = [reader.key(position) for position in range(count)]
    rng = np.random.default_rng(0)
    rows = {"image": rng.standard_normal((count, 5)), "text": rng.standard_normal((2 * count, 5))}
    positions = {"image": np.arange(count), "text": np.repeat(np.arange(count), 2)}
    embedded = embedded_split(rows, labels_of(reader), keys, positions=positions)
    shelf = SampleLookup([reader], Captions(most=2))
    to_text, to_image = inspect_rankings(embedded, similarity="dot")
    found = spread_examples(to_text, shelf, 3)
    for example in found:
        row = keys.index(example.query.key)
        order = np.argsort(-(rows["text"] @ rows["image"][row]))
        shown = [reader.metadata(item // 2).texts[item % 2] for item in order[:5].tolist()]
        assert [result.item.texts for result in example.results] == [(text,) for text in shown]
        assert example.pair is not None
        assert example.pair.texts == (reader.metadata(row).texts[order[example.pair_rank - 1] % 2],)
        assert len(example.query.texts) > 1  # a picture has all its captions
    assert all(len(example.query.texts) == 1 for example in spread_examples(to_image, shelf, 3))


def test_a_gallery_of_two_splits_is_found_by_key(tiny_shards: Path) -> None:
    test, train = (SplitReader(tiny_shards, name) for name in ("test", "train"))
    keys = [[reader.key(position) for position in range(len(reader))] for reader in (test, train)]
    labels = np.concatenate([labels_of(test), labels_of(train)])
    gallery = embedded_split(embeddings(len(labels)), labels, [*keys[0], *keys[1]])
    queries = embedded_split(embeddings(len(test), seed=1), labels_of(test), keys[0])
    each, _ = inspect_rankings(queries, gallery, similarity="cosine")
    found = spread_examples(each, SampleLookup([test, train]), 6)
    assert {example.gallery for example in found} == {52}
    names = {result.item.key for example in found for result in example.results}
    assert names & set(keys[1]) and names <= {*keys[0], *keys[1]}


@pytest.fixture
def mixed(tmp_path: Path, make_image: Callable[..., Path]) -> SplitReader:
    """Of each of two classes: 4 pictures, the first 3 with a text, and 3 audio clips that stand alone."""
    samples = []
    for name in ("cat", "dog"):
        for number in range(4):
            image = make_image(tmp_path / f"{name}{number}.jpg", seed=number)
            texts = (f"one {name}",) if number < 3 else ()
            samples.append(RawSample(image.name, "test", image, texts, (name,)))
        for number in range(3):
            features = {"audio": np.full(4, number, np.float32)}
            samples.append(RawSample(f"{name} sound {number}", "test", labels=(name,), features=features))
    options = BuildOptions(shard_samples=5, workers=1)
    folder = tmp_path / "mixed"
    build_shards(folder, dataset="mixed", classes=["cat", "dog"], samples=samples, required=(), options=options)
    return SplitReader(folder, "test")


def test_samples_may_lack_modalities(mixed: SplitReader) -> None:
    modalities = ("image", "text", "audio")
    positions = {name: mixed.positions_with([name]) for name in modalities}
    rng = np.random.default_rng(1)
    rows = {name: rng.standard_normal((len(positions[name]), 5)) for name in modalities}
    assert [len(rows[name]) for name in modalities] == [8, 6, 6]
    keys = [mixed.key(position) for position in range(len(mixed))]
    embedded = embedded_split(rows, labels_of(mixed), keys, positions=positions)
    found = spread(embedded, SampleLookup([mixed]), 20, similarity="dot")
    position_of = {mixed.key(position): position for position in range(len(mixed))}
    for example in found:
        query, gallery = example.direction.split("_to_")
        own = position_of[example.query.key]
        scores = rows[gallery] @ rows[query][positions[query].tolist().index(own)]
        ranked = positions[gallery][np.argsort(-scores)].tolist()
        assert [position_of[result.item.key] for result in example.results] == ranked[:5]
        assert example.gallery == len(ranked)
        assert example.pair_rank == (ranked.index(own) + 1 if own in ranked else 0)
        assert (example.pair is None) == (own not in ranked)
        assert [result.paired for result in example.results] == [position == own for position in ranked[:5]]
        for result in example.results:
            assert result.relevant == (result.item.labels == example.query.labels)
    counts = {(query, gallery): 0 for query in modalities for gallery in modalities if query != gallery}
    for example in found:
        query, gallery = example.direction.split("_to_")
        counts[query, gallery] += 1
    assert counts == {(query, gallery): len(rows[query]) for query, gallery in counts}


def test_an_item_without_picture_has_its_source_as_name(mixed: SplitReader) -> None:
    positions = {name: mixed.positions_with([name]) for name in ("image", "audio")}
    rows = {name: np.ones((len(places), 2)) for name, places in positions.items()}
    keys = [mixed.key(position) for position in range(len(mixed))]
    found = spread(
        embedded_split(rows, labels_of(mixed), keys, positions=positions), SampleLookup([mixed]), similarity="dot"
    )
    for example in found:
        clips = [example.query] if example.direction == "audio_to_image" else [r.item for r in example.results]
        for clip in clips:
            assert clip.image is None
            assert clip.name == clip.source == mixed.metadata(position_of(mixed, clip.key)).source
            assert clip.name.startswith(f"{clip.labels[0]} sound")


def position_of(reader: SplitReader, key: str) -> int:
    return next(position for position in range(len(reader)) if reader.key(position) == key)


def test_a_picture_that_is_damaged_is_named(tiny_shards: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    shutil.copytree(tiny_shards, folder)
    for shard in folder.glob("test-*.tar"):
        shard.write_bytes(shard.read_bytes().replace(b"\xff\xd8\xff", b"\0\0\0"))
    with pytest.raises(XmrError, match=r"test-0000\d\.tar: .*not an image"):
        examples(SplitReader(folder, "test"))


def test_nearest_cuts_the_ranking_and_breaks_ties_in_gallery_order() -> None:
    indices, scores = nearest(
        np.array([[1.0, 0.0]]), np.array([[0.0, 1], [2, 0], [1, 1], [2, 0]]), similarity="dot", k=3
    )
    assert indices.tolist() == [[1, 3, 2]]
    assert scores.tolist() == [[2, 2, 1]]
