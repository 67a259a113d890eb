"""Data without a single label, from the builder to the search: contrastive training and what is measured by pairs."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import ModelCard
from PIL import Image

import xmr_e2e
from preprocessing.folder.command import folder
from xmr_e2e.cli import main
from xmr_e2e.data.config import Data
from xmr_e2e.data.vectors import WordVectors
from xmr_e2e.doctor.shards import check_shards
from xmr_e2e.errors import XmrError
from xmr_e2e.evaluation.result import read_result
from xmr_e2e.methods.base import MethodConfig
from xmr_e2e.methods.cca import Cca
from xmr_e2e.methods.contrastive import Contrastive
from xmr_e2e.methods.dscmr import Dscmr
from xmr_e2e.runs.evaluate import metrics_table
from xmr_e2e.runs.experiment import Experiment, Optimizer, Train
from xmr_e2e.shards.build import BuildOptions
from xmr_e2e.shards.manifest import load_manifest
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.text import TextCnn
from xmr_e2e.training.launch import run_experiment
from xmr_e2e.training.processes import make_accelerator
from xmr_e2e.training.selection import check_splits, with_defaults

CAPTIONS = 3
PICTURES = 40
COLORS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 60, 220), "gray": (128, 128, 128)}
METHOD = Contrastive(image=ImageTower("resnet10_slim", weights="none"), text=TextCnn(kernels=8), dim=8)


def text_of(page: str) -> str:
    """The words that are seen, and the names of the pictures."""
    return re.sub(r"<style.*?</style>|(href|src)=\"data:[^\"]*\"", "", page, flags=re.DOTALL)


def write_pairs(folder: Path) -> Path:
    """A table with only the columns image and text: three rows of each picture."""
    random = np.random.default_rng(0)
    folder.mkdir()
    with open(folder / "pairs.csv", "w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["image", "text"])
        for number in range(PICTURES):
            name, color = list(COLORS.items())[number % len(COLORS)]
            noise = random.integers(-25, 25, (40, 40, 3))
            Image.fromarray(np.clip(noise + color, 0, 255).astype(np.uint8)).save(folder / f"{number}.png")
            for words in ("a plain {} square", "{} all over, number " + str(number), "something {} on the wall"):
                table.writerow([f"{number}.png", words.format(name)])
    return folder / "pairs.csv"


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards that `preprocessing.folder` made of a table of pictures and texts."""
    root = tmp_path_factory.mktemp("pairs")
    table = write_pairs(root / "raw")
    folder(root / "raw", root / "shards", table=table, val=0.2, test=0.3, build=BuildOptions(workers=1))
    return root / "shards"


def experiment(shards: Path, runs: Path, method: MethodConfig = METHOD, **train: Any) -> Experiment:
    data = Data(shards, image_size=32, load_size=32, words=WordVectors(dim=6, min_count=1), workers=0)
    data = replace(data, texts="one_caption")
    options: dict[str, Any] = {"epochs": 2, "batch_size": 10, "runs": runs, "name": "run", **train}
    return Experiment("pairs", data, method, Optimizer(lr=3e-3), train=Train(**options))


