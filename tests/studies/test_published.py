"""The published figures in the package are those that the papers print, and what is doubtful about them is said."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from tests import ROOT
from tests.helpers.made_runs import WAYS
from xmr_e2e.configuration import document_type
from xmr_e2e.methods.discovery import all_methods, method_name
from xmr_e2e.studies.published import BOTH_WAYS, papers, published_ablations, published_tables

# As read in the papers: paper, table, dataset there, method, figures from image to text, from text to image, average.
PRINTED = """
dscmr            | Table 2   | Wikipedia        | dscmr            | 0.521  0.478  0.499
dscmr            | Table 2   | Wikipedia        | dcca             | 0.444  0.396  0.420
dscmr            | Table 2   | Wikipedia        | dccae            | 0.435  0.385  0.410
dscmr            | Table 2   | Wikipedia        | mcca             | 0.341  0.307  0.324
dscmr            | Table 3   | Pascal Sentence  | cca              | 0.225  0.227  0.226
dscmr            | Table 3   | Pascal Sentence  | dccae            | 0.680  0.671  0.675
dscmr            | Table 4   | NUS-WIDE-10K     | dccae            | 0.511  0.540  0.525
dscmr            | Table 5   | XMEDIANET        | dccae            | 0.594  0.606  0.600
dscmr            | Table 4   | NUS-WIDE-10K     | acmr             | 0.588  0.599  0.593
dscmr            | Table 5   | XMEDIANET        | cca              | 0.598  0.595  0.597
dscmr            | Table 5   | XMEDIANET        | jrl              | 0.586  0.578  0.582
sdcmr            | Table II  | Wikipedia        | sdcmr            | 0.683  0.475  0.579
sdcmr            | Table II  | Pascal Sentences | deep_sm          | 0.560  0.539  0.550
sdcmr            | Table II  | NUS-WIDE-10k     | corr_ae          | 0.441  0.494  0.468
sdcmr            | Table II  | PKU-XMediaNet    | dscmr            | 0.622  0.632  0.627
sdcmr            | Table II  | NUS-WIDE-10k     | kcca             | 0.351  0.356  0.354
sdcmr            | Table II  | PKU-XMediaNet    | jrl              | 0.488  0.405  0.447
drcl             | Table III | INRIA-Websearch  | mcca             | 0.369  0.393  0.381
drcl             | Table III | Wikipedia        | mars             | 0.531  0.479  0.505
drcl             | Table III | Wikipedia        | mrl              | 0.549  0.512  0.531
drcl             | Table III | INRIA-Websearch  | mrl              | 0.313  0.304  0.309
drcl             | Table III | NUS-WIDE         | mrl              | 0.572  0.581  0.577
drcl             | Table III | INRIA-Websearch  | drcl             | 0.567  0.588  0.578
drcl             | Table III | NUS-WIDE         | sdml             | 0.597  0.592  0.595
semantic_sharing | Table 1   | FLICKR25K        | semantic_sharing | 0.663  0.713  0.688
semantic_sharing | Table 1   | NUS-WIDE         | cca              | 0.513  0.505  0.509
semantic_sharing | Table 1   | COCO1K           | dscmr            | 0.745  0.856  0.801
semantic_sharing | Table 1   | COCO5K           | semantic_sharing | 0.721  0.827  0.774
alscor           | Table 2   | NUS-WIDE         | probe            | 0.3916 0.4237 0.4077
alscor           | Table 2   | Pascal Sentence  | probe            | 0.1874 0.2112 0.2014
alscor           | Table 2   | Wikipedia        | acmr             | 0.5033 0.6171 0.5602
alscor           | Table 2   | NUS-WIDE         | deep_sm          | 0.5780 0.6255 0.6018
alscor           | Table 2   | Pascal Sentence  | alscor           | 0.6392 0.6841 0.6617
"""
# Of Table II of DRCL: dataset, method, direction, figure.
OF_FIVE_MODALITIES = [
    ("XMedia", "drcl", "image_to_text", "0.902"),
    ("XMedia", "drcl", "shape3d_to_text", "0.712"),
    ("XMedia", "drcl", "video_to_shape3d", "0.539"),
    ("XMedia", "sdml", "image_to_audio", "0.480"),
    ("XMedia", "mars", "average", "0.590"),
    ("XMedia", "mrl", "video_to_text", "0.511"),
    ("XMedia", "mrl", "average", "0.379"),
    ("XMediaNet", "mrl", "text_to_image", "0.106"),
    ("XMediaNet", "mrl", "average", "0.027"),
    ("XMedia", "mcca", "text_to_image", "0.773"),
    ("XMediaNet", "mcca", "video_to_shape3d", "0.018"),
    ("XMediaNet", "mars", "audio_to_video", "0.197"),
    ("XMediaNet", "sdml", "text_to_shape3d", "0.240"),
    ("XMediaNet", "drcl", "average", "0.345"),
]
# As read in the papers: paper, table, dataset there, row, figures.
VARIED = """
dscmr            | Table 6   | Pascal Sentence  | DSCMR1              | 0.583 0.631 0.607
dscmr            | Table 6   | Pascal Sentence  | DSCMR3              | 0.691 0.683 0.694
dscmr            | Table 7   | NUS-WIDE-10K     | DSCMR4              | 0.527 0.520 0.524
sdcmr            | Table III | Wikipedia        | w/o L_ad            | 0.551 0.363 0.457
sdcmr            | Table III | NUS-WIDE-10k     | w/o L_sim           | 0.532 0.562 0.547
sdcmr            | Table IV  | Wikipedia        | beta-VAE (beta = 5) | 0.515 0.471 0.493
sdcmr            | Table V   | Wikipedia        | +SDCMR              | 0.809
sdcmr            | Table V   | NUS-WIDE-10k     | BLIP-2              | 0.820 0.826 0.823
drcl             | Table VI  | Wikipedia        | MARS (prior)        | 0.541 0.504 0.523
drcl             | Table VI  | XMedia           | SDML (random)       | 0.436 0.383 0.410 0.584
semantic_sharing | Table 1   | FLICKR25K        | ST                  | 0.659 0.658 0.659
semantic_sharing | Table 1   | NUS-WIDE         | IMC                 | 0.318 0.241 0.280
semantic_sharing | Table 1   | COCO1K           | Ours+Con            | 0.754 0.888 0.821
semantic_sharing | Table 1   | COCO5K           | w/o L               | 0.145 0.319 0.232
"""
RECIPES = ROOT / "recipes"
QUOTED = re.compile(
    r"Published, (mAP@\w+|NDCG).*?image to text (\d+\.\d+), text to image (\d+\.\d+)( percent)?", re.DOTALL
)


@pytest.mark.parametrize("line", PRINTED.strip().splitlines())
def test_published_figures_are_those_that_the_papers_print(line: str) -> None:
    paper, place, printed, method, values = (part.strip() for part in line.split("|"))
    (table,) = [
        each for each in published_tables() if (each.paper, each.place, each.printed) == (paper, place, printed)
    ]
    assert list(table.figures(method).values()) == values.split()
    assert list(table.figures(method)) == ["image_to_text", "text_to_image", "average"]


@pytest.mark.parametrize(("printed", "method", "direction", "value"), OF_FIVE_MODALITIES)
def test_published_figures_of_five_modalities(printed: str, method: str, direction: str, value: str) -> None:
    (table,) = [
        each for each in published_tables() if (each.place, each.printed, each.paper) == ("Table II", printed, "drcl")
    ]
    assert table.figures(method)[direction] == value


@pytest.mark.parametrize("line", VARIED.strip().splitlines())
def test_published_ablations_are_those_that_the_papers_print(line: str) -> None:
    paper, place, printed, row, values = (part.strip() for part in line.split("|"))
    (table,) = [
        each for each in published_ablations() if (each.paper, each.place, each.printed) == (paper, place, printed)
    ]
    assert list(table.figures(row).values()) == values.split()


@pytest.mark.parametrize(
    ("row", "direction", "value"),
    [("#1", "image_to_text", "0.896"), ("#2", "average", "0.104"), ("#8", "video_to_audio", "0.265"),
     ("#9", "shape3d_to_text", "0.741"), ("#11", "audio_to_image", "0.585"), ("Ours", "average", "0.630")],
)  # fmt: skip
def test_published_ablations_of_five_modalities(row: str, direction: str, value: str) -> None:
    (table,) = [each for each in published_ablations() if (each.paper, each.place) == ("drcl", "Table V")]
    assert table.figures(row)[direction] == value
    (whole,) = [each for each in published_tables() if (each.paper, each.printed) == ("drcl", "XMedia")]
    assert table.directions == whole.directions and table.rows["Ours"] == whole.rows["drcl"]


def test_what_a_paper_does_not_vary_is_the_same_in_both_of_its_tables() -> None:
    """The paper's own method, unvaried, is a row of the ablations too."""
    names = {"Full DSCMR": "dscmr", "SDCMR": "sdcmr", "Ours": "semantic_sharing", "DRCL (prior)": "drcl"}
    compared = 0
    for table in published_ablations():
        for row in table.rows.keys() & names.keys():
            if table.directions == BOTH_WAYS:
                (whole,) = [
                    each
                    for each in published_tables()
                    if (each.paper, each.printed) == (table.paper, table.printed) and names[row] in each.rows
                ]
                assert whole.rows[names[row]] == table.rows[row]
                assert (whole.dataset, whole.samples, whole.metric) == (table.dataset, table.samples, table.metric)
                compared += 1
    assert compared == 11


