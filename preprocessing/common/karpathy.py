"""Karpathy's files `dataset_<name>.json`: splits and captions of Flickr30k and MSCOCO.

A. Karpathy, L. Fei-Fei: Deep visual-semantic alignments for generating image descriptions. CVPR 2015.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preprocessing.common.json_files import entries, read_object, value_of
from xmr_e2e.errors import XmrError


@dataclass(frozen=True)
class Entry:
    """One image. split: as it stands there, so "restval" too. where: file and place in it, for errors."""

    where: str
    filename: str
    split: str
    captions: tuple[str, ...]
    fields: dict[str, Any]


def read_karpathy(path: Path) -> list[Entry]:
    """The images in their order in the file; captions are empty where the file has no sentences.

    Raises:
        XmrError: the file or an entry is malformed, or an image is there twice.
    """
    found: dict[str, Entry] = {}
    for where, fields in entries(read_object(path), "images", path):
        filename = value_of(fields, "filename", str, where)
        if filename in found:
            raise XmrError(f"{where}: {filename} is also {found[filename].where.rpartition(', ')[2]}")
        captions = tuple(_captions(fields, where))
        found[filename] = Entry(where, filename, value_of(fields, "split", str, where), captions, fields)
    if not found:
        raise XmrError(f"{path}: the list 'images' is empty")
    return list(found.values())


def _captions(fields: dict[str, Any], where: str) -> Iterator[str]:
    sentences = fields.get("sentences", [])
    if not isinstance(sentences, list) or not all(isinstance(sentence, dict) for sentence in sentences):
        raise XmrError(f"{where}: 'sentences' must be a list of objects")
    for number, sentence in enumerate(sentences):
        yield value_of(sentence, "raw", str, f"{where}, sentences[{number}]")
