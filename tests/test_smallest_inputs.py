"""Inputs at the edge of what is allowed: two pairs, half precision, widths that do not fit, members that are broken."""

from __future__ import annotations

import contextlib
import shutil
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load
from torch import Tensor

from xmr_e2e.data.reader import SplitReader
from xmr_e2e.errors import XmrError
from xmr_e2e.evaluation.retrieval import MetricSpec
from xmr_e2e.evaluation.scores import Scores
from xmr_e2e.objectives.cca import correlation_loss
from xmr_e2e.objectives.sdcmr import kl_to_standard_normal
from xmr_e2e.objectives.semantic_sharing import masked_loss_per_sample
from xmr_e2e.shards import verify as verify_module
from xmr_e2e.shards.build import BuildOptions, RawSample, build_shards
from xmr_e2e.shards.extend import extend_shards
from xmr_e2e.shards.features import StoredRegions, encode_regions
from xmr_e2e.shards.index import load_index
from xmr_e2e.shards.record import Record
from xmr_e2e.shards.scan import Problem
from xmr_e2e.shards.schema import REGIONS_MEMBER
from xmr_e2e.shards.verify import verify
from xmr_e2e.shards.writer import write_shard
from xmr_e2e.similarity import Similarity

MASK = torch.tensor([[True, False], [True, True]])
LOSSES: dict[str, Callable[[Tensor], Tensor]] = {
    "divergence": lambda rows: kl_to_standard_normal(rows, rows / 4),
    "masked": lambda rows: masked_loss_per_sample(rows, torch.tensor([[1, 0], [2, 5]]), MASK),
    "masked, sigmoid first": lambda rows: masked_loss_per_sample(
        rows, torch.tensor([[1, 0], [2, 5]]), MASK, sigmoid_first=True
    ),
}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
def test_a_loss_of_half_precision_is_computed_in_full(loss: Callable[[Tensor], Tensor], dtype: torch.dtype) -> None:
    rows = torch.randn(3, 7, generator=torch.Generator().manual_seed(0)).to(dtype)
    found = loss(rows)
    assert found.dtype == torch.float32
    assert torch.equal(found, loss(rows.float()))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(loss(rows.float()), found)


def test_two_pairs_are_enough_for_canonical_correlation_and_one_is_not() -> None:
    two = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    # With ridge r, views with the same covariance of rank 1 and trace 2.5 correlate by 2.5 / (2.5 + r).
    assert float(correlation_loss(two, two, k=1, ridge=0.5)) == pytest.approx(-2.5 / 3)
    with pytest.raises(ValueError, match="two or more pairs, got 1 and 1"):
        correlation_loss(two[:1], two[:1])


@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean"])
def test_embeddings_of_unequal_widths_are_refused_in_words(similarity: Similarity) -> None:
    with pytest.raises(ValueError, match="queries have 3 dimensions and the gallery 4"):
        Scores(torch.ones(2, 3), torch.ones(2, 4), similarity)


def test_the_default_figures_are_those_of_the_papers() -> None:
    assert MetricSpec().names == ("mAP@all", "mAP@50", "NDCG@500", "R@1", "R@5", "R@10")
    assert MetricSpec().scope_ks == (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
    assert MetricSpec().normaliser == "relevant_in_top_k"


# ---- shards


@pytest.fixture
def shards(tmp_path: Path, tiny_samples: tuple[RawSample, ...]) -> Path:
    """A shard of four pairs and a text alone."""
    samples = [*tiny_samples[:4], RawSample("alone", "train", None, ("only words",), ("sea",))]
    out = tmp_path / "shards"
    classes = ["apple", "leaf", "sea", "sun"]
    build_shards(out, dataset="d", classes=classes, samples=samples, required=(), options=BuildOptions(workers=1))
    return out


def test_an_index_has_minus_one_for_what_a_sample_lacks(shards: Path) -> None:
    (tar,) = shards.glob("*.tar")
    arrays = load(next(shards.glob("*.index.safetensors")).read_bytes())
    reader = SplitReader(shards, "train")
    (row,) = (position for position in range(5) if reader.metadata(position).source == "alone")
    assert (arrays["offset.jpg"][row], arrays["size.jpg"][row]) == (-1, -1)
    assert (np.delete(arrays["size.jpg"], row) > 0).all()
    assert load_index(tar).span("jpg", row) is None


def encode(records: Sequence[Record]) -> list[bytes | None]:
    boxes, classes = np.zeros((2, 5), np.float32), np.zeros(2, np.int64)
    return [encode_regions(StoredRegions(np.ones((2, 4), np.float32), boxes, classes)) for _ in records]


def test_damaged_regions_are_an_error_that_names_shard_and_sample(shards: Path) -> None:
    extend_shards(shards, REGIONS_MEMBER, encode, batch=8, note="made")
    assert SplitReader(shards, "train").regions(1).features.shape == (2, 4)
    (tar,) = shards.glob("*.tar")
    with open(tar, "r+b") as stream:
        span = load_index(tar).span(REGIONS_MEMBER, 1)
        assert span is not None
        stream.seek(span[0])
        stream.write(b"\xff" * 16)  # of the header's length
    reader = SplitReader(shards, "train")
    with pytest.raises(XmrError, match=rf"{tar.name}: {reader.key(1)}: regions: not a safetensors file"):
        reader.regions(1)
    assert reader.regions(0).features.shape == (2, 4)


def test_a_problem_names_the_shard_whatever_file_holds_it_and_the_sample(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tar,) = shards.glob("*.tar")
    text = (shards / "manifest.json").read_text()
    assert text.count('"sun"') == 2  # among the classes, and with its number of samples
    (shards / "manifest.json").write_text(text.replace('"sun"', '"moon"'))
    other = shutil.copy(tar, tmp_path / "0123abcd")

    @contextlib.contextmanager
    def open_other(task: Any) -> Iterator[Path]:
        yield other

    monkeypatch.setattr(verify_module, "_open_tar", open_other)
    reader = SplitReader(shards, "train")
    (key,) = (reader.key(place) for place in range(5) if "sun" in reader.metadata(place).labels)
    found = [problem for problem in verify(shards, workers=1) if problem.shard != "train"]
    assert Problem(tar.name, key, "label 'sun' is in no class list") in found
    assert {problem.shard for problem in found} <= {tar.name, "manifest.json"}


def test_the_bytes_of_a_shard_are_the_same_in_every_version(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar", [("one", {"json": b"{}", "txt": b"words"}), ("two", {"json": b"[]"})])
    with tarfile.open(tmp_path / "a.tar") as tar:
        entries = [(m.name, m.mode, m.mtime, m.uname, m.gname, m.uid, m.gid) for m in tar]
    assert entries == [(name, 0o644, 0, "xmr", "xmr", 0, 0) for name in ("one.json", "one.txt", "two.json")]
