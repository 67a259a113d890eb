"""Studies whose rows are methods: one setting, every published method, and figures of several papers below a row."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.helpers.miniatures import build_narrow, shrunk
from tests.helpers.published_studies import STUDIES, measured
from xmr_e2e.cli import main
from xmr_e2e.methods.semantic_sharing import SemanticSharing
from xmr_e2e.studies.published import BOTH_WAYS, published_tables
from xmr_e2e.studies.recipes import PUBLISHED_AS
from xmr_e2e.studies.runs import UNKNOWN, Setting
from xmr_e2e.studies.study_published import METHODS, published_rows, tables_beside
from xmr_e2e.towers.base import DatasetInfo

NOT_A_ROW = {name: {"MCCA", "MRL"} for name in ("xmedia_baselines", "xmedianet_five_media_baselines")}
"""study -> the methods of its published tables that it cannot train: pairs of all five media"""
OF_METHODS = [name for name, study in STUDIES.items() if study.published == METHODS]


def setting_of(name: str) -> Setting:
    shards = STUDIES[name].recipes[0].data.shards.name
    return Setting(PUBLISHED_AS.get(shards, shards), "test", UNKNOWN, "clean", False)


@pytest.mark.parametrize("name", OF_METHODS)
def test_each_published_method_is_a_row_under_its_title(name: str) -> None:
    study = STUDIES[name]
    (recipe,) = study.recipes
    titles = {row.variant.name: type(row.experiment.method).title for row in study.rows}
    assert all(row == title for row, title in titles.items())
    media = len(recipe.method.towers)
    tables = tables_beside(METHODS, setting_of(name), study.metric)
    alike = [table for table in tables if len(table.directions) == 1 + media * (media - 1)]
    assert alike or name == "baselines_small"
    for table in alike:
        assert table.rows.keys() - titles.keys() == NOT_A_ROW.get(name, set()), table.source


@pytest.mark.parametrize("name", OF_METHODS)
def test_the_methods_of_a_study_have_one_setting(name: str) -> None:
    study = STUDIES[name]
    (recipe,) = study.recipes
    others = [row.experiment for row in study.rows if row.variant.name != SemanticSharing.title]
    assert recipe.method.frozen and all(other.method.frozen for other in others)
    assert all(other.method.towers == recipe.method.towers and other.data == recipe.data for other in others)
    assert len({row.experiment.train.select for row in study.rows}) == 1
    assert recipe.train.select in (study.metric, None)


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_METHODS)
def test_each_row_can_be_built_and_its_optimizer_knows_its_parameters(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torchvision.models.get_model", build_narrow)
    widths = dict.fromkeys(("audio", "video", "shape3d"), 6)
    for row in STUDIES[name].rows:
        words = torch.randn(20, row.experiment.data.words.dim)
        method = shrunk(row.experiment.method).build(DatasetInfo(3, False, 64, words, widths, idf=torch.ones(20)))
        row.experiment.optimizer.check(method, [stage.name for stage in method.training_stages])
        assert method.frozen


def test_datasets_with_published_tables_have_a_study_of_methods() -> None:
    settings = {(setting_of(name).dataset, STUDIES[name].metric) for name in OF_METHODS}
    of_another_figure = {("wikipedia", "mAP@50"), ("pascal_sentence", "mAP@50")}  # xmr study show --metric
    assert {(table.dataset, table.metric) for table in published_tables()} - settings == of_another_figure


def test_what_each_paper_prints_of_a_method_stands_below_its_row() -> None:
    setting = Setting("wikipedia", "test", (2173, 231, 462), "clean", False)
    tables = tables_beside(METHODS, setting, "mAP@all")
    found = published_rows(tables, "ACMR", BOTH_WAYS, None)
    assert [(each.name, each.cells["average"].value) for each in found] == [
        ("published, DSCMR, Table 2", "0.456"),
        ("published, SDCMR, Table II", "0.440"),
        ("published, DRCL, Table III", "0.424"),
    ]
    (own,) = published_rows(tables, "SDCMR", BOTH_WAYS, None)
    assert "outlier" in own.cells["image_to_text"].marks[0]
    assert published_rows(tables, "Contrastive", BOTH_WAYS, None) == []
    (alscor,) = tables_beside(METHODS, setting, "mAP@50")
    assert alscor.rows["ALSCOR"] == (0.5105, 0.6358, 0.5732)


def test_of_a_dataset_with_several_parts_those_of_the_same_part_count() -> None:
    own = tables_beside(METHODS, Setting("nuswide_10k", "test", UNKNOWN, "clean", False), "mAP@all")
    assert [table.source for table in own] == ["DSCMR, Table 4", "DRCL, Table III"]
    other = Setting("nuswide_of_my_own", "test", UNKNOWN, "clean", False)
    assert len(tables_beside(METHODS, other, "mAP@all")) == 3


def test_another_figure_is_shown_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = measured(tmp_path, "pascal_sentence", METHODS)
    monkeypatch.setattr("xmr_e2e.studies.files.load_study", lambda *_: plan.study)
    words = ["study", "show", "dscmr_table6", "--runs", str(tmp_path / "runs")]
    assert main([*words, "--metric", "mAP@50"]) == 0
    shown = capsys.readouterr().out
    assert "pascal_sentence, mAP@50" in shown and "0.7000" in shown and "0.5000" not in shown
    assert main([*words, "--metric", "mAP@7"]) == 2
    assert "no run of dscmr_wikipedia has its metric mAP@7; there are " in capsys.readouterr().err
