"""Features of frozen towers on disk: found again, refused where they are others, and shared by trainings."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.helpers.stepped import Made
from xmr_e2e.data.captions import Captions
from xmr_e2e.data.inputs import CachedFeatures
from xmr_e2e.data.loader import Loader
from xmr_e2e.data.mixture import open_split
from xmr_e2e.models import embed as embed_module
from xmr_e2e.models.embed import cache_frozen_features, embed_split
from xmr_e2e.models.feature_store import FeatureStore, features_fingerprint, tower_fingerprint
from xmr_e2e.towers.base import TokenFeatures

NAME = "0" * 64


def extracted(made: Made, store: FeatureStore | None, *splits: str) -> dict[str, dict[str, CachedFeatures]]:
    return cache_frozen_features(made.method, made.data, made.tokenizer, splits or ("train", "val"), store=store)


def same(one: dict[str, dict[str, CachedFeatures]], other: dict[str, dict[str, CachedFeatures]]) -> bool:
    return all(torch.equal(one[s][m].output, other[s][m].output) for s in one for m in one[s])


def test_a_second_training_runs_no_tower_and_has_the_same_features(
    tiny_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    made, store = Made(tiny_shards, frozen=True), FeatureStore(tmp_path / "features")
    plain, first = extracted(made, None), extracted(made, store)
    assert same(first, plain) and len(list(store.folder.iterdir())) == 4
    assert "features of the image tower, split train of tiny: extracted in " in caplog.text
    monkeypatch.setattr(embed_module, "collect", None)
    second = extracted(Made(tiny_shards, frozen=True), store)
    assert same(second, plain)
    assert "features of the text tower, split val of tiny: found in " in caplog.text


def test_features_of_a_file_are_mapped_and_not_read_into_memory(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    assert store.save(NAME, {"output": torch.arange(1e5)[:, None]}, "numbers")
    found = store.find(NAME, 100_000)
    assert found is not None and found["output"][-1].item() == 99_999
    assert str(store.path(NAME)) in Path("/proc/self/maps").read_text()


def test_sequences_are_given_back_with_their_masks(tmp_path: Path) -> None:
    mask = torch.tensor([[True, False], [True, True]])
    for targets in (None, torch.tensor([[1, 0], [2, 3]])):
        made = CachedFeatures(TokenFeatures(torch.randn(2, 2, 3), mask, torch.rand(2, 2, 1), targets))
        store = FeatureStore(tmp_path / str(targets is None))
        found = embed_module._stored(store, NAME, 2, "regions", lambda: made)  # noqa: B023
        again = embed_module._stored(store, NAME, 2, "regions", refuse)
        for each in (found, again):
            assert isinstance(each.output, TokenFeatures)
            for mine, other in zip(each.output, made.output):
                assert (mine is None and other is None) or torch.equal(mine, other)


def refuse() -> CachedFeatures:
    raise AssertionError("extracted again")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def rename(path: Path) -> None:
    save_file(load_file(path), path, {"format": "xmr-features-1", "fingerprint": "1" * 64})


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (flip, "checksum"),
        (rename, "other features than its name says"),
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "passed over"),
        (lambda path: path.write_bytes(b"no features"), "passed over"),
        (lambda path: save_file({"output": torch.zeros(2)}, path), "other features"),
    ],
)
def test_a_file_that_is_damaged_or_anothers_is_extracted_again(
    damage: Any, said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, made = FeatureStore(tmp_path), CachedFeatures(torch.randn(5, 3))
    embed_module._stored(store, NAME, 5, "rows", lambda: made)
    damage(store.path(NAME))
    found = embed_module._stored(store, NAME, 5, "rows", lambda: made)
    assert said in caplog.text and "extracted again" in caplog.text
    assert torch.equal(found.output, made.output)
    assert torch.equal(embed_module._stored(store, NAME, 5, "rows", refuse).output, made.output)
    assert store.find(NAME, 6) is None and "the features of 6 samples" in caplog.text
    assert store.open(NAME, 6) is None


def test_a_link_out_of_the_folder_is_neither_read_nor_written_through(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, other = FeatureStore(tmp_path / "features"), tmp_path / "other"
    store.folder.mkdir()
    other.write_bytes(b"precious")
    store.path(NAME).symlink_to(other)
    made = CachedFeatures(torch.randn(5, 3))
    assert embed_module._stored(store, NAME, 5, "rows", lambda: made) is made
    assert other.read_bytes() == b"precious" and "a link that leads out of its folder" in caplog.text


def test_a_folder_that_cannot_be_written_leaves_the_features_in_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    made = CachedFeatures(torch.randn(5, 3))
    assert embed_module._stored(FeatureStore(tmp_path / "file"), NAME, 5, "rows", lambda: made) is made
    assert "cannot be kept there" in caplog.text


def fingerprints(made: Made, split: str = "val", **options: Any) -> tuple[str, str]:
    """Of the image's and the text's features."""
    data = replace(made.data, **options)
    reader = open_split(data.shards, split, data.extra_shards)
    return tuple(  # type: ignore[return-value]
        features_fingerprint(
            tower_fingerprint(made.method.tower_configs[name], made.method.towers[name]),
            data, made.tokenizer, made.method.input_kinds[name], name, reader, captions=False,
        )
        for name in ("image", "text")
    )  # fmt: skip


def test_the_fingerprint_is_that_of_all_that_features_depend_on(tiny_shards: Path) -> None:
    made = Made(tiny_shards, frozen=True)
    image, text = fingerprints(made)
    assert image != text and fingerprints(Made(tiny_shards, frozen=False)) == (image, text)
    assert fingerprints(made, workers=3) == (image, text)
    for options, changed in (
        ({"load_size": 41}, (True, False)),
        ({"image_size": 31}, (True, False)),
        ({"max_tokens": 7}, (False, True)),
        ({"texts": "one_caption"}, (False, True)),
        ({"extra_shards": {str(tiny_shards): 1.0}}, (True, True)),
        ({"split": "train"}, (True, True)),
    ):
        other = fingerprints(made, **options)  # type: ignore[arg-type]
        assert (other[0] != image, other[1] != text) == changed, options
    made.tokenizer = replace(made.tokenizer, words=made.tokenizer.words[::-1])
    assert (fingerprints(made)[0] == image) and fingerprints(made)[1] != text
    with torch.no_grad():
        next(made.method.towers["image"].buffers()).add_(1e-3)
    assert fingerprints(made)[0] != image


def test_further_folders_are_mixed_into_the_training_split_alone(tiny_shards: Path, tmp_path: Path) -> None:
    made, plain = Made(tiny_shards, frozen=True), Made(tiny_shards, frozen=True).data
    for store in (None, FeatureStore(tmp_path)):  # which has those of the one folder before those of both
        for folders, expected in (({}, [40, 12]), ({str(tiny_shards): 1.0}, [2 * 40, 12])):
            made.data = replace(plain, extra_shards=folders)
            known = extracted(made, store)
            assert [len(known[split]["image"].output) for split in ("train", "val")] == expected


def test_one_caption_by_chance_stays_one_by_chance(tiny_shards: Path, tmp_path: Path) -> None:
    """With a frozen text tower too: what it makes of each caption is kept, not what it made of the first choice."""
    made = Made(tiny_shards, frozen=True)
    made.data = replace(made.data, texts="one_caption")
    texts = [made.batches("train", "text").reader.metadata(position).texts for position in range(40)]
    assert max(map(len, texts)) > 1
    chosen = []
    for store in (FeatureStore(tmp_path), FeatureStore(tmp_path), None):
        known = extracted(made, store)
        assert len(known["train"]["text"].output) == sum(map(len, texts)) and len(known["val"]["text"].output) == 12
        batches = made.batches("train", "text")
        batches.cached_features, batches._to_read = {"text": known["train"]["text"]}, {}
        for epoch in (0, 1):
            plain = next(Loader(made.batches("train", "text"), 40).epoch(epoch)).inputs["text"]
            cached = next(Loader(batches, 40).epoch(epoch)).inputs["text"]
            with torch.no_grad():
                expected: Tensor = made.method.eval().features("text", plain)
            torch.testing.assert_close(cached.output, expected)
            chosen.append(cached.output)
    assert not torch.equal(chosen[0].sort(0).values, chosen[1].sort(0).values)


def test_captions_that_are_items_are_embedded_and_images_are_still_the_cached_ones(
    tiny_shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, seen = Made(tiny_shards, frozen=True), []
    known = extracted(made, None, "val")
    for name in ("image", "text"):
        made.method.towers[name].register_forward_hook(lambda *_, name=name: seen.append(name))
    split = embed_split(made.method, made.data, made.tokenizer, "val", known, Captions())
    assert set(seen) == {"text"}
    counts = np.bincount(split.positions["text"].numpy())
    assert len(split.embeddings["image"]) == 12 and counts.max() > 1
