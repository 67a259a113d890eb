"""Making an index of a folder of shards or of pictures, and adding to it."""

from __future__ import annotations

import hashlib
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from xmr_e2e.console import Console
from xmr_e2e.data.batch_dataset import BatchDataset
from xmr_e2e.data.images import load_square
from xmr_e2e.data.reader import SplitReader
from xmr_e2e.errors import XmrError
from xmr_e2e.escape import one_line
from xmr_e2e.models.embed import collect
from xmr_e2e.models.saved_model import SavedModel
from xmr_e2e.received import read_bytes
from xmr_e2e.search.query import require_searchable
from xmr_e2e.search.store import MODALITIES, NAME, Draft, Item, NewItem, Store, rewritten
from xmr_e2e.search.vectors import FLAT_UP_TO, Neighbors
from xmr_e2e.shards.audit.duplicates import ALIKE, ALIKE_IN_DETAIL
from xmr_e2e.shards.audit.fingerprint import FLAT, perceptual_hashes
from xmr_e2e.shards.manifest import load_manifest
from xmr_e2e.shards.media import IMAGE_BYTES, PILLOW_MAX_PIXELS, UnusableImage, decode_rgb, thumbnail
from xmr_e2e.shards.parallel import CPUS
from xmr_e2e.shards.record import Record
from xmr_e2e.shards.schema import IMAGE_SUFFIXES
from xmr_e2e.shards.unused import describe_unused, user_files

THUMBNAIL = 320
"""pixels of a thumbnail's longer side"""
PICTURES = 64
"""embedded at a time, of a folder of pictures"""

logger = logging.getLogger(__name__)


