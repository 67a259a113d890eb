"""Making an index of a folder of shards or of media files, and adding to it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xmr_e2e.data.batch_dataset import BatchDataset
from xmr_e2e.data.reader import SplitReader
from xmr_e2e.errors import XmrError
from xmr_e2e.escape import one_line
from xmr_e2e.models.embed import collect
from xmr_e2e.models.hub import is_hub_name
from xmr_e2e.models.saved_model import SavedModel
from xmr_e2e.search.draft import Draft, NewItem, rewritten
from xmr_e2e.search.drawings import Shown, show_sample
from xmr_e2e.search.folder import THUMBNAIL, Added, add_files, file_suffixes
from xmr_e2e.search.progress import progress_bar
from xmr_e2e.search.store import NAME, Item, Store
from xmr_e2e.search.vectors import FLAT_UP_TO, Neighbors
from xmr_e2e.shards.manifest import load_manifest
from xmr_e2e.shards.media import PILLOW_MAX_PIXELS, UnusableImage, thumbnail
from xmr_e2e.shards.parallel import CPUS
from xmr_e2e.shards.record import Record
from xmr_e2e.shards.schema import MODALITIES
from xmr_e2e.shards.unused import describe_unused, user_files

logger = logging.getLogger(__name__)


def make_index(
    model: SavedModel,
    run: Path,
    source: Path,
    out: Path,
    *,
    splits: Sequence[str] = (),
    add: bool = False,
    overwrite: bool = False,
    flat_up_to: int = FLAT_UP_TO,
) -> Added:
    """Embed what a folder holds and write it to the index in `out`, all or nothing.

    Args:
        run: the model's folder, where `xmr serve` will look for it, or its name on the hub.
        source: a folder of shards, or of media files in whatever folders within.
        splits: of the shards; none are all.
        add: to the index that is there, which the same model made. Items that it has already stay as they are.
        overwrite: the index that is there.
        flat_up_to: items, above which the index is approximate.

    Raises:
        XmrError: an index is there or is not, of another model; no such split; samples or a disk that cannot be used.
    """
    path, named = out / NAME, str(run if is_hub_name(run) else run.resolve())
    if path.exists() and not add and not overwrite:
        raise XmrError(f"{path} exists; add to it with --add, or make it again with --overwrite")
    from_shards = holds_shards(source, file_suffixes(model))
    if splits and not from_shards:
        raise XmrError(f"{source} is no folder of shards, and has no splits; leave out --split")
    out.mkdir(parents=True, exist_ok=True)
    result = Added()
    with rewritten(path, keep=add) as store:
        if add:
            _require_same_model(store, model, out)
        store.describe(run=named, fingerprint=model.fingerprint, similarity=model.similarity)
        if from_shards:
            _add_shards(store, model, source, splits, result)
        else:
            add_files(store, model, source, result)
        if not store.collections():
            raise XmrError(f"{source}: nothing there to embed")
        _write_graphs(store, model, flat_up_to)
    return result


def holds_shards(folder: Path, suffixes: Sequence[str]) -> bool:
    """True for a folder of shards, False for one of files with one of these endings.

    Raises:
        XmrError: neither is there; says of shards that are unfinished how to go on.
    """
    if (folder / "manifest.json").exists():
        return True
    files = user_files(folder, tell=False) if folder.is_dir() else []
    if any(file.suffix.lower() in suffixes for file in files):
        return False
    try:
        load_manifest(folder)
    except XmrError as error:
        nothing = f"{error}; nor is there a file that the model embeds. {describe_unused(files)}"
        raise XmrError(nothing if files else str(error)) from error
    return True


def _require_same_model(store: Store, model: SavedModel, out: Path) -> None:
    if store.about.fingerprint != model.fingerprint:
        raise XmrError(
            f"{out} was made with another model ({one_line(store.about.run)}); what this one embeds cannot stand "
            "beside it. Make the index again with --overwrite, or another one with --out"
        )


def _add_shards(store: Draft, model: SavedModel, folder: Path, splits: Sequence[str], result: Added) -> None:
    manifest = load_manifest(folder)
    for split in splits or manifest.splits:
        reader = SplitReader(folder, split)
        positions = sorted({p for name in model.method.modalities for p in reader.positions_with([name]).tolist()})
        ids = [f"{manifest.dataset}/{split}/{reader.key(position)}" for position in positions]
        known = store.known(ids)
        result.present += len(known)
        result.added += len(ids) - len(known)
        if len(known) == len(ids):
            continue
        new = {position: id for position, id in zip(positions, ids) if id not in known}
        embedded = {name: _embed_split(model, folder, split, name) for name in model.method.modalities}
        store.add(_samples(reader, new, embedded, model))


def _samples(
    reader: SplitReader,
    ids: Mapping[int, str],
    embedded: Mapping[str, tuple[NDArray[np.float32], NDArray[np.int64]]],
    model: SavedModel,
) -> Iterator[NewItem]:
    """The samples at the positions of `ids`, with what was embedded of their split."""
    row_of = {
        name: {position: row for row, position in enumerate(positions.tolist())}
        for name, (_, positions) in embedded.items()
    }
    places = list(ids)
    with ThreadPoolExecutor(CPUS) as pool, progress_bar(f"writing {reader.split}", len(places)) as advance:
        for start in range(0, len(places), 16 * CPUS):  # few pictures are held at a time
            some = places[start : start + 16 * CPUS]
            records = [reader.read(position) for position in some]
            pictures = pool.map(lambda at, of: _show(reader, at, of, model), some, records)
            for position, record, shown in zip(some, records, pictures):
                about = record.metadata
                item = Item(
                    ids[position],
                    reader.manifest.dataset,
                    reader.split,
                    record.key,
                    about.source,
                    about.texts,
                    about.labels,
                )
                rows = {name: embedded[name][0][row[position]] for name, row in row_of.items() if position in row}
                yield NewItem(item, rows, shown.jpeg, shown.previews)
            advance(len(some))


def _show(reader: SplitReader, position: int, record: Record, model: SavedModel) -> Shown:
    """A sample's picture, small, or one that is drawn of its other media, and the previews of these."""
    media = show_sample(reader, position, model.method.modalities, model.data.media)
    if not record.image:
        return media
    try:
        return Shown(thumbnail(record.image, THUMBNAIL, max_pixels=PILLOW_MAX_PIXELS), media.previews)
    except UnusableImage as error:
        raise XmrError(f"{record.where}: the image {error}") from error


