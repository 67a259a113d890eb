"""From shards to batches: reading, decoding, texts, augmentation, the loader."""

from __future__ import annotations

import gc
import gzip
import io
import shutil
import tarfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from xmr_e2e.data import workers
from xmr_e2e.data.augment import IMAGENET_MEAN, IMAGENET_STD, Augment, prepare_evaluation, prepare_training
from xmr_e2e.data.batch import Batch
from xmr_e2e.data.batch_dataset import BatchDataset, Request
from xmr_e2e.data.config import Data
from xmr_e2e.data.images import load_square
from xmr_e2e.data.inputs import Tokens
from xmr_e2e.data.loader import Loader, fit_words
from xmr_e2e.data.randomness import uniform
from xmr_e2e.data.reader import SplitReader
from xmr_e2e.data.text import Vocabulary, fit_vocabulary, pad, tokenize
from xmr_e2e.data.tokenizers import Tokenization, fit_tokenizer
from xmr_e2e.data.vectors import WordVectors, load_vectors
from xmr_e2e.errors import XmrError
from xmr_e2e.shards.build import BuildOptions, RawSample, build_shards


def encoded(image: Image.Image, format: str = "JPEG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def photograph(width: int, height: int) -> Image.Image:
    """Something smooth, as photographs are, with a different corner each."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    return Image.fromarray((np.stack([x, y, (1 - x) * y], axis=2) * 255).astype(np.uint8))


# Reading


def test_the_reader_gives_what_the_tar_holds(tiny_shards: Path) -> None:
    reader = SplitReader(tiny_shards, "train")
    position = 0
    for shard in reader.shards:
        with tarfile.open(tiny_shards / shard.name) as tar:
            images = [member for member in tar.getmembers() if member.name.endswith(".jpg")]
            for member in images:
                record = reader.read(position)
                stored = tar.extractfile(member)
                assert stored is not None
                assert record.key == member.name.removesuffix(".jpg")
                assert record.image == stored.read()
                assert [reader.manifest.classes[label] for label in record.labels] == list(record.metadata.labels)
                position += 1
    assert position == len(reader) == 40


def test_an_unknown_split_is_named_with_those_that_are_there(tiny_shards: Path) -> None:
    with pytest.raises(XmrError, match="no split 'dev'; it has train, val, test"):
        SplitReader(tiny_shards, "dev")


def test_a_cut_or_vanished_shard_is_named_with_the_key(tiny_shards: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    shutil.copytree(tiny_shards, folder)
    shard = folder / "train-00001.tar"
    shard.write_bytes(shard.read_bytes()[:5000])
    reader = SplitReader(folder, "train")
    with pytest.raises(XmrError, match=r"train-00001\.tar: \w+-train_\d+_jpg: the shard ends within this sample"):
        reader.read(15)
    (folder / "train-00002.tar").unlink()
    with pytest.raises(XmrError, match=r"train-00002\.tar: .*cannot be read: No such file"):
        reader.read(17)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_in_a_loader_process_is_told_as_if_it_were_here(
    tiny_shards: Path, tmp_path: Path, workers: int
) -> None:
    folder = tmp_path / "shards"
    shutil.copytree(tiny_shards, folder)
    batches = split_batches(folder, workers=workers)
    for shard in folder.glob("train-*.tar"):
        shard.write_bytes(shard.read_bytes()[:3000])
    with pytest.raises(XmrError, match=r"ends within this sample") as caught:
        list(Loader(batches, 9).epoch())
    assert "Traceback" not in str(caught.value)


def test_a_reader_keeps_few_files_open(tiny_shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xmr_e2e.data.reader.OPEN_FILES", 2)
    gc.collect()  # else a file that another test has left open may be closed in between
    before = open_files()
    reader = SplitReader(tiny_shards, "train")
    keys = [reader.read(position).key for position in range(40)]
    assert open_files() <= before + 2
    assert [reader.read(position).key for position in range(40)] == keys
    del reader
    assert open_files() == before


# Images


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (64, 64), (1000, 800)])
def test_a_picture_becomes_the_resized_centre_square(size: tuple[int, int]) -> None:
    image = photograph(*size)
    side = min(size)
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    expected = image.crop((left, top, left + side, top + side)).resize((64, 64), Image.Resampling.BOX)
    loaded = load_square(encoded(image, quality=95), 64, where="here")
    assert loaded.shape == (3, 64, 64) and loaded.dtype == torch.uint8
    assert np.abs(loaded.permute(1, 2, 0).double().numpy() - np.asarray(expected, float)).mean() < 2


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGBA", "P"])
def test_any_colour_mode_becomes_rgb(mode: str) -> None:
    data = encoded(photograph(80, 60).convert(mode), "JPEG" if mode in ("L", "CMYK") else "PNG")
    assert load_square(data, 32, where="here").shape == (3, 32, 32)


def test_exif_orientation_is_applied() -> None:
    image = photograph(80, 80)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    turned = load_square(encoded(image, quality=95, exif=exif), 80, where="here")
    expected = np.asarray(image.transpose(Image.Transpose.ROTATE_270), float)
    assert np.abs(turned.permute(1, 2, 0).numpy() - expected).mean() < 2


def test_a_broken_picture_is_named() -> None:
    data = encoded(photograph(200, 200))
    for broken, reason in [
        (data[: len(data) // 2], "cannot be decoded"),
        (b"", "empty"),
        (b"no picture", "not an image"),
    ]:
        with pytest.raises(XmrError, match=f"^shard-1: cat_7: the image .*{reason}"):
            load_square(broken, 32, where="shard-1: cat_7")


def test_the_pixel_cap_counts_before_decoding() -> None:
    with pytest.raises(XmrError, match="above the cap"):
        load_square(encoded(photograph(200, 200)), 32, where="here", max_pixels=39_999)


# Texts


def test_words_are_lower_case_without_punctuation_in_any_script() -> None:
    assert tokenize('A man, 2 "dogs" & the boy\'s café — снег!') == [
        "a",
        "man",
        "2",
        "dogs",
        "the",
        "boy's",
        "café",
        "снег",
    ]


def test_marks_belong_to_their_letters() -> None:
    assert tokenize("हिन्दी में") == ["हिन्दी", "में"]
    assert tokenize("nai\u0308ve") == tokenize("na\u00efve") == ["na\u00efve"]  # decomposed and composed


def test_the_vocabulary_is_ordered_by_count_then_alphabet() -> None:
    vocabulary = fit_vocabulary(["b a a", "c b a", "d"], min_count=2)
    assert vocabulary.words == ("a", "b")
    assert vocabulary.encode("b x a", max_tokens=9) == [3, 1, 2]
    assert vocabulary.encode("?!", max_tokens=9) == [1]
    assert vocabulary.encode("a b a b", max_tokens=2) == [2, 3]


def test_padding_keeps_lengths() -> None:
    tokens = pad([[5, 6, 7], [8]])
    assert tokens.ids.tolist() == [[5, 6, 7], [8, 0, 0]]
    assert tokens.lengths.tolist() == [3, 1]


TEXTS = ["the dog runs over the grass", "a cat sits on the grass", "the dog and the cat play"] * 20


def test_skip_gram_vectors_are_the_same_each_time_and_put_neighbours_together() -> None:
    vocabulary, vectors = fit_tokenizer(TEXTS, Tokenization(), WordVectors(dim=16))
    _, again = fit_tokenizer(TEXTS, Tokenization(), WordVectors(dim=16))
    assert vectors.shape == (len(vocabulary), 16)
    assert np.array_equal(vectors, again)
    assert not vectors[0].any() and vectors[1:].any(axis=1).all()


@pytest.mark.parametrize("kind", ["text", "binary", "text.gz", "binary.gz"])
def test_a_pretrained_word2vec_file_is_read_in_text_and_binary_form(tmp_path: Path, kind: str) -> None:
    words = {"dog": [1.0, 2.0, -0.5], "grass": [0.25, 0.0, 4.0], "unseen": [9.0, 9.0, 9.0]}
    lines = [b"3 3\n"]
    for word, vector in words.items():
        body = np.array(vector, "<f4").tobytes() if kind.startswith("binary") else " ".join(map(str, vector)).encode()
        lines.append(word.encode() + b" " + body + b"\n")
    path = tmp_path / f"vectors.{'bin' if kind.startswith('binary') else 'txt'}{'.gz' if kind.endswith('gz') else ''}"
    path.write_bytes(gzip.compress(b"".join(lines)) if kind.endswith("gz") else b"".join(lines))
    vocabulary, vectors = fit_tokenizer(TEXTS, Tokenization(), WordVectors(dim=3, file=path))
    for word in ("dog", "grass"):
        assert vectors[vocabulary.words.index(word) + 2].tolist() == words[word]
    assert "unseen" not in vocabulary.words  # the vocabulary is the training split's


def test_a_wrong_vector_file_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "v.txt"
    with pytest.raises(XmrError, match="does not exist"):
        fit_tokenizer(TEXTS, Tokenization(), WordVectors(dim=3, file=path))
    path.write_text("1 2\ndog 0.5 1.5\n")
    with pytest.raises(XmrError, match=r"2-d vectors: set --data.words.dim 2"):
        fit_tokenizer(TEXTS, Tokenization(), WordVectors(dim=3, file=path))
    path.write_text("hello\n")
    with pytest.raises(XmrError, match="not a word2vec file"):
        fit_tokenizer(TEXTS, Tokenization(), WordVectors(dim=3, file=path))


@pytest.mark.parametrize(("words", "found", "enough"), [(300, 3, True), (300, 2, False), (20, 1, True), (20, 0, False)])
def test_a_vector_file_needs_vectors_of_a_hundredth_of_the_words_and_of_one_at_least(
    tmp_path: Path, words: int, found: int, enough: bool
) -> None:
    path = tmp_path / "v.txt"
    known = [f"w{number}" for number in range(found)] or ["other"]
    path.write_text(f"{len(known)} 2\n" + "".join(f"{word} 0.5 1.5\n" for word in known))
    asked, options = [f"w{number}" for number in range(words)], WordVectors(dim=2, file=path)
    if enough:
        assert len(load_vectors(asked, options).vectors) == found
    else:
        with pytest.raises(XmrError, match=f"has vectors of {found} of the {words} words"):
            load_vectors(asked, options)


def test_words_come_from_the_training_split_only(tiny_shards: Path) -> None:
    vocabulary, _ = fit_words(Data(tiny_shards, words=WordVectors(dim=8, min_count=1)))
    train, test = (SplitReader(tiny_shards, split) for split in ("train", "test"))
    trained = {word for p in range(len(train)) for text in train.metadata(p).texts for word in tokenize(text)}
    tested = {word for p in range(len(test)) for text in test.metadata(p).texts for word in tokenize(text)}
    assert set(vocabulary.words) == trained
    assert tested & trained


# Augmentation


def test_random_numbers_are_uniform_and_belong_to_the_sample() -> None:
    positions = np.arange(20_000)
    numbers = uniform(3, 1, positions, 0)
    assert abs(numbers.mean() - 0.5) < 0.01 and abs(np.var(numbers) - 1 / 12) < 0.002
    assert abs(np.corrcoef(numbers, uniform(3, 1, positions, 1))[0, 1]) < 0.03
    assert np.array_equal(uniform(3, 1, positions[50:60], 0), numbers[50:60])
    assert not np.array_equal(uniform(3, 2, positions, 0), numbers)


def test_evaluation_takes_the_centre_and_normalises_by_imagenet() -> None:
    images = torch.randint(0, 256, (2, 3, 10, 10), dtype=torch.uint8)
    expected = images[:, :, 2:8, 2:8] / 255
    for channel in range(3):
        expected[:, channel] = (expected[:, channel] - IMAGENET_MEAN[channel]) / IMAGENET_STD[channel]
    torch.testing.assert_close(prepare_evaluation(images, 6), expected)


def test_plain_crops_are_pieces_of_the_picture() -> None:
    images = torch.from_numpy(np.stack([np.asarray(photograph(12, 12))] * 64)).permute(0, 3, 1, 2)
    crops = prepare_training(images, 8, Augment(flip=True), seed=0, epoch=0, positions=torch.arange(64))
    red = crops[:, 0] * IMAGENET_STD[0] + IMAGENET_MEAN[0]  # grows from left to right: falls where mirrored
    steps = red[:, 0, 1:] - red[:, 0, :-1]
    mirrored = (steps < 0).all(1)
    assert ((steps > 0).all(1) | mirrored).all() and 15 < mirrored.sum() < 49
    torch.testing.assert_close(steps.abs(), torch.full_like(steps, 1 / 11), atol=5e-3, rtol=0)  # unscaled
    assert len({round(float(row.min()), 1) for row in red[:, 0]}) > 1  # from different places


def test_a_samples_augmentation_does_not_depend_on_its_batch() -> None:
    images = torch.randint(0, 256, (6, 3, 16, 16), dtype=torch.uint8)
    options = Augment(min_area=0.3, color=0.3)

    def prepare(rows: list[int], epoch: int = 0) -> torch.Tensor:
        return prepare_training(images[rows], 12, options, seed=5, epoch=epoch, positions=torch.tensor(rows) + 100)

    whole = prepare([0, 1, 2, 3, 4, 5])
    torch.testing.assert_close(prepare([4, 1]), whole[[4, 1]])
    assert not torch.equal(prepare([4], epoch=1), whole[[4]])


# Batches


def split_batches(shards: Path, split: str = "train", **options: object) -> BatchDataset:
    data = Data(shards, image_size=32, load_size=32, words=WordVectors(dim=8), **options)
    return BatchDataset(data, split, {"image": "pixels", "text": "tokens"}, fit_words(data)[0], seed=0)


@pytest.mark.slow
def test_loader_processes_change_nothing(tiny_shards: Path) -> None:
    def all_batches(workers: int) -> list[Batch]:
        return list(Loader(split_batches(tiny_shards, workers=workers), 9).epoch(1))

    for here, there in zip(all_batches(0), all_batches(2), strict=True):
        assert here.keys == there.keys
        assert torch.equal(here.inputs["image"], there.inputs["image"])
        assert torch.equal(here.inputs["text"].ids, there.inputs["text"].ids)
        assert torch.equal(here.labels, there.labels)


def test_an_epoch_can_begin_in_its_middle(tiny_shards: Path) -> None:
    loader = Loader(split_batches(tiny_shards, workers=0), 9)
    whole = [batch.keys for batch in loader.epoch(2)]
    assert [batch.keys for batch in loader.epoch(2, first_step=3)] == whole[3:]


def put_what_cannot_be_sent(queue: Any) -> None:
    """In a loader's process: what no queue takes, as none takes a batch when the shared memory is full."""
    workers._settle(0)
    queue.put(lambda: None)
    time.sleep(60)


@pytest.mark.slow
def test_a_loader_process_that_cannot_hand_over_its_batch_ends() -> None:
    """Its training would wait for ever; that it is gone is told by torch."""
    workers.start_server()
    process = workers._processes.Process(target=put_what_cannot_be_sent, args=(workers._processes.Queue(),))
    process.start()
    process.join(30)
    assert process.exitcode == 1
    said = str(workers.lost_worker(RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly")))
    assert "--shm-size" in said and "--data.workers" in said and " MB free" in said


@pytest.mark.slow
def test_one_shard_is_enough_for_several_ranks_and_workers(tiny_samples: tuple[RawSample, ...], tmp_path: Path) -> None:
    options = BuildOptions(shard_samples=100, workers=1)
    build_shards(
        tmp_path, dataset="tiny", classes=["apple", "leaf", "sea", "sun"], samples=tiny_samples, options=options
    )
    assert len(list(tmp_path.glob("train-*.tar"))) == 1
    batches = split_batches(tmp_path, workers=3)
    keys = [key for rank in range(2) for batch in Loader(batches, 9, rank, 2).epoch() for key in batch.keys]
    assert len(keys) == len(set(keys)) == 40


def test_ranks_share_an_epoch(tiny_shards: Path) -> None:
    batches = split_batches(tiny_shards, workers=0)
    parts = [[key for batch in Loader(batches, 9, rank, 3).epoch() for key in batch.keys] for rank in range(3)]
    assert len({key for part in parts for key in part}) == sum(map(len, parts)) == 40


def test_a_rank_without_a_sample_gets_a_stand_in_that_does_not_count(tiny_shards: Path) -> None:
    batches = split_batches(tiny_shards, workers=0)
    parts = [list(Loader(batches, 3, rank, 5).epoch()) for rank in range(5)]
    assert len({len(part) for part in parts}) == 1  # as many steps on each rank
    keys = [key for part in parts for batch in part for key in batch.keys]
    assert len(keys) == len(set(keys)) == 40
    empty = next(batch for part in parts for batch in part if not len(batch))
    assert len(empty.labels) == len(empty.positions) == 0
    assert len(empty.inputs["image"]) == len(empty.inputs["text"].ids) == 1


def test_class_balanced_batches_hold_as_many_samples_of_each_class(tiny_shards: Path) -> None:
    loader = Loader(split_batches(tiny_shards, workers=0), 6, batch_classes=3)
    for batch in loader.epoch(1):
        assert sorted(batch.labels.sum(0).tolist()) == [0, 2, 2, 2]
    with pytest.raises(XmrError, match=r"--train\.batch-classes 5: .* has samples of 4 classes"):
        Loader(split_batches(tiny_shards, workers=0), 10, batch_classes=5)
    with pytest.raises(XmrError, match=r"--train\.batch-size 7 is no multiple of --train\.batch-classes 3"):
        Loader(split_batches(tiny_shards, workers=0), 7, batch_classes=3)


def test_further_folders_are_mixed_into_training_alone(
    tiny_shards: Path, tiny_samples: tuple[RawSample, ...], tmp_path: Path
) -> None:
    # The classes in another order, as another builder may have them.
    other = [replace(sample, source=f"other_{sample.source}") for sample in tiny_samples if sample.split == "train"]
    build_shards(
        tmp_path / "other", dataset="other", classes=["sun", "apple", "sea", "leaf"], samples=other[:20],
        options=BuildOptions(workers=1),
    )  # fmt: skip
    batches = split_batches(tiny_shards, workers=0, extra_shards={str(tmp_path / "other"): 0.5})
    assert batches.sizes == (40, 20)
    epochs = [[key for batch in Loader(batches, 8).epoch(epoch) for key in batch.keys] for epoch in (0, 1)]
    reader, here = batches.reader, SplitReader(tiny_shards, "train")
    own = [here.key(position) for position in range(40)]
    labels = {here.metadata(position).source: here.labels(position) for position in range(40)}
    assert all(sorted(key for key in keys if "other" not in key) == own for keys in epochs)
    assert len({key for keys in epochs for key in keys if "other" in key}) == 20
    for position in range(40, 60):
        source = reader.metadata(position).source.replace("other_", "")
        assert reader.labels(position) == labels[source]
        assert reader.read(position).metadata == reader.metadata(position)
    assert len(split_batches(tiny_shards, "val", workers=0, extra_shards={str(tmp_path / "other"): 0.5})) == 12


def test_a_folder_with_unknown_classes_is_not_mixed_in(
    tiny_shards: Path, tiny_samples: tuple[RawSample, ...], tmp_path: Path
) -> None:
    strange = [replace(sample, labels=("moon",)) for sample in tiny_samples[:4]]
    options = BuildOptions(workers=1)
    build_shards(tmp_path / "other", dataset="other", classes=["moon"], samples=strange, options=options)
    with pytest.raises(
        XmrError, match=r"other has the class 'moon', which the set that it is mixed with does not have"
    ):
        split_batches(tiny_shards, extra_shards={str(tmp_path / "other"): 1.0})


def test_texts_are_joined_or_one_is_chosen_per_epoch(tiny_shards: Path) -> None:
    joined = next(Loader(split_batches(tiny_shards, workers=0), 40).epoch())
    loader = Loader(split_batches(tiny_shards, workers=0, texts="one_caption"), 40)
    lengths = [
        dict(zip(batch.keys, batch.inputs["text"].lengths.tolist())) for e in range(6) for batch in loader.epoch(e)
    ]
    assert all(one[key] < length for one in lengths for key, length in zip(joined.keys, joined.inputs["text"].lengths))
    assert any(lengths[0][key] != lengths[epoch][key] for key in lengths[0] for epoch in range(1, 6))
    evaluation = Loader(split_batches(tiny_shards, "test", workers=0, texts="one_caption"), 12)
    first, again = (next(evaluation.epoch(epoch)).inputs["text"].ids for epoch in (0, 1))
    assert torch.equal(first, again)


def test_samples_of_a_batch_by_their_numbers() -> None:
    batch = Batch(
        inputs={"image": torch.arange(7), "text": Tokens(torch.arange(14).view(7, 2), torch.ones(7))},
        labels=torch.eye(7),
        positions=torch.arange(7),
        keys=tuple("abcdefg"),
    )
    for numbers in ([2, 3, 4], [5, 0, 6], [3]):
        rows = batch.rows(torch.tensor(numbers))
        assert rows.keys == tuple("abcdefg"[number] for number in numbers) and len(rows) == len(numbers)
        assert rows.inputs["image"].tolist() == rows.positions.tolist() == rows.labels.argmax(1).tolist() == numbers
        assert torch.equal(rows.inputs["text"].ids, batch.inputs["text"].ids[numbers])
    assert batch.rows(torch.arange(1, 4)).labels.data_ptr() == batch.labels[1:].data_ptr()  # no copy


def test_an_image_larger_than_loaded_is_refused() -> None:
    with pytest.raises(XmrError, match=r"--data\.image-size 224 must not be above --data\.load-size 128"):
        Data(Path("anywhere"), image_size=224, load_size=128)


def test_a_word_outside_the_vocabulary_is_unknown() -> None:
    assert Vocabulary(("dog",)).encode("dog cat", max_tokens=5) == [2, 1]


def test_pictures_are_brought_to_size_by_the_interpolation_that_is_asked_for(tiny_shards: Path) -> None:
    image = photograph(90, 130)
    expected = image.crop((20, 0, 110, 90)) if image.size == (130, 90) else image.crop((0, 20, 90, 110))
    found = {}
    for name, filter_ in (("bilinear", Image.Resampling.BILINEAR), ("bicubic", Image.Resampling.BICUBIC)):
        data = encoded(image, "PNG")
        found[name] = load_square(data, 40, where="here", interpolation=name)  # type: ignore[arg-type]
        pillow = torch.from_numpy(np.array(expected.resize((40, 40), filter_))).permute(2, 0, 1)
        assert (found[name].int() - pillow.int()).abs().max() <= 1
    assert not torch.equal(found["bilinear"], found["bicubic"])
    squares = []
    for name in ("bilinear", "bicubic"):
        options = Data(tiny_shards, image_size=32, load_size=40, interpolation=name)  # type: ignore[arg-type]
        batches = BatchDataset(options, "val", {"image": "pixels"}, None, seed=0)
        squares.append(batches[Request(0, np.arange(2))].inputs["image"])  # type: ignore[union-attr]
    assert not torch.equal(*squares)
