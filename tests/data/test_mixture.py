"""Three folders of shards as one split: each position is the own reader's, whatever is asked of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from xmr_e2e.data.batch_dataset import BatchDataset
from xmr_e2e.data.config import Data
from xmr_e2e.data.loader import Loader
from xmr_e2e.data.mixture import MixedReader, open_split
from xmr_e2e.data.reader import SplitReader
from xmr_e2e.data.vectors import WordVectors
from xmr_e2e.shards.build import BuildOptions, RawSample, build_shards

CLASSES = ["apple", "leaf", "sea", "sun"]
SIZES = (7, 5, 4)
WITHOUT_TEXT = (2, 1)
"""folder and position in it"""


@pytest.fixture(scope="module")
def folders(tiny_samples: tuple[RawSample, ...], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Folders of 7, 5 and 4 samples in shards of 3, the classes in another order in each."""
    root, rest, made = tmp_path_factory.mktemp("mixed"), list(tiny_samples), []
    for number, size in enumerate(SIZES):
        samples = [replace(each, source=f"{number}_{place}") for place, each in enumerate(rest[:size])]
        rest = rest[size:]
        if number == WITHOUT_TEXT[0]:
            samples[WITHOUT_TEXT[1]] = replace(samples[WITHOUT_TEXT[1]], texts=())
        build_shards(
            root / str(number), dataset="tiny", classes=CLASSES[number:] + CLASSES[:number], samples=samples,
            required=("image",), options=BuildOptions(shard_samples=3, workers=1),
        )  # fmt: skip
        made.append(root / str(number))
    return made


@pytest.fixture(scope="module")
def readers(folders: list[Path]) -> list[SplitReader]:
    return [SplitReader(folder, "train") for folder in folders]


@pytest.fixture(scope="module")
def mixed(folders: list[Path]) -> MixedReader:
    reader = open_split(folders[0], "train", map(str, folders[1:]))
    assert isinstance(reader, MixedReader)
    return reader


def test_all_samples_of_all_folders_are_there_in_their_order(mixed: MixedReader, readers: list[SplitReader]) -> None:
    own = [(reader, place) for reader in readers for place in range(len(reader))]
    assert len(mixed) == len(own) == sum(SIZES)
    assert mixed.sizes == SIZES
    assert (mixed.folder, mixed.split, mixed.manifest) == (readers[0].folder, "train", readers[0].manifest)
    for position, (reader, place) in enumerate(own):
        assert mixed.key(position) == reader.key(place)
        assert mixed.where(position) == reader.where(place)
        assert mixed.metadata(position) == reader.metadata(place)
        assert mixed.image(position) == reader.image(place)
        assert mixed.read(position) == reader.read(place)


def test_labels_are_numbers_of_the_first_folders_classes(mixed: MixedReader, readers: list[SplitReader]) -> None:
    own = [
        [reader.manifest.classes[label] for label in reader.labels(place)]
        for reader in readers
        for place in range(len(reader))
    ]
    assert [[CLASSES[label] for label in mixed.labels(position)] for position in range(len(mixed))] == own
    assert {name for names in own[SIZES[0] :] for name in names} == set(CLASSES)


def test_positions_with_a_modality_leave_out_the_one_sample_without_it(mixed: MixedReader) -> None:
    everywhere = range(sum(SIZES))
    with_text = [position for position in everywhere if mixed.metadata(position).texts]
    assert len(with_text) == sum(SIZES) - 1
    assert mixed.positions_with(["image"]).tolist() == list(everywhere)
    assert mixed.positions_with(["image", "text"]).tolist() == with_text
    assert mixed.has_all(["image"]) and not mixed.has_all(["image", "text"])


def test_an_epoch_visits_the_samples_of_all_folders(folders: list[Path]) -> None:
    also = {str(folder): 1.0 for folder in folders[1:]}
    data = Data(folders[0], image_size=32, load_size=32, words=WordVectors(dim=6), workers=0, extra_shards=also)
    batches = BatchDataset(data, "train", {"image": "pixels"}, None, seed=0)
    assert batches.sizes == SIZES
    visited = [position for batch in Loader(batches, 4).epoch() for position in batch.positions.tolist()]
    assert sorted(visited) == list(range(sum(SIZES)))


def test_one_folder_is_no_mixture(folders: list[Path]) -> None:
    assert isinstance(open_split(folders[0], "train"), SplitReader)
