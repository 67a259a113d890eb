"""The sources that a person wants embedded: media files, text files, and splits of shards, batch by batch."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from xmr_e2e.data.batch import Batch
from xmr_e2e.data.batch_dataset import BatchDataset, Request
from xmr_e2e.data.config import Data
from xmr_e2e.data.processes import read_batches
from xmr_e2e.errors import XmrError
from xmr_e2e.models.given import FILE_SUFFIXES, LOADERS, NOUNS, RAW_KINDS, modality_of
from xmr_e2e.models.saved_model import BATCH, SavedModel
from xmr_e2e.shards import manifest
from xmr_e2e.shards.schema import IMAGE_SUFFIXES, MEDIA_EXTENSIONS
from xmr_e2e.shards.unused import describe_unused, user_files

TEXT_SUFFIX = ".txt"
LONGEST_TEXT = 2**20
"""letters"""


class Rows(NamedTuple):
    """Some items of one modality, embedded."""

    ids: list[str]
    modality: str
    texts: list[str | None]
    embeddings: NDArray[np.float32]
    """(n, d)"""
    passed: int
    """items that these rows stand for, with those that were left out"""


@dataclass
class Skipped:
    """Files that cannot be used, up to a budget; and what else a person should know of the files."""

    budget: int
    reasons: list[str] = field(default_factory=list)
    unused: list[Path] = field(default_factory=list)
    """files of other kinds, in the folders that were named"""
    unknown: list[str] = field(default_factory=list)
    """names of texts of which the model knows no word; they are embedded all the same"""

    def add(self, reason: str) -> None:
        """Raises XmrError, with all reasons so far, where the budget does not allow one more."""
        self.reasons.append(reason)
        if len(self.reasons) > self.budget:
            listed = "\n  ".join(self.reasons)
            raise XmrError(
                f"{len(self.reasons)} of the files cannot be used:\n  {listed}\nNothing is written. "
                f"--max-skipped {len(self.reasons)}, or more, goes on without them"
            )


class Source(Protocol):
    """Items to embed."""

    def __len__(self) -> int: ...
    def embed(self, model: SavedModel, skipped: Skipped) -> Iterator[Rows]: ...


@dataclass(frozen=True)
class MediaFiles:
    """Files of pictures, sounds, videos or shapes; their ids are their paths."""

    modality: str
    files: Sequence[Path]

    def __len__(self) -> int:
        return len(self.files)

    def embed(self, model: SavedModel, skipped: Skipped) -> Iterator[Rows]:
        with ThreadPoolExecutor() as pool:  # decoders leave Python's lock
            for files in _parts(self.files):
                decoded = list(pool.map(lambda file: decode_file(file, self.modality, model.data), files))
                for item in decoded:
                    if isinstance(item, XmrError):
                        skipped.add(str(item))
                usable = [not isinstance(item, XmrError) for item in decoded]
                if any(usable):
                    rows = model.embed_decoded(self.modality, list(itertools.compress(decoded, usable)))
                    names = [str(file) for file in itertools.compress(files, usable)]
                    yield Rows(names, self.modality, [None] * len(rows), rows, len(files))


@dataclass(frozen=True)
class TextFile:
    """A file with a text on each line; the id of a text is PATH:LINE, from 1. Empty lines are none."""

    file: Path
    count: int

    def __len__(self) -> int:
        return self.count

    def embed(self, model: SavedModel, skipped: Skipped) -> Iterator[Rows]:
        for part in _parts(texts_of(self.file)):
            texts = [text for _, text in part]
            yield Rows([name for name, _ in part], "text", [*texts], model.embed_texts(texts), len(part))


@dataclass(frozen=True)
class ShardSplit:
    """A split of a folder of shards; the ids are the samples' keys. Each sample has one text, as in evaluation."""

    folder: Path
    split: str
    modality: str
    batches: BatchDataset

    def __len__(self) -> int:
        return len(self.batches)

    @torch.inference_mode()
    def embed(self, model: SavedModel, skipped: Skipped) -> Iterator[Rows]:
        device = model.method.device
        for batch in self._load():
            if isinstance(batch, XmrError):
                raise batch
            inputs = batch.to(device).prepared().inputs
            rows = model.method.embed(self.modality, inputs[self.modality]).float().cpu().numpy()
            yield Rows(list(batch.keys), self.modality, self._texts(model, batch), rows, len(batch))

    def _load(self) -> Iterable[Batch | XmrError]:
        """In order of position, of the training split too."""
        parts = [self.batches.at(np.array(part)) for part in _parts(range(len(self.batches)))]
        workers = self.batches.data.workers if self.batches.reads else 0
        requests = [Request(0, part) for part in parts]
        return read_batches(self.batches, requests, workers, pin_memory=False)

    def _texts(self, model: SavedModel, batch: Batch) -> list[str | None]:
        if self.modality != "text":
            return [None] * len(batch)
        texts = [self.batches.reader.metadata(position).texts for position in batch.positions.tolist()]
        return [" ".join(own if model.data.texts == "concatenate" else own[:1]) for own in texts]


