"""The same queries under several runs: what each of them ranks first."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from xmr_e2e.errors import XmrError
from xmr_e2e.evaluation.embedded import Items
from xmr_e2e.evaluation.inspection import RankingSample, inspect_rankings
from xmr_e2e.evaluation.protocol import Protocol
from xmr_e2e.evaluation.result import EvaluationResult
from xmr_e2e.methods.protocols import protocol as find_protocol
from xmr_e2e.models.saved_model import SavedModel, load_folder, require_shards
from xmr_e2e.reports.comparison import SharedQueries
from xmr_e2e.reports.examples import SampleLookup, examples_of, spread_queries
from xmr_e2e.runs.evaluate import embed_ranked
from xmr_e2e.runs.report import readers_of, sample_lookup
from xmr_e2e.runs.run import Run


def shared_queries(
    runs: Sequence[Run], results: Sequence[EvaluationResult], count: int, *, shards: Path | None = None
) -> list[SharedQueries]:
    """Queries of each direction that all runs have, drawn evenly over the classes, the same ones for the same split.

    Args:
        results: the measurement of each run; all of one split, protocol and gallery.
        count: queries of each direction.
        shards: where the dataset's shards lie now, if not where they lay in training.

    Raises:
        XmrError: the measurements are of several settings, or the runs rank different items; the shards are missing.
    """
    settings = {(each.split, each.require_protocol().name, each.require_protocol().gallery) for each in results}
    if len(settings) > 1:
        raise XmrError(f"--queries: the runs were measured in several ways ({_listed(settings)}); --figures says which "
                       "of their measurements to take")  # fmt: skip
    ((split, name, _),) = settings
    protocol = find_protocol(name)
    rankings = []
    for number, (run, result) in enumerate(zip(runs, results)):
        model = load_folder(run.folder, shards=shards)
        require_shards(model)
        rankings.append(_rankings(model, result, protocol))
        _check_same(runs[0], rankings[0], run, rankings[-1])
        if number == 0:
            readers = readers_of(model, split, with_train=result.require_protocol().gallery == "test+train")
            shelf = sample_lookup(model, readers, protocol)
    return [
        _section([each[direction] for each in rankings], shelf, count)
        for direction in rankings[0]
        if all(direction in each for each in rankings)
    ]


def _listed(settings: Collection[tuple[str, ...]]) -> str:
    return "; ".join(
        f"{split}, protocol {protocol}, gallery {gallery}" for split, protocol, gallery in sorted(settings)
    )


def _rankings(model: SavedModel, result: EvaluationResult, protocol: Protocol) -> dict[str, RankingSample]:
    """By direction."""
    with_train = result.require_protocol().gallery == "test+train"
    queries, ranked = embed_ranked(model, result.split, protocol, "test+train" if with_train else "test")
    similarity = protocol.similarity or model.similarity
    return {each.direction: each for each in inspect_rankings(queries, ranked, similarity=similarity)}


def _check_same(first: Run, own: Mapping[str, RankingSample], run: Run, other: Mapping[str, RankingSample]) -> None:
    if not own.keys() & other.keys():
        raise XmrError(f"--queries: {first.folder} and {run.folder} have no direction in common")
    for direction in own.keys() & other.keys():
        one, two = own[direction], other[direction]
        if not (_same(one.queries, two.queries) and _same(one.items, two.items)):
            raise XmrError(
                f"--queries: {first.folder} and {run.folder} rank different items ({direction}); compare runs of one "
                "dataset, or name its shards: --shards"
            )


def _same(one: Items, two: Items) -> bool:
    return np.array_equal(one.keys, two.keys) and bool((one.labels.cpu() == two.labels.cpu()).all())


def _section(rankings: Sequence[RankingSample], shelf: SampleLookup, count: int) -> SharedQueries:
    first = rankings[0]
    chosen = spread_queries(first, count)
    by_run = [examples_of(each, shelf, chosen) for each in rankings]
    return SharedQueries(first.query, first.gallery, list(zip(*by_run)), first.is_labeled)
