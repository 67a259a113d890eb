"""Examples are what the rankings say, spread over the classes, and the same for the same seed."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from xmr_e2e.data.reader import SplitReader
from xmr_e2e.errors import XmrError
from xmr_e2e.evaluation.examples import Example, retrieved_examples, thumbnail
from xmr_e2e.evaluation.ranking import nearest


def labels_of(reader: SplitReader) -> np.ndarray:
    labels = np.zeros((len(reader), len(reader.manifest.classes)))
    for position in range(len(reader)):
        labels[position, list(reader.labels(position))] = 1
    return labels


def embeddings(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((count, 5)), rng.standard_normal((count, 5))


@pytest.fixture
def reader(tiny_shards: Path) -> SplitReader:
    return SplitReader(tiny_shards, "test")


def examples(reader: SplitReader, **options: Any) -> list[Example]:
    image, text = embeddings(len(reader))
    return retrieved_examples(image, text, labels_of(reader), reader, similarity="cosine", **options)


def test_results_are_the_highest_scores_with_relevance_and_pair_as_the_shards_say(reader: SplitReader) -> None:
    image, text = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in embeddings(len(reader)))
    position_of = {reader.key(position): position for position in range(len(reader))}
    for example in examples(reader, shown=4):
        query = position_of[example.query.key]
        queries, gallery = (image, text) if example.direction == "image_to_text" else (text, image)
        scores = gallery @ queries[query]
        order = sorted(position_of.values(), key=lambda position: -scores[position])
        assert [position_of[result.item.key] for result in example.results] == order[:4]
        assert (example.pair_rank, example.gallery) == (order.index(query) + 1, len(reader))
        for result in example.results:
            item = position_of[result.item.key]
            assert result.score == pytest.approx(scores[item], abs=1e-6)
            assert result.paired == (item == query)
            assert result.relevant == bool(set(reader.labels(item)) & set(reader.labels(query)))
            assert result.item.texts == reader.metadata(item).texts
            assert result.item.labels == reader.metadata(item).labels


def test_queries_are_spread_over_the_classes_in_both_directions(reader: SplitReader) -> None:
    found = examples(reader, per_direction=6)
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
    assert len({example.query.key for example in examples(reader, per_direction=50)[:12]}) == len(reader)
    assert len(examples(reader, per_direction=50)) == 2 * len(reader)


def test_rows_that_are_not_the_splits_are_refused(reader: SplitReader) -> None:
    image, text = embeddings(len(reader) - 1)
    with pytest.raises(ValueError, match="12 samples"):
        retrieved_examples(image, text, labels_of(reader)[:-1], reader, similarity="cosine")


@pytest.mark.parametrize(("size", "expected"), [((400, 300), (160, 120)), ((3, 900), (1, 160)), ((50, 20), (50, 20))])
def test_thumbnails_are_jpegs_of_at_most_160_pixels(size: tuple[int, int], expected: tuple[int, int]) -> None:
    stream = io.BytesIO()
    Image.new("RGBA", size, (200, 10, 10, 128)).save(stream, "PNG")
    small = Image.open(io.BytesIO(thumbnail(stream.getvalue())))
    assert (small.format, small.size) == ("JPEG", expected)


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
