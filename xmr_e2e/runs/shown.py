"""A run in a notebook: what it is, its figures beside random rankings, and where its report lies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from xmr_e2e import notebook
from xmr_e2e.errors import XmrError
from xmr_e2e.evaluation.result import EvaluationResult
from xmr_e2e.evaluation.shown import average_row, score_cells, shown_scores
from xmr_e2e.runs.cost import cost_of

if TYPE_CHECKING:
    from xmr_e2e.runs.run import Run


def as_html(run: Run) -> str:
    """The run for a notebook. Where something in it is damaged, that is said: to look at it is no reason to fail."""
    return notebook.display(notebook.heading(f"run {run.folder}"), notebook.table((), _about(run)), *_figures(run))


def _about(run: Run) -> Iterator[tuple[str, str]]:
    with suppress(XmrError):
        configuration = run.document("config.json")
        yield "recipe", str(configuration.get("name", ""))
        yield "method", _class_of(configuration.get("method"))
        yield "shards", str(_part(configuration, "data").get("shards", ""))
        yield "epochs", str(_part(configuration, "train").get("epochs", ""))
        yield "device", str(run.document("environment.json").get("device", ""))
    with suppress(XmrError):
        if cost := cost_of(run.records()):
            yield "time, memory", f"{timedelta(seconds=round(cost.seconds))}, {cost.peak_memory / 1e9:.1f} GB"
    for name in ("model.safetensors", "report.html"):
        if (run.folder / name).exists():
            yield name.partition(".")[0], str(run.folder / name)


def _figures(run: Run) -> Iterator[str]:
    """Of each result the average over the directions; `Run.result` has them all."""
    try:
        results = run.results()
    except XmrError as error:
        yield notebook.paragraph(error)
        return
    for name, result in results.items():
        yield notebook.heading(f"{name}: {result.dataset}, {result.split} split, average over the directions")
        yield _average(result)


def _average(result: EvaluationResult) -> str:
    shown, row = shown_scores(result.metrics), average_row(result.metrics)
    rows = [["model", *score_cells(row.model, shown)], ["random", *score_cells(row.random, shown)]]
    return notebook.table(["", *shown], rows)


def _part(configuration: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = configuration.get(name)
    return found if isinstance(found, dict) else {}


def _class_of(document: object) -> str:
    """The name of a configuration's class, without its module."""
    return str(document.get("type", "")).rpartition(":")[2] if isinstance(document, dict) else ""