def test_the_random_priors_of_table_6_are_those_of_other_tables() -> None:
    """By which its rows are told apart."""
    (varied,) = [each for each in published_ablations() if (each.place, each.printed) == ("Table VI", "XMedia")]
    (random,) = [each for each in published_ablations() if (each.paper, each.place) == ("drcl", "Table V")]
    (whole,) = [each for each in published_tables() if (each.paper, each.printed) == ("drcl", "XMedia")]
    for row, figures in (
        ("SDML (random)", whole.figures("sdml")),
        ("MARS (random)", whole.figures("mars")),
        ("DRCL (random)", random.figures("#1")),
        ("DRCL (prior)", random.figures("Ours")),
    ):
        found = varied.figures(row)
        for direction in ("audio_to_shape3d", "shape3d_to_audio", "average"):
            assert found[direction] == figures[direction]


def test_averages_of_ablations_are_those_of_their_directions_where_nothing_is_doubted() -> None:
    for table in published_ablations():
        for row, values in table.rows.items():
            if table.directions[-1] == "average" and "average_of_both" not in table.directions:
                away = abs(np.mean(values[:-1]) - values[-1])
                is_doubted = f"{row} average" in table.doubts and table.place != "Table VI"
                assert (away > 0.51 * 10**-table.decimals) == is_doubted, (table.source, table.printed, row)
            elif "average_of_both" in table.directions:
                assert abs(np.mean(values[:2]) - values[2]) < 0.51e-3


