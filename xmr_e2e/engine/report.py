"""The report of a run: what `evaluation.report` shows, brought together from the run folder and the shards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xmr_e2e.data.reader import SplitReader
from xmr_e2e.engine.embed import EmbeddedSplit
from xmr_e2e.engine.run import Run
from xmr_e2e.engine.saved_model import SavedModel
from xmr_e2e.evaluation.directions import CrossModalFigures
from xmr_e2e.evaluation.examples import retrieved_examples
from xmr_e2e.evaluation.report import write_report
from xmr_e2e.shards.manifest import Manifest

EXAMPLES = 12
"""Queries whose results the report shows, over all directions; two at least of each."""


def report_on_run(
    path: Path,
    run: Run,
    model: SavedModel,
    embedded: EmbeddedSplit,
    figures: CrossModalFigures,
    document: Mapping[str, Any],
    *,
    notes: Sequence[str],
) -> None:
    """Write the report of a run's figures on a split.

    Args:
        document: what the evaluation's JSON file says.
        notes: what a reader of the figures must know, beside what the dataset's manifest says.
    """
    reader = SplitReader(model.data.shards, document["split"])
    examples = retrieved_examples(
        embedded.embeddings,
        embedded.labels,
        reader,
        positions=embedded.positions,
        similarity=model.similarity,
        per_direction=max(2, EXAMPLES // len(figures.model.figures)),
    )
    write_report(
        path,
        title=run.document("config.json").get("name", run.folder.name),
        dataset=document["dataset"],
        split=document["split"],
        selection=document["selection"],
        figures=figures,
        records=run.records(),
        examples=examples,
        environment=run.document("environment.json"),
        configuration=run.document("config.json"),
        notes=[*notes, *_dataset_notes(reader.manifest)],
    )


def _dataset_notes(manifest: Manifest) -> list[str]:
    """What a reader of the figures must know of the data, shortly; the manifest lists each case."""
    notes = list(manifest.notes[:3])
    if len(manifest.notes) > 3:
        notes.append(f"… and {len(manifest.notes) - 3} more notes in the manifest")
    if manifest.skipped:
        notes.append(f"{len(manifest.skipped)} samples of the raw data could not be used; the manifest lists them")
    return notes
