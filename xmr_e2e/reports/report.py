"""A run's result as one HTML file that opens anywhere: no script, no other file, no address."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from xmr_e2e.escape import shell
from xmr_e2e.evaluation.confusion import Confusion
from xmr_e2e.evaluation.figures import (
    OTHERS,
    RSUM,
    CrossModalMetrics,
    Directions,
    direction_name,
    direction_title,
    modality_title,
    split_direction,
)
from xmr_e2e.evaluation.projection import Projection
from xmr_e2e.evaluation.result import EvaluationResult
from xmr_e2e.reports.class_charts import bar_chart, heat_map
from xmr_e2e.reports.direction_matrix import matrix_png, matrix_svg
from xmr_e2e.reports.embedding_plot import embedding_plot
from xmr_e2e.reports.examples import Example, Item
from xmr_e2e.reports.media_previews import MEDIA_NOTES, SoundPreview
from xmr_e2e.reports.metrics_csv import metrics_csv
from xmr_e2e.reports.page import data_uri, flattened, number, write_page
from xmr_e2e.reports.plots import precision_recall_plot, precision_scope_plot, training_plots

NAMES = {
    "image": ("An image", "images"),
    "text": ("A text", "texts"),
    "audio": ("A sound", "sounds"),
    "video": ("A video", "videos"),
    "shape3d": ("A 3D shape", "3D shapes"),
}
OPTION = " \\\n    "
"""before each option of a command that is shown"""
MAIN, MAIN_BY_PAIR = "mAP@all", "R@1"
"""The headline and the matrix, with labels and without. Of the validation scores, too, only these and the loss are
drawn: with R@k in three directions beside them none could be told from the others."""
RANKS = ("MedR",)
"""Figures that are no fractions, and better where they are lower."""
SUMS = (RSUM,)
"""Figures that are no fractions, and have no value of a single direction."""
WITHOUT_RATIO = (*RANKS, "Pearson")
"""A quotient of ranks is turned round, and that of a correlation by one near 0 says nothing."""
CAUTIONS = {
    "test": "The epoch was chosen by its figures on the test split itself: they are too high, and not comparable with "
    "figures of a model that was selected on validation.",
    "training loss": "No validation took part in the choice of the epoch: it is the one with the lowest training loss.",
    "nothing": "No validation took part in the choice of the epoch: it is the last one.",
}


@dataclass(frozen=True)
class Findings:
    """The findings in the rankings beside the figures."""

    examples: Sequence[Example] = ()
    failures: Sequence[Example] = ()
    sampled: Sequence[str] = ()
    """directions of which only some queries were looked at, as there are so many"""
    confusions: Sequence[Confusion] = ()
    projection: Projection | None = None
    features: Mapping[str, Projection] = field(default_factory=dict)
    """modality -> map of what its tower gives"""


@dataclass(frozen=True)
class _Cell:
    """One figure of one direction: the model's, that of random rankings, and how many times the one is the other."""

    direction: str
    model: str = "–"
    random: str = ""
    ratio: str = ""
    interval: str = ""
    """half the width of the 95 % confidence interval over queries"""


@dataclass(frozen=True)
class Section:
    """The examples of one direction."""

    query: str
    gallery: str

    @property
    def anchor(self) -> str:
        return direction_name(self.query, self.gallery)

    @property
    def title(self) -> str:
        return f"{NAMES[self.query][0]} asks, {NAMES[self.gallery][1]} answer"

    @property
    def shown(self) -> Iterator[Example]:
        """All queries of the section with their results."""
        raise NotImplementedError

    @property
    def items(self) -> Iterator[Item]:
        for example in self.shown:
            yield example.query
            yield from (result.item for result in example.results)
            if example.pair is not None:
                yield example.pair

    @property
    def note(self) -> str:
        if self.gallery == "text" and any(item.image is not None for item in self.items):
            return (
                "The small picture is the one that a text was written for; the model did not see it when it ranked "
                "the text."
            )
        return f"The model ranked the {NAMES[self.gallery][1]} by the {modality_title(self.query)} alone."

    @property
    def plays_sound(self) -> bool:
        return any(isinstance(item.preview, SoundPreview) and item.preview.mp3 is not None for item in self.items)


@dataclass(frozen=True)
class _OneRun(Section):
    """The examples of a run, and its failures."""

    examples: tuple[Example, ...]
    failures: tuple[Example, ...]
    sampled: str

    @property
    def shown(self) -> Iterator[Example]:
        yield from (*self.examples, *self.failures)