def test_published_averages_are_those_of_their_directions_where_nothing_is_doubted() -> None:
    for table in published_tables():
        for method, values in table.rows.items():
            away = abs(np.mean(values[:-1]) - values[-1])
            is_doubted = f"{method} average" in table.doubts and table.paper != "sdcmr"
            assert (away > 0.51 * 10**-table.decimals) == is_doubted, (table.source, table.printed, method)


@pytest.mark.parametrize("recipe", [path for path in sorted(RECIPES.glob("*.py")) if QUOTED.search(path.read_text())])
def test_what_recipes_quote_is_what_the_tables_hold(recipe: Path) -> None:
    quoted = QUOTED.search(recipe.read_text())
    assert quoted
    paper = next(name for name in papers() if recipe.stem.startswith(name))
    share = 100 if quoted[4] else 1
    figures = [float(quoted[2]) / share, float(quoted[3]) / share]
    metric = quoted[1].replace("NDCG", "NDCG@500")
    own = [table for table in published_tables() if (table.paper, table.metric) == (paper, metric)]
    assert any(
        [table.rows[paper][table.directions.index(way)] for way in WAYS] == pytest.approx(figures) for table in own
    )


def test_known_suspicious_values_are_said() -> None:
    (wikipedia,) = [each for each in published_tables() if (each.paper, each.printed) == ("sdcmr", "Wikipedia")]
    assert "outlier" in wikipedia.doubts["sdcmr image_to_text"]
    (nuswide,) = [each for each in published_tables() if (each.paper, each.dataset) == ("sdcmr", "nuswide_10_class")]
    assert "71,602" in nuswide.notes[0] and sum(nuswide.samples.values()) == 71602
    (pascal,) = [each for each in published_tables() if (each.paper, each.printed) == ("alscor", "Pascal Sentence")]
    assert "ALSCOR's" in pascal.doubts["acmr image_to_text"]
    assert "first 50" in papers()["dscmr"].note


def test_every_row_of_a_method_that_there_is_was_copied() -> None:
    rows = [method for table in published_tables() for method in table.rows]
    assert len(rows) == 128 and sum(len(row) for table in published_tables() for row in table.rows.values()) == 564
    found = {name: rows.count(name) for name in ("cca", "dcca", "kcca", "mcca", "jrl", "probe")}
    assert found == {"cca": 15, "dcca": 11, "kcca": 4, "mcca": 9, "jrl": 8, "probe": 3}


def test_published_rows_are_of_methods_that_there_are() -> None:
    known = {method_name(document_type(kind)) for kind in all_methods()}
    assert {method for table in published_tables() for method in table.rows} <= known
    assert {table.paper for table in published_tables()} == set(papers()) <= known
