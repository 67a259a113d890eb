"""A run's result as one HTML file that opens anywhere: no script, no other file, no address."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from xmr_e2e.evaluation.directions import (
    CrossModalFigures,
    direction_name,
    direction_title,
    modality_title,
    split_direction,
)
from xmr_e2e.evaluation.examples import Example
from xmr_e2e.evaluation.plots import precision_recall_plot, training_plot
from xmr_e2e.files import write_atomically

NAMES = {
    "image": ("An image", "images"),
    "text": ("A text", "texts"),
    "audio": ("A sound", "sounds"),
    "video": ("A video", "videos"),
    "shape3d": ("A 3D shape", "3D shapes"),
}
MAIN = "mAP@all"
"""The headline and the matrix. Of the validation scores, too, only these and the loss are drawn: with R@k in three
directions beside them none could be told from the others."""


@dataclass(frozen=True)
class _Cell:
    """One figure of one direction: the model's, that of random rankings, and how many times the one is the other."""

    direction: str
    model: str = "–"
    random: str = ""
    ratio: str = ""


@dataclass(frozen=True)
class _Section:
    """The examples of one direction."""

    query: str
    gallery: str
    examples: tuple[Example, ...]

    @property
    def title(self) -> str:
        return f"{NAMES[self.query][0]} asks, {NAMES[self.gallery][1]} answer"

    @property
    def note(self) -> str:
        if self.gallery == "text":
            return (
                "The small picture is the one that a text was written for; the model did not see it when it ranked "
                "the text."
            )
        return f"The model ranked the {NAMES[self.gallery][1]} by the {modality_title(self.query)} alone."


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
        contents=_contents(figures),
        without_relevant=_without_relevant(figures),
        modalities=figures.model.modalities,
        figures={name: _cells(figures, name) for name in figures.model.average},
        main=MAIN,
        headline=_cells(figures, MAIN)[0 if len(figures.model.modalities) == 2 else -1 :],
        matrix=_matrix(figures),
        curve=precision_recall_plot(figures),
        training=_training_plot(records),
        sections=_sections(figures, examples),
        definitions=figures.definitions,
        environment=list(_flattened(environment)),
        configuration=list(_flattened(configuration)),
    )
    write_atomically(path, page.encode())


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals["zip"] = zip
    environment.filters |= {"data_uri": _data_uri, "title_of": modality_title}
    return environment.from_string(resources.files(__package__).joinpath("report.html").read_text("utf-8"))


def _data_uri(image: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


def _contents(figures: CrossModalFigures) -> list[str]:
    """How much was ranked: pairs, or the items of each modality where samples are not all pairs."""
    directions = list(figures.model.figures.values())
    if len(directions) == 2 and all(row.queries == row.gallery == row.queries_with_pair for row in directions):
        return [f"{directions[0].queries:,} {'–'.join(map(modality_title, figures.model.modalities))} pairs"]
    counts = {split_direction(name)[0]: row.queries for name, row in figures.model.figures.items()}
    return [f"{count:,} {NAMES[modality][1]}" for modality, count in counts.items()]


def _without_relevant(figures: CrossModalFigures) -> list[str]:
    counts = {name: row.queries_without_relevant for name, row in figures.model.figures.items()}
    return [f"{count:,} of {direction_title(name)}" for name, count in counts.items() if count]


def _cells(figures: CrossModalFigures, name: str) -> list[_Cell]:
    """One score of each direction, and the average."""
    ours, random = figures.model, figures.random
    rows = {direction_title(way): (row.scores, random.figures[way].scores) for way, row in ours.figures.items()}
    return [
        _cell(title, name, *scores) for title, scores in {**rows, "average": (ours.average, random.average)}.items()
    ]


def _matrix(figures: CrossModalFigures) -> dict[str, list[_Cell | None]]:
    """The main score: a row for each modality of the queries, a column for each of the gallery."""
    modalities = figures.model.modalities
    cells = dict(zip(figures.model.figures, _cells(figures, MAIN)))
    return {query: [cells.get(direction_name(query, gallery)) for gallery in modalities] for query in modalities}


def _cell(title: str, name: str, model: Mapping[str, float], random: Mapping[str, float]) -> _Cell:
    if name not in model:
        return _Cell(title)
    ratio = f"{model[name] / random[name]:.1f}×" if random[name] else "–"
    return _Cell(title, _number(model[name]), _number(random[name]), ratio)


def _sections(figures: CrossModalFigures, examples: Sequence[Example]) -> list[_Section]:
    """The directions that have examples."""
    sections = [
        _Section(*split_direction(name), tuple(example for example in examples if example.direction == name))
        for name in figures.model.figures
    ]
    return [section for section in sections if section.examples]


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
    major = {name: value for name, value in scores.items() if name.endswith(MAIN) or name == "loss"}
    if len(major) > 3:  # more than two directions and their average
        major = {name: value for name, value in major.items() if name.startswith("average")}
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