def write_report(
    path: Path,
    result: EvaluationResult,
    *,
    title: str,
    records: Sequence[Mapping[str, Any]],
    findings: Findings,
    environment: Mapping[str, Any],
    configuration: Mapping[str, Any],
    notes: Sequence[str] = (),
    facts: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, bytes]:
    """Write the report of one evaluated split; its pictures that are PNG, by name.

    title: the recipe's name. records: the lines of metrics.jsonl, in order; without a loss term among them there are no
    training curves. environment, configuration: any nesting of JSON values. notes: what a reader of the metrics must
    know, shown above them. facts: what the run was, in a few rows.
    """
    metrics, classes, protocol = result.metrics, result.classes, result.require_protocol()
    main, is_labeled = main_score(metrics.model), metrics.model.is_labeled
    sections = _sections(metrics, findings)
    table = metrics_csv(metrics, classes).encode(errors="replace")
    of_two = len(metrics.model.modalities) == 2
    matrix = None if of_two else matrix_png(metrics, main)
    plot = embedding_plot(findings.projection, classes, findings.features) if findings.projection else None
    write_page(
        path,
        "report.html",
        title=title,
        dataset=result.dataset,
        is_synthetic="synthetic" in result.dataset.lower(),
        split=result.split,
        protocol=protocol,
        caution=CAUTIONS.get(protocol.selected_on, ""),
        selection=result.selection,
        notes=notes,
        contents=_contents(metrics),
        is_labeled=is_labeled,
        chapters=list(_chapters(findings, sections if of_two else [], is_labeled=is_labeled)),
        without_relevant=_without_relevant(metrics),
        modalities=metrics.model.modalities,
        metrics={name: _cells(metrics, name) for name in metrics.model.average},
        pools=[_pool_row(metrics, name) for name in metrics.model.pools],
        ranks=[name for name in RANKS if name in metrics.model.average],
        sums=[name for name in SUMS if name in metrics.model.average],
        main=main,
        headline=_cells(metrics, main)[0 if of_two else -1 :],
        matrix=_matrix(metrics, main),
        galleries=[*metrics.model.modalities, *([OTHERS] if metrics.model.pools else [])],
        matrix_svg=None if of_two else matrix_svg(metrics, main),
        matrix_png=matrix,
        recall_curve=precision_recall_plot(metrics) if is_labeled else None,
        scope_curve=precision_scope_plot(metrics) if is_labeled else None,
        charts={
            direction_title(name): bar_chart(row, metrics.random.directions[name], classes)
            for name, row in metrics.model.directions.items()
            if is_labeled
        },
        heat_maps={direction_title(each.direction): heat_map(each, classes) for each in findings.confusions},
        confusion_note=_confusion_note(findings.confusions),
        map=plot,
        sections=sections,
        media_note=_media_note(sections),
        plays_sound=any(section.plays_sound for section in sections),
        training=training_plots([_without_minor_scores(record, main) for record in records]),
        facts=facts,
        data=data_uri(table, "text/csv"),
        definitions=metrics.definitions,
        command=_command(environment),
        environment=list(flattened(environment)),
        configuration=list(flattened(configuration)),
    )
    return ({"directions": matrix} if matrix else {}) | (dict(plot.pictures) if plot else {})


def main_score(directions: Directions) -> str:
    """The score that stands for all."""
    return MAIN if directions.is_labeled else MAIN_BY_PAIR


def _chapters(findings: Findings, sections: Sequence[_OneRun], *, is_labeled: bool) -> Iterator[tuple[str, str]]:
    """Anchor and heading of what the page has."""
    yield "figures", "Figures"
    if is_labeled:
        yield "classes", "Classes"
    if findings.confusions:
        yield "confusion", "Confusion"
    if findings.projection:
        yield "space", "Common space"
    yield from ((section.anchor, direction_title(section.anchor)) for section in sections)
    if findings.examples and not sections:
        yield "examples", "Examples"
    yield "training", "Training"
    yield "measured", "How measured"
    yield "again", "To do it again"


def _contents(metrics: CrossModalMetrics) -> list[str]:
    """The numbers of ranked items: of pairs, or of each modality's items where samples are not all pairs."""
    directions = list(metrics.model.directions.values())
    if len(directions) == 2 and all(row.queries == row.gallery == row.queries_with_pair for row in directions):
        return [f"{directions[0].queries:,} {'–'.join(map(modality_title, metrics.model.modalities))} pairs"]
    counts = {split_direction(name)[0]: row.queries for name, row in metrics.model.directions.items()}
    return [f"{count:,} {NAMES[modality][1]}" for modality, count in counts.items()]


