"""The report says what was measured, marks right and wrong, escapes what it shows, and needs nothing but itself."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from xmr_e2e.evaluation.examples import Example, Item, Result
from xmr_e2e.evaluation.metrics import CrossModalFigures, cross_modal_figures
from xmr_e2e.evaluation.report import write_report

HOSTILE = """<script>alert("x")</script> & 'Zoë' ← 犬"""
VOID = {"meta", "img", "br", "link", "input"}


class Page(HTMLParser):
    """Tags with their attributes, the tables' rows, and the texts of the elements that carry a class."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.open: list[tuple[str, set[str]]] = []
        self.of_class: dict[str, list[str]] = {}
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in VOID:
            return
        classes = set((dict(attrs).get("class") or "").split())
        self.open.append((tag, classes))
        for name in classes:
            self.of_class.setdefault(name, []).append("")
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if any(tag == "style" for tag, _ in self.open):
            return
        self.text += data
        for _, classes in self.open:
            for name in classes:
                self.of_class[name][-1] += data
        if any(tag in ("td", "th") for tag, _ in self.open):
            self.rows[-1][-1] += data.strip()


def figures(seed: int = 0) -> CrossModalFigures:
    rng = np.random.default_rng(seed)
    labels = np.arange(60) % 6
    image, text = (np.eye(6)[labels] + rng.standard_normal((60, 6)) for _ in range(2))
    return cross_modal_figures(image, text, labels, range(60), seed=seed)


def item(number: int) -> Item:
    stream = io.BytesIO()
    Image.new("RGB", (16, 12), (number * 9 % 256, 80, 120)).save(stream, "JPEG")
    return Item(f"key{number}", stream.getvalue(), (f"text {number} {HOSTILE}", "another"), (f"class<{number}>",))


def example(direction: Any, relevant: list[bool], own: int | None) -> Example:
    results = tuple(Result(item(i), 1 - i / 10, right, paired=i == own) for i, right in enumerate(relevant))
    return Example(direction, item(40), results, pair_rank=1 + (own if own is not None else 30), gallery=1234)


EXAMPLES = (
    example("image_to_text", [True, False, True, False, False], own=2),
    example("text_to_image", [False, True, True, True, False], own=None),
)
RECORDS = [{"step": s, "loss": {"total": 1 / s}} for s in range(1, 9)] + [{"step": 8, "val": {"average mAP@all": 0.3}}]


def report(path: Path, **changes: Any) -> str:
    given: dict[str, Any] = {
        "title": "alscor",
        "dataset": "flickr8k",
        "split": "test",
        "selection": "epoch 3, the best by mAP@all on the validation split",
        "figures": figures(),
        "records": RECORDS,
        "examples": EXAMPLES,
        "environment": {"python": "3.11", "libraries": {"torch": "2.11"}, "command": ["train", HOSTILE]},
        "configuration": {"data": {"shards": "shards", "file": None}, "stages": [{"lr": 0.1}], "parts": {}},
        "notes": [HOSTILE],
    }
    write_report(path / "report.html", **(given | changes))
    return (path / "report.html").read_text("utf-8")


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    return report(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_every_element_is_closed(page: Page) -> None:
    assert page.open == []


def test_the_table_holds_each_figure_its_random_row_and_their_ratio(page: Page) -> None:
    given = figures()
    for name in ("mAP@all", "mAP@50", "R@1", "R@5", "R@10"):
        start = next(number for number, row in enumerate(page.rows) if row[0] == name)
        ours, random, ratios = page.rows[start : start + 3]
        expected = [given.model.image_to_text.scores[name], given.model.text_to_image.scores[name]]
        floors = [given.random.image_to_text.scores[name], given.random.text_to_image.scores[name]]
        expected.append(sum(expected) / 2)
        floors.append(sum(floors) / 2)
        assert [float(cell) for cell in ours[1:]] == pytest.approx(expected, abs=5e-4)
        assert random[0] == "random"
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


def test_right_and_wrong_carry_a_sign_and_a_word_in_order_of_rank(page: Page) -> None:
    for results, given in zip((page.of_class["sentences"], page.of_class["pictures"]), EXAMPLES):
        signs = re.findall(r"([✓✗])\s*(right|wrong)", results[0])
        assert signs == [("✓", "right") if result.relevant else ("✗", "wrong") for result in given.results]


def test_the_own_pair_is_marked_where_it_is_and_its_rank_is_said(page: Page) -> None:
    assert page.of_class["sentences"][0].count("★ own pair") == 1
    assert page.of_class["pictures"][0].count("★ own pair") == 0
    assert "own pair at rank 3 of 1,234" in page.text
    assert "own pair at rank 31 of 1,234" in page.text


def test_captions_labels_and_notes_are_shown_as_written(page: Page) -> None:
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.text.count(HOSTILE) == 1 + 5 + 1 + 1  # note, texts found, the query that is a text, environment
    assert "class<3>" in page.text
    assert all(
        (attributes.get("alt") or "").startswith("class<") for tag, attributes in page.tags if "jpeg" in str(attributes)
    )


def test_nothing_outside_the_file_is_referred_to(html: str, page: Page) -> None:
    sources = [attributes["src"] or "" for _, attributes in page.tags if "src" in attributes]
    assert len(sources) == 2 + 2 * 5 + 1  # curves, results, and the query that is an image
    assert all(source.startswith("data:image/") for source in sources)
    assert not [attributes for _, attributes in page.tags if attributes.keys() & {"href", "srcset", "background"}]
    assert not re.search(r"https?:|//[a-z]|@import|url\(", re.sub(r"data:image/[a-z]+;base64,[\w+/=]+", "", html))


def test_environment_and_configuration_are_listed_in_closed_folds(page: Page) -> None:
    rows = {row[0]: row[1] for row in page.rows if len(row) == 2}
    assert rows["libraries.torch"] == "2.11"
    assert rows["command"] == f"train {HOSTILE}"
    assert (rows["data.file"], rows["stages.0.lr"], rows["parts"]) == ("–", "0.1", "–")
    assert rows["similarity"] == "cosine"
    assert all("open" not in attributes for tag, attributes in page.tags if tag == "details")


def test_a_report_without_records_and_examples_can_be_written(tmp_path: Path) -> None:
    page = Page(report(tmp_path, records=[], examples=[], notes=[]))
    assert "No training records" in page.text
    assert [tag for tag, _ in page.tags].count("img") == 1


def test_the_training_curves_show_only_the_main_validation_score(tmp_path: Path, html: str) -> None:
    more = [*RECORDS[:-1], {"step": 8, "val": {"average mAP@all": 0.3, "average R@1": 0.9}}]
    other = [*RECORDS[:-1], {"step": 8, "val": {"average mAP@all": 0.4}}]
    assert report(tmp_path, records=more) == html
    assert report(tmp_path, records=other) != html
