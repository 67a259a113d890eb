"""Studies beside the papers: what is printed stands below each row, and rows have the papers' names."""

from __future__ import annotations

import csv
import io
import runpy
from pathlib import Path

import pytest

from tests.helpers.published_studies import STUDIES, measured
from xmr_e2e.errors import XmrError
from xmr_e2e.studies.files import find_studies, load_study
from xmr_e2e.studies.local import command_of
from xmr_e2e.studies.plan import plan_study
from xmr_e2e.studies.recipes import PUBLISHED_AS
from xmr_e2e.studies.results import read_results
from xmr_e2e.studies.runs import UNKNOWN, Setting
from xmr_e2e.studies.study_page import write_study_page
from xmr_e2e.studies.study_published import METHODS, tables_beside
from xmr_e2e.studies.study_table import render_study

NOT_IN_THE_PAPER = {
    "drcl_table5": {"w/o Eq. 5", "w/o Eq. 6", "of outputs"},
    "sdcmr_table3": {"w/o the bound"},
    "sdcmr_table5": {"VGG-19", "+SDCMR, on CLIP"},
}
"""study -> its rows that its published table does not have"""


def test_what_the_paper_prints_stands_below_each_row(tmp_path: Path) -> None:
    result = read_results(measured(tmp_path, "pascal_sentence"))
    text = render_study(result, "markdown")
    cells = [[cell.strip() for cell in line.split("|")[1:5]] for line in text.splitlines() if line.startswith("|")]
    assert [line[0].split(" [")[0] for line in cells[2:]] == [
        *("Full DSCMR", "published", "DSCMR3", "published", "our own"),
    ]
    assert cells[3][1:] == ["0.710", "0.722", "0.716"]
    assert [each.split(" [")[0] for each in cells[5][1:]] == ["0.691", "0.683", "0.694"]
    assert "[" in cells[5][3] and "as printed; the mean of the two is 0.687" in text
    assert "Published: DSCMR, Table 6, Pascal Sentence." in text and "which samples are in which split" in text
    tex = render_study(result, "latex")
    assert tex.count("\npublished") == 2 and "& 0.710 & 0.722 & 0.716 &" in tex


def test_the_csv_has_them_in_a_column(tmp_path: Path) -> None:
    text = render_study(read_results(measured(tmp_path, "pascal_sentence")), "csv")
    found = {(line["row"], line["direction"]): line["published"] for line in csv.DictReader(io.StringIO(text))}
    assert found["Full DSCMR", "image_to_text"] == "0.710" and found["DSCMR3", "average"] == "0.694"
    assert {found["our own", direction] for direction in ("image_to_text", "text_to_image", "average")} == {""}


def test_the_page_has_them(tmp_path: Path) -> None:
    write_study_page(tmp_path / "study.html", read_results(measured(tmp_path, "pascal_sentence")))
    page = (tmp_path / "study.html").read_text()
    assert page.count('<th scope="row">published</th>') == 2 and "<td>0.710</td>" in page
    assert "Published: DSCMR, Table 6, Pascal Sentence." in page
    assert "DSCMR3, published: as printed; the mean of the two is 0.687" in page


def test_on_another_dataset_there_are_none(tmp_path: Path) -> None:
    assert "ublished" not in render_study(read_results(measured(tmp_path, "flickr8k")), "markdown")


def test_a_table_that_is_not_published_is_refused_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(XmrError, match=r"published 'dscmr, Table 9': no such table; there are dscmr, Table 6; dscmr"):
        read_results(measured(tmp_path, "pascal_sentence", "dscmr, Table 9"))


@pytest.mark.parametrize(("images", "printed"), [(1000, ["COCO1K"]), (5000, ["COCO5K"]), (50, ["COCO1K", "COCO5K"])])
def test_of_two_tables_of_a_dataset_that_with_as_many_test_samples_counts(images: int, printed: list[str]) -> None:
    setting = Setting("mscoco", "test", (82783, 5000, images), "clean", False)
    found = tables_beside("semantic_sharing, Table 1", setting, "NDCG@500")
    assert [table.printed for table in found] == printed


# ---- the studies of the package


@pytest.mark.parametrize("name", [name for name, study in STUDIES.items() if study.published not in ("", METHODS)])
def test_a_studys_rows_have_the_names_that_its_paper_gives_them(name: str) -> None:
    study = STUDIES[name]
    names, others = {variant.name for variant in study.all_variants}, NOT_IN_THE_PAPER.get(name, set())
    assert others <= names
    for recipe in study.recipes:
        shards = recipe.data.shards.name
        setting = Setting(PUBLISHED_AS.get(shards, shards), "test", UNKNOWN, "clean", False)
        tables = tables_beside(study.published, setting, study.metric)
        assert tables and all(names - others == names & table.rows.keys() for table in tables), recipe.name


@pytest.mark.parametrize("name", ["drcl_table6_wikipedia", "drcl_table6_xmedia"])
@pytest.mark.parametrize("runs", [Path("runs"), Path("elsewhere/runs")])
def test_other_methods_take_the_prior_of_the_studys_first_run(name: str, runs: Path) -> None:
    plan = plan_study(load_study(find_studies()[name], runs=runs), runs)
    first, *_, last = plan.runs
    assert (first.row.variant.name, first.seed, last.row.variant.name) == ("DRCL (prior)", 0, "MARS (prior)")
    assert last.row.options["method.prior_weights"] == str(first.folder)
    assert last.row.options["method.dim"] == first.row.options["method.dim"]


def test_rows_are_the_same_however_the_folder_of_runs_is_typed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "within").mkdir()
    monkeypatch.chdir(tmp_path / "within")
    typed = (Path("runs"), Path.cwd() / "runs", Path("../within/./runs"))
    found = [load_study(find_studies()["drcl_table6_wikipedia"], runs=runs).rows for runs in typed]
    assert found[0] == found[1] == found[2]
    assert str(tmp_path / "other") in str(load_study(find_studies()["drcl_table6_wikipedia"], runs=Path("../other")))


def test_a_run_of_a_studys_file_takes_the_prior_from_its_own_folder_of_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As the command of `xmr study run --runs` starts it."""
    started = []
    monkeypatch.setattr("xmr_e2e.training.launch.main", lambda experiment, words: started.append((experiment(), words)))
    file = find_studies()["drcl_table6_wikipedia"]
    study = load_study(file, runs=tmp_path)
    planned = next(run for run in plan_study(study, tmp_path).runs if run.row.variant.name == "MARS (prior)")
    monkeypatch.setattr("sys.argv", command_of(planned, file, tmp_path)[1:])
    runpy.run_path(str(file), run_name="__main__")
    ((experiment, words),) = started
    assert experiment == planned.row.experiment and str(tmp_path) in words
    assert experiment.method.prior_weights.startswith(f"{tmp_path}/drcl_wikipedia/")
