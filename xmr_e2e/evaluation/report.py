"""A run's result as one HTML file that opens anywhere: no script, no other file, no address."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from xmr_e2e.evaluation.examples import Example
from xmr_e2e.evaluation.metrics import CrossModalFigures
from xmr_e2e.evaluation.plots import precision_recall_plot, training_plot
from xmr_e2e.files import write_atomically

DIRECTIONS = {"image_to_text": "image → text", "text_to_image": "text → image", "average": "average"}
SHOWN_OF_VALIDATION = "mAP@all"
"""The validation scores that are drawn; with R@k in three directions beside them none could be told from the others."""


@dataclass(frozen=True)
class _Cell:
    """One figure of one direction: the model's, that of random rankings, and how many times the one is the other."""

    direction: str
    model: str
    random: str
    ratio: str


def write_report(
    path: Path,
    *,
    title: str,
    dataset: str,
    split: str,
    selection: str,
    figures: CrossModalFigures,
    records: Sequence[Mapping[str, Any]],
    examples: Sequence[Example],
    environment: Mapping[str, Any],
    configuration: Mapping[str, Any],
    notes: Sequence[str] = (),
) -> None:
    """Write the report of one evaluated split.

    title: the recipe's name. selection: how the epoch was chosen, in words. records: the lines of metrics.jsonl, in
    order; without a loss term among them there are no training curves. environment, configuration: any nesting of
    JSON values. notes: what a reader of the figures must know, shown above them.
    """
    page = _template().render(
        title=title,
        dataset=dataset,
        is_synthetic="synthetic" in dataset.lower(),
        split=split,
        selection=selection,
        notes=notes,
        pairs=figures.model.image_to_text.queries,
        without_relevant=figures.model.image_to_text.queries_without_relevant,
        directions=DIRECTIONS,
        figures={name: _cells(figures, name) for name in figures.model.average},
        curve=precision_recall_plot(figures),
        training=_training_plot(records),
        examples={name: [example for example in examples if example.direction == name] for name in DIRECTIONS},
        definitions=figures.definitions,
        environment=list(_flattened(environment)),
        configuration=list(_flattened(configuration)),
    )
    write_atomically(path, page.encode())


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["data_uri"] = _data_uri
    return environment.from_string(resources.files(__package__).joinpath("report.html").read_text("utf-8"))


def _data_uri(image: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


def _cells(figures: CrossModalFigures, name: str) -> list[_Cell]:
    ours, random = figures.model, figures.random
    pairs = (
        (ours.image_to_text.scores[name], random.image_to_text.scores[name]),
        (ours.text_to_image.scores[name], random.text_to_image.scores[name]),
        (ours.average[name], random.average[name]),
    )
    return [
        _Cell(direction, _number(model), _number(floor), f"{model / floor:.1f}×" if floor else "–")
        for direction, (model, floor) in zip(DIRECTIONS.values(), pairs)
    ]


def _number(value: float) -> str:
    """Three decimals, and more where a value is so small that they would say little."""
    return f"{value:.3f}" if value >= 0.01 or value == 0 else f"{value:.2g}"


def _training_plot(records: Sequence[Mapping[str, Any]]) -> bytes | None:
    if not any(name.startswith("loss") for record in records for name in record):
        return None
    return training_plot([_without_minor_scores(record) for record in records])


def _without_minor_scores(record: Mapping[str, Any]) -> dict[str, Any]:
    scores = record.get("val")
    if not isinstance(scores, Mapping):
        return dict(record)
    major = {name: value for name, value in scores.items() if name.endswith(SHOWN_OF_VALIDATION)}
    return {**record, "val": major or scores}


def _flattened(document: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Dotted names and values; a list of plain values is one value."""
    if isinstance(document, Mapping) and document:
        for key, value in document.items():
            yield from _flattened(value, f"{name}.{key}" if name else str(key))
    elif isinstance(document, list | tuple) and any(isinstance(item, Mapping) for item in document):
        for number, item in enumerate(document):
            yield from _flattened(item, f"{name}.{number}")
    elif isinstance(document, list | tuple):
        yield name, " ".join(map(str, document))
    else:
        yield name, "–" if document is None or document == {} else str(document)
