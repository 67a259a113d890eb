"""The report says what was measured, marks right and wrong, escapes what it shows, and needs nothing but itself."""

from __future__ import annotations

import base64
import csv
import re
import shlex
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.helpers.embedded import embedded_split
from tests.helpers.report_pages import (
    CLASSES,
    EXAMPLES,
    FAILURES,
    HOSTILE,
    RECORDS,
    Page,
    findings,
    five_modalities,
    item,
    metrics,
    report,
)
from xmr_e2e.evaluation.confusion import confusion
from xmr_e2e.evaluation.directions import cross_modal_metrics
from xmr_e2e.evaluation.inspection import RankingSample, inspect_rankings
from xmr_e2e.evaluation.projection import project
from xmr_e2e.evaluation.protocol import ProtocolRecord, SelectedOn
from xmr_e2e.reports.examples import Example, Item, Result
from xmr_e2e.reports.page import short_name
from xmr_e2e.reports.report import Findings

if TYPE_CHECKING:
    from tests.helpers.browser import Browser

pytestmark = pytest.mark.slow

pytest_plugins = ["tests.helpers.browser"]

COMMAND = ["train.py", "--a", HOSTILE, "--b", "1"]


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    return report(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_every_element_is_closed(page: Page) -> None:
    assert page.open == []


def test_the_table_holds_each_figure_its_random_row_and_their_ratio(page: Page) -> None:
    given = metrics()
    for name in ("mAP@all", "mAP@50", "NDCG@500", "R@1", "R@5", "R@10"):
        start = next(number for number, row in enumerate(page.rows) if row[0] == name)
        ours, intervals, random, ratios = page.rows[start : start + 4]
        expected = [given.model.directions[way].scores[name] for way in ("image_to_text", "text_to_image")]
        floors = [given.random.directions[way].scores[name] for way in ("image_to_text", "text_to_image")]
        expected.append(sum(expected) / 2)
        floors.append(sum(floors) / 2)
        assert [float(cell) for cell in ours[1:]] == pytest.approx(expected, abs=5e-4)
        assert (random[0], intervals[0]) == ("random", "95 %")
        errors = [given.model.directions[way].standard_errors[name] for way in ("image_to_text", "text_to_image")]
        assert [float(cell.removeprefix("± ")) for cell in intervals[1:3]] == pytest.approx(
            [1.96 * each for each in errors], abs=5e-4
        )
        assert intervals[3] == ""
        assert [float(cell) for cell in random[1:]] == pytest.approx(floors, abs=5e-4)
        assert [float(cell.rstrip("×")) for cell in ratios[1:]] == pytest.approx(
            [a / b for a, b in zip(expected, floors)], abs=0.051
        )


def test_the_headline_names_recipe_dataset_split_and_selection(page: Page) -> None:
    for words in ("alscor", "flickr8k", "test", "epoch 3, the best by mAP@all on the validation split"):
        assert words in page.text


def test_a_synthetic_dataset_is_called_synthetic(page: Page, tmp_path: Path) -> None:
    assert "not photographs" not in page.text
    assert "not photographs" in Page(report(tmp_path, dataset="synthetic")).text


def test_the_protocol_is_named_at_the_top(page: Page) -> None:
    (facts,) = page.of_class["facts"]
    for words in ("protocol clean", "gallery test", "selected on validation"):
        assert words in " ".join(facts.split())
    assert "warning" not in page.of_class and "⚠" not in page.text


@pytest.mark.parametrize("selected_on", ["test", "training loss", "nothing"])
def test_figures_that_were_not_selected_on_validation_are_marked(tmp_path: Path, selected_on: SelectedOn) -> None:
    protocol = ProtocolRecord("released:x", "test+train", selected_on, ("Odd.",))
    page = Page(report(tmp_path, protocol=protocol, findings=Findings()))
    (facts,), (warning,), (headline,) = (page.of_class[name] for name in ("facts", "warning", "headline"))
    assert "⚠ not selected on validation" in facts and "test+train" in facts and "released:x" in facts
    assert ("too high" in warning) == (selected_on == "test")
    assert "No validation took part" in warning or selected_on == "test"
    assert "Odd." in warning
    assert headline.count("⚠ not selected on validation") == 3  # beside each figure


def test_right_and_wrong_carry_a_sign_and_a_word_in_order_of_rank(page: Page) -> None:
    lists = [*page.of_class["sentences"], *page.of_class["pictures"]]
    for results, given in zip(lists, (*EXAMPLES, *FAILURES)):
        signs = re.findall(r"([✓✗])\s*(right|wrong)", results)
        assert signs == [("✓", "right") if result.relevant else ("✗", "wrong") for result in given.results]


def test_the_own_pair_is_marked_among_the_results_or_stands_behind_them_with_its_rank(page: Page) -> None:
    (sentences,), (pictures, failure) = page.of_class["sentences"], page.of_class["pictures"]
    assert sentences.count("★ own pair") == pictures.count("★ own pair") == failure.count("★ own pair") == 1
    assert [text.count("own pair") for text in page.of_class["truth"]] == [1, 1]
    assert "rank 31 of 1,234" in page.of_class["truth"][0]
    assert "AP 0.250;" in page.text
    assert "own pair at rank 3 of 1,234" in " ".join(page.text.split())


def test_failures_stand_under_their_own_heading(page: Page) -> None:
    before, after = page.text.split("The worst failures")
    assert before.count("Query") == 2 and after.count("Query") == 1
    assert "among those that were looked at, and what came first" in after


def test_bars_are_the_classes_figures_best_first(page: Page) -> None:
    given = metrics()
    for shown, way in zip(page.of_class["bars"], given.model.directions):
        scores, floor = given.model.directions[way].per_class, given.random.directions[way].per_class
        names = [CLASSES[each] for each in sorted(scores, key=lambda each: -scores[each])]
        found = re.findall(r"(class<\d>)\s+(0\.\d+)\s+(0\.\d+)", shown)
        assert [name for name, _, _ in found] == names
        for name, value, random in found:
            number = CLASSES.index(name)
            assert (float(value), float(random)) == pytest.approx((scores[number], floor[number]), abs=6e-4)


def with_classes(folder: Path, count: int) -> str:
    """A report on so many classes."""
    rng = np.random.default_rng(0)
    labels = np.arange(3 * count) % count
    given = embedded_split({name: rng.standard_normal((3 * count, 8)) for name in ("image", "text")}, labels)
    confusions = [confusion(each) for each in inspect_rankings(given, similarity="cosine")]
    names = [f"class {number}" for number in range(count)]
    found = Findings(confusions=confusions)
    return report(folder, metrics=cross_modal_metrics(given), findings=found, classes=names)


def test_many_classes_leave_the_middle_bars_folded(tmp_path: Path) -> None:
    page = Page(with_classes(tmp_path, 60))
    assert [shown.count("class ") for shown in page.of_class["bars"]] == [15, 30, 15] * 2
    assert page.text.count("30 classes between") == 2
    assert len(page.of_class["dense"]) == 2


def test_the_heat_map_holds_each_share_in_hundredths(page: Page) -> None:
    for number, given in enumerate(findings().confusions):
        starts = [place for place, row in enumerate(page.rows) if row[0] == "query ↓ result →"]
        rows = page.rows[starts[number] : starts[number] + 8]
        assert rows[0][1:] == CLASSES
        for name, row, shares in zip(CLASSES, rows[1:7], given.shares):
            assert row == [name, *(str(round(100 * share)) if round(100 * share) else "" for share in shares)]
        assert rows[7] == ["random", *(str(round(100 * share)) for share in given.random)]
    assert f"Of the first {findings().confusions[0].k} results" in page.text


def test_the_map_says_what_it_shows(page: Page) -> None:
    assert "t-SNE of 120 items, all modalities in one map: ● image, ▲ text." in page.text
    by_class, by_modality = page.of_class["legend"]
    assert sorted(by_class.split()) == CLASSES
    assert by_modality.split() == ["●image", "▲text"]
    maps = [attributes["aria-label"] for tag, attributes in page.tags if tag == "svg" and "aria-label" in attributes]
    assert [label for label in maps if label and "tower gives" in label] == [
        f"Map of what the {name} tower gives, a colour for each class" for name in ("image", "text")
    ]


def test_the_command_can_be_copied_into_a_shell(page: Page) -> None:
    (command,) = page.of_class["command"]
    words = shlex.split(command.replace("\\\n", " "))
    assert words == ["torchrun", "--nproc-per-node", "2", *COMMAND]


def test_the_contents_lead_to_what_is_there(page: Page) -> None:
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    links = [attributes["href"] or "" for tag, attributes in page.tags if tag == "a" and "download" not in attributes]
    assert {link.removeprefix("#") for link in links} == ids


def test_captions_labels_and_notes_are_shown_as_written(page: Page) -> None:
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.text.count(HOSTILE) == 1 + 5 + 2 + 1  # note, texts found, the queries that are texts, environment
    assert "class<3>" in page.text
    assert all(
        (attributes.get("alt") or "").startswith("class<") for tag, attributes in page.tags if "jpeg" in str(attributes)
    )


def test_nothing_outside_the_file_is_referred_to(html: str, page: Page) -> None:
    sources = [attributes["src"] or "" for _, attributes in page.tags if "src" in attributes]
    sources += [attributes["href"] or "" for tag, attributes in page.tags if tag == "image"]
    assert len(sources) == 2 + 2 + 2 + 2 + 5 + 1 + 2 * (
        5 + 1
    )  # curves, maps, towers, training; results, queries and pairs
    assert all(source.startswith("data:image/") for source in sources)
    assert not [attributes for _, attributes in page.tags if attributes.keys() & {"srcset", "background"}]
    assert all((attributes.get("href") or "#").startswith(("#", "data:")) for _, attributes in page.tags)
    assert not re.search(r"https?:|//[a-z]|@import|url\(", re.sub(r"data:[a-z/+]+;base64,[\w+/=]+", "", html))


def test_environment_and_configuration_are_listed_in_closed_folds(page: Page) -> None:
    rows = {row[0]: row[1] for row in page.rows if len(row) == 2}
    assert rows["libraries.torch"] == "2.11"
    assert rows["command"] == f"train.py --a {HOSTILE} --b 1"
    assert (rows["data.file"], rows["stages.0.lr"], rows["parts"]) == ("–", "0.1", "–")
    assert rows["similarity"] == "cosine"
    assert all("open" not in attributes for tag, attributes in page.tags if tag == "details")


def test_a_report_without_records_and_findings_can_be_written(tmp_path: Path) -> None:
    page = Page(report(tmp_path, records=[], findings=Findings(), notes=[], environment={}))
    assert "No training records" in page.text
    assert [tag for tag, _ in page.tags].count("img") == 2
    assert not page.of_class.keys() & {"heat", "legend", "example", "command"}


def test_the_training_curves_show_only_the_main_validation_score(tmp_path: Path, html: str) -> None:
    more = [*RECORDS[:-1], {"step": 8, "val": {"average mAP@all": 0.3, "average R@1": 0.9}}]
    other = [*RECORDS[:-1], {"step": 8, "val": {"average mAP@all": 0.4}}]
    assert report(tmp_path, records=more) == html
    assert report(tmp_path, records=other) != html


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> Page:
    clip = Item("key of clip", f"clip 7 {HOSTILE}", None, (), ("dog",))
    wordless = Item("key", "article 3", None, (), ("cat",))
    results = tuple(Result(clip, 0.5, right, paired=False) for right in (True, False))
    examples = [
        Example("text_to_audio", item(1), results, None, 0, 0.5, gallery=20),
        Example("audio_to_text", clip, (Result(wordless, 0.25, True, paired=False),), None, 0, 0.5, gallery=40),
    ]
    found = Findings(examples=examples)
    return Page(report(tmp_path_factory.mktemp("five"), metrics=five_modalities(), findings=found))


def test_five_modalities_have_a_matrix_of_map_with_the_random_figure_beside(five: Page) -> None:
    assert five.open == []
    given = five_modalities()
    start = next(number for number, row in enumerate(five.rows) if row[0].startswith("mAP@all"))
    assert five.rows[start][1:] == ["image", "text", "audio", "video", "3D shape", "all others"]
    for row, query in enumerate(given.model.modalities):
        title, *cells = five.rows[start + 1 + row]
        assert title == query.replace("shape3d", "3D shape")
        for cell, gallery in zip(cells, (*given.model.modalities, "others"), strict=True):
            if query == gallery:
                assert cell == ""
                continue
            way = f"{query}_to_{gallery}"
            expected = [each.rows[way].scores["mAP@all"] for each in (given.model, given.random)]
            assert [float(cell[:5]), float(cell[5:])] == pytest.approx(expected, abs=5e-4)


def test_each_of_twenty_directions_is_listed_and_a_figure_that_it_lacks_is_no_zero(five: Page) -> None:
    rows = {row[0]: row[1:] for row in five.rows if len(row) == 10}
    names = ["mAP@all", "mAP@50", "NDCG@500", "R@1", "R@5", "R@10", "MedR", "Pearson", "rsum"]
    assert rows.pop("query → gallery") == names
    assert len(rows) == 26
    assert "video → 3D shape" in rows and list(rows)[-1] == "3D shape → all others"
    of_pairs = ("image → text", "text → image", "average", "image → all others", "text → all others")
    for title, cells in rows.items():
        has_pairs = title in of_pairs
        assert (cells[-2] == "–") != has_pairs
        assert (cells[-1] == "–") == (title != "average")  # a sum over directions


def test_the_headline_of_five_modalities_is_the_average_and_says_how_many_items_there_are(five: Page) -> None:
    (card,) = five.of_class["headline"]
    assert "average of all directions" in card
    assert f"{five_modalities().model.average['mAP@all']:.3f}" in card
    for words in ("40 images", "40 texts", "20 sounds", "20 videos", "20 3D shapes"):
        assert words in five.of_class["facts"][0]


def test_an_item_without_picture_shows_modality_source_and_labels(five: Page) -> None:
    assert "A text asks, sounds answer" in five.text
    assert five.of_class["pictures"][0].count(f"audio clip 7 {HOSTILE}") == 2
    assert five.of_class["pictures"][0].count("dog") == 2
    assert "(no text) article 3" in five.of_class["sentences"][0]
    assert "no own pair among the 40" in five.text


def test_queries_without_relevant_items_are_counted_by_direction(tmp_path: Path, page: Page) -> None:
    assert "share no label" not in page.text
    labels = np.array([0, 1, 1, 2])
    rows = {"image": np.eye(3)[labels[:3]], "audio": np.eye(3)[labels[2:]]}
    positions = {"image": np.arange(3), "audio": np.array([2, 3])}
    given = cross_modal_metrics(embedded_split(rows, labels, positions=positions))
    text = Page(report(tmp_path, metrics=given, findings=Findings())).text
    assert "count 0: 1 of image → audio, 1 of audio → image." in text


def test_many_directions_leave_only_their_average_in_the_validation_curves(tmp_path: Path) -> None:
    scores = {f"{way} mAP@all": 0.2 for way in ("average", "image_to_text", "text_to_image", "audio_to_text")}
    more = [*RECORDS[:-1], {"step": 8, "val": scores}]
    less = [*RECORDS[:-1], {"step": 8, "val": {"average mAP@all": 0.2}}]
    assert report(tmp_path, records=more) == report(tmp_path, records=less)


@pytest.mark.parametrize("colors", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 390, 320])
def test_the_page_fits_its_window_and_shows_its_pictures(
    browser: Browser, html: str, tmp_path: Path, width: int, colors: str
) -> None:
    path = tmp_path / "report.html"
    path.write_text(html)
    browser.resize(width, 900)
    browser.use_colours(colors)
    browser.get(path.as_uri())
    assert not browser.is_wider_than_window()
    sizes = browser.execute_script("return [...document.images].map(image => [image.naturalWidth, image.clientWidth])")
    assert len(sizes) == 22
    assert all(natural > 0 and shown > 0 for natural, shown in sizes)
    assert browser.complaints() == []
    fetched = browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert all(name.startswith("data:") for name in fetched)