def find_sources(model: SavedModel, paths: Sequence[Path], split: str, skipped: Skipped) -> list[Source]:
    """The sources at these paths: the pictures come first, then the other media, the texts, and the splits.

    Args:
        paths: media files, .txt files, folders of both (with all folders in them), folders of shards. Of folders, those
            files are taken that the model embeds.
        split: of the shards.

    Raises:
        XmrError: a path that does not exist, is of another kind or holds nothing to embed, or more files that cannot
            be read than are allowed.
    """
    media: dict[str, list[Path]] = {modality: [] for modality in FILE_SUFFIXES}
    texts: list[Source] = []
    splits: list[Source] = []
    for path in paths:
        if (path / manifest.NAME).exists():
            splits += _splits(model, path, split)
            continue
        files = _files(path, _suffixes(model), skipped)
        for modality, own in media.items():
            own += [file for file in files if modality_of(file) == modality]
        counts = {file: _count(file, skipped) for file in files if file.suffix.lower() == TEXT_SUFFIX}
        texts += [TextFile(file, count) for file, count in counts.items() if count]
    found = [MediaFiles(modality, list(dict.fromkeys(files))) for modality, files in media.items() if files]
    return [*found, *texts, *splits]


def texts_of(file: Path) -> Iterator[tuple[str, str]]:
    """Name and text of each line that is not empty. Raises XmrError for one of more than LONGEST_TEXT letters."""
    with open(file, encoding="utf-8-sig") as lines:
        for number, line in enumerate(iter(lambda: lines.readline(LONGEST_TEXT), ""), 1):
            if len(line) == LONGEST_TEXT:
                raise XmrError(f"{file}:{number}: a line of more than {LONGEST_TEXT:,} letters is no text")
            if line.strip():
                yield f"{file}:{number}", line.strip()


def _count(file: Path, skipped: Skipped) -> int:
    """The texts of a file; 0 where it cannot be read."""
    try:
        return sum(1 for _ in texts_of(file))
    except UnicodeDecodeError as error:
        skipped.add(f"{file}: is no UTF-8 text ({error.reason} at byte {error.start})")
    except OSError as error:
        skipped.add(f"{file}: cannot be read: {error.strerror}")
    except XmrError as error:
        skipped.add(str(error))
    return 0


def _suffixes(model: SavedModel) -> tuple[str, ...]:
    """The endings of the files of folders that are taken: pictures' and texts' always, those of other media where the
    model embeds them."""
    kinds = model.method.input_kinds
    others = (FILE_SUFFIXES[name] for name in MEDIA_EXTENSIONS if kinds.get(name) == RAW_KINDS[name])
    return (*IMAGE_SUFFIXES, TEXT_SUFFIX, *itertools.chain.from_iterable(others))


def _files(path: Path, suffixes: Sequence[str], skipped: Skipped) -> list[Path]:
    """The file itself, or the files of these kinds in a folder and the folders in it, but for hidden ones."""
    if path.is_dir():
        files = user_files(path)
        found = [file for file in files if file.suffix.lower() in suffixes]
        unused = [file for file in files if file.suffix.lower() not in suffixes]
        if not found:
            wanted = f"a folder without shards, {_describe(suffixes)} or {TEXT_SUFFIX}"
            raise XmrError(". ".join(filter(None, (f"{path}: {wanted}", describe_unused(unused)))))
        skipped.unused += unused
        return found
    if not path.exists():
        raise XmrError(f"{path} does not exist")
    if path.suffix.lower() not in (*itertools.chain.from_iterable(FILE_SUFFIXES.values()), TEXT_SUFFIX):
        raise XmrError(f"{path}: neither {_describe(suffixes, one=True)}, nor {TEXT_SUFFIX}, nor a folder")
    return [path]


def _describe(suffixes: Sequence[str], *, one: bool = False) -> str:
    """The kinds of files that are taken, in words."""
    words = {name: f"a {noun}" if one else f"{noun}s" for name, noun in NOUNS.items()}
    taken = [name for name in FILE_SUFFIXES if FILE_SUFFIXES[name][0] in suffixes]
    return (", nor " if one else ", ").join(f"{words[name]} ({', '.join(FILE_SUFFIXES[name])})" for name in taken)


def _splits(model: SavedModel, folder: Path, split: str) -> list[Source]:
    """One source for each modality that the model embeds and the split has."""
    data = replace(model.data, shards=folder, extra_shards={})
    held = manifest.load_manifest(folder).splits
    names = [name for name in model.method.modalities if split not in held or name in held[split].modalities]
    batches = {
        name: BatchDataset(data, split, {name: model.method.input_kinds[name]}, model.tokenizer, seed=0)
        for name in names
    }
    return [ShardSplit(folder, split, name, item) for name, item in batches.items()]


def decode_file(file: Path, modality: str, data: Data) -> Any:
    """A file as a loader gives it, one item; or the error of one that cannot be used."""
    try:
        return LOADERS[modality]([file], data)
    except XmrError as error:
        return error


def _parts(items: Iterable[Any]) -> Iterator[list[Any]]:
    """In lists of at most BATCH."""
    rest = iter(items)
    while part := list(itertools.islice(rest, BATCH)):
        yield part
