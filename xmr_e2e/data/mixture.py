"""Several folders of shards as one split."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xmr_e2e.data.reader import SplitReader
from xmr_e2e.errors import XmrError
from xmr_e2e.shards.features import StoredRegions
from xmr_e2e.shards.record import Record
from xmr_e2e.shards.schema import Metadata


class MixedReader:
    """The same split of several folders, one after the other, with the classes of the first; reads as `SplitReader`.

    Raises:
        XmrError: a class that the first folder does not know, or published features of another width.
    """

    def __init__(self, readers: Sequence[SplitReader]) -> None:
        self.readers = tuple(readers)
        self.folder, self.split, self.manifest = readers[0].folder, readers[0].split, readers[0].manifest
        self.sizes = tuple(map(len, readers))
        self._ends = np.cumsum(self.sizes)
        self._classes = [_class_ids(reader, self.manifest.classes) for reader in readers]
        for reader in readers:
            if reader.manifest.widths != self.manifest.widths:
                raise XmrError(
                    f"{reader.folder} has published features of widths {reader.manifest.widths}, and {self.folder} of "
                    f"{self.manifest.widths}: they cannot be mixed"
                )

    def __len__(self) -> int:
        return int(self._ends[-1])

    def read(self, position: int) -> Record:
        reader, place = self._locate(position)
        return self.readers[reader].read(place)

    def image(self, position: int) -> bytes:
        reader, place = self._locate(position)
        return self.readers[reader].image(place)

    def media(self, position: int, modality: str) -> tuple[bytes, str]:
        reader, place = self._locate(position)
        return self.readers[reader].media(place, modality)

    def where(self, position: int) -> str:
        reader, place = self._locate(position)
        return self.readers[reader].where(place)

    def metadata(self, position: int) -> Metadata:
        reader, place = self._locate(position)
        return self.readers[reader].metadata(place)

    def features(self, position: int, modality: str) -> NDArray[np.float32]:
        reader, place = self._locate(position)
        return self.readers[reader].features(place, modality)

    def regions(self, position: int) -> StoredRegions:
        reader, place = self._locate(position)
        return self.readers[reader].regions(place)

    def has_all(self, modalities: Sequence[str]) -> bool:
        return all(reader.has_all(modalities) for reader in self.readers)

    def positions_with(self, modalities: Sequence[str]) -> NDArray[np.int64]:
        firsts = self._ends - np.array(self.sizes)
        return np.concatenate([first + r.positions_with(modalities) for first, r in zip(firsts, self.readers)])

    def key(self, position: int) -> str:
        reader, place = self._locate(position)
        return self.readers[reader].key(place)

    def labels(self, position: int) -> tuple[int, ...]:
        reader, place = self._locate(position)
        return tuple(self._classes[reader][label] for label in self.readers[reader].labels(place))

    def _locate(self, position: int) -> tuple[int, int]:
        reader = int(np.searchsorted(self._ends, position, side="right"))
        return reader, position - int(self._ends[reader]) + self.sizes[reader]


def open_split(folder: Path, split: str, also: Iterable[str] = ()) -> SplitReader | MixedReader:
    """A split of a folder of shards, with that of other folders behind it."""
    first, *others = (SplitReader(place, split) for place in (folder, *map(Path, also)))
    return MixedReader([first, *others]) if others else first


def _class_ids(reader: SplitReader, classes: Sequence[str]) -> list[int]:
    """Of the reader's own class ids, those of the same names among these classes."""
    unknown = [name for name in reader.manifest.classes if name not in classes]
    if unknown:
        raise XmrError(
            f"{reader.folder} has the class {unknown[0]!r}, which the set that it is mixed with does not have"
        )
    return [classes.index(name) for name in reader.manifest.classes]
