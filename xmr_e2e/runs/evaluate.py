"""Figures of a trained model on a split, as a table, a JSON file and a report."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal, cast

import numpy as np

from xmr_e2e.console import console
from xmr_e2e.data.config import Data
from xmr_e2e.data.inputs import InputKind
from xmr_e2e.data.label_noise import describe_noise
from xmr_e2e.data.reader import SplitReader
from xmr_e2e.distributed import rank_and_world_size
from xmr_e2e.errors import XmrError
from xmr_e2e.evaluation.by_protocol import concat, directions, evaluate_protocol, first_samples
from xmr_e2e.evaluation.embedded import EmbeddedSplit
from xmr_e2e.evaluation.figures import RSUM, CrossModalMetrics
from xmr_e2e.evaluation.protocol import CLEAN, Gallery, Protocol, fold_numbers
from xmr_e2e.evaluation.result import EvaluationResult, TrainingCost
from xmr_e2e.evaluation.retrieval import MetricSpec
from xmr_e2e.files import sha256_of
from xmr_e2e.methods.base import Method
from xmr_e2e.methods.protocols import protocol as find_protocol
from xmr_e2e.models.embed import embed_split
from xmr_e2e.models.saved_model import SavedModel, load_folder, require_shards
from xmr_e2e.received import own_path
from xmr_e2e.runs.cost import cost_of
from xmr_e2e.runs.drawing import draw
from xmr_e2e.runs.leaks import known_leaks
from xmr_e2e.runs.metrics_table import metrics_table
from xmr_e2e.runs.run import Run
from xmr_e2e.shards import manifest

SELECTABLE = (*MetricSpec().names, RSUM)
LONGEST_NAME = 40
"""of a dataset in the names of files, in characters, of which each may be four of the 255 bytes that names can have"""
OTHER_SHARDS = "These are not the shards that the run was trained with."


def validation_scores(method: Method, embedded: EmbeddedSplit, protocol: Protocol = CLEAN) -> dict[str, float]:
    """The figures of all directions and their average, flat: "average mAP@all", "image_to_text mAP@all", …; of data
    without labels those by pair alone."""
    found = directions(as_labeled(embedded), method.similarity, protocol)
    rows = {"average": found.average, **{name: row.scores for name, row in found.directions.items()}}
    return {f"{direction} {name}": value for direction, scores in rows.items() for name, value in scores.items()}


def evaluate(
    model: SavedModel, split: str, protocol: Protocol = CLEAN, gallery: Gallery = "test"
) -> tuple[EmbeddedSplit, EmbeddedSplit | None, CrossModalMetrics]:
    """Embed a split and measure it, with random rankings beside. Called by every rank.

    Args:
        gallery: "test" is the split itself; "test+train" has the training split's samples behind it.

    Returns:
        The queries' items, what was ranked where it is another set, and the figures.
    """
    queries, ranked = embed_ranked(model, split, protocol, gallery)
    folds = None
    if protocol.folds:
        reader = SplitReader(model.data.shards, split)
        folds = fold_numbers([reader.metadata(place).source for place in range(len(reader))], str(model.data.shards))
    return queries, ranked, evaluate_protocol(queries, model.similarity, protocol, gallery=ranked, folds=folds)


def embed_ranked(
    model: SavedModel, split: str, protocol: Protocol, gallery: Gallery
) -> tuple[EmbeddedSplit, EmbeddedSplit | None]:
    """The queries' items, and what is ranked where it is another set. Called by every rank."""
    check_measurable(protocol, model.data, split, model.method.input_kinds, gallery)
    queries = embed_split(model.method, model.data, model.tokenizer, split, captions=protocol.captions)
    if protocol.whole_batches:
        queries = first_samples(queries, len(queries.keys) // protocol.whole_batches * protocol.whole_batches)
    ranked = None
    if gallery == "test+train":
        ranked = embed_split(model.method, model.data, model.tokenizer, "train", captions=protocol.captions)
        ranked = concat(queries, ranked)
    together = as_labeled(ranked or queries)
    return queries if together.is_labeled else queries.without_labels(), ranked and together


def check_measurable(
    protocol: Protocol, data: Data, split: str, sources: Mapping[str, InputKind], gallery: Gallery = "test"
) -> None:
    """Raise XmrError where a protocol cannot measure a split of these shards with such towers."""
    reader = SplitReader(data.shards, split)
    if protocol.captions and sources.get("text") != "tokens":
        raise XmrError(
            f"protocol {protocol.name}: captions are items of their own, but this model reads no texts as words; "
            "measure it with clean"
        )
    if protocol.whole_batches and len(reader) < protocol.whole_batches:
        raise XmrError(
            f"protocol {protocol.name}: measures whole batches of {protocol.whole_batches} samples only, and the split "
            f"{split!r} of {data.shards} has {len(reader)}; measure it with clean"
        )
    if protocol.folds:
        fold_numbers([reader.metadata(0).source], f"protocol {protocol.name}: {data.shards}, split {split!r}")
    if gallery == "test+train" and (protocol.folds or protocol.whole_batches or split != "test"):
        other = f"--split {split}" if split != "test" else f"protocol {protocol.name}, which parts it"
        raise XmrError(f"--gallery test+train adds the training split to the whole test split, not to {other}")


def evaluation_result(
    model: SavedModel,
    split: str,
    protocol: Protocol,
    gallery: Gallery,
    metrics: CrossModalMetrics,
    training: TrainingCost | None = None,
) -> EvaluationResult:
    """The metrics of a model's split with what has to be known of them."""
    manifest = SplitReader(model.data.shards, split).manifest
    return EvaluationResult(
        dataset=manifest.dataset,
        split=cast(Literal["train", "val", "test"], split),
        selection=model.selection,
        metrics=metrics,
        protocol=protocol.record(model.selected_on, split if gallery == "test" else gallery),
        leaks=known_leaks(model.config, manifest),
        classes=manifest.classes,
        training=training,
        label_noise=describe_noise(model.data),
    )


def evaluate_run(
    run: Run,
    split: str,
    *,
    shards: Path | None = None,
    protocol: str | None = None,
    gallery: Gallery = "test",
    report: Path | None = None,
    must_draw: bool = False,
    draws: bool = True,
    show: Callable[[Mapping[str, bytes]], None] | None = None,
) -> EvaluationResult:
    """Measure a run's selected model on a split: write the figures, print the table, and only then draw the report.

    Figures by another protocol than the training's, with another gallery, or on other shards than those of the
    training get files of their own, named by these. Every rank calls it.

    Args:
        protocol: by name; the training's own by default.
        gallery: "test" is the split itself; "test+train" has the training split's samples behind it.
        report: the file to write it to, while the run's folder stays as it is; by default beside the run's others.
        must_draw: whether a report that cannot be drawn is an error; otherwise it is a warning, and costs nothing.
        draws: whether there is to be a report.
        show: takes the report's pictures (PNG, by name), once it is drawn.

    Raises:
        XmrError: the epoch was selected otherwise than the protocol allows, or it cannot measure such data; the folder
            of the run's figures is a link; with `must_draw`, the report cannot be drawn.
    """
    if report is None:
        own_path(run.folder, "evaluation")  # before all is measured, which takes long
    model = load_folder(run.folder, shards=shards)
    require_shards(model)
    chosen = find_protocol(protocol) if protocol else model.protocol
    chosen.check_selection(model.selected_on, model.protocol.name)
    queries, ranked, metrics = evaluate(model, split, chosen, gallery)
    result = evaluation_result(model, split, chosen, gallery, metrics, _cost(run))
    rank, _ = rank_and_world_size()
    if rank == 0:
        own = _has_own_shards(run, model)
        name = _file_name(result, own_protocol=chosen == model.protocol, own_shards=own)
        try:
            if report is None:
                _say(f"figures: {run.save_evaluation(name, result.to_dict())}")
        finally:  # what was measured is shown, whatever becomes of its file
            _say(heading(result))
            console.print(metrics_table(metrics))
        if not own:
            _say(f"{OTHER_SHARDS} The figures of its own stay as they are.")
        path = report or run.folder / ("report.html" if name == "test" else f"report-{name}.html")
        notes = [] if own else [OTHER_SHARDS]

        def write() -> None:
            from xmr_e2e.reports.plots import curve_pictures
            from xmr_e2e.runs.report import report_on_run

            drawn = report_on_run(path, run, model, queries, result, chosen, gallery=ranked, notes=notes)
            if show is not None:
                show({**curve_pictures(result.metrics), **drawn})

        if draws:
            draw(path, write, run=run.folder, name=name, must_draw=must_draw)
    return result


def _cost(run: Run) -> TrainingCost | None:
    """None of a run whose records are damaged, which is no reason not to measure it."""
    with suppress(XmrError):
        return cost_of(run.records())
    return None


def heading(result: EvaluationResult) -> str:
    """The text to be read before the metrics: a line, and one for each known leak and difference from clean."""
    protocol = result.require_protocol()
    first = (
        f"{result.dataset}, {result.split} split; protocol {protocol.name}, gallery {protocol.gallery}; "
        f"{result.selection}"
    )
    leaks = [f"  known leak: {leak}" for leak in result.leaks]
    noise = [f"  trained with wrong labels: {result.label_noise}"] if result.label_noise else []
    return "\n".join(
        [first, *noise, *leaks, *(f"  differs from clean: {difference}" for difference in protocol.differences)]
    )


def _file_name(result: EvaluationResult, *, own_protocol: bool, own_shards: bool) -> str:
    """Of the result file, without its suffix: the split, and what is not as in the training."""
    protocol = result.require_protocol()
    with_train = protocol.gallery == "test+train"
    dataset = re.sub(r"[^\w.-]+|\.\.+|^[.-]+", "_", result.dataset)[:LONGEST_NAME]
    parts = [] if own_shards else [dataset]
    parts.append(result.split)
    parts += [] if own_protocol and not with_train else [protocol.name.replace(":", "-")]
    parts += ["with-train"] if with_train else []
    return "-".join(parts)


def _say(text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True)


def _has_own_shards(run: Run, model: SavedModel) -> bool:
    """True if the shards are those of the training, or if the run does not say which these were."""
    trained_on = run.document("environment.json").get("manifest_sha256")
    return trained_on in (None, sha256_of(model.data.shards / manifest.NAME))


def as_labeled(embedded: EmbeddedSplit) -> EmbeddedSplit:
    """The items with their labels; where no sample has any, without, to be measured by pairs alone.

    Raises:
        XmrError: some samples have labels and some have none.
    """
    ranked = np.unique(np.concatenate([rows.cpu().numpy() for rows in embedded.positions.values()]))
    unlabeled = ranked[embedded.labels.cpu().numpy()[ranked].sum(1) == 0]
    if len(unlabeled) == len(ranked):
        return embedded.without_labels()
    if len(unlabeled):
        raise XmrError(
            f"{len(unlabeled)} samples have no label (the first: {embedded.keys[unlabeled[0]]}), "
            "and mAP counts by labels; build the shards with a label table"
        )
    return embedded