@pytest.mark.parametrize("count", [3, 20, 60])
def test_a_wide_map_of_confusions_is_scrolled_within_the_page(browser: Browser, tmp_path: Path, count: int) -> None:
    (tmp_path / "classes.html").write_text(with_classes(tmp_path, count))
    for width in (1200, 390):
        browser.resize(width, 900)
        browser.get((tmp_path / "classes.html").as_uri())
        assert not browser.is_wider_than_window(), width


NAMES = ["$0_$10", "_hidden", "a{b}\\c%", "<b>&", "犬と猫" * 10, "قطة جميلة", "W" * 200, "two\nlines", "", "🎉 $x$"]


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A report on classes with such names."""
    rng = np.random.default_rng(0)
    labels = np.arange(60) % len(NAMES)
    given = embedded_split({name: rng.standard_normal((60, 8)) for name in ("image", "text")}, labels)
    confusions = [confusion(each) for each in inspect_rankings(given, similarity="cosine")]
    found = Findings(confusions=confusions, projection=project(given, similarity="cosine"))
    folder = tmp_path_factory.mktemp("named")
    return report(folder, metrics=cross_modal_metrics(given), findings=found, classes=NAMES)


def test_names_of_any_kind_are_drawn_as_they_are_and_cut_to_a_line(named: str) -> None:
    page = Page(named)
    assert page.open == []
    short = [short_name(name) for name in NAMES]
    assert short[4] == "犬と猫犬と猫犬と猫犬と…" and short[6] == "W" * 23 + "…"
    assert short[7:9] == ["two lines", "(no name)"] and short[:4] == NAMES[:4]
    texts = re.findall(r"<text [^>]*>([^<]*)</text>", named)
    assert sorted(map(unescape, texts)) == sorted(short)
    assert all(name in page.of_class["legend"][0] for name in short)
    assert page.rows[[row[0] for row in page.rows].index("query ↓ result →")][1:] == short
    titles = [attributes["title"] for _, attributes in page.tags if attributes.get("title")]
    assert set(titles) == {name for name in NAMES if name}  # whole, for whoever points at one
    for position in re.findall(r'<text x="([\d.]+)"', named):
        assert 0 < float(position) < 540


@pytest.mark.parametrize("width", [1200, 320])
def test_bars_are_equally_thick_and_no_name_is_wider_than_its_place(
    browser: Browser, named: str, tmp_path: Path, width: int
) -> None:
    (tmp_path / "named.html").write_text(named)
    browser.resize(width, 900)
    browser.get((tmp_path / "named.html").as_uri())
    assert not browser.is_wider_than_window()
    heights = browser.execute_script("return [...document.querySelectorAll('.track')].map(each => each.clientHeight)")
    assert len(set(heights)) == 1
    outside = """
    const cut = each => each.getBoundingClientRect().top < each.closest('table').getBoundingClientRect().top - 1;
    return [...document.querySelectorAll('.heat thead span')].filter(cut).length"""
    assert browser.execute_script(outside) == 0


def test_of_thousands_of_classes_only_the_largest_confusions_and_the_ends_are_shown(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(800) % 400
    centers = rng.standard_normal((400, 16))
    rows = {name: centers[labels] + 0.9 * rng.standard_normal((800, 16)) for name in ("image", "text")}
    given = embedded_split(rows, labels)
    confusions = [confusion(each) for each in inspect_rankings(given, similarity="cosine")]
    assert all(each.shares is None and len(each.largest) == 50 for each in confusions)
    whole = [shares_by_loops(each) for each in inspect_rankings(given, similarity="cosine")]
    for each, shares in zip(confusions, whole):
        for asked, other, share in each.largest:
            assert share == pytest.approx(shares[asked, other])
        excess = shares - each.random
        np.fill_diagonal(excess, 0)
        expected = np.sort(excess, axis=None)[::-1][:50]
        assert [share - each.random[other] for _, other, share in each.largest] == pytest.approx(expected.tolist())
    names = [f"class {number}" for number in range(400)]
    html = report(tmp_path, metrics=cross_modal_metrics(given), findings=Findings(confusions=confusions), classes=names)
    assert len(html) < 1_000_000
    page = Page(html)
    assert "heat" not in page.of_class and len(page.of_class["confused"]) == 2
    assert "Of 400 classes, the pairs that are confused most often" in " ".join(page.text.split())
    assert [shown.count("class ") for shown in page.of_class["bars"]] == [15, 15] * 2
    assert page.text.count("370 classes between the best and the worst") == 2
    table = data_of(page)
    assert sum(line.startswith("image_to_text,mAP@all of class,") for line in table) == 400


def shares_by_loops(each: RankingSample) -> np.ndarray:
    """All shares, by loops over the queries."""
    found, k = np.zeros((400, 400)), confusion(each).k
    for query, first in zip(each.queries.labels.tolist(), each.first[:, :k]):
        for label in each.items.labels[first].tolist():
            found[query, label] += 1 / k
    return found / np.bincount(each.queries.labels.numpy())[:, None]


def data_of(page: Page) -> list[str]:
    (link,) = (attributes["href"] or "" for _, attributes in page.tags if "download" in attributes)
    return base64.b64decode(link.partition("base64,")[2]).decode().splitlines()


def test_the_data_are_the_figures_the_curves_and_the_classes(page: Page) -> None:
    given, rows = metrics(), list(csv.DictReader(data_of(page)))
    for direction, model in given.model.directions.items():
        own = [row for row in rows if row["direction"] == direction]
        scores = {row["at"]: row for row in own if row["kind"] == "score"}
        assert {name: float(row["model"]) for name, row in scores.items()} == model.scores
        assert float(scores["mAP@all"]["standard_error"]) == model.standard_errors["mAP@all"]
        assert [float(row["model"]) for row in own if row["kind"] == "precision at recall"] == model.curve.precision
        assert [row["at"] for row in own if row["kind"] == "mAP@all of class"] == CLASSES
    assert [row["at"] for row in rows if row["direction"] == "average"] == list(given.model.average)


def test_facts_of_the_run_are_rows_above_its_curves(tmp_path: Path) -> None:
    page = Page(report(tmp_path, facts={"parameters": "4,500,000"}))
    assert ["parameters", "4,500,000"] in page.rows
