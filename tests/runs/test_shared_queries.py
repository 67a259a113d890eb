"""The same queries under several runs: what each of them ranks first stands on one page."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import xmr_e2e
from tests.helpers.report_pages import Page
from xmr_e2e.data.reader import SplitReader
from xmr_e2e.errors import XmrError
from xmr_e2e.evaluation.result import EvaluationResult, read_result
from xmr_e2e.runs.command import report_command
from xmr_e2e.runs.run import Run
from xmr_e2e.runs.shared_queries import shared_queries
from xmr_e2e.shards.build import BuildOptions, RawSample, build_shards

pytest_plugins = ["tests.helpers.searched"]


@pytest.fixture(scope="module")
def runs(learnt_run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run, and the same one with other weights."""
    other = tmp_path_factory.mktemp("other") / "run"
    shutil.copytree(learnt_run, other)
    weights = load_file(other / "model.safetensors")
    for part in ("weight", "bias"):  # takes each class of pictures for the next one
        weights[f"classifiers.image.{part}"] = weights[f"classifiers.image.{part}"].roll(1, 0)
    save_file(weights, other / "model.safetensors")
    return learnt_run, other


def results(runs: Sequence[Path]) -> list[EvaluationResult]:
    return [read_result(run / "evaluation" / "test.json") for run in runs]


def test_each_run_ranks_the_same_queries_as_its_own_embeddings_do(runs: tuple[Path, Path]) -> None:
    sections = shared_queries([*map(Run, runs)], results(runs), 5)
    assert [(section.query, section.gallery) for section in sections] == [("image", "text"), ("text", "image")]
    models = [xmr_e2e.load(run) for run in runs]
    differing = 0
    for section in sections:
        assert len(section.examples) == 5 and section.is_labeled
        for examples in section.examples:
            assert len({example.query.key for example in examples}) == 1
            differing += len({tuple(each.item.key for each in example.results) for example in examples}) > 1
            for example, model in zip(examples, models):
                queries, gallery = (
                    torch.nn.functional.normalize(torch.from_numpy(model.embed_split("test", name)))
                    for name in (section.query, section.gallery)
                )
                keys = keys_of(model)
                scores = gallery @ queries[keys.index(example.query.key)]
                found = [keys.index(each.item.key) for each in example.results]
                np.testing.assert_allclose(scores[found], scores.sort(descending=True).values[:5], atol=1e-5)
    assert differing > 5


def keys_of(model: xmr_e2e.SavedModel) -> list[str]:
    reader = SplitReader(model.data.shards, "test")
    return [reader.key(place) for place in range(len(reader))]


def test_the_page_has_each_query_once_with_every_runs_results(runs: tuple[Path, Path], tmp_path: Path) -> None:
    report_command(runs, out=tmp_path / "page.html", queries=3)
    page = Page((tmp_path / "page.html").read_text())
    assert page.open == []
    articles = [attributes for tag, attributes in page.tags if tag == "article"]
    lists = [attributes for tag, attributes in page.tags if tag == "ol"]
    assert len(articles) == 2 * 3 and len(lists) == 2 * len(articles)
    assert "An image asks, texts answer" in page.text and "own pair at rank" in page.text


def test_runs_that_rank_other_items_or_otherwise_are_refused(
    runs: tuple[Path, Path], tmp_path: Path, tiny_samples: tuple[RawSample, ...]
) -> None:
    out = tmp_path / "shards"
    build_shards(out, dataset="other", classes=("apple", "leaf", "sea", "sun"), samples=tiny_samples[:-1],
                 options=BuildOptions(workers=1))  # fmt: skip
    assert tiny_samples[-1].split == "test"
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(runs[1], elsewhere)
    model = json.loads((elsewhere / "model.json").read_text())
    model["data"]["shards"] = str(out)
    (elsewhere / "model.json").write_text(json.dumps(model))
    pair = [runs[0], elsewhere]
    with pytest.raises(XmrError, match="rank different items"):
        shared_queries([*map(Run, pair)], results(pair), 2)
    document = json.loads((elsewhere / "evaluation" / "test.json").read_text())
    document["protocol"]["name"] = "captions"
    (elsewhere / "evaluation" / "test.json").write_text(json.dumps(document))
    with pytest.raises(XmrError, match=r"measured in several ways .*protocol captions.*protocol clean"):
        shared_queries([*map(Run, pair)], results(pair), 2)
    with pytest.raises(XmrError, match="between 0 and 50"):
        report_command(runs, queries=51)
    with pytest.raises(XmrError, match="several runs"):
        report_command(runs[:1], queries=1)
