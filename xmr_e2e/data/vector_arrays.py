"""Pretrained word vectors as an array, FILE.npy of (n, d) numbers, and their words in a file beside it.

The words are FILE.txt, a word a line; or a Parquet file with a column of n words: FILE.parquet, or the only one of the
folder. The array stays on the disk: only the rows of the words that are asked for are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xmr_e2e.bounds import LARGE
from xmr_e2e.errors import XmrError
from xmr_e2e.extras import require_extra
from xmr_e2e.received import first_line, shortened

MAGIC = b"\x93NUMPY"
_MOST_WORDS = 2**27
_BYTES = 2**32
"""of a list of words, at most"""
_COLUMNS = ("word", "words", "token", "index")
"""names of a column of words, where a file has several columns of text"""


def open_array(path: Path) -> NDArray[np.floating]:
    """The array of a .npy file, (n, d), as it lies on the disk.

    Raises:
        XmrError: it is damaged, or something else.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # of a damaged header, numpy's reader lets through whatever Python's parser says
        raise XmrError(f"--data.words.file: {path} cannot be read as an array (.npy): {first_line(error)}") from error
    if array.ndim != 2 or not np.issubdtype(array.dtype, np.floating) or not 0 < array.shape[1] <= LARGE:
        raise XmrError(
            f"{path} holds {array.dtype} of {array.shape}, and word vectors are (n, d) floating-point numbers, d at "
            f"most {LARGE:,}"
        )
    if not len(array):
        raise XmrError(f"{path} holds no vectors")
    found: NDArray[np.floating] = array
    return found


def array_entries(path: Path) -> Iterator[tuple[str, str, NDArray[np.float32]]]:
    """Place, word and vector of each row; a vector is read as it is used.

    Raises:
        XmrError: as `open_array`; there is no file of words beside it, or not of as many.
    """
    array = open_array(path)
    beside = _words_file(path)
    words = _read_words(beside)
    if len(words) != len(array):
        raise XmrError(f"{path} holds {len(array):,} vectors, and {beside} {len(words):,} words: they do not belong "
                       "together")  # fmt: skip
    return ((f"row {row}", word, array[row]) for row, word in enumerate(words))


def _words_file(path: Path) -> Path:
    for own in (path.with_suffix(".txt"), path.with_suffix(".parquet")):
        if own.is_file():
            return own
    tables = sorted(path.parent.glob("*.parquet"))
    if len(tables) == 1 and tables[0].is_file():
        return tables[0]
    several = f"; the folder holds several: {', '.join(table.name for table in tables)}" if tables else ""
    raise XmrError(
        f"{path}: the words of its rows are missing: put them beside it, as {path.stem}.txt with a word a line, or "
        f"{path.stem}.parquet with a column of words{several}"
    )


def _read_words(path: Path) -> Sequence[str]:
    try:
        if path.stat().st_size > _BYTES:
            raise XmrError(f"{path} has {path.stat().st_size:,} bytes, too many for a list of words")
        # Not splitlines(), for which some words of several letters end a line.
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n") if path.suffix == ".txt" else None
        return _column(path) if lines is None else [line.removesuffix("\r") for line in lines]
    except UnicodeDecodeError as error:
        raise XmrError(f"{path} is no list of words: it is not UTF-8 ({error.reason})") from error
    except OSError as error:
        raise XmrError(f"{path} cannot be read: {error.strerror or first_line(error)}") from error


def _column(path: Path) -> Sequence[str]:
    require_extra("parquet", f"{path.name}, the words of --data.words.file,")
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
            texts = [field.name for field in schema if field.type in (pa.string(), pa.large_string())]
            named = texts if len(texts) == 1 else [name for name in _COLUMNS if name in texts]
            if not named or rows > _MOST_WORDS:
                raise XmrError(
                    f"{path} has no column of words: of its columns {shortened(', '.join(schema.names))}, one is to "
                    f"hold text, or to be named {', '.join(_COLUMNS[:-1])} or {_COLUMNS[-1]}"
                )
            words: list[str | None] = file.read(named[:1]).column(0).to_pylist()
    except pa.ArrowException as error:
        raise XmrError(f"{path} cannot be read as Parquet: {first_line(error)}") from error
    return [word or "" for word in words]
