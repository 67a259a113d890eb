"""Figures of a trained model on a split, as a table, a JSON file and a report."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch.distributed as dist
from rich import box
from rich.table import Table

from xmr_e2e.console import console
from xmr_e2e.data.reader import SplitReader
from xmr_e2e.engine.embed import EmbeddedSplit, embed_split
from xmr_e2e.engine.report import report_on_run
from xmr_e2e.engine.run import Run
from xmr_e2e.engine.saved_model import SavedModel, load, require_shards
from xmr_e2e.errors import XmrError
from xmr_e2e.evaluation.directions import CrossModalFigures, all_directions, cross_modal_figures, direction_title
from xmr_e2e.evaluation.metrics import Measures
from xmr_e2e.files import sha256_of
from xmr_e2e.methods.base import Method
from xmr_e2e.shards import manifest

SELECTABLE = Measures().names
SHOWN = ("mAP@all", "mAP@50", "NDCG@500", "R@1", "R@10")
OTHER_SHARDS = "These are not the shards that the run was trained with."


def validation_scores(method: Method, embedded: EmbeddedSplit) -> dict[str, float]:
    """The figures of all directions and their average, flat: "average mAP@all", "image_to_text mAP@all", …"""
    _require_labels(embedded)
    directions = all_directions(
        embedded.embeddings,
        embedded.labels,
        embedded.keys,
        positions=embedded.positions,
        similarity=method.similarity,
    )
    rows = {"average": directions.average, **{name: row.scores for name, row in directions.figures.items()}}
    return {f"{direction} {name}": value for direction, scores in rows.items() for name, value in scores.items()}


def evaluate(model: SavedModel, split: str) -> tuple[EmbeddedSplit, CrossModalFigures]:
    """Embed a split and measure it, with random rankings beside. Called by every rank."""
    embedded = embed_split(model.method, model.data, model.tokeniser, split)
    _require_labels(embedded)
    figures = cross_modal_figures(
        embedded.embeddings,
        embedded.labels,
        embedded.keys,
        positions=embedded.positions,
        similarity=model.similarity,
    )
    return embedded, figures


def evaluation_document(model: SavedModel, split: str, figures: CrossModalFigures) -> dict[str, Any]:
    """What `evaluation/<split>.json` says."""
    dataset = SplitReader(model.data.shards, split).manifest.dataset
    return {"dataset": dataset, "split": split, "selection": model.selection, **asdict(figures)}


def evaluate_run(run: Run, split: str, *, shards: Path | None = None) -> CrossModalFigures:
    """Measure a run's selected model on a split; write the figures and the report, print the table.

    Figures on other shards than those of the training get files of their own, named by dataset and split.
    Every rank calls it.
    """
    model = load(run.folder, shards=shards)
    require_shards(model)
    embedded, figures = evaluate(model, split)
    if not dist.is_initialized() or dist.get_rank() == 0:
        document = evaluation_document(model, split, figures)
        own = _has_own_shards(run, model)
        dataset = re.sub(r"[^\w.-]+", "_", document["dataset"])
        name = split if own else f"{dataset}-{split}"
        written = run.save_evaluation(name, document)
        report = run.folder / ("report.html" if name == "test" else f"report-{name}.html")
        report_on_run(report, run, model, embedded, figures, document, notes=[] if own else [OTHER_SHARDS])
        _say(f"{document['dataset']}, {split} split; {model.selection}")
        console.print(figures_table(figures))
        if not own:
            _say(f"{OTHER_SHARDS} The figures of its own stay as they are.")
        _say(f"figures: {written}\nreport:  {report}")
    return figures


def _say(text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _has_own_shards(run: Run, model: SavedModel) -> bool:
    """Whether the shards are those of the training; yes where the run does not say which these were."""
    trained_on = run.document("environment.json").get("manifest_sha256")
    return trained_on in (None, sha256_of(model.data.shards / manifest.NAME))


def figures_table(figures: CrossModalFigures) -> Table:
    """Figures of each direction, below each that of random rankings and the ratio of both."""
    ours, random = figures.model, figures.random
    rows = {direction_title(way): (row.scores, random.figures[way].scores) for way, row in ours.figures.items()}
    table = Table("direction", box=box.SIMPLE_HEAD)
    for name in SHOWN:
        table.add_column(name, justify="right")
    for heading, (model, floor) in {**rows, "average": (ours.average, random.average)}.items():
        ratios = {name: model[name] / floor[name] for name in model if floor[name]}
        table.add_row(heading, *_cells(model, "{:.4f}"), style="bold")
        table.add_row("random", *_cells(floor, "{:.4f}"), style="dim")
        table.add_row("times random", *_cells(ratios, "{:.1f}x"), style="dim", end_section=True)
    return table


def _cells(scores: Mapping[str, float], form: str) -> Iterator[str]:
    return (form.format(scores[name]) if name in scores else "–" for name in SHOWN)


def _require_labels(embedded: EmbeddedSplit) -> None:
    ranked = np.unique(np.concatenate([rows.cpu().numpy() for rows in embedded.positions.values()]))
    unlabelled = ranked[embedded.labels.cpu().numpy()[ranked].sum(1) == 0]
    if len(unlabelled):
        raise XmrError(
            f"{len(unlabelled)} samples have no label (the first: {embedded.keys[unlabelled[0]]}), "
            "and mAP counts by labels; build the shards with a label table"
        )
