"""Figures of a trained model on a split, as a table, a JSON file and a report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch.distributed as dist
from rich.table import Table

from xmr_e2e.console import console
from xmr_e2e.data.reader import SplitReader
from xmr_e2e.engine.embed import EmbeddedSplit, embed_split
from xmr_e2e.engine.run import Run
from xmr_e2e.engine.saved_model import SavedModel, load, require_shards
from xmr_e2e.errors import XmrError
from xmr_e2e.evaluation.examples import retrieved_examples
from xmr_e2e.evaluation.metrics import CrossModalFigures, both_directions, cross_modal_figures
from xmr_e2e.evaluation.report import write_report
from xmr_e2e.methods.base import Method
from xmr_e2e.shards.manifest import Manifest

# What `both_directions` measures by default.
SELECTABLE = ("mAP@all", "mAP@50", "R@1", "R@5", "R@10")
SHOWN = ("mAP@all", "mAP@50", "R@1", "R@10")


def validation_scores(method: Method, embedded: EmbeddedSplit) -> dict[str, float]:
    """The figures of both directions and their average, flat: "average mAP@all", "image_to_text mAP@all", …"""
    _require_labels(embedded)
    image, text = embedded.embeddings["image"], embedded.embeddings["text"]
    both = both_directions(image, text, embedded.labels, embedded.keys, similarity=method.similarity)
    rows = {
        "average": both.average,
        "image_to_text": both.image_to_text.scores,
        "text_to_image": both.text_to_image.scores,
    }
    return {f"{direction} {name}": value for direction, scores in rows.items() for name, value in scores.items()}


def evaluate(model: SavedModel, split: str) -> tuple[EmbeddedSplit, CrossModalFigures]:
    """Embed a split and measure it, with random rankings beside. Called by every rank."""
    embedded = embed_split(model.method, model.data, model.vocabulary, split)
    _require_labels(embedded)
    image, text = embedded.embeddings["image"], embedded.embeddings["text"]
    figures = cross_modal_figures(image, text, embedded.labels, embedded.keys, similarity=model.similarity)
    return embedded, figures


def evaluation_document(model: SavedModel, split: str, figures: CrossModalFigures) -> dict[str, Any]:
    """What `evaluation/<split>.json` says."""
    dataset = SplitReader(model.data.shards, split).manifest.dataset
    return {"dataset": dataset, "split": split, "selection": model.selection, **asdict(figures)}


def evaluate_run(run: Run, split: str, *, shards: Path | None = None) -> CrossModalFigures:
    """Measure a run's selected model on a split; write the figures and the report, print the table.

    Every rank calls it.
    """
    model = load(run.folder, shards=shards)
    require_shards(model)
    embedded, figures = evaluate(model, split)
    if not dist.is_initialized() or dist.get_rank() == 0:
        document = evaluation_document(model, split, figures)
        written = run.save_evaluation(split, document)
        report = _write_report(run, model, embedded, figures, document)
        console.print(figures_table(figures, f"{document['dataset']}, {split} split; {document['selection']}"))
        console.print(f"figures: {written}\nreport:  {report}", markup=False, highlight=False, soft_wrap=True)
    return figures


def _write_report(
    run: Run, model: SavedModel, embedded: EmbeddedSplit, figures: CrossModalFigures, document: Mapping[str, Any]
) -> Path:
    split = str(document["split"])
    image, text = embedded.embeddings["image"], embedded.embeddings["text"]
    reader = SplitReader(model.data.shards, split)
    path = run.folder / ("report.html" if split == "test" else f"report-{split}.html")
    write_report(
        path,
        title=run.document("config.json").get("name", run.folder.name),
        dataset=document["dataset"],
        split=split,
        selection=document["selection"],
        figures=figures,
        records=run.records(),
        examples=retrieved_examples(image, text, embedded.labels, reader, similarity=model.similarity),
        environment=run.document("environment.json"),
        configuration=run.document("config.json"),
        notes=_dataset_notes(reader.manifest),
    )
    return path


def _dataset_notes(manifest: Manifest) -> list[str]:
    """What a reader of the figures must know of the data, shortly; the manifest lists each case."""
    notes = list(manifest.notes[:3])
    if len(manifest.notes) > 3:
        notes.append(f"… and {len(manifest.notes) - 3} more notes in the manifest")
    if manifest.skipped:
        notes.append(f"{len(manifest.skipped)} samples of the raw data could not be used; the manifest lists them")
    return notes


def figures_table(figures: CrossModalFigures, title: str) -> Table:
    """Each figure beside that of random rankings and the ratio of both."""
    table = Table(title=title, title_justify="left")
    table.add_column("direction")
    for name in SHOWN:
        for heading in (name, "random", "ratio"):
            table.add_column(heading, justify="right", style="bold" if heading == name else "dim")
    for direction, ours, random in _rows(figures):
        cells = []
        for name in SHOWN:
            ratio = ours[name] / max(random[name], 1e-12)
            cells += [f"{ours[name]:.4f}", f"{random[name]:.4f}", f"{ratio:.1f}x"]
        table.add_row(direction, *cells)
    return table


def _rows(figures: CrossModalFigures) -> list[tuple[str, Mapping[str, float], Mapping[str, float]]]:
    ours, random = figures.model, figures.random
    return [
        ("image → text", ours.image_to_text.scores, random.image_to_text.scores),
        ("text → image", ours.text_to_image.scores, random.text_to_image.scores),
        ("average", ours.average, random.average),
    ]


def _require_labels(embedded: EmbeddedSplit) -> None:
    unlabelled = np.flatnonzero(embedded.labels.sum(1).cpu().numpy() == 0)
    if len(unlabelled):
        raise XmrError(
            f"{len(unlabelled)} samples have no label (the first: {embedded.keys[unlabelled[0]]}), "
            "and mAP counts by labels; build the shards with a label table"
        )
