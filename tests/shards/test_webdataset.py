"""The shards as other people's WebDataset pipelines read them: the library itself, without this project's reader."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pytest
import webdataset
from PIL import Image
from safetensors.numpy import load

from tests.helpers.stored import stored
from xmr_e2e.shards.build import BuildOptions, RawSample, build_shards
from xmr_e2e.shards.schema import key_of
from xmr_e2e.shards.writer import write_shard


def test_a_plain_pipeline_decodes_keys_pictures_texts_and_labels(
    tiny_shards: Path, tiny_samples: tuple[RawSample, ...]
) -> None:
    expected = {key_of(sample.source): sample for sample in tiny_samples if sample.split == "train"}
    urls = [str(path) for path in sorted(tiny_shards.glob("train-*.tar"))]
    dataset = webdataset.WebDataset(urls, shardshuffle=False).decode("rgb8").to_tuple("__key__", "jpg", "json")
    seen: list[str] = []
    for key, pixels, metadata in dataset:
        sample = expected[key]
        assert sample.image is not None
        assert np.array_equal(pixels, np.asarray(Image.open(sample.image).convert("RGB")))
        assert metadata == {"labels": list(sample.labels), "source": sample.source, "texts": list(sample.texts)}
        seen.append(key)
    assert len(seen) == 40
    assert seen == sorted(expected)  # in the order of the shards, which is that of the keys


@pytest.mark.processes
def test_braces_and_a_loader_of_several_processes_give_each_sample_once(
    tiny_shards: Path, tiny_samples: tuple[RawSample, ...]
) -> None:
    (last,) = (path.stem[-5:] for path in sorted(tiny_shards.glob("train-*.tar"))[-1:])
    dataset = (
        webdataset.WebDataset(f"{tiny_shards}/train-{{00000..{last}}}.tar", shardshuffle=100, seed=0)
        .shuffle(20)
        .decode("rgb8")
        .map(_first_text)
        .batched(6)
    )
    loader = webdataset.WebLoader(dataset, batch_size=None, num_workers=2)
    texts = {sample.texts[0]: sample.labels[0] for sample in tiny_samples if sample.split == "train"}
    found: Counter[str] = Counter()
    for pixels, batch_texts, labels in loader:
        assert pixels.shape[1:] == (48, 64, 3) and len(pixels) == len(batch_texts) == len(labels) <= 6
        assert [texts[text] for text in batch_texts] == list(labels)
        found.update(batch_texts)
    assert found == Counter(list(texts))


def _first_text(sample: dict[str, object]) -> tuple[object, str, str]:
    metadata = sample["json"]
    assert isinstance(metadata, dict)
    return sample["jpg"], metadata["texts"][0], metadata["labels"][0]


def test_features_are_read_with_safetensors_alone(tmp_path: Path, make_image: Callable[..., Path]) -> None:
    features = np.arange(5, dtype=np.float32)
    image = make_image(tmp_path / "a.png")
    samples = [RawSample("a", "train", image, ("x",), features={"audio": features})]
    out = tmp_path / "out"
    build_shards(out, dataset="d", classes=(), samples=samples, required=(), options=BuildOptions(workers=1))
    (item,) = webdataset.WebDataset(str(out / "train-00000.tar"), shardshuffle=False)
    assert set(item) >= {"png", "json", "audio.safetensors"}
    assert np.array_equal(load(item["audio.safetensors"])["features"], features)
    assert Image.open(io.BytesIO(item["png"])).size == Image.open(image).size


def test_webdataset_is_read_by_datasets_as_by_this_project(tiny_shards: Path, tmp_path: Path) -> None:
    expected = stored(tiny_shards)
    files = {split: sorted(map(str, tiny_shards.glob(f"{split}-*.tar"))) for split in ("train", "val", "test")}
    found = datasets.load_dataset("webdataset", data_files=files, cache_dir=str(tmp_path / "cache"))
    keys = [("val" if name == "validation" else name, row["__key__"]) for name, each in found.items() for row in each]
    assert sorted(keys) == sorted(expected)
    for name, split in found.items():
        for row in split.cast_column("jpg", datasets.Image(decode=False)):
            sample = expected[name, row["__key__"]]
            assert row["jpg"]["bytes"] == sample.image
            assert (tuple(row["json"]["texts"]), tuple(row["json"]["labels"])) == (sample.texts, sample.labels)
    picture = found["train"][0]["jpg"]
    own = expected["train", found["train"][0]["__key__"]].image
    assert own is not None and picture.tobytes() == Image.open(io.BytesIO(own)).tobytes()


def test_a_shard_has_the_bytes_that_webdatasets_own_writer_gives(tmp_path: Path) -> None:
    samples = [(key, {"txt": key.encode(), "jpg": bytes(range(200)) * size}) for size, key in enumerate("abc")]
    write_shard(tmp_path / "ours.tar", samples)
    options = {"user": "xmr", "group": "xmr", "mode": 0o644, "mtime": 0}
    with webdataset.TarWriter(str(tmp_path / "theirs.tar"), encoder=False, **options) as tar:
        for key, members in samples:
            tar.write({"__key__": key, **members})
    assert (tmp_path / "ours.tar").read_bytes() == (tmp_path / "theirs.tar").read_bytes()
