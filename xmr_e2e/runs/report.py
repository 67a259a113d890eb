"""The report of a run: what `evaluation.report` shows, brought together from the run folder and the shards."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

from xmr_e2e.data.reader import SplitReader
from xmr_e2e.data.unknown import unknown_fractions
from xmr_e2e.evaluation.confusion import confusion
from xmr_e2e.evaluation.embedded import EmbeddedSplit
from xmr_e2e.evaluation.inspection import inspect_rankings
from xmr_e2e.evaluation.projection import Projection, drawn_items, project, project_features
from xmr_e2e.evaluation.protocol import Protocol
from xmr_e2e.evaluation.result import EvaluationResult, TrainingCost
from xmr_e2e.fonts import describe_missing, font_for
from xmr_e2e.models.embed import tower_features
from xmr_e2e.models.saved_model import SavedModel
from xmr_e2e.reports.examples import SampleLookup, spread_examples, worst_failures
from xmr_e2e.reports.media_previews import MediaPreviews
from xmr_e2e.reports.report import Findings, write_report
from xmr_e2e.runs.run import Run
from xmr_e2e.shards.manifest import Manifest

logger = logging.getLogger(__name__)

EXAMPLES, FAILURES = 8, 4
"""Queries whose results the report shows, over all directions; two and one at least of each."""
LONGEST = 1e9
"""seconds that a training is said to have taken"""
WHOLE_SPLIT = "Examples, confusion and the map are of the whole split, while the figures are means over its folds."


def report_on_run(
    path: Path,
    run: Run,
    model: SavedModel,
    queries: EmbeddedSplit,
    result: EvaluationResult,
    protocol: Protocol,
    *,
    gallery: EmbeddedSplit | None = None,
    notes: Sequence[str],
) -> dict[str, bytes]:
    """Write the report of a run's result on a split; its pictures that are PNG, by name.

    Args:
        protocol: by which was measured.
        gallery: what was ranked, where it is another set than the queries' own.
        notes: what a reader of the figures must know, beside what the dataset's manifest says.
    """
    if missing := frozenset[str]().union(*(font_for(name).missing for name in result.classes)):
        logger.warning(
            "names of classes: %s; a browser on a machine that has one shows them", describe_missing(missing)
        )
    readers = readers_of(model, result.split, with_train=gallery is not None)
    shelf = sample_lookup(model, readers, protocol)
    return write_report(
        path,
        result,
        title=run.document("config.json").get("name", run.folder.name),
        records=run.records(),
        findings=_findings(model, queries, gallery, result.split, protocol, shelf),
        environment=run.document("environment.json"),
        configuration=run.document("config.json"),
        facts=dict(_facts(run, model, readers[0].manifest, result.training)),
        notes=[
            *([f"Trained with wrong labels: {result.label_noise}."] if result.label_noise else []),
            *result.leaks,
            *notes,
            *([WHOLE_SPLIT] if protocol.folds else []),
            *_dataset_notes(readers[0].manifest),
        ],
    )


def readers_of(model: SavedModel, split: str, *, with_train: bool) -> list[SplitReader]:
    """The readers of a split and, where it is ranked too, of the training split."""
    splits = dict.fromkeys([split, *(["train"] if with_train else [])])
    return [SplitReader(model.data.shards, each) for each in splits]


def sample_lookup(model: SavedModel, readers: Sequence[SplitReader], protocol: Protocol) -> SampleLookup:
    """The samples that a page shows, as a model's options and a protocol have them."""
    return SampleLookup(readers, protocol.captions, MediaPreviews(model.data.shape3d.augment.up))


def _facts(run: Run, model: SavedModel, manifest: Manifest, training: TrainingCost | None) -> Iterator[tuple[str, str]]:
    """Facts about the run, in a few rows."""
    yield "method", ", ".join(filter(None, (model.config.title, model.config.citation)))
    yield "samples", ", ".join(f"{name} {split.samples:,}" for name, split in manifest.splits.items())
    several = ", several a sample" if manifest.multi_label else ""
    yield "classes", f"{len(manifest.classes):,}{several}" if manifest.classes else "none: the data have no labels"
    yield "parameters", f"{sum(each.numel() for each in model.method.parameters()):,}"
    if model.tokenizer:
        unknown = unknown_fractions(model.data.shards, model.tokenizer)
        yield "unknown words", ", ".join(f"{name} {100 * fraction:.1f} %" for name, fraction in unknown.items())
    environment = run.document("environment.json")
    if "device" in environment:
        count = environment.get("processes", 1)
        yield "machine", f"{environment['device']}, {count} process{'es' if count != 1 else ''}"
    if training:
        took = timedelta(seconds=round(min(training.seconds, LONGEST)))
        yield "training", f"{took}, {training.peak_memory / 1e9:.1f} GB of memory at most in the main process"
    speeds = [speed for each in run.records() if (speed := _number(each, "images_per_second"))]
    batch = _number(run.document("config.json").get("train"), "batch_size")
    if speeds and batch:
        time = timedelta(seconds=round(min(sum(batch / speed for speed in speeds), LONGEST)))
        yield "time in steps", f"{time} for {len(speeds):,} steps, {median(speeds):,.1f} samples/s in the median"


def _number(document: Any, name: str) -> float:
    """A positive number of a document that others may have written; 0 where it has none."""
    value = document.get(name) if isinstance(document, Mapping) else None
    return value if isinstance(value, int | float) and 1e-6 < value < 1e12 else 0


def _findings(
    model: SavedModel,
    queries: EmbeddedSplit,
    gallery: EmbeddedSplit | None,
    split: str,
    protocol: Protocol,
    shelf: SampleLookup,
) -> Findings:
    similarity = protocol.similarity or model.similarity
    inspected = inspect_rankings(queries, gallery, similarity=similarity)
    examples, failures = max(2, EXAMPLES // len(inspected)), max(1, FAILURES // len(inspected))
    return Findings(
        examples=[example for each in inspected for example in spread_examples(each, shelf, examples)],
        failures=[failure for each in inspected for failure in worst_failures(each, shelf, failures)],
        sampled=[each.direction for each in inspected if each.is_sampled],
        confusions=[confusion(each) for each in inspected if each.is_labeled],
        projection=project(queries, similarity=similarity),
        features=_feature_maps(model, queries, split, protocol) if queries.is_labeled else {},
    )


def _feature_maps(model: SavedModel, queries: EmbeddedSplit, split: str, protocol: Protocol) -> dict[str, Projection]:
    """Maps of what the towers give, whose classes are apart or not before the method's heads."""
    features = {}
    for name, items in drawn_items(queries).items():
        captions = protocol.captions if name == "text" else None
        rows = tower_features(model.method, model.data, model.tokenizer, split, name, items, captions)
        if rows is not None:
            features[name] = rows.float().numpy(force=True)
    return project_features(queries, features)


def _dataset_notes(manifest: Manifest) -> list[str]:
    """Short notes on the data that a reader of the figures must know; the manifest lists each case."""
    notes = list(manifest.notes[:3])
    if len(manifest.notes) > 3:
        notes.append(f"… and {len(manifest.notes) - 3} more notes in the manifest")
    if manifest.skipped:
        notes.append(f"{len(manifest.skipped)} samples of the raw data could not be used; the manifest lists them")
    return notes
