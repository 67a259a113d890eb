"""The .tsv of bottom-up attention (Anderson et al., 2018), and that of LXMERT with objects (Tan and Bansal, 2019).

One picture a line, columns between tabs, arrays as base64 of little-endian numbers: boxes (n, 4) and features (n, d)
float32; objects_id (n,) int64 and objects_conf (n,) float32. Files have 20 GB and more: their lines are found once,
and read one by one.
"""

from __future__ import annotations

import binascii
import hashlib
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from preprocessing.bottom_up.region_files import MOST_REGIONS, RawRegions, RegionFile, check_shapes
from xmr_e2e.console import Console
from xmr_e2e.errors import XmrError
from xmr_e2e.received import shortened

BOTTOM_UP = ("image_id", "image_w", "image_h", "num_boxes", "boxes", "features")
LXMERT = ("img_id", "img_h", "img_w", "objects_id", "objects_conf", "attrs_id", "attrs_conf", *BOTTOM_UP[3:])
_COLUMNS = {len(names): names for names in (BOTTOM_UP, LXMERT)}
_ALIASES = {"img_id": "image_id", "img_w": "image_w", "img_h": "image_h"}
_NEEDED = ("image_id", "image_w", "image_h", "num_boxes", "boxes", "features")
LINE_BYTES = 64 * 2**20
"""of a line, at most: 100 regions of 2048 numbers have 1.1 MB"""
_ID_BYTES = 1000


class TsvRegions(RegionFile):
    """The regions of a .tsv.

    columns: their names, where the file has neither a header nor the columns of BOTTOM_UP or LXMERT.
    """

    def __init__(self, path: Path, columns: Sequence[str] = ()) -> None:
        self.path = path
        self._columns = columns
        self._names: tuple[str, ...] = ()
        self._starts, self._lengths, self._lines = array("q"), array("q"), array("q")
        self._hash = hashlib.sha256()

    def describe(self) -> str:
        return f"{self.path.name} (sha256 {self._hash.hexdigest()[:16]})"

    def where(self, number: int) -> str:
        return f"{self.path}, line {self._lines[number]}"

    def entries(self) -> Iterator[tuple[str, int]]:
        """Go through the file once, with a progress bar: the lines' ids.

        Raises:
            XmrError: a line that is too long, or has another number of columns.
        """
        size = self.path.stat().st_size
        columns = (BarColumn(), DownloadColumn(), TimeRemainingColumn())
        with (
            open(self.path, "rb") as stream,
            Progress(
                TextColumn("finding the lines of {task.description}"), *columns, console=Console(stderr=True)
            ) as bar,
        ):
            task = bar.add_task(self.path.name, total=size)
            start, number = 0, 0
            while line := stream.readline(LINE_BYTES + 1):
                number += 1
                self._hash.update(line)
                if len(line) > LINE_BYTES:
                    raise XmrError(f"{self.path}, line {number}: more than {LINE_BYTES:,} bytes; this is no such .tsv")
                yield from self._entry(line, start, number)
                start += len(line)
                bar.update(task, completed=start)

    def _entry(self, line: bytes, start: int, number: int) -> Iterator[tuple[str, int]]:
        where = f"{self.path}, line {number}"
        fields = line.rstrip(b"\r\n").split(b"\t")
        if fields == [b""]:
            return
        if not self._names:
            header = [_text(field, where).strip() for field in fields] if b"features" in fields else []
            self._names = _known_columns(self._columns or header or _COLUMNS.get(len(fields), ()), len(fields), where)
            if header:
                return
        if len(fields) != len(self._names):
            raise XmrError(
                f"{where}: {len(fields)} columns between tabs; wanted are {len(self._names)}: the file is cut, or has "
                "others (--columns)"
            )
        name = fields[self._names.index("image_id")].strip()
        if not 0 < len(name) <= _ID_BYTES:
            raise XmrError(f"{where}: no id of a picture")
        self._starts.append(start)
        self._lengths.append(len(line))
        self._lines.append(number)
        yield _text(name, where), len(self._starts) - 1

    def read(self, number: int) -> RawRegions:
        where = self.where(number)
        with open(self.path, "rb") as stream:
            stream.seek(self._starts[number])
            line = stream.read(self._lengths[number]).rstrip(b"\r\n")
        fields = dict(zip(self._names, line.split(b"\t"), strict=False))
        if len(fields) != len(self._names):
            raise XmrError(f"{where}: the file has changed since its lines were found")
        count = _whole_number(fields, "num_boxes", where)
        if not 0 < count <= MOST_REGIONS:
            raise XmrError(f"{where}: num_boxes is {count}; wanted are 1 to {MOST_REGIONS}")
        size = _whole_number(fields, "image_w", where), _whole_number(fields, "image_h", where)
        features = _numbers(fields, "features", "<f4", where)
        if not len(features) or len(features) % count:
            raise XmrError(
                f"{where}: features are {len(features)} numbers, which {count} regions (num_boxes) cannot share"
            )
        boxes = _numbers(fields, "boxes", "<f4", where, 4 * count).reshape(count, 4)
        classes = _numbers(fields, "objects_id", "<i8", where, count) if "objects_id" in fields else None
        scores = _numbers(fields, "objects_conf", "<f4", where, count) if "objects_conf" in fields else None
        return check_shapes(RawRegions(features.reshape(count, -1), boxes, size, classes, scores), where)


def _known_columns(names: Sequence[str], found: int, where: str) -> tuple[str, ...]:
    """The names of the columns, each by its usual name. Raises XmrError where they are unknown, or some are missing."""
    if not names:
        raise XmrError(
            f"{where}: {found} columns between tabs; wanted are the {len(BOTTOM_UP)} of bottom-up attention or the "
            f"{len(LXMERT)} of LXMERT; name others with --columns"
        )
    usual = tuple(_ALIASES.get(name.lower(), name.lower()) for name in names)
    missing = [name for name in _NEEDED if name not in usual]
    if missing or len(set(usual)) < len(usual):
        what = f"lack {', '.join(missing)}" if missing else "have a name twice"
        raise XmrError(f"{where}: the columns {shortened(', '.join(usual))} {what}")
    return usual


def _text(field: bytes, where: str) -> str:
    try:
        return field.decode()
    except UnicodeDecodeError as error:
        raise XmrError(f"{where}: not UTF-8: {shortened(field)}") from error


def _whole_number(fields: dict[str, bytes], name: str, where: str) -> int:
    text = fields[name].strip()
    if not (text.isdigit() and len(text) < 10):
        raise XmrError(f"{where}: {name} is {shortened(text.decode(errors='replace'))}; wanted is a whole number")
    return int(text)


def _numbers(fields: dict[str, bytes], name: str, kind: str, where: str, count: int | None = None) -> NDArray[Any]:
    """The array (count,) of a column in base64; of any length where `count` is None."""
    try:
        data = binascii.a2b_base64(fields[name].strip(), strict_mode=True)
    except binascii.Error as error:
        raise XmrError(f"{where}: {name} is no base64: {error}") from error
    size = np.dtype(kind).itemsize
    if len(data) % size or (count is not None and len(data) != count * size):
        wanted = f"{count * size:,}" if count is not None else f"a multiple of {size}"
        raise XmrError(f"{where}: {name} has {len(data):,} bytes in base64; wanted are {wanted}")
    return np.frombuffer(data, kind)
