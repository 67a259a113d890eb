"""Embeddings of a split, and what frozen towers make of it once for all epochs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.helpers.stepped import Made
from xmr_e2e.data.batch_dataset import BatchDataset
from xmr_e2e.data.captions import Captions
from xmr_e2e.models import embed as embed_module
from xmr_e2e.models.embed import cache_frozen_features, collect, embed_modality, tower_features


def test_frozen_towers_outputs_stand_for_the_samples_of_each_split(tiny_shards: Path) -> None:
    made = Made(tiny_shards, frozen=True)
    cached_features = cache_frozen_features(made.method, made.data, made.tokenizer, ("train", "val"))
    assert list(cached_features) == ["train", "val"] and all(
        list(parts) == ["image", "text"] for parts in cached_features.values()
    )
    assert len(cached_features["train"]["image"].output) == 40 and len(cached_features["val"]["text"].output) == 12
    for modality in ("image", "text"):
        plain, positions = embed_modality(made.method, made.data, made.tokenizer, "val", modality)
        known, same = embed_modality(made.method, made.data, made.tokenizer, "val", modality, cached_features)
        torch.testing.assert_close(known, plain)
        assert torch.equal(positions, same) and torch.equal(positions, torch.arange(12))
        assert plain.dtype == torch.float32 and len(plain.unique(dim=0)) > 1


def test_a_method_whose_towers_train_has_nothing_extracted(tiny_shards: Path) -> None:
    made = Made(tiny_shards, frozen=False)
    assert cache_frozen_features(made.method, made.data, made.tokenizer, ("val",)) == {"val": {}}


@pytest.mark.parametrize("captions", [None, Captions()])
def test_towers_outputs_of_some_items_are_those_of_the_same_items_among_all(
    tiny_shards: Path, captions: Captions | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embed_module, "BATCH", 3)
    made = Made(tiny_shards, frozen=False)
    for modality in ("text",) if captions else ("image", "text"):
        batches = made.batches("val", modality)
        if captions:
            kind = {modality: made.method.input_kinds[modality]}
            batches = BatchDataset(made.data, "val", kind, made.tokenizer, seed=0, captions=captions)
        whole = collect(made.method, batches, lambda inputs: made.method.features(modality, inputs[modality]))  # noqa: B023
        items = [len(whole) - 1, 0, 7, 4, 3, 2, 7]
        found = tower_features(made.method, made.data, made.tokenizer, "val", modality, items, captions)
        assert found is not None and len(whole) >= 12
        torch.testing.assert_close(found, whole[items], rtol=1e-4, atol=1e-5)
        assert len(whole[items].unique(dim=0)) > 2
    assert made.method.training


def test_what_is_collected_is_that_of_evaluation_in_order_of_position(tiny_shards: Path) -> None:
    made = Made(tiny_shards, frozen=False)
    modes = []

    def look(inputs: dict[str, Any]) -> dict[str, Tensor]:
        modes.append(made.method.training)
        pixels = inputs["image"]
        assert not torch.is_grad_enabled()
        return {"means": pixels.mean((1, 2, 3)), "shapes": torch.tensor(pixels.shape[1:]).expand(len(pixels), 3)}

    batches = made.batches("val", "image")
    found = collect(made.method, batches, look)
    assert modes and not any(modes) and made.method.training
    assert found["shapes"].tolist() == [[3, 32, 32]] * 12
    again = collect(made.method.eval(), batches, look)
    assert not made.method.training
    assert torch.equal(found["means"], again["means"]) and len(found["means"].unique()) > 6


def test_a_sample_that_is_seen_twice_is_an_error(tiny_shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Made(tiny_shards, frozen=False)
    batches = made.batches("val", "image")
    epoch = embed_module.Loader.epoch
    monkeypatch.setattr(embed_module.Loader, "epoch", lambda self: [next(epoch(self))] * 2)
    with pytest.raises(RuntimeError, match=r"the split 'val' has 24 items where 12 were to be embedded, each once"):
        collect(made.method, batches, lambda inputs: inputs["image"].mean((1, 2, 3)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_rows_stand_at_their_places_and_zeros_where_a_sample_lacks_the_modality(dtype: torch.dtype) -> None:
    rows = torch.tensor([[1, 2], [3, 4]], dtype=dtype)
    spread = embed_module._spread(rows, torch.tensor([1, 3]), 4)
    assert spread.dtype == dtype and spread.tolist() == [[0, 0], [1, 2], [0, 0], [3, 4]]
    assert embed_module._spread(rows, torch.tensor([0, 1]), 2) is rows


def test_a_trial_leaves_the_method_in_the_mode_it_was_in(tiny_shards: Path) -> None:
    made, modes = Made(tiny_shards, frozen=False), []
    made.method.towers["image"].register_forward_hook(lambda module, *_: modes.append(module.training))
    embed_module.embed_few(made.method, made.data, made.tokenizer, "val")
    assert modes == [False] and all(module.training for module in made.method.modules())