@dataclass
class Added:
    """The outcome for the items that were to be added."""

    added: int = 0
    present: int = 0
    """were there already, and stay as they are"""
    unusable: int = 0
    """pictures that cannot be read"""
    unused: list[Path] = field(default_factory=list)
    """files that are no pictures, or of a format that is not read"""


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
        run: the model's folder, where `xmr serve` will look for it.
        source: a folder of shards, or of pictures in whatever folders within.
        splits: of the shards; none are all.
        add: to the index that is there, which the same model made. Items that it has already stay as they are.
        overwrite: the index that is there.
        flat_up_to: items, above which the index is approximate.

    Raises:
        XmrError: an index is there or is not, of another model; no such split; samples or a disk that cannot be used.
    """
    require_searchable(model)
    path = out / NAME
    if path.exists() and not add and not overwrite:
        raise XmrError(f"{path} exists; add to it with --add, or make it again with --overwrite")
    from_shards = holds_shards(source)
    if splits and not from_shards:
        raise XmrError(f"{source} is no folder of shards, and has no splits; leave out --split")
    out.mkdir(parents=True, exist_ok=True)
    result = Added()
    with rewritten(path, keep=add) as store:
        if add:
            _require_same_model(store, model, out)
        store.describe(run=str(run.resolve()), fingerprint=model.fingerprint, similarity=model.similarity)
        if from_shards:
            _add_shards(store, model, source, splits, result)
        else:
            _add_pictures(store, model, source, result)
        if not store.collections():
            raise XmrError(f"{source}: nothing there to embed")
        _write_graphs(store, model, flat_up_to)
    return result


def holds_shards(folder: Path) -> bool:
    """True for a folder of shards, False for one of pictures.

    Raises:
        XmrError: neither is there; says of shards that are unfinished how to go on.
    """
    if (folder / "manifest.json").exists():
        return True
    files = user_files(folder, tell=False) if folder.is_dir() else []
    if any(map(_is_picture, files)):
        return False
    try:
        load_manifest(folder)
    except XmrError as error:
        raise XmrError(f"{error}; nor is there a picture. {describe_unused(files)}" if files else str(error)) from error
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
        positions = sorted({p for name in MODALITIES for p in reader.positions_with([name]).tolist()})
        ids = [f"{manifest.dataset}/{split}/{reader.key(position)}" for position in positions]
        known = store.known(ids)
        result.present += len(known)
        result.added += len(ids) - len(known)
        if len(known) == len(ids):
            continue
        new = {position: id for position, id in zip(positions, ids) if id not in known}
        embedded = {name: _embed_split(model, folder, split, name) for name in MODALITIES}
        store.add(_samples(reader, new, embedded))


def _samples(
    reader: SplitReader,
    ids: Mapping[int, str],
    embedded: Mapping[str, tuple[NDArray[np.float32], NDArray[np.int64]]],
) -> Iterator[NewItem]:
    """The samples at the positions of `ids`, with what was embedded of their split."""
    row_of = {
        name: {position: row for row, position in enumerate(positions.tolist())}
        for name, (_, positions) in embedded.items()
    }
    places = list(ids)
    with ThreadPoolExecutor(CPUS) as pool, _progress(f"writing {reader.split}", len(places)) as advance:
        for start in range(0, len(places), 16 * CPUS):  # few pictures are held at a time
            some = places[start : start + 16 * CPUS]
            records = [reader.read(position) for position in some]
            for position, record, small in zip(some, records, pool.map(_thumbnail_of, records)):
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
                yield NewItem(item, rows, small)
            advance(len(some))


def _thumbnail_of(record: Record) -> bytes | None:
    try:
        return thumbnail(record.image, THUMBNAIL, max_pixels=PILLOW_MAX_PIXELS) if record.image else None
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
    with _progress(f"embedding {split} {modality}s", len(batches)) as advance:

        def embed(inputs: dict[str, object]) -> object:
            rows = model.method.embed(modality, inputs[modality]).float()
            advance(len(rows))
            return rows

        rows = collect(model.method, batches, embed)
    return rows.cpu().numpy(), batches.positions


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES


def _add_pictures(store: Draft, model: SavedModel, folder: Path, result: Added) -> None:
    files = user_files(folder)
    paths = list(filter(_is_picture, files))
    result.unused = list(itertools.filterfalse(_is_picture, files))
    names = store.by_name()
    with _progress("embedding pictures", len(paths)) as advance:
        for start in range(0, len(paths), PICTURES):
            some = paths[start : start + PICTURES]
            store.add(_new_pictures(store, names, model, folder, some, result))
            advance(len(some))


def _new_pictures(
    store: Store, names: Mapping[str, Sequence[int]], model: SavedModel, folder: Path, paths: Sequence[Path],
    result: Added,
) -> list[NewItem]:  # fmt: skip
    """The pictures that are not there yet: known by their content, wherever they lie and whatever they are called; and
    by name and look, as of originals whose shards hold smaller versions.

    names: `Store.by_name`.
    """
    contents: dict[str, tuple[Path, bytes]] = {}
    for path in paths:
        try:
            data = read_bytes(path, most=IMAGE_BYTES)
        except OSError as error:
            _leave_out(f"{path}: cannot be read: {error.strerror}", result)
        except XmrError as error:
            _leave_out(f"{error}: left out", result)
        else:
            contents.setdefault(hashlib.sha256(data).hexdigest(), (path, data))
            result.present += contents[hashlib.sha256(data).hexdigest()][0] != path
    known = store.known([f"sha256:{digest}" for digest in contents])
    result.present += len(known)
    usable: list[tuple[Item, Image.Image, bytes]] = []
    for digest, (path, data) in contents.items():
        name = path.relative_to(folder).as_posix()
        item = Item(f"sha256:{digest}", folder.resolve().name, "", digest[:16], name, (), ())
        if item.id in known:
            continue
        try:
            small = thumbnail(data, THUMBNAIL)
            how = model.data.interpolation
            square = load_square(data, model.data.load_size, where=str(path), interpolation=how)
        except UnusableImage as error:
            _leave_out(f"{path} is left out: {error}", result)
            continue
        except XmrError as error:
            _leave_out(f"{error}: left out", result)
            continue
        if any(_look_alike(small, store.thumbnail(number)) for number in names.get(path.stem, ())):
            result.present += 1
        else:
            usable.append((item, Image.fromarray(square.permute(1, 2, 0).numpy()), small))
    result.added += len(usable)
    rows: Iterable[NDArray[np.float32]] = model.embed_images([square for _, square, _ in usable]) if usable else ()
    return [NewItem(item, {"image": row}, small) for (item, _, small), row in zip(usable, rows)]


def _leave_out(reason: str, result: Added) -> None:
    logger.warning("%s", reason)
    result.unusable += 1


def _look_alike(one: bytes, other: bytes | None) -> bool:
    """True for two thumbnails of the same picture, by the rule of `xmr shards audit`."""
    if other is None:
        return False
    images = [decode_rgb(jpeg) for jpeg in (one, other)]
    first, second = map(perceptual_hashes, images)
    if first is None or second is None:  # of one colour
        means = [np.asarray(image, np.float32).mean((0, 1)) for image in images]
        return first is second and float(np.abs(means[0] - means[1]).max()) < FLAT
    detail = sum((a ^ b).bit_count() for a, b in zip(first[1], second[1]))
    return (first[0] ^ second[0]).bit_count() <= ALIKE and detail <= ALIKE_IN_DETAIL


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


@contextmanager
def _progress(title: str, total: int) -> Iterator[Callable[[int], None]]:
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(TextColumn(title), *columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task(title, total=total)
        yield lambda count: progress.advance(bar, count)