def _without_relevant(metrics: CrossModalMetrics) -> list[str]:
    counts = {name: row.queries_without_relevant for name, row in metrics.model.rows.items()}
    return [f"{count:,} of {direction_title(name)}" for name, count in counts.items() if count]


def _cells(metrics: CrossModalMetrics, name: str) -> list[_Cell]:
    """One score of each direction, and the average."""
    ours, random = metrics.model, metrics.random
    cells = [_cell_of(metrics, way, name) for way in ours.directions]
    return [*cells, _cell("average", name, ours.average, random.average)]


def _cell_of(metrics: CrossModalMetrics, way: str, name: str) -> _Cell:
    """One score of a direction or a mixed pool."""
    row, random = metrics.model.rows[way], metrics.random.rows[way]
    return replace(
        _cell(direction_title(way), name, row.scores, random.scores),
        interval=f"± {number(1.96 * row.standard_errors[name])}" if name in row.standard_errors else "",
    )


def _pool_row(metrics: CrossModalMetrics, pool: str) -> list[_Cell]:
    """All scores of a mixed pool."""
    return [_cell_of(metrics, pool, name) for name in metrics.model.average]


def _matrix(metrics: CrossModalMetrics, main: str) -> dict[str, list[_Cell | None]]:
    """The main score: a row for each modality of the queries, a column for each of the gallery and one for pools."""
    modalities = metrics.model.modalities
    cells = {way: _cell_of(metrics, way, main) for way in metrics.model.rows}
    galleries = (*modalities, *([OTHERS] if metrics.model.pools else []))
    return {query: [cells.get(direction_name(query, gallery)) for gallery in galleries] for query in modalities}


def _cell(title: str, name: str, model: Mapping[str, float], random: Mapping[str, float]) -> _Cell:
    if name not in model:
        return _Cell(title)
    if name not in random:
        return _Cell(title, number(model[name]))
    if name in WITHOUT_RATIO:
        return _Cell(title, number(model[name]), number(random[name]))
    ratio = f"{model[name] / random[name]:.1f}×" if random[name] else "–"
    return _Cell(title, number(model[name]), number(random[name]), ratio)


def _sections(metrics: CrossModalMetrics, findings: Findings) -> list[_OneRun]:
    """The directions that have examples."""
    sections = [
        _OneRun(
            *split_direction(name),
            tuple(example for example in findings.examples if example.direction == name),
            tuple(example for example in findings.failures if example.direction == name),
            ", among those that were looked at" if name in findings.sampled else "",
        )
        for name in metrics.model.directions
    ]
    return [section for section in sections if section.examples]


def _media_note(sections: Sequence[_OneRun]) -> str:
    """The note on sounds, videos and shapes, where there are any."""
    shown = {modality for section in sections for modality in (section.query, section.gallery)}
    has_previews = any(item.preview is not None for section in sections for item in section.items)
    return " ".join(note for modality, note in MEDIA_NOTES.items() if modality in shown) if has_previews else ""


def _confusion_note(confusions: Sequence[Confusion]) -> str:
    """The definition of a cell of the heat maps."""
    if not confusions:
        return ""
    ks = sorted({each.k for each in confusions})
    k = str(ks[0]) if len(ks) == 1 else f"{ks[0]} to {ks[-1]}"
    several = any(each.is_multi_label for each in confusions)
    return (
        f"Of the first {k} results for the queries of a class (row), how many in a hundred have each class (column), "
        "the mean over the queries. "
        + (
            "A sample of several labels counts for each: rows add up to more than 100, and classes that go together "
            "look confused. "
            if several
            else ""
        )
        + f"The last row is the whole gallery: what random rankings find. {k} is the median size of a class there, "
        "at most 50."
    )


def _command(environment: Mapping[str, Any]) -> str:
    """The run's command line, ready for a shell; each option of the recipe's on a line of its own."""
    words = environment.get("command")
    if not isinstance(words, list) or not words:
        return ""
    line = shell("torchrun", "--nproc-per-node", environment.get("processes", 1), words[0])
    return line + "".join(f"{OPTION if str(word).startswith('--') else ' '}{shell(word)}" for word in words[1:])


def _without_minor_scores(record: Mapping[str, Any], main: str) -> dict[str, Any]:
    scores = record.get("val")
    if not isinstance(scores, Mapping):
        return dict(record)
    major = {name: value for name, value in scores.items() if name.endswith(f" {main}") or name == "loss"}
    if len(major) > 3:  # more than two directions and their average
        major = {name: value for name, value in major.items() if name.startswith("average")}
    return {**record, "val": major or scores}
