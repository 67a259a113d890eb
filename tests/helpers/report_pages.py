"""Reports of made figures, and what a page holds."""

from __future__ import annotations

import io
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.helpers.embedded import embedded_split
from xmr_e2e.evaluation.confusion import confusion
from xmr_e2e.evaluation.directions import cross_modal_metrics
from xmr_e2e.evaluation.embedded import EmbeddedSplit
from xmr_e2e.evaluation.figures import CrossModalMetrics
from xmr_e2e.evaluation.inspection import inspect_rankings
from xmr_e2e.evaluation.projection import project, project_features
from xmr_e2e.evaluation.protocol import ProtocolRecord
from xmr_e2e.evaluation.result import EvaluationResult
from xmr_e2e.reports.examples import Example, Item, Result
from xmr_e2e.reports.report import Findings, write_report

HOSTILE = """<script>alert("x")</script> & 'Zoë' ← 犬"""
CLEAN = ProtocolRecord("clean", "test", "val", ())
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


def pairs() -> EmbeddedSplit:
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 6
    image, text = (np.eye(6)[labels] + rng.standard_normal((60, 6)) for _ in range(2))
    return embedded_split({"image": image, "text": text}, labels)


@cache
def metrics() -> CrossModalMetrics:
    return cross_modal_metrics(pairs())


@cache
def findings() -> Findings:
    inspected = inspect_rankings(pairs(), similarity="cosine")
    confusions = [confusion(each) for each in inspected]
    features = project_features(pairs(), {name: pairs().embeddings[name].float().numpy() for name in ("image", "text")})
    common = project(pairs(), similarity="cosine")
    return Findings(EXAMPLES, FAILURES, ["text_to_image"], confusions, common, features)


@cache
def five_modalities() -> CrossModalMetrics:
    """Images and texts are pairs of samples 0 to 39; each other modality has 20 samples of its own."""
    rng = np.random.default_rng(1)
    positions = {name: np.arange(40) for name in ("image", "text")}
    positions |= {name: np.arange(40, 60) + 20 * n for n, name in enumerate(("audio", "video", "shape3d"))}
    labels = np.arange(100) % 6
    embeddings = {
        name: np.eye(6)[labels[rows]] + rng.standard_normal((len(rows), 6)) for name, rows in positions.items()
    }
    return cross_modal_metrics(embedded_split(embeddings, labels, positions=positions))


def item(number: int) -> Item:
    stream = io.BytesIO()
    Image.new("RGB", (16, 12), (number * 9 % 256, 80, 120)).save(stream, "JPEG")
    texts = (f"text {number} {HOSTILE}", "another")
    return Item(f"key{number}", f"file{number}", stream.getvalue(), texts, (f"class<{number}>",))


def example(direction: str, relevant: list[bool], own: int | None) -> Example:
    results = tuple(Result(item(i), 1 - i / 10, right, paired=i == own) for i, right in enumerate(relevant))
    rank = 1 + (own if own is not None else 30)
    return Example(direction, item(40), results, pair=item(40), pair_rank=rank, precision=0.25, gallery=1234)


EXAMPLES = (
    example("image_to_text", [True, False, True, False, False], own=2),
    example("text_to_image", [False, True, True, True, False], own=None),
)
FAILURES = (example("text_to_image", [False] * 5, own=None),)
CLASSES = [f"class<{number}>" for number in range(6)]
RECORDS = [{"step": s, "loss": {"total": 1 / s}} for s in range(1, 9)] + [{"step": 8, "val": {"average mAP@all": 0.3}}]


def report(path: Path, **changes: Any) -> str:
    given: dict[str, Any] = {
        "title": "alscor",
        "records": RECORDS,
        "findings": findings(),
        "environment": {
            "libraries": {"torch": "2.11"},
            "command": ["train.py", "--a", HOSTILE, "--b", "1"],
            "processes": 2,
        },
        "configuration": {"data": {"shards": "shards", "file": None}, "stages": [{"lr": 0.1}], "parts": {}},
        "notes": [HOSTILE],
    }
    about: dict[str, Any] = {
        "dataset": "flickr8k",
        "split": "test",
        "protocol": CLEAN,
        "classes": CLASSES,
        "selection": "epoch 3, the best by mAP@all on the validation split",
        "metrics": metrics(),
    }
    own = {name: changes.pop(name) for name in about if name in changes}
    write_report(path / "report.html", EvaluationResult(**(about | own)), **(given | changes))
    return (path / "report.html").read_text("utf-8")
