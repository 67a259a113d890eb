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

from xmr_e2e.evaluation.directions import CrossModalFigures, cross_modal_figures
from xmr_e2e.evaluation.examples import Example, Item, Result
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
    return cross_modal_figures({"image": image, "text": text}, labels, range(60), seed=seed)


def five_modalities() -> CrossModalFigures:
    """Images and texts are pairs of samples 0 to 39; each other modality has 20 samples of its own."""
    rng = np.random.default_rng(1)
    positions = {name: np.arange(40) for name in ("image", "text")}
    positions |= {name: np.arange(40, 60) + 20 * n for n, name in enumerate(("audio", "video", "shape3d"))}
    labels = np.arange(100) % 6
    embeddings = {
        name: np.eye(6)[labels[rows]] + rng.standard_normal((len(rows), 6)) for name, rows in positions.items()
    }
    return cross_modal_figures(embeddings, labels, range(100), positions=positions)


def item(number: int) -> Item:
    stream = io.BytesIO()
    Image.new("RGB", (16, 12), (number * 9 % 256, 80, 120)).save(stream, "JPEG")
    texts = (f"text {number} {HOSTILE}", "another")
    return Item(f"key{number}", f"file{number}", stream.getvalue(), texts, (f"class<{number}>",))


def example(direction: str, relevant: list[bool], own: int | None) -> Example:
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
    for name in ("mAP@all", "mAP@50", "NDCG@500", "R@1", "R@5", "R@10"):
        start = next(number for number, row in enumerate(page.rows) if row[0] == name)
        ours, random, ratios = page.rows[start : start + 3]
        expected = [given.model.figures[way].scores[name] for way in ("image_to_text", "text_to_image")]
        floors = [given.random.figures[way].scores[name] for way in ("image_to_text", "text_to_image")]
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


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> Page:
    clip = Item("key of clip", f"clip 7 {HOSTILE}", None, (), ("dog",))
    wordless = Item("key", "article 3", None, (), ("cat",))
    results = tuple(Result(clip, 0.5, right, paired=False) for right in (True, False))
    examples = [
        Example("text_to_audio", item(1), results, pair_rank=None, gallery=20),
        Example("audio_to_text", clip, (Result(wordless, 0.25, True, paired=False),), pair_rank=None, gallery=40),
    ]
    return Page(report(tmp_path_factory.mktemp("five"), figures=five_modalities(), examples=examples))


def test_five_modalities_have_a_matrix_of_map_with_the_random_figure_beside(five: Page) -> None:
    assert five.open == []
    given = five_modalities()
    start = next(number for number, row in enumerate(five.rows) if row[0].startswith("mAP@all"))
    assert five.rows[start][1:] == ["image", "text", "audio", "video", "3D shape"]
    for row, query in enumerate(given.model.modalities):
        title, *cells = five.rows[start + 1 + row]
        assert title == query.replace("shape3d", "3D shape")
        for cell, gallery in zip(cells, given.model.modalities):
            if query == gallery:
                assert cell == ""
                continue
            way = f"{query}_to_{gallery}"
            expected = [each.figures[way].scores["mAP@all"] for each in (given.model, given.random)]
            assert [float(cell[:5]), float(cell[5:])] == pytest.approx(expected, abs=5e-4)


def test_each_of_twenty_directions_is_listed_and_a_figure_that_it_lacks_is_no_zero(five: Page) -> None:
    rows = {row[0]: row[1:] for row in five.rows if len(row) == 7}
    assert rows.pop("query → gallery") == ["mAP@all", "mAP@50", "NDCG@500", "R@1", "R@5", "R@10"]
    assert len(rows) == 21
    assert "video → 3D shape" in rows
    for title, cells in rows.items():
        has_pairs = title in ("image → text", "text → image", "average")
        assert (cells[-1] == "–") != has_pairs


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
    given = cross_modal_figures(rows, labels, range(4), positions={"image": np.arange(3), "audio": np.array([2, 3])})
    text = Page(report(tmp_path, figures=given, examples=[])).text
    assert "count 0: 1 of image → audio, 1 of audio → image." in text


def test_many_directions_leave_only_their_average_in_the_validation_curves(tmp_path: Path) -> None:
    scores = {f"{way} mAP@all": 0.2 for way in ("average", "image_to_text", "text_to_image", "audio_to_text")}
    more = [*RECORDS[:-1], {"step": 8, "val": scores}]
    less = [*RECORDS[:-1], {"step": 8, "val": {"average mAP@all": 0.2}}]
    assert report(tmp_path, records=more) == report(tmp_path, records=less)
