"""The report of a run: what `evaluation.report` shows, brought together from the run folder and the shards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xmr_e2e.data.reader import SplitReader
from xmr_e2e.engine.run import Run
from xmr_e2e.engine.saved_model import SavedModel
from xmr_e2e.evaluation.confusion import confusion
from xmr_e2e.evaluation.directions import CrossModalFigures
from xmr_e2e.evaluation.embedded import EmbeddedSplit
from xmr_e2e.evaluation.examples import Shelf, spread_examples, worst_failures
from xmr_e2e.evaluation.inspection import inspect_rankings
from xmr_e2e.evaluation.projection import project
from xmr_e2e.evaluation.protocol import protocol
from xmr_e2e.evaluation.report import Findings, write_report
from xmr_e2e.methods.base import Similarity
from xmr_e2e.shards.manifest import Manifest

EXAMPLES, FAILURES = 8, 4
"""Queries whose results the report shows, over all directions; two and one at least of each."""
WHOLE_SPLIT = "Examples, confusion and the map are of the whole split, while the figures are means over its folds."


def report_on_run(
    path: Path,
    run: Run,
    model: SavedModel,
    queries: EmbeddedSplit,
    figures: CrossModalFigures,
    document: Mapping[str, Any],
    *,
    gallery: EmbeddedSplit | None = None,
    notes: Sequence[str],
) -> None:
    """Write the report of a run's figures on a split.

    Args:
        document: what the evaluation's JSON file says.
        gallery: what was ranked, where it is another set than the queries' own.
        notes: what a reader of the figures must know, beside what the dataset's manifest says.
    """
    chosen = protocol(document["protocol"]["name"])
    splits = dict.fromkeys([document["split"], *(["train"] if gallery else [])])
    readers = [SplitReader(model.data.shards, split) for split in splits]
    write_report(
        path,
        title=run.document("config.json").get("name", run.folder.name),
        dataset=document["dataset"],
        split=document["split"],
        protocol=document["protocol"],
        selection=document["selection"],
        figures=figures,
        classes=document["classes"],
        records=run.records(),
        findings=_findings(queries, gallery, chosen.similarity or model.similarity, Shelf(readers, chosen.captions)),
        environment=run.document("environment.json"),
        configuration=run.document("config.json"),
        notes=[*notes, *([WHOLE_SPLIT] if chosen.folds else []), *_dataset_notes(readers[0].manifest)],
    )


def _findings(queries: EmbeddedSplit, gallery: EmbeddedSplit | None, similarity: Similarity, shelf: Shelf) -> Findings:
    inspected = inspect_rankings(queries, gallery, similarity=similarity)
    examples, failures = max(2, EXAMPLES // len(inspected)), max(1, FAILURES // len(inspected))
    return Findings(
        examples=[example for each in inspected for example in spread_examples(each, shelf, examples)],
        failures=[failure for each in inspected for failure in worst_failures(each, shelf, failures)],
        sampled=[each.direction for each in inspected if each.is_sampled],
        confusions=[confusion(each) for each in inspected],
        projection=project(queries, similarity=similarity),
    )


def _dataset_notes(manifest: Manifest) -> list[str]:
    """What a reader of the figures must know of the data, shortly; the manifest lists each case."""
    notes = list(manifest.notes[:3])
    if len(manifest.notes) > 3:
        notes.append(f"… and {len(manifest.notes) - 3} more notes in the manifest")
    if manifest.skipped:
        notes.append(f"{len(manifest.skipped)} samples of the raw data could not be used; the manifest lists them")
    return notes