@pytest.fixture(scope="module")
def run(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished training."""
    runs = tmp_path_factory.mktemp("runs")
    chosen = experiment(pairs, runs)
    assert run_experiment(chosen, make_accelerator(chosen.train)) == 0
    return runs / "pairs" / "run"


def test_rows_of_a_picture_are_one_sample_with_its_texts_and_no_label(pairs: Path) -> None:
    manifest = load_manifest(pairs)
    assert (manifest.classes, manifest.multi_label) == ((), False)
    assert {name: split.samples for name, split in manifest.splits.items()} == {"train": 20, "val": 8, "test": 12}
    assert "pairs.csv: 120 rows are of 40 pictures, whose texts are put together" in manifest.notes


@pytest.mark.slow
def test_each_caption_is_an_item_and_epochs_are_chosen_by_the_sum_of_recalls(run: Path) -> None:
    result = json.loads((run / "evaluation" / "test.json").read_bytes())
    assert result["protocol"]["name"] == "captions"
    assert (result["classes"], result["protocol"]["selected_on"]) == ([], "val")
    assert "the best by rsum on the validation split (sum over all directions)" in result["selection"]
    there, back = (result["model"]["figures"][name] for name in ("image_to_text", "text_to_image"))
    assert [(each["queries"], each["gallery"]) for each in (there, back)] == [(12, 36), (36, 12)]
    assert list(there["scores"]) == ["R@1", "R@5", "R@10", "MedR", "Pearson"]
    assert not {"curve", "scope"} & there.keys()
    assert not there["per_class"]
    recalls = [each["scores"][name] for each in (there, back) for name in ("R@1", "R@5", "R@10")]
    assert result["model"]["average"]["rsum"] == pytest.approx(100 * sum(recalls))
    assert 0 < result["random"]["average"]["rsum"] < 600
    assert not [name for name in result["definitions"] if "mAP" in name or "NDCG" in name]
    assert "NaN" not in (run / "evaluation" / "test.json").read_text()
    config = json.loads((run / "config.json").read_bytes())["train"]
    assert (config["select"], config["protocol"]) == ("rsum", "captions")


@pytest.mark.slow
def test_validation_is_by_captions_and_by_pairs(run: Path) -> None:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    scores = [line["val"] for line in lines if "val" in line]
    assert len(scores) == 2
    assert {"average rsum", "image_to_text R@1", "text_to_image R@10", "average MedR"} <= scores[0].keys()
    assert not [name for name in scores[0] if "mAP" in name or "NDCG" in name]


@pytest.mark.slow
def test_the_report_says_nothing_of_classes(run: Path) -> None:
    page = (run / "report.html").read_text()
    assert "mAP" not in text_of(page) and "nan" not in text_of(page).lower().split()
    assert "The data have no labels: right is what belongs to the query’s own sample." in page
    assert "Confusion" not in page and "By class" not in page and 'id="classes"' not in page
    assert "By modality" in page and "rsum" in page and "own pair" in page


@pytest.mark.slow
def test_it_is_measured_again_by_another_protocol(run: Path) -> None:
    assert main(["eval", str(run), "--protocol", "clean"]) == 0
    result = json.loads((run / "evaluation" / "test-clean.json").read_bytes())
    assert result["model"]["figures"]["image_to_text"]["gallery"] == 12
    table = metrics_table(read_result(run / "evaluation" / "test-clean.json").metrics)
    assert [column.header for column in table.columns] == ["direction", "R@1", "R@5", "R@10", "MedR", "rsum"]
    rows = [list(column.cells) for column in table.columns]
    assert rows[0][-3:] == ["average", "random", "times random"]
    assert rows[-1][:6] == ["–"] * 6 and 0 < float(rows[-1][-3]) <= 600  # the sum of both directions
    assert rows[-2][2::3] == ["–"] * 3  # a rank is better where it is lower
    assert main(["report", str(run), "--figures", "test-clean"]) == 0


@pytest.mark.slow
def test_runs_without_labels_are_compared(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "comparison.html"
    assert main(["report", str(run), str(run), "--out", str(out)]) == 0
    page = out.read_text()
    assert "rsum" in page and "mAP" not in text_of(page)
    assert main(["table", str(run)]) == 0


@pytest.mark.slow
def test_its_model_is_exported_with_a_card_and_searched(run: Path, pairs: Path, tmp_path: Path) -> None:
    assert main(["export", str(run), str(tmp_path / "model")]) == 0
    card = (tmp_path / "model" / "README.md").read_text()
    assert "It learned from pairs alone, without labels." in card
    assert "Relevant in these figures is what belongs to the same sample as the query." in card
    assert "mAP" not in card
    assert not [found for found in ModelCard(card).data.eval_results or () if "rsum" in (found.metric_name or "")]
    model = xmr_e2e.load(tmp_path / "model", shards=pairs)
    assert model.classes == ()
    assert main(["index", str(run), str(pairs)]) == 0
    assert main(["search", str(run), "a plain red square"]) == 0


@pytest.mark.parametrize("words", [["shards", "info"], ["shards", "verify"], ["shards", "audit"]])
def test_the_shards_are_looked_at(words: list[str], pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = {"info": [], "verify": ["--workers", "1"], "audit": ["--workers", "1", "--no-texts"]}[words[-1]]
    assert main([*words, str(pairs), *options]) == 0


def test_the_doctor_says_that_there_are_none(pairs: Path) -> None:
    assert "; no labels; " in check_shards(pairs).text


def test_a_sheet_shows_them(pairs: Path, tmp_path: Path) -> None:
    assert main(["shards", "sheet", str(pairs), str(tmp_path / "sheet.png"), "--split", "val"]) == 0
    assert Image.open(tmp_path / "sheet.png").size > (100, 100)


def test_methods_that_learn_labels_refuse_and_name_those_that_do_not(pairs: Path, tmp_path: Path) -> None:
    dscmr = Dscmr(image=METHOD.image, text=METHOD.text)
    chosen = experiment(pairs, tmp_path, dscmr)
    with pytest.raises(XmrError, match=r"'train' have no labels, by which DSCMR trains\. .*contrastive.*") as error:
        run_experiment(chosen, make_accelerator(chosen.train))
    assert "cca with --method.frozen" in str(error.value) and "dscmr" not in str(error.value).split("Methods")[1]
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_closed_form_without_labels_trains_and_is_measured(pairs: Path, tmp_path: Path) -> None:
    method = Cca(image=METHOD.image, text=METHOD.text, dim=3, frozen=True, frozen_start="random")
    chosen = experiment(pairs, tmp_path, method)
    assert run_experiment(chosen, make_accelerator(chosen.train)) == 0
    result = json.loads((tmp_path / "pairs" / "run" / "evaluation" / "test.json").read_bytes())
    assert "rsum" in result["model"]["average"]


def test_what_is_said_on_the_command_line_stays(pairs: Path, tmp_path: Path) -> None:
    manifest = load_manifest(pairs)
    for said, found in (
        ({}, ("rsum", "captions")),
        ({"select": "R@1"}, ("R@1", "captions")),
        ({"protocol": "clean"}, ("rsum", "clean")),
        ({"select": "last", "protocol": "coco5k"}, ("last", "coco5k")),
    ):
        train = with_defaults(experiment(pairs, tmp_path, **said), manifest).train
        assert (train.select, train.protocol) == found
        check_splits(experiment(pairs, tmp_path, **said), manifest)


def test_with_labels_the_defaults_are_those_of_before(tiny_shards: Path, tmp_path: Path) -> None:
    train = with_defaults(experiment(tiny_shards, tmp_path), load_manifest(tiny_shards)).train
    assert (train.select, train.protocol) == ("mAP@all", "clean")


def test_classes_of_which_a_split_has_no_sample_are_no_labels(pairs: Path, tmp_path: Path) -> None:
    manifest = load_manifest(pairs)
    splits = {name: replace(split, labels={"a class": 0}) for name, split in manifest.splits.items()}
    train = with_defaults(experiment(pairs, tmp_path), replace(manifest, splits=splits)).train
    assert (train.select, train.protocol) == ("rsum", "captions")


def test_a_figure_by_labels_is_refused_as_criterion(pairs: Path, tmp_path: Path) -> None:
    for select in ("mAP@all", "NDCG@500"):
        with pytest.raises(XmrError, match=rf"--train.select {select} counts by labels, .* select by rsum, R@1"):
            check_splits(experiment(pairs, tmp_path, select=select), load_manifest(pairs))