def _embed_split(
    model: SavedModel, folder: Path, split: str, modality: str
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Embeddings (n, d) and positions (n,) of the samples of a split that have this modality."""
    data = replace(model.data, shards=folder, extra_shards={})
    if not len(SplitReader(folder, split).positions_with([modality])):
        return np.empty((0, 0), np.float32), np.empty(0, np.int64)
    batches = BatchDataset(data, split, {modality: model.method.input_kinds[modality]}, model.tokenizer, seed=0)
    with progress_bar(f"embedding {split} {modality}s", len(batches)) as advance:

        def embed(inputs: dict[str, object]) -> object:
            rows = model.method.embed(modality, inputs[modality]).float()
            advance(len(rows))
            return rows

        rows = collect(model.method, batches, embed)
    return rows.cpu().numpy(), batches.positions


def _write_graphs(store: Draft, model: SavedModel, flat_up_to: int) -> None:
    """Keep the graph, which would take long to make at each start, of an index larger than `flat_up_to`."""
    for modality in MODALITIES:
        _, embeddings = store.embeddings(modality)
        if not len(embeddings):
            continue
        if len(embeddings) > flat_up_to:
            logger.info("making the graph of %s %ss for approximate search", f"{len(embeddings):,}", modality)
        neighbors = Neighbors.of(
            embeddings,
            model.similarity,
            graph=store.graph(modality),
            flat_up_to=flat_up_to,
            where=f"{store.path}: {modality}s",
        )
        store.set_graph(modality, neighbors.graph())
